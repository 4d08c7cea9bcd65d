"""The other side of the wire, as plain as can be: publishes messages and reads verdicts."""

from __future__ import annotations

import secrets
import time
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from services.common import keys
from services.common.codec import base_digest, pack_ids, pack_span
from services.common.credentials import Signer
from services.common.messages import Cancel, CandidateBatch, Message, Mode, Open, Verdict, decode, encode
from services.common.sampling import Sampling
from services.common.speculative import SpanToken
from tests import identities


class Device:
    """One edge worker with a reply stream of its own."""

    def __init__(self, bootstrap: str, redis_url: str, tokenizer_hash: str, signer: Signer | None = None) -> None:
        self.signer = signer or identities.signer(f"device.{secrets.token_hex(4)}")
        self.worker = self.signer.worker
        self.tokenizer_hash = tokenizer_hash
        self.redis = Redis.from_url(redis_url)
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
        self._last = "0"

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()
        await self.redis.aclose()

    def opening(
        self, ids: list[int], session: bytes | None = None, seed: int = 7, temperature: float = 0.0, generation: int = 0
    ) -> Open:
        return Open(
            session=session or secrets.token_bytes(16),
            ids=pack_ids(ids),
            prompt_tokens=len(ids),
            sampling=Sampling(temperature=temperature),
            seed=seed,
            mode=Mode.OPPORTUNISTIC,
            tokenizer_hash=self.tokenizer_hash,
            generation=generation,
        )

    def batch(
        self, session: bytes, base: list[int], span: list[SpanToken], *, round_: int = 0, attempt: int = 0, ttl_ms: int = 60_000
    ) -> CandidateBatch:
        return CandidateBatch(
            session=session,
            round=round_,
            attempt=attempt,
            base_length=len(base),
            base_digest=base_digest(base),
            span=pack_span(span),
            ttl_ms=ttl_ms,
        )

    def cancel(self, session: bytes) -> Cancel:
        return Cancel(session=session)

    async def publish(self, message: Message, *, age_seconds: float = 0.0) -> None:
        assert not isinstance(message, Verdict)
        stamp = int((time.time() - age_seconds) * 1000)
        await self.publish_raw(encode(message), message.session, timestamp_ms=stamp)

    async def publish_raw(
        self,
        value: bytes,
        key: bytes = b"k" * 16,
        headers: list[tuple[str, bytes]] | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        """``value`` as it is, well signed unless other ``headers`` are given."""
        signed = self.signer.headers(key, value) if headers is None else headers
        await self._producer.send_and_wait(keys.CANDIDATES_TOPIC, value, key=key, headers=signed, timestamp_ms=timestamp_ms)

    async def verdicts(self, count: int, seconds: float = 30.0) -> list[Verdict]:
        """The next ``count`` verdicts of any session; fails if they do not come in time."""
        found: list[Verdict] = []
        end = time.monotonic() + seconds
        while len(found) < count:
            assert time.monotonic() < end, f"{len(found)} of {count} verdicts came in {seconds} s"
            streams: Any = await self.redis.xread({keys.replies(self.worker): self._last}, block=500)
            for _, entries in streams or []:
                for entry, fields in entries:
                    self._last = entry.decode()
                    message = decode(fields[b"v"])
                    assert isinstance(message, Verdict)
                    found.append(message)
        return found

    async def verdict(self, seconds: float = 30.0) -> Verdict:
        return (await self.verdicts(1, seconds))[0]
