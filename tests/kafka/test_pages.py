"""What docs/kafka.md lists is what the command prints."""

from __future__ import annotations

import re
from pathlib import Path

from tests.kafka.site import sluice

PAGE = Path(__file__).parents[2] / "docs" / "kafka.md"


def test_the_listed_rights_are_those_of_the_command() -> None:
    listed = re.findall(r"```acls\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert listed == [sluice("topics", "acls").stdout]
