"""Contexts and verdicts in a real Valkey."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from services.common import keys
from services.common.codec import pack_ids
from services.common.messages import Open, Status, Verdict, decode
from services.common.redis_client import connect
from services.common.settings import ConfigError
from services.verifier.context import Context
from services.verifier.store import ContextStore, Lifetimes

WORKER = f"w.{secrets.token_hex(4)}"
TIMES = Lifetimes(context_ms=60_000, verdict_ms=30_000, replies=100)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url, connections=4, timeout_seconds=2.0)
    assert isinstance(client, Redis)
    yield client
    await client.aclose()


def opened(ids: list[int]) -> tuple[Open, Context]:
    message = Open(
        session=secrets.token_bytes(16),
        ids=pack_ids(ids),
        prompt_tokens=len(ids),
        seed=3,
        tokenizer_hash="t",
    )
    return message, Context.of(message, ids)


def judged(message: Open, after: Context, token: int, attempt: int = 0) -> Verdict:
    return Verdict(
        session=message.session,
        round=0,
        attempt=attempt,
        token=token,
        base_length=len(after.ids),
        base_digest=after.digest,
    )


async def test_a_context_comes_back_as_it_was_and_lives_for_its_time(client: Redis) -> None:
    store = ContextStore(client, TIMES)
    message, context = opened([5, 6, 70_000])
    await store.put_context(WORKER, message.session, context)
    found = await store.find(WORKER, message.session, 0)
    assert found.context == context
    assert found.verdict is None
    assert 0 < await client.pttl(keys.context(WORKER, message.session)) <= TIMES.context_ms
    shorter = Context.of(message, [5], (Status.INVALID, "because"))
    await store.put_context(WORKER, message.session, shorter)
    assert (await store.find(WORKER, message.session, 0)).context == shorter
    await store.put_context(WORKER, message.session, context)
    assert (await store.find(WORKER, message.session, 0)).context == context
    await store.drop_context(WORKER, message.session)
    assert (await store.find(WORKER, message.session, 0)).context is None


async def test_the_first_verdict_of_a_round_stands(client: Redis) -> None:
    store = ContextStore(client, TIMES)
    message, context = opened([1, 2])
    first, second = context.after([], 8), context.after([], 9)
    one, two = judged(message, first, 8), judged(message, second, 9, attempt=1)
    await client.script_flush()  # a server that was restarted knows no script
    assert await store.settle(WORKER, one, first) is None
    assert await store.settle(WORKER, two, second) == one
    found = await store.find(WORKER, message.session, 0)
    assert found.verdict == one
    assert found.context is not None
    assert found.context.ids == first.ids
    entries: Any = await client.xrange(keys.replies(WORKER))
    assert [decode(fields[b"v"]) for _, fields in entries] == [one]
    for key in (
        keys.verdict(WORKER, message.session, 0),
        keys.context(WORKER, message.session),
        keys.replies(WORKER),
    ):
        assert await client.pttl(key) > 0


async def test_what_nobody_of_ours_wrote_counts_as_lost(client: Redis) -> None:
    store = ContextStore(client, TIMES)
    message, context = opened([1, 2])
    await store.put_context(WORKER, message.session, context)
    await client.hset(keys.context(WORKER, message.session), "ids", pack_ids([1, 3]))
    await client.set(keys.verdict(WORKER, message.session, 0), b"\xc1")
    found = await store.find(WORKER, message.session, 0)
    assert found.context is None
    assert found.verdict is None


async def test_a_bad_address_is_told() -> None:
    with pytest.raises(ConfigError, match="not an address"):
        connect("http://nowhere", connections=1, timeout_seconds=1.0)
