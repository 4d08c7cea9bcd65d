"""Who carries out a request: a seam, and its implementation for the OpenAI HTTP API of edge workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import httpx

from services.common.sse import Lines
from services.loadgen.answer import Answer, Malformed, Outcome

Clock = Callable[[], float]


class Sender(Protocol):
    """Carries one request from its begin to its end."""

    async def send(self, answer: Answer, number: int, clock: Clock) -> None:
        """Fills ``answer``, the ``number``-th of the load, by ``clock``. Raises nothing but ``CancelledError``."""
        ...


class LoadError(RuntimeError):
    """The load cannot begin; ``str`` is one line that says why and what to do."""


class HttpSender:
    """Streams chat completions. Client ``n`` asks worker ``n`` modulo their number; request ``n`` has prompt ``n`` likewise.

    Use as an async context manager: entering asks each worker for its model. Raises ``LoadError`` where one does not answer.
    ``body`` is sent with each request; a ``seed`` in it would keep answers from following the fleet's policy.
    """

    def __init__(
        self,
        urls: Sequence[str],
        prompts: Sequence[str],
        body: Mapping[str, Any],
        *,
        api_key: str = "",
        connect_seconds: float = 5.0,
        read_seconds: float = 120.0,
    ) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = httpx.Timeout(connect_seconds, read=read_seconds)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)  # a pool that queues would hide waiting
        self.urls = [url.rstrip("/").removesuffix("/v1") for url in urls]
        # A proxy of the environment is not meant for a service next door.
        self._http = httpx.AsyncClient(headers=headers, timeout=timeout, limits=limits, trust_env=False)
        self._prompts, self._body = prompts, dict(body)
        self._models: list[str] = []

    async def __aenter__(self) -> HttpSender:
        try:
            self._models = [await self._model(url) for url in self.urls]
        except BaseException:
            await self._http.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def send(self, answer: Answer, number: int, clock: Clock) -> None:
        worker = answer.client % len(self.urls)
        message = {"role": "user", "content": self._prompts[number % len(self._prompts)]}
        body = {"model": self._models[worker], "messages": [message], "stream": True, **self._body}
        url = f"{self.urls[worker]}/v1/chat/completions"
        try:
            async with self._http.stream("POST", url, json=body) as response:
                if response.is_error:
                    await response.aread()
                    outcome = Outcome.REFUSED if response.status_code == httpx.codes.TOO_MANY_REQUESTS else Outcome.FAILED
                    answer.end(clock(), outcome, _reason(response))
                    return
                lines = Lines()
                async for data in response.aiter_bytes():
                    now = clock()
                    for line in lines.feed(data):
                        answer.take(line, now)
            answer.end(clock())
        except Malformed as error:
            answer.end(clock(), Outcome.FAILED, str(error))
        except httpx.TimeoutException as error:
            answer.end(clock(), Outcome.FAILED, f"no answer in time: {type(error).__name__}")
        except httpx.TransportError as error:
            answer.end(clock(), Outcome.FAILED, f"the connection broke: {type(error).__name__}")

    async def _model(self, url: str) -> str:
        try:
            response = await self._http.get(f"{url}/v1/models")
            if response.is_error:
                raise LoadError(f"{url} refuses: {_reason(response)}")
            return str(response.json()["data"][0]["id"])
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise LoadError(f"{url!r} is not an address: it must start with http:// or https://") from error
        except httpx.TransportError as error:
            raise LoadError(f"no edge worker answers at {url}; start one with `sluice up`, or name another address") from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise LoadError(f"{url} does not answer like an edge worker of Sluice") from error


def _reason(response: httpx.Response) -> str:
    """The server's own message; of one that has none, its status."""
    try:
        return " ".join(str(response.json()["error"]["message"]).split())[:200]
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"
