"""Importance from the settings to a real (tiny) draft model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.common.sampling import Sampling
from services.common.settings import ConfigError
from services.edge_worker import model
from services.edge_worker.draft import StepRequest
from services.edge_worker.settings import EdgeSettings
from services.edge_worker.signals import Importance
from tests.identities import credential
from tests.lm.conftest import tiny_folder as tiny_folder


def settings(folder: Path, **changes: Any) -> EdgeSettings:
    values = {"credential": credential().text(), "draft": str(folder), "weights": "float32", "dtype": "float32", "threads": 1}
    return EdgeSettings(**{**values, "context_tokens": 64, "sessions": 1, **changes})


@pytest.mark.parametrize("kind", [Importance.BINDING, Importance.RECEIVED])
async def test_the_drafter_tells_importance_where_it_is_asked(tiny_folder: Path, kind: Importance) -> None:
    drafter = model.load(settings(tiny_folder, importance=kind, importance_layer=1)).drafter
    slot = drafter.acquire()
    assert slot is not None
    seen = []
    for wanted in (Importance.NONE, kind):
        request = StepRequest(slot, 0, [5, 9, 20, 7], Sampling(), 1, 0, False, None, wanted)
        seen.append(await drafter.step(request))
    drafter.close()
    assert seen[0].importance is None
    assert 0.0 < (seen[1].importance or 0.0) < 1.0
    assert seen[0].d == seen[1].d


def test_a_layer_that_the_draft_has_not_is_one_clear_line(tiny_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"layer 2 cannot be read .*SLUICE_EDGE_IMPORTANCE_LAYER") as raised:
        model.load(settings(tiny_folder, importance="binding", importance_layer=2))
    assert "\n" not in str(raised.value)


def test_contradictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="no room for importance"):
        settings(tmp_path, importance="received", random_rate=0.3)
    with pytest.raises(ValidationError, match="importance is none"):
        settings(tmp_path, importance_layer=3)
