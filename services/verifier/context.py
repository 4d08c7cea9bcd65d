"""What a verifier must know of a session to judge a round, and what it answers. Pure, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from services.common import codec
from services.common.codec import base_digest
from services.common.energy.meter import Source
from services.common.energy.share import MICRO
from services.common.messages import CandidateBatch, Open, Status, Verdict
from services.common.policy_reader import InForce
from services.common.speculative import Judged, SpanToken
from services.verifier.energy import Spent

Refusal = tuple[Status, str]


@dataclass(frozen=True)
class Context:
    """Constants of a session (``open``, without its ids) and the committed ``ids``, also ``packed``, with their ``digest``.

    ``tenant``: whose session it is. ``refusal`` is set where the session cannot be served: each round of it is answered with
    that status and reason.
    """

    open: Open
    ids: list[int]
    packed: bytes
    digest: bytes
    tenant: str
    refusal: Refusal | None = None

    @staticmethod
    def of(message: Open, ids: list[int], tenant: str, refusal: Refusal | None = None) -> Context:
        constants = message.model_copy(update={"ids": b""})
        return Context(constants, ids, codec.pack_ids(ids), base_digest(ids), tenant, refusal)

    def matches(self, message: CandidateBatch) -> bool:
        """Is the round's base what is known here? A refused session has no base to compare."""
        if self.refusal is not None:
            return True
        return self.digest == message.base_digest and len(self.ids) == message.base_length

    def after(self, kept: list[int], token: int | None) -> Context:
        """The context once ``kept`` span ids and the correction or bonus are committed."""
        new = kept + ([] if token is None else [token])
        ids = self.ids + new
        return Context(self.open, ids, self.packed + codec.pack_ids(new), base_digest(ids), self.tenant)


@dataclass(frozen=True)
class Target:
    """What messages are checked against. ``capacity_tokens``: prompt, answer and span of one session."""

    tokenizer_hash: str
    vocabulary: int
    capacity_tokens: int
    max_span_tokens: int = codec.MAX_SPAN_TOKENS


def read_open(message: Open, target: Target, context_bytes: int) -> tuple[list[int], Refusal | None]:
    """The base that a session is opened with; or no ids and why this target cannot serve it.

    ``context_bytes``: the longest base that is kept. Nothing long is unpacked before it is known to fit.
    """
    count = codec.count_ids(message.ids)
    if message.tokenizer_hash != target.tokenizer_hash:
        shown = message.tokenizer_hash if message.tokenizer_hash.isprintable() else "unreadable"
        return [], (
            Status.TOKENIZER_MISMATCH,
            f"the device's tokenizer is {shown or 'not named'}, the target's is {target.tokenizer_hash}: "
            "choose a draft and a target of one family",
        )
    if count >= target.capacity_tokens:
        return [], _invalid(f"a prompt of {count} tokens; this verifier's context is {target.capacity_tokens} tokens")
    if len(message.ids) > context_bytes:
        return [], _invalid(f"a prompt of {len(message.ids)} bytes; contexts of {context_bytes} bytes are kept")
    try:
        ids = message.base()
    except codec.CodecError as error:
        return [], _invalid(str(error))
    if message.prompt_tokens > len(ids):
        return [], _invalid(f"a prompt of {message.prompt_tokens} tokens in a base of {len(ids)}")
    if max(ids) >= target.vocabulary:
        return [], _invalid(f"a prompt with a token id of {target.vocabulary} or more")
    return ids, None


def _invalid(reason: str) -> Refusal:
    return Status.INVALID, reason


def refuse_round(message: CandidateBatch, span: list[SpanToken], target: Target) -> str:
    """Why a round cannot be judged by this target, or an empty string."""
    if not span and not message.want_bonus:
        return "an empty span without a bonus: nothing to judge"
    if any(t.d >= target.vocabulary or (t.x is not None and int(t.x.ids.max()) >= target.vocabulary) for t in span):
        return f"a span with a token id of {target.vocabulary} or more"
    if message.base_length + len(span) + message.want_bonus > target.capacity_tokens:
        return f"base and span exceed this verifier's context of {target.capacity_tokens} tokens"
    return ""


def refusal(message: CandidateBatch, status: Status, reason: str) -> Verdict:
    """A verdict that is not ``ok``."""
    return Verdict(session=message.session, round=message.round, attempt=message.attempt, status=status, reason=reason[:300])


def verdict(
    message: CandidateBatch,
    judged: Judged,
    after: Context,
    *,
    queue: float,
    verify: float,
    policy: InForce | None = None,
    spent: Spent | None = None,
) -> Verdict:
    """The ``ok`` verdict; ``queue`` and ``verify`` in seconds; ``policy``: of the session's device class; ``spent`` on it."""
    return Verdict(
        session=message.session,
        round=message.round,
        attempt=message.attempt,
        kept=judged.kept,
        token=judged.token,
        corrected=judged.corrected,
        base_length=len(after.ids),
        base_digest=after.digest,
        audits=codec.pack_audits(judged.audits),
        queue_seconds=queue,
        verify_seconds=verify,
        policy_k=None if policy is None else policy.k,
        policy_gamma=None if policy is None else policy.gamma,
        policy_version=0 if policy is None else policy.version,
        energy_joules=None if spent is None else spent.microjoules / MICRO,
        energy_measured=spent is not None and spent.source is Source.MEASURED,
    )


def follows(stored: Verdict, context: Context, span: list[SpanToken]) -> Context | None:
    """The context after a verdict stored for the same round, or None if it was given for another span."""
    if stored.kept > len(span):
        return None
    after = context.after([t.d for t in span[: stored.kept]], stored.token)
    same = after.digest == stored.base_digest and len(after.ids) == stored.base_length
    return after if same else None
