"""The environment variables by which the supervisor sets up the services."""

from __future__ import annotations

import os

from services.cli.local.identities import Identities
from services.cli.local.options import StackOptions, default_threads
from services.common.lm import presets


def edge_worker(options: StackOptions, identities: Identities, kafka: str, redis: str, port: int) -> dict[str, str]:
    settings = {
        **_link("SLUICE_EDGE_", options, kafka, redis),
        **identities.edge_worker(),
        "SLUICE_EDGE_HOST": options.host,
        "SLUICE_EDGE_PORT": str(port),
        **_given("SLUICE_EDGE_", preset=options.preset, draft=options.draft, target=options.target),
    }
    return {**settings, **options.edge_environment}


def verifier(options: StackOptions, identities: Identities, kafka: str, redis: str, metrics_port: int) -> dict[str, str]:
    settings = {
        **_link("SLUICE_VERIFIER_", options, kafka, redis),
        **identities.verifier(),
        "SLUICE_VERIFIER_METRICS_PORT": str(metrics_port),
        **_given("SLUICE_VERIFIER_", model=target(options)),
    }
    return {**settings, **options.verifier_environment}


def _link(prefix: str, options: StackOptions, kafka: str, redis: str) -> dict[str, str]:
    threads = os.environ.get(f"{prefix}THREADS") or str(options.threads or default_threads(options.verifiers))
    return {
        f"{prefix}KAFKA_BOOTSTRAP": kafka,
        f"{prefix}REDIS_URL": redis,
        f"{prefix}EMBEDDED": "true" if options.kafka is None else "false",
        f"{prefix}THREADS": threads,
        # a counter holds what all of them do together: whoever reads it would call the others' work its own
        f"{prefix}ENERGY": os.environ.get(f"{prefix}ENERGY") or "model",
    }


def _given(prefix: str, **values: str | None) -> dict[str, str]:
    return {f"{prefix}{name.upper()}": value for name, value in values.items() if value is not None}


def target(options: StackOptions) -> str | None:
    """The model of the verifiers; ``None``: their own default. Raises ``ModelError`` for an unknown preset."""
    return options.target or (presets.preset(options.preset).target if options.preset else None)
