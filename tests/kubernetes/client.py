"""Runs inside of pods: `ask` streams one answer through OpenAI's client, `reach` tries to connect. Prints one JSON object."""

from __future__ import annotations

import concurrent.futures
import json
import socket
import sys
from typing import Any

CONNECT_SECONDS = 3.0


def ask(wanted: dict[str, Any]) -> dict[str, Any]:
    from openai import OpenAI

    client = OpenAI(base_url=wanted.pop("url"), api_key=wanted.pop("key", "none"), timeout=120, max_retries=0)
    account: dict[str, Any] = {}
    text, chunks = "", 0
    for chunk in client.chat.completions.create(model="sluice", stream=True, **wanted):
        chunks += 1
        for choice in chunk.choices:
            text += choice.delta.content or ""
        account = (chunk.model_extra or {}).get("sluice") or account
    return {"text": text, "sluice": account, "chunks": chunks}


def reach(targets: list[str]) -> dict[str, str]:
    with concurrent.futures.ThreadPoolExecutor(len(targets) or 1) as pool:
        return dict(zip(targets, pool.map(attempt, targets), strict=True))


def attempt(target: str) -> str:
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except TimeoutError:
        return "timeout"
    except ConnectionRefusedError:
        return "refused"
    except socket.gaierror:
        return "no name"
    except OSError as error:
        return error.strerror or "error"
    return "open"


if __name__ == "__main__":
    what, argument = sys.argv[1:]
    given = json.loads(argument)
    sys.stdout.write(json.dumps(ask(given) if what == "ask" else reach(given)) + "\n")
