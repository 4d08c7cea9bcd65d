"""A Helm for the checks: the one on the PATH, or the one that `make test-infra` uses."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.kubernetes.shell import Failed


def program() -> str:
    beside = Path(sys.prefix) / "infra" / "bin" / "helm"
    found = shutil.which("helm") or (str(beside) if beside.is_file() else None)
    if found is None:
        raise Failed("no Helm: put one on the PATH, or run `make test-infra`, which fetches one")
    return found
