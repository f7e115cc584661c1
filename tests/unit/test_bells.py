"""What a thread sleeps by until another one rings (`polyai_sync.bells`), and whoever waits for a change."""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
from fault_kit import Bench, Caller, started

from polyai_sync import bells as module
from polyai_sync.bells import Bell, Bells, DescriptorBell, LockBell
from polyai_sync.sleepers import Sleeper, Sleepers, ring
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = [LockBell, pytest.param(DescriptorBell, marks=pytest.mark.skipif(not module.QUICK, reason="no eventfd here"))]


def descriptors() -> set[str]:
    return set(os.listdir("/dev/fd"))


@pytest.fixture(params=KINDS)
def bell(request: pytest.FixtureRequest) -> Bell:
    made: Bell = request.param()
    return made


class TestBell:
    def test_a_ring_ends_the_sleep_of_another_thread(self, bell: Bell) -> None:
        caller = Caller(bell.sleep, None)
        assert caller.is_alive()
        bell.ring()
        assert caller.result(5) is True

    def test_a_ring_before_the_sleep_ends_it_at_once(self, bell: Bell) -> None:
        bell.ring()
        assert bell.sleep(5) is True

    def test_without_a_ring_it_ends_in_time(self, bell: Bell) -> None:
        began = time.monotonic()
        assert bell.sleep(0.02) is False
        assert time.monotonic() - began >= 0.02

    def test_many_rings_are_one(self, bell: Bell) -> None:
        for _ in range(3):
            bell.ring()
        assert bell.sleep(5) is True
        bell.hush()
        assert bell.sleep(0) is False

    def test_a_ring_that_came_too_late_ends_one_later_sleep(self, bell: Bell) -> None:
        assert bell.sleep(0) is False
        bell.ring()
        bell.hush()  # it knows of none: nobody has slept since
        assert bell.sleep(5) is True
        bell.hush()
        assert bell.sleep(0) is False

    def test_it_sleeps_for_longer_than_a_system_call_can(self, bell: Bell) -> None:
        caller = Caller(bell.sleep, 1e300)
        bell.ring()
        assert caller.result(5) is True


@pytest.mark.skipif(not module.QUICK, reason="no eventfd here")
class TestDescriptors:
    def test_one_is_given_back_with_the_last_who_could_ring(self) -> None:
        before = descriptors()
        bell = DescriptorBell()
        assert len(descriptors()) == len(before) + 1
        holders = [bell]
        del bell
        assert len(descriptors()) == len(before) + 1
        ring(holders)
        assert len(descriptors()) == len(before)

    def test_one_that_was_given_back_is_used_again(self) -> None:
        bells = Bells()
        first, second = bells.take(), bells.take()
        assert first is not second
        bells.give_back(first)
        bells.give_back(second)
        assert bells.take() is first
        assert bells.take() not in {first, second}

    def test_a_closed_client_keeps_none(self) -> None:
        before = descriptors()
        bells = Bells()
        late = bells.take()
        bells.give_back(bells.take())
        bells.close()
        assert len(descriptors()) == len(before) + 1
        bells.give_back(late)
        del late
        assert len(descriptors()) == len(before)

    def test_a_forked_process_uses_none_of_its_parents(self) -> None:
        bells, sleepers, lock = Bells(), Sleepers(), threading.Lock()
        parents = bells.take()
        bells.give_back(parents)
        copied, waiting = Sleeper(sleepers, lock, bells), Sleeper(sleepers, lock, bells)
        with lock:
            used = [copied.listen(), waiting.listen()]
        bells.after_fork()
        assert bells.take() is not parents
        with lock:
            assert waiting.listen() not in used
        copied.leave()
        assert bells.take() not in used

    def test_without_one_it_is_a_lock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def none_left(*_: int) -> int:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(os, "eventfd", none_left)
        assert type(Bells().take()) is LockBell

    def test_a_client_that_is_closed_gives_back_what_its_calls_slept_by(self, bench: Bench) -> None:
        with bench.emulator.client() as client:
            client.start_session().ask("hello")
        wait_until(lambda: bench.emulator.connections == 0)
        gc.collect()
        before = descriptors()
        with bench.emulator.client() as client, client.start_session() as session:
            session.ask("hello")
        wait_until(lambda: len(descriptors()) <= len(before))


def test_a_conversation_where_there_are_only_locks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUICK", False)
    session = started(bench)
    assert [session.ask(str(number)).text for number in range(5)] == [f"You said: {number}" for number in range(5)]
    assert "".join(session.stream("hello")) == "You said: hello"


class TestSleepers:
    @pytest.fixture
    def lock(self) -> threading.Lock:
        return threading.Lock()

    @staticmethod
    def waiting(sleepers: Sleepers, lock: threading.Lock, bells: Bells | None) -> Callable[[], bool]:
        def wait() -> bool:
            sleeper = Sleeper(sleepers, lock, bells)
            try:
                with lock:
                    bell = sleeper.listen()
                return bell.sleep(10)
            finally:
                sleeper.leave()

        return wait

    @pytest.mark.parametrize("bells", [None, Bells()], ids=["plain", "quick"])
    @pytest.mark.parametrize("held", [True, False])
    def test_all_are_woken(self, held: bool, bells: Bells | None, lock: threading.Lock) -> None:
        sleepers = Sleepers()
        callers = [Caller(self.waiting(sleepers, lock, bells)) for _ in range(5)]
        wait_until(lambda: len(sleepers.bells) == 5)
        with lock:
            if held:
                sleepers.wake()
            woken = sleepers.take()
        ring(woken)
        assert [caller.result(5) for caller in callers] == [True] * 5
        assert sleepers.bells == []

    @pytest.mark.parametrize("wake", [Sleepers.wake, Sleepers.wake_early])
    def test_an_interrupt_loses_nobody(self, wake: Callable[[Sleepers], None], lock: threading.Lock) -> None:
        class Interrupted(LockBell):
            def ring(self) -> None:
                raise KeyboardInterrupt

        sleepers = Sleepers()
        sleepers.bells = [LockBell(), Interrupted(), LockBell()]
        with pytest.raises(KeyboardInterrupt):
            wake(sleepers)
        assert len(sleepers.bells) == 2

    def test_who_leaves_is_woken_no_more(self, lock: threading.Lock) -> None:
        sleepers = Sleepers()
        sleeper = Sleeper(sleepers, lock)
        with lock:
            bell = sleeper.listen()
            assert sleeper.listen() is bell  # and is there once
        assert sleepers.bells == [bell]
        sleeper.leave()
        sleeper.leave()
        assert sleepers.bells == []

    def test_a_bell_is_used_again_only_once_it_is_left(self, lock: threading.Lock) -> None:
        sleepers, bells = Sleepers(), Bells()
        first, second = Sleeper(sleepers, lock, bells), Sleeper(sleepers, lock, bells)
        with lock:
            assert first.listen() is not second.listen()
        left = list(sleepers.bells)
        first.leave()
        with lock:
            assert Sleeper(sleepers, lock, bells).listen() is left[0]
