"""Thousands of hostile messages beside good traffic: each becomes a dead letter with its reason, and nobody else notices."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from typing import Any
from unittest import mock

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from services.common import keys
from services.common.messages import MessageError, Open, Verdict, decode
from tests.chaos.evidence import DeadLetter, behind, dead_letters
from tests.chaos.fleet import Fleet, Habits
from tests.chaos.junk import KINDS, REVOKED, Junk, Mallory, Noise, oversized, random_messages, unsigned_or_signed
from tests.chaos.scaling import endless
from tests.chaos.site import Site

DEVICES = 6
VERIFIERS = 2
DEADLINE_SECONDS = 2.0
DRAFT_SECONDS = 0.05
ANSWERS = 12
HOUR = 3600.0
KEPT_BYTES = 16 * 1024  # of an original, in its dead letter
LETTERS_SECONDS = 60.0
ROUNDS_OF_A_SESSION = 40


@dataclass(frozen=True)
class HostileScale:
    """``messages``: hostile ones, ``per_second`` at most. ``large``: how many of them are oversized."""

    messages: int
    per_second: float
    large: int
    seed: int = 4


@dataclass
class HostileFigures:
    """``unexpected``: what is wrong with the dead letters, a line each. ``good_*``: the traffic beside."""

    messages: int
    kinds: dict[str, int]
    dead_letters: int
    without_letter: int
    unexpected: list[str]
    good_answers: int
    good_failed: int
    good_unverified_share: float
    clock_offsets_hours: list[float]
    consumer_crashes: int
    stalled_partitions: list[int]
    seconds: float


async def run(site: Site, scale: HostileScale) -> HostileFigures:
    """Good devices, some with clocks an hour off, beside a flood of junk."""
    clock = asyncio.get_running_loop().time
    begun = clock()
    noise = random_messages(scale.seed, scale.messages // 4)  # seconds of work, so before anybody waits for this loop
    before = {(d.partition, d.offset) for d in await dead_letters(site.broker.bootstrap)}
    # The embedded broker keeps the sender's clock: it is for one machine, which has one clock.
    offsets = [] if site.broker.embedded else [HOUR, -HOUR]
    async with (
        site.pool(REVOKED=REVOKED, WORKER_TOKENS_PER_SECOND=0, TENANT_TOKENS_PER_SECOND=0) as pool,
        site.fleet("good", DEVICES, Habits(deadline=DEADLINE_SECONDS, draft=DRAFT_SECONDS)) as fleet,
        Topic(site.broker.bootstrap) as topic,
    ):
        await pool.grow(VERIFIERS)
        with clocks_off({d.name: offset for d, offset in zip(fleet.devices, offsets, strict=False)}):
            load = asyncio.create_task(fleet.keep_writing(ANSWERS, endless(24, scale.seed)))
            sent = await _flood(topic, fleet, scale, site, noise)
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)
            await fleet.finish()
        late = await behind(site.broker.bootstrap)
        letters = [d for d in await _letters(site, len(sent)) if (d.partition, d.offset) not in before]
        crashes = pool.count_crashes()
    return HostileFigures(
        messages=len(sent),
        kinds=dict(Counter(j.kind for j in sent.values())),
        dead_letters=len(letters),
        without_letter=len(sent.keys() - {(d.partition, d.offset) for d in letters}),
        unexpected=_unexpected(sent, letters),
        good_answers=len(fleet.written),
        good_failed=sum(not w.complete for w in fleet.written),
        good_unverified_share=fleet.unverified_share,
        clock_offsets_hours=[offset / HOUR for offset in offsets],
        consumer_crashes=crashes,
        stalled_partitions=late,
        seconds=clock() - begun,
    )


Place = tuple[int, int]  # partition and offset


class Topic:
    """The candidates as an attacker sees them: reads what all others write, writes what it likes."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=1 << 20, linger_ms=0)
        self._consumer = AIOKafkaConsumer(keys.CANDIDATES_TOPIC, bootstrap_servers=bootstrap, fetch_max_wait_ms=50)

    async def __aenter__(self) -> Topic:
        await self._producer.start()
        await self._consumer.start()
        await self._consumer.seek_to_end()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()
        await self._consumer.stop()

    async def write(self, junk: Junk) -> Place:
        about = await self._producer.send_and_wait(keys.CANDIDATES_TOPIC, junk.value, key=junk.key, headers=junk.headers)
        return about.partition, about.offset

    async def others(self) -> list[Any]:
        """Records since the last call."""
        batches = await self._consumer.getmany(timeout_ms=100, max_records=200)
        return [record for records in batches.values() for record in records]


async def _flood(topic: Topic, fleet: Fleet, scale: HostileScale, site: Site, noise: list[Noise]) -> dict[Place, Junk]:
    draw = random.Random(scale.seed)
    sent: dict[Place, Junk] = {}
    loop = asyncio.get_running_loop()
    begun, clean = loop.time(), 0
    names = {d.name for d in fleet.devices}
    stolen: list[Junk] = []
    for n, (junk, honest) in enumerate(_mixture(draw, scale.large, iter(noise))):
        if n % 100 == 0:
            stolen += _steal(await topic.others(), names, draw)
        if n % 8 == 7 and stolen:
            junk = stolen.pop(0)
            honest = False
        place = await topic.write(junk)
        if honest:
            clean += 1
        else:
            sent[place] = junk
        if len(sent) >= scale.messages:
            break
        if n % 2000 == 1999:
            site.say(f"{len(sent)} of {scale.messages} hostile messages, {len(fleet.written)} good answers")
        await asyncio.sleep(max(0.0, begun + n / scale.per_second - loop.time()))
    return sent


def _mixture(draw: random.Random, oversized_ones: int, noise: Iterator[Noise]) -> Iterator[tuple[Junk, bool]]:
    """Messages without end, and whether they are honest: an attacker must open sessions before it can abuse them."""
    large = 0
    for number in count():
        m = Mallory(draw, f"mallory{number % 5}")
        yield m.signed("opening", m.opening(), ""), True
        kinds = [junk for kind in KINDS for junk in kind(m)]
        if large < oversized_ones:
            kinds += oversized(m)
            large += 2
        kinds += [unsigned_or_signed(m, *item) for item in islice(noise, 12)]
        draw.shuffle(kinds)
        for junk in kinds:
            yield junk, False


def _steal(records: list[Any], good: set[str], draw: random.Random) -> list[Junk]:
    """Messages of good devices played back as they were, and the same as another worker signs them."""
    found = []
    for record in records:
        headers = [(name, bytes(value)) for name, value in record.headers]
        if not any(name.encode() in value for _, value in headers for name in good):
            continue
        try:
            message = decode(record.value)
        except MessageError:
            continue
        if isinstance(message, Open) or draw.random() < 0.1:
            found.append(Junk("replayed", record.key, record.value, headers, "replayed|closed"))
        if not isinstance(message, Verdict) and draw.random() < 0.1:
            thief = Mallory(draw, "thief")
            found.append(thief.signed("another's session", message, "another"))
    return found


async def _letters(site: Site, least: int) -> list[DeadLetter]:
    """All dead letters, once there are at least this many, or no more come."""
    loop = asyncio.get_running_loop()
    end = loop.time() + LETTERS_SECONDS
    letters = await dead_letters(site.broker.bootstrap)
    while len(letters) < least and loop.time() < end:
        await asyncio.sleep(0.5)
        more = await dead_letters(site.broker.bootstrap)
        if len(more) == len(letters):
            break
        letters = more
    return letters


def _unexpected(sent: Mapping[Place, Junk], letters: list[DeadLetter]) -> list[str]:
    wrong = []
    seen: Counter[Place] = Counter()
    for letter in letters:
        place = letter.partition, letter.offset
        seen[place] += 1
        junk = sent.get(place)
        if junk is None:
            wrong.append(f"a good message was set aside: {letter.reason}")
        elif not letter.reason or not re.search(junk.reason, letter.reason):
            wrong.append(f"{junk.kind}: {letter.reason!r} instead of {junk.reason!r}")
        elif letter.value != junk.value[:KEPT_BYTES]:
            wrong.append(f"{junk.kind}: not the original bytes")
    wrong += [f"{sent[place].kind}: {n} letters for one message" for place, n in seen.items() if n > 1 and place in sent]
    wrong += [f"{junk.kind}: no dead letter ({junk.reason})" for place, junk in sent.items() if place not in seen]
    return wrong


@contextmanager
def clocks_off(seconds: Mapping[str, float]) -> Iterator[None]:
    """Producers of the workers named so stamp their records by a clock that is this far ahead."""
    send = AIOKafkaProducer.send

    async def stamped(
        self: Any, topic: str, value: Any = None, key: Any = None, partition: Any = None, stamp: Any = None, headers: Any = None
    ) -> Any:
        name = str(self.client._client_id).removeprefix("sluice-edge-")
        if name in seconds:
            stamp = int((time.time() + seconds[name]) * 1000)
        return await send(self, topic, value, key, partition, stamp, headers)

    with mock.patch.object(AIOKafkaProducer, "send", stamped):
        yield
