"""One calibration from recorded answers: fit, choose, evaluate, on three disjoint parts of the prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from services.calibrate import answer_level_fit, answer_level_limits, predictor_fit, risk_control
from services.calibrate import line as lines
from services.calibrate.answer_level_fit import Fitted, Local
from services.calibrate.answer_level_limits import Trial
from services.calibrate.journal import Header, Journal
from services.calibrate.line import Line
from services.calibrate.record import Job, Recorder, Score, record
from services.calibrate.splits import Split, split
from services.calibrate.trace import Answer, Columns
from services.common.calibration.files import Calibration, LineNumbers, Method, Policy, Range, Threshold, text_hash
from services.common.calibration.predictor import NAME
from services.common.rng import Floats
from services.common.sampling import Sampling
from services.pair.rows import Judging, Pair

FIT_SIGNAL = "one_minus_max"
FIT_THRESHOLDS = (0.2, 0.4, 0.6, 0.8, 1.0)  # in turn, so that the prefixes are those of lenient and strict policies
LEAST_SKIPPED, MOST_SKIPPED = 0.15, 0.95  # shares of fit tokens below the first and the last threshold of the grid
NEVER = 1.0  # nothing is flagged: the small model alone
DECIMALS = 6
Tell = Callable[[str, int, int], None]  # what is being done, answers done, answers in all


Subject = Pair[Judging]


@dataclass(frozen=True)
class Plan:
    """What is asked. ``work``: folder of the records; ``grid``: number of thresholds; ``policy.signal``: of the gate.

    ``decide_tokens``: so many drafted tokens decide whether an answer stays local; 0: each token is decided for itself.
    """

    work: Path
    alphas: tuple[float, ...]
    policy: Policy
    sampling: Sampling
    max_tokens: int
    grid: int = 8
    seed: int = 1
    method: Method = "conformal"
    delta: float = 0.1
    decide_tokens: int = 0


@dataclass(frozen=True)
class Outcome:
    """The calibration and what it rests on. ``losses`` `[prompts, thresholds]`: damage of the calibration answers;
    ``bounds`` `[thresholds]`: the papers'; ``local_rates`` `[thresholds]`: share of answers that asked about nothing;
    ``level``: ``None`` where no answer is kept local as a whole."""

    calibration: Calibration
    line: Line
    fitted: Columns
    held_out: Columns
    losses: Floats
    skip_rates: Floats
    bounds: Floats
    comparison: dict[str, dict[str, float]]
    pearson: dict[str, dict[str, float]]
    local_rates: Floats
    level: Fitted | None

    def summary(self) -> dict[str, Any]:
        """The figures, for ``--json``."""
        c = self.calibration
        return {
            "pearson_r": c.line.r,
            "pearson_r_expected": c.line.r_expected,
            "pearson_by_signal": self.pearson,
            "line": c.line.model_dump(),
            "prompts": c.prompts,
            "guaranteed": c.guaranteed,
            "method": c.method,
            "signal": c.policy.signal,
            "grid": [
                {
                    "threshold": t,
                    "damage": float(d),
                    "skip_rate": float(s),
                    "papers_bound": float(b),
                    "local_rate": float(share),
                }
                for t, d, s, b, share in zip(
                    c.grid, self.losses.mean(axis=0), self.skip_rates, self.bounds, self.local_rates, strict=True
                )
            ],
            "answer_level": None if self.level is None else _level_summary(self.level),
            "thresholds": [t.model_dump() for t in c.thresholds],
            "damage_at_equal_skip_rate": self.comparison,
            "tokens": {"fit": len(self.fitted), "held_out": len(self.held_out)},
        }


async def calibrate(subject: Subject, plan: Plan, tell: Tell) -> Outcome:
    """Raises ``ValueError`` (also ``JournalError``) with one line where prompts or records do not allow it."""
    parts = split(len(subject.prompts), plan.seed)
    work = _Work(subject, plan, parts, tell)
    fitted = Columns.of(await work.fit())
    predictor = predictor_fit.fit(fitted)
    score: Score = predictor.one if plan.policy.signal == NAME else _single(plan.policy.signal)
    u = predictor_fit.scores(fitted, predictor)[plan.policy.signal]
    line = lines.fit(u, fitted.audit, fitted.expected)
    grid = grid_of(u, plan.grid)
    level = await work.answer_level(score, answer_level_limits.ordinary(u, fitted.audit), grid)
    answers = await work.calibration(grid, score)
    losses, skip_rates = losses_of(answers, parts.calibration, grid)
    guaranteed = len(parts.calibration) >= risk_control.LEAST_PROMPTS
    chosen = [_choose(losses, grid, alpha, plan, guaranteed) for alpha in plan.alphas]
    fresh = await work.evaluation(sorted({t for c in chosen if (t := _by(c, plan.method)) is not None}), score)
    held_out = Columns.of([*answers, *fresh])
    calibration = Calibration(
        created=datetime.now(UTC),
        draft=subject.draft,
        target=subject.target,
        tokenizer_hash=subject.tokenizer_hash,
        template_hash=subject.template_hash,
        sampling=plan.sampling,
        policy=work.policy,
        prompt_tokens=_lengths([subject.prompts[i] for i in parts.calibration]),
        max_tokens=Range(low=plan.max_tokens, high=plan.max_tokens),
        data_hash=work.data_hash,
        prompts={name: len(part) for name, part in vars(parts).items()},
        seed=plan.seed,
        grid=tuple(map(float, grid)),
        line=_numbers(line),
        predictor=predictor,
        method=plan.method,
        delta=plan.delta,
        guaranteed=guaranteed,
        thresholds=tuple(_evaluated(c, fresh, plan.method) for c in chosen),
    )
    comparison = predictor_fit.compare(held_out, predictor)
    bounds = np.array([line.bound(float(t), u) for t in grid])
    pearson = predictor_fit.correlations(held_out, predictor)
    local = np.array([np.mean([a.local for a in answers if a.threshold == float(t)]) for t in grid])
    return Outcome(calibration, line, fitted, held_out, losses, skip_rates, bounds, comparison, pearson, local, level)


def grid_of(u: Floats, points: int) -> Floats:
    """Thresholds at evenly spaced quantiles of ``u``: the shares that they would skip. Ascending, distinct."""
    quantiles = np.quantile(u, np.linspace(LEAST_SKIPPED, MOST_SKIPPED, points))
    return np.unique(np.round(quantiles, DECIMALS))


def losses_of(answers: Sequence[Answer], prompts: Sequence[int], grid: Floats) -> tuple[Floats, Floats]:
    """Damage `[prompts, thresholds]`, and the share of answered tokens that each threshold skipped."""
    by_key = {(a.prompt, a.threshold): a for a in answers}
    table = [[by_key[(p, float(t))] for t in grid] for p in prompts]
    answered = np.array([[a.answered for a in row] for row in table], dtype=float)
    skipped = np.array([[a.skipped for a in row] for row in table], dtype=float)
    losses = np.array([[a.damage for a in row] for row in table])
    return losses, skipped.sum(axis=0) / np.maximum(1.0, answered.sum(axis=0))


class _Work:
    """The records of one calibration, each a file of its own. ``policy``: what is calibrated."""

    def __init__(self, subject: Subject, plan: Plan, parts: Split, tell: Tell) -> None:
        self._subject, self._plan, self._parts, self._tell = subject, plan, parts, tell
        self.data_hash = text_hash(json.dumps([list(map(int, ids)) for ids in subject.prompts]))
        self.policy = plan.policy
        self._predictor_free = plan.policy.model_copy(update={"signal": FIT_SIGNAL})

    async def fit(self) -> list[Answer]:
        """Each prompt once, the thresholds in turn."""
        jobs = [self._job(prompt, FIT_THRESHOLDS[n % len(FIT_THRESHOLDS)]) for n, prompt in enumerate(self._parts.fit)]
        return await self._record("fit", jobs, _single(FIT_SIGNAL), self._predictor_free, 0)

    async def answer_level(self, score: Score, knots: tuple[Floats, Floats], grid: Floats) -> Fitted | None:
        """Each fit prompt by the small model alone, where the plan asks for it; what is learnt becomes part of the policy."""
        if not self._plan.decide_tokens:
            return None
        jobs = [self._job(prompt, NEVER) for prompt in self._parts.fit]
        answers = await self._record("local", jobs, _single(FIT_SIGNAL), self._predictor_free, 3)
        local = [Local.of(a, score) for a in answers]
        risks = [risk_control.largest_risk(len(self._parts.calibration), alpha) for alpha in self._plan.alphas]
        found = answer_level_fit.fit(local, knots, self._plan.decide_tokens, Trial(grid, risks, self.policy))
        self.policy = self.policy.model_copy(update={"answer_level": found.rule})
        return found

    async def calibration(self, grid: Floats, score: Score) -> list[Answer]:
        """Each prompt at each threshold."""
        jobs = [self._job(prompt, float(t)) for prompt in self._parts.calibration for t in grid]
        return await self._record("calibration", jobs, score, self.policy, 1)

    async def evaluation(self, thresholds: Sequence[float], score: Score) -> list[Answer]:
        """Each prompt at each threshold that was chosen."""
        jobs = [self._job(prompt, t) for prompt in self._parts.evaluation for t in thresholds]
        return await self._record("evaluation", jobs, score, self.policy, 2)

    def _job(self, prompt: int, threshold: float) -> Job:
        return Job(prompt, threshold, self._subject.prompts[prompt])

    async def _record(self, name: str, jobs: list[Job], score: Score, policy: Policy, salt: int) -> list[Answer]:
        subject, plan = self._subject, self._plan
        recorders = [
            Recorder(
                row,
                policy=policy,
                score=score,
                sampling=plan.sampling,
                max_tokens=plan.max_tokens,
                end_ids=subject.end_ids,
                seed=plan.seed * 4 + salt,
            )
            for row in subject.rows
        ]
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            self._tell(name, done, len(jobs))

        self._tell(name, 0, len(jobs))
        with Journal(plan.work / f"{name}.jsonl", self._header(name, jobs, policy)) as journal:
            return await record(recorders, jobs, journal, step)

    def _header(self, name: str, jobs: Sequence[Job], policy: Policy) -> Header:
        subject, plan = self._subject, self._plan
        return {
            "record": name,
            "draft": subject.draft.model_dump(),
            "target": subject.target.model_dump(),
            "tokenizer": subject.tokenizer_hash,
            "template": subject.template_hash,
            "sampling": plan.sampling.model_dump(),
            "policy": policy.model_dump(exclude_none=True),
            "max_tokens": plan.max_tokens,
            "prompts": self.data_hash,
            "seed": plan.seed,
            "thresholds": sorted({job.threshold for job in jobs}),
        }


def _single(name: str) -> Score:
    return lambda signals: signals[name]


def _choose(losses: Floats, grid: Floats, alpha: float, plan: Plan, guaranteed: bool) -> Threshold:
    least = risk_control.LEAST_PROMPTS if guaranteed else 1
    return Threshold(
        alpha=alpha,
        conformal=risk_control.conformal(losses, grid, alpha, least=least),
        learn_then_test=risk_control.learn_then_test(losses, grid, alpha, delta=plan.delta, least=least),
    )


def _by(threshold: Threshold, method: Method) -> float | None:
    return threshold.conformal if method == "conformal" else threshold.learn_then_test


def _evaluated(threshold: Threshold, fresh: Sequence[Answer], method: Method) -> Threshold:
    tau = _by(threshold, method)
    mine = [a for a in fresh if a.threshold == tau]
    damage = float(np.mean([a.damage for a in mine])) if mine else 0.0  # always asking does none
    skipped = sum(a.skipped for a in mine) / max(1, sum(a.answered for a in mine))
    local = sum(a.local for a in mine) / max(1, len(mine))
    figures = {"evaluated_damage": damage, "evaluated_skip_rate": skipped, "evaluated_local_rate": local}
    return threshold.model_copy(update=figures)


def _level_summary(level: Fitted) -> dict[str, Any]:
    """``r``: of prediction and damage, on answers left out of the fit."""
    rule = level.rule
    return {
        "decide_tokens": rule.decide_tokens,
        "multiple": level.multiple,
        "turn": rule.turn,
        "r": level.r,
        "answers": level.answers,
    }


def _lengths(prompts: Sequence[Sequence[int]]) -> Range:
    return Range(low=min(map(len, prompts)), high=max(map(len, prompts)))


def _numbers(line: Line) -> LineNumbers:
    return LineNumbers(**asdict(line), risk_averse=line.risk_averse, risk_prone=line.risk_prone)
