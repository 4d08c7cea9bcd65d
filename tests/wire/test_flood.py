"""Ten thousand junk messages as fast as a broker takes them, on the very partition of a good session."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from services.common import keys
from services.common.codec import pack_ids
from services.common.messages import Status, encode
from services.common.synthetic import TOKENIZER_HASH
from tests.verifier.device import Device
from tests.verifier.service import VerifierProcess

JUNK = 10_000


@pytest.mark.timeout(180)
async def test_a_flood_of_junk_delays_a_good_session_by_its_reading_only(
    bootstrap: str, redis_url: str, tmp_path: Path
) -> None:
    process = VerifierProcess(bootstrap, redis_url, tmp_path / "log", MODEL="synthetic", DTYPE="auto")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)
    try:
        process.wait_ready()
        await producer.start()
        async with Device(bootstrap, redis_url, TOKENIZER_HASH) as device:
            opening = device.opening([1, 2, 3])
            await device.publish(opening)
            await device.publish(device.batch(opening.session, [1, 2, 3], []))
            first = await device.verdict()
            assert first.status is Status.OK
            assert first.token is not None
            prompt = pack_ids([5] * 200_000)
            kinds = [
                lambda: secrets.token_bytes(300),
                lambda: encode(device.batch(opening.session, [1, 2], [], round_=9)),
                lambda: encode(device.opening([7] * 10, opening.session).model_copy(update={"seed": 1 << 63})),
                lambda: encode(device.batch(opening.session, [1], []).model_copy(update={"span": secrets.token_bytes(200)})),
                lambda: encode(opening),  # played back
            ]
            started = time.perf_counter()
            for number in range(JUNK):
                value = encode(opening.model_copy(update={"ids": prompt})) if number % 1000 == 1 else kinds[number % 5]()
                headers = device.signer.headers(opening.session, value) if number % 2 else []
                await producer.send(keys.CANDIDATES_TOPIC, value, key=opening.session, headers=headers)
            await producer.flush()
            sent = time.perf_counter() - started
            await device.publish(device.batch(opening.session, [1, 2, 3, first.token], [], round_=1))
            verdict = None
            while verdict is None or verdict.round != 1 or verdict.status is not Status.OK:
                verdict = await device.verdict(60.0)
            seconds = time.perf_counter() - started
        figures = [seconds, sent, process.get("/lag").json(), process.metric("sluice_dead_letters_total")]
        print(figures)  # noqa: T201 - the figures of this test
        assert seconds < 60, f"{JUNK} messages, sent within {sent:.1f} s, held up a round for {seconds:.1f} s"
        stale = JUNK // 10 - JUNK // 1000  # well signed rounds on another base: told so, and no junk
        assert process.metric("sluice_dead_letters_total") == JUNK - stale
        assert process.metric("sluice_dead_letters_lost_total") == 0
        lag = process.get("/lag").json()
        assert lag["p99"] < 0.1, lag
        text = process.log.read_text()
        assert "Traceback" not in text
        assert "internal error" not in text
        assert len(text.splitlines()) < 1000, "the log is not flooded"
        assert process.stop() == 0
    finally:
        await producer.stop()
        process.kill()
