"""The transcript: every message of the conversation, in the server's order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from attrs import evolve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyai_sync.messages import Message

__all__ = ["Place", "Transcript"]

FEW: Final = 4
"""Messages that are looked through for one: an index of the first takes 280 bytes of each idle session (bench p05)."""

_ORDER: Final = attrgetter("order")


class Place:
    """Where one settled message stands. Owned by `Transcript`.

    Attributes:
        message: The message as it is known now.
        born: The number of the event that it began with.
    """

    __slots__ = ("born", "message", "order")

    def __init__(self, message: Message, born: int, order: int) -> None:
        self.message = message
        self.born = born
        self.order = order


class Transcript:
    """Settled messages by sequence, each message id once.

    A message without a sequence stands where it arrived. Appending is the common case and costs the same however long
    the conversation is.
    """

    __slots__ = ("_by_id", "_cached", "_places")

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._by_id: dict[tuple[str, str], Place] | None = None
        self._cached: tuple[Message, ...] | None = None

    def find(self, role: str, message_id: str) -> Place | None:
        """The place of the message of this id, if it is settled."""
        if not message_id:
            return None
        if self._by_id is not None:
            return self._by_id.get((role, message_id))
        for place in self._places:
            if place.message.message_id == message_id and place.message.role == role:
                return place
        return None

    def put(self, message: Message, born: int) -> Place:
        """Put ``message`` in its place.

        One with the same role and id is the same message: it is replaced, and stands where the first of its parts
        stands.
        """
        known = self.find(message.role, message.message_id)
        if known is None:
            return self.add(message, born)
        self._cached = None
        self._replace(known, message)
        return known

    def add(self, message: Message, born: int) -> Place:
        """Put ``message``, which `find` does not, in its place."""
        self._cached = None
        last = self._places[-1].order if self._places else 0
        order = last if message.sequence is None else message.sequence
        place = Place(message, born, order)
        if order >= last:  # the common case
            self._places.append(place)
        else:
            self._insert(place)
        if self._by_id is not None:
            self._index(place)
        elif len(self._places) > FEW:
            self._by_id = {}
            for one in self._places:
                self._index(one)
        return place

    def began(self, place: Place, sequence: int | None) -> None:
        """A part of the message has this sequence: it may be one from before the first known one."""
        if sequence is not None and (place.message.sequence is None or sequence < place.message.sequence):
            self._cached = None
            place.message = evolve(place.message, sequence=sequence)
            self._move(place, sequence)

    def remove(self, place: Place) -> None:
        """The message is not settled after all."""
        self._cached = None
        if self._by_id is not None:
            self._by_id.pop((place.message.role, place.message.message_id), None)
        self._take_out(place)

    def view(self, growing: Iterable[Message], pending: Iterable[Message]) -> tuple[Message, ...]:
        """The settled messages, then those that grow, then those without a receipt."""
        if self._cached is None:
            self._cached = tuple(place.message for place in self._places)
        return (*self._cached, *growing, *pending)

    def _index(self, place: Place) -> None:
        if self._by_id is not None and place.message.message_id:
            self._by_id[place.message.role, place.message.message_id] = place

    def _replace(self, place: Place, message: Message) -> None:
        sequence = place.message.sequence
        if message.sequence is None or (sequence is not None and sequence <= message.sequence):
            place.message = evolve(message, sequence=sequence)
        else:
            place.message = message
            self._move(place, message.sequence)

    def _move(self, place: Place, sequence: int) -> None:
        if sequence < place.order:
            self._take_out(place)
            place.order = sequence
            self._insert(place)

    def _insert(self, place: Place) -> None:
        self._places.insert(bisect_right(self._places, place.order, key=_ORDER), place)

    def _take_out(self, place: Place) -> None:
        index = bisect_left(self._places, place.order, key=_ORDER)
        while self._places[index] is not place:
            index += 1
        del self._places[index]
