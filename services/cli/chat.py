"""`sluice chat`: a conversation with an edge worker, tokens coloured by what became of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from services.cli.client import ApiClient, Reply
from services.cli.decisions import coloured, legend
from services.cli.errors import CommandError

NOT_VERIFIED = 1  # exit status
HELP = "/quit ends, /clear forgets the conversation, /legend explains the colours, /help shows this"


def command(
    url: Annotated[str, typer.Option(help="Address of the edge worker.")] = "http://127.0.0.1:8000",
    message: Annotated[str | None, typer.Option("--message", "-m", help="Ask this one thing and exit.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of one answer.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0: greedy.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Makes answers reproducible.")] = None,
    mode: Annotated[str | None, typer.Option(help="opportunistic or lossless; default: the edge worker's.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Strictness of the gate: 0 asks about every token.")] = None,
    k: Annotated[int | None, typer.Option(help="Most candidates of one upload; 0: never ask.")] = None,
    api_key: Annotated[str, typer.Option(envvar="SLUICE_API_KEY", help="Where the edge worker wants one.")] = "",
    api_key_file: Annotated[Path | None, typer.Option(help="File with that key instead.")] = None,
    require_verified: Annotated[
        bool,
        typer.Option("--require-verified", help="With -m: exit status 1 unless verifiers judged what was to be judged."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per answer.")] = False,
) -> None:
    """Talk to an edge worker; tokens are coloured by decision as they stream."""
    knobs = {name: value for name, value in (("mode", mode), ("gamma", gamma), ("k", k)) if value is not None}
    body: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
    body |= ({"seed": seed} if seed is not None else {}) | ({"sluice": knobs} if knobs else {})
    key = api_key if api_key_file is None else _read(api_key_file)
    conversation = Conversation(ApiClient(url, key), Console(highlight=False, soft_wrap=True), body, system, as_json)
    try:
        if message is not None:
            reply = conversation.ask(message)
            if require_verified and not verified(reply):
                raise typer.Exit(NOT_VERIFIED)
        else:
            conversation.run()
    finally:
        conversation.client.close()


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--api-key-file {file}: cannot be read ({type(error).__name__})") from error


class Conversation:
    def __init__(self, client: ApiClient, console: Console, body: dict[str, Any], system: str | None, as_json: bool) -> None:
        self.client = client
        self._console = console
        self._body = body
        self._first = [{"role": "system", "content": system}] if system else []
        self._messages = list(self._first)
        self._as_json = as_json

    def run(self) -> None:
        """Reads lines until /quit or the end of the input. An answer that fails is said so and can be asked again."""
        if not self._as_json:
            self._console.print(f"[bold]{self.client.model()}[/] at {self.client.url}. {HELP}")
            self._console.print(legend())
        while (line := self._read()) is not None:
            if line == "/quit":
                return
            if line == "/clear":
                self._messages = list(self._first)
            elif line == "/legend":
                self._console.print(legend())
            elif line.startswith("/"):
                self._console.print(HELP)
            elif line:
                self._ask_kindly(line)

    def ask(self, text: str) -> Reply:
        messages = [*self._messages, {"role": "user", "content": text}]
        reply = self.client.chat(messages, self._show, **self._body)
        self._messages = [*messages, {"role": "assistant", "content": reply.text}]
        if self._as_json:
            answer = {"text": reply.text, "finish_reason": reply.finish_reason, "sluice": reply.summary}
            typer.echo(json.dumps(answer))
        else:
            self._console.print()
            self._console.print(account(reply))
        return reply

    def _ask_kindly(self, text: str) -> None:
        try:
            self.ask(text)
        except CommandError as error:
            self._console.print()
            self._console.print(Text(str(error), style="red"))
        except KeyboardInterrupt:
            self._console.print()
            self._console.print("stopped", style="dim")

    def _read(self) -> str | None:
        try:
            return input("" if self._as_json else "> ").strip()
        except (EOFError, KeyboardInterrupt):
            return None

    def _show(self, text: str, decision: str) -> None:
        if not self._as_json:
            self._console.print(coloured(text, decision), end="")


def verified(reply: Reply) -> bool:
    """Whether verifiers judged something of the answer, and nothing that they should have judged went without."""
    tokens = reply.summary.get("tokens", {})
    judged = sum(int(tokens.get(name, 0)) for name in ("accepted", "corrected"))
    return judged > 0 and not tokens.get("unverified") and not reply.summary.get("degraded")


def account(reply: Reply) -> Text:
    """What one answer was worth, in one dim line."""
    summary = reply.summary
    tokens = {name: count for name, count in summary.get("tokens", {}).items() if count and name != "total"}
    parts = [f"{reply.tokens} tokens: " + ", ".join(f"{count} {name}" for name, count in tokens.items())]
    parts.append(f"{summary.get('rounds', 0)} rounds, {summary.get('uplink_payload_bytes', 0)} bytes")
    parts.append("lossless" if summary.get("lossless") else f"damage {summary.get('damage', 0.0):.3f}")
    if summary.get("degraded"):
        parts.append(f"degraded: {summary['degraded']}")
    return Text(" · ".join(parts), style="dim")
