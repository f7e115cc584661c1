"""Waiting for sockets, and being woken from it by another thread."""

from __future__ import annotations

import math
import os
import select
import socket
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Waker", "wait_readable", "wait_ready"]

#: The longest wait in one go, in seconds: what ``poll`` takes is a C int of milliseconds. A wait may end early.
LONGEST_WAIT = 86_400.0


class Waker:
    """A descriptor that becomes readable when another thread says so.

    One thread polls ``fd`` beside its socket, calls ``clear()`` when that is readable, and only then looks at
    what there is to do: a ``wake()`` that comes later makes it readable again, so none is lost.

    Every method may be called from any thread, from a signal handler, and after ``close()``.

    Attributes:
        fd: The descriptor to poll, or -1 after ``close()``.
        is_set: Is it readable, and has the polling thread yet to clear it?
    """

    __slots__ = ("_lock", "_pair", "fd", "is_set")

    def __init__(self) -> None:
        # Reentrant: a signal handler may run while its own thread is in here.
        self._lock = threading.RLock()
        self.is_set = False
        self._pair: tuple[socket.socket, socket.socket] | None = None
        if sys.platform == "linux" and hasattr(os, "eventfd"):
            self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # one descriptor instead of two
        else:
            self._pair = socket.socketpair()
            for end in self._pair:
                end.setblocking(False)
            self.fd = self._pair[0].fileno()

    def wake(self) -> None:
        """Make the descriptor readable. Until it is cleared, further calls cost no system call."""
        with self._lock:
            if not self.is_set and self.fd >= 0:
                self.is_set = True
                self._write()

    def clear(self) -> None:
        """Make the descriptor unreadable again. For the polling thread alone."""
        if not self.is_set:
            return
        with self._lock:
            if self.is_set and self.fd >= 0:
                self._read()
                self.is_set = False

    def close(self) -> None:
        """Give the descriptor back. Not while another thread polls it."""
        with self._lock:
            self._release()

    def abandon(self) -> None:
        """As ``close()``, in a process forked off: without the lock, which a thread that is no more may have held."""
        self._lock = threading.RLock()
        self._release()

    def _release(self) -> None:
        fd, self.fd = self.fd, -1
        if self._pair:
            for end in self._pair:
                end.close()
        elif fd >= 0:
            os.close(fd)

    def _write(self) -> None:
        if self._pair:
            self._pair[1].send(b"\0")
        elif sys.platform == "linux":
            os.eventfd_write(self.fd, 1)

    def _read(self) -> None:
        if self._pair:
            self._pair[0].recv(16)
        elif sys.platform == "linux":
            os.eventfd_read(self.fd)


def wait_readable(fds: Iterable[int], timeout: float | None) -> list[int]:
    """Wait until one of the descriptors can be read.

    Args:
        fds: Descriptors. A negative or closed one counts as readable: there is something to find out about it.
        timeout: Seconds, ``None`` for ever; rounded up, so that a wait for a deadline never ends just before it.

    Returns:
        Those that can be read, or were closed by the peer, or are broken; empty when the time was up.
    """
    return wait_ready(tuple(fds), (), timeout)[0]


def wait_ready(readers: Sequence[int], writers: Sequence[int], timeout: float | None) -> tuple[list[int], list[int]]:
    """Wait until a descriptor can be read or written; as `wait_readable`, which see."""
    gone = [fd for fd in readers if fd < 0], [fd for fd in writers if fd < 0]
    if gone[0] or gone[1]:
        return gone
    if timeout is not None:
        timeout = min(max(timeout, 0.0), LONGEST_WAIT)
    # Looked up at each call, so that gevent's patch of the module counts whenever it came. A signal does not end the
    # wait: Python goes on with what is left of the time (PEP 475), unless the handler raises.
    if not hasattr(select, "poll"):
        readable, writable, broken = select.select(readers, writers, [*readers, *writers], timeout)
        return [fd for fd in readers if fd in readable or fd in broken], [fd for fd in writers if fd in writable]
    poll = select.poll()
    for fd in {*readers, *writers}:
        poll.register(fd, (select.POLLIN if fd in readers else 0) | (select.POLLOUT if fd in writers else 0))
    happened = dict(poll.poll(None if timeout is None else math.ceil(timeout * 1000)))
    # POLLHUP, POLLERR and POLLNVAL come unasked, and are for both sides to find out about.
    return (
        [fd for fd in readers if happened.get(fd, 0) & ~select.POLLOUT],
        [fd for fd in writers if happened.get(fd, 0) & ~select.POLLIN],
    )
