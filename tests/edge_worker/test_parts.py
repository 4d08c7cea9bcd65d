"""Where uploads end, the settings, the uplink meter and the reply stream's two forms."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from services.common.messages import CandidateBatch, encode
from services.common.speculative import Sparse
from services.edge_worker.replies import entries
from services.edge_worker.settings import EdgeSettings
from services.edge_worker.span import Drafted, Limits, cut
from services.edge_worker.uplink import UplinkMeter


def drafted(flagged: bool, u: float = 0.1) -> Drafted:
    return Drafted(1, Sparse.certain(1), 1.0, u, flagged, flagged)


@pytest.mark.parametrize(
    ("pattern", "limits", "ended", "expected"),
    [
        ("", Limits(2, 8, 4, 1.1), False, None),
        ("ss", Limits(2, 8, 4, 1.1), True, None),
        ("sc", Limits(2, 8, 4, 1.1), False, None),
        ("sc", Limits(2, 8, 4, 1.1), True, 2),
        ("scsc", Limits(2, 8, 4, 1.1), False, 4),
        ("scscss", Limits(2, 8, 4, 1.1), False, 4),
        ("c", Limits(1, 8, 4, 1.1), False, 1),
        ("cssss", Limits(2, 8, 4, 1.1), False, 5),
        ("ssssc", Limits(2, 5, 9, 1.1), False, 5),
        ("ssssss", Limits(2, 5, 9, 1.1), False, None),
    ],
)
def test_an_upload_ends_where_its_tokens_say(pattern: str, limits: Limits, ended: bool, expected: int | None) -> None:
    assert cut([drafted(c == "c") for c in pattern], limits, ended=ended) == expected


def test_the_risk_of_a_refusal_ends_an_upload() -> None:
    limits = Limits(8, 8, 8, risk=0.7)
    assert cut([drafted(True, 0.4), drafted(True, 0.4)], limits, ended=False) is None
    assert cut([drafted(True, 0.4), drafted(True, 0.6)], limits, ended=False) == 2


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"mode": "lossless", "k": 0}, "nothing is ever verified"),
        ({"k": 20, "k_max": 4}, "above k_max"),
        ({"gamma": 5, "gamma_max": 2}, "above gamma_max"),
        ({"deadline_seconds": 90}, "above deadline_max_seconds"),
        ({"k": 8, "span_tokens": 4}, "cannot hold"),
    ],
)
def test_contradicting_settings_are_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        EdgeSettings(**values)  # type: ignore[arg-type]


async def test_the_uplink_meter_counts_what_the_kernel_sent() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5000)
        writer.write(b"thanks")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    registry = CollectorRegistry()
    scraped = [0]
    peers = {"kafka": [("127.0.0.1", 1)], "redis": [("127.0.0.1", 2)]}
    meter = UplinkMeter(lambda: peers, registry, lambda: scraped[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for size in (2000, 3000):
        writer.write(bytes(size))
        await writer.drain()
        meter.sample()
        peers["kafka"] = [("127.0.0.1", 1), ("127.0.0.1", port)]  # a broker that the first one has told of: all it got counts
        scraped[0] += 50
    await reader.readexactly(6)
    meter.sample()
    assert registry.get_sample_value("sluice_uplink_bytes_total", {"channel": "metrics"}) == 100
    sent, received = meter.traffic() or (0, 0)
    assert sent == 5000
    assert received >= 6, "the end of a connection counts as a byte"
    assert registry.get_sample_value("sluice_uplink_bytes_total", {"channel": "kafka"}) == 5000
    assert registry.get_sample_value("sluice_uplink_bytes_total", {"channel": "redis"}) == 0
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


def test_the_envelope_of_an_upload_has_64_bytes_at_most() -> None:
    batch = CandidateBatch(
        session=bytes(16),
        round=65_535,
        attempt=3,
        base_length=65_535,
        base_digest=bytes(8),
        span=bytes(200),
        policy_version=100,
        ttl_ms=60_000,
    )
    assert len(encode(batch)) - 200 <= 64


@pytest.mark.parametrize(
    "reply",
    [
        [[b"stream", [(b"1-0", {b"v": b"x"}), (b"2-0", {b"v": b"y"})]]],
        {b"stream": [[(b"1-0", {b"v": b"x"}), (b"2-0", {b"v": b"y"})]]},
        {b"stream": [(b"1-0", {b"v": b"x"}), (b"2-0", {b"v": b"y"})]},
    ],
    ids=["RESP2", "RESP3", "RESP3, flat"],
)
def test_both_forms_of_a_stream_reply_are_read(reply: object) -> None:
    assert entries(reply) == [(b"1-0", {b"v": b"x"}), (b"2-0", {b"v": b"y"})]
    assert entries(None) == []
