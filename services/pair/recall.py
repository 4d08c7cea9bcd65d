"""A causal engine that remembers what its rows were fed, so that the same text is not run twice.

Answers to one prompt, written one after the other in one row, share the prompt and often much of the text: the large model
alone and with judged drafts, neighbouring thresholds. A state depends on the ids up to it alone (up to rounding, which depends
on the batch). So each position carries a hash of the ids it was run for, and one whose text has not changed needs no pass, also
behind a token that was drafted, refused and corrected back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from services.common.lm.attention import LastRow
from services.common.lm.engine import CausalEngine

PASS_TOKENS = 16  # about as many tokens cost what a pass costs by itself: reading the weights


class Recall(CausalEngine):
    """Passes go in groups of similar length: padding is computed like everything else."""

    def __init__(self, model: PreTrainedModel, *, slots: int, capacity_tokens: int) -> None:
        super().__init__(model, slots=slots, capacity_tokens=capacity_tokens)
        self._chains: list[list[int]] = [[] for _ in range(slots)]  # hash of the row's ids up to each position
        self._run_for: list[list[int | None]] = [[None] * capacity_tokens for _ in range(slots)]
        self._states: dict[int, torch.Tensor] = {}  # row: [capacity, hidden]
        self.fed_tokens = self.recalled_tokens = 0

    @torch.inference_mode()
    def hidden(
        self, rows: Sequence[int], starts: Sequence[int], tokens: Sequence[Sequence[int]], watch: LastRow | None = None
    ) -> torch.Tensor:
        """See ``CausalEngine.hidden``; with ``watch`` the last token of each row is run in any case."""
        spans = [self._missing(*one, last=watch is not None) for one in zip(rows, starts, tokens, strict=True)]
        lengths = [end - first for first, end in spans]
        weights: dict[int, torch.Tensor] = {}
        for group in _alike([b for b, n in enumerate(lengths) if n], lengths):
            pieces = [(rows[b], starts[b] + spans[b][0], list(tokens[b][slice(*spans[b])])) for b in group]
            self._feed(pieces, watch)
            if watch is not None and watch.weights is not None:
                weights |= dict(zip(group, watch.weights, strict=True))
        self.fed_tokens += sum(lengths)
        self.recalled_tokens += sum(map(len, tokens)) - sum(lengths)
        if watch is not None:
            watch.weights = _padded([weights[b] for b in range(len(rows))])
        states = [self._states[row][at : at + len(t)] for row, at, t in zip(rows, starts, tokens, strict=True)]
        return _padded(states)

    def _missing(self, row: int, start: int, tokens: Sequence[int], *, last: bool) -> tuple[int, int]:
        """The row now holds ``tokens`` from ``start``; from which to before which of them must be run."""
        chain, run_for = self._chains[row], self._run_for[row]
        if start > len(chain):
            raise RuntimeError("a row was fed from beyond what it holds")
        del chain[start:]
        for token in tokens:
            chain.append(hash((chain[-1] if chain else 0, token)))
        missing = [i for i in range(len(tokens)) if run_for[start + i] != chain[start + i]]
        if last:
            missing.append(len(tokens) - 1)
        return (missing[0], missing[-1] + 1) if missing else (0, 0)

    def _feed(self, pieces: Sequence[tuple[int, int, list[int]]], watch: LastRow | None) -> None:
        rows, starts, tokens = [row for row, _, _ in pieces], [at for _, at, _ in pieces], [t for _, _, t in pieces]
        out = super().hidden(rows, starts, tokens, watch)
        for b, (row, at, piece) in enumerate(pieces):
            if row not in self._states:
                self._states[row] = out.new_zeros(self.cache.capacity_tokens, out.shape[-1])
            end = at + len(piece)
            self._states[row][at:end] = out[b, : len(piece)]
            self._run_for[row][at:end] = self._chains[row][at:end]
            padding = at + out.shape[1] - end
            self._run_for[row][end : end + padding] = [None] * padding  # keys and values of nothing were written there


def _alike(rows: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """``rows`` in groups of similar length, such that passes and padding together cost least."""
    ordered = sorted(rows, key=lambda b: lengths[b])
    best: list[tuple[float, int]] = [(0.0, 0)]  # of the first n rows: cost, and where the last group starts
    for end in range(1, len(ordered) + 1):
        longest = lengths[ordered[end - 1]]
        best.append(min((best[at][0] + PASS_TOKENS + (end - at) * longest, at) for at in range(end)))
    groups, end = [], len(ordered)
    while end:
        groups.append(ordered[best[end][1] : end])
        end = best[end][1]
    return groups[::-1]


def _padded(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
