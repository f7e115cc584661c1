"""One line of input: what the keys do to it. Knows no terminal; `polyai_sync.cli.terminal` shows it.

Our own, since what arrives while somebody types must not disturb the line, and the standard library's readline tells
neither where its cursor is nor, in its libedit guise, what has been typed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from polyai_sync.cli.text import cells, clean

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EndOfInput", "LineEditor"]

_KEY: Final = re.compile(
    r"\x1b\[200~(?P<paste>.*?)\x1b\[201~|(?P<sequence>\x1b\[[0-?]*[ -/]*[@-~]|\x1bO[ -~]|\x1b[ -~\x7f])|(?P<one>.)",
    re.DOTALL,
)
_UNFINISHED: Final = re.compile(r"\x1b(?:\[(?:200~(?:(?!\x1b\[201~).)*|[0-?]*[ -/]*)|O)\Z", re.DOTALL)


class EndOfInput(Exception):  # noqa: N818 - it is what Ctrl-D says
    """Ctrl-D on an empty line."""


class LineEditor:
    """The line, the cursor in it, and the lines before it.

    Attributes:
        text: The line so far.
        cursor: Before which character of it the cursor stands.
    """

    def __init__(self) -> None:
        self.text = ""
        self.cursor = 0
        self._history: list[str] = []
        self._place = 0
        self._draft = ""
        self._unread = ""

    def feed(self, keys: str) -> list[str]:
        """Take in what was typed; return the lines that were finished by it.

        Raises:
            EndOfInput: Ctrl-D on an empty line. What was finished before it is lost: both at once is a paste.
        """
        lines: list[str] = []
        keys = self._unread + keys
        self._unread = ""
        if unfinished := _UNFINISHED.search(keys):
            keys, self._unread = keys[: unfinished.start()], keys[unfinished.start() :]
        for match in _KEY.finditer(keys):
            kind = match.lastgroup
            if kind == "paste":
                self._insert(clean(match["paste"]).strip("\n"))
            elif match[0] in ("\r", "\n"):
                lines.append(self._submit())
            elif (act := _KEYS.get(match[0])) is not None:
                act(self)
            elif kind == "one" and match[0].isprintable():
                self._insert(match[0])
        return lines

    # --- what keys do ---

    def _insert(self, text: str) -> None:
        self.text = self.text[: self.cursor] + text + self.text[self.cursor :]
        self.cursor += len(text)

    def _submit(self) -> str:
        line = self.text
        if line.strip() and line != (self._history or [""])[-1]:
            self._history.append(line)
        self._place = len(self._history)
        self.text, self.cursor = "", 0
        return line

    def _delete(self, start: int, end: int) -> None:
        self.text, self.cursor = self.text[:start] + self.text[end:], start

    def _before(self) -> int:
        """Where the character before the cursor begins, with what sits on top of it."""
        place = self.cursor - 1
        while place > 0 and cells(self.text[place]) == 0:
            place -= 1
        return max(place, 0)

    def _after(self) -> int:
        place = self.cursor + 1
        while place < len(self.text) and cells(self.text[place]) == 0:
            place += 1
        return min(place, len(self.text))

    def _word_before(self) -> int:
        return len(re.sub(r"\S+\s*\Z", "", self.text[: self.cursor]))

    def _word_after(self) -> int:
        match = re.match(r"\s*\S+", self.text[self.cursor :])
        return self.cursor + (match.end() if match else 0)

    def _move(self, place: int) -> None:
        self.cursor = place

    def _end_or_delete(self) -> None:
        if not self.text:
            raise EndOfInput
        self._delete(self.cursor, self._after())

    def _recall(self, step: int) -> None:
        place = self._place + step
        if not 0 <= place <= len(self._history):
            return
        if self._place == len(self._history):
            self._draft = self.text
        self._place = place
        self.text = self._draft if place == len(self._history) else self._history[place]
        self.cursor = len(self.text)


def _left(line: LineEditor) -> None:
    line._move(line._before())


def _right(line: LineEditor) -> None:
    line._move(line._after())


def _home(line: LineEditor) -> None:
    line._move(0)


def _end(line: LineEditor) -> None:
    line._move(len(line.text))


def _word_left(line: LineEditor) -> None:
    line._move(line._word_before())


def _word_right(line: LineEditor) -> None:
    line._move(line._word_after())


def _up(line: LineEditor) -> None:
    line._recall(-1)


def _down(line: LineEditor) -> None:
    line._recall(1)


def _erase(line: LineEditor) -> None:
    line._delete(line._before(), line.cursor)


def _erase_word(line: LineEditor) -> None:
    line._delete(line._word_before(), line.cursor)


def _erase_after(line: LineEditor) -> None:
    line._delete(line.cursor, line._after())


def _erase_to_start(line: LineEditor) -> None:
    line._delete(0, line.cursor)


def _erase_to_end(line: LineEditor) -> None:
    line._delete(line.cursor, len(line.text))


_ARROWS: Final = {"A": _up, "B": _down, "C": _right, "D": _left, "H": _home, "F": _end}

_KEYS: Final[dict[str, Callable[[LineEditor], None]]] = {
    "\x01": _home,
    "\x02": _left,
    "\x04": LineEditor._end_or_delete,
    "\x05": _end,
    "\x06": _right,
    "\x08": _erase,
    "\x7f": _erase,
    "\x0b": _erase_to_end,
    "\x0e": _down,
    "\x10": _up,
    "\x15": _erase_to_start,
    "\x17": _erase_word,
    "\x1b\x7f": _erase_word,
    "\x1bb": _word_left,
    "\x1bf": _word_right,
    "\x1b[1;5D": _word_left,
    "\x1b[1;5C": _word_right,
    "\x1b[1;3D": _word_left,
    "\x1b[1;3C": _word_right,
    "\x1b[3~": _erase_after,
    **{f"\x1b{kind}{key}": act for kind in "[O" for key, act in _ARROWS.items()},
    "\x1b[1~": _home,
    "\x1b[7~": _home,
    "\x1b[4~": _end,
    "\x1b[8~": _end,
}
