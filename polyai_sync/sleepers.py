"""Threads that wait for the next change of something, such as a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyai_sync.bells import LockBell

if TYPE_CHECKING:
    import threading

    from polyai_sync.bells import Bell, Bells

__all__ = ["Sleeper", "Sleepers", "ring"]


class Sleepers:
    """Whoever waits; all are woken at each change.

    Instead of a `threading.Condition`: half the calls around each wait (bench p03), a tenth of its memory (p05), and no
    lock is let go of in the middle of a ``with``, where an interrupt would find it in nobody's hands.

    Attributes:
        bells: One of each.
    """

    __slots__ = ("bells",)

    def __init__(self) -> None:
        self.bells: list[Bell] = []

    def wake(self) -> None:
        """Wake them all. With the lock held that guards what they wait for."""
        ring(self.bells)

    def take(self) -> list[Bell]:
        """With that lock held: the bells, for `ring` once it is not, since whom they wake wants it too.

        Not on a thread that Ctrl-C can interrupt: bells that it leaves unrung are in nobody's hands.
        """
        bells, self.bells = self.bells, []
        return bells

    def wake_early(self) -> None:
        """As `wake`, where somebody may go on without the lock: none of the bells is in the list when it is rung.

        So none of them asks for the lock to `Sleeper.leave`.
        """
        bells, self.bells = self.bells, []
        try:
            while bells:  # `ring`, without another call before somebody who waits
                bells[-1].ring()
                bells.pop()
        finally:  # Ctrl-C may come in between
            self.bells += bells


def ring(bells: list[Bell]) -> None:
    """Ring them all; nothing is left of them, in a frame that an exception keeps for instance."""
    while bells:
        bells[-1].ring()
        bells.pop()  # second: Ctrl-C may come in between


class Sleeper:
    """One thread that waits: it calls `listen` under the lock, where it found that it has to wait.

    Then, without the lock, it sleeps by the bell that it got; and in the end it has to `leave`.

    Args:
        sleepers: Those of what it waits for.
        guard: The lock that guards that.
        bells: Where to get its bell; ``None``: a plain one will do.
    """

    __slots__ = ("_bell", "_bells", "_generation", "_guard", "_sleepers")

    def __init__(self, sleepers: Sleepers, guard: threading.Lock, bells: Bells | None = None) -> None:
        self._sleepers = sleepers
        self._guard = guard
        self._bells = bells
        self._bell: Bell | None = None
        self._generation = 0

    def listen(self) -> Bell:
        """With the lock held: the next change rings this bell."""
        bell, bells = self._bell, self._bells
        if bells is not None and (bell is None or bells.generation != self._generation):
            bell = self._bell = bells.take()
            self._generation = bells.generation
        elif bell is None:
            bell = self._bell = LockBell()
        bell.hush()
        if bell not in self._sleepers.bells:  # since the last time
            self._sleepers.bells.append(bell)
        return bell

    def leave(self) -> None:
        """Without the lock: wait no more."""
        if (bell := self._bell) is None:
            return
        self._bell = None
        if bell in self._sleepers.bells:  # looked at without the lock: at worst it is rung once more
            with self._guard:
                if bell in self._sleepers.bells:
                    self._sleepers.bells.remove(bell)
        if self._bells is not None and self._bells.generation == self._generation:
            self._bells.give_back(bell)
