"""Whether a service has started, is ready and still gets on, and why not. Pure: no I/O; may be asked from any thread."""

from __future__ import annotations

from collections.abc import Callable

Stalled = Callable[[], float]  # seconds without progress although there is work; 0 where there is none


class Health:
    """``limit_seconds``: a part that makes no progress for longer, although it has work, needs a restart.

    ``conditions`` are what readiness waits for: the service is ready when each one is true. ``reasons`` says of a condition
    why it is not.
    """

    def __init__(self, limit_seconds: float = 30.0) -> None:
        self.limit_seconds = limit_seconds
        self.conditions: dict[str, bool] = {}
        self.reasons: dict[str, str] = {}
        self.notes: dict[str, bool] = {}  # told beside the conditions; readiness does not wait for them
        self._watches: dict[str, tuple[Stalled, Callable[[], str]]] = {}

    @property
    def started(self) -> bool:
        """Whether the model is loaded; a service without one has started once it can be asked."""
        return self.conditions.get("model", True)

    @property
    def ready(self) -> bool:
        conditions = dict(self.conditions)
        return bool(conditions) and all(conditions.values())

    def readiness(self) -> dict[str, object]:
        """``ready``, each of ``conditions``, ``reasons`` for those that do not hold, and ``notes``."""
        conditions, notes = dict(self.conditions), dict(self.notes)
        down = {name for name, good in (conditions | notes).items() if not good}
        ready = bool(conditions) and all(conditions.values())
        reasons = {name: why for name, why in dict(self.reasons).items() if name in down}
        return {"ready": ready, "conditions": conditions, "reasons": reasons, "notes": notes}

    def watch(self, name: str, stalled: Stalled, where: Callable[[], str] = str) -> None:
        """Watch the progress of a part; ``where`` says, once it is stuck, what it is at."""
        self._watches[name] = (stalled, where)

    def unwatch(self, name: str) -> None:
        self._watches.pop(name, None)

    def causes(self) -> dict[str, str]:
        """The parts that are stuck, each with one line about it; empty while the service lives."""
        found = {}
        for name, (stalled, where) in list(self._watches.items()):
            seconds = stalled()
            if seconds > self.limit_seconds:
                at = where()
                found[name] = f"no progress for {seconds:.0f} s although there is work" + (f": {at}" if at else "")
        return found
