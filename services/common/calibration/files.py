"""``calibration.json``: what was calibrated, for what, and whether a request lies inside of it. No torch.

A request outside, in any respect, gets no guarantee: nothing was measured there.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.common.calibration.answer_level import AnswerRule
from services.common.calibration.predictor import Predictor
from services.common.codec import MAX_SPAN_TOKENS
from services.common.sampling import Sampling

NO_GUARANTEE = "none"
Method = Literal["conformal", "learn_then_test"]


class CalibrationError(ValueError):
    """``str`` is one line that says what is wrong and what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Model(_Part):
    """``reference`` as presets and settings name it; ``revision`` and number format of the weights."""

    reference: str
    revision: str
    weights: str


class Policy(_Part):
    """How answers are written: everything besides the threshold that has a part in which tokens are skipped.

    ``answer_level``: keeps whole answers local; ``None``: each token is decided for itself.
    """

    signal: str
    importance: str = "none"
    k: int = Field(ge=1)
    span_tokens: int = Field(ge=1, le=MAX_SPAN_TOKENS)
    wait_tokens: int = Field(ge=1)
    risk: float = Field(gt=0, le=1)
    x_entries: int = Field(ge=2)
    answer_level: AnswerRule | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.answer_level is not None and self.importance != "none":
            raise ValueError("whole answers stay local by uncertainty alone, but importance is set too")
        return self


class Range(_Part):
    """From ``low`` to ``high``, both included, in tokens."""

    low: int = Field(ge=0)
    high: int = Field(ge=0)

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"a range from {self.low} to {self.high} is empty")
        return self


class LineNumbers(_Part):
    """The papers' line and thresholds, see ``line``."""

    a: float
    b: float
    r: float
    r_expected: float | None = None  # not in files of earlier versions
    disagreement: float
    risk_averse: float | None
    risk_prone: float | None
    tokens: int


class Threshold(_Part):
    """``tau_u`` of one ``alpha``; ``None``: no threshold passes, ask always. The evaluation's figures are fresh answers.

    ``evaluated_local_rate``: share of answers that asked about nothing.
    """

    alpha: float = Field(gt=0, lt=1)
    conformal: float | None = Field(default=None, ge=0, le=1)
    learn_then_test: float | None = Field(default=None, ge=0, le=1)
    evaluated_damage: float | None = None
    evaluated_skip_rate: float | None = None
    evaluated_local_rate: float | None = None


class Calibration(_Part):
    """One calibration. ``guaranteed``: enough prompts calibrated it; without, thresholds are estimates and promise nothing.

    Version 1 is version 2 without ``policy.answer_level`` and ``evaluated_local_rate``.
    """

    schema_version: Literal[1, 2] = 2
    created: datetime
    draft: Model
    target: Model
    tokenizer_hash: str
    template_hash: str
    sampling: Sampling
    policy: Policy
    prompt_tokens: Range
    max_tokens: Range
    data_hash: str
    prompts: dict[str, int]
    seed: int
    grid: tuple[float, ...]
    line: LineNumbers
    predictor: Predictor
    method: Method
    delta: float = Field(gt=0, lt=1)
    guaranteed: bool
    thresholds: tuple[Threshold, ...]

    def at(self, alpha: float) -> Threshold:
        """Raises ``CalibrationError`` for an ``alpha`` that was not calibrated."""
        for threshold in self.thresholds:
            if threshold.alpha == alpha:
                return threshold
        known = ", ".join(f"{t.alpha:g}" for t in self.thresholds)
        raise CalibrationError(f"alpha {alpha:g} was not calibrated: choose one of {known}, or run `sluice calibrate` again")

    def tau(self, alpha: float) -> float | None:
        """The threshold by the method of this file; ``None``: always ask."""
        found = self.at(alpha)
        return found.conformal if self.method == "conformal" else found.learn_then_test


class Asked(_Part):
    """What decides whether a request lies inside the range. ``prompt_tokens``, ``max_tokens``: of prompt and answer."""

    sampling: Sampling
    prompt_tokens: int
    max_tokens: int
    k: int
    gamma: float
    chat: bool  # the prompt came through the chat template


def guarantee(calibration: Calibration, alpha: float, asked: Asked) -> str:
    """``damage <= alpha``, or ``none`` for a request that nothing was measured for."""
    inside = (
        calibration.guaranteed
        and asked.gamma <= 1.0
        and asked.k == calibration.policy.k
        and asked.chat
        and asked.sampling == calibration.sampling
        and asked.prompt_tokens in calibration.prompt_tokens
        and asked.max_tokens in calibration.max_tokens
    )
    return f"damage <= {alpha:g}" if inside else NO_GUARANTEE


def load(path: Path) -> Calibration:
    """Raises ``CalibrationError`` with one line."""
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise CalibrationError(
            f"{path} is no calibration of this version ({where}: {first['msg']}); run `sluice calibrate` again"
        ) from error


def save(calibration: Calibration, path: Path) -> None:
    """Raises ``CalibrationError`` with one line. The file is whole or not there."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(calibration.model_dump_json(indent=1) + "\n")
        part.replace(path)
    except OSError as error:
        raise CalibrationError(f"{path} cannot be written: {error.strerror}") from error


def text_hash(text: str) -> str:
    """16 hex digits of a chat template or a prompt file."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
