import os
import select
import signal
import socket
import threading
import time

import pytest

from polyai_sync.transport import waker as module
from polyai_sync.transport.waker import Waker, wait_readable, wait_ready


@pytest.fixture(params=["eventfd", "socketpair"])
def waker(request, monkeypatch):
    if request.param == "socketpair":
        monkeypatch.setattr(module.sys, "platform", "somewhere")
    made = Waker()
    monkeypatch.undo()
    assert (made._pair is None) == (request.param == "eventfd")
    yield made
    made.close()


@pytest.fixture(params=["poll", "select"])
def waiting(request, monkeypatch):
    if request.param == "select":
        monkeypatch.delattr(select, "poll")


def test_a_wake_is_seen_until_it_is_cleared(waker, waiting):
    assert wait_readable([waker.fd], 0) == []
    waker.wake()
    waker.wake()
    assert wait_readable([waker.fd], 5) == [waker.fd]
    assert wait_readable([waker.fd], 0) == [waker.fd]
    waker.clear()
    waker.clear()
    assert wait_readable([waker.fd], 0) == []
    waker.wake()
    assert wait_readable([waker.fd], 0) == [waker.fd]


def test_a_wake_ends_a_wait_in_another_thread(waker, waiting):
    found = []
    thread = threading.Thread(target=lambda: found.append(wait_readable([waker.fd], 20)))
    started = time.monotonic()
    thread.start()
    waker.wake()
    thread.join(10)
    assert found == [[waker.fd]]
    assert time.monotonic() - started < 5


def test_no_wake_is_lost_between_threads(waker):
    told, seen, done = 0, 0, threading.Event()

    def tell():
        nonlocal told
        for _ in range(5000):
            told += 1
            waker.wake()
        done.set()

    thread = threading.Thread(target=tell)
    thread.start()
    while seen < 5000:
        assert wait_readable([waker.fd], 5), "a wake was lost"
        waker.clear()
        seen = told
    thread.join()
    assert done.is_set()


def test_everything_is_safe_after_close(waker):
    waker.wake()
    waker.close()
    waker.close()
    waker.wake()
    waker.clear()
    assert waker.fd == -1


def test_abandon_needs_no_lock(waker):
    waker._lock.acquire()  # by a thread that the fork did not copy
    thread = threading.Thread(target=waker.abandon)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert waker.fd == -1


def test_one_descriptor_on_linux():
    before = len(os.listdir("/proc/self/fd"))
    waker = Waker()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    waker.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_wait_tells_readers_from_writers(waiting):
    a, b = socket.socketpair()
    with a, b:
        assert wait_ready([a.fileno()], [a.fileno()], 0) == ([], [a.fileno()])
        b.send(b"x")
        assert wait_ready([a.fileno()], [], 5) == ([a.fileno()], [])
        assert wait_ready([a.fileno()], [a.fileno()], 5) == ([a.fileno()], [a.fileno()])


def test_a_peer_that_has_gone_is_readable(waiting):
    a, b = socket.socketpair()
    with a:
        b.close()
        assert wait_readable([a.fileno()], 5) == [a.fileno()]


def test_a_closed_descriptor_does_not_hold_anybody():
    a, b = socket.socketpair()
    fd = a.fileno()
    a.close()
    b.close()
    assert wait_readable([fd], 20) == [fd]
    assert wait_readable([-1], 20) == [-1]
    assert wait_ready([], [-1], 20) == ([], [-1])


def test_time_outs_are_rounded_up(waiting):
    a, b = socket.socketpair()
    with a, b:
        for seconds in (0.0004, 0.0101):
            started = time.monotonic()
            assert wait_readable([a.fileno()], seconds) == []
            assert time.monotonic() - started >= seconds
        assert wait_readable([a.fileno()], -5) == []


def test_an_endless_time_out_is_no_overflow(waiting):
    a, b = socket.socketpair()
    with a, b:
        b.send(b"x")
        assert wait_readable([a.fileno()], 1e300) == [a.fileno()]


def test_a_signal_does_not_cut_a_wait_short(waiting):
    a, b = socket.socketpair()
    hits = []
    old = signal.signal(signal.SIGALRM, lambda *_: hits.append(time.monotonic()))
    with a, b:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
            started = time.monotonic()
            assert wait_readable([a.fileno()], 0.1) == []
            assert time.monotonic() - started >= 0.1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
    assert hits


def test_poll_is_looked_up_at_each_call(monkeypatch):
    used = []
    real = select.poll

    def patched():
        used.append(True)
        return real()

    monkeypatch.setattr(select, "poll", patched)  # as gevent does, after the import
    a, b = socket.socketpair()
    with a, b:
        wait_readable([a.fileno()], 0)
    assert used
