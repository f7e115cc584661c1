"""A connection that dropped: what each answer to the next handshake means (protocol.md §7, pitfalls.md 1)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from fault_kit import Bench, Caller, check_nothing_doubled, check_row, raised, said, short, started, stays, within

from polyai_sync import ConnectionDroppedError, ConnectionLostError, Session, SessionStatus, connecting
from polyai_sync.emulator import Drop, ScriptedAgent, Stream
from polyai_sync.messages import EndReason
from polyai_sync.testing import wait_until
from polyai_sync_plugins import Reconnect

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSE_CODES = (1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 1014, 3000, 4000, 4002, 4999)
PASSING = [  # fault, its options, the row
    ("http.rate_limited", {"retry_after": 0.01}, "http.rate_limited"),
    ("http.rate_limited", {"retry_after": None}, "http.rate_limited"),
    ("connect.too_many_connections", {"retry_after": 0.01}, "connect.too_many_connections"),
    ("http.server_error", {"status": 500}, "http.server_error"),
    ("http.server_error", {"status": 503, "retry_after": 0.01}, "http.server_error"),
    ("http.server_error", {"status": 502, "body": "<html>Bad Gateway</html>"}, "http.server_error"),
    ("http.no_answer", {}, "client.connect_failed"),
]
HOPELESS = [
    ("http.bad_request", {"status": 400}, "http.bad_request"),
    ("http.bad_request", {"status": 418}, "http.bad_request"),
    ("connect.invalid_parameters", {}, "connect.invalid_parameters"),
    ("http.redirected", {}, "http.redirected"),
    ("connect.answered_200", {}, "client.protocol"),
]
FATAL = [
    (404, EndReason.SESSION_NOT_FOUND, "connect.session_not_found"),
    (401, EndReason.AUTHENTICATION_FAILED, "connect.authentication_failed"),
    (403, EndReason.AUTHENTICATION_FAILED, "connect.authentication_failed"),
]


def on_handshake(bench: Bench, fault: str, options: dict[str, object], **more: object) -> None:
    where = {} if fault.startswith("connect.") else {"on": "connect"}
    bench.faults.add(fault, **where, **options, **more)


def back_open(session: Session, connections: int, bench: Bench) -> None:
    wait_until(lambda: bench.peer.connections_total == connections and session.status is SessionStatus.OPEN)


class TestDrop:
    """The open socket goes away."""

    @pytest.mark.parametrize("code", [None, *CLOSE_CODES])
    def test_session_lives_on_after_every_code_but_two(self, code: int | None, bench: Bench) -> None:
        session = started(bench)
        bench.peer.drop(code, "because")
        back_open(session, 2, bench)

        (error,) = bench.errors
        check_row(error, "client.connection_dropped", surface="websocket", status=None, text=None)
        assert isinstance(error, ConnectionDroppedError)
        assert error.close_code == code
        assert error.close_reason == ("because" if code else "")
        (away,) = [call["error"] for call in bench.recorder.calls("on_disconnect")]
        assert away is error
        (again,) = bench.recorder.calls("on_reconnect")
        assert (again["attempt"], again["error"]) == (1, error)
        assert [call["attempt"] for call in bench.recorder.calls("on_connect")] == [1, 1]
        assert session.ask("still there?").text == "You said: still there?"
        assert said(session) == bench.peer.transcript
        assert bench.ends == []
        assert bench.emulator.sessions_created == bench.emulator.tokens_minted == 1

    def test_close_frame_without_a_code_is_a_drop(self, bench: Bench) -> None:
        session = started(bench)
        bench.peer.send_bytes(b"\x88\x00")
        back_open(session, 2, bench)
        (error,) = bench.errors
        assert isinstance(error, ConnectionDroppedError)
        assert error.close_code == 1005

    @pytest.mark.parametrize("code", [1005, 1006, 999, 5000])
    def test_code_that_may_not_be_sent_is_a_drop_and_a_broken_protocol(self, code: int, bench: Bench) -> None:
        session = started(bench)
        bench.peer.drop(code)
        back_open(session, 2, bench)
        assert bench.codes == ["client.protocol", "client.connection_dropped"]
        assert session.ask("still there?").text == "You said: still there?"

    def test_close_1000_alone_is_the_end(self, bench: Bench) -> None:
        session = started(bench)
        bench.peer.drop(1000)
        assert session.wait_ended(timeout=2) == EndReason.CLOSED_BY_SERVER
        assert bench.ends == [(EndReason.CLOSED_BY_SERVER, None)]
        assert bench.errors == []
        assert bench.recorder.calls("on_reconnect") == []
        assert [call["error"] for call in bench.recorder.calls("on_disconnect")] == [None]

    def test_close_4001_is_session_not_found(self, bench: Bench) -> None:
        session = started(bench)
        bench.peer.expire()
        assert session.wait_ended(timeout=2) == EndReason.SESSION_NOT_FOUND
        (error,) = bench.errors
        check_row(error, "connect.session_not_found", surface="websocket", status=None, text=None)
        assert bench.ends == [(EndReason.SESSION_NOT_FOUND, error)]
        order = [name for name in bench.recorder.names if name in ("on_error", "on_session_end")]
        assert order == ["on_error", "on_session_end"]
        assert [call["error"] for call in bench.recorder.calls("on_disconnect")] == [error]
        assert raised(session.ask, "hello?").code == "connect.session_not_found"
        assert session.error is not None
        assert session.error.code == "connect.session_not_found"

    def test_reconnect_asks_for_what_is_behind_the_cursor(self, bench: Bench) -> None:
        session = started(bench)
        cursor = session.state.cursor
        bench.peer.drop()
        back_open(session, 2, bench)
        handshakes = [entry for entry in bench.emulator.log if entry.surface == "connect"]
        assert [entry.query.get("cursor") for entry in handshakes] == [None, str(cursor)]
        assert [call["cursor"] for call in bench.recorder.calls("on_connect")] == [0, cursor]

    def test_ask_goes_on_across_a_drop(self, make_bench: Callable[..., Bench]) -> None:
        reply: list[Any] = [Stream(["One ", "two "]), Drop(), Stream(["Three ", "four."])]
        bench = make_bench(agent=ScriptedAgent(reply, repeat=True))
        session = started(bench)
        answer = session.ask("count", settle=0.3)
        assert answer.text == "One two \n\nThree four."
        assert said(session) == bench.peer.transcript


class TestRefusedReconnect:
    """The handshake after a drop is refused."""

    @pytest.mark.parametrize(("fault", "options", "code"), PASSING)
    def test_passing_refusal_never_costs_the_session(
        self, fault: str, options: dict[str, object], code: str, bench: Bench
    ) -> None:
        session = started(bench)
        on_handshake(bench, fault, options, times=3)
        bench.peer.drop()
        back_open(session, 2, bench)

        assert bench.codes == ["client.connection_dropped", *[code] * 3]
        assert [call["attempt"] for call in bench.recorder.calls("on_reconnect")] == [1, 2, 3, 4]
        assert [call["error"].code for call in bench.recorder.calls("on_reconnect")] == bench.codes
        assert [call["attempt"] for call in bench.recorder.calls("on_connect")] == [1, 4]
        status = [error.status for error in bench.errors[1:]]
        assert len(bench.recorder.calls("on_rate_limit")) == status.count(429)
        assert session.ask("still there?").text == "You said: still there?"
        assert said(session) == bench.peer.transcript
        assert bench.emulator.sessions_created == bench.emulator.tokens_minted == 1
        assert bench.ends == []

    @pytest.mark.parametrize(("status", "reason", "code"), FATAL)
    def test_gone_session_or_dead_token_is_the_end(self, status: int, reason: str, code: str, bench: Bench) -> None:
        session = started(bench)
        waiting = Caller(session.next_message)
        on_handshake(bench, "http.bad_request", {"status": status, "text": "whatever it says"})
        bench.peer.drop()
        assert session.wait_ended(timeout=2) == reason

        assert session.status is SessionStatus.ENDED
        assert session.end_reason == reason
        assert bench.codes == ["client.connection_dropped", code]
        error = bench.errors[1]
        check_row(error, code, surface="connect", status=status, text="whatever it says")
        assert bench.ends == [(reason, error)]
        for told in (raised(waiting.result), raised(session.ask, "hello?"), session.error):
            assert told is not None
            assert (type(told), told.code) == (type(error), code)
        assert bench.emulator.handshakes == 2
        assert bench.codes == ["client.connection_dropped", code]  # nothing is told twice

    def test_revoked_token_is_the_end(self, bench: Bench) -> None:
        session = started(bench)
        bench.emulator.revoke_tokens()
        bench.peer.drop()
        assert session.wait_ended(timeout=2) == EndReason.AUTHENTICATION_FAILED
        assert bench.emulator.tokens_minted == 1  # a fresh one would not revive it (pitfalls.md 2)

    @pytest.mark.parametrize(("fault", "options", "code"), HOPELESS)
    def test_refusal_that_will_not_pass_gives_the_connection_up(
        self, fault: str, options: dict[str, object], code: str, bench: Bench
    ) -> None:
        session = started(bench)
        waiting = Caller(session.next_message)
        on_handshake(bench, fault, options, times=5)
        bench.peer.drop()
        wait_until(lambda: session.status is SessionStatus.FAILED)

        lost = raised(waiting.result)
        assert isinstance(lost, ConnectionLostError)
        check_row(lost, "client.connection_lost", surface="connect", status=None, text=None)
        assert isinstance(lost.__cause__, Exception)
        assert getattr(lost.__cause__, "code", None) == code
        assert (lost.attempts, lost.close_code) == (1, None)
        assert bench.codes == ["client.connection_dropped", code, "client.connection_lost"]
        assert bench.ends == []  # the session may live on at the server …
        bench.faults.clear()
        with bench.client().resume_session(session.state) as again:  # … and it does
            assert again.ask("still there?").text == "You said: still there?"

    def test_server_says_how_often_to_try(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(capabilities={"max_reconnect_attempts": 3})
        session = started(bench)
        on_handshake(bench, "http.server_error", {}, times=None)
        bench.peer.drop(1012)
        wait_until(lambda: "client.connection_lost" in bench.codes)
        assert session.status is SessionStatus.FAILED
        lost = session.error
        assert isinstance(lost, ConnectionLostError)
        assert (lost.attempts, lost.close_code) == (3, 1012)
        assert bench.codes == ["client.connection_dropped", *["http.server_error"] * 3, "client.connection_lost"]
        assert bench.emulator.handshakes == 1 + 3

    def test_zero_in_the_capabilities_means_no_limit(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(capabilities={"max_reconnect_attempts": 0})
        session = started(bench)
        on_handshake(bench, "http.server_error", {}, times=30)
        bench.peer.drop()
        back_open(session, 2, bench)
        assert bench.codes.count("http.server_error") == 30

    def test_without_a_hint_ten_attempts_are_made(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(capabilities={"max_reconnect_attempts": None})
        session = started(bench)
        on_handshake(bench, "http.server_error", {}, times=None)
        bench.peer.drop()
        wait_until(lambda: session.status is SessionStatus.FAILED)
        assert bench.emulator.handshakes == 1 + 10

    def test_server_that_accepts_and_drops_is_not_hammered(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(capabilities={"max_reconnect_attempts": 4})
        session = started(bench)
        bench.faults.add("accept_then_drop", times=None)
        bench.peer.drop()
        wait_until(lambda: "client.connection_lost" in bench.codes)
        assert session.status is SessionStatus.FAILED
        assert [call["attempt"] for call in bench.recorder.calls("on_reconnect")] == [1, 2, 3, 4]  # pitfalls.md 15
        assert bench.codes == ["client.connection_dropped"] * 5 + ["client.connection_lost"]

    def test_attempts_count_afresh_after_a_connection_that_worked(self, bench: Bench) -> None:
        session = started(bench)
        for connection in (2, 3, 4):
            bench.peer.drop()
            back_open(session, connection, bench)
            session.ask("does it work?")
        assert [call["attempt"] for call in bench.recorder.calls("on_reconnect")] == [1, 1, 1]

    def test_retry_after_is_waited_for_before_the_same_session_is_tried_again(self, bench: Bench) -> None:
        tiny = Reconnect(base=0.01, cap=0.01)
        session = started(bench, plugins=[bench.recorder, tiny])
        on_handshake(bench, "http.rate_limited", {"retry_after": 0.2})
        began = time.monotonic()
        bench.peer.drop()
        back_open(session, 2, bench)
        assert time.monotonic() - began >= 0.2
        assert [call["delay"] for call in bench.recorder.calls("on_reconnect")][1] == 0.2

    def test_handshake_without_an_answer_is_given_up_in_time(self, bench: Bench) -> None:
        session = started(bench, timeouts=short(connect=0.5))
        on_handshake(bench, "http.hang", {})
        with within(2):
            bench.peer.drop()
            back_open(session, 2, bench)
        assert bench.codes == ["client.connection_dropped", "client.connect_failed"]

    def test_without_a_policy_a_drop_is_final(self, bench: Bench) -> None:
        session = bench.bare().start_session()
        session.next_message()
        waiting = Caller(session.next_message)
        bench.peer.drop(1011, "oops")
        lost = raised(waiting.result)
        assert isinstance(lost, ConnectionLostError)
        assert (lost.attempts, lost.close_code) == (0, 1011)
        assert bench.codes == ["client.connection_dropped", "client.connection_lost"]
        assert isinstance(raised(session.ask, "hello?"), ConnectionLostError)


class TestRenewal:
    """A socket near the end of its life is renewed at a quiet moment (architecture.md "Liveness")."""

    @pytest.fixture
    def bench(self, make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> Bench:
        monkeypatch.setattr(connecting, "RENEW_AFTER", 0.1)
        return make_bench(capabilities={"heartbeat_interval_seconds": 1})  # each beat looks for a quiet moment

    def test_is_no_drop(self, bench: Bench) -> None:
        session = started(bench)
        wait_until(lambda: bench.peer.connections_total == 2)
        wait_until(lambda: session.status is SessionStatus.OPEN)
        assert session.ask("noticed anything?").text == "You said: noticed anything?"
        assert said(session) == bench.peer.transcript
        assert bench.errors == []
        assert bench.recorder.calls("on_reconnect") == []
        assert [call["error"] for call in bench.recorder.calls("on_disconnect")] == [None]
        assert [call["attempt"] for call in bench.recorder.calls("on_connect")] == [1, 1]
        wait_until(lambda: bench.peer.connections == 1)

    def test_loses_nothing(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connecting, "RENEW_AFTER", 0.0)
        session = started(bench)
        for number in range(40):
            assert session.ask(f"question {number}").text == f"You said: question {number}"
        assert bench.peer.connections_total > 3
        assert said(session) == bench.peer.transcript
        check_nothing_doubled(bench)
        assert bench.errors == []

    def test_that_fails_keeps_the_old_one(self, bench: Bench) -> None:
        session = started(bench)
        on_handshake(bench, "http.server_error", {})
        bench.recorder.wait_for("on_error")
        assert session.ask("still here?").text == "You said: still here?"
        assert bench.peer.connections_total == 1
        assert bench.codes == ["http.server_error"]
        assert bench.recorder.calls("on_disconnect") == []


class TestHeartbeats:
    def beats(self, bench: Bench) -> int:
        return sum(event["type"] == "EVENT_TYPE_HEARTBEAT" for event in bench.peer.received)

    def told(self, bench: Bench) -> int:
        return sum(call["event"].type == "EVENT_TYPE_HEARTBEAT" for call in bench.recorder.calls("on_send"))

    def test_come_at_the_servers_interval(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(capabilities={"heartbeat_interval_seconds": 1})
        session = started(bench)
        began = time.monotonic()
        wait_until(lambda: self.beats(bench) >= 3)
        assert 1.5 < time.monotonic() - began < 4.5
        assert bench.errors == []
        assert not any(call["event"].type.endswith("HEARTBEAT") for call in bench.recorder.calls("on_event"))
        wait_until(lambda: self.told(bench) >= 3)
        assert session.status is SessionStatus.OPEN

    def test_explicit_zero_leaves_the_one_after_the_handshake(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(capabilities={"heartbeat_interval_seconds": 0})
        session = started(bench)
        assert stays(lambda: self.beats(bench) == 1, 1.3)
        assert session.ask("hello").text == "You said: hello"
        back = bench.peer.connections_total + 1
        bench.peer.drop()
        back_open(session, back, bench)
        wait_until(lambda: self.beats(bench) == 2)
