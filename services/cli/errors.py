"""Errors that end a command with one clear line and exit code 2."""

from __future__ import annotations


class CommandError(RuntimeError):
    """``str`` is one line that tells the user what is wrong and what to do."""
