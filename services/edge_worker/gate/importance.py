"""Importance: what attention says about a token. Pure. The definitions are ours; the paper's (arXiv 2508.12590) are not public.

The *row* of a token is the attention of one layer, heads averaged, from which its logits came: the query is the token before
it, the keys are everything up to there. The first column is the sink, where attention goes that has nowhere to go.

* ``binding``: one minus the sink's share in the token's own row: how much its choice leans on what was written. Known with
  the draft, and, like the logits, a function of the prefix alone.
* ``received``: the share of the token in the row of the *next* drafted token, the sink left out and the rest renormalised: how
  much the continuation leans on it. Known one draft step later; it depends on the token's value.

A threshold that is fixed collapses: as a text grows, a share of it shrinks, and the gate ends up never or always firing.
``threshold`` is a quantile of the same quantity over the last tokens of the text, taken anew at every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from services.edge_worker.signals import Importance


def importance(row: torch.Tensor, kind: Importance) -> float | None:
    """``row`` `[columns]`: attention weights of the row just computed. ``binding`` is of the token drafted from it,
    ``received`` of the token before that one."""
    if kind is Importance.BINDING:
        return binding(row)
    return received(row) if kind is Importance.RECEIVED else None


def binding(row: torch.Tensor) -> float:
    """In [0, 1]; 0 where there is no column beside the sink."""
    return min(1.0, float(row[1:].sum()))


def received(row: torch.Tensor) -> float:
    """In [0, 1]; 0 where all attention is the sink's."""
    rest = float(row[1:].sum())
    return min(1.0, float(row[-1]) / rest) if rest > 0.0 else 0.0


def threshold(history: Sequence[float], quantile: float, window: int) -> float | None:
    """The ``quantile`` of the last ``window`` values, by nearest rank from below; ``None`` before the first one."""
    recent = sorted(history[-window:])
    return recent[int(quantile * (len(recent) - 1))] if recent else None
