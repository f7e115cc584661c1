"""The hooks of one session: one at a time, in order, with no lock held while they run."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.engine import Engine

__all__ = ["HookQueue"]

T = TypeVar("T")


class HookQueue:
    """Jobs in the order in which they were put, run by whichever thread drains.

    A thread that finds another one draining leaves its jobs to it. So no thread waits for a hook that does not
    concern it, and a hook that puts a job does not run it inside itself.

    Args:
        engine: The session's, which is woken where a drain was interrupted with jobs left: somebody else has to go on.

    Attributes:
        jobs: Those that wait.
        drainer: The number of the thread that runs jobs at the moment.
    """

    __slots__ = ("_engine", "_mutex", "drainer", "jobs")

    def __init__(self, engine: Engine) -> None:
        self.jobs: list[Callable[[], Any]] = []  # an empty deque takes 0.7 KiB of each idle session (bench p05)
        self._mutex = threading.Lock()
        self.drainer: int | None = None
        self._engine = engine  # and no method of it: 64 bytes (bench p05)

    def put(self, job: Callable[[], Any]) -> None:
        """Add a job. Some thread has to `drain` afterwards."""
        self.jobs.append(job)

    def take_back(self, job: Callable[[], Any]) -> None:
        """Do not run it after all, unless that has begun."""
        with suppress(ValueError):
            self.jobs.remove(job)

    def drain(self) -> None:
        """Run what is there, unless somebody is at it. `KeyboardInterrupt` and `SystemExit` of a job pass through."""
        while self.jobs:
            mine = False
            try:  # from here on: an interrupt anywhere must not leave a drainer that does not drain
                with self._mutex:
                    if self.drainer is not None:
                        return
                    mine = True
                    self.drainer = threading.get_ident()
                while self.jobs:
                    self.jobs.pop(0)()
            finally:
                if mine:
                    self.drainer = None
                    if self.jobs:
                        self._engine.wake()

    def call(self, job: Callable[[], T]) -> T:
        """Run ``job`` in its turn and return what it returns."""
        call = _Call(job)
        self.put(call)
        self.drain()
        return call.result()


class _Call(Generic[T]):
    def __init__(self, job: Callable[[], T]) -> None:
        self._job = job
        self._done = threading.Event()
        self._value: T | None = None
        self._error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self._value = self._job()
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._done.set()

    def result(self) -> T:
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value] # done without an error means that there is a value
