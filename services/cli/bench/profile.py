"""`sluice bench profile`: what `sluice simulate` needs of a pair: recorded answers, and times of steps and passes."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.errors import CommandError
from services.cli.progress import Progress, stderr_console

if TYPE_CHECKING:
    from services.calibrate.trace import Answer
    from services.common.lm.engine import CausalEngine

RECORDS = ("fit.jsonl", "calibration.jsonl", "evaluation.jsonl")
SESSIONS = (1, 2, 4, 8)
SPANS = (2, 6, 12, 24)
CONTEXT = 128
ROUNDS = 15
DECIMALS = 4


def command(
    work: Annotated[Path, typer.Option(help="Folder of records of `sluice calibrate --work`.")],
    out: Annotated[Path, typer.Option(help="The profile, for `sluice simulate --profile FILE.json`.")],
    draft: Annotated[str, typer.Option(help="Small model of the records.")] = "smollm2-135m-draft",
    target: Annotated[str, typer.Option(help="Large model of the records.")] = "smollm2-135m",
    signal: Annotated[str, typer.Option(help="Uncertainty of the gate.")] = "one_minus_max",
    tau: Annotated[float | None, typer.Option(min=0.01, max=1.0, help="Its threshold at gamma 1; the safe default.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Answers that are kept: the first ones; all if not given.")] = None,
    note: Annotated[str, typer.Option(help="Kept in the profile: how the records were made.")] = "",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all usable cores if not given.")] = None,
) -> None:
    """Take scores and rejection probabilities from the records, and measure draft steps and passes over batches of spans."""
    from services.edge_worker.signals import SAFE_TAU, Signal
    from services.simulate.profile import Profile

    if signal not in list(Signal):
        raise CommandError(f"unknown --signal {signal!r}: choose one of {', '.join(Signal)}")
    answers = _answers(work)[:limit]
    traces = [
        {
            "u": [round(t.signals[signal], DECIMALS) for t in a.tokens],
            "rejection": [round(t.audit, DECIMALS) for t in a.tokens],
        }
        for a in answers
        if a.tokens
    ]
    rejections = [value for trace in traces for value in trace["rejection"]]
    measured = _measure(draft, target, threads)
    tau_u = SAFE_TAU[Signal(signal)] if tau is None else tau
    profile = Profile.model_validate(
        {
            "name": out.stem,
            "command": f"sluice bench profile --work {work.name} --draft {_name(draft)} --target {_name(target)} "
            f"--signal {signal} --tau {tau_u}"
            + (f" --limit {limit}" if limit else "")
            + (f" --threads {threads}" if threads else ""),
            "note": note,
            "created": datetime.now(UTC).date(),
            "draft": _name(draft),
            "target": _name(target),
            "signal": signal,
            "tau_u": tau_u,
            "hit": round(1.0 - sum(rejections) / len(rejections), DECIMALS),
            "answers": traces,
            **measured,
        }
    )
    try:
        out.write_text(profile.model_dump_json() + "\n")
    except OSError as error:
        raise CommandError(f"{out} cannot be written: {error.strerror}") from error
    typer.echo(f"{out}: {len(traces)} answers, {profile.tokens} tokens, mean rejection {1.0 - profile.hit:.3f}")


def _name(model: str) -> str:
    """Without the folder, where it is a file: a profile is passed on."""
    return Path(model).name if Path(model).exists() else model


def _answers(work: Path) -> list[Answer]:
    from services.calibrate.trace import Answer

    found: list[Answer] = []
    for name in RECORDS:
        try:
            lines = (work / name).read_text().splitlines()[1:]  # the first one says what the record belongs to
            found += [Answer.from_json(json.loads(line)) for line in lines]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError) as error:
            raise CommandError(f"{work / name} is no record of `sluice calibrate`: {error}") from error
    if not any(a.tokens for a in found):
        raise CommandError(f"{work} holds no records of `sluice calibrate`: give its --work folder")
    return found


def _measure(draft: str, target: str, threads: int | None) -> dict[str, Any]:
    """Seconds of a draft step and of passes of the target, one after the other so that both see the same machine."""
    import torch

    from services.cli.bench.measure import machine
    from services.common.lm import loading
    from services.common.lm.engine import CausalEngine
    from services.common.settings import usable_cores

    cores = threads or usable_cores()
    with Progress(stderr_console()) as progress:
        progress("loading the models")
        small = loading.load(draft, role="draft", threads=cores)
        large = loading.load(target, threads=cores)
        torch.set_num_threads(cores)
        own = CausalEngine(small.model, slots=1, capacity_tokens=CONTEXT + 2)
        engine = CausalEngine(large.model, slots=max(SESSIONS), capacity_tokens=CONTEXT + max(SPANS) + 1)
        text = [token % 1000 + 5 for token in range(CONTEXT)]
        own.hidden([0], [0], [text])
        engine.hidden(list(range(max(SESSIONS))), [0] * max(SESSIONS), [text] * max(SESSIONS))
        progress("measuring draft steps")
        step = _seconds(own, 1, 1)
        passes = []
        for sessions in SESSIONS:
            for span in SPANS:
                progress(f"measuring passes over {sessions} spans of {span} tokens")
                passes.append({"sessions": sessions, "span": span, "seconds": round(_seconds(engine, sessions, span), 6)})
    return {"step_seconds": round(step, 6), "passes": passes, "machine": {**machine(), "threads": cores}}


def _seconds(engine: CausalEngine, sessions: int, span: int) -> float:
    """One pass over ``sessions`` rows of ``span`` tokens after ``CONTEXT``, logits included: the least of several, since what
    else the machine does only adds."""
    rows, starts, tokens = list(range(sessions)), [CONTEXT] * sessions, [[7] * span] * sessions
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        states = engine.hidden(rows, starts, tokens)
        engine.logits(states.reshape(-1, states.shape[-1]))
        taken.append(time.perf_counter() - started)
    return min(taken)
