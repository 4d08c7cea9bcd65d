"""Free audits, used: one worker's answers watched for damage beyond the bound, and the gate made stricter by it.

The state belongs to this process and its device class; it begins anew at each start. Watched are the answers that the gate
decides on and, where a calibration promises something, that it promises it to: others say nothing about that promise.
"""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import CollectorRegistry

from services.common.calibration.files import NO_GUARANTEE
from services.common.drift.adaptive import MOST_GAMMA, AdaptiveBound
from services.common.drift.monitor import Monitor, Reading, State
from services.common.messages import Mode
from services.edge_worker.answer import AnswerRequest, AnswerStats
from services.edge_worker.calibration import Calibrated
from services.edge_worker.metrics import DriftMetrics
from services.edge_worker.settings import EdgeSettings


class DriftWatch:
    """``alpha``: bound on the mean damage per answer, ``None``: none is known. ``step``: of the adaptive bound, ``None``: it
    stays where it is. ``promises``: answers without a promise of the calibration are not watched.
    """

    def __init__(self, metrics: DriftMetrics, *, alpha: float | None, step: float | None, promises: bool) -> None:
        self._metrics, self._promises = metrics, promises
        self._monitor = Monitor(alpha)
        self._bound = None if alpha is None or step is None else AdaptiveBound(alpha, step)
        self._reading = self._monitor.reading()
        self._show()

    def admit(self, request: AnswerRequest, promised: str) -> AnswerRequest:
        """``request`` with the ``gamma`` that it gets: an answer keeps the bound that it started with. One that asks for a
        ``gamma`` above 1 wants no bound and gets none. ``promised``: its guarantee."""
        governed = request.mode is Mode.OPPORTUNISTIC and not request.slm_only and 0.0 < request.gamma <= MOST_GAMMA
        if not governed:
            return request
        watched = not self._promises or promised != NO_GUARANTEE
        return replace(request, gamma=min(request.gamma, self.gamma), watched=watched)

    @property
    def gamma(self) -> float:
        """The bound for new answers."""
        return MOST_GAMMA if self._bound is None else self._bound.gamma

    @property
    def reading(self) -> Reading:
        return self._reading

    @property
    def withdrawn(self) -> str:
        """Why no answer is promised anything now; empty: nothing speaks against it."""
        found = self._reading
        if found.state is not State.DRIFTED:
            return ""
        return f"drift: measured damage {found.damage:.3g} above {self._monitor.alpha:g}"

    def ended(self, request: AnswerRequest, stats: AnswerStats) -> None:
        """An answer is over. One that was broken off, or that has tokens nobody could audit, does not count."""
        complete = stats.finish_reason in ("stop", "length") and stats.total > 0 and stats.unaudited == 0
        self._metrics.answer(stats, complete=complete)
        if not complete or not request.watched:
            return
        loss = stats.audits.loss(stats.total)
        self._metrics.watched(loss, stats.damage)
        before = self._monitor.alarms
        self._monitor.add(loss)
        if self._bound is not None:
            self._bound.add(loss)
        self._metrics.alarms.inc(self._monitor.alarms - before)
        self._reading = self._monitor.reading()
        self._show()

    def _show(self) -> None:
        self._metrics.show(self._reading, self._monitor.alpha, self.gamma)


def watching(settings: EdgeSettings, calibrated: Calibrated | None, registry: CollectorRegistry) -> DriftWatch:
    """The watch of this worker, with its metrics in ``registry``."""
    return DriftWatch(
        DriftMetrics(registry, settings.device_class),
        alpha=settings.alpha if calibrated is None else calibrated.alpha,
        step=settings.adaptive_step if settings.adaptive else None,
        promises=calibrated is not None and calibrated.calibration.guaranteed,
    )
