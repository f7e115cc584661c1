"""Readers of a session's events: each has a place of its own in the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from polyai_sync.calls import reported
from polyai_sync.errors import LaggedError, WaitTimeoutError
from polyai_sync.events import Event
from polyai_sync.transport.deadline import Deadline

if TYPE_CHECKING:
    from polyai_sync.engine import Engine

__all__ = ["EventIterator"]


class EventIterator(Iterator[Event]):
    """One reader of the session's events, with a place of its own."""

    def __init__(self, engine: Engine, place: int, timeout: float | None) -> None:
        self._engine = engine
        self._place = place
        self._timeout = timeout
        self._read: list[Event] = []
        self._ended = False

    @reported
    def __next__(self) -> Event:
        if self._read:
            return self._read.pop()
        if self._ended:
            raise StopIteration
        engine, log = self._engine, self._engine.log
        if log.end <= self._place:
            engine.check_may_block("events()")
            engine.wait(lambda: log.end > self._place or engine.conversation.over, Deadline.after(self._timeout))
        with engine.lock:
            if self._place < log.start:
                self._ended = True
                missed = log.start - self._place
                raise LaggedError(
                    f"This reader of events fell behind, and {missed} events are no longer kept",
                    missed=missed,
                    surface="client",
                )
            self._read = log.read(self._place)[::-1]
            self._place += len(self._read)
            over, failure = engine.conversation.over, engine.conversation.failure
            outcome = engine.conversation.outcome() if failure is not None else None
        if self._read:
            return self._read.pop()
        if not over:
            raise WaitTimeoutError("No event came in time", surface="client")
        self._ended = True
        if outcome is not None:
            raise outcome
        raise StopIteration
