"""Heartbeats, a silent peer, and when an attempt counts afresh (`architecture.md` "Liveness")."""

from __future__ import annotations

from typing import Final

__all__ = ["PROBE_AFTER", "Attempts", "Liveness", "TypingThrottle"]

DEFAULT_INTERVAL: Final = 30.0
SHORTEST: Final = 1.0
LONGEST: Final = 300.0
SILENT_INTERVALS: Final = 2.5
MAX_OUTSTANDING: Final = 64
PROBE_AFTER: Final = 5.0
"""Seconds without the answer that is waited for, after which a heartbeat asks whether the connection lives."""

LIVED: Final = 30.0
"""Seconds after which a connection has lived, and attempts are counted from 1 again."""

TYPING_EVERY: Final = 3.0
TYPING_STOPS_AFTER: Final = 5.0


class Liveness:
    """When to send a heartbeat, and when silence means that the connection is dead."""

    __slots__ = (
        "_interval",
        "_last_heard",
        "_last_sent",
        "_numbered",
        "_outstanding",
        "_queued",
        "_unanswered_since",
        "echoes",
        "last_answered",
    )

    def __init__(self) -> None:
        self._interval: float | None = DEFAULT_INTERVAL
        self._queued = False
        self._last_sent: float | None = None
        self._last_heard = 0.0
        self._unanswered_since: float | None = None
        self._outstanding: list[tuple[int, float]] = []
        self._numbered = False
        self.echoes = False
        """Has a heartbeat of this session ever come back?"""
        self.last_answered = float("-inf")
        """When the last heartbeat that came back was sent."""

    def set_interval(self, seconds: float | None) -> None:
        """Take the server's interval: clamped; ``None`` = it gave none; 0 = no rhythm."""
        if seconds is None or seconds < 0:
            self._interval = DEFAULT_INTERVAL
        elif seconds == 0:
            self._interval = None
        else:
            self._interval = min(max(seconds, SHORTEST), LONGEST)

    def opened(self, now: float) -> None:
        """A socket is open: nothing is outstanding on it, and it has just been heard."""
        self.closed()
        self._last_heard = now

    def closed(self) -> None:
        """No socket: no beats."""
        self._outstanding.clear()
        self._unanswered_since = None
        self._last_sent = None
        self._queued = False

    def queue(self) -> bool:
        """A heartbeat is wanted; is another one to be written? One that waits already will do."""
        wanted, self._queued = not self._queued, True
        return wanted

    def sent(self, number: int, now: float) -> None:
        """Heartbeat ``number`` is being written."""
        self._queued = False
        self._outstanding.append((number, now))
        del self._outstanding[:-MAX_OUTSTANDING]
        if self._unanswered_since is None:
            self._unanswered_since = now
        self._last_sent = now

    def heard(self, now: float) -> None:
        """Something came from the server."""
        self._last_heard = now
        self._unanswered_since = None

    def answered(self, number: int | None) -> bool:
        """A heartbeat came back live; was it one of this connection?

        Args:
            number: The number it was sent with; ``None`` where the echo lost it. Such an echo counts for the oldest
                heartbeat under way, unless the server is known to keep the numbers: then it is somebody else's.
        """
        if number is None:
            if self._numbered or not self._outstanding:
                return False
            number = self._outstanding[0][0]
        elif number in (outstanding for outstanding, _ in self._outstanding):
            self._numbered = True
        else:
            return False
        self.echoes = True
        while self._outstanding and self._outstanding[0][0] <= number:
            _, self.last_answered = self._outstanding.pop(0)
        return True

    def beat_due(self) -> float | None:
        """When the next heartbeat is due."""
        if self._interval is None or self._last_sent is None or self._queued:
            return None
        return self._last_sent + self._interval

    def probe_due(self) -> float | None:
        """When to ask again for an echo that does not come."""
        return None if self._last_sent is None or self._queued else self._last_sent + PROBE_AFTER

    def dead_at(self) -> float | None:
        """When the connection counts as dead if nothing comes until then."""
        if self._interval is not None:
            return self._last_heard + SILENT_INTERVALS * self._interval
        if self._unanswered_since is not None:
            return max(self._last_heard, self._unanswered_since) + SILENT_INTERVALS * DEFAULT_INTERVAL
        return None


class Attempts:
    """Counts attempts to connect. A connection that did not live does not reset the count (`pitfalls.md` 15)."""

    __slots__ = ("_lived", "_opened_at", "made")

    def __init__(self) -> None:
        self.made = 0
        """Attempts made since the last connection that lived."""
        self._opened_at: float | None = None
        self._lived = False

    def begin(self) -> int:
        """Another attempt is being made; returns its number, from 1."""
        self.made += 1
        return self.made

    def opened(self, now: float) -> None:
        """It succeeded."""
        self._opened_at = now
        self._lived = False

    def spoke(self) -> None:
        """A live message of an agent came: this connection works."""
        self._lived = True

    def dropped(self, now: float) -> None:
        """The connection is gone. If it lived, the next attempt is the first again."""
        if self._opened_at is not None and (self._lived or now - self._opened_at >= LIVED):
            self.made = 0
        self._opened_at = None
        self._lived = False


class TypingThrottle:
    """Started at most once in 3 s, stopped by itself after 5 s (`api.md`, ``typing``)."""

    __slots__ = ("_started_at", "_stop_at")

    def __init__(self) -> None:
        self._started_at = float("-inf")
        self._stop_at: float | None = None

    def type(self, now: float) -> bool:
        """The user types; is "started" to be sent?"""
        if now - self._started_at >= TYPING_EVERY:
            self._started_at = now
            self._stop_at = now + TYPING_STOPS_AFTER
            return True
        if self._stop_at is not None:
            self._stop_at = now + TYPING_STOPS_AFTER
        return False

    def stop(self) -> bool:
        """The user stopped, or sent; is "stopped" to be sent? Only where "started" was."""
        was_typing = self._stop_at is not None
        self._stop_at = None
        return was_typing

    def forget(self) -> None:
        """The socket is gone, and with it what was said on it."""
        self._started_at = float("-inf")
        self._stop_at = None

    def due(self) -> float | None:
        """When to stop by itself."""
        return self._stop_at
