"""Which weight format to run on this machine: measured at start-up, on the model's own layers."""

from __future__ import annotations

import time
from collections import Counter
from typing import Literal

import structlog
import torch
from torch import nn
from transformers import PreTrainedModel

from services.common.lm import linear, parts
from services.common.lm.errors import ModelError

Role = Literal["draft", "target"]
# New tokens in a typical pass: a draft writes one at a time; a verifier judges short spans of a few sessions.
_ROWS = {"draft": (1, 4), "target": (1, 4, 8, 16)}
_ROUNDS = 4
_FLUSH_BYTES = 48 << 20  # read between two measurements: in a real pass no layer is still in the cache from the last one
# How much faster a format must be to be worth it: eager bfloat16 than packed, since noise alone may say so; rounded
# weights, since a worse draft is accepted less often (not where four bits are what the draft was trained in).
_HANDICAP = {linear.PACKED: 1.0, linear.BF16: 1.15, linear.INT8: 1.1, linear.INT4: 1.6}
_log = structlog.get_logger(__name__)


def apply(model: PreTrainedModel, weights: str, role: Role) -> str:
    """Bring a loaded model into a format (or ``auto``, measured) and return the format it is in."""
    parameter = next(model.parameters())
    plain = linear.FLOAT32 if parameter.dtype == torch.float32 else linear.BF16
    if weights == "auto":
        usable = parameter.device.type == "cpu" and parameter.dtype == torch.bfloat16
        weights = choose(model, role) if usable else plain
    elif weights not in linear.FORMATS:
        raise ModelError(f"unknown weight format {weights!r}: choose auto or one of {', '.join(linear.FORMATS)}")
    if weights in (linear.FLOAT32, linear.BF16):
        if weights != plain:
            raise ModelError(f"weights {weights!r} contradict the type {parameter.dtype}: leave one of the two on auto")
        return weights
    if parameter.device.type != "cpu" or parameter.dtype != torch.bfloat16:
        raise ModelError(f"the weight format {weights} needs type bfloat16 on a CPU: use auto")
    if not linear.available(weights):
        raise ModelError(f"this torch on this processor cannot run the weight format {weights}: use auto")
    linear.convert(model, weights)
    return weights


@torch.inference_mode()
def choose(model: PreTrainedModel, role: Role) -> str:
    """The fastest format for a role; a target only gets one that gives the same numbers as plain bfloat16."""
    others = () if role == "target" else (linear.INT8, linear.INT4)
    names = [name for name in (*linear.SAME_NUMBERS, *others) if linear.available(name)]
    seconds = dict.fromkeys(names, 0.0)
    for layer, count in _layers(model):
        variants = {name: _as(layer, name) for name in names}
        for rows in _ROWS[role]:
            for name, best in _measure(variants, torch.randn(rows, layer.in_features).to(torch.bfloat16)).items():
                seconds[name] += count * best
    stored = any(hasattr(module, "int4") for module in model.modules())
    handicap = {**_HANDICAP, linear.INT8: 1.3, linear.INT4: 1.0} if stored else _HANDICAP  # int8 would round twice
    fastest: str = min(names, key=lambda name: seconds[name] * handicap[name])
    milliseconds = {name: round(1e3 * value / len(_ROWS[role]), 2) for name, value in seconds.items()}
    _log.info("weight format chosen", role=role, weights=fastest, linear_ms_per_pass=milliseconds, rows=list(_ROWS[role]))
    return fastest


def _measure(variants: dict[str, nn.Module], x: torch.Tensor) -> dict[str, float]:
    """Least seconds of each variant on ``x``; interleaved, so that a busy machine hits all alike."""
    best = dict.fromkeys(variants, float("inf"))
    cold = torch.ones(_FLUSH_BYTES // 4)
    for _ in range(_ROUNDS):
        for name, module in variants.items():
            cold.sum()
            began = time.perf_counter()
            module(x)
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def _as(layer: nn.Linear, name: str) -> nn.Module:
    """A layer in a format, or as it is where that does not fit."""
    module = linear.MODULES.get(name)
    return module(layer) if module is not None and linear.fits(layer, name) else layer


def _layers(model: PreTrainedModel) -> list[tuple[nn.Linear, int]]:
    """One linear layer of each shape and how many there are; the head is left out: it takes the same format everywhere
    that the rest does, and is large enough to be slow to pack only for a trial."""
    head = parts.head(model)
    found = [m for m in model.modules() if type(m) is nn.Linear and m is not head]
    counts = Counter((m.in_features, m.out_features) for m in found)
    return [(next(m for m in found if (m.in_features, m.out_features) == shape), n) for shape, n in counts.items()]
