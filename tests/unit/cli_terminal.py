"""A program in a terminal of its own, and what a person would see there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import unicodedata

COLUMNS, LINES = 80, 24
PATIENCE = 20.0

_PIECE = re.compile(
    r"\x1b\[(?P<parameters>[0-?]*)(?P<final>[@-~])|\x1b\](?P<osc>[^\x07\x1b]*)(?:\x07|\x1b\\)|(?P<one>.)", re.DOTALL
)
_HALF = re.compile(r"\x1b(?:\[[0-?]*|\][^\x07\x1b]*\x1b?)?\Z")


class Screen:
    """As much of a terminal as our output needs; the lines that scroll out at the top are kept."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0
        self.links: list[str] = []
        self.modes: set[str] = set()
        self._half = ""

    @property
    def text(self) -> str:
        """All rows so far, blanks at their ends left out."""
        return "\n".join("".join(row).rstrip() for row in self.rows)

    def feed(self, text: str) -> None:
        text, self._half = self._half + text, ""
        if half := _HALF.search(text):
            text, self._half = text[: half.start()], half[0]
        for match in _PIECE.finditer(text):
            if match["final"]:
                self._obey(match["final"], match["parameters"])
            elif match["osc"] is not None:
                self.links += [match["osc"].split(";", 2)[2]] if match["osc"].startswith("8;") else []
            else:
                self._put(match["one"])

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row += 1
            while len(self.rows) <= self.row:
                self.rows.append([])
        elif character >= " ":
            width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
            if self.column + width > COLUMNS:
                self._put("\r")
                self._put("\n")
            line = self.rows[self.row]
            line.extend(" " * (self.column + width - len(line)))
            line[self.column : self.column + width] = [character] + [""] * (width - 1)
            self.column += width

    def _obey(self, final: str, parameters: str) -> None:
        number = int(parameters) if parameters.isdecimal() else 1
        if final == "A":
            self.row -= number
            assert self.row >= 0, "the cursor left the screen at the top"
        elif final == "C":
            self.column += number
        elif final == "J":
            del self.rows[self.row + 1 :]
            del self.rows[self.row][self.column :]
        elif final == "K":
            del self.rows[self.row][self.column :]
        elif final in "hl":
            (self.modes.add if final == "h" else self.modes.discard)(parameters)
        else:
            assert final == "m", f"a sequence that this screen does not know: {parameters}{final}"


class Program:
    """``polyai-sync`` with these arguments in a pty; a context manager."""

    def __init__(self, *arguments: str, code: str | None = None, **environment: str) -> None:
        command = ["-c", code] if code else ["-m", "polyai_sync"]
        self.screen = Screen()
        self.raw = ""
        self._main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, *command, *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            env={**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(side)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._main)

    @property
    def text(self) -> str:
        return self.screen.text

    def type(self, keys: str) -> None:
        os.write(self._main, keys.encode())

    def say(self, line: str) -> None:
        self.type(f"{line}\r")

    def interrupt(self) -> None:
        """What the terminal does at Ctrl-C."""
        self.type("\x03")

    def see(self, pattern: str, *, where: str = "text") -> str:
        """Wait until a pattern is on the screen (``where="raw"``: was ever written)."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, getattr(self, where))):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} was not seen; the screen is:\n{self.text}"
            assert self._read(left) or re.search(pattern, getattr(self, where)), (
                f"it ended without {pattern!r}:\n{self.text}"
            )
        return found[0]

    def see_after(self, pattern: str, action: str) -> str:
        """Say a line, and wait for a pattern below it."""
        self.say(action)
        return self.see(rf"(?s)> {re.escape(action)}\n.*{pattern}")

    def ends(self) -> int:
        """Wait until it has ended; its exit status."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._read(0.2):
            if self._process.poll() is not None and not self._readable(0):
                break
        return self._process.wait(max(0.1, deadline - time.monotonic()))

    def signal(self, number: int = signal.SIGINT) -> None:
        self._process.send_signal(number)

    def is_cooked(self) -> bool:
        """Does the terminal edit lines and echo, as it did before?"""
        flags = termios.tcgetattr(self._main)[3]
        return bool(flags & termios.ICANON and flags & termios.ECHO)

    def _readable(self, timeout: float) -> bool:
        return bool(select.select([self._main], [], [], timeout)[0])

    def _read(self, timeout: float) -> bool:
        """Read what is there; ``False`` when nobody is left to write."""
        if not self._readable(timeout):
            return True
        data = b""
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            data = os.read(self._main, 65_536)
        text = data.decode(errors="replace")
        self.raw += text
        self.screen.feed(text)
        return bool(data)
