"""Programs out of Debian's packages, unpacked into the user's cache; nothing is installed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

FETCH_SECONDS = 300


class Unavailable(Exception):
    """A program cannot be had here; ``str`` is the reason."""


def unpacked(name: str, *packages: str) -> Path:
    """The folder that holds the files of ``packages``, fetched once for all runs. Raises ``Unavailable``."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable(f"no {name} on the path, and no apt-get to fetch it")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluice"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"debian-{name}"
    with (cache / f"debian-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs fetch once
        if not (folder / ".complete").exists():
            _fetch(name, packages, folder)
    return folder


def _fetch(name: str, packages: tuple[str, ...], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    downloads = folder / "packages"
    downloads.mkdir(parents=True)
    done = _run(["apt-get", "-qq", "download", *packages], downloads)
    if done.returncode != 0:  # no lists of packages yet
        _run(["apt-get", "-qq", "update"], downloads)
        done = _run(["apt-get", "-qq", "download", *packages], downloads)
    if done.returncode != 0:
        raise Unavailable(f"apt-get could not fetch {name}: {' '.join(done.stderr.split())[:300]}")
    for package in downloads.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(folder)], downloads)
    shutil.rmtree(downloads)
    (folder / ".complete").touch()


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
