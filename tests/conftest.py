"""What all tests share: no network."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog

from tests import identities

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that needs a model hub is a test that fails elsewhere
os.environ["TOKENIZERS_PARALLELISM"] = "false"

identities.install()


@pytest.fixture(autouse=True)
def logs_of_its_own() -> Iterator[None]:
    """A command that ran inside a test has pointed the log at that test's output, which is closed by now."""
    yield
    structlog.reset_defaults()


pytest_plugins = ["tests.cluster.fixtures"]
