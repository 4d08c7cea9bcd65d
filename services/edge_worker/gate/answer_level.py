"""Whether an answer asks at all. Pure: a function of the prompt's length and the drafted tokens' scores, never of time.

``UNDECIDED`` for the first tokens. A token above the threshold waits there for the decision, but no upload does: where one
falls due, the answer asks, and is then the one that it would have been without this rule. After ``decide_tokens`` a predicted
damage within the limit makes the answer ``LOCAL``: nothing is flagged. There each further token is a new look at the last
ones; a prediction above ``turn`` times the limit means that the signals turned, and the answer is ``ASKING`` for good.

More of the gate's threshold, and so more ``gamma``, flags no token more: the prediction does not depend on the threshold, the
limit rises with it, and an upload falls due no earlier. No candidate is in flight before the answer asks, so no
verdict takes back a token that a decision rests on: there is nothing to undo.
"""

from __future__ import annotations

import enum
from collections import deque

from services.common.calibration.answer_level import AnswerRule


class Stage(enum.Enum):
    """How an answer stands."""

    UNDECIDED = "undecided"
    LOCAL = "local"
    ASKING = "asking"


class AnswerLevel:
    """One answer's. ``rule`` ``None``: it asks from the start. ``threshold``: what flags a token, ``gamma * tau_u``."""

    def __init__(self, rule: AnswerRule | None, *, prompt_tokens: int = 0, threshold: float = 0.0) -> None:
        self._rule, self._prompt_tokens = rule, prompt_tokens
        self._limit = 0.0 if rule is None else rule.limit(threshold)
        self._last: deque[float] = deque(maxlen=1 if rule is None else rule.decide_tokens)
        self.stage = Stage.UNDECIDED if self._limit > 0.0 else Stage.ASKING

    def see(self, u: float) -> None:
        """The score of the next drafted token."""
        if self._rule is None or self.stage is Stage.ASKING:
            return
        self._last.append(u)
        if len(self._last) < self._rule.decide_tokens:
            return
        damage = self._rule.predict(self._prompt_tokens, self._last)
        if self.stage is Stage.UNDECIDED:
            self.stage = Stage.LOCAL if damage <= self._limit else Stage.ASKING
        elif damage > self._rule.turn * self._limit:
            self.stage = Stage.ASKING

    def ask(self) -> None:
        """An upload falls due."""
        self.stage = Stage.ASKING
