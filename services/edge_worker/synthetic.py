"""The synthetic draft model at work: a hash instead of a network, steps that are only waited for. Bytes are tokens.

It is how many devices run on one machine (`SLUICE_EDGE_DRAFT=synthetic`, with verifiers of the `synthetic` target): what is
answered is no text, but everything around the model is real.
"""

from __future__ import annotations

import asyncio

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from services.common import synthetic
from services.common.lm.errors import ModelError
from services.common.synthetic import SyntheticLaw
from services.edge_worker.draft import Step, StepRequest
from services.edge_worker.fakes import TableDrafter
from services.edge_worker.http.detokenise import byte_alphabet

TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


class PacedDrafter(TableDrafter):
    """``Drafter`` as slow as a device: ``step_seconds`` for each step of a session, however many run at once, since each stands
    for a device of its own."""

    def __init__(self, law: SyntheticLaw, *, slots: int, entries: int = 64, step_seconds: float = 0.0) -> None:
        super().__init__(law, slots=slots, entries=entries)
        self._step_seconds = step_seconds

    @property
    def free(self) -> int:
        """Slots that no session holds."""
        return len(self._free)

    async def step(self, request: StepRequest) -> Step:
        await asyncio.sleep(self._step_seconds)
        return await super().step(request)

    def stalled(self) -> float:
        """Never: nothing runs beside the event loop, which is watched."""
        return 0.0

    def close(self) -> None:
        """Nothing to end."""


def drafter(reference: str, *, slots: int, entries: int, step_seconds: float) -> PacedDrafter:
    """``reference``: `synthetic` or `synthetic:SEED`. Raises ``ModelError``."""
    try:
        law = SyntheticLaw(synthetic.seed_of(reference), synthetic.DRAFT_NOISE)
    except ValueError as error:
        raise ModelError(str(error)) from error
    return PacedDrafter(law, slots=slots, entries=entries, step_seconds=step_seconds)


def tokenizer() -> PreTrainedTokenizerBase:
    """Each byte of the text is its own id; a conversation is its texts, a line each."""
    backend = Tokenizer(models.BPE(vocab=byte_alphabet(), merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    made: PreTrainedTokenizerBase = PreTrainedTokenizerFast(tokenizer_object=backend)  # type: ignore[no-untyped-call]
    made.chat_template = TEMPLATE
    return made
