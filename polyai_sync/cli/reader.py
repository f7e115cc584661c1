"""What somebody types, or a script says, read on a thread of its own and put into the mailbox.

The thread reads the descriptor, not `sys.stdin`: a thread that still waits inside that one's lock when the program
ends would bring the interpreter down.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from polyai_sync.cli.watcher import Mailbox

__all__ = ["Reader", "stdin_fd"]

_AT_ONCE: Final = 65_536


def stdin_fd() -> int | None:
    """The descriptor of standard input; ``None`` where it has none."""
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, io.UnsupportedOperation):
        return None


class Reader(threading.Thread):
    """Puts ``keys`` (as they come) or ``line`` (one at a time) into the mailbox, and ``eof`` at the end.

    Args:
        mailbox: Where to.
        fd: Where from; ``None`` reads `sys.stdin` in whatever way it can.
        by_key: Every key as it is pressed, not whole lines.
    """

    def __init__(self, mailbox: Mailbox, fd: int | None, *, by_key: bool) -> None:
        super().__init__(name="polyai-chat-reader", daemon=True)
        self._put = mailbox.put
        self._fd = fd
        self._by_key = by_key

    def run(self) -> None:
        """Read until there is no more."""
        if self._fd is None:
            for line in sys.stdin:
                self._put("line", line.rstrip("\r\n"))
        else:
            self._read(self._fd)
        self._put("eof")

    def _read(self, fd: int) -> None:
        decoder = codecs.getincrementaldecoder(getattr(sys.stdin, "encoding", None) or "utf-8")("replace")
        unfinished = ""
        while True:
            try:
                data = os.read(fd, _AT_ONCE)
            except OSError:
                data = b""  # the terminal has gone
            text = decoder.decode(data, final=not data)
            if self._by_key:
                if text:
                    self._put("keys", text)
            else:
                *lines, unfinished = (unfinished + text).split("\n")
                for line in lines:
                    self._put("line", line.rstrip("\r"))
            if not data:
                break
        if unfinished:
            self._put("line", unfinished)
