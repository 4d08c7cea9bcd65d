"""What an expression is made of, by a parser of PromQL."""

from __future__ import annotations

from typing import Any

import promql_parser


def parsed(expr: str) -> list[Any]:
    """The selectors of series in ``expr``, with ``name`` and ``matchers``. Raises ``ValueError`` where it is no PromQL."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)

    promql_parser.walk(promql_parser.parse(expr), visit)
    return found


def selectors(expr: str) -> list[str]:
    """Each as PromQL."""
    return [selector.prettify() for selector in parsed(expr)]
