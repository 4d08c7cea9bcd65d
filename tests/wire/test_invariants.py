"""What holds whatever is delivered twice, late, out of turn or to two verifiers: DESIGN section 4, invariants 1 to 5 and 11."""

from __future__ import annotations

import asyncio
from typing import Any

from services.common import keys
from services.common.messages import CandidateBatch, Status, Verdict
from services.verifier.origin import Origin
from services.verifier.store import Stored
from tests.wire.pool import Device, Verifier, greedy

SPAN = greedy(9, 8)


async def test_a_round_costs_one_round_trip_once_its_session_is_known(a: Verifier, device: Device) -> None:
    assert await a.take(device.record(device.opening())) is None
    for number in range(2):  # the first one teaches the server the script
        before = await _commands(device)
        assert await a.take(device.record(device.batch(SPAN, round_=number))) is None
        after = await _commands(device)
        verdict = await device.verdict()
        expected = device.expected(SPAN, number)
        assert (verdict.status, verdict.kept, verdict.token) == (Status.OK, expected.kept, expected.token)
        device.commit(verdict, SPAN)
    used = {name: after[name] - before.get(name, 0) for name in after if name not in ("info", "ping")}
    inside = {"get": 1, "hmget": 1, "set": 1, "hset": 1, "hsetnx": 1, "pexpire": 2, "xadd": 1}
    assert {name: count for name, count in used.items() if count} == {"evalsha": 1, **inside}


async def test_a_redelivery_gets_the_stored_verdict_and_a_replay_is_set_aside_too(
    a: Verifier, b: Verifier, device: Device
) -> None:
    opening, round_ = device.record(device.opening()), device.record(device.batch(SPAN))
    for record in (opening, round_):
        assert await a.take(record) is None
    first = await device.verdict()
    for verifier in (a, b):  # the same one, and the next owner of the partition
        for record in (opening, round_):
            assert await verifier.take(record) is None
        assert await device.verdict() == first
    assert b.passes == 0, "the stored verdict costs no pass"
    later = device.record(round_.value)
    assert "replayed" in str(await b.take(later))
    assert await device.verdict() == first
    assert "replayed" in str(await b.take(device.record(opening.value)))
    assert await device.verdicts() == []
    resent = device.record(device.batch(SPAN, attempt=1))
    assert await b.take(resent) is None, "an honest device asks again with its next attempt"
    assert await device.verdict() == first.model_copy(update={"attempt": 1})
    device.commit(first, SPAN)
    assert await b.take(device.record(device.batch(round_=1))) is None
    assert (await device.verdict()).token == device.expected(round_=1).token


async def test_a_whole_session_delivered_again_after_it_has_gone_on(a: Verifier, b: Verifier, device: Device) -> None:
    records = [device.record(device.opening())]
    given = []
    for number in range(3):
        records.append(device.record(device.batch(SPAN, round_=number)))
        for record in records[-2 if number == 0 else -1 :]:
            assert await a.take(record) is None
        given.append(await device.verdict())
        device.commit(given[-1], SPAN)
    for record in records:
        assert await b.take(record) is None
    assert await device.verdicts() == given
    assert b.passes == 0
    assert await b.take(device.record(device.batch(round_=3))) is None
    assert (await device.verdict()).token == device.expected(round_=3).token


async def test_a_stale_base_and_a_gap_are_told_and_mended_by_opening_again(a: Verifier, device: Device) -> None:
    await a.take(device.record(device.opening()))
    device.ids.append(50)  # the device has gone on by itself
    assert await a.take(device.record(device.batch(SPAN))) is None
    stale = await device.verdict()
    assert (stale.status, stale.token) == (Status.STALE_BASE, None)
    device.ids += [51, 52]  # rounds that nobody here has seen
    assert await a.take(device.record(device.batch(SPAN, round_=4))) is None
    assert (await device.verdict()).status is Status.STALE_BASE
    assert await a.take(device.record(device.opening(generation=1))) is None
    assert await a.take(device.record(device.batch(SPAN, round_=4, attempt=1))) is None
    mended = await device.verdict()
    assert (mended.status, mended.token) == (Status.OK, device.expected(SPAN, 4).token)


async def test_a_lost_context_is_told_and_mended_by_sending_all_ids(a: Verifier, b: Verifier, device: Device) -> None:
    await a.take(device.record(device.opening()))
    await a.take(device.record(device.batch(SPAN)))
    device.commit(await device.verdict(), SPAN)
    await device.redis.delete(keys.context(device.worker, device.session))
    assert await b.take(device.record(device.batch(round_=1))) is None
    assert (await device.verdict()).status is Status.CONTEXT_LOST
    assert await b.take(device.record(device.opening(generation=1))) is None
    assert await b.take(device.record(device.batch(round_=1, attempt=1))) is None
    assert (await device.verdict()).token == device.expected(round_=1).token


async def test_the_verifier_that_holds_a_session_mends_a_redis_that_lost_it(a: Verifier, b: Verifier, device: Device) -> None:
    await a.take(device.record(device.opening()))
    await device.redis.delete(keys.context(device.worker, device.session))
    await a.take(device.record(device.batch(SPAN)))
    device.commit(await device.verdict(), SPAN)
    assert await b.take(device.record(device.batch(round_=1))) is None
    assert (await device.verdict()).token == device.expected(round_=1).token


async def test_two_verifiers_with_one_message_give_one_verdict(a: Verifier, b: Verifier, device: Device) -> None:
    opening = device.record(device.opening())
    await a.take(opening)
    await a.take(device.record(device.batch(SPAN)))
    device.commit(await device.verdict(), SPAN)
    second = device.record(device.batch(SPAN, round_=1))
    assert set(await asyncio.gather(a.take(second), b.take(second))) == {None}
    one, other = await device.verdicts()
    strip = {"queue_seconds": 0.0, "verify_seconds": 0.0}
    assert one.model_copy(update=strip) == other.model_copy(update=strip)
    assert a.count("sluice_lost_races_total") + b.count("sluice_lost_races_total") <= 1
    device.commit(one, SPAN)
    for verifier, number in ((a, 2), (b, 3)):
        assert await verifier.take(device.record(device.batch(SPAN, round_=number))) is None
        verdict = await device.verdict()
        assert verdict.token == device.expected(SPAN, number).token
        device.commit(verdict, SPAN)


async def test_a_verifier_that_lost_the_race_goes_on_from_the_verdict_that_stands(a: Verifier, device: Device) -> None:
    """The one that stands was given by a target of another revision: slot and context follow it, and Redis is not touched."""
    opening = device.opening()
    await a.take(device.record(opening))
    known = (await a.store.find(device.worker, device.session, 0)).context
    assert known is not None
    ours = device.expected(SPAN)
    token = (ours.token or 0) + 1
    after = known.after([], token)
    theirs = device.batch(SPAN)
    winner = Stored(_ok(theirs, after.ids, after.digest, token), Origin(0, 102))
    await a.store.settle(device.worker, winner.verdict, known.digest, after, winner.origin)
    assert await device.verdict() == winner.verdict
    a.handler._contexts[device.session + device.signer_tag] = known  # it had read the context before
    assert await a.take(device.record(theirs, origin=winner.origin)) is None
    assert await device.verdict() == winner.verdict
    assert a.count("sluice_lost_races_total") == 1
    device.commit(winner.verdict, SPAN)
    assert (await a.store.find(device.worker, device.session, 0)).context == after
    assert await a.take(device.record(device.batch(SPAN, round_=1))) is None
    assert (await device.verdict()).token == device.expected(SPAN, 1).token
    assert a.slots.valid(device.session + device.signer_tag, device.ids) == len(device.ids), (
        "its slot was rolled back, not emptied"
    )


async def test_a_zombie_changes_nothing(a: Verifier, b: Verifier, device: Device) -> None:
    """``a`` was cut off when its partition moved: it still judges what it had read, after ``b`` has gone on."""
    await a.take(device.record(device.opening()))
    first = device.record(device.batch(SPAN))
    assert await b.take(first) is None
    verdict = await device.verdict()
    device.commit(verdict, SPAN)
    assert await b.take(device.record(device.batch(SPAN, round_=1))) is None
    device.commit(await device.verdict(), SPAN)
    before = await a.store.find(device.worker, device.session, 0)
    assert await a.take(first) is None
    assert await device.verdict() == verdict, "the stored one, which the device drops"
    assert await a.store.find(device.worker, device.session, 0) == before
    assert await a.take(device.record(device.batch(SPAN, round_=2))) is None, "the partition came back to it"
    assert (await device.verdict()).token == device.expected(SPAN, 2).token


async def test_a_round_that_was_given_up_does_not_turn_its_session_back(a: Verifier, b: Verifier, device: Device) -> None:
    """The device degraded round 0 and opened again on a longer base; only then ``a`` comes to judge round 0."""
    await a.take(device.record(device.opening()))
    slow = device.record(device.batch(SPAN))
    device.ids += [9, 8]
    await b.take(device.record(device.opening(generation=1)))
    assert await a.take(slow) is None
    assert (await device.verdict()).status is Status.STALE_BASE
    assert await b.take(device.record(device.batch(SPAN, round_=1))) is None
    verdict = await device.verdict()
    assert (verdict.status, verdict.token) == (Status.OK, device.expected(SPAN, 1).token)


async def test_a_cancelled_session_is_closed_for_good(a: Verifier, b: Verifier, device: Device) -> None:
    opening, round_ = device.record(device.opening()), device.record(device.batch(SPAN))
    await a.take(opening)
    await a.take(round_)
    await b.take(device.record(device.batch(SPAN, round_=1)))  # knows the session now, but not that it will end
    await device.verdicts()
    cancel = device.record(device.cancel())
    assert await a.take(cancel) is None
    for record in (opening, round_, cancel):
        assert await b.take(record) is None, "delivered again"
    assert await device.redis.hget(keys.context(device.worker, device.session), "ids") is None
    for message in (device.opening(generation=3), device.cancel()):
        assert await b.take(device.record(message)) == "the session is closed"
    late = device.record(device.batch(greedy(1), round_=7))
    await device.verdicts()
    assert await a.take(late) == "the session is closed"
    refused = await device.verdict()
    assert (refused.status, refused.reason) == (Status.INVALID, "the session is closed")


async def test_a_verdict_that_comes_after_the_cancellation_is_not_stored(a: Verifier, b: Verifier, device: Device) -> None:
    await a.take(device.record(device.opening()))
    round_ = device.record(device.batch(SPAN))
    await b.take(device.record(device.cancel()))
    assert await a.take(round_) is None, "it was sent before the end: nobody is to blame"
    assert (await device.verdict()).status is Status.INVALID
    assert not await device.redis.exists(keys.verdict(device.worker, device.session, 0))


def _ok(message: CandidateBatch, ids: list[int], digest: bytes, token: int) -> Verdict:
    return Verdict(
        session=message.session, round=message.round, token=token, corrected=True, base_length=len(ids), base_digest=digest
    )


async def _commands(device: Device) -> dict[str, int]:
    redis: Any = device.redis
    nodes = redis.get_primaries() if hasattr(redis, "get_primaries") else [None]
    calls: dict[str, int] = {}
    for node in nodes:
        info = await (redis.info("commandstats", target_nodes=node) if node is not None else redis.info("commandstats"))
        info = next(iter(info.values())) if node is not None and not any(k.startswith("cmdstat_") for k in info) else info
        for name, stats in info.items():
            name = name.removeprefix("cmdstat_")
            calls[name] = calls.get(name, 0) + int(stats["calls"])
    return calls
