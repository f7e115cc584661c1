"""Cutting short, from another thread, what a thread waits for on the network."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["Leash", "holding"]


#: The leash of each thread that is on one. A `threading.local` takes 500 bytes of each thread (bench p05).
_leashes: Final[dict[int, Leash]] = {}


class Leash:
    """What threads are on whose connecting and requests another thread may have to end.

    It has descriptors of its own for their sockets: a number must not be somebody else's by the time it is used.
    """

    __slots__ = ("_held", "_lock", "_pulled")

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may pull while its own thread does
        self._held: list[socket.socket] = []
        self._pulled = False

    def on_this_thread(self) -> Leash:
        """In a ``with``: let `pull` end whatever this thread waits for meanwhile."""
        return self

    def __enter__(self) -> None:
        _leashes[threading.get_ident()] = self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _leashes.pop(threading.get_ident(), None)

    def pull(self) -> None:
        """End every connection that is held, and let no other begin. Any thread, as often as you like."""
        with self._lock:
            self._pulled = True
            for sock in self._held:
                _end(sock)

    def abandon(self) -> None:
        """In a process forked off: give the descriptors back, without the lock, which nobody may be left to release."""
        self._lock = threading.RLock()
        held, self._held = self._held, []
        for sock in held:
            sock.close()

    def _hold(self, sock: Any) -> socket.socket:
        held = socket.socket(fileno=socket.dup(sock.fileno()))
        with self._lock:
            pulled = self._pulled
            if not pulled:
                self._held.append(held)
        if pulled:
            held.close()
            raise ConnectionAbortedError("cut short on this side")
        return held

    def _release(self, sock: socket.socket) -> None:
        with self._lock:
            if sock in self._held:
                self._held.remove(sock)
        sock.close()


@contextmanager
def holding(sock: Any) -> Iterator[None]:
    """Keep a socket on this thread's leash, if it is on one.

    Raises:
        ConnectionAbortedError: The leash has been pulled.
    """
    leash = _leashes.get(threading.get_ident())
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


def _forget_other_threads() -> None:
    """In the child of a fork there is no other thread, and a new one may get the number of one that was."""
    mine = threading.get_ident()
    for thread in [thread for thread in _leashes if thread != mine]:
        del _leashes[thread]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)
