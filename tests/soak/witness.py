"""The plugin that looks on: what each session was told, and how often anything happened in the whole run."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from attrs import define, field

from polyai_sync import ConnectionDroppedError, hookimpl

if TYPE_CHECKING:
    from polyai_sync import Event, PolyAIError, Session
    from polyai_sync.hooks import ClientEvent

__all__ = ["Record", "Witness"]


@define(eq=False)
class Record:
    """What one `Session` object was told.

    Attributes:
        sequences: Of the events, in the order in which they were handed on; those without one are left out.
        written: How often each message went out, by its ``client_event_id``.
    """

    sequences: list[int] = field(factory=list)
    written: Counter[str] = field(factory=Counter)


class Witness:
    """Counts, for all clients of the run; `begin` before a session is taken up again."""

    name = "witness"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[str, Record] = {}
        self.totals: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()

    def record(self, session_id: str) -> Record:
        """The record of a session since `begin`, or since its start."""
        with self._lock:
            return self._records.setdefault(session_id, Record())

    def begin(self, session_id: str) -> None:
        """Another `Session` object has that conversation from now on."""
        with self._lock:
            self._records[session_id] = Record()

    def forget(self, session_id: str) -> None:
        """It is over."""
        with self._lock:
            self._records.pop(session_id, None)

    def count(self, what: str, number: int = 1) -> None:
        """Something happened."""
        with self._lock:
            self.totals[what] += number

    def snapshot(self) -> dict[str, int]:
        """All counts so far."""
        with self._lock:
            return dict(self.totals)

    # --- hooks ---

    @hookimpl
    def on_event(self, session: Session, event: Event) -> None:
        if event.sequence is not None:
            self.record(session.session_id).sequences.append(event.sequence)
        self.count("events")

    @hookimpl
    def on_send(self, session: Session, event: ClientEvent) -> None:
        if event.type == "EVENT_TYPE_USER_MESSAGE":
            key = (event.custom or {})["client_event_id"]
            written = self.record(session.session_id).written
            written[key] += 1
            if written[key] > 1:
                self.count("resends")

    @hookimpl
    def on_error(self, session: Session | None, error: PolyAIError) -> None:
        with self._lock:
            self.codes[error.code] += 1
            if isinstance(error, ConnectionDroppedError):
                self.totals["drops"] += 1

    @hookimpl
    def on_connect(self, session: Session, attempt: int, cursor: int) -> None:
        self.count("connects")

    @hookimpl
    def on_message(self, session: Session, message: Any) -> None:
        if message.role != "user":
            self.count("received")
