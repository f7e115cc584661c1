"""Agents' complete messages that no call has returned yet."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from polyai_sync.messages import Message

__all__ = ["Inbox"]

OVERTAKING: Final = 16
"""Messages that are looked at where an answer may have overtaken its receipt, however many nobody has read."""


class Inbox:
    """Messages in the order in which they began, whenever they were put in (or back)."""

    # Two lists side by side: with the greeting in them they take 240 bytes; a dictionary, and a list of its keys, 390.

    __slots__ = ("_births", "_messages")

    def __init__(self) -> None:
        self._births: list[int] = []
        self._messages: list[Message] = []

    def __len__(self) -> int:
        return len(self._births)

    def put(self, born: int, message: Message) -> None:
        """Put in a message, or another version of one that is in."""
        place = self._place(born)
        if self._is_at(place, born):
            self._messages[place] = message
        else:
            self._births.insert(place, born)
            self._messages.insert(place, message)

    def replace(self, born: int, message: Message) -> None:
        """The message that was born then has another text now; nothing if it is not in."""
        place = self._place(born)
        if self._is_at(place, born):
            self._messages[place] = message

    def popleft(self) -> Message:
        """Take the first message out."""
        del self._births[0]
        return self._messages.pop(0)

    def take_behind(self, sequence: int) -> list[tuple[int, Message]]:
        """Take the messages out that stand behind ``sequence``, of the last few; in order, each with its birth."""
        taken: list[tuple[int, Message]] = []
        for place in range(max(0, len(self._births) - OVERTAKING), len(self._births)):
            message = self._messages[place]
            if message.sequence is not None and message.sequence > sequence:
                taken.append((self._births[place], message))
        for born, _ in taken:
            place = self._place(born)
            del self._births[place], self._messages[place]
        return taken

    def _place(self, born: int) -> int:
        """Where the message that was born then stands, or would."""
        if not self._births or born > self._births[-1]:
            return len(self._births)
        return bisect_left(self._births, born)

    def _is_at(self, place: int, born: int) -> bool:
        return place < len(self._births) and self._births[place] == born
