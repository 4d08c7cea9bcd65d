"""The target's own text with its own final states: what the draft learns from.

The target answers prompts at temperature 1 without truncation. While it writes, the final hidden state that predicted
each token is kept, so that training never runs the target's layers again: its logits are one matrix product away.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from services.common.lm.engine import CausalEngine
from services.distill.prompts import prompts


@dataclass(frozen=True)
class Sample:
    """One answer. ``ids`` `[prompt + answer]`; ``states`` `[answer, hidden]`, where row ``j`` predicted answer token ``j``."""

    ids: torch.Tensor
    prompt_tokens: int
    states: torch.Tensor

    @property
    def answer_tokens(self) -> int:
        return len(self.ids) - self.prompt_tokens


def chat_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """The prompt as one user turn of the model's chat template, ready for the answer."""
    text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def draw(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One token per row of ``logits`` `[n, vocabulary]` at temperature 1, by inversion of the distribution function."""
    cumulative = torch.softmax(logits, dim=-1).cumsum(dim=-1)
    point = torch.rand(len(logits), 1, generator=generator) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point).squeeze(1).clamp(max=logits.shape[-1] - 1)


def write(
    engine: CausalEngine,
    prompts: Iterable[list[int]],
    *,
    end_ids: set[int],
    max_new_tokens: int,
    seed: int,
    on_token: Callable[[int], None] = lambda _: None,
) -> Iterator[Sample]:
    """Answer ``prompts`` (token ids) with continuous batching over the engine's slots; yields samples as they finish."""
    generator = torch.Generator().manual_seed(seed)
    queue = iter(prompts)
    free = list(range(engine.cache.slots))
    rows: list[int] = []
    texts: list[list[int]] = []
    prompt_lengths: list[int] = []
    states: list[list[torch.Tensor]] = []
    fed: list[int] = []
    drained = False
    while True:
        while free and not drained:
            ids = next(queue, None)
            if ids is None:
                drained = True
                break
            rows.append(free.pop())
            texts.append(list(ids))
            prompt_lengths.append(len(ids))
            states.append([])
            fed.append(0)
        if not rows:
            return
        new = [i for i in range(len(rows)) if fed[i] == 0]
        for batch in [new[i : i + 16] for i in range(0, len(new), 16)]:
            _step(engine, batch, rows, texts, fed, states, generator)
        fresh = set(new)
        old = sorted((i for i in range(len(rows)) if i not in fresh), key=rows.__getitem__)
        if old:
            _step(engine, old, rows, texts, fed, states, generator)
        on_token(len(rows))
        for i in reversed(range(len(rows))):
            if texts[i][-1] in end_ids or len(states[i]) >= max_new_tokens:
                yield Sample(torch.tensor(texts[i], dtype=torch.int32), prompt_lengths[i], torch.stack(states[i]))
                free.append(rows[i])
                for column in (rows, texts, prompt_lengths, states, fed):
                    del column[i]


def _step(
    engine: CausalEngine,
    picked: list[int],
    rows: list[int],
    texts: list[list[int]],
    fed: list[int],
    states: list[list[torch.Tensor]],
    generator: torch.Generator,
) -> None:
    new = [texts[i][fed[i] :] for i in picked]
    hidden = engine.hidden([rows[i] for i in picked], [fed[i] for i in picked], new)
    last = hidden[torch.arange(len(picked)), torch.tensor([len(t) - 1 for t in new])]
    tokens = draw(engine.logits(last), generator).tolist()
    for i, token, state in zip(picked, tokens, last.to(torch.bfloat16), strict=True):
        fed[i] = len(texts[i])
        texts[i].append(token)
        states[i].append(state)


def self_instruct(
    engine: CausalEngine, tokenizer: PreTrainedTokenizerBase, count: int, *, end_ids: set[int], seed: int
) -> Iterator[list[int]]:
    """Prompts that the target writes itself: its chat template up to the user's turn is all it is given."""
    turn = [{"role": "user", "content": "\u0000"}]
    before, after = str(tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)).split("\u0000")
    head = tokenizer(before, add_special_tokens=False)["input_ids"]
    tail = tokenizer(after, add_special_tokens=False)["input_ids"]
    for sample in write(engine, [head] * count, end_ids=end_ids, max_new_tokens=64, seed=seed):
        question = sample.ids[sample.prompt_tokens :].tolist()
        if question and question[-1] in end_ids:
            question = question[:-1]
        if 4 <= len(question) < 64:
            yield [*head, *question, *tail]


def build(
    engine: CausalEngine,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    answer_tokens: int,
    max_new_tokens: int,
    end_ids: set[int],
    seed: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[Sample]:
    """The corpus of one seed in shards of 512 samples under ``folder``; shards that are there already are kept.

    Half of the prompts come from templates, half are written by the target itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    shard = 0
    while sum(s.answer_tokens for s in samples) < answer_tokens:
        shard_seed = seed * 1000 + shard

        def fresh(shard_seed: int = shard_seed) -> Iterator[Sample]:
            templates = prompts(shard_seed)
            own = self_instruct(engine, tokenizer, 256, end_ids=end_ids, seed=shard_seed)
            questions = [*own, *(chat_ids(tokenizer, next(templates)) for _ in range(256))]
            random.Random(shard_seed).shuffle(questions)
            return write(
                engine, questions, end_ids=end_ids, max_new_tokens=max_new_tokens, seed=shard_seed, on_token=on_progress
            )

        samples += _kept(folder / f"shard-{shard:03d}.pt", fresh)
        shard += 1
    return samples


def held_out(
    engine: CausalEngine,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    *,
    max_new_tokens: int,
    end_ids: set[int],
    seed: int,
    count: int = 100,
) -> list[Sample]:
    """The target's answers to ``count`` prompts of the held-out split, kept in ``path``."""

    def fresh() -> Iterator[Sample]:
        questions = [chat_ids(tokenizer, prompt) for prompt in islice(prompts(seed, "held-out"), count)]
        return write(engine, questions, end_ids=end_ids, max_new_tokens=max_new_tokens, seed=99)

    return _kept(path, fresh)


def _kept(path: Path, fresh: Callable[[], Iterator[Sample]]) -> list[Sample]:
    """The samples in ``path``, or ``fresh`` ones that are kept there from now on."""
    if path.exists():
        rows = torch.load(path, weights_only=True)
        return [Sample(ids, int(prompt), states) for ids, prompt, states in rows]
    samples = list(fresh())
    temporary = path.with_suffix(".part")
    torch.save([(s.ids, s.prompt_tokens, s.states) for s in samples], temporary)
    temporary.rename(path)
    return samples
