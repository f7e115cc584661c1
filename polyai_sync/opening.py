"""The way to an open session: token, session, first socket, each with its retries (`protocol.md` §7.1)."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, TypeVar

from polyai_sync.errors import ConnectionFailedError, PolyAIError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.transport.deadline import Deadline
    from polyai_sync.transport.dial import Dialer, Dialled

__all__ = ["Predial", "new_correlation_id", "retrying"]

T = TypeVar("T")


def new_correlation_id() -> str:
    """One a logical call; its retries share it (`protocol.md` §2)."""
    return str(uuid.uuid4())


def retrying(
    call: Callable[[int], T],
    *,
    ask: Callable[[PolyAIError, int], float | None],
    pause: Callable[[float], None],
    deadline: Deadline,
    report: Callable[[PolyAIError], None],
) -> T:
    """Make ``call`` until it succeeds or the policy has had enough.

    Args:
        call: Takes the number of the try, from 1.
        ask: The policy: the error and the tries made so far; answers with seconds to wait, or ``None``.
        pause: Waits; raises where the wait is not wanted any longer.
        deadline: A wait that would pass it is not begun.
        report: Told of each error before it is raised or recovered.
    """
    attempt = 1
    while True:
        try:
            return call(attempt)
        except PolyAIError as error:
            report(error)
            delay = ask(error, attempt)
            remaining = deadline.remaining()
            if delay is None or (remaining is not None and delay >= remaining):
                raise
        pause(delay)
        attempt += 1


class Predial:
    """Dials the socket's connection while the REST calls are under way. Nothing secret is sent on it."""

    def __init__(self, dialer: Dialer, deadline: Deadline) -> None:
        self._dialer = dialer
        self._deadline = deadline
        self._lock = threading.Lock()
        self._dialled: Dialled | None = None
        self._error: PolyAIError | None = None
        self._unwanted = False
        self._thread = threading.Thread(target=self._run, name="polyai-dial", daemon=True)
        self._thread.start()

    def take(self, deadline: Deadline) -> Dialled | None:
        """The connection, or ``None`` where it has gone stale meanwhile.

        Raises:
            ConnectionFailedError: It could not be opened, or not in time.
        """
        self._thread.join(deadline.remaining())
        with self._lock:
            dialled, self._dialled = self._dialled, None
            error, self._error = self._error, None
        if error is not None:
            raise error
        if self._thread.is_alive():
            raise ConnectionFailedError("The connection could not be opened in time", surface="connect")
        if dialled is not None and not dialled.fresh():
            dialled.close()
            return None
        return dialled

    def cancel(self) -> None:
        """Nobody will take it."""
        with self._lock:
            self._unwanted = True
            dialled, self._dialled = self._dialled, None
        if dialled is not None:
            dialled.close()

    def _run(self) -> None:
        try:
            dialled = self._dialer.dial(self._deadline)
        except PolyAIError as error:
            with self._lock:
                self._error = error
            return
        with self._lock:
            if not self._unwanted:
                self._dialled = dialled
                return
        dialled.close()
