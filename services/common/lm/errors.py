"""What the user hears when a model cannot be had."""


class ModelError(Exception):
    """A model, a draft or a pair that cannot be used; the text is one line that says what to do."""


def one_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters."""
    text = str(error).strip() or type(error).__name__
    return text.split("\n", 1)[0][:200]
