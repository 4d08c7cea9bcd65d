"""How the fate of a token is shown: colours and their legend."""

from __future__ import annotations

from rich.text import Text

STYLES = {
    "skipped": "",
    "accepted": "green",
    "corrected": "bold yellow",
    "bonus": "cyan",
    "unverified": "red underline",
}
MEANINGS = {
    "skipped": "kept by the edge, never sent",
    "accepted": "sent, the LLM agreed",
    "corrected": "sent, the LLM replaced it",
    "bonus": "written by the LLM",
    "unverified": "sent, no verdict came in time",
}


def coloured(text: str, decision: str) -> Text:
    return Text(text, style=STYLES.get(decision, ""))


def legend() -> Text:
    parts = [Text.assemble((name, style), f" ({MEANINGS[name]})") for name, style in STYLES.items()]
    return Text("  ").join(parts)
