"""What a rendered release must keep beyond the schemas of its objects. Pure: documents in, problems out, each one line."""

from __future__ import annotations

from tests.infra.semantics import hardening, limits, network, references, scaling, selectors, stopping
from tests.infra.semantics.release import Release

RULES = (
    *selectors.RULES,
    *references.RULES,
    *limits.RULES,
    *scaling.RULES,
    *stopping.RULES,
    *hardening.RULES,
    *network.RULES,
)


def problems(release: Release) -> list[str]:
    """Every rule's complaints."""
    return [problem for rule in RULES for problem in rule(release)]
