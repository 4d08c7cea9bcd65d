"""The failure table of DESIGN section 6, small: `make chaos` runs the same scenarios at full scale.

``site``: on Apache Kafka and on the embedded broker; ``apache_site``: what the embedded one cannot do or has no part in.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
import structlog

from tests.chaos import expectations, hostile, kills, outages, scaling, soak
from tests.chaos.scale import SMALL
from tests.chaos.site import Site

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Outages are meant here: no log lines of theirs."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


async def test_kills_in_mid_batch_change_no_token(site: Site) -> None:
    # A kill costs the embedded broker's long session timeout.
    scale = replace(SMALL.kills, kills=1, sessions=10) if site.broker.embedded else SMALL.kills
    figures = await kills.run(site, scale)
    print(figures)  # noqa: T201
    assert expectations.kills(figures) == []


async def test_kills_at_the_production_deadline_lose_and_repeat_nothing(apache_site: Site) -> None:
    scale = SMALL.production_kills
    figures = await kills.run(apache_site, scale)
    print(figures)  # noqa: T201
    assert expectations.kills(figures) == []


async def test_sigterm_under_load_answers_everything_once(apache_site: Site) -> None:
    figures = await scaling.terminations(apache_site, SMALL.terminations)
    print(figures)  # noqa: T201
    assert expectations.terminations(figures) == []


async def test_scaling_up_and_down_under_load_is_not_noticed(apache_site: Site) -> None:
    figures = await scaling.up_and_down(apache_site, SMALL.up_and_down)
    print(figures)  # noqa: T201
    assert expectations.terminations(figures) == []


@pytest.mark.parametrize("what", ["broker_stopped", "redis_stopped", "redis_emptied", "redis_promoted"])
async def test_an_outage_leaves_marked_tokens_and_passes(apache_site: Site, what: str) -> None:
    figures = await outages.ALL[what](apache_site, SMALL.outage)
    print(figures)  # noqa: T201
    assert expectations.outage(figures) == []


async def test_a_frozen_embedded_broker_is_an_outage_too(embedded_site: Site) -> None:
    figures = await outages.broker_frozen(embedded_site, SMALL.outage)
    print(figures)  # noqa: T201
    assert expectations.outage(figures) == []


async def test_hostile_messages_become_dead_letters_and_nothing_else(site: Site) -> None:
    figures = await hostile.run(site, SMALL.hostile)
    print(figures)  # noqa: T201
    assert expectations.hostile(figures) == []


async def test_a_soak_leaks_nothing(apache_site: Site) -> None:
    figures = await soak.run(apache_site, SMALL.soak)
    print(figures)  # noqa: T201
    assert expectations.soak(figures) == []
