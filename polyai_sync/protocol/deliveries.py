"""Sent messages and their receipts (`protocol.md` §4 "Echoes", §7 "Reconnecting").

A message is *queued* until it is written, *written* until its echo is there, *in doubt* when the socket went away in
between, and then settled: delivered, or failed with what is known. Only a replay takes a message out of doubt, and
only then may it be sent again: never two copies under way at once.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Final

from attrs import evolve

from polyai_sync.messages import Delivery, Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polyai_sync.errors import DeliveryError, PolyAIError
    from polyai_sync.events import UserMessage
    from polyai_sync.hooks import ClientEvent

__all__ = ["Deliveries", "Progress", "Sent"]

PROBE_AFTER: Final = 5.0
"""Seconds without a receipt after which a heartbeat asks whether the connection lives."""

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

    __slots__ = ("error", "event", "frame", "message", "probed", "progress", "refused_by", "written_at")

    def __init__(self, event: ClientEvent, frame: str, message: Message) -> None:
        self.event = event
        self.frame = frame
        self.message = message
        self.progress = Progress.QUEUED
        self.written_at = 0.0
        self.probed = False
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


class Deliveries:
    """The messages of this session that have no receipt yet, oldest first.

    Args:
        limit: Seconds to wait for a receipt; ``None`` = for ever.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._open: OrderedDict[str, Sent] = OrderedDict()
        self._failed: OrderedDict[str, Sent] = OrderedDict()
        self._written: OrderedDict[str, Sent] = OrderedDict()
        self._unwritten: OrderedDict[str, Sent] = OrderedDict()
        self._used: set[str] = set()

    def __iter__(self) -> Iterator[Sent]:
        return iter(tuple(self._open.values()))

    def __bool__(self) -> bool:
        return bool(self._open)

    @property
    def unsettled(self) -> tuple[Message, ...]:
        """For the transcript: failed sends, then pending ones."""
        return tuple(sent.message for sent in (*self._failed.values(), *self._open.values()))

    def is_used(self, client_event_id: str) -> bool:
        """Was this id a message's already?"""
        return client_event_id in self._used

    def note_used(self, client_event_id: str) -> None:
        """Another connection used this id."""
        self._used.add(client_event_id)

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
        if sent.settled:
            return
        sent.progress = Progress.WRITTEN
        sent.written_at = now
        sent.probed = False
        self._unwritten.pop(sent.client_event_id, None)
        self._written[sent.client_event_id] = sent

    def dropped(self) -> None:
        """The socket is gone: what was written is in doubt, what was not is still queued."""
        for sent in self._open.values():
            if sent.progress in {Progress.WRITTEN, Progress.ASKED}:
                sent.progress = Progress.IN_DOUBT
        self._written.clear()
        self._unwritten = OrderedDict(self._open)

    def in_doubt(self) -> list[Sent]:
        """Those that only a replay can tell about."""
        return [sent for sent in self._open.values() if sent.progress is Progress.IN_DOUBT]

    def echo(self, event: UserMessage) -> Sent | None:
        """The echo of one of ours, by its ``client_event_id``, else the oldest pending one of equal text."""
        client_event_id = event.custom.get("client_event_id")
        if client_event_id:
            return self._open.get(client_event_id) or self._failed.get(client_event_id)
        for sent in self._open.values():
            if sent.progress is not Progress.QUEUED and sent.message.text == event.text:
                return sent
        return None

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
        """Settle ``sent`` as failed, with what is known."""
        sent.message = evolve(sent.message, delivery=Delivery.FAILED)
        sent.error = error
        self._close(sent)
        self._failed[sent.client_event_id] = sent
        while len(self._failed) > REMEMBERED_FAILURES:
            self._failed.popitem(last=False)
        return sent.message

    def overdue(self, now: float) -> list[Sent]:
        """Those whose receipt did not come in time."""
        if self._limit is None:
            return []
        return list(self._head(now - self._limit))

    def unprobed(self, now: float) -> list[Sent]:
        """Those without a receipt for so long that the connection should be asked."""
        return [sent for sent in self._head(now - PROBE_AFTER) if not sent.probed]

    def due(self) -> float | None:
        """When `overdue` or `unprobed` will next have something to say."""
        times = []
        for sent in self._written.values():
            if self._limit is not None:
                times.append(sent.written_at + self._limit)
            if not sent.probed:
                times.append(sent.written_at + PROBE_AFTER)
                break  # those behind it were written later
        return min(times, default=None)

    def _head(self, written_until: float) -> Iterator[Sent]:
        for sent in tuple(self._written.values()):
            if sent.written_at > written_until:
                return
            yield sent

    def _close(self, sent: Sent) -> None:
        sent.progress = Progress.SETTLED
        self._open.pop(sent.client_event_id, None)
        self._written.pop(sent.client_event_id, None)
        self._unwritten.pop(sent.client_event_id, None)
