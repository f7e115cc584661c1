"""When the history is over (`protocol.md` §7.3). Nothing on the wire marks it."""

from __future__ import annotations

from typing import Final

__all__ = ["Replay"]

QUIET: Final = 1.0
"""Seconds without a batch after which the history counts as over."""


class Replay:
    """The history of one connection.

    There are two questions, and they differ in what a wrong answer costs:

    - ``over``: may the session be called open, and the agent be asked to join? At the echo of the heartbeat that was
      sent right after the 101, at any other live event, or after a second of quiet.
    - ``proved``: is what did not come in it missing at the server, so that it may be sent again? Replay and live
      delivery may overlap, so a live event proves nothing. The echo does; so does quiet where the server has never
      been seen to echo heartbeats.
    """

    def __init__(self) -> None:
        self.over = False
        self.proved = False
        self._active = False
        self._fresh = False
        self._started = False
        self._echoes = False
        self._answered = False
        self._live = False
        self._quiet_from = 0.0

    @property
    def active(self) -> bool:
        """Is a socket open whose history is not over yet?"""
        return self._active and not self.over

    def opened(self, now: float, *, fresh: bool, started: bool, echoes: bool) -> None:
        """A socket is open.

        Args:
            now: Monotonic seconds.
            fresh: This client has just created the session: there is no history.
            started: ``SESSION_START`` was seen before, so this history need not hold it.
            echoes: The server is known to echo heartbeats.
        """
        self.over = self.proved = self._answered = self._live = False
        self._active = True
        self._fresh, self._started, self._echoes = fresh, started, echoes
        self._quiet_from = now

    def closed(self) -> None:
        """The socket is gone."""
        self._active = self.over = self.proved = False

    def batch(self, now: float) -> None:
        """A part of the history came."""
        self._quiet_from = now

    def session_started(self) -> None:
        """``SESSION_START`` came."""
        self._started = True
        if self._fresh:
            self.over = self.proved = True
        self._conclude()

    def answered(self) -> None:
        """The heartbeat came back."""
        self._answered = True
        self._conclude()

    def live_event(self) -> None:
        """An event came outside of a batch."""
        self._live = True
        self._conclude()

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self._active and self._started and now >= self._quiet_from + QUIET:
            self.over = True
            self.proved = self.proved or not self._echoes

    def due(self) -> float | None:
        """When `tick` will have something to say."""
        if not self._active or not self._started or (self.over and (self.proved or self._echoes)):
            return None
        return self._quiet_from + QUIET

    def _conclude(self) -> None:
        if self._active and self._started:
            self.over = self.over or self._answered or self._live
            self.proved = self.proved or self._answered
