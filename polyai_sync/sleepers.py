"""Threads of a session that wait for the next change."""

from __future__ import annotations

import threading

__all__ = ["Sleeper", "Sleepers"]


class Sleepers:
    """Whoever waits; all are woken at each change.

    Instead of a `threading.Condition`: half the calls around each wait (bench p03), a tenth of its memory (p05), and no
    lock is let go of in the middle of a ``with``, where an interrupt would find it in nobody's hands.

    Attributes:
        locks: One of each, locked.
    """

    __slots__ = ("locks",)

    def __init__(self) -> None:
        self.locks: list[threading.Lock] = []

    def wake(self) -> None:
        """Wake them all. With the lock held that guards what they wait for."""
        if self.locks:
            locks, self.locks = self.locks, []
            for lock in locks:
                lock.release()

    def add(self, lock: threading.Lock) -> None:
        """Release ``lock``, which is locked, at the next change."""
        self.locks.append(lock)

    def discard(self, lock: threading.Lock) -> None:
        """Nobody waits for ``lock`` any longer."""
        if lock in self.locks:
            self.locks.remove(lock)


class Sleeper:
    """One thread that waits: `listen` under the lock, where it found that it has to wait; then, without it, `sleep`.

    Args:
        sleepers: Those of what it waits for.
        guard: The lock that guards that.

    Attributes:
        listens: Would a change wake it? Then it has to `leave` in the end.
    """

    __slots__ = ("_bell", "_guard", "_sleepers", "listens")

    def __init__(self, sleepers: Sleepers, guard: threading.Lock) -> None:
        self._sleepers = sleepers
        self._guard = guard
        self._bell: threading.Lock | None = None
        self.listens = False

    def listen(self) -> None:
        """With the lock held: the next change ends `sleep`."""
        if self._bell is None:
            self._bell = threading.Lock()
            self._bell.acquire()
        if not self.listens:
            self.listens = True
            self._sleepers.add(self._bell)

    def sleep(self, seconds: float | None) -> bool:
        """Without the lock: sleep until the next change after `listen`; ``False``: there was none in time."""
        assert self._bell is not None  # noqa: S101 - listen() goes first
        woken = self._bell.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))
        self.listens = not woken
        return woken

    def leave(self) -> None:
        """Without the lock: wait no more."""
        if self._bell is not None:
            with self._guard:
                self._sleepers.discard(self._bell)
