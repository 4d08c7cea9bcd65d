"""What calibration and evaluation write answers with: a pair of models, and a row of it for each answer written at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, Protocol, TypeVar

from services.common.calibration.files import Model
from services.common.calibration.predictor import Predictor
from services.common.speculative import Row as Law
from services.edge_worker.draft import Drafter
from services.edge_worker.signals import Signal
from services.edge_worker.verifier_client import VerifierClient

Job = TypeVar("Job")


class Judging(VerifierClient, Protocol):
    """A verifier in this process. ``laws``: the large model's at each token of the span it judged last, and behind it."""

    @property
    def laws(self) -> Sequence[Law]: ...


Client = TypeVar("Client", bound=VerifierClient)
Client_co = TypeVar("Client_co", bound=VerifierClient, covariant=True)


class Row(Protocol[Client_co]):
    """One answer at a time."""

    @property
    def judge(self) -> Client_co: ...

    def drafter(self, signal: Signal, predictor: Predictor | None = None, *, every: bool = False) -> Drafter:
        """Its steps' ``u`` is the predictor's, else the signal's; ``every``: they carry all signals, and ``u`` is one minus
        the largest probability."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """Around each answer: meanwhile the other rows wait for its requests."""
        ...


class Pair(Protocol[Client_co]):
    """Both models in this process, and the prompts in the ids of their tokenizer."""

    prompts: Sequence[Sequence[int]]
    end_ids: frozenset[int]
    draft: Model
    target: Model
    tokenizer_hash: str
    template_hash: str

    @property
    def rows(self) -> Sequence[Row[Client_co]]: ...

    def text(self, ids: Sequence[int]) -> str: ...

    def close(self) -> None:
        """Threads end."""
        ...


class SoloRow(Generic[Client]):
    """A row that shares nothing: ``make`` gives its drafter."""

    def __init__(self, make: Callable[[Signal, Predictor | None], Drafter], judge: Client) -> None:
        self._make, self.judge = make, judge

    def drafter(self, signal: Signal, predictor: Predictor | None = None, *, every: bool = False) -> Drafter:
        return self._make(signal, predictor)

    def writing(self) -> AbstractContextManager[None]:
        return nullcontext()


async def spread(groups: Iterable[Job], workers: Sequence[Callable[[Job], Awaitable[None]]]) -> None:
    """Each of ``groups`` to the next worker that is free; the first error ends them all."""
    left = iter(groups)

    async def work(worker: Callable[[Job], Awaitable[None]]) -> None:
        for job in left:
            await worker(job)

    tasks = [asyncio.create_task(work(worker)) for worker in workers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
