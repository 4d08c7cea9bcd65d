"""Parameters of the OpenAI API that would change the answer and that this server does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.edge_worker.http.errors import ApiError, invalid

# parameter -> values (besides null) that ask for nothing
CHAT: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "audio": (),
    "modalities": (["text"], []),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
    "moderation": (),
}
COMPLETION: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
}
# accepted and ignored: they change bookkeeping or speed, not the answer
HARMLESS = frozenset(
    {
        "user",
        "store",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "parallel_tool_calls",
        "prediction",
    }
)


def refuse_unsupported(body: Mapping[str, Any], table: Mapping[str, tuple[Any, ...]]) -> None:
    """A 400 that names the first parameter of ``body`` that asks for something this server does not do."""
    for name, neutral in table.items():
        value = body.get(name)
        if value is None or any(value == calm and isinstance(value, bool) == isinstance(calm, bool) for calm in neutral):
            continue
        raise unsupported(name, neutral)


def unsupported(name: str, neutral: tuple[Any, ...] = ()) -> ApiError:
    hint = f"; leave it out or set it to {neutral[0]!r}" if neutral else "; leave it out"
    return invalid(name, f"'{name}' is not supported here{hint}", "unsupported_parameter")
