"""``python -m services.dashboards [FOLDER]``: one file for each dashboard; files of dashboards that are no more go away."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from services.dashboards.pages import dashboards

FOLDER = Path(__file__).parents[2] / "infra" / "grafana" / "dashboards"


def main(folder: Path = FOLDER) -> None:
    made = dashboards()
    for path in folder.glob("*.json"):
        if path.stem not in made:
            path.unlink()
    for uid, content in made.items():
        (folder / f"{uid}.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
