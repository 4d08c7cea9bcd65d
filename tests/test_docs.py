"""Pages that are made from the code say what the code says."""

from __future__ import annotations

from services.cli.settings_doc import PAGE, page


def test_the_settings_page_is_that_of_the_settings() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"
