"""What a thread sleeps by until another one rings."""

from __future__ import annotations

import math
import os
import select
import sys
import threading
from typing import TYPE_CHECKING, Final, Protocol

from polyai_sync.transport.waker import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Bell", "Bells", "DescriptorBell", "LockBell"]

QUICK: Final = sys.platform == "linux" and hasattr(os, "eventfd") and hasattr(select, "poll")
"""Can a bell be made of a descriptor?"""


class Bell(Protocol):
    """Wakes one thread. A ring for which nobody sleeps may end a later sleep at once: look again what has happened."""

    def ring(self) -> None:
        """End the sleep. From any thread."""

    def hush(self) -> None:
        """Before a sleep: forget the ring that ended the last one. What it was for has been looked at since."""

    def sleep(self, seconds: float | None) -> bool:
        """Sleep until it is rung, ``None`` for ever; ``False``: it was not, in time."""


class LockBell:
    """Made of a lock, which there is everywhere."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """See `Bell`."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it was rung already

    def hush(self) -> None:
        """See `Bell`: the sleep took the ring with it."""

    def sleep(self, seconds: float | None) -> bool:
        """See `Bell`."""
        return self._lock.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))


class DescriptorBell:
    """Made of a descriptor, which is rung without the interpreter's lock.

    A thread that is woken often runs at once, in place of the one that woke it. Where this has the interpreter's lock,
    as it has when it releases a lock, they change places twice for nothing. So an ``ask`` waits 6 µs less, of 184
    (bench p03).

    Raises:
        OSError: The process has no descriptor left.
    """

    __slots__ = ("_close", "_fd", "_poll", "_rung")

    def __init__(self) -> None:
        self._fd = -1
        self._close: Callable[[int], None] = os.close  # at the interpreter's end the module may be gone
        if sys.platform == "linux":  # as QUICK says; the type checker looks for this
            self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._rung = False

    def __del__(self) -> None:
        """Closed by nobody but the last one who could ring: the number may be another descriptor's afterwards."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._close(fd)

    def ring(self) -> None:
        """See `Bell`."""
        if sys.platform == "linux":
            os.eventfd_write(self._fd, 1)

    def hush(self) -> None:
        """See `Bell`. Not done in `sleep`: what was waited for comes first."""
        if self._rung and sys.platform == "linux":
            self._rung = False
            os.eventfd_read(self._fd)

    def sleep(self, seconds: float | None) -> bool:
        """See `Bell`."""
        milliseconds = None if seconds is None else math.ceil(min(seconds, LONGEST_WAIT) * 1000)
        self._rung = bool(self._poll.poll(milliseconds))
        return self._rung


class Bells:
    """The bells of one client. One that was given back is kept, to be used again.

    Attributes:
        generation: How many forks there were on the way to this process: a bell of before would wake threads there.
    """

    __slots__ = ("_spare", "_spares", "generation")

    def __init__(self) -> None:
        self._spare: list[Bell] = []
        self._spares = 1
        self.generation = 0

    def take(self) -> Bell:
        """A bell for one wait, or several in a row."""
        try:
            return self._spare.pop()
        except IndexError:
            pass
        if QUICK:
            try:
                return DescriptorBell()
            except OSError:
                pass  # no descriptor left: it takes a little longer
        return LockBell()

    def give_back(self, bell: Bell) -> None:
        """It is needed no longer; it may be rung once more."""
        if len(self._spare) < self._spares:
            self._spare.append(bell)

    def close(self) -> None:
        """Keep none from now on."""
        self._spares = 0
        self._spare.clear()

    def after_fork(self) -> None:
        """In the child: what is kept is the parent's, and so is what any copied call sleeps by."""
        self._spare.clear()
        self.generation += 1
