"""The socket as the conversation knows it: is it open, alive, and done with the history?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyai_sync.protocol.liveness import Attempts
from polyai_sync.protocol.times import earliest

if TYPE_CHECKING:
    from polyai_sync.events import Heartbeat
    from polyai_sync.protocol.liveness import Liveness
    from polyai_sync.protocol.outbox import Outbox
    from polyai_sync.protocol.replay import Replay

__all__ = ["Connection"]


class Connection:
    """One socket after the other.

    Args:
        outbox: What is to be written.
        liveness: Heartbeats.
        replay: The history of the socket that is open.

    Attributes:
        online: Is a socket open?
        number: How many there have been.
        dropped_at: When the last one went away.
        attempts: The count of attempts to open one.
    """

    __slots__ = ("_liveness", "_outbox", "_replay", "attempts", "dropped_at", "number", "online")

    def __init__(self, outbox: Outbox, liveness: Liveness, replay: Replay) -> None:
        self.online = False
        self.number = 0
        self.dropped_at = float("-inf")
        self.attempts = Attempts()
        self._outbox = outbox
        self._liveness = liveness
        self._replay = replay

    def opened(self, now: float, *, fresh: bool, started: bool, awaited: bool) -> None:
        """A socket is open; a heartbeat goes first, whose echo will end the history (`protocol.md` §7.3)."""
        self.online = True
        self.number += 1
        self.attempts.opened(now)
        self._liveness.opened(now)
        echoes = self._liveness.echoes
        self._replay.opened(now, fresh=fresh, started=started, awaited=awaited, echoes=echoes)
        self._outbox.beat()

    def closed(self, now: float) -> None:
        """The socket is gone."""
        if self.online:
            self.online = False
            self.dropped_at = now
            self.attempts.dropped(now)
        self._liveness.closed()
        self._replay.closed()
        self._outbox.dropped()

    def set_interval(self, seconds: float | None) -> None:
        """The server told how often it wants a heartbeat."""
        self._liveness.set_interval(seconds)

    def session_started(self) -> None:
        """``SESSION_START`` came."""
        self._replay.session_started()

    def heard(self, now: float) -> None:
        """Bytes came, whatever they were."""
        self._liveness.heard(now)

    def heartbeat(self, echo: Heartbeat) -> None:
        """A heartbeat came back live. Another connection's, or one of an earlier socket, proves nothing."""
        if self._liveness.answered(self._outbox.number_of(echo)):
            self._replay.answered()

    def due(self, *, awaited: bool) -> float | None:
        """When `tick` will have something to do, or the connection counts as dead.

        Args:
            awaited: Does anything depend on the end of the history?
        """
        if not self.online:
            return None
        return earliest(
            self._liveness.beat_due(),
            self._liveness.dead_at(),
            self._replay.due(),
            self._outbox.due(),
            self._echo_due() if awaited else None,
        )

    def tick(self, now: float, *, awaited: bool, probe: bool) -> None:
        """Time has passed.

        Args:
            now: Monotonic seconds.
            awaited: Does anything depend on the end of the history?
            probe: Has a message been without its receipt for long?
        """
        if not self.online:
            return
        beats = (self._liveness.beat_due(), self._echo_due() if awaited else None)
        if probe or any(due is not None and now >= due for due in beats):
            self._outbox.beat()
        self._outbox.tick(now)
        self._replay.tick(now)

    def is_dead(self, now: float) -> bool:
        """Has nothing come for so long that the connection must be dead, whatever TCP says?"""
        dead_at = self._liveness.dead_at()
        return self.online and dead_at is not None and now >= dead_at

    def _echo_due(self) -> float | None:
        """When to ask once more for the echo, where nothing else can end the history."""
        return self._liveness.probe_due() if self._replay.needs_echo else None
