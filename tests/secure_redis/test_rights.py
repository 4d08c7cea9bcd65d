"""TLS and the least rights of docs/redis.md: enough for edge and verifier, and for nothing more."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis.exceptions import AuthenticationError, NoPermissionError

from services.common import keys
from services.common.codec import base_digest, pack_ids, pack_span
from services.common.kafka.link import KafkaLink
from services.common.messages import CandidateBatch, Open, Status, Verdict
from services.common.redis_client import RedisLink, connect
from services.edge_worker.kafka_client import KafkaRedisClient
from services.policy import publisher as publishing
from services.policy.decision import Decision, Source
from services.policy.publisher import Publisher, Times
from tests import identities
from tests.secure_redis.debian import Unavailable, redis_server
from tests.secure_redis.server import SecureRedis, running
from tests.verifier.service import VerifierProcess

GROUP = "test"
WORKER = "test.one"
PROMPT = [1, 2, 3]
EDGE_PASSWORD, VERIFIER_PASSWORD = "EDGE-PASSWORD", "VERIFIER-PASSWORD"  # as the documentation writes them


@pytest.fixture(scope="module")
def secure_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureRedis]:
    try:
        program = redis_server()
    except Unavailable as reason:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"a Redis with TLS is needed with CI=true: {reason}")
        pytest.skip(f"a Redis with TLS cannot be had: {reason}")
    with running(program, tmp_path_factory.mktemp("secure-redis"), GROUP) as server:
        yield server


def edge_link(server: SecureRedis, password: str = EDGE_PASSWORD) -> RedisLink:
    return RedisLink(server.url, f"edge-{GROUP}", SecretStr(password), str(server.ca_file))


def verifier_knobs(server: SecureRedis, password: str = VERIFIER_PASSWORD) -> dict[str, str]:
    return {
        "MODEL": "synthetic",
        "REDIS_USERNAME": "verifier",
        "REDIS_PASSWORD": password,
        "REDIS_CA_FILE": str(server.ca_file),
    }


async def _until(condition: Callable[[], bool]) -> None:
    """Another process or a background task decides; nothing here can be waited for."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.05)


@pytest.mark.timeout(180)
async def test_a_round_passes_with_the_documented_rights(bootstrap: str, secure_redis: SecureRedis, tmp_path: Path) -> None:
    verifier = VerifierProcess(bootstrap, secure_redis.url, tmp_path / "log", **verifier_knobs(secure_redis))
    client = KafkaRedisClient(
        signer=identities.signer(WORKER),
        bootstrap=KafkaLink(bootstrap, embedded=True),
        redis=edge_link(secure_redis),
        link_seconds=5.0,
    )
    try:
        await asyncio.to_thread(verifier.wait_ready)
        await client.start()
        session = os.urandom(16)
        verdicts = client.verdicts(session)
        async with asyncio.timeout(20):
            await _until(lambda: client.connected)
            await client.open(Open(session=session, ids=pack_ids(PROMPT), prompt_tokens=3, seed=7, tokenizer_hash="synthetic"))
            await client.submit(
                CandidateBatch(
                    session=session, round=0, base_length=3, base_digest=base_digest(PROMPT), span=pack_span([]), ttl_ms=60_000
                )
            )
            verdict = await verdicts.get()
        assert isinstance(verdict, Verdict)
        assert verdict.status is Status.OK
        assert verdict.token is not None
        assert "no permission" not in verifier.log.read_text().lower()
    finally:
        await client.close()
        verifier.kill()


async def test_an_edge_reads_its_own_replies_and_nothing_else(secure_redis: SecureRedis) -> None:
    redis = connect(edge_link(secure_redis), connections=2, timeout_seconds=4.0)
    try:
        for worker in (GROUP, WORKER):
            await redis.xrevrange(keys.replies(worker), count=1)
        forbidden: tuple[Callable[[], Any], ...] = (
            lambda: redis.xrevrange(keys.replies("another"), count=1),
            lambda: redis.xrevrange(keys.replies(f"{GROUP}2"), count=1),  # a group whose name begins alike
            lambda: redis.xadd(keys.replies(WORKER), {"v": b"forged"}),
            lambda: redis.get(keys.verdict(WORKER, bytes(16), 0)),
            lambda: redis.hgetall(keys.context(WORKER, bytes(16))),
            lambda: redis.delete(keys.context(WORKER, bytes(16))),
            lambda: redis.set(keys.POLICY, "x"),
            lambda: redis.eval("return 1", 0),
            lambda: redis.keys("*"),
            lambda: redis.config_get("*"),
        )
        for attempt in forbidden:
            with pytest.raises(NoPermissionError):
                await attempt()
    finally:
        await redis.aclose()


async def test_the_policy_writes_its_own_keys_and_nothing_else(secure_redis: SecureRedis) -> None:
    link = RedisLink(secure_redis.url, "policy", SecretStr("POLICY-PASSWORD"), str(secure_redis.ca_file))
    redis = connect(link, connections=2, timeout_seconds=4.0)
    decided = {"default": Decision("default", 2, 0.5, "a test", Source.CONTROL, 1.0)}
    try:
        publisher = Publisher(redis, "one", Times())
        assert await publisher.lead()
        assert await publisher.publish(decided, [{"at": 0}])
        await publishing.override(redis, "default", 1, 0.5, 5.0)
        assert set(await publishing.overrides(redis)) == {"default"}
        await publishing.override(redis, "default", 1, 0.5, 0.0)
        assert len(await publishing.history(redis, 5)) == 1
        edge = connect(edge_link(secure_redis), connections=1, timeout_seconds=4.0)
        record = await publishing.current(edge)
        await edge.aclose()
        assert record is not None
        assert record.classes["default"].k == 2
        await publisher.release()
        forbidden: tuple[Callable[[], Any], ...] = (
            lambda: redis.get(keys.replies(WORKER)),
            lambda: redis.set(keys.verdict(WORKER, bytes(16), 0), "x"),
            lambda: redis.keys("*"),
        )
        for attempt in forbidden:
            with pytest.raises(NoPermissionError):
                await attempt()
    finally:
        await redis.aclose()


async def test_strangers_stay_outside(secure_redis: SecureRedis) -> None:
    nobody = RedisLink(secure_redis.url, ca_file=str(secure_redis.ca_file))
    for link in (nobody, edge_link(secure_redis, "wrong")):
        redis = connect(link, connections=1, timeout_seconds=4.0)
        with pytest.raises(AuthenticationError):
            await redis.ping()
        await redis.aclose()


@pytest.mark.timeout(120)
async def test_a_wrong_password_is_named_and_not_shown(bootstrap: str, secure_redis: SecureRedis, tmp_path: Path) -> None:
    verifier = VerifierProcess(bootstrap, secure_redis.url, tmp_path / "log", **verifier_knobs(secure_redis, "tell-nobody"))
    try:
        async with asyncio.timeout(60):
            await _until(lambda: '"link down' in verifier.log.read_text())
        said = verifier.log.read_text()
        assert "invalid username-password pair" in said
        assert "tell-nobody" not in said
        assert await asyncio.to_thread(verifier.stop) == 0
    finally:
        verifier.kill()
