"""Pages that are made from the code say what the code says."""

from __future__ import annotations

from services.cli import metrics_doc, settings_doc


def test_the_settings_page_is_that_of_the_settings() -> None:
    assert settings_doc.PAGE.read_text() == settings_doc.page(), "run `make docs`"


def test_the_metrics_page_is_that_of_the_catalogue() -> None:
    assert metrics_doc.PAGE.read_text() == metrics_doc.page(), "run `make docs`"
