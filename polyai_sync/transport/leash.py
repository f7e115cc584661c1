"""Cutting short, from another thread, what a thread waits for on the network."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Leash", "holding"]


class _OnThisThread(threading.local):
    leash: Leash | None = None


_on_this_thread = _OnThisThread()


class Leash:
    """What threads are on whose connecting and requests another thread may have to end.

    It has descriptors of its own for their sockets: a number must not be somebody else's by the time it is used.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may pull while its own thread does
        self._held: set[socket.socket] = set()
        self._pulled = False

    @contextmanager
    def on_this_thread(self) -> Iterator[None]:
        """Let `pull` end whatever this thread waits for meanwhile."""
        _on_this_thread.leash = self
        try:
            yield
        finally:
            _on_this_thread.leash = None

    def pull(self) -> None:
        """End every connection that is held, and let no other begin. Any thread, as often as you like."""
        with self._lock:
            self._pulled = True
            for sock in self._held:
                _end(sock)

    def abandon(self) -> None:
        """In a process forked off: give the descriptors back, without the lock, which nobody may be left to release."""
        self._lock = threading.RLock()
        held, self._held = self._held, set()
        for sock in held:
            sock.close()

    def _hold(self, sock: Any) -> socket.socket:
        held = socket.socket(fileno=socket.dup(sock.fileno()))
        with self._lock:
            pulled = self._pulled
            if not pulled:
                self._held.add(held)
        if pulled:
            held.close()
            raise ConnectionAbortedError("cut short on this side")
        return held

    def _release(self, sock: socket.socket) -> None:
        with self._lock:
            self._held.discard(sock)
        sock.close()


@contextmanager
def holding(sock: Any) -> Iterator[None]:
    """Keep a socket on this thread's leash, if it is on one.

    Raises:
        ConnectionAbortedError: The leash has been pulled.
    """
    leash = _on_this_thread.leash
    if leash is None:
        yield
        return
    held = leash._hold(sock)
    try:
        yield
    finally:
        leash._release(held)


def _end(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is not connected any more
