"""What Prometheus has recorded of a run: raw samples, at the times of their scrapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from services.cli.errors import CommandError
from services.common.rng import Floats

TIMEOUT_SECONDS = 30.0
LIVE_SECONDS = 2.0


@dataclass(frozen=True)
class Raw:
    """One series. ``at``: seconds since 1970 ``[samples]``, rising."""

    name: str
    labels: Mapping[str, str]
    at: Floats
    values: Floats


class Reader:
    """Speaks to a Prometheus at ``url``; it may be away for a while."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def raw(self, names: Sequence[str], begin: float, end: float) -> list[Raw]:
        """All samples of the metrics ``names`` between two times (seconds since 1970). Raises ``CommandError``."""
        seconds = max(1, round(1000 * (end - begin)))
        selector = f'{{__name__=~"{"|".join(names)}"}}[{seconds}ms]'
        try:
            found = self._query(selector, TIMEOUT_SECONDS, time=f"{end:.3f}")
        except httpx.HTTPError as error:
            raise CommandError(f"Prometheus does not tell what it has recorded: {error}") from error
        return [_raw(row) for row in found]

    def now(self, promql: str) -> float | None:
        """The value of an instant query; ``None`` where there is none, or no Prometheus."""
        try:
            found = self._query(promql, LIVE_SECONDS)
        except httpx.HTTPError:
            return None
        value = float(found[0]["value"][1]) if found else math.nan
        return value if math.isfinite(value) else None

    def _query(self, promql: str, timeout_seconds: float, **more: str) -> list[dict[str, Any]]:
        answer = self._http.post("/api/v1/query", data={"query": promql, **more}, timeout=timeout_seconds)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found


def _raw(row: dict[str, Any]) -> Raw:
    labels = dict(row["metric"])
    pairs = np.array([(float(at), float(value)) for at, value in row["values"]])
    return Raw(labels.pop("__name__"), labels, pairs[:, 0], pairs[:, 1])
