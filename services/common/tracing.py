"""What traces tell: spans of an answer's rounds and of the policy's turns, by name, with their times; no text and no token ids.
Off unless an operator names a collector (see ``otlp``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pydantic import Field

from services.common.settings import ServiceSettings

Attributes = Mapping[str, str | int | float | bool]


class Begun(Protocol):
    """A span that goes on."""

    @property
    def traceparent(self) -> str:
        """What names it as a parent elsewhere (W3C Trace Context); empty: it is not traced."""
        ...

    def end(self, at: float, attributes: Attributes) -> None:
        """``at``: seconds of the epoch."""
        ...


class Tracer(Protocol):
    """Neither call waits or fails. Times are seconds of the epoch."""

    def begin(self, name: str, start: float, attributes: Attributes, parent: str = "") -> Begun:
        """A span that goes on, under ``parent``, a traceparent; the first of a trace where that is empty or is none."""
        ...

    def span(self, name: str, parent: str, start: float, end: float, attributes: Attributes) -> None:
        """A finished span under ``parent``, a traceparent; nothing where that is empty or is none."""
        ...

    def close(self) -> None:
        """Send what is left; may block for some seconds."""
        ...


class Untraced:
    """Looks away."""

    traceparent = ""

    def begin(self, name: str, start: float, attributes: Attributes, parent: str = "") -> Untraced:
        return self

    def span(self, name: str, parent: str, start: float, end: float, attributes: Attributes) -> None: ...

    def end(self, at: float, attributes: Attributes) -> None: ...

    def close(self) -> None: ...


class TracedSettings(ServiceSettings):
    """Of services that can be traced."""

    otlp_endpoint: str = Field(
        default="",
        pattern=r"^(https?://[^\s/]+\S*)?$",
        description="URL of an OpenTelemetry collector (OTLP over HTTP, often port 4318) that traces go to, one span for each "
        "segment of a round and each turn of the policy; empty: no traces. Needs the extra `otlp`",
    )


def tracer(endpoint: str, service: str, instance: str, share: float = 1.0) -> Tracer:
    """The tracer of a process. Raises ``ConfigError`` where ``endpoint`` is set and the extra `otlp` is not installed."""
    if not endpoint:
        return Untraced()
    from services.common import otlp

    return otlp.connect(endpoint, service, instance, share)
