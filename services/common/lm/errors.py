"""What the user hears when a model cannot be had."""


class ModelError(Exception):
    """A model, a draft or a pair that cannot be used; the text is one line that says what to do."""
