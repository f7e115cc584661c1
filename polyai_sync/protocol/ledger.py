"""Which events are known: duplicates, holes and the cursor (`protocol.md` §4, "Order, duplicates, cursor")."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polyai_sync.events import Event

__all__ = ["Ledger"]

REMEMBERED_IDS: Final = 512
"""Ids kept at least to recognise a duplicate, twice as many at most. What is older is recognised by its sequence."""

MAX_HOLES: Final = 512
"""Holes kept apart. A server whose numbering skips that often leaves numbers out on purpose."""

MAX_ENVELOPES: Final = 64

_NONE: Final[Mapping[str, int]] = {}
"""One for all sessions, and never changed: 64 bytes each (bench p05)."""


class Ledger:
    """Remembers what was seen, in memory that does not grow with the conversation.

    Sequences are kept as disjoint intervals ``[first, last]``, in order. One interval is the rule; each hole adds
    one. A hole that a replay did not fill is *accepted*: it holds the cursor back no longer, but what turns up in it
    all the same is still new. Ids are kept for the last few thousand events: two events may share a sequence, and an
    event without an id is told apart by its sequence and type.

    Args:
        handed_on: The cursor of a resumed session. What is at or below it was handed on by somebody else, and is a
            duplicate however the server replays it. ``None``: nothing was.

    Attributes:
        accepted: Holes up to here hold nothing.
        replayed_until: How far the replay of this connection has come, as far as it repeats what is known.
    """

    __slots__ = (
        "_ends",
        "_envelopes",
        "_forgotten",
        "_ids",
        "_known_at_open",
        "_older_ids",
        "_starts",
        "accepted",
        "replayed_until",
    )

    def __init__(self, handed_on: int | None = None) -> None:
        self._starts: list[int] = [0]
        self._ends: list[int] = [handed_on or 0]
        # The newer ids, and the older: when there are enough of the newer, the older are forgotten all at once.
        self._ids: dict[str, int] = {}
        self._older_ids: Mapping[str, int] = _NONE
        self._forgotten = -1 if handed_on is None else handed_on
        self.accepted = 0
        self._known_at_open = -1
        self.replayed_until = -1
        self._envelopes: list[int] = []

    @property
    def highest(self) -> int:
        """The highest sequence seen."""
        return self._ends[-1]

    @property
    def cursor(self) -> int:
        """The highest sequence up to which nothing is known to be missing."""
        return self._ends[bisect_right(self._starts, self.accepted) - 1]

    def opened(self) -> None:
        """A connection is open: what it repeats of what is known shows how far its replay reaches."""
        self._known_at_open = self.highest
        self.replayed_until = -1
        self._envelopes.clear()

    def admit(self, event: Event) -> bool:
        """Take note of ``event``; is it a new one?

        Events without a sequence pass by: they are always new, and leave no trace.
        """
        sequence = event.sequence
        if sequence is None:
            return True
        key = event.id or f"\0{sequence} {event.type}"
        known = key in self._ids or key in self._older_ids
        if sequence == self._ends[-1] + 1:  # the common case
            self._ends[-1] = sequence
        else:
            if self.replayed_until < sequence <= self._known_at_open:
                self.replayed_until = sequence
            if not known and sequence <= self._forgotten and self._covers(sequence):
                return False
            self._add(sequence)
        if known:
            return False  # an id may come again under another sequence
        self._ids[key] = sequence
        if len(self._ids) == REMEMBERED_IDS:
            self._forget()
        if self._envelopes:
            self._pass_envelopes(sequence)
        return True

    def envelope(self, sequence: int) -> None:
        """A batch has a number of its own.

        It counts as seen once an event above it came: until then it may be the number of an event still to come.
        """
        self._envelopes.append(sequence)
        del self._envelopes[:-MAX_ENVELOPES]

    def accept_holes(self) -> None:
        """The replay is over: the holes it passed without filling them have nothing in them.

        A replay has passed a hole when it repeated something known from above it. One that repeated nothing, because
        the server had none to give this time, says nothing.
        """
        self.accepted = max(self.accepted, self.replayed_until)

    def _forget(self) -> None:
        self._forgotten = max((self._forgotten, *self._older_ids.values()))
        self._older_ids, self._ids = self._ids, {}

    def _pass_envelopes(self, sequence: int) -> None:
        for number in [number for number in self._envelopes if number < sequence]:
            self._envelopes.remove(number)
            self._add(number)

    def _covers(self, sequence: int) -> bool:
        index = bisect_right(self._starts, sequence) - 1
        return index >= 0 and self._ends[index] >= sequence

    def _add(self, sequence: int) -> None:
        starts, ends = self._starts, self._ends
        index = bisect_right(starts, sequence) - 1
        if sequence <= ends[index]:
            return
        joins_left = ends[index] + 1 == sequence
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
            if len(starts) > MAX_HOLES:  # the oldest hole is forgotten, and with it that it was one
                ends[0] = ends[1]
                del starts[1], ends[1]
