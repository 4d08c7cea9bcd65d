"""Stop sequences: cut exactly, whatever the tokens; never a part of one shown that had to be held back."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.edge_worker.answer import Decision, TokenOut
from services.edge_worker.fake_answerer import FakeAnswerer
from services.edge_worker.http.detokenise import TokenTable
from services.edge_worker.http.stops import StopFinder
from services.edge_worker.http.text import AnswerText
from tests.http.conftest import END, MODEL
from tests.http.scripts import says

KNOWN_TEXT = st.text(st.characters(max_codepoint=0x3FFFF, exclude_categories=["Cs"]), max_size=40)
FEW = st.text(alphabet="ab\n", max_size=30)
STOPS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), min_size=1, max_size=4)


def cut_at(text: str, stops: list[str]) -> int | None:
    """The definition: read character by character; at the first end of a stop sequence, cut where the longest one began."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return min(starts)
    return None


@given(text=FEW, stops=STOPS, cuts=st.lists(st.integers(0, 30), max_size=8))
def test_finder_against_definition(text: str, stops: list[str], cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    finder = StopFinder(stops)
    expected = cut_at(text, stops)
    seen = 0
    for start, end in pairwise(edges):
        finder.feed(text[start:end])
        assert finder.safe >= seen, "what was safe to show stays so"
        seen = finder.safe
        if finder.found is None:
            rest = text[finder.safe : end]
            assert not rest or any(stop.startswith(rest) for stop in stops), "nothing is held back without need"
    assert finder.found == expected
    assert seen <= (len(text) if expected is None else expected)


def test_an_empty_stop_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopFinder(["a", ""])


@pytest.fixture(scope="module")
def table(tokenizer: Any) -> TokenTable:
    return TokenTable(tokenizer, (END,))


def outs(ids: list[int]) -> list[TokenOut]:
    return [TokenOut(token, Decision.SKIPPED) for token in ids]


@settings(deadline=None)
@given(text=KNOWN_TEXT, where=st.tuples(st.integers(0, 39), st.integers(1, 5)), other=st.text(min_size=1, max_size=3))
def test_any_text_is_cut_at_any_of_its_parts(
    tokenizer: Any, table: TokenTable, text: str, where: tuple[int, int], other: str
) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assume(tokenizer.decode(ids) == text)
    stops = [stop for stop in (text[where[0] : where[0] + where[1]], other) if stop]
    answer = AnswerText(table.decoder(), stops, table.hidden)
    shown = ""
    counted = 0
    expected = cut_at(text, stops)
    for token in outs(ids):
        for piece in answer.feed(token):
            shown += piece.text
            counted += 1
        assert text[: len(shown)] == shown
        if expected is not None:
            assert len(shown) <= expected, "a part of the stop sequence was shown"
        if answer.stopped:
            break
    rest = answer.finish()
    shown += "".join(piece.text for piece in rest)
    assert shown == (text if expected is None else text[:expected])
    assert answer.stopped == (expected is not None)
    if expected is None:
        assert counted + len(rest) == len(ids), "no token is lost"


@pytest.mark.parametrize("stop", ["STOP", ["zzz", "STOP"], ["STOP", "OP", "P here", "TOP"]])
@pytest.mark.parametrize("stream", [False, True])
async def test_through_the_api(api: Any, tokenizer: Any, stop: Any, stream: bool) -> None:
    answerer = says(tokenizer, "Go on until STOP here and no further")
    client = await api(answerer)
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stop": stop}
    if stream:
        chunks = [chunk async for chunk in await client.chat.completions.create(stream=True, **asked)]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason, total = chunks[-1].choices[0].finish_reason, chunks[-1].sluice["tokens"]["total"]
        entries = [entry for chunk in chunks[1:-1] for entry in chunk.sluice["tokens"]]
        assert len(entries) == total
        assert "".join(entry["text"] for entry in entries) == text
    else:
        answer = await client.chat.completions.create(**asked)
        text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
        total = answer.usage.completion_tokens
    expected = "Go on until STOP here"[: cut_at("Go on until STOP here", [stop] if isinstance(stop, str) else stop)]
    assert (text, reason) == (expected, "stop")
    assert not answerer.answers[0].finished
    assert answerer.answers[0].closed.is_set()
    assert total < len(tokenizer.encode("Go on until STOP here and no further"))


async def test_held_text_is_shown_when_the_answer_ends(api: Any, tokenizer: Any) -> None:
    client = await api(says(tokenizer, "almost STO", end=False))
    answer = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}], stop="STOP")
    assert answer.choices[0].message.content == "almost STO"
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("stop", [None, []])
async def test_no_stop_is_no_stop(api: Any, stop: Any) -> None:
    answerer = FakeAnswerer(lambda _: outs([28120, END]))
    client = await api(answerer)
    answer = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}], stop=stop)
    assert answer.choices[0].message.content == "hello"
