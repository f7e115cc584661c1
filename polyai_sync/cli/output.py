"""Where a command writes: plain text, or styled by rich where that is installed and somebody looks.

Styles are names; what they look like is one table. Without rich, in a pipe, on a dumb terminal or with ``--plain`` no
escape sequence is written.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TextIO

from polyai_sync.cli.text import Row, Span, cells, clean, one_line, plain, wrap
from polyai_sync.config import ENVIRONMENT
from polyai_sync.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from polyai_sync.config import Secret

__all__ = ["STYLES", "Output", "Symbols"]

STYLES: Final = {
    "agent": "bold cyan",
    "person": "bold green",
    "user": "bold",
    "strong": "bold",
    "emphasis": "italic",
    "code": "cyan",
    "link": "underline blue",
    "quiet": "dim",
    "notice": "dim",
    "good": "green",
    "warning": "yellow",
    "bad": "bold red",
    "number": "bold yellow",
}

NARROWEST: Final = 20


class Symbols:
    """Signs in the output's own encoding."""

    def __init__(self, encoding: str | None) -> None:
        try:
            "✓✗▸•·…".encode(encoding or "utf-8")
        except (UnicodeEncodeError, LookupError):
            self.good, self.bad, self.arrow, self.bullet, self.dot, self.more = "ok", "x", ">", "-", "*", "..."
        else:
            self.good, self.bad, self.arrow, self.bullet, self.dot, self.more = "✓", "✗", "▸", "•", "·", "…"


class Output:
    """Standard output and standard error of one command.

    Args:
        is_plain: No styles, whatever is installed.
        stdout: Instead of ``sys.stdout``.
        stderr: Instead of ``sys.stderr``.
    """

    def __init__(self, *, is_plain: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr
        self.is_plain = is_plain
        self.divert: Callable[[str], None] | None = None
        """Where log lines go instead of standard error, while somebody else owns the screen."""
        self._redactor = Redactor(os.environ.get(ENVIRONMENT["connector_token"], "").strip() or None)
        self.symbols = Symbols(self.stdout.encoding)

    @property
    def is_terminal(self) -> bool:
        """Does somebody look at standard output?"""
        return self.stdout.isatty()

    @property
    def can_move(self) -> bool:
        """Is it a terminal that can move its cursor?"""
        return self.is_terminal and not self.is_plain and os.environ.get("TERM", "") not in ("", "dumb")

    @property
    def width(self) -> int | None:
        """Columns of the terminal; ``None`` where there is none and lines may be as long as they are."""
        return max(NARROWEST, shutil.get_terminal_size().columns) if self.is_terminal else None

    @cached_property
    def console(self) -> Any:
        """A rich console, or ``None``."""
        if self.is_plain or not self.is_terminal:
            return None
        try:
            from rich.console import Console
        except ImportError:
            return None
        return Console(file=self.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def paint(self, row: Iterable[Span]) -> str:
        """A row as it is written."""
        if self.console is None:
            return self.fit(plain(row))
        from rich.style import Style
        from rich.text import Text

        text = Text()
        for span in row:
            style = Style.parse(STYLES.get(span.style, ""))
            text.append(span.text, style + Style(link=span.link) if span.link else style)
        with self.console.capture() as capture:
            self.console.print(text, end="")
        return str(capture.get())

    def fit(self, text: str) -> str:
        """``text`` with a question mark for what the output's encoding does not have."""
        encoding = self.stdout.encoding or "utf-8"
        return text.encode(encoding, "replace").decode(encoding)

    def row(self, *row: Span | str) -> None:
        """Write one line."""
        spans = [Span(piece) if isinstance(piece, str) else piece for piece in row]
        self.stdout.write(self.paint(spans) + "\n")
        self.stdout.flush()

    def paragraph(self, label: str, text: str, *, style: str = "") -> None:
        """Write a text behind its label, set in under itself where it has to be broken."""
        head = f"{label:12}"
        rows = [(Span(text),)] if self.width is None else wrap((Span(text),), self.width - 1 - len(head))
        for number, row in enumerate(rows):
            self.row(
                Span(head if number == 0 else " " * len(head), "strong"), *(Span(span.text, style) for span in row)
            )

    def json(self, value: object) -> None:
        """Write a JSON document."""
        text = json.dumps(value, indent=2, ensure_ascii=not (self.stdout.encoding or "utf-8").lower().startswith("utf"))
        for code in range(0x7F, 0xA0):  # JSON allows them, terminals obey them
            text = text.replace(chr(code), f"\\u{code:04x}")
        self.stdout.write(self.fit(text) + "\n")
        self.stdout.flush()

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table; the last column is broken where it is too wide."""
        table = [tuple(map(one_line, row)) for row in rows]
        widths = [max(cells(row[index]) for row in (columns, *table)) for index in range(len(columns))]
        room = None if self.width is None else self.width - 1 - sum(width + 2 for width in widths[:-1])
        for row, style in ((tuple(columns), "strong"), *((row, "") for row in table)):
            lasts: list[Row] = [(Span(row[-1]),)]
            if room is not None and room >= NARROWEST:
                lasts = wrap(lasts[0], room)
            lead = "".join(
                text + " " * (width + 2 - cells(text)) for text, width in zip(row, widths[:-1], strict=False)
            )
            for number, last in enumerate(lasts):
                self.row(Span(lead if number == 0 else " " * cells(lead), style), Span(plain(last), style))

    def complain(self, text: str) -> None:
        """Write one paragraph to standard error."""
        paragraph = one_line(self.hide(text))
        if self.stderr.isatty():
            width = max(NARROWEST, shutil.get_terminal_size().columns - 1)
            paragraph = textwrap.fill(paragraph, width, break_long_words=False, break_on_hyphens=False)
        self._write_error(paragraph)

    def log(self, text: str) -> None:
        """Write a log record, on whatever thread it comes."""
        text = clean(self.hide(text))
        if self.divert is not None:
            self.divert(text)
        else:
            self._write_error(text)

    def keep_secret(self, *secrets: Secret | str) -> None:
        """From now on these are masked in whatever goes to standard error, and in what `hide` is given."""
        self._redactor = self._redactor.adding(*secrets)

    def hide(self, text: str) -> str:
        """``text`` without tokens."""
        return self._redactor.text(text)

    def _write_error(self, text: str) -> None:
        encoding = self.stderr.encoding or "utf-8"
        self.stderr.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        self.stderr.flush()
