"""Nothing stays behind: no thread, no descriptor, no object (pitfalls.md 24)."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from fault_kit import Bench, Caller, raised, short, within

from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync import Client, PolyAIError, Session

CYCLES = 100


def descriptors() -> int:
    """How many descriptors are open; the listing itself needs one more each time."""
    return len(os.listdir("/dev/fd"))


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


class Census:
    """What there is now, to be compared with what there is afterwards."""

    def __init__(self) -> None:
        gc.collect()
        self.threads = threads()
        self.descriptors = descriptors()

    def unchanged(self) -> bool:
        gc.collect()
        return threads() <= self.threads and descriptors() <= self.descriptors

    def check(self) -> None:
        with contextlib.suppress(AssertionError):
            wait_until(self.unchanged, timeout=5)
        assert threads() - self.threads == set()  # what was on its way out when it was counted may be gone
        assert descriptors() <= self.descriptors


def close(client: Client, bench: Bench) -> Session:
    session = client.start_session()
    session.close()
    return session


def end(client: Client, bench: Bench) -> Session:
    with client.start_session() as session:
        session.ask("hello")
        session.end()
    return session


def end_by_the_server(client: Client, bench: Bench) -> Session:
    session = client.start_session()
    bench.peer.end()
    session.wait_ended(timeout=2)
    return session  # nobody closes it


def drop_and_close(client: Client, bench: Bench) -> Session:
    session = client.start_session()
    bench.peer.drop()
    session.ask("hello")
    session.close()
    return session


def give_up(client: Client, bench: Bench) -> Session:
    session = client.start_session()
    session.next_message()
    bench.faults.add("http.bad_request", on="connect")
    bench.peer.drop()
    raised(session.next_message)
    return session  # nobody closes it


def leave_a_stream(client: Client, bench: Bench) -> Session:
    session = client.start_session()
    next(session.stream("one two three"))
    session.close()
    return session


def resume(client: Client, bench: Bench) -> Session:
    session = client.start_session()
    session.close()
    with client.resume_session(session.state) as again:
        again.ask("hello")
    return again


def close_while_others_wait(client: Client, bench: Bench) -> Session:
    session = client.start_session()
    bench.faults.add("agent.silent")
    waiting = [Caller(session.ask, "hello"), Caller(list, session.events())]
    session.close()
    for caller in waiting:
        caller.join(2)
    bench.faults.clear()
    return session


@pytest.mark.parametrize(
    "cycle",
    [close, end, end_by_the_server, drop_and_close, give_up, leave_a_stream, resume, close_while_others_wait],
    ids=lambda cycle: cycle.__name__,
)
def test_sessions_leave_nothing_behind(cycle: Callable[[Client, Bench], Session], bench: Bench) -> None:
    client = bench.client(plugins=[bench.backoff, bench.reconnect])
    cycle(client, bench)  # what is opened once and kept, such as the HTTP connection, is open now
    wait_until(lambda: bench.emulator.connections == 0)
    before = Census()
    left = [weakref.ref(cycle(client, bench)) for _ in range(CYCLES if cycle is close else 12)]
    before.check()
    wait_until(lambda: gc.collect() >= 0 and all(session() is None for session in left))
    assert client._engines == set()


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("access_token.unknown_connector", {}),
        ("session_create.malformed_body", {}),
        ("connect.session_not_found", {}),
        ("http.bad_request", {"on": "connect"}),
        ("http.no_answer", {"on": "connect"}),
        ("connect.answered_200", {}),
        ("start.no_join", {}),
        ("agent.start_failed", {}),
    ],
)
def test_starts_that_fail_leave_nothing_behind(fault: str, options: dict[str, Any], bench: Bench) -> None:
    client = bench.bare(plugins=[], timeouts=short(ready=0.1))
    client.start_session().close()
    bench.faults.add(fault, times=None, **options)

    def fail() -> PolyAIError:
        return raised(client.start_session)

    fail()
    wait_until(lambda: bench.emulator.connections == 0)
    before = Census()
    for _ in range(10):
        fail()
    before.check()


def test_reconnects_leave_nothing_behind(bench: Bench) -> None:
    with bench.client().start_session() as session:
        session.next_message()
        before = Census()
        for number in range(30):
            bench.peer.drop(None if number % 2 else 1011)
            session.ask("hello")
        before.check()


def test_clients_leave_nothing_behind(bench: Bench) -> None:
    bench.client().close()
    with bench.emulator.client() as client:
        client.start_session()
    wait_until(lambda: bench.emulator.connections == 0)
    before = Census()
    for _ in range(10):
        with bench.emulator.client() as client:
            for _ in range(3):
                client.start_session()
    before.check()


def test_closing_a_client_with_many_sessions_is_quick(bench: Bench) -> None:
    client = bench.client()
    for _ in range(30):
        client.start_session()
    with within(2):
        client.close()
    wait_until(lambda: bench.emulator.connections == 0)
    names = [thread.name for thread in threads()]
    assert not any(name.startswith("polyai-") and "emulator" not in name for name in names)
