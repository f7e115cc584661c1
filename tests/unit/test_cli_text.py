"""Text for a terminal: nothing obeyed, everything measured, marks turned into styles."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyai_sync.cli.markup import Line, message_lines
from polyai_sync.cli.stage import Block, layout
from polyai_sync.cli.text import Span, cells, clean, one_line, plain, wrap


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;https://evil.example\x07click\x1b]8;;\x07", "click"),
        ("\x1b]0;title\x1b\\rest", "rest"),
        ("a\x9b5mb", "ab"),
        ("bell\x07 null\x00 escape\x1b", "bell null escape"),
        ("\u202eright to left\u2066", "right to left"),
        ("half \ud800", "half "),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("a\tb", "a    b"),
        ("plain ünïcödé 日本", "plain ünïcödé 日本"),
    ],
)
def test_what_a_terminal_would_obey_is_dropped(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text())
def test_no_text_keeps_a_control_character(text: str) -> None:
    for character in clean(text):
        assert character == "\n" or unicodedata.category(character) not in ("Cc", "Cs")
    assert "\n" not in one_line(text)


def test_absent_text_is_an_empty_line() -> None:
    assert one_line(None) == ""


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("👍", 2), ("", 0), ("a\u200db", 2)]
)
def test_width_is_counted_in_columns(text: str, width: int) -> None:
    assert cells(text) == width


@given(st.text(alphabet="ab 日é\u0301", max_size=80), st.integers(4, 30))
def test_wrapping_keeps_the_words_and_the_width(text: str, width: int) -> None:
    rows = wrap((Span(text[:10]), Span(text[10:], "strong")), width)
    assert all(cells(plain(row)) <= width for row in rows)
    assert "".join("".join(map(plain, rows)).split()) == "".join(text.split())


def test_wrapping_breaks_between_words_across_styles() -> None:
    rows = wrap((Span("The quick "), Span("brown fox", "strong"), Span(" jumps.")), 12)
    assert rows == [
        (Span("The quick"),),
        (Span("brown fox", "strong"),),
        (Span("jumps."),),
    ]


def test_word_wider_than_the_row_is_broken() -> None:
    assert [plain(row) for row in wrap((Span("abcdefghij"),), 4)] == ["abcd", "efgh", "ij"]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("**bold** and *thin*", (Span("bold", "strong"), Span(" and "), Span("thin", "emphasis"))),
        ("`code` ~~gone~~", (Span("code", "code"), Span(" "), Span("gone"))),
        ("<b>bold</b> <i>thin</i>", (Span("bold", "strong"), Span(" "), Span("thin", "emphasis"))),
        ("2 * 3 * 4 and snake_case_name", (Span("2 * 3 * 4 and snake_case_name"),)),
        ("a < b && c &amp; d", (Span("a < b && c & d"),)),
        (
            "[the menu](https://x.example/m)",
            (
                Span("the menu", "link", "https://x.example/m"),
                Span(" (https://x.example/m)", "quiet", "https://x.example/m"),
            ),
        ),
        (
            "see https://x.example/a.",
            (Span("see "), Span("https://x.example/a", "link", "https://x.example/a"), Span(".")),
        ),
        (
            '<a href="https://x.example">here</a>',
            (Span("here", "link", "https://x.example"), Span(" (https://x.example)", "quiet", "https://x.example")),
        ),
        ("[run](javascript:x)", (Span("run"), Span(" (javascript:x)", "quiet"))),
        (r"\*not thin\*", (Span("*"), Span("not thin"), Span("*"))),
        ("# Title #", (Span("Title", "strong"),)),
        ("**unclosed", (Span("**unclosed"),)),
    ],
)
def test_marks_become_styles(text: str, spans: tuple[Span, ...]) -> None:
    assert message_lines(text) == [Line("", spans)]


def test_lists_paragraphs_and_code_keep_their_lines() -> None:
    text = "One\n\n\n- a\n* b\n 2. c\n> q\n```py\n  x = **1**\n```\n---\n<p>P</p><ul><li>L</ul>x<br>y\n\n"
    assert [(line.lead, plain(line.spans)) for line in message_lines(text)] == [
        ("", "One"),
        ("", ""),
        ("- ", "a"),
        ("- ", "b"),
        (" 2. ", "c"),
        ("> ", "q"),
        ("", "  x = **1**"),
        ("", "---"),
        ("", "P"),
        ("", ""),
        ("- ", "L"),
        ("", "x"),
        ("", "y"),
    ]


def test_beginning_of_a_tag_is_held_back_while_the_text_grows() -> None:
    assert message_lines("Hello <b", growing=True) == [Line("", (Span("Hello"),))]
    assert message_lines("Tom &am", growing=True) == [Line("", (Span("Tom"),))]
    assert message_lines("1 < 2", growing=True) == [Line("", (Span("1 < 2"),))]
    assert message_lines("Hello <b") == [Line("", (Span("Hello <b"),))]


@given(st.text(alphabet="ab *_`[]()<>&#!~\\\n-1.b/p;:https"), st.booleans())
def test_any_text_can_be_shown(text: str, growing: bool) -> None:
    for line in message_lines(text, growing=growing):
        assert "\n" not in plain(line.spans)


def test_text_made_to_be_slow_is_not() -> None:
    for text in ("**a " * 30_000, "[" * 100_000, "<a href=x" * 20_000, "`" * 100_000, "_a" * 50_000, "<" * 100_000):
        message_lines(text)
        message_lines(text, growing=True)


def test_block_is_set_in_below_its_label() -> None:
    block = Block((Span("Olive: "),), (Line("", (Span("one two three"),)), Line("- ", (Span("four five"),))), gap=True)
    assert [plain(row) for row in layout(block, 17)] == ["", "Olive: one two", "       three", "       - four five"]
    assert [plain(row) for row in layout(block, None)] == ["", "Olive: one two three", "       - four five"]


def test_long_label_stands_alone() -> None:
    block = Block((Span("A very long name indeed: "),), (Line("", (Span("one"),)), Line("", (Span("two"),))))
    assert [plain(row) for row in layout(block, 40)] == ["A very long name indeed: ", "  one", "  two"]


def test_address_is_not_broken() -> None:
    block = Block((Span("X: "),), (Line("", (Span("https://x.example/" + "a" * 60),), whole=True),))
    assert len(layout(block, 20)) == 1
