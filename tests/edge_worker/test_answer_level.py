"""Whole answers kept local: the decision, what it may depend on, and what it saves."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from services.common.calibration import files
from services.common.calibration.answer_level import AnswerRule
from services.common.messages import Mode
from services.common.speculative import Sparse
from services.edge_worker import app, calibration
from services.edge_worker.answer import Decision, TokenOut
from services.edge_worker.draft import Step, StepRequest
from services.edge_worker.drafting import Drafting
from services.edge_worker.fakes import TableDrafter
from services.edge_worker.gate import AnswerLevel, Gate, Stage
from services.edge_worker.session import Session
from services.edge_worker.signals import Importance, Signal
from services.edge_worker.span import Limits
from services.edge_worker.transcript import Transcript
from tests.edge_worker import test_calibration as calibrated
from tests.edge_worker.conftest import Rig, request_for
from tests.edge_worker.test_session import let_go_late

TAU = 0.3
PROMPT = [0, 1, 2]


def rule(tokens: int = 4, slope: float = 1.0, turn: float = 1.5) -> AnswerRule:
    """Predicts the mean of ``u``; the limit is ``slope`` times the threshold."""
    return AnswerRule(
        decide_tokens=tokens,
        centre=(0.0,) * 4,
        scale=(1.0,) * 4,
        weights=(0.0, 1.0, 0.0, 0.0),
        intercept=0.0,
        knots_threshold=(0.0, 1.0),
        knots_damage=(0.0, slope),
        turn=turn,
    )


def gated(slope: float = 1.0, **changes: Any) -> Gate:
    return Gate(Signal.ONE_MINUS_MAX, TAU, answer_level=rule(slope=slope, **changes))


def changing_law(prefix: Sequence[int]) -> np.ndarray:
    """Sure (``u`` 0.1) after the tokens 0 to 2, unsure (0.6) after 3: some answers are easy, some hard, some turn."""
    p = 0.4 if prefix[-1] == 3 else 0.9
    row = np.full(4, (1.0 - p) / 3)
    row[(prefix[-1] + len(prefix) % 2) % 4] = p
    return row


def bench(rig: Callable[..., Rig], gate: Gate, **changes: Any) -> Rig:
    drafter = TableDrafter(changing_law)
    made = rig(**{"gate": gate, "drafter": drafter, "audit_rate": 1e-9, **changes})
    made.drafter = drafter
    return made


def essence(tokens: list[TokenOut]) -> list[tuple[int, Decision, int | None]]:
    return [(t.id, t.decision, t.round) for t in tokens]


# -- the decision ------------------------------------------------------------------------------------------------------


def stages(level: AnswerLevel, scores: Sequence[float]) -> list[Stage]:
    out = []
    for u in scores:
        level.see(u)
        out.append(level.stage)
    return out


def test_the_stages_by_hand() -> None:
    """Limit 0.3, decided by four tokens; back to asking above a mean of 0.45 over the last four."""
    undecided, local, asking = Stage.UNDECIDED, Stage.LOCAL, Stage.ASKING

    def of(scores: Sequence[float], threshold: float = TAU) -> list[Stage]:
        return stages(AnswerLevel(rule(), prompt_tokens=3, threshold=threshold), scores)

    assert of([0.1, 0.1, 0.8, 0.1]) == [undecided] * 3 + [local]
    assert of([0.1, 0.4, 0.6, 0.3, 0.0]) == [undecided] * 3 + [asking] * 2
    assert of([0.2, 0.2, 0.2, 0.2, 0.6, 0.7, 0.4, 0.0]) == [undecided] * 3 + [local] * 3 + [asking] * 2
    assert of([0.0] * 5, threshold=0.0) == [asking] * 5
    assert of([0.0] * 5, threshold=-1.0) == [asking] * 5
    assert stages(AnswerLevel(None), [0.0, 0.0]) == [asking] * 2


class Scripted:
    """A drafter of the one text that all answers have, with the uncertainties that it is told."""

    def __init__(self, scores: Sequence[float]) -> None:
        self._scores = scores

    def acquire(self) -> int | None:
        return 0

    def release(self, slot: int) -> None: ...

    async def step(self, request: StepRequest) -> Step:
        at = request.start + len(request.tokens) - len(PROMPT)
        return Step(7, Sparse.certain(7), 1.0, self._scores[at], None, ())


def flags(scores: Sequence[float], gate: Gate, gamma: float, limits: Limits) -> list[bool]:
    """Which tokens of a given text the gate flags."""
    text = Transcript(list(PROMPT), len(scores), ())
    drafting = Drafting(request_for(gamma=gamma), text, Scripted(scores), gate, limits, lossless=False)

    async def draft() -> None:
        for _ in scores:
            await drafting.step(0)

    asyncio.run(draft())
    assert all(t.decided for t in text.pending)
    assert all(t.judged == t.flagged for t in text.pending)
    return [t.flagged for t in text.pending]


unit = st.floats(0, 1)


@settings(max_examples=150)
@given(
    st.lists(unit, min_size=1, max_size=24),
    unit,
    st.floats(0, 4),
    st.floats(0, 4),
    st.integers(1, 6),
    unit,
    st.floats(1, 3),
    st.builds(Limits, st.integers(1, 4), st.integers(4, 30), st.integers(1, 12), st.floats(0.05, 1.0)),
)
def test_more_gamma_never_flags_more_and_zero_flags_all(
    scores: list[float], tau: float, low: float, high: float, tokens: int, slope: float, turn: float, limits: Limits
) -> None:
    gate = Gate(Signal.ENTROPY, tau, answer_level=rule(tokens, slope, turn))
    low, high = sorted((low, high))
    lenient, strict = flags(scores, gate, low, limits), flags(scores, gate, high, limits)
    assert all(a or not b for a, b in zip(lenient, strict, strict=True))
    assert all(flags(scores, gate, 0.0, limits))
    plain = flags(scores, Gate(Signal.ENTROPY, tau), high, limits)
    assert all(p or not f for p, f in zip(plain, strict, strict=True))  # it never flags what the plain rule skips


# -- whole answers ------------------------------------------------------------------------------------------------------


async def written(made: Rig, seed: int, **changes: Any) -> tuple[list[TokenOut], Session]:
    return await made.write(seed, max_tokens=16, **changes)


async def test_a_local_answer_sends_nothing_and_is_the_small_model_s(rig: Callable[..., Rig]) -> None:
    local = 0
    for seed in range(40):
        made = bench(rig, gated(), span_tokens=32)
        tokens, session = await written(made, seed)
        if not session.stats.kept_local:
            continue
        local += 1
        assert {t.decision for t in tokens} == {Decision.SKIPPED}
        assert not made.client.opens
        assert not made.client.batches
        assert not made.client.cancelled
        assert session.stats.payload_bytes == 0
        alone, _ = await written(bench(rig, gated(), span_tokens=32), seed, slm_only=True, k=0)
        assert [t.id for t in tokens] == [t.id for t in alone]
    assert 5 < local < 40


async def test_it_keeps_answers_that_the_plain_rule_asks_about(rig: Callable[..., Rig]) -> None:
    uncertain = 0
    for seed in range(40):
        tokens, session = await written(bench(rig, gated()), seed)
        uncertain += session.stats.kept_local and any((t.uncertainty or 0.0) > TAU for t in tokens)
    assert uncertain > 2


async def test_an_answer_that_asks_from_the_start_is_the_plain_one(rig: Callable[..., Rig]) -> None:
    same = 0
    for seed in range(40):
        tokens, session = await written(bench(rig, gated(slope=1e-6)), seed)
        plain, _ = await written(bench(rig, Gate(Signal.ONE_MINUS_MAX, TAU)), seed)
        assert essence(tokens) == essence(plain)
        same += not session.stats.kept_local
    assert same > 5


async def test_the_opening_waits_for_the_decision_and_carries_what_was_kept(rig: Callable[..., Rig]) -> None:
    turned = 0
    for seed in range(60):
        made = bench(rig, gated(), span_tokens=6)
        tokens, session = await written(made, seed)
        if not made.client.opens:
            continue
        (opening,) = made.client.opens
        kept = len(opening.base()) - len(PROMPT)
        assert [t.id for t in tokens[:kept]] == opening.base()[len(PROMPT) :]
        assert {t.decision for t in tokens[:kept]} <= {Decision.SKIPPED}
        assert opening.prompt_tokens == len(PROMPT)
        turned += kept > 0
        assert session.stats.lost_rounds == 0
        assert session.stats.judged > 0 or not made.client.batches
    assert turned > 2


@pytest.mark.parametrize("limits", [{}, {"span_tokens": 5, "wait_tokens": 2}, {"risk": 0.7}], ids=["wide", "short", "wary"])
@pytest.mark.parametrize("audit_rate", [1e-9, 1.0], ids=["no audits", "audits"])
async def test_time_changes_nothing(rig: Callable[..., Rig], limits: dict[str, Any], audit_rate: float) -> None:
    """Verdicts at once, late verdicts with drafting ahead, and no drafting ahead: the same tokens in the same rounds."""
    seen: Counter[str] = Counter()
    limits = {"audit_rate": audit_rate, **limits}
    for seed in range(25):
        at_once, session = await written(bench(rig, gated(), **limits), seed)
        made = bench(rig, gated(), **limits)
        made.client.hold = True
        pump = asyncio.create_task(let_go_late(made, 15 + seed % 9))
        late = [token async for token in made.session(seed, max_tokens=16)]
        pump.cancel()
        alone, _ = await written(bench(rig, gated(), ahead=False, **limits), seed)
        assert essence(late) == essence(at_once) == essence(alone)
        seen["local" if session.stats.kept_local else "asked"] += 1
        seen["corrected"] += session.stats.corrected
    assert min(seen.values()) > 2
    assert len(seen) == 3


async def test_audits_of_local_answers_change_no_token_and_fit_into_uploads(rig: Callable[..., Rig]) -> None:
    stretches = 0
    for seed in range(25):
        audited = bench(rig, gated(), span_tokens=6, audit_rate=1.0)
        tokens, session = await audited.write(seed, max_tokens=30)
        plain, _ = await bench(rig, gated(), span_tokens=6).write(seed, max_tokens=30)
        assert [(t.id, t.decision) for t in tokens] == [(t.id, t.decision) for t in plain]
        if session.stats.kept_local:
            spans = [batch.tokens() for batch in audited.client.batches]
            assert [t.d for span in spans for t in span] == [t.id for t in tokens]
            assert all(len(span) <= 6 and all(t.x is None for t in span) for span in spans)
            stretches += len(spans) > 1
    assert stretches > 3


@pytest.mark.parametrize("changes", [{"gamma": 0.0}, {"mode": Mode.LOSSLESS}], ids=["gamma 0", "lossless"])
async def test_where_every_token_is_verified_the_answer_asks_at_once(rig: Callable[..., Rig], changes: dict[str, Any]) -> None:
    for seed in range(10):
        made = bench(rig, gated())
        tokens, session = await written(made, seed, **changes)
        assert Decision.SKIPPED not in {t.decision for t in tokens}
        assert not session.stats.kept_local
        assert session.stats.lossless


async def test_a_dead_link_ends_every_answer(rig: Callable[..., Rig]) -> None:
    for seed in range(20):
        made = bench(rig, gated(), span_tokens=5)
        made.client.down = "kafka"
        tokens, _ = await written(made, seed)
        assert len(tokens) == 16
        assert {t.decision for t in tokens} <= {Decision.SKIPPED, Decision.UNVERIFIED}


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="uncertainty alone"):
        Gate(Signal.ENTROPY, TAU, importance=Importance.BINDING, answer_level=rule())
    with pytest.raises(ValueError, match="uncertainty alone"):
        Gate(Signal.ENTROPY, TAU, random_rate=0.5, answer_level=rule())
    whole = rule().model_dump()
    for broken, says in (
        ({"knots_damage": (0.1, 0.2)}, "start at 0"),
        ({"knots_damage": (0.0, 0.2, 0.3)}, "differ in number"),
        ({"knots_threshold": (0.0, 0.0)}, "rise"),
        ({"scale": (1.0, 0.0, 1.0, 1.0)}, "positive"),
    ):
        with pytest.raises(ValidationError, match=says):
            AnswerRule.model_validate({**whole, **broken})


def test_the_rule_comes_from_the_calibration(tmp_path: Path) -> None:
    with_rule = calibrated.made(policy={"answer_level": rule().model_dump()})
    chosen = calibrated.settings(tmp_path, with_rule)
    found = calibration.load(chosen)
    assert found is not None
    assert app._gate(chosen, found).answer_level == rule()
    chosen = calibrated.settings(tmp_path, calibrated.made())
    assert app._gate(chosen, calibration.load(chosen)).answer_level is None
    with pytest.raises(ValidationError, match="uncertainty alone"):
        calibrated.made(policy={"answer_level": rule().model_dump(), "importance": "binding"})


def test_files_without_the_rule_are_still_read(tmp_path: Path) -> None:
    raw = json.loads(calibrated.made().model_dump_json())
    del raw["policy"]["answer_level"]
    for threshold in raw["thresholds"]:
        del threshold["evaluated_local_rate"]
    (tmp_path / "old.json").write_text(json.dumps({**raw, "schema_version": 1}))
    assert files.load(tmp_path / "old.json").policy.answer_level is None
