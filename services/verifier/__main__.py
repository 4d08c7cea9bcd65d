"""``python -m services.verifier``: settings from the environment, then serve until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import sys

from services.common.lifecycle import ignore_stop_signals
from services.common.settings import ConfigError, load
from services.common.telemetry import configure_logging
from services.verifier import app
from services.verifier.settings import VerifierSettings


def main() -> int:
    """0 after an orderly stop; 2, with one line on standard error, for settings or a model that cannot work."""
    try:
        settings = load(VerifierSettings)
        configure_logging("verifier", settings.log_level)
        os.environ["OMP_NUM_THREADS"] = str(settings.torch_threads)  # read when torch is imported, later
        asyncio.run(app.run(settings))
        ignore_stop_signals()
    except ConfigError as error:
        print(f"sluice verifier: {error}", file=sys.stderr)  # noqa: T201 - the one line for the operator
        return 2
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Straight to the system: a model that is still being loaded on its thread must not hold up or crash the exit.
    os._exit(code)
