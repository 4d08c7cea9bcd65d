"""Services that share a machine share its counters too: none of them measures unless an operator says so."""

from __future__ import annotations

import pytest

from services.cli.local import environment
from services.cli.local.identities import Identities
from services.cli.local.options import StackOptions


def test_services_of_one_machine_estimate_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLUICE_EDGE_ENERGY", "SLUICE_VERIFIER_ENERGY"):
        monkeypatch.delenv(name, raising=False)
    assert _chosen() == ("model", "model")
    monkeypatch.setenv("SLUICE_EDGE_ENERGY", "auto")
    assert _chosen() == ("auto", "model")
    assert _chosen(verifier_environment={"SLUICE_VERIFIER_ENERGY": "off"}) == ("auto", "off")


def _chosen(**options: dict[str, str]) -> tuple[str, str]:
    how, keys = StackOptions(**options), Identities.of_run({})  # type: ignore[arg-type]
    edge = environment.edge_worker(how, keys, "127.0.0.1:1", "redis://127.0.0.1:2", 3)
    verifier = environment.verifier(how, keys, "127.0.0.1:1", "redis://127.0.0.1:2", 4)
    return edge["SLUICE_EDGE_ENERGY"], verifier["SLUICE_VERIFIER_ENERGY"]
