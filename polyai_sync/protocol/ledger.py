"""Which events are known: duplicates, holes and the cursor (`protocol.md` §4, "Order, duplicates, cursor")."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from polyai_sync.events import Event

__all__ = ["Ledger"]

REMEMBERED_IDS: Final = 4096
"""Ids kept to recognise a duplicate. What is older is recognised by its sequence."""

MAX_HOLES: Final = 512
"""Holes kept open. A server whose numbering skips that often leaves numbers out on purpose."""


class Ledger:
    """Remembers what was seen, in memory that does not grow with the conversation.

    Sequences are kept as disjoint intervals ``[first, last]``, in order. One interval is the rule; each hole adds
    one. Ids are kept for the last few thousand events: two events may share a sequence, and an event without an id
    is told apart by its sequence and type.

    Args:
        handed_on: The cursor of a resumed session. What is at or below it was handed on by somebody else, and is a
            duplicate however the server replays it.
    """

    def __init__(self, handed_on: int = 0) -> None:
        self._starts: list[int] = [0]
        self._ends: list[int] = [handed_on]
        self._ids: OrderedDict[str, int] = OrderedDict()
        self._forgotten = handed_on or -1

    @property
    def highest(self) -> int:
        """The highest sequence seen."""
        return self._ends[-1]

    @property
    def cursor(self) -> int:
        """The highest sequence up to which nothing is known to be missing."""
        return self._ends[0]

    @property
    def has_holes(self) -> bool:
        """Is anything known to be missing?"""
        return len(self._starts) > 1

    def admit(self, event: Event) -> bool:
        """Take note of ``event``; is it a new one?

        Events without a sequence pass by: they are always new, and leave no trace.
        """
        sequence = event.sequence
        if sequence is None:
            return True
        key = event.id or f"\0{sequence} {event.type}"
        if key in self._ids:
            self._add(sequence)
            return False
        if sequence <= self._forgotten and self._covers(sequence):
            return False
        self._ids[key] = sequence
        if len(self._ids) > REMEMBERED_IDS:
            _, forgotten = self._ids.popitem(last=False)
            self._forgotten = max(self._forgotten, forgotten)
        self._add(sequence)
        return True

    def fill(self, sequence: int) -> None:
        """Count ``sequence`` as seen: an envelope (a batch) used it up, and no event has it."""
        self._add(sequence)

    def accept_holes(self, up_to: int) -> None:
        """A replay that reached ``up_to`` did not fill the holes below: there is nothing in them.

        An event that turns up in an accepted hole all the same is still new, as long as its place is remembered.
        """
        while len(self._starts) > 1 and self._starts[1] <= up_to:
            self._ends[0] = self._ends[1]
            del self._starts[1], self._ends[1]

    def _covers(self, sequence: int) -> bool:
        index = bisect_right(self._starts, sequence) - 1
        return index >= 0 and self._ends[index] >= sequence

    def _add(self, sequence: int) -> None:
        starts, ends = self._starts, self._ends
        if sequence == ends[-1] + 1:  # the common case
            ends[-1] = sequence
            return
        index = bisect_right(starts, sequence) - 1
        if index >= 0 and sequence <= ends[index]:
            return
        joins_left = index >= 0 and ends[index] + 1 == sequence
        joins_right = index + 1 < len(starts) and starts[index + 1] == sequence + 1
        if joins_left and joins_right:
            ends[index] = ends[index + 1]
            del starts[index + 1], ends[index + 1]
        elif joins_left:
            ends[index] = sequence
        elif joins_right:
            starts[index + 1] = sequence
        else:
            starts.insert(index + 1, sequence)
            ends.insert(index + 1, sequence)
            if len(starts) > MAX_HOLES:
                self.accept_holes(starts[1])
