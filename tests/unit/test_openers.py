"""The threads that help to open sessions: kept while any is being opened, and not any longer."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import weakref
from typing import TYPE_CHECKING

import pytest
from fault_kit import Caller

from polyai_sync import ConnectionFailedError, session_threads
from polyai_sync.session_threads import Openers, Task
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class Work:
    """Something to do that takes until it is told to end."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self._may_end = threading.Event()

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        assert self._may_end.wait(10)

    def begun(self) -> threading.Thread:
        wait_until(lambda: self.thread is not None)
        assert self.thread is not None
        return self.thread

    def end(self) -> None:
        self._may_end.set()


class Pool:
    """Openers, and what was given to them."""

    def __init__(self) -> None:
        self.openers = Openers()
        self._works: list[Work] = []

    def begin(self, name: str = "opens") -> tuple[Work, Task]:
        work = Work()
        self._works.append(work)
        task = self.openers.submit(work, name)
        work.begun()
        return work, task

    def close(self) -> None:
        for work in self._works:
            work.end()


@pytest.fixture
def pool() -> Iterator[Pool]:
    before = set(threading.enumerate())
    one = Pool()
    yield one
    one.close()
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_single_thread_has_ended_when_its_work_was_joined(pool: Pool) -> None:
    work, task = pool.begin()
    assert not task.join(0)
    work.end()
    assert task.join(10)
    assert not work.begun().is_alive()
    assert task.join(0)


def test_thread_is_used_again_while_another_is_at_work(pool: Pool) -> None:
    first, first_task = pool.begin("first")
    second, second_task = pool.begin("second")
    assert (first.begun().name, second.begun().name) == ("first", "second")
    second.end()
    assert second_task.join(10)
    assert second.begun().is_alive()
    assert second.begun().name == "polyai-opener"
    third, third_task = pool.begin("third")
    assert third.begun() is second.begun()
    assert third.begun().name == "third"
    first.end()
    assert first_task.join(10)
    assert first.begun().is_alive()
    third.end()
    assert third_task.join(10)
    assert not first.begun().is_alive()
    assert not third.begun().is_alive()


def test_parked_threads_keep_nothing_of_what_they_did(pool: Pool) -> None:
    pool.begin()
    work, task = pool.begin()
    work.end()
    task.join(10)
    gone = weakref.ref(work)
    pool._works.remove(work)
    del work, task
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("error", [ValueError, SystemExit])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_work_that_raises_ends_its_thread_and_no_other(error: type[BaseException], pool: Pool) -> None:
    other, other_task = pool.begin()
    threads: list[threading.Thread] = []

    def fail() -> None:
        threads.append(threading.current_thread())
        raise error

    assert pool.openers.submit(fail, "fails").join(10)
    assert not threads[0].is_alive()
    assert other.begun().is_alive()
    other.end()
    other_task.join(10)
    assert not other.begun().is_alive()
    assert pool.openers.submit(fail, "fails").join(10)
    assert not threads[1].is_alive()


def test_threads_that_ran_out_are_told_of_and_those_there_are_used(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = pool.begin()
    second, second_task = pool.begin()
    second.end()
    second_task.join(10)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    third, third_task = pool.begin()
    assert third.begun() is second.begun()
    with pytest.raises(ConnectionFailedError, match="out of threads"):
        pool.openers.submit(lambda: None, "none")
    third.end()
    third_task.join(10)
    first.end()
    wait_until(lambda: not first.begun().is_alive() and not second.begun().is_alive())


def test_thread_that_was_let_go_keeps_no_other(pool: Pool) -> None:
    done = threading.Event()
    may_end = threading.Event()
    threads: list[threading.Thread] = []

    def stay() -> None:
        threads.append(threading.current_thread())
        helper, task = pool.begin()
        helper.end()
        task.join(10)
        threads.append(helper.begun())
        assert helper.begun().is_alive()
        pool.openers.let_go()
        assert not helper.begun().is_alive()
        done.set()
        may_end.wait(10)

    task = pool.openers.submit(stay, "stays")
    assert done.wait(10)
    other, other_task = pool.begin()
    other.end()
    other_task.join(10)
    assert not other.begun().is_alive()
    assert not task.join(0)
    may_end.set()
    assert task.join(10)
    assert not threads[0].is_alive()


def test_any_other_thread_may_let_go(pool: Pool) -> None:
    work, task = pool.begin()
    pool.openers.let_go()
    assert not task.join(0)
    work.end()
    assert task.join(10)


def test_interrupted_hand_over_loses_no_thread(pool: Pool) -> None:
    """As if Ctrl-C had come in the middle of `submit`: a thread has its task, and is still among those without."""
    first, first_task = pool.begin()
    second, second_task = pool.begin()
    second.end()
    second_task.join(10)
    work, task = Work(), None
    pool._works.append(work)
    task = Task(work, "third")
    with pool.openers._lock:
        (parked,) = pool.openers._parked
        parked.give(task)
    assert work.begun() is second.begun()
    assert pool.openers._parked == []
    fourth, fourth_task = pool.begin()
    assert fourth.begun() not in (first.begun(), second.begun())
    for one in (first, work, fourth):
        one.end()
    for each in (first_task, task, fourth_task):
        assert each.join(10)
    wait_until(lambda: not any(one.begun().is_alive() for one in (first, second, fourth)))


def test_storm_leaves_nothing(pool: Pool) -> None:
    """Each opens one after the other, with a helper each, as sessions do."""
    before = set(threading.enumerate())
    used: set[int] = set()

    def open_one() -> None:
        used.add(threading.get_ident())
        helper = pool.openers.submit(lambda: used.add(threading.get_ident()), "dials")
        assert helper.join(10)

    def open_many() -> None:
        for _ in range(100):
            assert pool.openers.submit(open_one, "opens").join(10)

    for caller in [Caller(open_many) for _ in range(4)]:
        caller.result(30)
    assert {one for one in threading.enumerate() if one not in before and one.name.startswith("polyai-")} == set()


class Interrupted(BaseException):
    """What Ctrl-C raises, by another name."""


@pytest.mark.parametrize("parked", [False, True])
def test_submit_interrupted_at_any_step_loses_no_thread(parked: bool, pool: Pool) -> None:
    step, through = 0, False
    while not through:
        step += 1
        first, first_task = pool.begin()
        if parked:
            helper, helper_task = pool.begin()
            helper.end()
            assert helper_task.join(10)
        left = step

        def interrupt(frame: FrameType, event: str, _: object) -> None:
            nonlocal left
            if event in ("call", "return", "c_return") and frame.f_code.co_filename == session_threads.__file__:
                left -= 1
                if not left:
                    sys.setprofile(None)
                    raise Interrupted

        sys.setprofile(interrupt)
        try:
            pool.openers.submit(lambda: None, "interrupted")
            through = True
        except Interrupted:
            pass
        finally:
            sys.setprofile(None)
        # On another thread, so that a lock which is held for ever is a failure and not a hang.
        next_task = Caller(pool.openers.submit, lambda: None, "next").result(10)
        assert next_task.join(10), step
        first.end()
        assert first_task.join(10), step
        wait_until(lambda: not any(isinstance(one, session_threads._Opener) for one in threading.enumerate()))
    assert step > 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_child_of_a_fork_has_threads_of_its_own(pool: Pool) -> None:
    first, first_task = pool.begin()
    second, second_task = pool.begin()
    second.end()
    second_task.join(10)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(20)
            pool.openers.after_fork()
            opened = pool.openers.submit(lambda: None, "child").join(10)
            status = 0 if opened and threading.active_count() == 1 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    first.end()
    assert first_task.join(10)
    assert not second.begun().is_alive()
