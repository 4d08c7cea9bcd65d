"""Lines of server-sent events, whatever pieces they come in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.common.sse import Lines

LINE = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"))


@given(st.lists(LINE), st.lists(st.integers(1, 20)), st.sampled_from(["\n", "\r\n"]))
def test_lines_come_whole_whatever_the_pieces(lines: list[str], sizes: list[int], end: str) -> None:
    data = "".join(line + end for line in lines).encode()
    decoder, found, at = Lines(), [], 0
    for size in [*sizes, len(data)]:
        found += decoder.feed(data[at : at + size])
        at += size
    assert found == lines


def test_unicodes_line_breaks_end_no_line_and_half_a_line_waits() -> None:
    decoder = Lines()
    assert decoder.feed('data: {"a": "x\u0085y\u2028z"}'.encode()) == []
    assert decoder.feed(b"\nda") == ['data: {"a": "x\u0085y\u2028z"}']
    assert decoder.feed(b"ta: 1\n\n") == ["data: 1", ""]
