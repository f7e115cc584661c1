"""`Session.end` and `Session.close` (api.md; pitfalls.md 18 and 21)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fault_kit import Bench, Caller, raised, short, started, within

from polyai_sync import Session, SessionClosedError, SessionEndedError, SessionNotFoundError, SessionStatus, hookimpl
from polyai_sync.messages import Delivery, EndReason
from polyai_sync.testing import HookRecorder, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable


def ends_sent(bench: Bench) -> int:
    return sum(event["type"] == "EVENT_TYPE_USER_END_SESSION" for event in bench.peer.received)


class TestEnd:
    def test_waits_for_the_servers_word(self, bench: Bench) -> None:
        session = started(bench)
        assert session.end() == "REASON_USER_END"
        assert session.status is SessionStatus.ENDED
        assert session.end_reason == EndReason.USER_END
        assert session.error is None
        assert bench.ends == [(EndReason.USER_END, None)]
        assert bench.errors == []
        wait_until(lambda: bench.peer.ended)
        assert ends_sent(bench) == 1

    def test_gives_the_reason_at_once_where_it_had_ended(self, bench: Bench) -> None:
        session = started(bench)
        bench.peer.end("REASON_USER_ABANDONED")
        session.wait_ended(timeout=2)
        with within(1.5):
            assert session.end() == session.end(wait=False) == EndReason.USER_ABANDONED
        assert ends_sent(bench) == 0
        assert len(bench.ends) == 1

    def test_without_waiting_it_returns_at_once(self, bench: Bench) -> None:
        session = started(bench)
        assert session.end(wait=False) is None
        assert session.wait_ended(timeout=2) == EndReason.USER_END
        assert session.end() == EndReason.USER_END

    def test_comes_after_what_was_sent_before(self, bench: Bench) -> None:
        session = started(bench)
        sent = [session.send(f"message {number}", wait=False) for number in range(10)]
        session.end()
        assert [text for role, text in bench.peer.transcript if role == "user"] == [message.text for message in sent]
        delivered = [call["message"].delivery for call in bench.recorder.calls("on_delivery")]
        assert delivered == [Delivery.DELIVERED] * 10

    def test_several_threads_may_end_it(self, bench: Bench) -> None:
        session = started(bench)
        enders = [Caller(session.end) for _ in range(5)]
        assert {ender.result() for ender in enders} == {EndReason.USER_END}
        assert ends_sent(bench) == 1
        assert len(bench.ends) == 1

    def test_lets_waiting_calls_go(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.silent")
        asking, reading = Caller(session.ask, "hello"), Caller(session.next_message)
        wait_until(lambda: session.messages[-1].role == "user")
        session.end()
        for caller in (asking, reading):
            error = raised(caller.result)
            assert isinstance(error, SessionEndedError)
            assert error.reason == EndReason.USER_END

    def test_silent_server_does_not_hold_it_up(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("connection.silent", on="message")
        session.send("into the void", wait=False)
        wait_until(lambda: not bench.faults.pending)
        with within(1.5):
            assert session.end(timeout=0.3) is None
        assert session.status is SessionStatus.ENDED
        assert session.end_reason == EndReason.UNCONFIRMED
        assert bench.ends == [(EndReason.UNCONFIRMED, None)]
        assert session.end() is None

    def test_left_out_limit_is_the_polite_ends(self, bench: Bench) -> None:
        session = started(bench, timeouts=short(close=0.2))
        bench.faults.add("end.unanswered")
        with within(1.2):
            assert session.end() is None

    def test_unconfirmed_without_waiting_too(self, bench: Bench) -> None:
        session = started(bench, timeouts=short(close=0.2))
        bench.faults.add("end.unanswered")
        assert session.end(wait=False) is None
        assert session.wait_ended(timeout=2) == EndReason.UNCONFIRMED


class TestEndWithoutAConnection:
    def test_dropped_connection_is_reopened_for_it(self, bench: Bench) -> None:
        session = started(bench, plugins=[HookRecorder("slow", reconnect_delay=30.0), bench.recorder])
        bench.peer.drop()
        wait_until(lambda: session.status is SessionStatus.RECONNECTING)
        with within(1.5):  # the wait before the next attempt is ended at once
            assert session.end() == EndReason.USER_END
        wait_until(lambda: bench.peer.end_reason == "REASON_USER_END")
        assert bench.peer.connections_total == 2

    def test_given_up_connection_is_reopened_for_it(self, bench: Bench) -> None:
        session = bench.bare().start_session()
        bench.peer.drop()
        wait_until(lambda: session.status is SessionStatus.FAILED)
        assert session.end() == EndReason.USER_END
        assert session.status is SessionStatus.ENDED
        wait_until(lambda: bench.peer.end_reason == "REASON_USER_END")
        assert bench.ends == [(EndReason.USER_END, None)]
        wait_until(lambda: bench.emulator.connections == 0)

    def test_drop_while_it_waits_is_mended_once(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("end.unanswered")
        ending = Caller(session.end)
        wait_until(lambda: not bench.faults.pending)
        bench.peer.drop()
        assert ending.result() == EndReason.USER_END
        assert bench.peer.connections_total == 2

    @pytest.mark.parametrize("fault", ["http.server_error", "http.no_answer", "http.bad_request"])
    def test_one_refusal_is_enough(self, fault: str, bench: Bench) -> None:
        session = bench.bare().start_session()
        bench.faults.add(fault, on="connect", times=None)
        bench.peer.drop()
        wait_until(lambda: session.status is SessionStatus.FAILED)
        with within(2):
            assert session.end() is None
        assert session.end_reason == EndReason.UNCONFIRMED
        assert bench.emulator.handshakes == 2  # once, whatever the policies say
        bench.faults.clear()
        assert session.end() is None  # and no reconnect brings it back
        assert bench.emulator.handshakes == 2

    def test_server_that_does_not_answer_the_handshake_is_given_up_in_time(self, bench: Bench) -> None:
        session = bench.bare().start_session()
        bench.faults.add("http.hang", on="connect")
        bench.peer.drop()
        wait_until(lambda: session.status is SessionStatus.FAILED)
        with within(1.5):
            assert session.end(timeout=0.3) is None
        assert session.end_reason == EndReason.UNCONFIRMED

    def test_gone_session_is_an_end_too(self, bench: Bench) -> None:
        session = bench.bare().start_session()
        session.next_message()
        bench.peer.drop()
        wait_until(lambda: session.status is SessionStatus.FAILED)
        bench.peer.expire()
        assert session.end() == EndReason.SESSION_NOT_FOUND
        assert isinstance(raised(session.next_message), SessionNotFoundError)

    def test_closed_session_cannot_be_ended(self, bench: Bench) -> None:
        session = started(bench)
        session.close()
        assert isinstance(raised(session.end), SessionClosedError)
        assert not bench.peer.ended

    def test_end_and_reconnect_at_once_never_leave_it_open(self, bench: Bench) -> None:
        for _ in range(10):
            session = started(bench)
            bench.peer.drop()
            assert session.end() in (EndReason.USER_END, None)
            assert session.status is SessionStatus.ENDED
        wait_until(lambda: bench.emulator.connections == 0)


def waits(session: Session) -> dict[str, Callable[[], object]]:
    """Every call that waits."""
    return {
        "send": lambda: session.send("lost", timeout=None),
        "ask": lambda: session.ask("lost", timeout=None),
        "stream": lambda: list(session.stream("lost", timeout=None)),
        "join": lambda: session.join(timeout=None),
        "end": lambda: session.end(timeout=None),
        "next_message": lambda: session.next_message(timeout=None),
        "wait_ended": session.wait_ended,
    }


class TestClose:
    @pytest.mark.parametrize("name", ["send", "ask", "stream", "join", "end", "next_message", "wait_ended"])
    @pytest.mark.parametrize("how", ["session", "client"])
    def test_lets_every_waiting_call_go(self, name: str, how: str, bench: Bench) -> None:
        client = bench.client()
        session = client.start_session()
        session.next_message()
        for fault in ("message.dropped", "start.no_join", "end.unanswered"):
            bench.faults.add(fault, times=None)
        if name == "join":
            bench.peer.emit("POLY_AGENT_LEFT")
            wait_until(lambda: session.agent is None)
        waiting = Caller(waits(session)[name])
        written = {"send": "USER_MESSAGE", "ask": "USER_MESSAGE", "stream": "USER_MESSAGE", "end": "USER_END_SESSION"}
        if name in written:
            sends = [f"EVENT_TYPE_{written[name]}"]
            wait_until(lambda: [c["event"].type for c in bench.recorder.calls("on_send")][-1:] == sends)
        with within(1.5):
            (session if how == "session" else client).close()
            assert isinstance(raised(waiting.result, 1), SessionClosedError)
        assert session.status is SessionStatus.CLOSED

    def test_lets_a_start_go(self, bench: Bench) -> None:
        client = bench.client()
        bench.faults.add("start.no_join")
        starting = Caller(client.start_session, timeout=None)
        bench.recorder.wait_for("on_session_start")
        with within(1.5):
            client.close()
            assert isinstance(raised(starting.result, 1), SessionClosedError)
        wait_until(lambda: bench.emulator.connections == 0)

    @pytest.mark.parametrize("leg", ["access_token", "session_create", "connect"])
    def test_lets_a_start_go_that_waits_for_a_retry(self, leg: str, bench: Bench) -> None:
        slow = HookRecorder("slow", retry_delay=30.0)
        client = bench.client(plugins=[slow])
        bench.faults.add("http.server_error", on=leg)
        starting = Caller(client.start_session, timeout=None)
        slow.wait_for("retry_delay")
        with within(1.5):
            client.close()
            assert isinstance(raised(starting.result, 1), SessionClosedError)

    def test_is_quick_while_a_retry_is_waited_for(self, bench: Bench) -> None:
        slow = HookRecorder("slow", retry_delay=30.0)
        session = started(bench, plugins=[slow, bench.recorder], load_plugins=False)
        bench.faults.add("agent.overloaded")
        asking = Caller(session.ask, "hello", timeout=None)
        slow.wait_for("retry_delay")
        with within(1.5):
            session.close()
            assert raised(asking.result, 1).code in ("agent.overloaded", "client.session_closed")

    def test_is_quick_while_a_reconnect_is_waited_for(self, bench: Bench) -> None:
        session = started(bench, plugins=[HookRecorder("slow", reconnect_delay=30.0), bench.recorder])
        bench.peer.drop()
        wait_until(lambda: session.status is SessionStatus.RECONNECTING)
        with within(1.5):
            session.close()
        assert session.status is SessionStatus.CLOSED

    def test_is_quick_while_a_handshake_gets_no_answer(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("http.hang", on="connect")
        bench.peer.drop()
        wait_until(lambda: bench.emulator.faults.pending == ())
        with within(1.5):
            session.close()
        assert bench.codes == ["client.connection_dropped"]

    def test_is_quick_before_a_silent_peer(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("connection.silent", on="message")
        session.send("into the void", wait=False)
        wait_until(lambda: not bench.faults.pending)
        with within(1.5):
            session.close()

    def test_is_quick_while_a_hook_is_slow(self, bench: Bench) -> None:
        entered: list[str] = []

        class Slow:
            name = "slow"

            @hookimpl
            def on_message(self, message: Any) -> None:
                entered.append(message.text)
                if message.role == "user":
                    wait_until(lambda: session.status is SessionStatus.CLOSED)

        session = started(bench, plugins=[Slow(), bench.recorder], timeouts=short(close=0.5))
        bench.faults.add("agent.silent")
        asking = Caller(session.ask, "hello")
        wait_until(lambda: "hello" in entered)
        with within(1.5):
            session.close()
        assert isinstance(raised(asking.result), SessionClosedError)

    def test_ends_no_conversation(self, bench: Bench) -> None:
        session = started(bench)
        session.close()
        session.close()
        assert session.status is SessionStatus.CLOSED
        assert session.end_reason is None
        assert bench.ends == []
        assert [call["error"] for call in bench.recorder.calls("on_disconnect")] == [None]
        wait_until(lambda: bench.peer.connections == 0)
        assert not bench.peer.ended
        with bench.client().resume_session(session.state) as again:
            assert again.ask("still there?").text == "You said: still there?"

    def test_pending_sends_are_failed(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("message.dropped")
        session.send("lost", wait=False)
        session.close()
        assert session.messages[-1].delivery is Delivery.FAILED

    def test_ended_session_stays_ended(self, bench: Bench) -> None:
        session = started(bench)
        session.end()
        session.close()
        assert session.status is SessionStatus.ENDED
        assert session.end() == EndReason.USER_END

    def test_many_threads_may_close_it(self, bench: Bench) -> None:
        session = started(bench)
        closers = [Caller(session.close) for _ in range(8)]
        for closer in closers:
            closer.result(2)
        assert [call["error"] for call in bench.recorder.calls("on_disconnect")] == [None]

    def test_block_closes_on_the_way_out_of_an_exception(self, bench: Bench) -> None:
        with pytest.raises(LookupError, match="mine"), bench.client().start_session() as session:
            raise LookupError("mine")
        assert session.status is SessionStatus.CLOSED

    def test_whole_reply_in_hand_is_returned(self, bench: Bench) -> None:
        session = started(bench)
        asking = Caller(session.ask, "hello", settle=30, timeout=60)
        wait_until(lambda: len(session.messages) == 3 and session.messages[-1].complete)
        session.close()
        assert asking.result(1).text == "You said: hello"
