"""Sent messages and their receipts (`protocol.md` §4 "Echoes", §7 "Reconnecting").

A message is *queued* until it is written, *written* until its echo is there, *in doubt* when the socket went away in
between, and then settled: delivered, or failed with what is known. Only a replay takes a message out of doubt, and
only then may it be sent again: never two copies under way at once, and none overtakes an older one (`pitfalls.md` 3).
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Final

from attrs import evolve

from polyai_sync.messages import Delivery, Message
from polyai_sync.protocol.liveness import PROBE_AFTER
from polyai_sync.protocol.times import earliest

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    __slots__ = ("error", "event", "frame", "message", "progress", "refused_by", "written_at")

    def __init__(self, event: ClientEvent, frame: str, message: Message) -> None:
        self.event = event
        self.frame = frame
        self.message = message
        self.progress = Progress.QUEUED
        self.written_at: float | None = None
        """When it was last written; ``None`` where it never was."""
        self.error: DeliveryError | None = None
        self.refused_by: PolyAIError | None = None
        """The error that the server tied to this message, if it sent one."""

    @property
    def client_event_id(self) -> str:
        """The id that ties the echo to it."""
        return self.message.client_event_id or ""

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
    """

    __slots__ = ("_failed", "_in_doubt", "_limit", "_open", "_unprobed", "_unwritten", "_used", "_written")

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._open: OrderedDict[str, Sent] = OrderedDict()
        self._failed: OrderedDict[str, Sent] = OrderedDict()
        self._unwritten: OrderedDict[str, Sent] = OrderedDict()
        self._written: OrderedDict[str, Sent] = OrderedDict()
        self._unprobed: OrderedDict[str, Sent] = OrderedDict()
        self._in_doubt: OrderedDict[str, Sent] = OrderedDict()
        self._used: set[str] = set()

    def __iter__(self) -> Iterator[Sent]:
        return iter(tuple(self._open.values()))

    def __bool__(self) -> bool:
        return bool(self._open)

    @property
    def unsettled(self) -> tuple[Message, ...]:
        """For the transcript: failed sends, then pending ones."""
        return tuple(sent.message for sent in (*self._failed.values(), *self._open.values()))

    @property
    def unwritten(self) -> bool:
        """Does any message wait to be written, or to be written again?"""
        return bool(self._unwritten)

    @property
    def doubtful(self) -> bool:
        """Is any message in doubt?"""
        return bool(self._in_doubt)

    def find(self, client_event_id: str) -> Sent | None:
        """The message of this id that is under way."""
        return self._open.get(client_event_id)

    def is_used(self, client_event_id: str) -> bool:
        """Was this id a message's already?"""
        return client_event_id in self._used

    def note_used(self, client_event_id: str) -> None:
        """Another connection used this id."""
        self._used.add(client_event_id)

    # --- on the way out ---

    def add(self, sent: Sent) -> None:
        """A new message, queued."""
        self._used.add(sent.client_event_id)
        self._open[sent.client_event_id] = self._unwritten[sent.client_event_id] = sent

    def next_to_write(self) -> Sent | None:
        """The oldest message that is not written, unless it is in doubt: nothing overtakes it."""
        sent = next(iter(self._unwritten.values()), None)
        return sent if sent is not None and sent.progress is Progress.QUEUED else None

    def writing(self, sent: Sent, now: float) -> None:
        """``sent`` is being handed to the socket: from here on it may have arrived."""
        sent.progress = Progress.WRITTEN
        sent.written_at = now
        key = sent.client_event_id
        self._unwritten.pop(key, None)
        self._written[key] = self._unprobed[key] = sent

    def dropped(self) -> None:
        """The socket is gone: what was written is in doubt, what was not is still queued."""
        for sent in self._written.values():
            sent.progress = Progress.IN_DOUBT
        self._in_doubt.update(self._written)
        self._written.clear()
        self._unprobed.clear()
        self._unwritten = OrderedDict(self._open)

    def prove_missing(self) -> list[Sent]:
        """A replay is over, and those in doubt were not in it: the policy is to be asked about each of these."""
        missing = list(self._in_doubt.values())
        self._in_doubt.clear()
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
            return self._open.get(client_event_id) or self._failed.get(client_event_id)
        for sent in self._open.values():
            if sent.written_at is None:
                break  # and so is everything behind it
            if sent.message.text == event.text:
                return sent
        given_up = (sent for sent in self._failed.values() if sent.written_at is not None)
        return next((sent for sent in given_up if sent.message.text == event.text), None)

    def deliver(self, sent: Sent, event: UserMessage) -> Message:
        """Settle ``sent`` by its echo; a late echo turns a failure into a success."""
        sent.message = evolve(
            sent.message,
            message_id=event.message_id,
            sequence=event.sequence,
            timestamp=event.timestamp,
            delivery=Delivery.DELIVERED,
            replayed=event.replayed,
        )
        sent.error = None
        self._close(sent)
        self._failed.pop(sent.client_event_id, None)
        return sent.message

    def fail(self, sent: Sent, error: DeliveryError | None) -> Message:
        """Settle ``sent`` as failed, with what is known. It is never written from here on."""
        sent.message = evolve(sent.message, delivery=Delivery.FAILED)
        sent.error = error
        self._close(sent)
        self._failed[sent.client_event_id] = sent
        while len(self._failed) > REMEMBERED_FAILURES:
            forgotten, _ = self._failed.popitem(last=False)
            self._used.discard(forgotten)  # its late echo is then a message like any other
        return sent.message

    # --- time ---

    def overdue(self, now: float) -> list[Sent]:
        """Those whose receipt did not come in time."""
        return [] if self._limit is None else _older(self._written, now - self._limit)

    def probe(self, now: float) -> bool:
        """Has one been without a receipt for so long that the connection should be asked? Once for each."""
        unprobed = _older(self._unprobed, now - PROBE_AFTER)
        for sent in unprobed:
            del self._unprobed[sent.client_event_id]
        return bool(unprobed)

    def due(self) -> float | None:
        """When `overdue` or `probe` will next have something to say."""
        if not self._written and not self._unprobed:
            return None
        limit = None if self._limit is None else _first(self._written, self._limit)
        return earliest(limit, _first(self._unprobed, PROBE_AFTER))

    def _close(self, sent: Sent) -> None:
        sent.progress = Progress.SETTLED
        for messages in (self._open, self._unwritten, self._written, self._unprobed, self._in_doubt):
            messages.pop(sent.client_event_id, None)


def _older(messages: OrderedDict[str, Sent], written_until: float) -> list[Sent]:
    """The first of ``messages``, which are in the order of their writing."""
    found = []
    for sent in messages.values():
        if sent.written_at is None or sent.written_at > written_until:
            break
        found.append(sent)
    return found


def _first(messages: OrderedDict[str, Sent], seconds: float) -> float | None:
    """When the first of ``messages`` has waited for ``seconds``."""
    sent = next(iter(messages.values()), None)
    return None if sent is None or sent.written_at is None else sent.written_at + seconds
