"""Prints what pip has to install for some extras of the project, so that an image layer depends on that list alone.

    python3 requirements.py pyproject.toml EXTRA...     (`-`: only what every service needs)
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def requirements(project: dict[str, object], extras: list[str]) -> list[str]:
    """The dependencies of ``project`` (pyproject's table of that name) with those of ``extras``, sorted, each once."""
    optional = project["optional-dependencies"]
    found = set(project["dependencies"])
    waiting, seen = list(extras), set()
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for line in optional[extra]:
            itself = re.fullmatch(rf"{project['name']}\[(.+)\]", line)
            if itself:
                waiting += [name.strip() for name in itself[1].split(",")]
            else:
                found.add(line)
    return sorted(found)


if __name__ == "__main__":
    file, *names = sys.argv[1:]
    table = tomllib.loads(Path(file).read_text())["project"]
    sys.stdout.write("\n".join(requirements(table, [name for name in names if name != "-"])) + "\n")
