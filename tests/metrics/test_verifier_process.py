"""A verifier as its operator starts it, with the synthetic target: what it shows is what the catalogue says that it owns."""

from __future__ import annotations

from pathlib import Path

from services.common.catalogue import Service
from tests.metrics.exposition import complaints
from tests.verifier.service import VerifierProcess


def test_it_shows_what_it_owns_and_nothing_else(bootstrap: str, redis_url: str, tmp_path: Path) -> None:
    verifier = VerifierProcess(bootstrap, redis_url, tmp_path / "log", MODEL="synthetic")
    try:
        verifier.wait_ready()
        assert complaints(verifier.get("/metrics").text, Service.VERIFIER) == []
        assert verifier.metric("sluice_link_up") == 2, "Kafka and Redis"
        assert verifier.stop() == 0
    finally:
        verifier.kill()
