"""An edge worker's draft steps, gate and session loop, with its real meters or with none."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from services.cli.bench.overhead.beside import Beside
from services.cli.bench.overhead.stopwatch import Stopwatch
from services.common.drift.monitor import Reading, State
from services.common.energy.settings import EnergySettings
from services.common.messages import Mode
from services.common.policy_reader import PolicyReader
from services.common.sampling import Sampling
from services.common.settings import load
from services.common.telemetry import Telemetry
from services.common.tracing import Tracer
from services.edge_worker.answer import AnswerRequest, AnswerStats, OnOutage
from services.edge_worker.answerer import SessionAnswerer
from services.edge_worker.breaker import Breaker
from services.edge_worker.draft import Drafter
from services.edge_worker.energy import device_energy
from services.edge_worker.gate import Gate
from services.edge_worker.metrics import DriftMetrics, EdgeMetrics, KnobMetrics
from services.edge_worker.session import Worker
from services.edge_worker.signals import SAFE_TAU, Signal
from services.edge_worker.uplink import UplinkMeter
from services.edge_worker.verifier_client import VerifierClient
from services.edge_worker.worker import Observer

CLASS = "bench"
DEADLINE_SECONDS = 600.0
BARE, METERED, TRACED = "bare", "metered", "traced"


@dataclass(frozen=True)
class Subject:
    """What drafts and what judges; ``begin`` is told the number of each answer. Knobs are the edge worker's defaults."""

    drafter: Drafter
    client: VerifierClient
    end_ids: frozenset[int]
    max_tokens: int
    begin: Callable[[int], None] = lambda answer: None
    k: int = 4
    span_tokens: int = 48
    wait_tokens: int = 12
    risk: float = 0.8
    audit_rate: float = 0.02
    ahead: bool = True

    def worker(self, observer: Observer) -> Worker:
        signal = Signal.ONE_MINUS_MAX
        return Worker(
            drafter=self.drafter,
            client=self.client,
            breaker=Breaker(),
            gate=Gate(signal, SAFE_TAU[signal]),
            end_ids=self.end_ids,
            tokenizer_hash="bench",
            target="bench",
            span_tokens=self.span_tokens,
            wait_tokens=self.wait_tokens,
            risk=self.risk,
            audit_rate=self.audit_rate,
            wait_seconds=DEADLINE_SECONDS,
            observer=observer,
            ahead=self.ahead,
        )


@dataclass
class Written:
    """``seconds`` of processor time; ``steps`` of the draft model."""

    seconds: float
    tokens: int
    rounds: int
    ids: list[int] = field(default_factory=list)


class EdgeSide:
    """One worker three times over: without meters, with them, and with traces too."""

    def __init__(self, subject: Subject, tracer: Tracer | None = None) -> None:
        self._subject = subject
        self.telemetry = Telemetry()
        registry = self.telemetry.registry
        self.metrics = EdgeMetrics(registry)
        self._drift = DriftMetrics(registry, CLASS)
        KnobMetrics(registry, CLASS, k=subject.k, gamma=1.0, policy=PolicyReader())
        meter = UplinkMeter(dict, registry, lambda: self.telemetry.scraped_bytes)
        self.energy = device_energy(load(EnergySettings, energy="model"), "cpu", meter, registry)

        async def look() -> None:
            meter.sample()
            await self.energy.settle()
            for link in ("kafka", "redis"):
                self.telemetry.link(link, up=True)

        self.look = look
        self.beside = Beside(self.telemetry, look)
        metered = replace(subject.worker(self.metrics), energy=self.energy)
        self._answerers = {
            BARE: SessionAnswerer(subject.worker(Observer())),
            METERED: SessionAnswerer(metered, self._ended),
        }
        if tracer is not None:
            self._answerers[TRACED] = SessionAnswerer(replace(metered, tracer=tracer), self._ended)
        self._metered = metered

    @property
    def ways(self) -> list[str]:
        return list(self._answerers)

    async def write(self, way: str, answer: int, prompt: Sequence[int], *, beside_too: bool = True) -> Written:
        """Answer number ``answer``: the same tokens whatever the way. Without ``beside_too`` meters are called and nothing
        else."""
        beside = self.beside.running() if beside_too and way != BARE else nullcontext()
        async with beside:
            return await self._write(self._answerers[way], answer, prompt)

    async def watched(self, answer: int, prompt: Sequence[int]) -> tuple[Written, Stopwatch]:
        """The same with each call of the meters timed (of the energy's, those of one step are timed apart)."""
        watch = Stopwatch()
        worker = replace(self._metered, observer=watch.around(self.metrics))
        answerer = SessionAnswerer(worker, lambda *about: watch.time(self._ended, *about))
        return await self._write(answerer, answer, prompt), watch

    def energy_seconds(self, times: int) -> float:
        """Processor time that the account of one draft step takes."""
        stats = AnswerStats()
        self.energy.enter(stats)
        started = time.thread_time()
        for _ in range(times):
            with self.energy.drafting(stats):
                pass
        return (time.thread_time() - started) / times

    async def _write(self, answerer: SessionAnswerer, answer: int, prompt: Sequence[int]) -> Written:
        self._subject.begin(answer)
        request = AnswerRequest(
            prompt_ids=list(prompt),
            max_tokens=self._subject.max_tokens,
            sampling=Sampling(),
            seed=answer,
            mode=Mode.OPPORTUNISTIC,
            k=self._subject.k,
            gamma=1.0,
            deadline_seconds=DEADLINE_SECONDS,
            on_outage=OnOutage.ERROR,
        )
        started = time.process_time()
        running = answerer.answer(request)
        ids = [token.id async for token in running]
        return Written(time.process_time() - started, len(ids), running.stats.rounds, ids)

    def _ended(self, request: AnswerRequest, stats: AnswerStats) -> None:
        self._drift.answer(stats, complete=stats.unaudited == 0)
        self._drift.show(Reading(State.UNBOUNDED, 0.0, 0.0, 1.0, 0), None, math.inf)
        self.metrics.ended(stats, objective_seconds=None, drifted=False)
