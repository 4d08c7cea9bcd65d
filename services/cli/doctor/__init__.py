"""`sluice doctor`: whether the services would work with the settings in this environment, and what to do where not."""

from __future__ import annotations

from services.cli.doctor.command import command

__all__ = ["command"]
