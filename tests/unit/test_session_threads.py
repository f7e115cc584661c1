"""Many sessions, many threads (api.md; architecture.md "Threads")."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

import pytest
from fault_kit import Bench, Caller, check_nothing_doubled, come_back, said, started, within

from polyai_sync import PolyAIError, SessionEndedError, SessionStatus, hookimpl
from polyai_sync.emulator import EchoAgent
from polyai_sync.messages import EndReason
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable


def test_two_sessions_in_parallel_do_not_mix(bench: Bench) -> None:
    client = bench.client()
    sessions = [client.start_session() for _ in range(2)]

    def talk(number: int) -> list[str]:
        return [sessions[number].ask(f"{number}: {turn}").text for turn in range(25)]

    callers = [Caller(talk, number) for number in range(2)]
    for number, caller in enumerate(callers):
        assert caller.result(20) == [f"You said: {number}: {turn}" for turn in range(25)]
    for session in sessions:
        assert said(session) == bench.emulator.sessions[session.session_id].transcript


def test_fifty_sessions_by_eight_threads(bench: Bench) -> None:
    client = bench.client(plugins=[])
    work: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(50):
        work.put(number)

    def serve() -> int:
        served = 0
        while True:
            try:
                number = work.get_nowait()
            except queue.Empty:
                return served
            with client.start_session() as session:
                assert session.next_message().text == "Hello!"
                assert session.ask(f"first {number}").text == f"You said: first {number}"
                assert "".join(session.stream(f"then {number}")) == f"You said: then {number}"
                assert said(session) == bench.emulator.sessions[session.session_id].transcript
                assert session.end() == EndReason.USER_END
            served += 1

    with within(30):
        assert sum(caller.result(30) for caller in [Caller(serve) for _ in range(8)]) == 50
    assert bench.emulator.sessions_created == bench.emulator.tokens_minted == 50
    wait_until(lambda: bench.emulator.connections == 0)
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("polyai-") and
                            "emulator" not in thread.name])  # fmt: skip


def test_sessions_open_at_once_stay_apart_through_drops(bench: Bench) -> None:
    client = bench.client(plugins=[bench.reconnect])
    sessions = [client.start_session() for _ in range(20)]
    for peer in bench.emulator.sessions.values():
        peer.drop()
    callers = [Caller(session.ask, f"I am {session.session_id}") for session in sessions]
    for session, caller in zip(sessions, callers, strict=True):
        assert caller.result(20).text == f"You said: I am {session.session_id}"
        assert said(session) == bench.emulator.sessions[session.session_id].transcript


def test_every_call_at_once_on_one_session(bench: Bench) -> None:
    session = started(bench)
    events = session.events(replay=True)
    reader = Caller(lambda: sum(1 for _ in events))
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            _ = (session.status, session.messages, session.state.to_json(), session.handoff, session.agent)

    def chat(name: str) -> None:
        for turn in range(10):
            assert session.ask(f"{name} {turn}").text == f"You said: {name} {turn}"
            session.typing()

    lookers = [Caller(look) for _ in range(2)]
    talkers = [Caller(chat, name) for name in ("ada", "bob", "cy", "di")]
    come_back(bench, session)
    for talker in talkers:
        talker.result(30)
    stop.set()
    for looker in lookers:
        looker.result()
    assert said(session) == bench.peer.transcript
    check_nothing_doubled(bench)
    session.end()
    assert reader.result() == len(bench.peer.journal)


def test_senders_and_an_asker_do_not_disturb_each_other(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(agent=EchoAgent(prefix=""))
    session = started(bench)
    callers = [Caller(lambda n=n: [session.send(f"{n}.{turn}").delivery for turn in range(10)]) for n in range(4)]
    for caller in callers:
        assert {delivery.value for delivery in caller.result(20)} == {"DELIVERED"}
    users = [text for role, text in bench.peer.transcript if role == "user"]
    for n in range(4):
        assert [text for text in users if text.startswith(f"{n}.")] == [f"{n}.{turn}" for turn in range(10)]
    wait_until(lambda: said(session) == bench.peer.transcript and len(session.messages) == 81)
    assert sorted(session.next_message().text for _ in range(40)) == sorted(users)


def test_starting_and_closing_at_once_leaves_nothing_open(bench: Bench) -> None:
    for _ in range(10):
        client = bench.client(plugins=[])
        starters = [Caller(client.start_session) for _ in range(4)]
        wait_until(lambda: client._engines != set())  # noqa: B023 - asked before the loop goes on
        client.close()
        for starter in starters:
            starter.join(5)
            assert not starter.is_alive()
            assert starter.error is None or starter.error.__class__.__name__ == "SessionClosedError"
            if starter.error is None:
                assert starter.value.status is SessionStatus.CLOSED
    wait_until(lambda: bench.emulator.connections == 0)


def test_a_thread_with_the_number_of_a_session_s_former_thread_is_any_thread(bench: Bench) -> None:
    session = bench.client().start_session()
    name = f"polyai-{session.session_id[:8]}"
    former = next(thread for thread in threading.enumerate() if thread.name == name)
    session.end()
    former.join(10)

    def call() -> tuple[int, type[Exception]]:
        with pytest.raises(PolyAIError) as caught:
            session.ask("Hi")
        return threading.get_ident(), caught.type

    for _ in range(100):
        number, error = Caller(call).result(10)
        assert error is SessionEndedError
        if number == former.ident:
            return
    pytest.skip("the system gives no number a second time")


def test_what_opened_a_session_has_ended_when_it_is_open(bench: Bench) -> None:
    client = bench.client()
    for _ in range(5):
        before = set(threading.enumerate())
        session = client.start_session()
        (thread,) = [one for one in set(threading.enumerate()) - before if one.name.startswith("polyai-")]
        assert thread.name == f"polyai-{session.session_id[:8]}"
        session.close()
        assert not thread.is_alive()


class Holding:
    """A plugin that keeps the first session from being opened, until it is told to let go."""

    def __init__(self) -> None:
        self.holds = threading.Event()
        self.let_go = threading.Event()

    @hookimpl
    def on_request(self, operation: str) -> None:
        if not self.holds.is_set():
            self.holds.set()
            assert self.let_go.wait(20)


def opening_threads() -> list[threading.Thread]:
    """Those that belong to no open session."""
    names = ("polyai-connecti", "polyai-dial", "polyai-opener")
    return [one for one in threading.enumerate() if one.name in names]


def test_threads_that_open_sessions_stay_until_the_last_is_open(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Holding()
    client = bench.client(plugins=[held])
    begun: list[str] = []
    begin = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        begun.append(thread.name)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    first = Caller(client.start_session)
    assert held.holds.wait(10)
    sessions = [client.start_session() for _ in range(5)]
    assert 3 <= len([name for name in begun if name in ("polyai-connecti", "polyai-dial")]) <= 4
    assert [begun.count(f"polyai-{session.session_id[:8]}") for session in sessions] == [1] * 5
    assert len(opening_threads()) == len([name for name in begun if name in ("polyai-connecti", "polyai-dial")])
    held.let_go.set()
    assert first.result(10).next_message().text == "Hello!"
    assert opening_threads() == []


def test_close_ends_what_a_thread_does_that_another_session_needs_next(bench: Bench) -> None:
    held = Holding()
    client = bench.client(plugins=[held])
    first = Caller(client.start_session)
    assert held.holds.wait(10)
    with within(5):
        for _ in range(5):
            client.start_session().close()
    assert len(opening_threads()) <= 4
    held.let_go.set()
    first.result(10).close()
    assert opening_threads() == []


def test_client_closed_while_many_open_keeps_no_thread(bench: Bench) -> None:
    client = bench.client(plugins=[])
    callers = [Caller(client.start_session) for _ in range(8)]
    wait_until(lambda: client._engines != set())
    client.close()
    for caller in callers:
        caller.join(10)
        assert not caller.is_alive()
    wait_until(lambda: opening_threads() == [])
