"""What keys do to the line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyai_sync.cli.editor import EndOfInput, LineEditor

LEFT, RIGHT, UP, DOWN = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B"


@pytest.mark.parametrize(
    ("keys", "text", "cursor"),
    [
        ("hello", "hello", 5),
        ("hello\x7f\x7f", "hel", 3),
        (f"helo{LEFT}l", "hello", 4),
        (f"abc{LEFT}{LEFT}{RIGHT}\x08", "ac", 1),
        ("world\x01hello \x05!", "hello world!", 12),
        ("one two three\x17", "one two ", 8),
        ("one two\x1bb\x1bbX", "Xone two", 1),
        ("one two\x01\x1bfX", "oneX two", 4),
        ("one two\x1b[1;5DX", "one Xtwo", 5),
        (f"abcdef{LEFT}{LEFT}\x0b", "abcd", 4),
        (f"abcdef{LEFT}{LEFT}\x15", "ef", 0),
        (f"abc{LEFT}{LEFT}\x1b[3~", "ac", 1),
        (f"abc{LEFT}\x04", "ab", 2),
        ("abc\x1b[H\x1b[F\x1bOHx", "xabc", 1),
        ("abc\x1b[1~x\x1b[4~y", "xabcy", 5),
        ("e\u0301\x7f", "", 0),
        (f"ae\u0301{LEFT}{LEFT}{RIGHT}{RIGHT}x", "ae\u0301x", 4),
        ("a\tb\x00\x1b[20~c\x1bOQ", "abc", 3),
        ("日本\x7f", "日", 1),
        ("\x7f\x08\x1b[D\x1b[3~", "", 0),
    ],
)
def test_keys(keys: str, text: str, cursor: int) -> None:
    editor = LineEditor()
    assert editor.feed(keys) == []
    assert (editor.text, editor.cursor) == (text, cursor)


def test_enter_gives_lines_and_begins_another() -> None:
    editor = LineEditor()
    assert editor.feed("one\rtwo\nthr") == ["one", "two"]
    assert editor.feed("ee\r") == ["three"]
    assert editor.text == ""


def test_ctrl_d_ends_on_an_empty_line_only() -> None:
    editor = LineEditor()
    editor.feed("x\x01\x04")
    with pytest.raises(EndOfInput):
        editor.feed("\x04")


def test_lines_before_come_back_and_the_draft_is_kept() -> None:
    editor = LineEditor()
    editor.feed("one\rtwo\rtwo\r \rdra")
    seen = []
    for key in (UP, UP, UP, DOWN, "\x0e", DOWN):
        editor.feed(key)
        seen.append(editor.text)
    assert seen == ["two", "one", "one", "two", "dra", "dra"]


def test_paste_is_taken_as_text_whatever_it_holds() -> None:
    editor = LineEditor()
    assert editor.feed("\x1b[200~one\r\ntwo\x1b[31m\x03\n\x1b[201~!") == []
    assert editor.text == "one\ntwo!"
    assert editor.feed("\r") == ["one\ntwo!"]


def test_sequences_may_come_in_pieces() -> None:
    editor = LineEditor()
    for piece in ("ab\x1b[", "D", "x", "\x1b[200~pas", "te\x1b[2", "01~"):
        editor.feed(piece)
    assert editor.text == "axpasteb"


def test_lone_escape_does_nothing() -> None:
    editor = LineEditor()
    editor.feed("a")
    editor.feed("\x1b")
    editor.feed("b")
    assert editor.text == "ab"


@given(st.lists(st.text(alphabet="ab\x1b[~200D;\x7f\x15\x17\x01\r日\u0301"), max_size=6))
def test_no_keys_break_it(pieces: list[str]) -> None:
    editor = LineEditor()
    for piece in pieces:
        editor.feed(piece)
        assert 0 <= editor.cursor <= len(editor.text)
        assert "\x1b" not in editor.text
