"""When the history is over (`protocol.md` §7.3). Nothing on the wire marks it."""

from __future__ import annotations

from typing import Final

__all__ = ["Replay"]

QUIET: Final = 1.0
"""Seconds without a batch after which the history counts as over."""

SILENCE: Final = 5.0
"""Seconds after which it counts as over where the server gave no sign at all of having sent it."""


class Replay:
    """The history of one connection.

    There are two questions, and they differ in what a wrong answer costs:

    - ``over``: may the session be called open? At the echo of a heartbeat of this connection, at any other live
      event, or after a second of quiet. Where nothing depends on the rest of it, at the first batch: that saves who
      resumes a session a round trip (bench p09).
    - ``proved``: is what did not come in it missing at the server, so that it may be sent again, and the agent be
      asked to join? Replay and live delivery may overlap, so a live event proves nothing. The echo does, at once
      where a batch came before it, else (a server may have nothing to send, or be late with it) after the quiet. Where
      the server has never been seen to echo heartbeats the quiet has to do: a second after a batch, longer without.
    """

    __slots__ = (
        "_active",
        "_answered",
        "_awaited",
        "_batches",
        "_echoes",
        "_fresh",
        "_live",
        "_quiet_from",
        "_started",
        "over",
        "proved",
    )

    def __init__(self) -> None:
        self.over = False
        self.proved = False
        self._active = False
        self._fresh = False
        self._started = False
        self._awaited = True
        self._echoes = False
        self._answered = False
        self._batches = False
        self._live = False
        self._quiet_from = 0.0

    @property
    def needs_echo(self) -> bool:
        """Can only an echo prove that the history is over, and has none come?"""
        return self._active and self._started and not self.proved and self._proof_due() is None

    def opened(self, now: float, *, fresh: bool, started: bool, awaited: bool, echoes: bool) -> None:
        """A socket is open.

        Args:
            now: Monotonic seconds.
            fresh: This client has just created the session: there is no history.
            started: ``SESSION_START`` was seen before, so this history need not hold it.
            awaited: Somebody waits for what is in it.
            echoes: The server is known to echo heartbeats.
        """
        self.over = self.proved = self._answered = self._batches = self._live = False
        self._active = True
        self._fresh, self._started, self._awaited, self._echoes = fresh, started, awaited, echoes
        self._quiet_from = now

    def closed(self) -> None:
        """The socket is gone."""
        self._active = self.over = self.proved = False

    def batch(self, now: float) -> None:
        """A part of the history came."""
        self._batches = True
        self._quiet_from = now
        self.over = self.over or (self._active and self._started and not self._awaited)

    def session_started(self) -> None:
        """``SESSION_START`` came."""
        self._started = True
        if self._fresh:
            self.over = self.proved = True
        self._conclude()

    def answered(self) -> None:
        """A heartbeat of this connection came back."""
        self._answered = True
        self._conclude()

    def live_event(self) -> None:
        """An event came outside of a batch."""
        self._live = True
        self._conclude()

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self._active and self._started:
            self.over = self.over or now >= self._quiet_from + QUIET
            proof = self._proof_due()
            self.proved = self.proved or (proof is not None and now >= proof)

    def due(self) -> float | None:
        """When `tick` will have something to say."""
        if not self._active or not self._started or self.proved:
            return None
        return self._quiet_from + QUIET if not self.over else self._proof_due()

    def _proof_due(self) -> float | None:
        """When quiet proves the history to be over; ``None``: only an echo does."""
        if self._answered or (self._batches and not self._echoes):
            return self._quiet_from + QUIET
        return None if self._echoes else self._quiet_from + SILENCE

    def _conclude(self) -> None:
        if self._active and self._started:
            self.over = self.over or self._answered or self._live
            self.proved = self.proved or (self._answered and self._batches)
