"""Reads the controller's inputs from Prometheus by instant queries over HTTP. An input that is not there stays out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import numpy as np

from services.common.rng import Floats
from services.policy import queries
from services.policy.inputs import ClassInputs, Inputs, Reading, Scores
from services.policy.queries import Windows

NEVER = math.inf  # age of what has no time


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
    """``url``: of the server, without ``/api``. ``token``: sent as bearer, if there is one."""

    def __init__(self, url: str, timeout_seconds: float, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.AsyncClient(base_url=url.rstrip("/"), timeout=timeout_seconds, headers=headers)

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
    """All queries at once; one that fails fails the collection, so that a decision never rests on half of it."""

    def __init__(self, source: Source, windows: Windows) -> None:
        self._source, self._windows = source, windows

    async def collect(self, now: float) -> Inputs:
        """``now``: of the controller's clock. Raises ``CollectError``."""
        wanted = {
            **{("class", name): text for name, text in queries.OF_CLASS.items()},
            **{("pool", name): text for name, text in queries.OF_POOL.items()},
            **{("score", name): text for name, text in queries.SCORES.items()},
            ("age", "class"): queries.AGE_OF_CLASS,
            ("age", "pool"): queries.AGE_OF_POOL,
        }
        answers = await asyncio.gather(*(self._source.query(self._windows.fill(text)) for text in wanted.values()))
        found = dict(zip(wanted, answers, strict=True))
        return assemble(now, found)


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
            label = s.labels.get("device_class")
            if label:
                readings.setdefault(label, {})[name] = Reading(s.value, ages.get(label, NEVER))
    classes = {
        label: ClassInputs(own, _scores(label, found, ages.get(label, NEVER))) for label, own in sorted(readings.items())
    }
    return Inputs(now, pool, classes)


def _scores(label: str, found: Mapping[tuple[str, str], list[Series]], age: float) -> Scores | None:
    """The histogram's buckets are the bins; counts by score that fit none of them are left out."""
    buckets = _by_edge([s for s in found["score", "drafted"] if s.labels.get("device_class") == label], "le")
    finite = sorted(edge for edge in buckets if math.isfinite(edge))
    if len(finite) < 2:
        return None
    edges = np.array([0.0, *finite])
    cumulative = np.array([buckets[edge] for edge in finite])
    rows: dict[str, Floats] = {"drafted": np.maximum(0.0, np.diff(cumulative, prepend=0.0))}
    for name in ("audited", "audit", "judged", "refused"):
        by_edge = _by_edge([s for s in found["score", name] if s.labels.get("device_class") == label], "score")
        rows[name] = np.array([by_edge.get(edge, 0.0) for edge in finite])
    rows["audit"] = np.minimum(rows["audit"], rows["audited"])
    return Scores(edges=edges, age_seconds=age, **rows)


def _by_edge(series: list[Series], label: str) -> dict[float, float]:
    out: dict[float, float] = {}
    for s in series:
        try:
            out[float(s.labels[label])] = s.value
        except (KeyError, ValueError):
            continue
    return out
