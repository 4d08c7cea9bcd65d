"""From a checked body to what the session loop is asked: turns, stop sequences, sampling, number of tokens."""

from __future__ import annotations

import secrets
from typing import Any

from services.common.sampling import Sampling
from services.edge_worker.http.bounds import Bounds
from services.edge_worker.http.errors import ApiError, invalid
from services.edge_worker.http.prompts import Turn, too_long
from services.edge_worker.http.schemas import ChatBody, CompletionBody

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
PART_GLUE = "\n"
TINY_TOP_P = 1e-9  # top_p = 0 keeps the best token, as with OpenAI


def turns(messages: Any, bounds: Bounds) -> list[Turn]:
    """The conversation as role and text; a 400 names the message that is not."""
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", "'messages' must be a list with at least one message", "invalid_type")
    if len(messages) > bounds.messages:
        raise invalid("messages", f"{len(messages)} messages; at most {bounds.messages} are allowed")
    return [_turn(message, f"messages[{number}]") for number, message in enumerate(messages)]


def _turn(message: Any, where: str) -> Turn:
    if not isinstance(message, dict):
        raise invalid(where, f"{where} must be an object with role and content", "invalid_type")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise invalid(f"{where}.role", f"{where}.role must be one of {', '.join(ROLES)}; tool messages are not supported")
    for key in ("tool_calls", "function_call", "audio"):
        if message.get(key):
            raise invalid(f"{where}.{key}", f"{where}.{key} is not supported here", "unsupported_parameter")
    return {"role": ROLES[role], "content": _content(message.get("content"), f"{where}.content")}


def _content(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise invalid(where, f"{where} must be a string or a list of text parts", "invalid_type")
    texts: list[str] = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            name = f"'{kind[:40]}'" if isinstance(kind, str) else "untyped"
            raise invalid(
                f"{where}[{number}]", f"{where}[{number}]: {name} parts are not supported; text only", "unsupported_value"
            )
        if not isinstance(part.get("text"), str):
            raise invalid(f"{where}[{number}].text", f"{where}[{number}].text must be a string", "invalid_type")
        texts.append(part["text"])
    return PART_GLUE.join(texts)


def raw_prompt(prompt: Any) -> str | list[int]:
    """The prompt of /v1/completions: a string, a list of one string, token ids, or a list of one list of token ids."""
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and prompt:
        if all(type(token) is int for token in prompt):
            return prompt
        if all(isinstance(item, str | list) for item in prompt):
            raise invalid("prompt", f"{len(prompt)} prompts in one request; only one is supported", "unsupported_value")
    raise invalid("prompt", "'prompt' must be a string, a list of one string, or a list of token ids", "invalid_type")


def stops(stop: Any, bounds: Bounds) -> tuple[str, ...]:
    """Up to four stop sequences, given as a string or a list of strings."""
    if stop is None or stop == []:
        return ()
    sequences = [stop] if isinstance(stop, str) else stop
    if not isinstance(sequences, list) or not all(isinstance(sequence, str) for sequence in sequences):
        raise invalid("stop", "'stop' must be a string or a list of strings", "invalid_type")
    if len(sequences) > bounds.stop_sequences:
        raise invalid("stop", f"{len(sequences)} stop sequences; at most {bounds.stop_sequences} are allowed")
    if not all(sequences):
        raise invalid("stop", "a stop sequence must not be empty")
    if max(map(len, sequences)) > bounds.stop_characters:
        raise invalid("stop", f"a stop sequence may have at most {bounds.stop_characters} characters")
    return tuple(sequences)


def sampling(body: ChatBody | CompletionBody) -> Sampling:
    top_p = 1.0 if body.top_p is None else max(body.top_p, TINY_TOP_P)
    return Sampling(temperature=1.0 if body.temperature is None else body.temperature, top_p=top_p, top_k=body.top_k or 0)


def seed(asked: int | None) -> int:
    """The seed in [0, 2^64): the client's, or a random one."""
    return secrets.randbits(64) if asked is None else asked % (1 << 64)


def asked_tokens(body: ChatBody | CompletionBody) -> tuple[int | None, str]:
    """The number of tokens the client wants, and the name of the parameter that said so."""
    new = body.max_completion_tokens if isinstance(body, ChatBody) else None
    if new is not None and body.max_tokens is not None and new != body.max_tokens:
        raise invalid("max_tokens", "'max_tokens' and 'max_completion_tokens' differ; set only one of them")
    return (new, "max_completion_tokens") if new is not None else (body.max_tokens, "max_tokens")


def answer_tokens(asked: int | None, param: str, *, default: int | None, prompt: int, context: int, bounds: Bounds) -> int:
    """Tokens the answer may have. ``default`` None: as many as fit. ``prompt`` is below ``context``, both in tokens."""
    limit = min(bounds.max_tokens, context - 1)
    room = context - prompt
    if asked is None:
        return min(limit, room, default or limit)
    if not 1 <= asked <= limit:
        raise _out_of_range(asked, param, limit)
    if asked > room:
        raise too_long(
            context, f"You requested {prompt + asked} tokens: {prompt} in the prompt, {asked} for the answer.", param
        )
    return asked


def _out_of_range(asked: int, param: str, limit: int) -> ApiError:
    shown = str(asked) if abs(asked) < 1 << 63 else "out of range"
    return invalid(param, f"'{param}' is {shown}; allowed are 1 to {limit}")


def top_logprobs(body: ChatBody | CompletionBody, bounds: Bounds) -> int | None:
    """Alternatives per token; None: no log probabilities wanted."""
    if isinstance(body, CompletionBody):
        return body.logprobs
    if not body.logprobs:
        if body.top_logprobs:
            raise invalid("top_logprobs", "'top_logprobs' needs 'logprobs' to be true")
        return None
    wanted = body.top_logprobs or 0
    if wanted > bounds.top_logprobs:
        raise invalid("top_logprobs", f"'top_logprobs' is {wanted}; at most {bounds.top_logprobs} are given")
    return wanted
