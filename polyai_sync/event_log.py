"""The events of a session as any number of readers see them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polyai_sync.events import Event

__all__ = ["EventLog"]

FEW: Final = 64
"""Events that a list keeps. A deque takes 760 bytes before the first one (bench p05)."""


class EventLog:
    """The last events, numbered from the first one on. Guarded by the session's lock.

    Args:
        window: How many are kept.
    """

    __slots__ = ("_events", "_few", "_window", "end")

    def __init__(self, window: int) -> None:
        self._window = window
        self._few = min(FEW, window)
        self._events: list[Event] | deque[Event] = []
        self.end = 0
        """The number of the next event."""

    @property
    def start(self) -> int:
        """The number of the oldest event kept."""
        return self.end - len(self._events)

    def extend(self, events: Sequence[Event]) -> None:
        """Append."""
        self._events.extend(events)
        self.end += len(events)
        if len(self._events) > self._few:
            self._few = self._window  # which a deque of this length never exceeds
            self._events = deque(self._events, maxlen=self._window)

    def read(self, number: int, at_most: int = 256) -> list[Event]:
        """The events from ``number`` on, which has to be kept."""
        index = number - self.start
        return [self._events[i] for i in range(index, min(index + at_most, len(self._events)))]
