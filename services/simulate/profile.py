"""What a real run left for the simulator: gate scores and rejection probabilities of whole answers, and times of passes.

Files come from ``sluice bench profile``; the package carries one.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.common.rng import Floats

FOLDER = Path(__file__).parent / "profiles"
DEFAULT = "smollm2-135m"
Share = Annotated[float, Field(ge=0, le=1)]


class ProfileError(ValueError):
    """``str`` is one line that says what is wrong and what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AnswerTrace(_Part):
    """The drafted tokens of one answer in order: gate score ``u`` and rejection probability of each."""

    u: tuple[Share, ...] = Field(min_length=1)
    rejection: tuple[Share, ...]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(self.u) != len(self.rejection):
            raise ValueError("scores and rejections differ in number")
        return self


class PassTime(_Part):
    """Seconds of one forward pass over ``sessions`` spans of ``span`` tokens each."""

    sessions: int = Field(ge=1)
    span: int = Field(ge=1)
    seconds: float = Field(gt=0)


class Profile(_Part):
    """``tau_u``: the gate's threshold at gamma 1, on ``signal``; ``step_seconds``: one draft step; ``hit``: chance that a
    drafted guess is the bonus token."""

    name: str
    note: str = ""
    command: str
    created: date
    draft: str
    target: str
    signal: str
    tau_u: float = Field(gt=0, le=1)
    hit: Share
    step_seconds: float = Field(gt=0)
    machine: dict[str, Any]
    passes: tuple[PassTime, ...] = Field(min_length=2)
    answers: tuple[AnswerTrace, ...] = Field(min_length=1)

    @property
    def tokens(self) -> int:
        return sum(len(a.u) for a in self.answers)

    def pass_line(self) -> tuple[float, float, float]:
        """Least squares ``seconds = a + b * sessions + c * sessions * span`` over the measured passes, no term below zero."""
        rows = np.array([[1.0, p.sessions, p.sessions * p.span] for p in self.passes])
        seconds = np.array([p.seconds for p in self.passes])
        keep = [0, 1, 2]
        while True:
            found: Floats = np.linalg.lstsq(rows[:, keep], seconds, rcond=None)[0]
            if (found >= 0.0).all() or len(keep) == 1:
                break
            keep.pop(int(found.argmin()))
        out = np.zeros(3)
        out[keep] = np.maximum(found, 0.0)
        return float(out[0]), float(out[1]), float(out[2])


def load(wanted: str = DEFAULT) -> Profile:
    """``wanted``: a name among those that come along, or a JSON file. Raises ``ProfileError``."""
    path = Path(wanted) if wanted.endswith(".json") else FOLDER / f"{wanted}.json"
    try:
        return Profile.model_validate_json(path.read_bytes())
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.json")))
        raise ProfileError(f"{path} cannot be read ({error.strerror}): choose one of {known}, or name a JSON file") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise ProfileError(f"{path} is no profile ({where}: {first['msg']}); `sluice bench profile` makes one") from error
