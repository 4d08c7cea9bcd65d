"""The methods by name, and what each means for the session loop. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.common.calibration.answer_level import AnswerRule
from services.common.calibration.predictor import Predictor
from services.common.messages import Mode
from services.edge_worker.gate.rule import Gate
from services.edge_worker.signals import SAFE_TAU, Importance, Signal
from services.evaluate import labels
from services.evaluate.labels import Label
from services.evaluate.labels import MethodError as MethodError

NEVER = 1.0  # no uncertainty lies above
ASK_ALWAYS = -1.0
EXPLAINED = {
    "llm": "large model alone, beside its user: no link",
    "remote-llm": "large model alone: prompt up, tokens streamed down",
    "slm": "small model alone",
    "hlm": "every draft token judged, one a round (gamma 0)",
    "rand-hlm": "tokens judged at random, at u-hlm's rate (or @RATE)",
    "u-hlm": "judged where the signal is above the threshold (or @THRESHOLD)",
    "ui-hlm": "the same, and important (or @THRESHOLD, or @THRESHOLD/QUANTILE)",
    "i-hlm": "judged where important, whatever the signal says (or @QUANTILE)",
    "calibrated": "score and threshold of a calibration file (or @ALPHA)",
    "answer-level": "the same, and whole answers kept local where the file's rule allows it (or @ALPHA)",
    "lossless": "every token judged and hidden until then; the signal decides when to ask (or @THRESHOLD)",
    "fixed-k": "drafts of fixed length, all judged (or @LENGTH)",
}
ALONE = ("llm", "remote-llm")
FROM_FILE = ("calibrated", "answer-level")  # written as a calibration file says
SCORED = ("u-hlm", "ui-hlm", "lossless")  # take a signal
WEIGHED = ("ui-hlm", "i-hlm")  # take an importance
SPAN_TOKENS = 1024  # where only k may end a span


# U-HLM's published risk-prone threshold. Greedy text holds the arg max only, whose perturbation uncertainty is low: the safe
# default, measured at temperature 1, flags next to nothing there.
GREEDY_TAU = 0.43


@dataclass(frozen=True)
class Method:
    """``label`` in canonical form and its parts (see ``labels``). ``predictor``: its score instead of a signal's, see
    ``scored``."""

    label: str
    name: str
    value: float | None = None
    signal: str = ""
    importance: str = ""
    quantile: float | None = None
    predictor: Predictor | None = None


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
    answer_level: AnswerRule | None = None


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

    @property
    def silent(self) -> bool:
        """It flags no token, whatever the signal says."""
        rate, never = self.gate.random_rate, self.gamma == 1.0 and self.gate.tau_u >= NEVER
        return self.mode is Mode.OPPORTUNISTIC and (never if rate is None else rate == 0.0)


def default_tau(signal: Signal, *, greedy: bool) -> float:
    """The threshold where the user names none."""
    return GREEDY_TAU if greedy and signal is Signal.TEMPERATURE_PERTURBATION else SAFE_TAU[signal]


def parse(text: str) -> list[Method]:
    """Methods of a comma-separated list; ``llm``, which all are compared with, comes first. Raises ``MethodError``."""
    found = {"llm": Method("llm", "llm")}
    for part in filter(None, (p.strip() for p in text.split(","))):
        label = labels.read(part)
        _check(label)
        found[str(label)] = Method(str(label), label.name, label.value, label.signal, label.importance, label.quantile)
    bare = {m.name for m in found.values() if m.value is None}
    if "rand-hlm" in bare and "u-hlm" not in bare:
        raise MethodError("rand-hlm flags at the rate of u-hlm: add u-hlm to --methods, or name a rate (rand-hlm@0.4)")
    return list(found.values())


def scored(methods: Sequence[Method], predictor: Predictor | None) -> list[Method]:
    """``predictor`` (of a calibration file) for the methods whose signal is its score. Raises ``MethodError``."""
    asked = [m for m in methods if m.signal == labels.PREDICTED]
    if asked and predictor is None:
        raise MethodError(f"{asked[0].label} needs a --calibration FILE that holds a predictor (`sluice calibrate` makes one)")
    return [replace(m, predictor=predictor) if m in asked else m for m in methods]


def _check(label: Label) -> None:
    """Raises ``MethodError`` where the method does not take what the label names."""
    name, value = label.name, label.value
    if name not in EXPLAINED:
        raise MethodError(f"unknown method {name!r}: choose among {', '.join(EXPLAINED)}")
    if value is not None and name in (*ALONE, "slm", "hlm"):
        raise MethodError(f"{name} has nothing to set: leave out @{value:g}")
    for kind, takers in ((label.signal, SCORED), (label.importance, WEIGHED)):
        if kind and name not in takers:
            raise MethodError(f"{name} takes no :{kind}; {' and '.join(takers)} do")
    if label.signal and value is None:
        raise MethodError(f"{label}: name its threshold, as in {label}@0.5; --tau is that of --signal")
    if label.quantile is not None and name != "ui-hlm":
        raise MethodError(f"{label}: only ui-hlm takes a quantile of importance as second number (i-hlm as its first one)")
    if name == "fixed-k" and value is not None and not (value == int(value) and 1 <= value <= 64):
        raise MethodError(f"{label}: it takes a length from 1 to 64")
    for number in (value, label.quantile) if name != "fixed-k" else ():
        if number is not None and not 0.0 <= number <= 1.0:
            raise MethodError(f"{label}: it takes a number from 0 to 1")


def rule(method: Method, knobs: Knobs, calibrated: Calibrated | None = None, rate: float | None = None) -> Rule:
    """``rate``: of ``rand-hlm`` where the method names none. Not for methods of ``ALONE``."""
    tau = knobs.tau if method.value is None else method.value
    signal = Signal(method.signal) if method.signal in list(Signal) else knobs.signal
    plain = Gate(signal, tau)
    limits = (knobs.span_tokens, knobs.wait_tokens, knobs.risk)
    if method.name == "slm":
        return Rule(Gate(knobs.signal, NEVER), 1, SPAN_TOKENS, SPAN_TOKENS, 1.0, asks=False)
    if method.name in ("hlm", "fixed-k"):
        length = 1 if method.name == "hlm" else int(method.value or knobs.length)
        return Rule(Gate(knobs.signal, knobs.tau), length, SPAN_TOKENS, SPAN_TOKENS, 1.0, gamma=0.0, patient=True)
    if method.name == "rand-hlm":
        return Rule(Gate(knobs.signal, NEVER, random_rate=rate if method.value is None else method.value), knobs.k, *limits)
    if method.name == "lossless":
        return Rule(plain, knobs.k, *limits, mode=Mode.LOSSLESS, predictor=method.predictor, patient=True)
    if method.name in WEIGHED:
        return Rule(_weighed(method, knobs, plain), knobs.k, *limits, predictor=method.predictor)
    if method.name in FROM_FILE:
        return _from_file(method, knobs, calibrated)
    return Rule(plain, knobs.k, *limits, predictor=method.predictor)


def _from_file(method: Method, knobs: Knobs, calibrated: Calibrated | None) -> Rule:
    if calibrated is None:
        raise MethodError(f"{method.name} needs --calibration FILE (`sluice calibrate` makes one)")
    c, whole = calibrated, None
    if method.name == "answer-level":
        whole = c.answer_level
        if whole is None:
            raise MethodError("answer-level needs a calibration that was made with it: `sluice calibrate --answer-level`")
    threshold = ASK_ALWAYS if c.tau is None else c.tau
    gate = Gate(c.signal or knobs.signal, threshold, importance=c.importance, answer_level=whole)
    return Rule(gate, c.k, c.span_tokens, c.wait_tokens, c.risk, predictor=c.predictor)


def _weighed(method: Method, knobs: Knobs, plain: Gate) -> Gate:
    """``plain`` with importance; without uncertainty every token is uncertain enough."""
    kind = Importance(method.importance or knobs.importance)
    alone = method.name == "i-hlm"
    chosen = method.value if alone else method.quantile
    quantile = knobs.quantile if chosen is None else chosen
    tau = ASK_ALWAYS if alone else plain.tau_u
    return replace(plain, tau_u=tau, importance=kind, quantile=quantile, window=knobs.window)
