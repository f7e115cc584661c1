"""What hooks may do, and when they run, with a real session behind them (hooks.md; pitfalls.md 22, 23 and 40)."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from fault_kit import Bench, Caller, come_back, raised, said, short, started, within

from polyai_sync import (
    ConnectionDroppedError,
    ConnectionLostError,
    DeliveryError,
    PolyAIError,
    ReentrantCallError,
    Session,
    SessionClosedError,
    SessionStatus,
    engine,
    hookimpl,
)
from polyai_sync.hook_queue import HookQueue
from polyai_sync.hooks import OBSERVERS, POLICIES, ClientEvent, only_if
from polyai_sync.messages import Delivery, EndReason
from polyai_sync.testing import wait_until
from polyai_sync.transport.websocket import WebSocketConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.events import Event
    from polyai_sync.messages import Message
    from polyai_sync.transport.deadline import Deadline


def plugin(name: str, **hooks: Callable[..., Any]) -> object:
    """A plugin of these functions, each of which takes the hook's arguments by name."""
    holder = SimplePlugin(name)
    for hook, function in hooks.items():
        setattr(holder, hook, hookimpl(lambda _function=function, **arguments: _function(**arguments)))
    return holder


class SimplePlugin:
    def __init__(self, name: str) -> None:
        self.name = name


BLOCKING: dict[str, Callable[[Session], object]] = {
    "send": lambda session: session.send("hello"),
    "ask": lambda session: session.ask("hello"),
    "stream": lambda session: session.stream("hello"),
    "join": lambda session: session.join(),
    "end": lambda session: session.end(),
    "next_message": lambda session: session.next_message(),
    "events": lambda session: next(session.events()),
    "wait_ended": lambda session: session.wait_ended(),
}


class TestReentrantCalls:
    @pytest.mark.parametrize("name", BLOCKING)
    def test_call_that_waits_is_refused_in_a_hook(self, name: str, bench: Bench) -> None:
        caught: list[PolyAIError] = []

        def on_message(session: Session, message: Message, **_: Any) -> None:
            if message.role == "user":
                caught.append(raised(BLOCKING[name], session))

        session = started(bench, plugins=[plugin("asks", on_message=on_message), bench.recorder])
        with within(2):
            assert session.ask("hello").text == "You said: hello"
        (error,) = caught
        assert isinstance(error, ReentrantCallError)
        assert isinstance(error, RuntimeError)
        assert name in error.message
        assert session.ask("and again").text == "You said: and again"

    def test_it_is_refused_in_every_hook(self, bench: Bench) -> None:
        caught: defaultdict[str, int] = defaultdict(int)

        def asking(hook: str) -> Callable[..., None]:
            def ask(session: Session | None, **_: Any) -> None:
                if session is not None and session.status is not SessionStatus.ENDED:
                    assert isinstance(raised(session.wait_ended), ReentrantCallError)
                    caught[hook] += 1

            return ask

        hooks = {hook: asking(hook) for hook in (*OBSERVERS, *POLICIES) if hook != "on_error"}
        session = started(bench, plugins=[plugin("asks", **hooks), bench.recorder, bench.backoff, bench.reconnect])
        bench.faults.add("message.dropped_then_drop")
        bench.faults.add("agent.overloaded")
        with within(3):
            assert session.ask("hello").text == "You said: hello"
        assert set(hooks) - set(caught) <= {
            "on_request", "on_response", "on_rate_limit", "on_session_end", "on_handoff", "on_session_start"
        }  # fmt: skip

    def test_other_sessions_may_be_waited_for(self, bench: Bench) -> None:
        answers: list[str] = []
        other = bench.client(plugins=[]).start_session()

        def on_message(message: Message, **_: Any) -> None:
            if message.role == "user":
                answers.append(other.ask(f"they said: {message.text}").text)

        session = started(bench, plugins=[plugin("asks another", on_message=on_message)])
        with within(2):
            session.ask("hello")
        assert answers == ["You said: they said: hello"]

    def test_other_threads_may_wait_meanwhile(self, bench: Bench) -> None:
        entered, go_on = threading.Event(), threading.Event()

        def on_message(message: Message, **_: Any) -> None:
            if message.text == "stop here":
                entered.set()
                assert go_on.wait(5)

        session = started(bench, plugins=[plugin("slow", on_message=on_message)])
        first = Caller(session.ask, "stop here")
        assert entered.wait(2)
        second = Caller(session.ask, "me too")
        wait_until(lambda: len(session._engine.conversation.lines.all_turns()) >= 1)
        go_on.set()
        assert first.result().text == "You said: stop here"
        assert second.result().text == "You said: me too"


class TestAllowedCalls:
    def test_what_does_not_wait_may_be_called(self, bench: Bench) -> None:
        seen: list[object] = []

        def on_message(session: Session, message: Message, **_: Any) -> None:
            if message.role != "user" or message.text == "from the hook":
                return
            session.typing()
            sent = session.send("from the hook", wait=False)
            seen.append(sent.delivery)
            names = ("session_id", "status", "capabilities", "agent", "live_agent", "language", "handoff",
                     "end_reason", "error", "messages", "state")  # fmt: skip
            seen.extend(getattr(session, name) for name in names)

        session = started(bench, plugins=[plugin("talks", on_message=on_message), bench.recorder])
        assert session.ask("hello").text == "You said: hello"
        assert seen[0] is Delivery.PENDING
        assert len(seen) == 12
        assert session.next_message().text == "You said: from the hook"
        wait_until(lambda: said(session) == bench.peer.transcript)

    @pytest.mark.parametrize("hook", ["on_message", "on_event", "on_delivery", "on_send", "on_connect"])
    def test_closing_in_a_hook_does_not_hang(self, hook: str, bench: Bench) -> None:
        closed: list[Session] = []

        def close(session: Session, **_: Any) -> None:
            if bench.emulator.sessions and armed.is_set():
                session.close()
                closed.append(session)

        armed = threading.Event()
        session = started(bench, plugins=[plugin("closes", **{hook: close}), bench.recorder, bench.reconnect])
        armed.set()
        with within(2):
            if hook == "on_connect":
                bench.peer.drop()
                wait_until(lambda: closed != [])
            else:
                bench.faults.add("agent.silent")  # a whole reply in hand would be returned
                assert isinstance(raised(session.ask, "hello"), SessionClosedError)
        assert session.status is SessionStatus.CLOSED
        name = f"polyai-{session.session_id[:8]}"
        wait_until(lambda: not any(thread.name == name for thread in threading.enumerate()))
        assert bench.ends == []

    def test_ending_in_a_hook_is_sent(self, bench: Bench) -> None:
        def on_message(session: Session, message: Message, **_: Any) -> None:
            if message.text == "goodbye":
                assert session.end(wait=False) is None

        session = started(bench, plugins=[plugin("ends", on_message=on_message), bench.recorder])
        session.send("goodbye", wait=False)
        assert session.wait_ended(timeout=2) == EndReason.USER_END

    def test_client_may_be_closed_in_a_hook(self, bench: Bench) -> None:
        def on_message(message: Message, **_: Any) -> None:
            if message.role == "user":
                client.close()

        client = bench.client(plugins=[plugin("closes all", on_message=on_message)])
        session, other = client.start_session(), client.start_session()
        bench.faults.add("agent.silent")  # a whole reply in hand would be returned
        with within(3):
            assert isinstance(raised(session.ask, "hello"), SessionClosedError)
        assert session.status is other.status is SessionStatus.CLOSED


class TestOrder:
    def test_hooks_have_run_when_the_call_returns(self, bench: Bench) -> None:
        told: list[str] = []

        def note(kind: str) -> Callable[..., None]:
            def noting(message: Message, **_: Any) -> None:
                threading.Event().wait(0.02)  # slow enough to be overtaken by a call that did not wait for it
                told.append(f"{kind} {message.text}")

            return noting

        def on_session_end(reason: str, **_: Any) -> None:
            threading.Event().wait(0.02)
            told.append(f"end {reason}")

        notes = plugin("notes", on_message=note("message"), on_delivery=note("delivery"), on_session_end=on_session_end)
        session = bench.client(plugins=[notes]).start_session()
        assert told == ["message Hello!"]
        session.send("first")
        assert told[1:2] == ["delivery first"]
        session.next_message()
        session.next_message()
        assert told[2:] == ["message first", "message You said: first"]
        session.ask("second")
        assert told[4:] == ["delivery second", "message second", "message You said: second"]
        reason = session.end()
        assert told[-1] == f"end {reason}"

    def test_errors_are_told_before_they_are_raised(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.no_response")
        error = raised(session.ask, "hello")
        assert [call["error"].code for call in bench.recorder.calls("on_error")] == [error.code]

    def test_what_is_sent_is_told_before_what_answers_it(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where the thread that wrote it comes to itself only after the answer was read."""
        write = WebSocketConnection.write

        def write_and_dream(connection: WebSocketConnection, text: str, deadline: Deadline) -> None:
            write(connection, text, deadline)
            wait_until(lambda: "on_event" in bench.recorder.names)

        session = started(bench)
        bench.recorder.clear()
        monkeypatch.setattr(WebSocketConnection, "write", write_and_dream)
        assert session.ask("hello").text == "You said: hello"
        assert bench.recorder.names[:2] == ["on_send", "on_event"]

    def test_a_call_waits_for_its_own_though_another_thread_is_at_the_hooks(self, bench: Bench) -> None:
        told: list[str] = []
        inside, go_on = threading.Event(), threading.Event()

        def on_send(event: ClientEvent, **_: Any) -> None:
            told.append(event.type.removeprefix("EVENT_TYPE_"))

        def slow() -> bool:
            inside.set()
            return go_on.wait(10)

        # It hears of the message alone, and of nothing that the reply would have to wait for.
        session = bench.client(plugins=[plugin("sends", on_send=on_send)], streaming=False).start_session()
        session.next_message()
        other = Caller(session._engine.hooks.call, slow)
        assert inside.wait(5)
        try:
            asking = Caller(session.ask, "hello")
            wait_until(lambda: session.messages[-1].text == "You said: hello")
            asking.join(0.1)
            assert asking.is_alive()
            assert "USER_MESSAGE" not in told
        finally:
            go_on.set()
        assert asking.result(5).text == "You said: hello"
        assert told[-1] == "USER_MESSAGE"
        assert other.result(5)

    def test_what_is_ready_is_written_before_hooks_are_told(self, bench: Bench) -> None:
        asked: list[bool] = []

        def joined() -> bool:
            return any("REQUEST_POLY_AGENT_JOIN" in event["type"] for event in bench.peer.received)

        def on_session_start(**_: Any) -> None:
            with contextlib.suppress(AssertionError):
                wait_until(joined, timeout=2)
            asked.append(joined())

        bench.client(plugins=[plugin("slow", on_session_start=on_session_start)]).start_session()
        assert asked == [True]

    def test_what_could_not_be_written_is_not_told(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        write = WebSocketConnection.write
        failed: list[str] = []

        def break_once(connection: WebSocketConnection, text: str, deadline: Deadline) -> None:
            if "USER_MESSAGE" in text and not failed:
                failed.append(text)
                raise ConnectionDroppedError("The connection broke while writing", surface="websocket")
            write(connection, text, deadline)

        session = started(bench)
        wait_until(lambda: session._engine.hooks.drainer is None)  # no other thread is at the hooks
        monkeypatch.setattr(WebSocketConnection, "write", break_once)
        assert session.ask("hello").text == "You said: hello"
        assert failed
        sent = [call["event"].type for call in bench.recorder.calls("on_send")]
        assert sent.count("EVENT_TYPE_USER_MESSAGE") == 1

    def test_one_runs_at_a_time_in_order(self, bench: Bench) -> None:
        inside: list[str] = []
        overlaps: list[str] = []
        order: list[int] = []

        def watch(hook: str) -> Callable[..., None]:
            def watching(event: Any = None, **_: Any) -> None:
                inside.append(hook)
                if len(inside) > 1:
                    overlaps.append(f"{inside}")
                if hook == "on_event" and event.sequence is not None:
                    order.append(event.sequence)
                threading.Event().wait(0.0005)
                inside.remove(hook)

            return watching

        hooks = {hook: watch(hook) for hook in OBSERVERS}
        client = bench.client(plugins=[plugin("watches", **hooks), bench.recorder, bench.reconnect])
        session = client.start_session()
        callers = [Caller(lambda: [session.ask("hello") for _ in range(4)]) for _ in range(4)]
        typists = [Caller(lambda: [session.typing(bool(n % 2)) for n in range(20)]) for _ in range(2)]
        come_back(bench, session)
        for caller in (*callers, *typists):
            caller.result(20)
        session.end()
        assert overlaps == []
        assert order == sorted(order)

    def test_those_of_different_sessions_run_in_parallel(self, bench: Bench) -> None:
        both = threading.Barrier(2, timeout=5)

        def on_message(message: Message, **_: Any) -> None:
            if message.role == "user":
                both.wait()  # passed only where both sessions' hooks are in here at once

        client = bench.client(plugins=[plugin("meets", on_message=on_message)])
        sessions = [client.start_session() for _ in range(2)]
        callers = [Caller(session.ask, "hello") for session in sessions]
        assert [caller.result().text for caller in callers] == ["You said: hello"] * 2

    def test_no_lock_is_held_meanwhile(self, bench: Bench) -> None:
        seen: list[object] = []

        def on_message(session: Session, message: Message, **_: Any) -> None:
            if message.role == "user":
                other = Caller(lambda: (session.status, session.messages, session.state, session.typing()))
                seen.append(other.result(2)[0])

        session = started(bench, plugins=[plugin("looks", on_message=on_message)])
        session.ask("hello")
        assert seen == [SessionStatus.OPEN]


class TestFaultyPlugins:
    def test_one_that_raises_in_every_hook_changes_nothing(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        calls: defaultdict[str, int] = defaultdict(int)

        def raising(hook: str) -> Callable[..., None]:
            def fail(**_: Any) -> None:
                calls[hook] += 1
                raise LookupError(f"of mine, in {hook}")

            return fail

        faulty = plugin("faulty", **{hook: raising(hook) for hook in (*OBSERVERS, *POLICIES)})
        plugins = [faulty, bench.recorder, bench.backoff, bench.reconnect]
        client = bench.client(plugins=plugins)
        bench.faults.add("http.rate_limited", on="access_token", retry_after=0)
        with caplog.at_level(logging.ERROR, "polyai_sync.plugins"), client.start_session() as session:
            assert session.next_message().text == "Hello!"
            bench.faults.add("message.dropped_then_drop")
            assert session.ask("hello").text == "You said: hello"
            bench.faults.add("agent.overloaded")
            assert session.ask("again").text == "You said: again"
            assert said(session) == bench.peer.transcript
            assert session.end() == EndReason.USER_END
        assert calls.keys() >= set(POLICIES)
        assert {*OBSERVERS} - calls.keys() <= {"on_handoff"}
        assert bench.codes == ["http.rate_limited", "client.connection_dropped", "agent.overloaded"]
        records = [record for record in caplog.records if record.name == "polyai_sync.plugins"]
        assert len(records) == sum(calls.values())
        assert all("faulty" in record.getMessage() for record in records)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_interrupt_in_a_hook_of_the_sessions_thread_tells_every_waiter(
        self, error: type[BaseException], bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        passed: list[object] = []
        monkeypatch.setattr(threading, "excepthook", lambda args: passed.append(args.exc_type))

        def on_event(event: Any, **_: Any) -> None:
            if event.type.endswith("USER_MESSAGE"):
                raise error

        session = started(bench, plugins=[plugin("interrupted", on_event=on_event)])
        bench.faults.add("agent.silent")
        with within(2):
            told = raised(session.ask, "hello")
        assert isinstance(told, ConnectionLostError)
        assert isinstance(told.__cause__, error)
        assert session.status is SessionStatus.FAILED
        assert isinstance(raised(session.next_message), ConnectionLostError)
        wait_until(lambda: bench.emulator.connections == 0)
        wait_until(lambda: passed == [error])  # it goes on as it would in any thread

    def test_interrupt_in_a_hook_of_a_call_is_the_calls(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        drain, caller = HookQueue.drain, threading.current_thread()

        def left_to_the_call(queue: HookQueue) -> None:
            if threading.current_thread() is caller:  # else the session's thread may come to it first
                drain(queue)

        def on_send(event: Any, **_: Any) -> None:
            if event.payload.get("text") == "stop":
                raise KeyboardInterrupt

        session = started(bench, plugins=[plugin("interrupted", on_send=on_send)])
        with monkeypatch.context() as patch:
            patch.setattr(HookQueue, "drain", left_to_the_call)
            with pytest.raises(KeyboardInterrupt):
                session.send("stop")
        assert session.next_message().text == "You said: stop"  # it was written
        assert session.ask("go on").text == "You said: go on"

    def test_slow_hook_is_named(self, make_bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture) -> None:
        bench = make_bench()

        def on_message(message: Message, **_: Any) -> None:
            if message.role == "user":
                threading.Event().wait(1.05)

        session = started(bench, plugins=[plugin("sluggish", on_message=on_message)])
        session.ask("hello")
        warned = [record.getMessage() for record in caplog.records if record.name == "polyai_sync.plugins"]
        assert any("sluggish" in text for text in warned)


class TestErrorsOfCalls:
    def test_each_is_told_once_however_many_calls_it_ends(self, bench: Bench) -> None:
        session = bench.bare(timeouts=short(close=0.5)).start_session()
        session.next_message()
        waiting = [Caller(session.next_message) for _ in range(4)] + [Caller(session.wait_ended)]
        wait_until(lambda: len(session._engine.conversation.lines._waiters) == 4)
        bench.peer.drop()
        errors = [raised(caller.result) for caller in waiting]
        assert {type(error) for error in errors} == {ConnectionLostError}
        assert len({id(error) for error in errors}) == 5  # each has an exception of its own, with its own traceback
        assert bench.codes == ["client.connection_dropped", "client.connection_lost"]

    def test_raised_error_knows_its_cause(self, bench: Bench) -> None:
        session = bench.bare().start_session()
        session.next_message()
        waiting = Caller(session.next_message)
        bench.peer.drop(1011, "oops")
        error = raised(waiting.result)
        assert isinstance(error.__cause__, PolyAIError)
        assert error.__cause__.code == "client.connection_dropped"


def test_a_hook_that_is_switched_on_hears_what_comes_from_then_on(bench: Bench) -> None:
    log = logging.getLogger("tests.only-if")
    log.setLevel(logging.INFO)
    heard: list[str] = []

    class Trace:
        @hookimpl
        @only_if(lambda: log.isEnabledFor(logging.DEBUG))
        def on_event(self, event: Event) -> None:
            heard.append(event.type)

    session = started(bench, plugins=[Trace(), bench.backoff, bench.reconnect])
    session.ask("one")
    assert heard == []
    log.setLevel(logging.DEBUG)
    try:
        session.ask("two")
    finally:
        log.setLevel(logging.INFO)
    assert heard[0] == "EVENT_TYPE_USER_MESSAGE"
    kept = list(heard)
    session.ask("three")
    assert heard == kept


def test_a_failed_delivery_is_told_though_deliveries_are_not_listened_to(bench: Bench) -> None:
    heard: list[Delivery] = []

    class Trace:
        @hookimpl
        @only_if(lambda: False)
        def on_delivery(self, message: Message) -> None:
            heard.append(message.delivery)

    session = started(bench, plugins=[Trace(), bench.backoff, bench.reconnect])
    assert session.ask("one").text == "You said: one"
    assert heard == []
    bench.faults.add("message.dropped")
    with pytest.raises(DeliveryError):
        session.send("two", timeout=0.05)
    assert heard == [Delivery.FAILED]


def test_a_failure_to_deliver_is_logged_where_only_warnings_are(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "polyai_sync")
    session = bench.client().start_session()
    session.send("one")
    bench.faults.add("message.dropped")
    session.send("two", wait=False)
    session.close()
    records = [record for record in caplog.records if record.name == "polyai_sync.session"]
    assert [(record.levelname, record.delivery) for record in records] == [("WARNING", "FAILED")]  # type: ignore[attr-defined]


def test_a_condition_may_look_at_its_session(bench: Bench) -> None:
    looked: list[str] = []
    sessions: list[Session] = []

    class Trace:
        @hookimpl
        @only_if(lambda: bool(sessions) and not looked.append(sessions[0].status))  # type: ignore[func-returns-value]
        def on_event(self) -> None:
            """Heard from when there is a session."""

    sessions.append(started(bench, plugins=[Trace(), bench.backoff, bench.reconnect]))
    assert sessions[0].ask("one").text == "You said: one"
    assert set(looked) == {SessionStatus.OPEN}


def test_a_call_raises_once_its_error_was_heard_though_another_thread_is_at_the_hooks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "TELLING", 20.0)
    entered, release = threading.Event(), threading.Event()

    class Slow:
        @hookimpl
        def on_message(self, message: Message) -> None:
            if message.text == "wait":
                entered.set()
                release.wait(20)

    session = started(bench, plugins=[Slow(), bench.recorder, bench.backoff, bench.reconnect])
    session.send("wait", wait=False)
    assert entered.wait(10)
    sending = Caller(session.send, "x" * 1_000_000)
    wait_until(lambda: bool(session._engine.hooks.jobs))
    sending.join(0.3)  # it must not end before it is let go
    assert sending.is_alive()
    assert bench.codes == []
    release.set()
    assert raised(sending.result).code == "client.message_too_large"
    assert bench.codes == ["client.message_too_large"]
