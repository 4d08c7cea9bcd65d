"""A prompt, and what marks its answer."""

from __future__ import annotations

from dataclasses import dataclass


class TaskError(ValueError):
    """``str`` is one line that says what is wrong with the prompts that were asked for."""


@dataclass(frozen=True)
class Task:
    """``answer``: the one right answer; ``test``: asserts that code must pass; neither: a prompt that nothing can mark."""

    prompt: str
    kind: str = "chat"
    answer: str | None = None
    test: str | None = None

    @property
    def markable(self) -> bool:
        return self.answer is not None or self.test is not None
