"""``python -m tests.dashboards FOLDER [SECONDS [NAME...]]``: dashboards as pictures, over the real services at work."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.dashboards.draw import Shot, draw
from tests.dashboards.files import DASHBOARDS
from tests.dashboards.site import Prometheus, Site


def main(folder: Path, seconds: float, names: list[str]) -> None:
    """Of all dashboards with queries, or those of ``names``."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, Site(Path(scratch)) as site:
        begin = time.time()
        time.sleep(seconds / 3)
        site.hostile()
        site.by_hand(2, 0.5)
        time.sleep(seconds / 3)
        site.restart_a_verifier()
        time.sleep(seconds / 3)
        for name, dashboard in DASHBOARDS.items():
            if any("targets" in panel for panel in dashboard["panels"]) and (not names or name in names):
                shot = Shot(Prometheus(next(iter(site.urls))), begin, time.time())
                draw(dashboard, shot, folder / f"{name}.png")
                shot.prometheus.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 120.0, sys.argv[3:])
