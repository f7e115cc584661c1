"""Text for a terminal: made safe, measured, wrapped.

What a service says is shown to a person, never obeyed by their terminal: control characters and escape sequences are
dropped from everything that comes from outside.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Row", "Span", "cells", "clean", "one_line", "plain", "wrap"]

_SEQUENCES: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?|\x9b[0-?]*[ -/]*[@-~]"
)
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but for tab and newline
    "\u202a-\u202e\u2066-\u2069"  # these turn the direction of what follows, up to the end of the screen's line
    "\ud800-\udfff]"  # halves of a character: cannot be encoded
)


class Span(NamedTuple):
    """A piece of text in one style.

    Attributes:
        text: Without control characters.
        style: A key of `polyai_sync.cli.output.STYLES`; empty for none.
        link: Where it leads, for terminals that can; empty for nowhere.
    """

    text: str
    style: str = ""
    link: str = ""


Row = tuple[Span, ...]
"""One line of the screen."""


def clean(text: str) -> str:
    """``text`` without anything that a terminal would obey, except line ends."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return _UNSAFE.sub("", _SEQUENCES.sub("", text)).replace("\t", "    ")


def one_line(text: str | None) -> str:
    """``text`` made safe, on one line, without blanks around it."""
    return " ".join(clean(text or "").split())


def cells(text: str) -> int:
    """How many columns ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def plain(row: Iterable[Span]) -> str:
    """The text of a row."""
    return "".join(span.text for span in row)


def wrap(row: Sequence[Span], width: int) -> list[Row]:
    """Break a row into rows of at most ``width`` columns, between words where that can be.

    An empty row stays one row.
    """
    text = plain(row)
    if cells(text) <= width:
        return [tuple(row)]
    return [_slice(row, start, end) for start, end in _breaks(text, max(width, 2))]


def _breaks(text: str, width: int) -> Iterable[tuple[int, int]]:
    start = 0
    while start < len(text):
        end, used, blank = start, 0, -1
        while end < len(text) and used + _cells(text[end]) <= width:
            if text[end] == " ":
                blank = end
            used += _cells(text[end])
            end += 1
        if end == len(text):
            yield start, end
            return
        if text[end] == " ":
            blank = end
        if blank > start:
            end = blank
        yield start, len(text[:end].rstrip(" ")) if text[start:end].strip(" ") else end
        start = end
        while start < len(text) and text[start] == " ":
            start += 1


def _slice(row: Sequence[Span], start: int, end: int) -> Row:
    spans = []
    place = 0
    for span in row:
        piece = span.text[max(0, start - place) : max(0, end - place)]
        if piece:
            spans.append(span._replace(text=piece))
        place += len(span.text)
    return tuple(spans)
