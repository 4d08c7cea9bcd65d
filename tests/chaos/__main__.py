"""``python -m tests.chaos`` (``make chaos``): every scenario at full scale, figures into ``benchmarks/results/chaos.json``.

Ends with 1 where an expectation was not met, with 2 where Apache Kafka cannot be had.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from tests.chaos import expectations, hostile, kills, outages, real_model, scaling, soak
from tests.chaos.brokers import Apache, Embedded
from tests.chaos.children import Children
from tests.chaos.redis_node import RedisNode
from tests.chaos.results import PRODUCTION, Figures, Results, rounded
from tests.chaos.scale import FULL, SMALL, Scale
from tests.chaos.site import Site
from tests.cluster.jars import Unavailable

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "chaos.json"
F = TypeVar("F", bound=Figures)


class Programme:
    """Runs one scenario after the other and tells how it goes. ``only``: part of the names of those that are wanted."""

    def __init__(self, only: str) -> None:
        self.results = Results()
        self._only = only
        self._begun = time.monotonic()

    def say(self, line: str) -> None:
        print(f"[{time.monotonic() - self._begun:6.0f} s] {line}", flush=True)  # noqa: T201

    async def run(self, name: str, work: Callable[[], Awaitable[F]], expected: Callable[[F], list[str]]) -> None:
        if self._only not in name:
            return
        self.say(f"== {name}")
        figures = await work()
        failures = expected(figures)
        self.results.add(name, figures, failures)
        self.say(f"{rounded(figures)}")
        self.say("as expected" if not failures else f"NOT AS EXPECTED: {'; '.join(failures)}")


async def _on_apache(p: Programme, site: Site, scale: Scale) -> None:
    for name, size in (
        ("kills", scale.kills),
        (PRODUCTION, scale.production_kills),
        ("kills with a session timeout of 6 s", scale.slow_kills),
    ):
        await p.run(name, partial(kills.run, site, size), expectations.kills)
    await p.run("kills with the real pair", partial(real_model.run, site, scale.real), expectations.real_model)
    await p.run("SIGTERM under load", partial(scaling.terminations, site, scale.terminations), expectations.terminations)
    await p.run("1 -> 3 -> 1 verifiers", partial(scaling.up_and_down, site, scale.up_and_down), expectations.terminations)
    for name, scenario in outages.ALL.items():
        await p.run(name.replace("_", " "), partial(scenario, site, scale.outage), expectations.outage)
    await p.run("hostile messages", partial(hostile.run, site, scale.hostile), expectations.hostile)
    await p.run("soak", partial(soak.run, site, scale.soak), expectations.soak)


async def _on_embedded(p: Programme, site: Site) -> None:
    """What the embedded broker can do, small."""
    few = replace(SMALL.kills, kills=3, sessions=20)
    await p.run("kills, embedded broker", partial(kills.run, site, few), expectations.kills)
    await p.run("frozen embedded broker", partial(outages.broker_frozen, site, SMALL.outage), expectations.outage)
    await p.run("hostile messages, embedded broker", partial(hostile.run, site, SMALL.hostile), expectations.hostile)


async def _all(p: Programme, scale: Scale) -> None:
    with tempfile.TemporaryDirectory(prefix="sluice-chaos-") as temporary:
        folder = Path(temporary)
        with closing(Apache(folder / "kafka")) as apache, Children(folder / "apache") as children:
            await _on_apache(p, Site(children, apache, await RedisNode(children).start(), p.say), scale)
        with Children(folder / "embedded") as children:
            embedded = await Embedded(children).started()
            await _on_embedded(p, Site(children, embedded, await RedisNode(children).start(), p.say))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Break everything, and see that nothing is lost")
    parser.add_argument("--small", action="store_true", help="as few repetitions as in the tests")
    parser.add_argument("--only", default="", help="only scenarios with this in their names")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file for the figures")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # outages are meant here
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    programme = Programme(options.only)
    try:
        asyncio.run(_all(programme, SMALL if options.small else FULL))
    except Unavailable as reason:
        print(f"chaos needs Apache Kafka: {reason}", file=sys.stderr)  # noqa: T201
        return 2
    summary = programme.results.summary()
    options.output.write_text(json.dumps(summary, indent=2) + "\n")
    programme.say(f"figures are in {options.output}")
    return 1 if programme.results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
