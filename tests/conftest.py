"""What all tests share: no network."""

from __future__ import annotations

import os

from tests import identities

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that needs a model hub is a test that fails elsewhere
os.environ["TOKENIZERS_PARALLELISM"] = "false"

identities.install()

pytest_plugins = ["tests.cluster.fixtures"]
