"""Sent messages and their receipts (`protocol.md` §4 "Echoes", §7 "Reconnecting").

A message is *queued* until it is written, *written* until its echo is there, *in doubt* when the socket went away in
between, and then settled: delivered, or failed with what is known. Only a replay takes a message out of doubt, and
only then may it be sent again: never two copies under way at once, and none overtakes an older one (`pitfalls.md` 3).
"""

from __future__ import annotations

from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from polyai_sync.messages import Delivery, Message
from polyai_sync.protocol.liveness import PROBE_AFTER
from polyai_sync.protocol.times import earliest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from polyai_sync.errors import DeliveryError, PolyAIError
    from polyai_sync.events import UserMessage
    from polyai_sync.hooks import ClientEvent

__all__ = ["Deliveries", "Progress", "Sent"]

REMEMBERED_FAILURES: Final = 256
"""Failed messages that a late echo can still turn into delivered ones."""


class Progress(Enum):
    """Where a sent message stands on its way."""

    QUEUED = "queued"
    WRITTEN = "written"
    IN_DOUBT = "in doubt"
    ASKED = "asked"  # proved not received; the policy is being asked whether to send it again
    SETTLED = "settled"


class Sent:
    """One message on its way. Owned by `Deliveries`."""

    __slots__ = (
        "client_event_id",
        "error",
        "event",
        "frame",
        "message",
        "progress",
        "refused_by",
        "shelf",
        "written_at",
    )

    def __init__(self, event: ClientEvent, frame: str, message: Message) -> None:
        self.event = event
        self.frame = frame
        self.message = message
        self.client_event_id = message.client_event_id or ""
        """The id that ties the echo to it."""
        self.progress = Progress.QUEUED
        self.shelf: dict[str, Sent] = {}
        """Where `Deliveries` keeps it."""
        self.written_at: float | None = None
        """When it was last written; ``None`` where it never was."""
        self.error: DeliveryError | None = None
        self.refused_by: PolyAIError | None = None
        """The error that the server tied to this message, if it sent one."""

    @property
    def settled(self) -> bool:
        """Is its fate known, as far as it ever will be?"""
        return self.progress is Progress.SETTLED

    @property
    def outcome(self) -> str:
        """What can be said of it without a receipt: ``not_received`` where that is certain, else ``unknown``."""
        return "not_received" if self.progress in {Progress.QUEUED, Progress.ASKED} else "unknown"


class Deliveries:
    """The messages of this session that have no receipt yet, oldest first. No call costs more where more are pending.

    Args:
        limit: Seconds to wait for a receipt; ``None`` = for ever.

    Attributes:
        unwritten: Those to be written, for the first time or again.
        doubtful: How many of these are in doubt: the first of them.
    """

    __slots__ = ("_failed", "_limit", "_probed", "_used", "_written", "doubtful", "unwritten")

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        # Each message without a receipt is in one of three, which follow each other in the order of their sending:
        # written, and the connection was asked whether it lives; written; to be written, for the first time or again.
        self._probed: dict[str, Sent] = {}
        self._written: dict[str, Sent] = {}
        self.unwritten: dict[str, Sent] = {}
        self.doubtful = 0
        self._failed: dict[str, Sent] = {}
        self._used: dict[str, None] = {}  # for its keys: 64 bytes where there are none, and a set 216 (bench p05)

    def __iter__(self) -> Iterator[Sent]:
        return iter(tuple(self._open()))

    def __bool__(self) -> bool:
        return bool(self._written or self.unwritten or self._probed)

    @property
    def unsettled(self) -> tuple[Message, ...]:
        """For the transcript: failed sends, then pending ones."""
        return tuple(sent.message for sent in (*self._failed.values(), *self._open()))

    def find(self, client_event_id: str) -> Sent | None:
        """The message of this id that is under way."""
        return (
            self._written.get(client_event_id)
            or self.unwritten.get(client_event_id)
            or self._probed.get(client_event_id)
        )

    def is_used(self, client_event_id: str) -> bool:
        """Was this id a message's already?"""
        return client_event_id in self._used

    def note_used(self, client_event_id: str) -> None:
        """Another connection used this id."""
        self._used[client_event_id] = None

    # --- on the way out ---

    def add(self, sent: Sent) -> None:
        """A new message, queued."""
        self._used[sent.client_event_id] = None
        self._put(sent, self.unwritten)

    def next_to_write(self) -> Sent | None:
        """The oldest message that is not written, unless it is in doubt: nothing overtakes it."""
        sent = _first(self.unwritten)
        return sent if sent is not None and sent.progress is Progress.QUEUED else None

    def writing(self, sent: Sent, now: float) -> None:
        """``sent`` is being handed to the socket: from here on it may have arrived."""
        sent.progress = Progress.WRITTEN
        sent.written_at = now
        self._take_out(sent)
        self._put(sent, self._written)

    def dropped(self) -> None:
        """The socket is gone: what was written is in doubt, what was not is still queued."""
        if not self._written and not self._probed:
            return
        waiting, self.unwritten = self.unwritten, {}
        for sent in chain(self._probed.values(), self._written.values()):
            sent.progress = Progress.IN_DOUBT
            self.doubtful += 1
            self._put(sent, self.unwritten)
        for sent in waiting.values():
            self._put(sent, self.unwritten)
        self._probed.clear()
        self._written.clear()

    def prove_missing(self) -> list[Sent]:
        """A replay is over, and those in doubt were not in it: the policy is to be asked about each of these."""
        missing = [sent for sent in self.unwritten.values() if sent.progress is Progress.IN_DOUBT]
        self.doubtful = 0
        for sent in missing:
            sent.progress = Progress.ASKED
        return missing

    # --- settled ---

    def echo(self, event: UserMessage) -> Sent | None:
        """Whose echo is this? Of the message of its ``client_event_id``, also where that had been given up.

        An echo without one confirms the oldest pending send of equal text, else one that was given up.
        """
        client_event_id = event.custom.get("client_event_id")
        if client_event_id:
            return self.find(client_event_id) or self._failed.get(client_event_id)
        for sent in self._open():
            if sent.written_at is None:
                break  # and so is everything behind it
            if sent.message.text == event.text:
                return sent
        given_up = (sent for sent in self._failed.values() if sent.written_at is not None)
        return next((sent for sent in given_up if sent.message.text == event.text), None)

    def deliver(self, sent: Sent, event: UserMessage) -> Message:
        """Settle ``sent`` by its echo; a late echo turns a failure into a success."""
        sent.message = _settled(
            sent,
            Delivery.DELIVERED,
            message_id=event.message_id,
            sequence=event.sequence,
            timestamp=event.timestamp,
            replayed=event.replayed,
        )
        sent.error = None
        self._close(sent)
        return sent.message

    def fail(self, sent: Sent, error: DeliveryError | None) -> Message:
        """Settle ``sent`` as failed, with what is known. It is never written from here on."""
        sent.message = _settled(sent, Delivery.FAILED)
        sent.error = error
        self._close(sent)
        self._put(sent, self._failed)
        if len(self._failed) > REMEMBERED_FAILURES:
            forgotten = next(iter(self._failed))
            del self._failed[forgotten]
            self._used.pop(forgotten, None)  # its late echo is then a message like any other
        return sent.message

    # --- time ---

    def overdue(self, now: float) -> list[Sent]:
        """Those whose receipt did not come in time."""
        if self._limit is None:
            return []
        return _older(chain(self._probed.values(), self._written.values()), now - self._limit)

    def probe(self, now: float) -> bool:
        """Has one been without a receipt for so long that the connection should be asked? Once for each."""
        unprobed = _older(self._written.values(), now - PROBE_AFTER)
        for sent in unprobed:
            self._take_out(sent)
            self._put(sent, self._probed)
        return bool(unprobed)

    def due(self) -> float | None:
        """When `overdue` or `probe` will next have something to say."""
        if not self._written and not self._probed:
            return None
        unprobed = _first(self._written)
        limit = None if self._limit is None else _since(_first(self._probed) or unprobed, self._limit)
        return earliest(limit, _since(unprobed, PROBE_AFTER))

    # --- where they are kept ---

    def _open(self) -> Iterator[Sent]:
        """Those without a receipt, oldest first."""
        return chain(self._probed.values(), self._written.values(), self.unwritten.values())

    def _put(self, sent: Sent, shelf: dict[str, Sent]) -> None:
        sent.shelf = shelf
        shelf[sent.client_event_id] = sent

    def _take_out(self, sent: Sent) -> None:
        shelf = sent.shelf
        shelf.pop(sent.client_event_id, None)
        if not shelf:
            shelf.clear()  # an emptied dictionary keeps the room it took, and what looks for its first passes all of it

    def _close(self, sent: Sent) -> None:
        if sent.progress is Progress.IN_DOUBT:
            self.doubtful -= 1
        sent.progress = Progress.SETTLED
        self._take_out(sent)


def _settled(sent: Sent, delivery: Delivery, **known: Any) -> Message:
    """The message of ``sent`` as it has become (2.0 µs; ``attrs.evolve`` takes 2.9)."""
    message = sent.message
    return Message(
        role="user",
        text=message.text,
        custom=message.custom,
        client_event_id=message.client_event_id,
        delivery=delivery,
        **known,
    )


def _older(messages: Iterable[Sent], written_until: float) -> list[Sent]:
    """The first of ``messages``, which are in the order of their writing."""
    found = []
    for sent in messages:
        if sent.written_at is None or sent.written_at > written_until:
            break
        found.append(sent)
    return found


def _first(messages: dict[str, Sent]) -> Sent | None:
    return next(iter(messages.values()), None) if messages else None


def _since(sent: Sent | None, seconds: float) -> float | None:
    """When ``sent`` has waited for ``seconds``."""
    return None if sent is None or sent.written_at is None else sent.written_at + seconds
