"""The embedded broker and Redis are real to their clients and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError

from services.cli.errors import CommandError
from services.cli.local import embedded
from services.cli.local.nursery import Nursery
from services.cli.local.redis_server import RedisServer
from services.common import keys


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


async def test_messages_pass_through_the_broker_in_the_order_of_their_key(nursery: Nursery) -> None:
    bootstrap = embedded.start_broker(nursery)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(
        keys.CANDIDATES_TOPIC, bootstrap_servers=bootstrap, group_id="g", auto_offset_reset="earliest", fetch_max_wait_ms=2
    )
    await producer.start()
    await consumer.start()
    try:
        for number in range(20):
            await producer.send_and_wait(keys.CANDIDATES_TOPIC, b"%d" % number, key=b"session")
        received: list[bytes] = []
        async with asyncio.timeout(20):
            while len(received) < 20:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    received += [record.value or b"" for record in records]
    finally:
        await consumer.stop()
        await producer.stop()
    assert received == [b"%d" % number for number in range(20)]


async def test_redis_is_a_real_one_that_refuses_to_evict(nursery: Nursery) -> None:
    server = RedisServer.new(nursery.folder, max_memory_mb=20)
    embedded.start_redis(nursery, server)
    async with Redis.from_url(server.url) as client:
        assert await client.eval("return redis.call('XADD', KEYS[1], '*', 'v', ARGV[1])", 1, "s", b"x")
        assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
        assert (await client.config_get("maxmemory"))["maxmemory"] == str(20 * 2**20)
    async with Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.ping()
    assert nursery.folder.stat().st_mode & 0o077 == 0


async def test_redis_comes_back_at_the_same_address(nursery: Nursery) -> None:
    server = RedisServer.new(nursery.folder, max_memory_mb=20)
    for _ in range(2):
        embedded.start_redis(nursery, server)
        async with Redis.from_url(server.url) as client:
            assert await client.incr("x") == 1
        nursery.end(embedded.REDIS)


def test_nothing_is_left_after_the_end() -> None:
    with Nursery() as nursery:
        port = int(embedded.start_broker(nursery).rpartition(":")[2])
        embedded.start_redis(nursery, RedisServer.new(nursery.folder, max_memory_mb=20))
        assert len(nursery.leftovers()) == 3  # broker, Redis, reaper
    assert nursery.leftovers() == []
    assert not nursery.folder.exists()
    assert not any(c.laddr and c.laddr[1] == port and c.status == psutil.CONN_LISTEN for c in psutil.net_connections("tcp"))


def test_what_a_child_started_ends_with_it(nursery: Nursery) -> None:
    marker = nursery.folder / "grandchild"
    nursery.start("parent", ["sh", "-c", f"sleep 300 & echo $! > {marker}; wait"])
    deadline = time.monotonic() + 10
    while not (marker.exists() and marker.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    grandchild = psutil.Process(int(marker.read_text()))
    nursery.end("parent")
    grandchild.wait(5)
    assert [p.name() for p in nursery.leftovers()] == [psutil.Process(nursery._guard.pid).name()]


def test_a_child_that_ignores_sigterm_is_killed() -> None:
    with Nursery(stop_seconds=0.3) as nursery:
        ready = nursery.folder / "ready"
        nursery.start("stubborn", ["sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 0.1; done"])
        while not ready.exists():
            time.sleep(0.01)
    assert nursery.leftovers() == []


def test_leftovers_are_counted_when_there_are_some() -> None:
    with Nursery() as nursery:
        # A session of its own: neither the process group nor the parent's death reaches it, only the mark finds it.
        nursery.start(
            "parent", [sys.executable, "-c", "import subprocess; subprocess.Popen(['sleep', '300'], start_new_session=True)"]
        )
        deadline = time.monotonic() + 10
        while not any(process.name() == "sleep" for process in nursery.leftovers()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    left = nursery.leftovers()
    for process in left:
        process.kill()
    assert [process.name() for process in left] == ["sleep"]


def test_a_death_is_told_with_the_last_clear_line(nursery: Nursery) -> None:
    record = '{"event": "cannot start", "error": "no such model: x", "level": "error"}'
    child = nursery.start("verifier 1", ["sh", "-c", f"echo noise; echo '{record}'; echo; exit 3"])
    assert child.wait(5)
    with pytest.raises(CommandError, match=r"^verifier 1 ended with status 3: cannot start: no such model: x$"):
        nursery.check()


_SUPERVISOR = """
import time
from services.cli.local import embedded
from services.cli.local.nursery import Nursery
from services.cli.local.redis_server import RedisServer
with Nursery() as nursery:
    embedded.start_broker(nursery)
    embedded.start_redis(nursery, RedisServer.new(nursery.folder, max_memory_mb=20))
    nursery.note()
    print(nursery.folder, *(p.pid for p in nursery.leftovers()), flush=True)
    time.sleep(300)
"""


def test_a_killed_supervisor_leaves_no_process_and_no_file() -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", _SUPERVISOR], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    folder, *pids = supervisor.stdout.readline().split()
    processes = [psutil.Process(int(pid)) for pid in pids]
    assert len(processes) == 3
    assert Path(folder).is_dir()
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    supervisor.stdout.close()
    _, alive = psutil.wait_procs(processes, timeout=10)
    # Orphans of a container without an init stay as zombies; they hold nothing.
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    assert not Path(folder).exists()
