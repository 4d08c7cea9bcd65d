"""The synthetic target keeps the promises of a real one: same verdict in any batch, cache only ever a shortcut, no torch."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.common.sampling import Sampling
from services.common.settings import ConfigError
from services.common.speculative import SpanToken, Sparse
from services.common.synthetic import DRAFT_NOISE, VOCABULARY, SyntheticLaw, is_synthetic, seed_of
from services.verifier import model
from services.verifier.scheduler import Chunk, Round
from services.verifier.settings import VerifierSettings
from services.verifier.slots import SlotTable
from services.verifier.synthetic import SyntheticEngine

DRAFT = SyntheticLaw(noise=DRAFT_NOISE)


def round_(session: bytes, base: list[int], span: list[SpanToken], seed: int = 0) -> Round:
    return Round(session, base, span, Sampling(), seed, 0, want_bonus=True, deadline=float("inf"))


def drafted(base: list[int], tokens: int, seed: int) -> list[SpanToken]:
    """A span as a device drafts it: the even positions are candidates."""
    span: list[SpanToken] = []
    for n in range(tokens):
        prefix = [*base, *(t.d for t in span)]
        x = Sparse.cut(np.arange(VOCABULARY), DRAFT(prefix), 32)
        d = x.sample(seed, len(prefix), 0)
        span.append(SpanToken(d, x.of(d), None if n % 2 else x))
    return span


def rounds(count: int) -> list[Round]:
    draw = random.Random(5)
    made = []
    for n in range(count):
        base = [draw.randrange(VOCABULARY) for _ in range(draw.randint(1, 60))]
        made.append(round_(bytes([n]), base, drafted(base, draw.randint(1, 9), n), seed=n))
    return made


def engine(slots: int, trace: str = "") -> tuple[SyntheticEngine, SlotTable]:
    table = SlotTable(slots)
    return SyntheticEngine(SyntheticLaw(), table, trace=trace), table


def test_a_verdict_is_the_same_alone_in_a_batch_and_after_an_eviction() -> None:
    items = rounds(24)
    alone = [engine(1)[0].verify([item])[0][0] for item in items]
    assert any(j.corrected for j in alone)
    assert any(j.kept == len(i.span) for j, i in zip(alone, items, strict=True))
    together, _ = engine(24)
    assert together.verify(items)[0] == alone
    crowded, _ = engine(2)
    assert [crowded.verify([item])[0][0] for item in items] == alone


def test_what_is_in_the_slot_is_not_fed_again() -> None:
    base = list(range(40))
    target, slots = engine(2)
    assert target.prefill([Chunk(b"s", base[:30])]).tokens == 30
    span = drafted(base, 4, 1)
    assert target.verify([round_(b"s", base, span)])[1].tokens == 10 + 4
    slots.release(b"s")
    assert target.verify([round_(b"s", base, span)])[1].tokens == 40 + 4


def test_drafts_are_accepted_about_as_often_as_the_noise_says() -> None:
    target, draw = SyntheticLaw(3), random.Random(1)
    draft = SyntheticLaw(3, DRAFT_NOISE)
    prefixes = [[draw.randrange(VOCABULARY) for _ in range(5)] for _ in range(400)]
    accepted = float(np.mean([np.minimum(target(p), draft(p)).sum() for p in prefixes]))
    assert 1 - DRAFT_NOISE <= accepted < 1 - DRAFT_NOISE + 0.02
    assert not np.array_equal(target(prefixes[0]), SyntheticLaw(4)(prefixes[0]))


def test_the_trace_tells_what_a_pass_is_about(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    target, _ = engine(4, str(trace))
    items = rounds(2)
    target.prefill([Chunk(b"x", [1, 2])])
    target.verify(items)
    assert trace.read_text().splitlines() == ["prefill 1", "end", "verify 2", "end"]


def test_a_reference_names_model_and_seed() -> None:
    assert [is_synthetic(r) for r in ("synthetic", "synthetic:7", "synthetic-pair", "smollm2-135m")] == [
        True,
        True,
        False,
        False,
    ]
    assert (seed_of("synthetic"), seed_of("synthetic:7")) == (0, 7)
    with pytest.raises(ConfigError, match="SLUICE_VERIFIER_MODEL: synthetic:x: the seed"):
        model.load(VerifierSettings(model="synthetic:x"), SlotTable(1))
    with pytest.raises(ConfigError, match="SLUICE_VERIFIER_SYNTHETIC_TRACE: No such file"):
        model.load(VerifierSettings(model="synthetic", synthetic_trace="/nowhere/trace"), SlotTable(1))


def test_a_verifier_with_the_synthetic_target_never_imports_torch() -> None:
    code = (
        "import sys, services.verifier.app; from services.verifier import model; from services.verifier.settings import *;"
        "from services.verifier.slots import SlotTable; model.load(VerifierSettings(model='synthetic'), SlotTable(1));"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
