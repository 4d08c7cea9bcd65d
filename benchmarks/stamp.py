"""Writes what a command printed (JSON on standard input) to FILE, with the command, the machine and the day before it.

    sluice ... --json | stamp.py FILE COMMAND...
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from pathlib import Path


def machine() -> str:
    """Processor and cores, as Linux tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {platform.system()}, no accelerator used"


def main() -> None:
    file, *command = sys.argv[1:]
    about = {"command": " ".join(command), "machine": machine(), "date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    Path(file).write_text(json.dumps(about | json.load(sys.stdin), indent=1) + "\n")


if __name__ == "__main__":
    main()
