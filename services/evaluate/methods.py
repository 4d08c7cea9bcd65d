"""The methods by name, and what each means for the session loop. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.calibration.predictor import Predictor
from services.common.messages import Mode
from services.edge_worker.gate.rule import Gate
from services.edge_worker.signals import SAFE_TAU, Importance, Signal

NEVER = 1.0  # no uncertainty lies above
ASK_ALWAYS = -1.0
EXPLAINED = {
    "llm": "large model alone, beside its user: no link",
    "remote-llm": "large model alone: prompt up, tokens streamed down",
    "slm": "small model alone",
    "hlm": "every draft token judged, one a round (gamma 0)",
    "rand-hlm": "tokens judged at random, at u-hlm's rate (or @RATE)",
    "u-hlm": "judged where the signal is above the threshold (or @THRESHOLD)",
    "ui-hlm": "the same, and important (or @THRESHOLD)",
    "calibrated": "score and threshold of a calibration file (or @ALPHA)",
    "lossless": "every token judged and hidden until then; the signal decides when to ask (or @THRESHOLD)",
    "fixed-k": "drafts of fixed length, all judged (or @LENGTH)",
}
ALONE = ("llm", "remote-llm")
SPAN_TOKENS = 1024  # where only k may end a span


# U-HLM's published risk-prone threshold. Greedy text holds the arg max only, whose perturbation uncertainty is low: the safe
# default, measured at temperature 1, flags next to nothing there.
GREEDY_TAU = 0.43


class MethodError(ValueError):
    """``str`` is one line that says what to choose."""


@dataclass(frozen=True)
class Method:
    """``label`` as the user wrote it: a name of ``EXPLAINED``, or NAME@VALUE."""

    label: str
    name: str
    value: float | None = None


@dataclass(frozen=True)
class Calibrated:
    """The score and the threshold of a calibration; ``signal`` ``None``: its predictor."""

    alpha: float
    signal: Signal | None
    predictor: Predictor | None
    tau: float | None
    importance: Importance
    k: int
    span_tokens: int
    wait_tokens: int
    risk: float


@dataclass(frozen=True)
class Knobs:
    """What holds for all methods. ``tau``: of ``signal``; ``length``: drafts of fixed-k; ``layer``: of importance,
    ``None``: the middle one."""

    signal: Signal
    tau: float
    importance: Importance
    quantile: float
    window: int
    layer: int | None
    k: int
    length: int
    span_tokens: int
    wait_tokens: int
    risk: float


@dataclass(frozen=True)
class Rule:
    """How a session is written. ``predictor``: makes the uncertainty instead of the gate's signal. ``asks``: false for the
    small model alone, whose one upload is an audit. ``patient``: in an outage it waits instead of going on unverified."""

    gate: Gate
    k: int
    span_tokens: int
    wait_tokens: int
    risk: float
    gamma: float = 1.0
    mode: Mode = Mode.OPPORTUNISTIC
    predictor: Predictor | None = None
    asks: bool = True
    patient: bool = False


def default_tau(signal: Signal, *, greedy: bool) -> float:
    """The threshold where the user names none."""
    return GREEDY_TAU if greedy and signal is Signal.TEMPERATURE_PERTURBATION else SAFE_TAU[signal]


def parse(text: str) -> list[Method]:
    """Methods of a comma-separated list; ``llm``, which all are compared with, comes first. Raises ``MethodError``."""
    found = {"llm": Method("llm", "llm")}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, at, number = part.partition("@")
        if name not in EXPLAINED:
            raise MethodError(f"unknown method {name!r}: choose among {', '.join(EXPLAINED)}")
        found[part] = Method(part, name, _value(name, number) if at else None)
    labels = {m.name for m in found.values() if m.value is None}
    if "rand-hlm" in labels and "u-hlm" not in labels:
        raise MethodError("rand-hlm flags at the rate of u-hlm: add u-hlm to --methods, or name a rate (rand-hlm@0.4)")
    return list(found.values())


def _value(name: str, number: str) -> float:
    if name in (*ALONE, "slm", "hlm"):
        raise MethodError(f"{name} has nothing to set: leave out @{number}")
    try:
        value = float(number)
    except ValueError as error:
        raise MethodError(f"{name}@{number}: a number belongs behind the @") from error
    fits = (value == int(value) and 1 <= value <= 64) if name == "fixed-k" else 0.0 <= value <= 1.0
    if not fits:
        raise MethodError(
            f"{name}@{number}: it takes {'a length from 1 to 64' if name == 'fixed-k' else 'a number from 0 to 1'}"
        )
    return value


def rule(method: Method, knobs: Knobs, calibrated: Calibrated | None = None, rate: float | None = None) -> Rule:
    """``rate``: of ``rand-hlm`` where the method names none. Not for methods of ``ALONE``."""
    tau = knobs.tau if method.value is None else method.value
    plain = Gate(knobs.signal, tau)
    limits = (knobs.span_tokens, knobs.wait_tokens, knobs.risk)
    if method.name == "slm":
        return Rule(Gate(knobs.signal, NEVER), 1, SPAN_TOKENS, SPAN_TOKENS, 1.0, asks=False)
    if method.name in ("hlm", "fixed-k"):
        length = 1 if method.name == "hlm" else int(method.value or knobs.length)
        return Rule(Gate(knobs.signal, knobs.tau), length, SPAN_TOKENS, SPAN_TOKENS, 1.0, gamma=0.0, patient=True)
    if method.name == "rand-hlm":
        return Rule(Gate(knobs.signal, NEVER, random_rate=rate if method.value is None else method.value), knobs.k, *limits)
    if method.name == "lossless":
        return Rule(plain, knobs.k, *limits, mode=Mode.LOSSLESS, patient=True)
    if method.name == "ui-hlm":
        gate = Gate(knobs.signal, tau, importance=knobs.importance, quantile=knobs.quantile, window=knobs.window)
        return Rule(gate, knobs.k, *limits)
    if method.name == "calibrated":
        if calibrated is None:
            raise MethodError("calibrated needs --calibration FILE (`sluice calibrate` makes one)")
        threshold = ASK_ALWAYS if calibrated.tau is None else calibrated.tau
        gate = Gate(calibrated.signal or knobs.signal, threshold, importance=calibrated.importance)
        c = calibrated
        return Rule(gate, c.k, c.span_tokens, c.wait_tokens, c.risk, predictor=c.predictor)
    return Rule(plain, knobs.k, *limits)
