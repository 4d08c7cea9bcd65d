"""The runs behind `sluice bench single`: find the thresholds, then time every way to write, in turn, prompt by prompt."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.cli.bench.damage import Curve, corrected
from services.cli.bench.edge import Edge, Rounds, Run
from services.cli.bench.stock import LlmOnly, Stock
from services.cli.errors import CommandError
from services.cli.local import embedded, environment
from services.cli.local.options import StackOptions
from services.cli.local.stack import Stack
from services.common.lm import loading
from services.common.messages import Mode
from services.common.sampling import Sampling

DAMAGES = (0.03, 0.06, 0.12)
SEARCHES = 2  # measured corrections of each threshold
CONNECT_SECONDS = 30.0
TOLERANCE = 0.1  # a threshold whose measured damage is this close to the wanted one is taken


@dataclass(frozen=True)
class Plan:
    """What is measured. ``timed``, ``searched`` and ``greedy`` are prompts; ``threads`` of each process."""

    draft: str
    target: str
    timed: list[str]
    searched: list[str]
    greedy: list[str]
    max_tokens: int
    temperature: float
    k: int
    lossless_k: int
    risk: float
    ahead: bool
    threads: int
    seed: int
    context_tokens: int = 1024
    entries: int = 32


@dataclass
class Tally:
    """Tokens and seconds of one way to write; for Sluice's ways also what they sent and did."""

    tokens: int = 0
    seconds: float = 0.0
    runs: list[Run] = field(default_factory=list)

    def add(self, ids: list[int], seconds: float) -> None:
        self.tokens += len(ids)
        self.seconds += seconds

    def take(self, run: Run) -> None:
        self.add(run.ids, run.seconds)
        self.runs.append(run)

    @property
    def speed(self) -> float:
        return self.tokens / self.seconds

    def about(self) -> dict[str, float]:
        total = max(1, sum(r.stats.total for r in self.runs))
        rounds = sum(r.stats.rounds for r in self.runs)
        judged = sum(r.stats.judged for r in self.runs)
        return {
            "damage": round(sum(r.stats.audit_sum for r in self.runs) / total, 4),
            "upload_rate": round(judged / total, 4),
            "acceptance": round(sum(r.stats.accepted for r in self.runs) / max(1, judged), 4),
            "passes_per_token": round(rounds / total, 4),
            "payload_bytes_per_token": round(sum(r.stats.payload_bytes for r in self.runs) / total, 2),
        }


class PoolStack(Stack):
    """Broker, Redis and verifiers; the edge's half is in this process."""

    def _start(self) -> None:
        self.kafka = embedded.start_broker(self.nursery, self.options.broker_rtt_ms)
        self.redis = self._redis_server.url
        self.start_redis()
        self.start_verifiers()


class Measure:
    """Runs one plan. ``progress`` is told each step."""

    def __init__(self, plan: Plan, progress: Callable[[str], None]) -> None:
        self.plan, self.progress = plan, progress
        self._sampling = Sampling(temperature=plan.temperature)

    async def run(self) -> dict[str, Any]:
        plan = self.plan
        options = StackOptions(
            verifiers=1,
            draft=plan.draft,
            target=plan.target,
            threads=plan.threads,
            verifier_environment={"SLUICE_VERIFIER_CAPACITY_TOKENS": str(plan.context_tokens), "SLUICE_VERIFIER_SLOTS": "8"},
        )
        stack = await asyncio.to_thread(lambda: PoolStack(options, self.progress).__enter__())
        try:
            return await self._with(stack, str(environment.target(options)))
        finally:
            await asyncio.to_thread(stack.stop)

    async def _with(self, stack: Stack, target_name: str) -> dict[str, Any]:
        plan = self.plan
        self.progress("loading the models")
        draft = loading.load(plan.draft, role="draft", threads=plan.threads)
        target = loading.load(plan.target, role="target")
        loading.check_pair(draft, target)
        stock_draft = loading.load(plan.draft, role="draft", dtype="bfloat16", weights="bf16")
        stock_target = loading.load(plan.target, role="target", dtype="bfloat16", weights="bf16")
        stock = Stock(stock_draft, stock_target)
        llm = LlmOnly(target, plan.context_tokens)
        edge = Edge(
            draft,
            credential=stack.identities.issue("bench"),
            bootstrap=stack.kafka,
            redis_url=stack.redis,
            target=target_name,
            context_tokens=plan.context_tokens,
            entries=plan.entries,
        )
        await edge.start()
        try:
            await self._connected(edge)
            tokenise = self._tokeniser(draft)
            await self._warm_up(edge, stock, llm, tokenise(plan.timed[0]))
            thresholds = await self._thresholds(edge, [tokenise(p) for p in plan.searched])
            tallies = await self._timed(edge, stock, llm, [tokenise(p) for p in plan.timed], thresholds)
            differences = await self._greedy(edge, stock, [tokenise(p) for p in plan.greedy])
        finally:
            await edge.close()
        return self._report(tallies, thresholds, differences, {"draft": draft.weights, "target": target.weights})

    async def _connected(self, edge: Edge) -> None:
        async with asyncio.timeout(CONNECT_SECONDS):
            while not edge.connected:  # noqa: ASYNC110 - the client has no event for it, and this is a start
                await asyncio.sleep(0.05)

    def _tokeniser(self, model: loading.LoadedModel) -> Callable[[str], list[int]]:
        def ids(prompt: str) -> list[int]:
            turn = [{"role": "user", "content": prompt}]
            text = model.tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
            found: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
            if len(found) + self.plan.max_tokens > self.plan.context_tokens:
                raise CommandError(f"a prompt of {len(found)} tokens does not fit a context of {self.plan.context_tokens}")
            return found

        return ids

    def _opportunistic(self, threshold: float) -> Rounds:
        return Rounds(Mode.OPPORTUNISTIC, threshold, self.plan.k, risk=self.plan.risk, ahead=self.plan.ahead)

    def _lossless(self) -> Rounds:
        return Rounds(
            Mode.LOSSLESS, 0.3, self.plan.lossless_k, span_tokens=8, wait_tokens=8, risk=self.plan.risk, ahead=self.plan.ahead
        )

    async def _write(self, edge: Edge, prompt: list[int], rounds: Rounds, seed: int) -> Run:
        return await edge.write(prompt, rounds, max_tokens=self.plan.max_tokens, sampling=self._sampling, seed=seed)

    async def _warm_up(self, edge: Edge, stock: Stock, llm: LlmOnly, prompt: list[int]) -> None:
        self.progress("warming up")
        for rounds in (self._opportunistic(0.3), self._lossless()):
            await edge.write(prompt, rounds, max_tokens=8, sampling=self._sampling, seed=0)
        llm.write(prompt, max_tokens=4, sampling=self._sampling, seed=0)
        stock.generate(prompt, max_tokens=8, sampling=self._sampling, seed=0, assisted=True)

    async def _thresholds(self, edge: Edge, prompts: list[list[int]]) -> dict[str, float]:
        """The threshold of each wanted damage, on prompts that are not timed (where the file has enough of them)."""
        self.progress("finding the thresholds: skipping everything once")
        everything = [await self._write(edge, p, self._opportunistic(1.0), 10_000 + i) for i, p in enumerate(prompts)]
        curve = Curve.of([pair for run in everything for pair in run.pairs], sum(len(r.ids) for r in everything))
        found = {}
        for wanted in DAMAGES:
            threshold = curve.threshold(wanted)
            for attempt in range(SEARCHES):
                self.progress(f"finding the threshold of damage {wanted}: {threshold:.3f}")
                tally = Tally()
                for i, prompt in enumerate(prompts):
                    tally.take(await self._write(edge, prompt, self._opportunistic(threshold), 20_000 + 100 * attempt + i))
                measured = tally.about()["damage"]
                if abs(measured - wanted) <= TOLERANCE * wanted:
                    break
                threshold = corrected(curve, wanted, threshold, measured)
            found[str(wanted)] = threshold
        return found

    async def _timed(
        self, edge: Edge, stock: Stock, llm: LlmOnly, prompts: list[list[int]], thresholds: dict[str, float]
    ) -> dict[str, Tally]:
        plan, sampling = self.plan, self._sampling
        longest = plan.max_tokens
        slm = Rounds(Mode.OPPORTUNISTIC, 1.0, 1, slm_only=True)
        ways = ["slm_only", "llm_only", "assisted", "lossless", *thresholds]
        tallies = {way: Tally() for way in ways}
        for i, prompt in enumerate(prompts):
            turn = i % len(ways)
            for way in ways[turn:] + ways[:turn]:
                self.progress(f"prompt {i + 1} of {len(prompts)}: {way}")
                seed = plan.seed + i
                if way == "llm_only":
                    written = await asyncio.to_thread(llm.write, prompt, max_tokens=longest, sampling=sampling, seed=seed)
                    tallies[way].add(*written)
                elif way == "assisted":
                    written = await asyncio.to_thread(
                        stock.generate, prompt, max_tokens=longest, sampling=sampling, seed=seed, assisted=True
                    )
                    tallies[way].add(*written)
                else:
                    rounds = {"slm_only": slm, "lossless": self._lossless()}.get(way)
                    rounds = rounds or self._opportunistic(thresholds[way])
                    tallies[way].take(await self._write(edge, prompt, rounds, seed))
        return tallies

    async def _greedy(self, edge: Edge, stock: Stock, prompts: list[list[int]]) -> list[str]:
        """Where lossless greedy text leaves the target's own; a tie within rounding is named, and does not count."""
        greedy = Sampling(temperature=0.0)
        found = []
        for i, prompt in enumerate(prompts):
            self.progress(f"greedy check {i + 1} of {len(prompts)}")
            own, _ = await asyncio.to_thread(
                stock.generate, prompt, max_tokens=self.plan.max_tokens, sampling=greedy, seed=0, assisted=False
            )
            run = await edge.write(prompt, self._lossless(), max_tokens=self.plan.max_tokens, sampling=greedy, seed=0)
            ours = run.ids
            at = next((j for j, (a, b) in enumerate(zip(ours, own, strict=False)) if a != b), None)
            if at is None:
                found.append("equal" if len(ours) == len(own) else "length")
            elif await asyncio.to_thread(stock.is_tie, [*prompt, *own[:at]], ours[at], own[at]):
                found.append("tie")
            else:
                found.append("different")
        return found

    def _report(
        self, tallies: dict[str, Tally], thresholds: dict[str, float], greedy: list[str], weights: dict[str, str]
    ) -> dict[str, Any]:
        speed = {way: round(t.speed, 3) for way, t in tallies.items()}
        opportunistic = {way: speed.pop(way) for way in thresholds}
        ratio = {way: round(v / speed["assisted"], 3) for way, v in {**speed, **opportunistic}.items()}
        plan = self.plan
        return {
            "tokens_per_second": {**speed, "opportunistic": opportunistic},
            "ratio_to_assisted": ratio,
            "lossless_equals_target": all(g in ("equal", "tie") for g in greedy),
            "greedy_answers": {kind: greedy.count(kind) for kind in sorted(set(greedy))},
            "measured": {way: tallies[way].about() for way in ("lossless", *thresholds)},
            "thresholds": {way: round(t, 4) for way, t in thresholds.items()},
            "tokens": {way: t.tokens for way, t in tallies.items()},
            "pair": {"draft": plan.draft, "target": plan.target, "weights": weights},
            "settings": {
                "prompts": len(plan.timed),
                "max_tokens": plan.max_tokens,
                "temperature": plan.temperature,
                "k": plan.k,
                "lossless_k": plan.lossless_k,
                "risk": plan.risk,
                "ahead": plan.ahead,
                "threads": plan.threads,
                "seed": plan.seed,
            },
            "machine": machine(),
        }


def machine() -> dict[str, Any]:
    import torch

    from services.common.settings import usable_cores

    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass  # no Linux: the platform's own word has to do
    return {"processor": name, "cores": usable_cores(), "torch": torch.__version__, "python": platform.python_version()}
