"""Bodies of requests, checked: from bytes to typed values, or a 400 that names the parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.edge_worker.http.errors import ApiError, invalid
from services.edge_worker.http.unsupported import CHAT, COMPLETION, HARMLESS, refuse_unsupported

MAX_SEED = 1 << 63


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    include_usage: bool | None = None


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    model: str = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: Any = None
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, ge=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=0, le=1 << 31)
    seed: int | None = Field(default=None, ge=-MAX_SEED, lt=MAX_SEED)
    max_tokens: int | None = None
    sluice: Any = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatBody(_Body):
    messages: Any
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0)


class CompletionBody(_Body):
    prompt: Any
    logprobs: int | None = Field(default=None, ge=0, le=5)


Body = TypeVar("Body", bound=_Body)


def parse_chat(data: bytes) -> ChatBody:
    return _parse(data, ChatBody, CHAT)


def parse_completion(data: bytes) -> CompletionBody:
    return _parse(data, CompletionBody, COMPLETION)


def _parse(data: bytes, kind: type[Body], table: Mapping[str, tuple[Any, ...]]) -> Body:
    try:
        raw = pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise invalid(None, f"the body is not valid JSON: {error}", "invalid_json") from error
    if not isinstance(raw, dict):
        raise invalid(None, "the body must be a JSON object", "invalid_type")
    refuse_unsupported(raw, table)
    wanted = {key: value for key, value in raw.items() if key not in table and key not in HARMLESS}
    try:
        body = kind.model_validate(wanted)
    except ValidationError as error:
        raise _explain(error) from error
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options", "'stream_options' is only allowed when 'stream' is true")
    return body


def _explain(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    param = ".".join(str(part)[:60] for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return invalid(param, f"Unrecognized request argument supplied: {param}", "unknown_parameter")
    if first["type"] == "missing":
        return invalid(param, f"Missing required parameter: '{param}'", "missing_required_parameter")
    return invalid(param, f"Invalid value for '{param}': {first['msg']}", str(first["type"]))
