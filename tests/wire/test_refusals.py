"""What verifiers refuse, and how: another's session, other versions, budgets, contexts that grow too long."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from services.common.messages import SCHEMA, MessageError, Status, encode
from services.verifier.budget import Rate
from tests import identities
from tests.wire.pool import TARGET, Device, Verifier, greedy

SPAN = greedy(9, 8)


async def test_another_workers_session_is_out_of_reach(a: Verifier, client: Any, device: Device) -> None:
    await a.take(device.record(device.opening()))
    for signer in (identities.signer("thief"), identities.signer(device.worker, tenant="other")):
        thief = Device(client, device.ids, signer)
        thief.session = device.session
        for message in (thief.batch(SPAN), thief.opening(generation=9), thief.batch(SPAN), thief.cancel()):
            assert await a.take(thief.record(message)) in ("another worker's session", "the session is closed")
        if thief.worker != device.worker:
            assert {v.status for v in await thief.verdicts()} == {Status.INVALID}
    await device.verdicts()
    assert await a.take(device.record(device.batch(SPAN))) is None
    assert (await device.verdict()).status is Status.OK


@pytest.mark.parametrize("schema", [SCHEMA - 1, SCHEMA, SCHEMA + 1])
async def test_each_version_in_reach_is_answered_in_its_own(a: Verifier, device: Device, schema: int) -> None:
    def more(value: bytes) -> bytes:
        """What a newer edge may add to the end of a message."""
        packed: bytes = msgpack.packb([*msgpack.unpackb(value), {"new": 1}, "field"])
        return packed if schema > SCHEMA else value

    assert await a.take(device.record(more(encode(device.opening(), schema)))) is None
    assert await a.take(device.record(more(encode(device.batch(SPAN), schema)))) is None
    ((verdict, version),) = await device.versions()
    assert (verdict.status, verdict.token, version) == (Status.OK, device.expected(SPAN).token, schema)
    resent = device.batch(SPAN, attempt=1)
    device.commit(verdict, SPAN)
    lost = device.batch(SPAN, round_=1, base_length=2)
    assert await a.take(device.record(more(encode(lost, schema)))) is None
    ((refused, version),) = await device.versions()
    assert (refused.status, version) == (Status.STALE_BASE, schema), "refusals too"
    assert await a.take(device.record(resent)) is None
    ((stored, version),) = await device.versions()
    assert (stored.token, version) == (verdict.token, SCHEMA), "the stored verdict too, asked for in another version"


@pytest.mark.parametrize("schema", [SCHEMA - 2, SCHEMA + 2, 255])
async def test_a_version_out_of_reach_is_refused_with_a_reason(a: Verifier, device: Device, schema: int) -> None:
    with pytest.raises(MessageError, match=f"schema {schema}; this side reads"):
        await a.take(device.record(encode(device.opening(), schema)))


async def test_budgets_are_kept_before_any_pass(client: Any) -> None:
    worker, tenant = Rate(0.001, 30), Rate(0.001, 100)
    async with Verifier(client, worker=worker, tenant=tenant) as verifier:
        first = Device(client, range(1, 21), identities.signer("greedy.one", "acme"))
        assert await verifier.take(first.record(first.opening())) is None
        assert await verifier.take(first.record(first.batch(SPAN))) is None
        first.commit(await first.verdict(), SPAN)
        passes = verifier.passes
        assert await verifier.take(first.record(first.batch(greedy(*range(1, 9)), round_=1))) is None
        over = await first.verdict()
        assert over.status is Status.OVERLOADED
        assert "worker's budget" in over.reason
        another = Device(client, range(1, 21), first.signer)
        assert await verifier.take(another.record(another.opening())) is None
        assert await verifier.take(another.record(another.batch(SPAN))) is None
        assert (await another.verdict()).status is Status.OVERLOADED, "its opening was over the budget"
        assert (verifier.passes, verifier.count("sluice_over_budget_total", scope="worker")) == (passes, 2)
        others = [Device(client, range(1, 26), identities.signer(f"greedy.{n}", "acme")) for n in range(4)]
        for other in others:
            assert await verifier.take(other.record(other.opening())) is None
        assert verifier.count("sluice_over_budget_total", scope="tenant") == 1
        stranger = Device(client, range(1, 26), identities.signer("greedy.two", "other"))
        assert await verifier.take(stranger.record(stranger.opening())) is None
        assert await verifier.take(stranger.record(stranger.batch())) is None
        assert (await stranger.verdict()).status is Status.OK


async def test_a_prefix_that_has_to_be_fed_again_is_charged(client: Any) -> None:
    async with Verifier(client, worker=Rate(0.001, 90), slots=1) as verifier:
        signer = identities.signer("dear.one")
        devices = [Device(client, range(start, start + 30), signer) for start in (1, 101)]  # they share nothing
        for device in devices:  # 60 tokens to open
            await verifier.take(device.record(device.opening()))
        for number in range(3):
            for device in devices:  # one slot: each time the other's prefix is pushed out
                await verifier.take(device.record(device.batch(round_=number)))
                verdict = await device.verdict()
                if verdict.status is Status.OVERLOADED:
                    assert number >= 1
                    return
                device.commit(verdict)
    raise AssertionError("six prefixes of 30 tokens fit into a budget of 30")


async def test_a_context_has_a_limit(client: Any) -> None:
    async with Verifier(client, context_bytes=40) as verifier:
        long = Device(client, [200] * 30)  # two bytes each
        assert "bytes" in str(await verifier.take(long.record(long.opening())))
        assert "bytes" in str(await verifier.take(long.record(long.batch())))
        assert (await long.verdict()).status is Status.INVALID
        growing = Device(client, [200] * 16)
        assert await verifier.take(growing.record(growing.opening())) is None
        assert "bytes of a context" in str(await verifier.take(growing.record(growing.batch(greedy(200, 200)))))
        assert (await growing.verdict()).status is Status.INVALID
    assert len(long.ids) < TARGET.capacity_tokens
