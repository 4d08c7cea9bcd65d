"""The embedded broker: what is under test here is Redis."""

from __future__ import annotations

from tests.verifier.conftest import bootstrap, module_broker

__all__ = ["bootstrap", "module_broker"]
