"""The control loop: collect, decide, publish, log. One turn is ``once``; who calls it owns the clock.

Every process collects and decides; only the one that holds the lease publishes. The others take over what it publishes, so that
they go on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from services.common.outage import Link
from services.common.policy_record import OverrideRecord, PolicyRecord
from services.common.redis_client import TRANSIENT, Client
from services.common.tracing import Tracer, Untraced
from services.policy import publisher as publishing
from services.policy.collector import CollectError
from services.policy.controller import Controller
from services.policy.decision import Decision, Override
from services.policy.inputs import Inputs
from services.policy.journal import DecisionLog
from services.policy.metrics import PolicyMetrics
from services.policy.publisher import Publisher
from services.policy.tracing import TurnTrace

MOST_TOLD = 10  # edges in one line of the log


class Collects(Protocol):
    """See ``Collector``."""

    async def collect(self, now: float) -> Inputs: ...


class Loop:
    """``wall``: seconds since 1970, for log and traces only."""

    def __init__(
        self,
        controller: Controller,
        collector: Collects,
        client: Client,
        publisher: Publisher,
        journal: DecisionLog,
        metrics: PolicyMetrics,
        links: tuple[Link, Link],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        tracer: Tracer | None = None,
    ) -> None:
        self._controller, self._collector = controller, collector
        self._client, self._publisher = client, publisher
        self._journal, self._metrics = journal, metrics
        self._prometheus, self._redis = links
        self._clock, self._wall = clock, wall
        self._tracer = tracer or Untraced()
        self._version = 0  # of the record that was last seen
        self._overrides: dict[str, Override] = {}
        self._left_out: dict[str, str] = {}
        self._beat = clock()
        self.leading = False

    def stalled(self) -> float:
        """Seconds since the last turn ended."""
        return self._clock() - self._beat

    async def once(self) -> dict[str, Decision]:
        """One turn. Never raises for a Prometheus or a Redis that is away."""
        trace = TurnTrace(self._tracer, self._wall)
        with trace.part("collect"):
            inputs = await self._collect()
        with trace.part("look"):
            await self._look()
        with trace.part("decide"):
            self._controller.observe(inputs)
            decisions = self._controller.decide(self._clock(), self._overrides)
        trace.decided(decisions.values())
        for decision in decisions.values():
            self._metrics.decided(decision)
        if self.leading:
            with trace.part("publish"):
                await self._publish(decisions)
        self._metrics.leading.set(self.leading)
        trace.end(leading=self.leading, version=self._version)
        self._beat = self._clock()
        return decisions

    async def _collect(self) -> Inputs:
        now = self._clock()
        try:
            with self._metrics.collect.time():
                inputs = await self._collector.collect(now)
        except CollectError as error:
            self._metrics.collect_failures.labels(error.cause).inc()
            self._prometheus.bad(str(error))
            return Inputs(self._clock())
        self._prometheus.good()
        self._tell_left_out(inputs.left_out)
        return inputs

    def _tell_left_out(self, edges: Mapping[str, str]) -> None:
        """Each edge once, until it counts again."""
        self._metrics.left_out.set(len(edges))
        new = {edge: what for edge, what in edges.items() if edge not in self._left_out}
        if new:
            some = dict(sorted(new.items())[:MOST_TOLD])
            structlog.get_logger().warning("edges left out: they say too much of something", edges=some, number=len(new))
        self._left_out = dict(edges)

    async def _look(self) -> None:
        """Take or keep the lease; learn of overrides, and of what another process has published."""
        try:
            self.leading = await self._publisher.lead()
            found = await publishing.overrides(self._client)
            record = await publishing.current(self._client)
        except TRANSIENT as error:
            self.leading = False
            self._redis.bad(error)
            return
        self._redis.good()
        now = self._clock()
        self._overrides = {name: _override(o, now) for name, o in found.items()}
        if record is not None and record.version != self._version:
            self._take_over(record, now)

    def _take_over(self, record: PolicyRecord, now: float) -> None:
        if record.version != self._publisher.version:
            for name, knobs in record.classes.items():
                self._controller.resume(name, knobs.k, knobs.gamma, now)
        self._version = record.version

    async def _publish(self, decisions: Mapping[str, Decision]) -> None:
        at = round(self._wall(), 3)
        entries: list[dict[str, Any]] = [{"at": at, **d.to_json()} for d in decisions.values()]
        try:
            self.leading = await self._publisher.publish(decisions, entries)
        except TRANSIENT as error:
            self.leading = False
            self._redis.bad(error)
            return
        if not self.leading:
            structlog.get_logger().warning("another process publishes the policy now")
            return
        self._version = self._publisher.version
        self._metrics.version.set(self._version)
        self._journal.write([{**entry, "version": self._version} for entry in entries])


def _override(record: OverrideRecord, now: float) -> Override:
    return Override(record.k, record.gamma, now + record.left_seconds, record.reason)
