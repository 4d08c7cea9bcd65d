"""``python -m services.policy``: settings from the environment, then decide until SIGTERM."""

from __future__ import annotations

import asyncio
import sys

from services.common.lifecycle import ignore_stop_signals
from services.common.settings import ConfigError, load
from services.common.telemetry import configure_logging
from services.policy import app
from services.policy.settings import PolicySettings


def main() -> int:
    """0 after an orderly stop; 2, with one line on standard error, for settings that cannot work."""
    try:
        settings = load(PolicySettings)
        configure_logging("policy", settings.log_level)
        asyncio.run(app.run(settings))
        ignore_stop_signals()
    except ConfigError as error:
        print(f"sluice policy: {error}", file=sys.stderr)  # noqa: T201 - the one line for the operator
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
