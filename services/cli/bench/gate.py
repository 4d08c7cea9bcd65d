"""`sluice bench gate`: what the gate's signals and importance cost, as shares of one step of the draft model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.errors import CommandError
from services.cli.progress import Progress, stderr_console

if TYPE_CHECKING:
    import torch

    from services.common.lm.engine import CausalEngine

TEXT = "The river ran past the mill, and those who lived beside it knew its moods as well as their own. "
WARM_UP = 3


def command(
    draft: Annotated[str, typer.Option(help="Small model, as shipped.")] = "smollm2-135m-draft",
    context: Annotated[int, typer.Option(min=16, help="Tokens before the step that is measured.")] = 256,
    steps: Annotated[int, typer.Option(min=5, help="Steps, each followed by every signal in turn.")] = 100,
    layer: Annotated[int | None, typer.Option(min=0, help="Layer that importance is read from; the middle one.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all usable cores if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Medians of processor seconds in one run, and each as a share of the step (embedding to logits, batch of one).

    Not of elapsed ones: other work on the machine would lengthen a step more than what comes after it.
    """
    import torch

    from services.cli.bench.measure import machine
    from services.common.lm import loading
    from services.common.lm.engine import CausalEngine
    from services.common.settings import usable_cores

    cores = threads or usable_cores()
    with Progress(stderr_console()) as progress:
        progress("loading the draft model")
        loaded = loading.load(draft, role="draft", threads=cores)
        torch.set_num_threads(cores)
        layers = int(loaded.model.config.get_text_config().num_hidden_layers)
        watched = layers // 2 if layer is None else layer
        engine = CausalEngine(loaded.model, slots=1, capacity_tokens=context + steps + 1)
        ids = loaded.tokenizer(TEXT * (1 + context // 16))["input_ids"][:context]
        progress(f"{steps} steps")
        try:
            seconds = _measure(engine, ids, steps, watched, loaded.vocabulary)
        except ValueError as error:
            raise CommandError(f"{error}; choose a layer below {layers}") from error
    step = seconds.pop("step")
    result: dict[str, Any] = {
        "draft": draft,
        "weights": loaded.weights,
        "vocabulary": loaded.vocabulary,
        "layers": layers,
        "layer": watched,
        "context_tokens": context,
        "steps": steps,
        "threads": cores,
        "machine": machine(),
        "step_seconds": round(step, 6),
        "seconds": {name: round(value, 7) for name, value in seconds.items()},
        "share_of_a_step": {name: round(value / step, 5) for name, value in seconds.items()},
    }
    typer.echo(json.dumps(result) if as_json else json.dumps(result, indent=2))


class _Watches:
    """Processor seconds of each call, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def time(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        started = time.process_time()
        value = function(*arguments)
        self.seconds.setdefault(name, []).append(time.process_time() - started)
        return value


def _measure(engine: CausalEngine, ids: list[int], steps: int, layer: int, vocabulary: int) -> dict[str, float]:
    """Median seconds of ``step`` and, beside it, of each thing the gate computes."""
    import torch

    from services.edge_worker.gate import Draws, uncertainty
    from services.edge_worker.gate.uncertainty import every_signal
    from services.edge_worker.signals import Signal

    watches = _Watches()
    token = ids[-1]
    with torch.inference_mode():
        engine.hidden([0], [0], [ids])
        for n in range(-WARM_UP, steps):
            position = len(ids) + max(n, 0)
            if n == 0:
                watches.seconds.clear()
            _importance(watches, engine, position, token, layer)
            logits = watches.time("step", _logits, engine, position, token, vocabulary)
            token = int(torch.multinomial(logits.softmax(dim=-1), 1))
            watches.time("all_signals", every_signal, logits, token)  # first, as right after a step
            for signal in Signal:
                watches.time(signal.value, uncertainty, logits, token, signal, Draws(0, position, 0))
    out = {name: median(values) for name, values in watches.seconds.items()}
    return {**out, "all_signals_and_importance": out["all_signals"] + out["importance"]}


def _logits(engine: CausalEngine, position: int, token: int, vocabulary: int) -> torch.Tensor:
    return engine.logits(engine.hidden([0], [position], [[token]])[0, -1:])[0, :vocabulary]


def _importance(watches: _Watches, engine: CausalEngine, position: int, token: int, layer: int) -> None:
    """The same step again with one layer watched; only what that adds is timed, since the difference of two steps is noise."""
    from services.common.lm.attention import LastRow
    from services.edge_worker.gate.importance import importance, threshold
    from services.edge_worker.signals import Importance

    class Timed(LastRow):
        def take(self, *arguments: Any) -> None:
            watches.time("importance", super().take, *arguments)

    watched = Timed(layer)
    engine.hidden([0], [position], [[token]], watched)
    history = [(7 * n % 64) / 64 for n in range(64)]
    started = time.process_time()
    if watched.weights is not None:
        importance(watched.weights[0], Importance.RECEIVED)
    threshold(history, 0.5, len(history))
    watches.seconds["importance"][-1] += time.process_time() - started
