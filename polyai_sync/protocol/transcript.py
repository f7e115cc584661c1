"""The transcript: every message of the conversation, in the server's order."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyai_sync.messages import Message

__all__ = ["Transcript"]


class Transcript:
    """Settled messages by sequence, each message id once.

    A message without a sequence stands where it arrived. Appending is the common case and costs the same however long
    the conversation is.
    """

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._places: list[int] = []
        self._by_id: dict[tuple[str, str], Message] = {}
        self._cached: tuple[Message, ...] | None = None

    def find(self, role: str, message_id: str) -> Message | None:
        """The message of this id, if it is settled."""
        return self._by_id.get((role, message_id)) if message_id else None

    def add(self, message: Message) -> None:
        """Put ``message`` in its place; one with the same role and id is replaced where it stands."""
        self._cached = None
        known = self.find(message.role, message.message_id)
        if known is not None:
            index = self._index(known)
            self._messages[index] = message
        else:
            place = message.sequence if message.sequence is not None else (self._places[-1] if self._places else 0)
            index = bisect_right(self._places, place)
            self._places.insert(index, place)
            self._messages.insert(index, message)
        if message.message_id:
            self._by_id[message.role, message.message_id] = message

    def view(self, growing: Iterable[Message], pending: Iterable[Message]) -> tuple[Message, ...]:
        """The settled messages, then those that grow, then those without a receipt."""
        if self._cached is None:
            self._cached = tuple(self._messages)
        return (*self._cached, *growing, *pending)

    def _index(self, message: Message) -> int:
        start = len(self._messages) - 1
        if message.sequence is not None:
            start = min(start, bisect_right(self._places, message.sequence) - 1)
        for index in range(start, -1, -1):
            if self._messages[index] is message:
                return index
        return self._messages.index(message)
