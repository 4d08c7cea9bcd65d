"""What a round and a token cost beside the models: processor time of the services and of Redis, bytes on links and in Redis.

    python -m benchmarks.capacity KAFKA SECONDS RATE >FILE       # host:port of an Apache Kafka with the topics

Both models are synthetic (a hash, next to no time); everything else is real: HTTP, gate, Kafka, Redis, slots, judgements.
Processor time is what the kernel counts for a process, so other load moves it little; what the same process spends
while nobody asks is taken off.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import sys
import time
from typing import Any

import httpx
import psutil
from redis import Redis

from benchmarks.stamp import machine
from services.cli.local.options import StackOptions
from services.cli.local.stack import Stack
from services.cli.scrape import counter
from services.loadgen.arrivals import Arrival
from services.loadgen.drive import Drive
from services.loadgen.sender import HttpSender

MAX_TOKENS = 64
WARM_SECONDS, IDLE_SECONDS = 5.0, 20.0
OUTER = ("cmdstat_evalsha", "cmdstat_xread", "cmdstat_ping")  # what clients send; Redis also counts what scripts call inside
PARTS = {"services.edge_worker": "edge_worker", "services.verifier": "verifier"}


def main() -> None:
    kafka, seconds, rate = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    os.environ |= {"SLUICE_EDGE_SESSIONS": "64", "SLUICE_VERIFIER_SLOTS": "64", "SLUICE_EDGE_DEADLINE_SECONDS": "20"}
    options = StackOptions(kafka=kafka, verifiers=1, draft="synthetic", target="synthetic", threads=1)
    with Stack(options) as stack, Redis.from_url(stack.redis, decode_responses=True) as redis:
        asyncio.run(drive(stack.url, WARM_SECONDS, rate))
        idle = look(stack, redis)
        time.sleep(IDLE_SECONDS)
        before = look(stack, redis)
        answers = asyncio.run(drive(stack.url, seconds, rate))
        found = report(idle, before, look(stack, redis), answers)
    about = {"command": f"python -m benchmarks.capacity {kafka} {seconds:g} {rate:g}", "machine": machine()}
    json.dump(about | {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), **found}, sys.stdout, indent=1)
    sys.stdout.write("\n")


async def drive(url: str, seconds: float, rate: float) -> int:
    """Evenly spaced requests; the number of complete answers."""
    arrivals = [Arrival(n / rate, n % 8) for n in range(round(seconds * rate))]
    async with HttpSender([f"{url}/v1/"], ["Why is the sky blue?"], {"max_tokens": MAX_TOKENS}) as sender:
        run = Drive(arrivals, sender, duration=seconds, drain_seconds=60.0)
        await run.run(asyncio.Event())
    return sum(answer.outcome.value == "complete" for answer in run.answers)


def look(stack: Stack, redis: Redis) -> dict[str, float]:
    """Everything that only grows, as it is now, and the size of Redis."""
    edge, verifier = httpx.get(f"{stack.url}/metrics").text, httpx.get(f"{stack.verifier_urls[0]}/metrics").text
    spent: dict[str, Any] = redis.info("commandstats")
    outer = [one for name, one in spent.items() if name in OUTER]
    memory: dict[str, Any] = redis.info("memory")
    found = {
        "at": time.monotonic(),
        "tokens": counter(edge, "sluice_tokens_total") or 0.0,
        "rounds": counter(edge, "sluice_rounds_total") or 0.0,
        "uplink_bytes": counter(edge, "sluice_uplink_bytes_total") or 0.0,
        "verdicts": counter(verifier, "sluice_verdicts_total") or 0.0,
        "redis_commands": float(sum(one["calls"] for one in outer)),
        "redis_seconds": sum(one["usec"] for one in outer) / 1e6,
        "redis_bytes": float(memory["used_memory_dataset"]),
        "edge_worker_series": float(series(edge)),
        "verifier_series": float(series(verifier)),
        "redis_clients": float(redis.info("clients")["connected_clients"]),
    }
    for process in psutil.Process().children(recursive=True):
        for module, name in PARTS.items():
            if module in process.cmdline():
                times = process.cpu_times()
                found[f"{name}_seconds"] = times.user + times.system
    return found


def series(text: str) -> int:
    """Of one target's /metrics."""
    return sum(1 for line in text.splitlines() if line and not line.startswith("#"))


def report(idle: dict[str, float], before: dict[str, float], after: dict[str, float], answers: int) -> dict[str, Any]:
    rest = {name: (before[name] - idle[name]) / (before["at"] - idle["at"]) for name in before}
    spent = {name: after[name] - before[name] for name in after}
    rounds, tokens, seconds = spent["rounds"], spent["tokens"], spent["at"]
    edge, verifier = (spent[f"{name}_seconds"] - rest[f"{name}_seconds"] * seconds for name in PARTS.values())
    return {
        "answers": answers,
        "seconds": round(seconds, 1),
        "tokens_per_answer": round(tokens / answers, 1),
        "rounds_per_token": round(rounds / tokens, 3),
        "edge_worker_cpu_share_idle": round(rest["edge_worker_seconds"], 4),
        "verifier_cpu_share_idle": round(rest["verifier_seconds"], 4),
        "edge_worker_cpu_ms_per_token": round(1e3 * edge / tokens, 3),
        "verifier_cpu_ms_per_round": round(1e3 * verifier / rounds, 3),
        "edge_worker_series": round(after["edge_worker_series"]),
        "verifier_series": round(after["verifier_series"]),
        "redis_clients": round(after["redis_clients"]) - 1,
        "redis_commands_a_second_idle": round(rest["redis_commands"], 2),
        "redis_us_a_second_idle": round(1e6 * rest["redis_seconds"], 1),
        "redis_commands_per_round": round(spent["redis_commands"] / rounds, 2),
        "redis_us_per_round": round(1e6 * spent["redis_seconds"] / rounds, 1),
        "redis_bytes_per_answer": round(spent["redis_bytes"] / answers),
        "uplink_bytes_per_round": round(spent["uplink_bytes"] / rounds, 1),
        "uplink_bytes_per_token": round(spent["uplink_bytes"] / tokens, 1),
    }


if __name__ == "__main__":
    main()
