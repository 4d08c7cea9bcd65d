"""A Prometheus for one run: the program that is named, the one on the path, or Debian's; nothing is installed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.cli.local.debian import Unavailable, unpacked
from services.cli.local.ports import free_port

_HOST = "127.0.0.1"
READY_SECONDS = 1.0
RULES = Path(__file__).parents[3] / "infra" / "prometheus"


def program(named: Path | None = None) -> Path:
    """Raises ``Unavailable`` where there is none and Debian's cannot be fetched."""
    if named is not None:
        found = shutil.which(named)
        if found is None:
            raise Unavailable(f"{named} is no program")
        return Path(found)
    found = shutil.which("prometheus")
    return Path(found) if found is not None else unpacked("prometheus", "prometheus") / "usr" / "bin" / "prometheus"


def shipped_rules() -> list[Path]:
    """The recording and alert rules of this checkout; none where Sluice is installed without it."""
    return sorted(RULES.glob("*.rules.yml"))


@dataclass(frozen=True)
class PrometheusServer:
    """One server's files and address; the same, with all that it has recorded, after a restart."""

    program: Path
    folder: Path
    port: int

    @classmethod
    def new(cls, program: Path, folder: Path) -> PrometheusServer:
        """``folder`` is made; it gets configuration and data."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(program, folder, free_port(_HOST))

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.port}"

    def configure(self, jobs: Mapping[str, Sequence[str]], scrape_seconds: float, rules: Sequence[Path] = ()) -> None:
        """To be called before it starts. ``jobs``: names to the ``host:port`` that each scrapes."""
        every = f"{round(scrape_seconds * 1000)}ms"
        config = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(path.resolve()) for path in rules],
            "scrape_configs": [
                {"job_name": name, "static_configs": [{"targets": list(targets)}]} for name, targets in jobs.items()
            ],
        }
        self._config.write_text(json.dumps(config))  # JSON is YAML

    def command(self) -> list[str]:
        """The server's command line."""
        return [
            str(self.program),
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={_HOST}:{self.port}",
            "--log.level=warn",
        ]

    def answers(self) -> bool:
        """Whether the server is ready for queries."""
        try:  # a proxy of the environment is not meant for a server next door
            return httpx.get(f"{self.url}/-/ready", timeout=READY_SECONDS, trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    @property
    def _config(self) -> Path:
        return self.folder / "prometheus.yml"
