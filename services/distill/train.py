"""Train the draft: the target's remaining layers learn the target's law, and learn to live with four-bit weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from services.common.lm import int4, parts
from services.distill import net
from services.distill.batches import Batch, collate, groups
from services.distill.corpus import Sample
from services.distill.objective import DistillationLoss, acceptance

CHUNK = 128  # rows of logits at a time: 25 MB, which malloc keeps; larger blocks cost a page fault for every 4 KB, each time


@dataclass(frozen=True)
class Recipe:
    """The knobs of one training run; the defaults, then ``REFINE``, made the shipped draft."""

    epochs: int = 2
    batch_tokens: int = 3072
    learning_rate: float = 6e-4
    warmup_steps: int = 30
    quantize_from: float = 0.4  # share of the steps after which the forward pass sees four-bit weights
    kl_weight_start: float = 0.8
    kl_weight_end: float = 0.05
    seed: int = 1


REFINE = Recipe(
    epochs=1, learning_rate=3e-4, warmup_steps=10, quantize_from=0.0, kl_weight_start=0.05, kl_weight_end=0.0
)  # for a draft that exists: four bits and the total variation from the first step on


class Linear4(nn.Linear):
    """A linear layer that can see its weights as they will be shipped, with a straight-through gradient."""

    quantized = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight
        if self.quantized:
            shipped = int4.dequantize(*int4.quantize(weight))
            weight = weight + (shipped - weight).detach()
        return nn.functional.linear(x, weight.to(x.dtype))


def student_of(target: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """A copy of ``target`` with only ``layers``; embedding and head are shared and frozen, the rest is float32."""
    decoder = net.decoder(target)
    every = decoder.layers
    config = copy.deepcopy(target.config)
    config.num_hidden_layers = len(layers)
    decoder.layers = nn.ModuleList()
    student = copy.deepcopy(target)
    decoder.layers = every
    student.config = net.decoder(student).config = config
    net.decoder(student).layers = nn.ModuleList(copy.deepcopy(every[i]) for i in layers).float()
    net.decoder(student).norm.float()
    for position, layer in enumerate(net.decoder(student).layers):
        layer.self_attn.layer_idx = position
        for parent in (layer.self_attn, layer.mlp):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Linear):
                    linear = Linear4(child.in_features, child.out_features, bias=False)
                    linear.weight = child.weight
                    setattr(parent, name, linear)
    student.requires_grad_(False)
    net.decoder(student).layers.requires_grad_(True)
    net.decoder(student).norm.requires_grad_(True)
    return student


def see_four_bits(student: PreTrainedModel, on: bool) -> None:
    for module in student.modules():
        if isinstance(module, Linear4):
            module.quantized = on


def states(student: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """The draft's final states `[n, hidden]` at the places that predict answer tokens."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net.decoder(student)(input_ids=batch.ids, use_cache=False).last_hidden_state
    picked: torch.Tensor = out[batch.places[:, 0], batch.places[:, 1]]
    return picked


@torch.inference_mode()
def evaluate(student: PreTrainedModel, samples: Sequence[Sample], seed: int = 0) -> float:
    """Mean of ``sum_t min(x_t, y_t)`` over the answer tokens of ``samples``, with the weights as they are seen now."""
    head = net.head_weight(student)
    values = [acceptance(states(student, b).to(head.dtype), b.states, head) for b in map(collate, groups(samples, 4096, seed))]
    return float(torch.cat(values).mean())


def train(
    target: PreTrainedModel,
    layers: Sequence[int],
    samples: Sequence[Sample],
    recipe: Recipe,
    on_step: Callable[[int, int, float, PreTrainedModel], None] = lambda *_: None,
    start: PreTrainedModel | None = None,
) -> PreTrainedModel:
    """Distil ``target`` into its own ``layers``, or go on from ``start``, a draft that has them.

    ``on_step(step, steps, acceptance, student)`` after each update.
    """
    torch.manual_seed(recipe.seed)
    student = student_of(target, layers)
    if start is not None:
        net.decoder(student).layers.load_state_dict(net.decoder(start).layers.state_dict())
        net.decoder(student).norm.load_state_dict(net.decoder(start).norm.state_dict())
    head = net.head_weight(target)
    plan = [g for epoch in range(recipe.epochs) for g in groups(samples, recipe.batch_tokens, recipe.seed + epoch)]
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    for step, rows in enumerate(plan):
        batch = collate(rows)
        done = step / len(plan)
        warm = min(1.0, (step + 1) / recipe.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
        see_four_bits(student, done >= recipe.quantize_from)
        kl_weight = recipe.kl_weight_start + (recipe.kl_weight_end - recipe.kl_weight_start) * done
        draft_states = states(student, batch).to(head.dtype)
        distance = DistillationLoss.apply(draft_states, batch.states, head, kl_weight, CHUNK)
        optimizer.zero_grad()
        distance.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        on_step(step + 1, len(plan), 1.0 - distance.item(), student)
    see_four_bits(student, True)
    return parts.frozen(student)
