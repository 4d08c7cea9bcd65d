"""docs/settings.md out of the settings classes: `python -m services.cli.settings_doc` writes it (`make docs`)."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
_HEAD = """# Settings

Each service reads its settings from environment variables at the start; `sluice up` passes those of its own environment on.
`sluice topics` reads its own in the same way.
A value that cannot work, or contradicts another, ends the start with one line that says what to change.
This page is made from the settings themselves by `make docs`.
"""


def page() -> str:
    from services.cli.topics.settings import TopicsSettings
    from services.edge_worker.settings import EdgeSettings
    from services.policy.settings import PolicySettings
    from services.verifier.settings import VerifierSettings

    parts = [_HEAD]
    for title, settings in (
        ("Edge worker", EdgeSettings),
        ("Verifier", VerifierSettings),
        ("Policy", PolicySettings),
        ("Topics", TopicsSettings),
    ):
        parts.append(
            "\n".join([f"## {title}", "", "| variable | default | effect |", "|---|---|---|", *_rows(settings)]) + "\n"
        )
    return "\n".join(parts)


def _rows(settings: type[BaseSettings]) -> Iterator[str]:
    prefix = str(settings.model_config.get("env_prefix", ""))
    for name, field in settings.model_fields.items():
        effect = (field.description or "") + _choices(field.annotation)
        cell = effect.replace("|", "/")
        yield f"| `{prefix}{name.upper()}` | {_default(field)} | {cell} |"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "usable cores" if getattr(field.default_factory, "__name__", "") == "usable_cores" else "see effect"
    value = field.default.value if isinstance(field.default, enum.Enum) else field.default
    return "none" if value is None or value in ("", []) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _choices(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        values = [str(value) for value in get_args(annotation)]
    elif isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        values = [str(member.value) for member in annotation]
    else:
        return ""
    return " (" + ", ".join(f"`{value}`" for value in values) + ")"


if __name__ == "__main__":
    PAGE.write_text(page())
