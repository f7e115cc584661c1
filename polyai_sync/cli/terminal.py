"""A terminal that can move its cursor: what arrives is written above the line that somebody types.

The bottom of the screen is *live*: the message that grows, a status, the prompt. It is taken back and painted again
with every change, in one write; everything above it is final.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Final

from polyai_sync.cli.stage import Block, layout
from polyai_sync.cli.text import Row, Span, cells

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from polyai_sync.cli.editor import LineEditor
    from polyai_sync.cli.output import Output

__all__ = ["Terminal", "can_type"]

_PROMPT: Final = "> "
_NEWLINE: Final = "\u21b5"  # what a line end inside the typed text looks like
_PASTE_ON, _PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"


def can_type(fd: int) -> bool:
    """Can keys be read one by one from ``fd``?"""
    try:
        import termios
    except ImportError:
        return False
    try:
        termios.tcgetattr(fd)
    except termios.error:
        return False
    return True


class Terminal:
    """A `Stage` with a prompt. A context manager: keys come one by one inside it, and the terminal is itself after it.

    Args:
        output: Where to write; ``output.can_move`` holds.
        editor: The line that is typed.
        fd: Where keys come from; `can_type` holds.
    """

    takes_back = True

    def __init__(self, output: Output, editor: LineEditor, fd: int) -> None:
        self._output = output
        self._editor = editor
        self._fd = fd
        self._before: Any = None
        self._final: list[Row] = []
        self._growing: list[Row] = []
        self._below: list[Row] = []
        self._committed = 0
        self._status = ""
        self._above = 0
        """Rows of the live part above the one that the cursor is in."""
        self._open = False

    @property
    def width(self) -> int | None:
        """Columns that are used: the last one stays free, since what a terminal does after it differs."""
        return max(20, shutil.get_terminal_size().columns) - 1

    # --- the stage ---

    def write(self, block: Block) -> None:
        """Show a block for good."""
        self._final += layout(block, self.width)

    def grow(self, block: Block | None, below: Sequence[Block] = ()) -> None:
        """Show a block below all others that will still change."""
        self._below = [row for waiting in below for row in layout(waiting, self.width)][-self._height // 3 :]
        if block is None:
            self._growing, self._committed = [], 0
            return
        rows = layout(block, self.width)
        surplus = len(rows) - self._committed - max(3, self._height - 7 - len(self._below))
        if surplus > 0:  # its top leaves the screen: it is final
            self._final += rows[self._committed : self._committed + surplus]
            self._committed += surplus
        self._growing = rows[self._committed :]

    def settle(self, block: Block) -> None:
        """Show for good what was last shown growing."""
        self._final += layout(block, self.width)[self._committed :]
        self.grow(None)

    def status(self, text: str) -> None:
        """Show what goes on at the moment."""
        self._status = text

    def flush(self) -> None:
        """Paint what has changed."""
        if not self._open:
            return
        paint = self._output.paint
        live: list[Row] = [*self._growing, *self._below, ()]
        if self._status:
            live.append((Span(self._status, "quiet"),))
        prompt, row, column = self._prompt()
        screen = [f"{paint(final)}\n" for final in self._final]
        screen += [f"{paint(rows)}\n" for rows in live]
        text = "\n".join(paint((Span(rows),)) for rows in prompt)
        up = len(prompt) - 1 - row
        back = (f"\x1b[{up}A" if up else "") + "\r" + (f"\x1b[{column}C" if column else "")
        self._write(f"\x1b[?25l{self._taken_back()}{''.join(screen)}{text}{back}\x1b[?25h")
        self._final.clear()
        self._above = len(live) + row

    # --- the terminal ---

    def __enter__(self) -> Terminal:
        import termios

        self._before = termios.tcgetattr(self._fd)
        mode = termios.tcgetattr(self._fd)
        mode[3] &= ~(termios.ECHO | termios.ICANON)  # ISIG stays: Ctrl-C and Ctrl-Z are the shell's own
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, mode)
        self._open = True
        self._write(_PASTE_ON)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the prompt away, and let the terminal be as it was. Idempotent."""
        if not self._open:
            return
        import termios

        self._status = ""
        self._open = False
        paint = self._output.paint
        rows = "".join(f"{paint(row)}\n" for row in (*self._final, *self._growing))
        self._final.clear()
        self.grow(None)
        self._write(f"{self._taken_back()}{rows}{_PASTE_OFF}\x1b[?25h")
        self._above = 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    @property
    def _height(self) -> int:
        return max(8, shutil.get_terminal_size().lines)

    def _taken_back(self) -> str:
        return "\r" + (f"\x1b[{self._above}A" if self._above else "") + "\x1b[J"

    def _prompt(self) -> tuple[list[str], int, int]:
        """The rows of prompt and typed text, and the cursor's row and column in them."""
        width = self.width or 79
        rows, place = [_PROMPT], (0, cells(_PROMPT))
        for number, character in enumerate(self._editor.text.replace("\n", _NEWLINE)):
            if cells(rows[-1]) + cells(character) > width:
                rows.append("")
            if number == self._editor.cursor:
                place = (len(rows) - 1, cells(rows[-1]))
            rows[-1] += character
        if self._editor.cursor == len(self._editor.text):
            if cells(rows[-1]) >= width:
                rows.append("")
            place = (len(rows) - 1, cells(rows[-1]))
        most = max(2, self._height // 2)
        first = max(0, min(place[0] - most + 1, len(rows) - most)) if len(rows) > most else 0
        return rows[first : first + most], place[0] - first, place[1]

    def _write(self, text: str) -> None:
        stream = self._output.stdout
        stream.write(text)
        stream.flush()
