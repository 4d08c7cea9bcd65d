"""The ``sluice`` field: the fate of each token in a chunk, and what the whole answer was worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from services.common.calibration.files import NO_GUARANTEE
from services.edge_worker.answer import AnswerStats, Decision
from services.edge_worker.http.detokenise import TokenTable
from services.edge_worker.http.knobs import Knobs
from services.edge_worker.http.text import Piece

SEGMENTS = ("draft", "wait", "verify")


def token_entries(pieces: Iterable[Piece], table: TokenTable) -> list[dict[str, Any]]:
    """One entry per token, in order; their texts add up to the text of the chunk. ``replaced`` is the draft's text or null."""
    return [
        {
            "text": piece.text,
            "decision": piece.token.decision.value,
            "uncertainty": piece.token.uncertainty,
            "round": piece.token.round,
            "replaced": None if piece.token.replaced is None else table.alone(piece.token.replaced),
        }
        for piece in pieces
    ]


def summary(stats: AnswerStats, decisions: Counter[Decision], knobs: Knobs, guarantee: str, withdrawn: str) -> dict[str, Any]:
    """The account of an answer. ``decisions`` counts the tokens of this answer, ``stats`` is what the session loop spent.

    ``guarantee`` is what the request was promised; an answer with unverified tokens keeps no promise, and none holds while
    ``withdrawn`` says why. ``damage`` is an unbiased estimate from ``audited`` tokens; those of a sample weigh more.
    ``kept_local``: no verifier was to be asked, by ``k`` 0 or because the gate kept the whole. ``acceptance`` is accepted /
    judged candidates, null where none was judged; ``seconds`` is by segment. ``energy_joules`` is by component, ``verify``
    the answer's share of the verifiers'; ``energy_source`` says of each whether it was measured or estimated. All of energy
    is null where nobody counts it.
    """
    seconds = {name: round(getattr(stats, f"{name}_seconds"), 6) for name in SEGMENTS}
    return {
        "mode": knobs.mode.value,
        "lossless": stats.lossless,
        "kept_local": stats.kept_local,
        "k": knobs.k,
        "gamma": knobs.gamma,
        "tokens": {d.value: decisions[d] for d in Decision} | {"total": decisions.total()},
        "rounds": stats.rounds,
        "lost_rounds": stats.lost_rounds,
        "judged": stats.judged,
        "uplink_payload_bytes": stats.payload_bytes,
        "upload_rate": stats.upload_rate,
        "damage": stats.damage,
        "audited": stats.audits.audited,
        "acceptance": stats.accepted / stats.judged if stats.judged else None,
        "guarantee": NO_GUARANTEE if stats.degraded_reason or stats.unverified or withdrawn else guarantee,
        "guarantee_reason": withdrawn or None,
        "degraded": stats.degraded_reason or None,
        "seconds": seconds,
        "energy_joules": stats.energy.joules or None,
        "energy_joules_per_token": stats.energy.total_joules / stats.total if stats.energy.joules and stats.total else None,
        "energy_source": {name: source.value for name, source in stats.energy.sources.items()} or None,
    }
