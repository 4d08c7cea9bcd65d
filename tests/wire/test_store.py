"""Contexts and verdicts in a real Valkey and in a real Redis Cluster of three nodes."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from redis.exceptions import RedisClusterException

from services.common import keys
from services.common.codec import pack_ids
from services.common.credentials import Identity
from services.common.messages import Open, Status, Verdict, decode
from services.common.redis_client import RedisLink, addresses, connect
from services.common.settings import ConfigError
from services.verifier.context import Context
from services.verifier.origin import Origin
from services.verifier.store import ContextStore, Lifetimes, Put, Stored, Unsettled

WORKER = f"w.{secrets.token_hex(4)}"
TIMES = Lifetimes(context_ms=60_000, verdict_ms=30_000, replies=100)


def opened(ids: list[int], generation: int | None = 0) -> tuple[Open, Context]:
    message = Open(
        session=secrets.token_bytes(16),
        ids=pack_ids(ids),
        prompt_tokens=len(ids),
        seed=3,
        tokenizer_hash="t",
        generation=generation,
    )
    return message, Context.of(message, ids, "acme")


def again(message: Open, ids: list[int], generation: int | None) -> Context:
    return Context.of(message.model_copy(update={"generation": generation}), ids, "acme")


def judged(message: Open, after: Context, token: int, *, round_: int = 0, attempt: int = 0) -> Verdict:
    return Verdict(
        session=message.session,
        round=round_,
        attempt=attempt,
        token=token,
        base_length=len(after.ids),
        base_digest=after.digest,
    )


async def test_a_context_comes_back_as_it_was_and_lives_for_its_time(client: Any) -> None:
    store = ContextStore(client, TIMES)
    message, context = opened([5, 6, 70_000])
    assert await store.put_context(WORKER, message.session, context, Origin(0, 1)) is Put.WRITTEN
    found = await store.find(WORKER, message.session, 0)
    assert (found.context, found.stored, found.closed) == (context, None, None)
    assert 0 < await client.pttl(keys.context(WORKER, message.session)) <= TIMES.context_ms
    refused = Context.of(context.open.model_copy(update={"generation": 1}), [], "acme", (Status.INVALID, "because"))
    assert await store.put_context(WORKER, message.session, refused, Origin(0, 2)) is Put.WRITTEN
    assert (await store.find(WORKER, message.session, 0)).context == refused
    whole = again(message, [5, 6], 2)
    assert await store.put_context(WORKER, message.session, whole, Origin(0, 3)) is Put.WRITTEN
    assert (await store.find(WORKER, message.session, 0)).context == whole


async def test_only_a_higher_generation_replaces_a_context(client: Any) -> None:
    store = ContextStore(client, TIMES)
    message, first = opened([1, 2])
    put = store.put_context
    assert await put(WORKER, message.session, first, Origin(1, 10)) is Put.WRITTEN
    assert await put(WORKER, message.session, first, Origin(1, 10)) is Put.AGAIN, "a redelivery"
    second = again(message, [1, 2, 3], 1)
    assert await put(WORKER, message.session, second, Origin(1, 20)) is Put.WRITTEN
    assert await put(WORKER, message.session, first, Origin(1, 10)) is Put.AGAIN, "the first one, delivered again"
    assert await put(WORKER, message.session, first, Origin(1, 30)) is Put.REPLAYED
    assert await put(WORKER, message.session, second, Origin(1, 30)) is Put.REPLAYED
    assert await put(WORKER, message.session, second, Origin(2, 5)) is Put.REPLAYED, "in another partition"
    assert (await store.find(WORKER, message.session, 0)).context == second


async def test_an_opening_that_tells_no_generation_replaces_unless_it_is_delivered_again(client: Any) -> None:
    store = ContextStore(client, TIMES)
    message, first = opened([1, 2], None)
    later = again(message, [1, 2, 3], None)
    assert await store.put_context(WORKER, message.session, first, Origin(0, 10)) is Put.WRITTEN
    assert await store.put_context(WORKER, message.session, later, Origin(0, 20)) is Put.WRITTEN
    assert await store.put_context(WORKER, message.session, first, Origin(0, 10)) is Put.AGAIN
    assert (await store.find(WORKER, message.session, 0)).context == later


async def test_the_first_verdict_of_a_round_stands(client: Any) -> None:
    store = ContextStore(client, TIMES)
    message, context = opened([1, 2])
    worker = f"w.{secrets.token_hex(4)}"
    first, second = context.after([], 8), context.after([], 9)
    one, two = judged(message, first, 8), judged(message, second, 9, attempt=1)
    await client.script_flush()  # a server that was restarted knows no script
    assert await store.settle(worker, one, context.digest, first, Origin(0, 4)) is None
    assert await store.settle(worker, two, context.digest, second, Origin(0, 9)) == Stored(one, Origin(0, 4))
    found = await store.find(worker, message.session, 0)
    assert found.stored == Stored(one, Origin(0, 4))
    assert found.context is not None
    assert found.context.ids == first.ids
    entries: Any = await client.xrange(keys.replies(worker))
    assert [decode(fields[b"v"]) for _, fields in entries] == [one]
    for key in (
        keys.verdict(worker, message.session, 0),
        keys.context(worker, message.session),
        keys.replies(worker),
    ):
        assert await client.pttl(key) > 0


async def test_a_verdict_never_overwrites_a_session_that_was_opened_on_another_base(client: Any) -> None:
    store = ContextStore(client, TIMES)
    message, context = opened([1, 2])
    await store.put_context(WORKER, message.session, context, Origin(0, 1))
    moved = again(message, [1, 2, 7], 1)
    await store.put_context(WORKER, message.session, moved, Origin(0, 2))
    after = context.after([], 8)
    verdict = judged(message, after, 8)
    assert await store.settle(WORKER, verdict, context.digest, after, Origin(0, 3)) is Unsettled.MOVED
    found = await store.find(WORKER, message.session, 0)
    assert (found.context, found.stored) == (moved, None)


async def test_a_tombstone_keeps_no_ids_and_lets_nothing_back(client: Any) -> None:
    store = ContextStore(client, TIMES)
    message, context = opened([1, 2])
    worker, session = WORKER, message.session
    assert await store.cancel(worker, session, Origin(0, 1)) is Put.UNKNOWN
    assert not await client.exists(keys.context(worker, session)), "a cancellation of nothing leaves nothing"
    await store.put_context(worker, session, context, Origin(0, 2))
    assert await store.cancel(worker, session, Origin(0, 3)) is Put.WRITTEN
    assert await store.cancel(worker, session, Origin(0, 3)) is Put.AGAIN
    assert await store.cancel(worker, session, Origin(0, 9)) is Put.CLOSED
    found = await store.find(worker, session, 0)
    assert (found.context, found.closed) == (None, Origin(0, 3))
    assert set(await client.hkeys(keys.context(worker, session))) == {b"state", b"generation", b"partition", b"offset"}
    assert 0 < await client.pttl(keys.context(worker, session)) <= TIMES.verdict_ms
    assert await store.put_context(worker, session, context, Origin(0, 2)) is Put.AGAIN, "delivered again after all"
    assert await store.put_context(worker, session, again(message, [1, 2], 5), Origin(0, 7)) is Put.CLOSED
    after = context.after([], 8)
    assert await store.settle(worker, judged(message, after, 8), context.digest, after, Origin(0, 2)) is Unsettled.CLOSED
    assert (await store.find(worker, session, 0)).stored is None


async def test_a_session_belongs_to_the_first_that_opens_it(client: Any) -> None:
    store = ContextStore(client, TIMES)
    session = secrets.token_bytes(16)
    ann, ben, same_name = Identity("ann", "a"), Identity("ben", "a"), Identity("ann", "b")
    assert not await store.is_anothers(ben, session)
    assert await store.claim(ann, session)
    assert await store.claim(ann, session)
    assert not await store.claim(ben, session)
    assert not await store.claim(same_name, session), "a worker of the same name, but of another tenant"
    assert await store.is_anothers(ben, session)
    assert not await store.is_anothers(ann, session)
    assert 0 < await client.pttl(keys.owner(session)) <= TIMES.context_ms


async def test_what_nobody_of_ours_wrote_counts_as_lost(client: Any) -> None:
    store = ContextStore(client, TIMES)
    message, context = opened([1, 2])
    await store.put_context(WORKER, message.session, context, Origin(0, 1))
    await client.hset(keys.context(WORKER, message.session), "ids", pack_ids([1, 3]))
    await client.set(keys.verdict(WORKER, message.session, 0), b"\xc1")
    found = await store.find(WORKER, message.session, 0)
    assert (found.context, found.stored) == (None, None)
    after = context.after([], 8)
    verdict = judged(message, after, 8)
    assert await store.settle(WORKER, verdict, context.digest, after, Origin(0, 2)) is Unsettled.MOVED


async def test_sessions_of_many_workers_are_spread_over_the_nodes(redis_cluster: str) -> None:
    """Each call's keys lie in one hash slot, different workers' in different nodes, and owners wherever their session says."""
    client = connect(RedisLink(redis_cluster, cluster=True), connections=4, timeout_seconds=2.0)
    store = ContextStore(client, TIMES)
    workers = [f"w.{n}" for n in range(30)]
    used = set()
    cluster: Any = client
    try:
        for worker in workers:
            message, context = opened([1, 2])
            after = context.after([], 8)
            assert await store.claim(Identity(worker, ""), message.session)
            await store.put_context(worker, message.session, context, Origin(0, 1))
            assert await store.settle(worker, judged(message, after, 8), context.digest, after, Origin(0, 2)) is None
            assert (await store.find(worker, message.session, 0)).context == after
            used.add(cluster.get_node_from_key(keys.context(worker, message.session)).port)
        with pytest.raises(RedisClusterException, match="same key slot"):
            await cluster.execute_command("EVAL", "return 1", 2, "{a}x", "{b}y")
    finally:
        await client.aclose()
    assert len(used) == 3
    assert used <= {port for _, port in addresses(client)}, "the bytes of each node's connection are counted"


async def test_addresses_are_those_of_the_link() -> None:
    for url, expected in {
        "redis://10.1.2.3:7000/0": [("10.1.2.3", 7000)],
        "rediss://example.net": [("example.net", 6379)],
        "unix:///run/redis.sock": [],
    }.items():
        client = connect(url, connections=1, timeout_seconds=1.0)
        assert addresses(client) == expected
        await client.aclose()


async def test_a_bad_address_is_told() -> None:
    with pytest.raises(ConfigError, match="not an address"):
        connect("http://nowhere", connections=1, timeout_seconds=1.0)
