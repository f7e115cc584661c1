"""Who waits for something: the questions in their order, and the other calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyai_sync.protocol.ending import fresh

if TYPE_CHECKING:
    from polyai_sync.errors import PolyAIError
    from polyai_sync.events import Event
    from polyai_sync.protocol.ledger import Ledger
    from polyai_sync.protocol.turns import Turn, Waiter

__all__ = ["Lines"]


class Lines:
    """Turns in order of arrival, and the other calls.

    Args:
        ledger: Knows the highest sequence seen so far.
    """

    __slots__ = ("_ledger", "_turns", "_waiters")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._turns: list[Turn] = []
        self._waiters: list[Waiter] = []

    @property
    def active(self) -> Turn | None:
        """The turn that is being served, if any."""
        turns = self._turns
        return turns[0] if turns and turns[0].active else None

    def join(self, turn: Turn, *, first: bool = False) -> None:
        """Stand in line; a question that is asked again goes to its head."""
        turn.known = self._ledger.highest
        if first:
            self.settle()
            self._turns.insert(1 if self.active else 0, turn)
        else:
            self._turns.append(turn)

    def is_next(self, turn: Turn) -> bool:
        """Is everybody before it served, and it not?"""
        self.settle()
        return bool(self._turns) and self._turns[0] is turn

    def leave(self, turn: Turn) -> None:
        """Leave the line, served or not."""
        if turn in self._turns:
            self._turns.remove(turn)

    def settle(self) -> None:
        """Let go of turns that are done, whether or not their callers have looked."""
        while self._turns and self._turns[0].done:
            del self._turns[0]

    def all_turns(self) -> tuple[Turn, ...]:
        """Everybody in line."""
        return tuple(self._turns)

    def wait(self, waiter: Waiter) -> None:
        """Note a call that waits."""
        waiter.known = self._ledger.highest
        self._waiters.append(waiter)

    def stop_waiting(self, waiter: Waiter) -> None:
        """It does not wait any longer."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def fail_waiters(self, error: PolyAIError, position: int) -> None:
        """Nothing more will come: everybody who waits is told."""
        for waiter in self._waiters:
            waiter.fail(fresh(error), position)

    def longest_waiting(self, event: Event, dropped_at: float) -> Waiter | None:
        """The call that has waited longest for what ``event`` says, if any did (`pitfalls.md` 6).

        An event is no business of a call that is younger: one that began after the event's place was passed, or, where
        the event comes in a replay, after the connection dropped.
        """
        calls: list[Waiter] = [waiter for waiter in self._waiters if waiter.error is None]
        if self.active is not None:
            calls.append(self.active)
        if event.sequence is not None:
            calls = [call for call in calls if call.known < event.sequence]
        if event.replayed:
            calls = [call for call in calls if call.since < dropped_at]
        return min(calls, key=lambda call: call.since, default=None)
