"""The synthetic draft, as the settings of an edge worker make it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.common import synthetic as law
from services.common.sampling import Sampling
from services.common.settings import ConfigError
from services.edge_worker import model
from services.edge_worker.draft import StepRequest
from services.edge_worker.http.bounds import Bounds
from services.edge_worker.http.detokenise import TokenTable
from services.edge_worker.http.prompts import PromptEncoder
from services.edge_worker.settings import EdgeSettings
from services.edge_worker.signals import Importance, Signal


def settings(**values: Any) -> EdgeSettings:
    return EdgeSettings(**({"draft": "synthetic"} | values))


def step(slot: int) -> StepRequest:
    return StepRequest(slot, 0, [1, 2, 3], Sampling(), seed=5, round=0, blind=False, top_logprobs=None)


async def test_its_bytes_are_tokens_both_ways() -> None:
    ready = model.load(settings())
    assert (ready.target, ready.tokenizer_hash) == (law.REFERENCE, law.TOKENIZER_HASH)
    encoder = PromptEncoder(ready.tokenizer, context_tokens=ready.context_tokens, bounds=Bounds())
    text = "Grüße, 3 × 日本\tok"
    ids = await encoder.plain(text)
    assert ids == list(text.encode())
    assert await encoder.chat([{"role": "user", "content": text}]) == [*text.encode(), ord("\n")]
    encoder.close()
    table = TokenTable(ready.tokenizer)
    assert table.size == law.VOCABULARY
    decoder = table.decoder()
    assert "".join(decoder.step(token) for token in ids) == text


async def test_sessions_do_not_wait_for_each_other() -> None:
    """Fifty steps of a fifth of a second each take less than one after the other would: devices are not one machine."""
    ready = model.load(settings(synthetic_step_ms=200.0, sessions=50))
    slots = [ready.drafter.acquire() for _ in range(50)]
    assert ready.drafter.acquire() is None
    clock = asyncio.get_running_loop().time
    begin = clock()
    steps = await asyncio.gather(*(ready.drafter.step(step(slot)) for slot in slots if slot is not None))
    assert 0.2 <= clock() - begin < 50 * 0.2
    assert len({(s.d, s.u) for s in steps}) == 1, "the law sees the prefix only"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"draft": "synthetic:x"}, "the seed of a synthetic model"),
        ({"target": "smollm2-135m"}, "both or neither"),
        ({"signal": Signal.ENTROPY}, "one_minus_max only"),
        ({"importance": Importance.BINDING}, "no importance"),
    ],
)
def test_what_it_cannot_do_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        model.load(settings(**values))
