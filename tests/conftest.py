"""What all tests share: no network, and one running system for those that need it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from services.cli.local.options import StackOptions
from services.cli.local.stack import Stack

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that needs a model hub is a test that fails elsewhere
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Broker, Redis, two verifiers, one edge worker with the default pair. A test that stops a part starts it again."""
    with Stack(StackOptions()) as running:
        yield running
    assert running.nursery.leftovers() == []
