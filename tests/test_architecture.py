"""Rules of DESIGN section 5 that a reviewer would otherwise have to watch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SERVICES = Path(__file__).parents[1] / "services"
HEAVY = ("torch", "transformers")
MOST_LINES = 300


@pytest.mark.parametrize(
    "module",
    [
        "services.common.messages",
        "services.policy.app",
        "services.simulate.report",
        "services.cli.main",
        "services.verifier.__main__",
        "services.edge_worker.settings",
    ],
)
def test_no_torch_comes_with(module: str) -> None:
    """In an interpreter of its own, since this one may have torch already."""
    code = f"import sys, importlib; importlib.import_module({module!r}); print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["services.common.energy.settings", "services.edge_worker.app", "services.verifier.app"])
def test_zeus_comes_only_with_a_meter(module: str) -> None:
    """It is imported by name, which the import rules do not see."""
    code = f"import sys, importlib; importlib.import_module({module!r}); print('zeus' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_import_rules_hold() -> None:
    code = "from importlinter.cli import lint_imports_command as lint; lint()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=SERVICES.parent)
    assert done.returncode == 0, done.stdout


def test_no_module_is_too_long_to_read() -> None:
    lengths = {str(path.relative_to(SERVICES)): len(path.read_text().splitlines()) for path in SERVICES.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}
