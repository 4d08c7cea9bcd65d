"""A small client of the edge worker's HTTP API that keeps the extra field ``sluice``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from services.cli.errors import CommandError
from services.common.sse import Lines

# Between two chunks; a lossless answer may wait this long for a verifier.
READ_SECONDS = 120.0


@dataclass
class Reply:
    """One finished answer. ``summary`` is the final ``sluice`` object; ``decisions`` are those of the tokens, in order."""

    text: str = ""
    decisions: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    finish_reason: str = ""

    @property
    def tokens(self) -> int:
        return int(self.summary.get("tokens", {}).get("total", len(self.decisions)))


class ApiClient:
    """Speaks to ``url`` (without `/v1`). Raises ``CommandError`` with what went wrong. Not for several threads."""

    def __init__(self, url: str, key: str = "") -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        # A proxy of the environment is not meant for a service next door.
        self._http = httpx.Client(headers=headers, timeout=httpx.Timeout(10.0, read=READ_SECONDS), trust_env=False)
        self._model = ""

    def close(self) -> None:
        self._http.close()

    def model(self) -> str:
        """The model that the edge worker serves."""
        if not self._model:
            with self._errors():
                response = self._http.get(f"{self.url}/v1/models")
                self._refuse(response)
                self._model = str(response.json()["data"][0]["id"])
        return self._model

    def chat(
        self, messages: list[dict[str, str]], show: Callable[[str, str], None] = lambda _text, _decision: None, **body: Any
    ) -> Reply:
        """Streams one answer; ``show`` gets the text and the decision of each token as it comes."""
        reply = Reply()
        request = {"model": self.model(), "messages": messages, "stream": True, **body}
        with self._errors(), self._http.stream("POST", f"{self.url}/v1/chat/completions", json=request) as response:
            if response.is_error:
                response.read()
            self._refuse(response)
            for chunk in _events(response.iter_bytes()):
                self._take(chunk, reply, show)
        return reply

    def metrics(self) -> str:
        """The text of /metrics."""
        with self._errors():
            response = self._http.get(f"{self.url}/metrics")
            self._refuse(response)
            return response.text

    @staticmethod
    def _take(chunk: dict[str, Any], reply: Reply, show: Callable[[str, str], None]) -> None:
        if "error" in chunk:
            raise CommandError(f"the answer broke off: {chunk['error'].get('message', chunk['error'])}")
        for choice in chunk.get("choices", []):
            reply.text += choice.get("delta", {}).get("content") or ""
            reply.finish_reason = choice.get("finish_reason") or reply.finish_reason
        extra = chunk.get("sluice") or {}
        tokens = extra.get("tokens")
        if isinstance(tokens, list):
            for token in tokens:
                reply.decisions.append(token["decision"])
                show(token["text"], token["decision"])
        elif tokens is not None:
            reply.summary = extra

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise CommandError(
                f"no edge worker answers at {self.url}; start one with `sluice up`, or say where with --url"
            ) from error
        except httpx.InvalidURL as error:
            raise CommandError(f"{self.url!r} is not an address: {error}") from error
        except httpx.UnsupportedProtocol as error:
            raise CommandError(f"{self.url!r} is not an address: it must start with http:// or https://") from error
        except httpx.TimeoutException as error:
            raise CommandError(f"{self.url} did not answer in time") from error
        except httpx.TransportError as error:
            raise CommandError(f"the connection to {self.url} broke: {error}") from error
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise CommandError(f"{self.url} does not answer like an edge worker of Sluice ({error})") from error

    @staticmethod
    def _refuse(response: httpx.Response) -> None:
        """Raises with the server's own message where the response is an error."""
        if not response.is_error:
            return
        try:
            message = response.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = f"status {response.status_code}"
        raise CommandError(f"the edge worker refused: {message}")


def _events(stream: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """Objects of a stream of server-sent events, up to its end mark."""
    lines = Lines()
    for data in stream:
        for line in lines.feed(data):
            name, _, value = line.partition(":")
            if name == "data" and value.strip() != "[DONE]":
                yield json.loads(value)
