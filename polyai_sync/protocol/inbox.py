"""Agents' complete messages that no call has returned yet."""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from polyai_sync.messages import Message

__all__ = ["Inbox"]

OVERTAKING: Final = 16
"""Messages that are looked at where an answer may have overtaken its receipt, however many nobody has read."""


class Inbox:
    """Messages in the order in which they began, whenever they were put in (or back)."""

    __slots__ = ("_births", "_messages")

    def __init__(self) -> None:
        self._births: list[int] = []
        self._messages: dict[int, Message] = {}

    def __len__(self) -> int:
        return len(self._births)

    def put(self, born: int, message: Message) -> None:
        """Put in a message, or another version of one that is in."""
        if born not in self._messages:
            if self._births and born < self._births[-1]:
                insort(self._births, born)
            else:
                self._births.append(born)
        self._messages[born] = message

    def replace(self, born: int, message: Message) -> None:
        """The message that was born then has another text now; nothing if it is not in."""
        if born in self._messages:
            self._messages[born] = message

    def popleft(self) -> Message:
        """Take the first message out."""
        return self._messages.pop(self._births.pop(0))

    def take_behind(self, sequence: int) -> list[tuple[int, Message]]:
        """Take the messages out that stand behind ``sequence``, of the last few; in order, each with its birth."""
        taken: list[int] = []
        left: list[int] = []
        for _ in range(min(OVERTAKING, len(self._births))):
            born = self._births.pop()
            place = self._messages[born].sequence
            (left if place is None or place <= sequence else taken).append(born)
        self._births.extend(reversed(left))
        return [(born, self._messages.pop(born)) for born in reversed(taken)]
