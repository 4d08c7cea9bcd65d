"""Reads the controller's inputs from Prometheus by instant queries over HTTP. An input that is not there stays out."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import httpx
import numpy as np

from services.common.catalogue.edge import SCORE_EDGES
from services.common.policy_record import CLASS_PATTERN, MOST_CLASSES
from services.common.rng import Floats
from services.policy import queries
from services.policy.inputs import ClassInputs, Inputs, Reading, Scores
from services.policy.queries import Fleet, Windows

NEVER = math.inf  # age of what has no time
MOST_LEFT_OUT = 500  # edges: their names are part of every query
Name = TypeVar("Name")


class CollectError(RuntimeError):
    """Prometheus did not answer; ``str`` is one line that says why, ``cause`` the label it is counted under."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True)
class Series:
    """One sample of an answer."""

    labels: Mapping[str, str]
    value: float


class Source(Protocol):
    """Whoever answers instant queries."""

    async def query(self, promql: str) -> list[Series]:
        """Raises ``CollectError``."""
        ...


class Prometheus:
    """``url``: of the server, without ``/api``. ``token``: sent as bearer, if there is one. ``transport``: instead of the
    network's."""

    def __init__(
        self, url: str, timeout_seconds: float, token: str = "", transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        address = url.rstrip("/")
        self._client = httpx.AsyncClient(base_url=address, timeout=timeout_seconds, headers=headers, transport=transport)

    async def close(self) -> None:
        await self._client.aclose()

    async def query(self, promql: str) -> list[Series]:
        try:
            answer = await self._client.post("/api/v1/query", data={"query": promql})
            body = answer.json()
        except httpx.TimeoutException as error:
            raise CollectError("timeout", f"Prometheus took too long: {type(error).__name__}") from error
        except (httpx.HTTPError, ValueError) as error:
            raise CollectError("unreachable", f"Prometheus cannot be read: {type(error).__name__} {error}") from error
        if answer.status_code != httpx.codes.OK or not isinstance(body, dict) or body.get("status") != "success":
            why = body.get("error", "") if isinstance(body, dict) else ""
            raise CollectError("refused", f"Prometheus refused a query with {answer.status_code}: {str(why)[:200]}")
        return _series(body)


def _series(body: dict[str, Any]) -> list[Series]:
    """Samples of a vector; whatever is not one is left out."""
    data = body.get("data")
    rows = data.get("result", []) if isinstance(data, dict) and data.get("resultType") == "vector" else []
    found = []
    for row in rows:
        try:
            found.append(Series({str(k): str(v) for k, v in row["metric"].items()}, float(row["value"][1])))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            continue
    return found


class Collector:
    """Asks twice: whom to leave out, then the rest for its inputs. All queries of a turn go at once; one that fails fails the
    collection, so that a decision never rests on half of it. ``damage_budget``: see ``queries.DAMAGE_TIMES``."""

    def __init__(self, source: Source, windows: Windows, fleet: Fleet, damage_budget: float) -> None:
        self._source, self._windows, self._fleet = source, windows, fleet
        self._budget = damage_budget

    async def collect(self, now: float) -> Inputs:
        """``now``: of the controller's clock. Raises ``CollectError``."""
        fleet, strange, cap = await self._trusted()
        wanted = {
            **{("class", name): text for name, text in queries.of_class(fleet, cap).items()},
            **{("pool", name): text for name, text in queries.of_pool(fleet).items()},
            **{("score", name): text for name, text in queries.scores(fleet).items()},
            ("age", "class"): queries.age_of_class(fleet),
            ("age", "pool"): queries.age_of_pool(fleet),
        }
        return replace(assemble(now, await self._ask(wanted)), left_out=strange)

    async def _trusted(self) -> tuple[Fleet, dict[str, str], float]:
        """The fleet without the edges that do not count, these with what they say too much of, and the largest damage of one
        edge that counts."""
        damage = "typical damage"
        found = await self._ask({**queries.left_out(self._fleet), damage: queries.typical_damage(self._fleet)})
        typical = [s.value for s in found.pop(damage) if 0.0 <= s.value <= 1.0]
        strange: dict[str, str] = {}
        for what, series in found.items():
            for s in series:
                strange.setdefault(s.labels.get("instance", ""), what)
        if len(strange) > MOST_LEFT_OUT:
            raise CollectError(
                "strange", f"{len(strange)} edges say what no edge can: {', '.join(sorted(set(strange.values())))}"
            )
        fleet = replace(self._fleet, left_out=tuple(sorted(strange)))
        return fleet, strange, min(1.0, queries.DAMAGE_TIMES * max([self._budget, *typical]))

    async def _ask(self, wanted: Mapping[Name, str]) -> dict[Name, list[Series]]:
        answers = await asyncio.gather(*(self._source.query(self._windows.fill(text)) for text in wanted.values()))
        return dict(zip(wanted, answers, strict=True))


def assemble(now: float, found: Mapping[tuple[str, str], list[Series]]) -> Inputs:
    """Pure: samples by what they are of, to inputs."""
    pool_age = next((s.value for s in found["age", "pool"]), NEVER)
    ages = {s.labels.get("device_class", ""): s.value for s in found["age", "class"]}
    pool = {
        name: Reading(series[0].value, pool_age)
        for (kind, name), series in found.items()
        if kind == "pool" and len(series) == 1
    }
    readings: dict[str, dict[str, Reading]] = {}
    for (kind, name), series in found.items():
        for s in series if kind == "class" else ():
            label = s.labels.get("device_class", "")
            if re.fullmatch(CLASS_PATTERN, label):
                readings.setdefault(label, {})[name] = Reading(s.value, ages.get(label, NEVER))
    classes = {
        label: ClassInputs(own, _scores(label, found, own, ages.get(label, NEVER)))
        for label, own in sorted(readings.items())[:MOST_CLASSES]
    }
    return Inputs(now, pool, classes)


def _scores(label: str, found: Mapping[tuple[str, str], list[Series]], own: Mapping[str, Reading], age: float) -> Scores | None:
    """The histogram's buckets are the bins, those of the catalogue alone: an edge with others of its own must not cut them up.
    Counts by score that fit none of them are left out. Audits add up to no more than the damage, which is clipped by edge."""
    buckets = _by_edge([s for s in found["score", "drafted"] if s.labels.get("device_class") == label], "le")
    known = [edge for edge in SCORE_EDGES[1:] if edge in buckets]
    if len(known) < 2:
        return None
    cumulative = np.maximum.accumulate([buckets[edge] for edge in known])
    rows: dict[str, Floats] = {"drafted": np.diff(cumulative, prepend=0.0)}
    for name in ("audited", "audit", "judged", "refused"):
        by_edge = _by_edge([s for s in found["score", name] if s.labels.get("device_class") == label], "score")
        rows[name] = np.array([by_edge.get(edge, 0.0) for edge in known])
    if "damage_mean" in own and "tokens_per_second" in own:
        clipped, total = own["damage_mean"].value * own["tokens_per_second"].value, float(rows["audit"].sum())
        rows["audit"] *= min(1.0, clipped / total) if total > 0.0 and clipped >= 0.0 else 1.0
    rows["audit"] = np.minimum(rows["audit"], rows["audited"])
    rows["refused"] = np.minimum(rows["refused"], rows["judged"])
    return Scores(edges=np.array([0.0, *known]), age_seconds=age, **rows)


def _by_edge(series: list[Series], label: str) -> dict[float, float]:
    out: dict[float, float] = {}
    for s in series:
        try:
            out[float(s.labels[label])] = s.value
        except (KeyError, ValueError):
            continue
    return out
