"""``python -m services.edge_worker``: settings from the environment, then serve until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import sys

from services.common.lifecycle import ignore_stop_signals
from services.common.settings import ConfigError, load
from services.common.telemetry import configure_logging
from services.edge_worker.settings import EdgeSettings


def main() -> int:
    """0 after an orderly stop; 2, with one line on standard error, for settings or a model that cannot work."""
    try:
        settings = load(EdgeSettings)
        configure_logging("edge_worker", settings.log_level)
        os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # read when torch is imported, below
        from services.edge_worker import app

        asyncio.run(app.run(settings))
        ignore_stop_signals()
    except ConfigError as error:
        print(f"sluice edge-worker: {error}", file=sys.stderr)  # noqa: T201 - the one line for the operator
        return 2
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a thread that is still loading a model must not hold up the exit
