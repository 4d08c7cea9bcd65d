"""How methods are written: ``NAME[:SIGNAL][:IMPORTANCE][@VALUE[/QUANTILE]]``. Pure.

``u-hlm:entropy@0.4``, ``ui-hlm:binding@0.3``, ``ui-hlm:margin:received@0.3/0.7``, ``i-hlm:received@0.6``. A label in canonical
form is the key of recorded answers, so one method has one label: the signal before the importance, numbers without idle digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from services.common.calibration.predictor import NAME
from services.edge_worker.signals import Importance, Signal

PREDICTED = NAME  # the score of a calibration file
SIGNALS = (*Signal, PREDICTED)
IMPORTANCES = tuple(i for i in Importance if i is not Importance.NONE)
_ANY = "*"


class MethodError(ValueError):
    """``str`` is one line that says what to choose."""


@dataclass(frozen=True)
class Label:
    """``signal`` and ``importance`` are empty, ``value`` and ``quantile`` ``None``, where the text names none."""

    name: str
    signal: str = ""
    importance: str = ""
    value: float | None = None
    quantile: float | None = None

    def __str__(self) -> str:
        return self._with("" if self.value is None else f"{self.value:.12g}")

    @property
    def family(self) -> str:
        """The same for labels that differ in nothing but the value: the points of one curve."""
        return self._with(_ANY) if self.quantile is not None else str(replace(self, value=None))

    def _with(self, value: str) -> str:
        kinds = "".join(f":{kind}" for kind in (self.signal, self.importance) if kind)
        behind = "" if self.quantile is None else f"/{self.quantile:.12g}"
        return f"{self.name}{kinds}" + (f"@{value}{behind}" if value else "")


def read(text: str) -> Label:
    """Raises ``MethodError``. Whether the method takes what is named is not looked at."""
    front, at, behind = text.partition("@")
    name, *kinds = front.split(":")
    value, slash, quantile = behind.partition("/")
    found = Label(name, value=_number(text, value) if at else None, quantile=_number(text, quantile) if slash else None)
    for kind in kinds:
        if kind in SIGNALS and not found.signal:
            found = replace(found, signal=kind)
        elif kind in IMPORTANCES and not found.importance:
            found = replace(found, importance=kind)
        else:
            known = ", ".join((*SIGNALS, *IMPORTANCES))
            raise MethodError(f"{text}: behind a colon belongs one signal, one importance or both: {known}")
    return found


def _number(text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise MethodError(f"{text}: a number belongs behind the @")
    return value + 0.0  # no negative zero
