"""The text of a reply as it is generated: several messages as one (`api.md`, ``ReplyStream``)."""

from __future__ import annotations

from collections import deque

__all__ = ["Flow"]


class Flow:
    """Texts of several messages, one after the other in the order they began, a blank line in between.

    Nothing is said twice. What can no longer be said in its place (the text of a message that was replaced, or that
    went on after another one had been said) is left to the reply.

    Attributes:
        pieces: Text to yield; the reader takes it from the left.
    """

    __slots__ = ("_finished", "_said", "_waiting", "pieces")

    def __init__(self) -> None:
        self.pieces: deque[str] = deque()
        self._waiting: dict[int, list[str]] = {}  # what each message has yet to say, first message first
        self._said: dict[int, list[str]] = {}
        self._finished: set[int] = set()

    def add(self, born: int, text: str) -> None:
        """The message born at ``born`` goes on with ``text``."""
        if born not in self._finished:
            self._waiting.setdefault(born, []).append(text)
            self._pump()

    def finish(self, born: int, whole: str) -> None:
        """It is over, and ``whole`` is all of its text."""
        if born in self._finished:
            return
        waiting = self._waiting.setdefault(born, [])
        said = "".join((*self._said.get(born, ()), *waiting))
        if whole.startswith(said):
            waiting.append(whole[len(said) :])
        self._finished.add(born)
        self._pump()

    def leave_out(self, born: int) -> None:
        """Nothing more of it is to be said."""
        self._waiting.pop(born, None)
        self._finished.add(born)

    def _pump(self) -> None:
        while self._waiting:
            born = next(iter(self._waiting))
            if text := "".join(self._waiting[born]):
                if self._said and born not in self._said:
                    self.pieces.append("\n\n")
                self.pieces.append(text)
                self._said.setdefault(born, []).append(text)
                self._waiting[born] = []
            if born not in self._finished:
                return
            del self._waiting[born]
