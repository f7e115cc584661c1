"""The threads behind the sessions: those that help to open one, and the one that goes on for years."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from polyai_sync.errors import ConnectionFailedError
from polyai_sync.sleepers import Sleeper, Sleepers
from polyai_sync.transport.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from polyai_sync.engine import Engine

__all__ = ["Openers", "SessionThread", "Task", "exhausted"]

PARKED: Final = "polyai-opener"
"""What a thread is called that waits for the next session to open."""


def exhausted(what: str, error: Exception) -> ConnectionFailedError:
    """The process has no more of what a session needs."""
    return ConnectionFailedError(
        f"This process is out of {what}, of which each open session takes one or two ({error})",
        code="client.connect_failed",
        surface="client",
        resolution="Close sessions, or allow the process more (ulimit -n, ulimit -u, the container's limits).",
    )


class Task:
    """Work that a thread of `Openers` does.

    Attributes:
        work: What there is to do; ``None`` once it was begun.
        name: What the thread is called meanwhile.
    """

    __slots__ = ("_ended", "_leaving", "_lock", "_sleepers", "name", "work")

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self.work: Callable[[], None] | None = work
        self.name = name
        self._lock = threading.Lock()
        self._sleepers = Sleepers()
        self._ended = False
        self._leaving: tuple[threading.Thread, ...] = ()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the work is done, and until the threads have ended that are not needed any longer for that reason.

        Returns:
            Is it done? Not in so many seconds, else.
        """
        deadline = Deadline.after(timeout)
        sleeper = Sleeper(self._sleepers, self._lock)
        try:
            while True:
                with self._lock:
                    if self._ended:
                        break
                    seconds = deadline.remaining()
                    if seconds == 0.0:
                        return False
                    bell = sleeper.listen()
                bell.sleep(seconds)
        finally:
            sleeper.leave()
        for thread in self._leaving:
            thread.join(deadline.remaining())
        return True

    def end(self, leaving: Iterable[threading.Thread]) -> None:
        """The work is done, and these threads end."""
        with self._lock:
            self._leaving = tuple(leaving)
            self._ended = True
            self._sleepers.wake()


class Openers:
    """The threads that help to open the sessions of a client: kept while any is being opened, and not any longer.

    The C library keeps the stacks of threads that ended, with all that was ever written to them, and gives them to
    those that begin next. Were each opener to end by itself, sessions that wait for years would get the stacks of
    openers of others: 2.2 KiB a session, with eight opened at a time (bench p05).

    Only the pool's own threads count what is under way: Ctrl-C may come in between any two steps of a caller.

    Attributes:
        generation: How many forks there were on the way to this process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parked: list[_Opener] = []
        self._under_way = 0
        self.generation = 0

    def submit(self, work: Callable[[], None], name: str) -> Task:
        """Have a thread do some work.

        Raises:
            ConnectionFailedError: There are no more threads.
        """
        task = Task(work, name)
        with self._lock:
            if self._parked:
                self._parked[-1].give(task)
                self._parked.pop()  # second: Ctrl-C may come in between, and `begin` sees to it as well
                return task
        try:
            _Opener(self, task).start()
        except RuntimeError as error:
            raise exhausted("threads", error) from error
        return task

    def let_go(self) -> None:
        """On a thread of the pool: what it does from here on opens no session, and may take for years."""
        opener = threading.current_thread()
        if isinstance(opener, _Opener):
            with self._lock:
                leaving = self._stop_counting(opener)
            for other in leaving:
                other.join()

    def after_fork(self) -> None:
        """In the child there are no such threads, and nobody lets go of a lock that was held."""
        self._lock = threading.Lock()
        self._parked = []
        self._under_way = 0
        self.generation += 1

    # --- for the threads ---

    def begin(self, opener: _Opener) -> None:
        """The thread has got something to do."""
        with self._lock:
            self._under_way += 1
            opener.counts = True
            if opener in self._parked:
                self._parked.remove(opener)

    def end(self, opener: _Opener, task: Task, *, failed: bool) -> None:
        """The thread has done it. It stays while others are at work, unless it ``failed`` or was let go."""
        stays = opener.counts and not failed
        if stays:
            opener.name = PARKED
        with self._lock:
            leaving = self._stop_counting(opener)
            if stays and self._under_way:
                self._parked.append(opener)
            else:
                opener.give(None)
                leaving.append(opener)
        task.end(leaving)

    def _stop_counting(self, opener: _Opener) -> list[_Opener]:
        """With the lock held: the thread opens nothing any more; returns those that end since nobody does."""
        self._under_way -= opener.counts
        opener.counts = False
        leaving: list[_Opener] = []
        if not self._under_way:
            leaving, self._parked = self._parked, []
        for other in leaving:
            other.give(None)
        return leaving


class _Opener(threading.Thread):
    """One of them.

    Attributes:
        counts: It does something at the moment, which opens a session.
    """

    def __init__(self, openers: Openers, task: Task) -> None:
        super().__init__(name=task.name, daemon=True)
        self.counts = False
        self._openers = openers
        self._generation = openers.generation
        self._inbox: list[Task | None] = [task]
        self._bell = threading.Lock()
        self._bell.acquire()

    def give(self, task: Task | None) -> None:
        """With the pool's lock held: have it do this next; ``None`` = end."""
        self._inbox.append(task)
        if self._bell.locked():
            self._bell.release()

    def run(self) -> None:
        """See `threading.Thread`."""
        while self._take_a_turn():
            pass

    def _take_a_turn(self) -> bool:
        while not self._inbox:
            self._bell.acquire()
        task = self._inbox.pop(0)
        if task is None:
            return False
        self.name = task.name
        self._openers.begin(self)
        failed = True
        try:
            work, task.work = task.work, None  # whoever joins it keeps no session
            if work is not None:
                work()
            failed = False
        finally:
            if self._generation != self._openers.generation:  # gevent's greenlets are copied by a fork
                threading.Event().wait()
            self._openers.end(self, task, failed=failed)
        return True


class SessionThread(threading.Thread):
    """A thread of a session. What it needs of the C stack to begin, it keeps: with a target it would be 0.5 KiB more.

    Args:
        engine: The session's.
        work: What it does.
        former: What starts it, on another thread; that is done first, so that two are never at work.
    """

    def __init__(self, engine: Engine, work: Callable[[], None], former: Task | SessionThread | None) -> None:
        super().__init__(name=engine.thread_name, daemon=True)
        self._job: tuple[Engine, Callable[[], None], Task | SessionThread | None] | None = (engine, work, former)

    def run(self) -> None:
        """See `threading.Thread`."""
        if self._job is not None:
            engine, work, former = self._job
            self._job = None
            if former is not None:
                former.join()
                former = None  # an idle session shall not keep it
            engine.run(work)
