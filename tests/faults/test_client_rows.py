"""The client's own rows of the catalogue, each provoked over real sockets (error-codes.md, "The client's own")."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from fault_kit import SPEC_ROWS, Bench, Caller, check_row, raised, short, started, within

from polyai_sync import (
    Client,
    ConnectionDroppedError,
    ConnectionFailedError,
    ConnectionLostError,
    DeliveryError,
    LaggedError,
    MessageTooLargeError,
    PolyAIError,
    ProtocolError,
    ReadyTimeoutError,
    ReplyTimeoutError,
    Session,
    SessionClosedError,
    SessionEndedError,
    SessionStatus,
    WaitTimeoutError,
    hookimpl,
)
from polyai_sync.emulator import Emulator
from polyai_sync.messages import Delivery, EndReason
from polyai_sync.testing import HookRecorder, wait_until

Provoke = Callable[[Bench], PolyAIError]
PROVOKED: dict[str, tuple[str, Provoke]] = {}
"""Code -> the surface it is met on, and how."""


def provokes(code: str, surface: str = "client") -> Callable[[Provoke], Provoke]:
    def note(provoke: Provoke) -> Provoke:
        PROVOKED[code] = (surface, provoke)
        return provoke

    return note


@provokes("client.configuration")
def configuration(bench: Bench) -> PolyAIError:
    return raised(Client, "token", "", base_url=bench.emulator.url, plugins=[bench.recorder])


@provokes("client.connect_failed", "access_token")
def connect_failed(bench: Bench) -> PolyAIError:
    bench.faults.add("http.no_answer", on="access_token")
    return raised(bench.bare().start_session)


@provokes("client.connection_dropped", "websocket")
def connection_dropped(bench: Bench) -> PolyAIError:
    started(bench)
    bench.peer.drop()
    bench.recorder.wait_for("on_error")
    return bench.errors[0]


@provokes("client.connection_lost", "connect")
def connection_lost(bench: Bench) -> PolyAIError:
    session = bench.bare().start_session()
    bench.peer.drop()
    wait_until(lambda: session.status is SessionStatus.FAILED)
    return raised(session.ask, "hello?")


@provokes("client.not_delivered", "websocket")
def not_delivered(bench: Bench) -> PolyAIError:
    session = started(bench, timeouts=short(delivery=0.5))
    bench.faults.add("message.dropped")
    return raised(session.send, "lost")


@provokes("client.reply_timeout")
def reply_timeout(bench: Bench) -> PolyAIError:
    return raised(started(bench).next_message, timeout=0.05)


@provokes("client.ready_timeout")
def ready_timeout(bench: Bench) -> PolyAIError:
    bench.faults.add("start.no_join")
    return raised(bench.client().start_session, timeout=1.0)


@provokes("client.wait_timeout")
def wait_timeout(bench: Bench) -> PolyAIError:
    return raised(started(bench).wait_ended, timeout=0.05)


@provokes("client.session_ended")
def session_ended(bench: Bench) -> PolyAIError:
    session = started(bench)
    session.end()
    return raised(session.ask, "hello?")


@provokes("client.session_closed")
def session_closed(bench: Bench) -> PolyAIError:
    session = started(bench)
    session.close()
    return raised(session.ask, "hello?")


@provokes("client.lagged")
def lagged(bench: Bench) -> PolyAIError:
    session = started(bench, event_window=3)
    events = session.events()
    session.ask("one two three four five six")
    return raised(next, events)


@provokes("client.message_too_large")
def message_too_large(bench: Bench) -> PolyAIError:
    return raised(started(bench).ask, "x" * 200_000)


@provokes("client.protocol", "access_token")
def protocol(bench: Bench) -> PolyAIError:
    bench.faults.add("token.missing")
    return raised(bench.bare().start_session)


@provokes("client.would_deadlock")
def would_deadlock(bench: Bench) -> PolyAIError:
    caught: list[PolyAIError] = []

    class Asks:
        name = "asks"

        @hookimpl
        def on_message(self, session: Session) -> None:
            caught.append(raised(session.ask, "hello?"))

    bench.client(plugins=[Asks(), bench.recorder]).start_session()
    return caught[0]


@provokes("client.plugin")
def plugin(bench: Bench) -> PolyAIError:
    return raised(bench.emulator.client, plugins=[bench.recorder, HookRecorder])


def test_every_row_of_the_clients_own_is_provoked() -> None:
    assert set(PROVOKED) == {code for code in SPEC_ROWS if code.startswith("client.")}


@pytest.mark.parametrize("code", PROVOKED)
def test_is_what_its_row_says(code: str, bench: Bench) -> None:
    surface, provoke = PROVOKED[code]
    with within(3):
        error = provoke(bench)
    check_row(error, code, surface=surface, status=None, text=None)


@pytest.mark.parametrize("code", PROVOKED)
def test_is_told_once_but_at_construction_never(code: str, bench: Bench) -> None:
    error = PROVOKED[code][1](bench)
    expected = 0 if code in ("client.configuration", "client.plugin") else 1
    assert bench.codes.count(code) == expected
    if expected:
        (told,) = [error for error in bench.errors if error.code == code]
        assert (type(told), told.message) == (type(error), error.message)


class TestNothingIsSent:
    """A setting or a message that cannot work is refused before anything is sent."""

    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            ({"connector_token": None}, "connector_token"),
            ({"connector_token": "two words"}, "connector_token"),
            ({"host": None}, "host"),
            ({"host": "  "}, "host"),
            ({"base_url": "ftp://example.com"}, "base_url"),
            ({"base_url": "http://example.com"}, "base_url"),
            ({"cluster": "us-1"}, "cluster"),
            ({"cluster": "US 1", "base_url": None}, "cluster"),
            ({"platform": "toaster"}, "platform"),
            ({"device_type": "toaster"}, "device_type"),
            ({"event_window": 0}, "event_window"),
            ({"timeouts": 5}, "timeouts"),
            ({"app_info": "two\nlines"}, "app_info"),
        ],
    )
    def test_malformed_setting_is_named(
        self, settings: dict[str, Any], named: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("CONNECTOR_TOKEN", "HOST", "CLUSTER", "BASE_URL"):
            monkeypatch.delenv(f"POLYAI_{name}", raising=False)
        error = raised(bench.emulator.client, **settings)
        assert isinstance(error, ValueError)
        assert error.code == "client.configuration"
        assert named in error.message
        assert bench.emulator.log == ()

    def test_oversize_message_names_both_sizes(self, bench: Bench) -> None:
        with bench.client().start_session() as session:
            size = 140_000
            error = raised(session.ask, "é" * (size // 2))
            assert isinstance(error, MessageTooLargeError)
            assert isinstance(error, ValueError)
            assert error.limit == 131_072
            assert size < error.size < size + 300  # bytes of UTF-8, with the envelope
            assert session.ask("short").text == "You said: short"
            sent = [event for event in bench.peer.received if event["type"].endswith("USER_MESSAGE")]
            assert [event["payload"]["text"] for event in sent] == ["short"]
            assert [text for role, text in bench.peer.transcript if role == "user"] == ["short"]

    def test_size_limit_is_the_servers(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(max_message_size=2048)
        with bench.client().start_session() as session:
            error = raised(session.send, "x" * 2048)
            assert isinstance(error, MessageTooLargeError)
            assert error.limit == 2048
            fitting = "x" * (2048 - (error.size - 2048))
            assert session.send(fitting).delivery is Delivery.DELIVERED  # the last that fits is taken

    @pytest.mark.parametrize("text", ["", " ", "\n\t"])
    def test_blank_text_is_a_value_error(self, text: str, bench: Bench) -> None:
        with bench.client().start_session() as session:
            for call in (session.send, session.ask, session.stream):
                with pytest.raises(ValueError, match="blank"):
                    call(text)


class TestNoAnswer:
    """``client.connect_failed``: nobody answers."""

    @pytest.mark.parametrize("leg", ["access_token", "session_create", "connect"])
    def test_cut_connection_is_tried_again(self, leg: str, bench: Bench) -> None:
        bench.faults.add("http.no_answer", on=leg, times=2)
        with bench.client().start_session() as session:
            assert session.next_message().text == "Hello!"
        assert bench.codes == ["client.connect_failed"] * 2
        assert {error.surface for error in bench.errors} == {leg}
        if leg == "connect":
            return
        answers = [call for call in bench.recorder.calls("on_response") if call["operation"] == leg]
        assert [(call["attempt"], call["status"]) for call in answers] == [(1, None), (2, None), (3, 200)]
        assert [call["error"] for call in answers] == [*bench.errors, None]

    @pytest.mark.parametrize("leg", ["access_token", "session_create", "connect"])
    def test_silent_server_is_given_up_in_time(self, leg: str, bench: Bench) -> None:
        bench.faults.add("http.hang", on=leg)
        with within(2):
            error = raised(bench.bare(timeouts=short(connect=0.4, read=0.4)).start_session)
        assert isinstance(error, ConnectionFailedError)
        check_row(error, "client.connect_failed", surface=leg, status=None, text=None)
        assert bench.errors == [error]

    def test_refused_connection_names_the_address(self) -> None:
        with Emulator() as emulator:
            client = emulator.client(load_plugins=False)
        error = raised(client.start_session)
        assert isinstance(error, ConnectionFailedError)
        assert f"127.0.0.1:{emulator.port}" in str(error)

    def test_calls_own_time_limit_counts(self, bench: Bench) -> None:
        bench.faults.add("http.hang", on="session_create")
        with within(1.5):
            error = raised(bench.client().start_session, timeout=0.2)
        assert isinstance(error, (ConnectionFailedError, ReadyTimeoutError))  # whichever is seen first
        assert error in bench.errors


class TestNoReceipt:
    """``client.not_delivered``, with both outcomes."""

    @pytest.mark.parametrize("method", ["send", "ask", "stream"])
    def test_message_without_a_receipt_is_of_unknown_fate(self, method: str, bench: Bench) -> None:
        session = started(bench, timeouts=short(delivery=0.5))
        bench.faults.add("message.dropped")

        def call() -> object:
            result = getattr(session, method)("lost")
            return list(result) if method == "stream" else result

        error = raised(call)
        assert isinstance(error, DeliveryError)
        assert error.outcome == "unknown"
        (message,) = [message for message in session.messages if message.text == "lost"]
        assert message.delivery is Delivery.FAILED
        assert error.client_event_id == message.client_event_id
        assert [call["message"] for call in bench.recorder.calls("on_delivery")] == [message]
        assert bench.codes == ["client.not_delivered"]
        assert session.ask("and now?").text == "You said: and now?"

    def test_dropped_message_beside_answered_heartbeats_looks_like_a_rate_limit(
        self, make_bench: Callable[..., Bench]
    ) -> None:
        bench = make_bench(capabilities={"heartbeat_interval_seconds": 1})
        session = started(bench, timeouts=short(delivery=1.5))
        bench.faults.add("message.dropped")
        error = raised(session.send, "lost")
        assert isinstance(error, DeliveryError)
        (limit,) = [call["limit"] for call in bench.recorder.calls("on_rate_limit")]
        assert (limit.surface, limit.certain, limit.retry_after) == ("websocket", False, None)

    def test_late_receipt_turns_a_failure_into_a_success(self, bench: Bench) -> None:
        session = started(bench, timeouts=short(delivery=0.3))
        bench.faults.add("message.echo_delayed", delay=0.8)
        assert isinstance(raised(session.send, "slow"), DeliveryError)
        wait_until(lambda: session.messages[-1].role == "agent" and len(session.messages) == 3)
        assert [message.delivery for message in session.messages if message.role == "user"] == [Delivery.DELIVERED]
        deliveries = [call["message"].delivery for call in bench.recorder.wait_for("on_delivery", 2)]
        assert deliveries == [Delivery.FAILED, Delivery.DELIVERED]

    @pytest.mark.parametrize("method", ["send", "ask"])
    def test_replay_without_the_message_proves_that_it_was_not_received(self, method: str, bench: Bench) -> None:
        asked: list[str] = []

        class NoResend:
            name = "no-resend"

            @hookimpl
            def resend(self, message: Any) -> bool:
                asked.append(message.text)
                return False

        session = started(bench, plugins=[NoResend(), bench.recorder, bench.backoff, bench.reconnect])
        bench.faults.add("message.dropped_then_drop")
        error = raised(getattr(session, method), "cancel my order")
        assert isinstance(error, DeliveryError)
        assert error.outcome == "not_received"
        assert asked == ["cancel my order"]
        assert bench.codes == ["client.connection_dropped", "client.not_delivered"]
        assert bench.peer.transcript == (("agent", "Hello!"),)
        (failed,) = bench.recorder.calls("on_delivery")
        assert failed["message"].delivery is Delivery.FAILED

    def test_proved_message_is_sent_again_under_its_id(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("message.dropped_then_drop")
        assert session.ask("cancel my order").text == "You said: cancel my order"
        sends = [call["event"] for call in bench.recorder.calls("on_send") if call["event"].payload.get("text")]
        assert len(sends) == 2
        assert sends[0].custom == sends[1].custom
        assert len(bench.recorder.calls("resend")) == 1
        assert len(bench.recorder.calls("on_delivery")) == 1

    def test_received_message_is_not_sent_again(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("message.echo_lost_then_drop")
        assert session.ask("cancel my order").text == "You said: cancel my order"
        accepted = [event for event in bench.peer.received if event["type"].endswith("USER_MESSAGE")]
        assert len(accepted) == 1
        assert bench.recorder.calls("resend") == []

    @pytest.mark.parametrize("method", ["send", "ask"])
    def test_connection_lost_before_the_receipt_leaves_the_fate_unknown(self, method: str, bench: Bench) -> None:
        session = bench.bare().start_session()
        session.next_message()
        bench.faults.add("message.dropped_then_drop")
        error = raised(getattr(session, method), "lost")
        assert isinstance(error, DeliveryError)
        assert error.outcome == "unknown"
        assert isinstance(error.__cause__, ConnectionLostError)
        assert isinstance(error.__cause__.__cause__, ConnectionDroppedError)
        assert sorted(bench.codes) == ["client.connection_dropped", "client.connection_lost", "client.not_delivered"]
        assert session.status is SessionStatus.FAILED

    def test_message_sent_while_the_connection_is_away_is_simply_sent_later(self, bench: Bench) -> None:
        session = started(bench, plugins=[HookRecorder("slow", reconnect_delay=0.1), bench.recorder])
        bench.peer.drop()
        wait_until(lambda: session.status is SessionStatus.RECONNECTING)
        assert session.ask("are you there?").text == "You said: are you there?"
        assert bench.recorder.calls("resend") == []


class TestWaits:
    """Time-outs: which error each call raises, and that the session stays usable."""

    def test_reply_that_comes_late_is_the_next_message(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.slow", delay=1)
        with within(0.9):
            error = raised(session.ask, "hello", timeout=0.1)
        assert isinstance(error, ReplyTimeoutError)
        assert isinstance(error, TimeoutError)
        assert session.next_message().text == "You said: hello"
        assert session.ask("again").text == "You said: again"

    @pytest.mark.parametrize("limits", [{"delivery": 0.1, "reply": 0.2}])
    def test_left_out_time_limit_is_the_sum_of_the_phases(self, limits: dict[str, float], bench: Bench) -> None:
        session = started(bench, timeouts=short(**limits))
        bench.faults.add("agent.silent")
        began = time.monotonic()
        assert isinstance(raised(session.ask, "hello"), ReplyTimeoutError)
        assert 0.3 <= time.monotonic() - began < 1.5

    def test_stream_without_a_reply_times_out(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.silent")
        stream = session.stream("hello", timeout=0.1)
        assert isinstance(raised(next, stream), ReplyTimeoutError)
        assert stream.reply is None
        assert session.ask("again").text == "You said: again"

    def test_agent_that_does_not_join_is_not_waited_for_for_ever(self, bench: Bench) -> None:
        bench.faults.add("start.no_join")
        with within(1.5):
            error = raised(bench.client(timeouts=short(ready=0.3)).start_session)
        assert isinstance(error, ReadyTimeoutError)
        wait_until(lambda: bench.emulator.connections == 0)  # and its connection is closed
        assert bench.ends == []

    def test_join_without_an_agent_times_out_and_the_connection_stays(self, bench: Bench) -> None:
        session = bench.client().start_session(join=False)
        bench.faults.add("start.no_join")
        assert isinstance(raised(session.join, timeout=0.2), ReadyTimeoutError)
        assert session.status is SessionStatus.OPEN
        session.join()
        assert session.ask("hello").text == "You said: hello"

    def test_resume_that_gets_no_history_times_out(self, bench: Bench) -> None:
        client = bench.client()
        state = client.start_session(join=False).state
        bench.faults.add("start.no_join")
        with within(1.5):
            error = raised(client.resume_session, state, timeout=0.5)
        assert isinstance(error, ReadyTimeoutError)

    def test_events_time_out_for_each_event_and_go_on(self, bench: Bench) -> None:
        session = started(bench)
        events = session.events(timeout=0.05)
        for _ in range(2):
            error = raised(next, events)
            assert type(error) is WaitTimeoutError
        session.send("hello")
        assert next(events).type == "EVENT_TYPE_USER_MESSAGE"

    def test_time_limit_of_none_waits(self, bench: Bench) -> None:
        session = started(bench, timeouts=short(reply=0.1, delivery=0.1))
        bench.faults.add("agent.slow", delay=0.4)
        assert session.ask("hello", timeout=None).text == "You said: hello"

    @pytest.mark.parametrize("timeout", [-1, float("nan")])
    def test_time_limit_that_is_none_is_a_value_error(self, timeout: float, bench: Bench) -> None:
        session = started(bench)
        for call in (session.next_message, session.wait_ended, session.join, session.end):
            with pytest.raises(ValueError, match="timeout"):
                call(timeout=timeout)

    def test_time_limit_of_a_wrong_type_is_a_type_error(self, bench: Bench) -> None:
        session = started(bench)
        with pytest.raises(TypeError, match="timeout"):
            session.ask("hello", timeout="5")  # type: ignore[arg-type] # it is the point


class TestOver:
    """Calls on a session that is over."""

    def calls(self, session: Session) -> dict[str, Callable[[], object]]:
        return {
            "send": lambda: session.send("hello?"),
            "send without waiting": lambda: session.send("hello?", wait=False),
            "ask": lambda: session.ask("hello?"),
            "stream": lambda: next(session.stream("hello?")),
            "typing": session.typing,
            "join": session.join,
            "next_message": session.next_message,
        }

    def test_everything_says_why_it_ended(self, bench: Bench) -> None:
        session = started(bench)
        bench.peer.end("REASON_NATURAL_END")
        session.wait_ended(timeout=2)
        for name, call in self.calls(session).items():
            error = raised(call)
            assert isinstance(error, SessionEndedError), name
            assert error.reason == EndReason.NATURAL_END, name
        assert session.wait_ended() == session.end() == EndReason.NATURAL_END
        assert list(session.events()) == []

    def test_everything_says_that_it_was_closed(self, bench: Bench) -> None:
        session = started(bench)
        session.close()
        for name, call in {
            **self.calls(session),
            "end": session.end,
            "wait_ended": session.wait_ended,
        }.items():
            assert isinstance(raised(call), SessionClosedError), name
        assert list(session.events()) == []

    def test_closed_client_makes_no_session(self, bench: Bench) -> None:
        client = bench.client()
        state = client.start_session().state
        client.close()
        assert isinstance(raised(client.start_session), SessionClosedError)
        assert isinstance(raised(client.resume_session, state), SessionClosedError)

    def test_unread_messages_can_still_be_read_after_the_end(self, bench: Bench) -> None:
        session = bench.client().start_session()
        session.end()
        assert session.next_message().text == "Hello!"
        assert isinstance(raised(session.next_message), SessionEndedError)


class TestProtocol:
    """``client.protocol``: raised where it stops a call, else told."""

    STOPPING = (
        ("token.missing", "access_token"),
        ("token.not_json", "access_token"),
        ("session_create.no_id", "session_create"),
        ("session_create.not_json", "session_create"),
        ("connect.answered_200", "connect"),
    )
    DROPPING: tuple[tuple[str, dict[str, Any]], ...] = (
        ("wire.binary_frame", {}),
        ("wire.oversize_frame", {}),
        ("wire.oversize_frame", {"claim": 10_000_000_000}),
        ("wire.invalid_utf8", {}),
    )
    SKIPPED = ("wire.broken_json", "wire.deep_json", "wire.not_object", "wire.absurd_numbers")

    @pytest.mark.parametrize(("fault", "leg"), STOPPING)
    def test_answer_that_is_none_stops_the_call(self, fault: str, leg: str, bench: Bench) -> None:
        bench.faults.add(fault)
        error = raised(bench.client().start_session)
        assert isinstance(error, ProtocolError)
        assert (error.code, error.surface, error.retryable) == ("client.protocol", leg, False)
        assert bench.errors == [error]

    @pytest.mark.parametrize(("fault", "options"), DROPPING)
    def test_frame_that_may_not_be_ends_the_connection(self, fault: str, options: dict[str, Any], bench: Bench) -> None:
        session = started(bench)
        bench.faults.add(fault, event="POLY_AGENT_THINKING", **options)
        with within(2):
            assert session.ask("hello").text == "You said: hello"
        assert bench.codes == ["client.protocol", "client.connection_dropped"]
        assert bench.peer.connections_total == 2

    @pytest.mark.parametrize("fault", SKIPPED)
    def test_frame_that_is_no_event_is_skipped_and_told(self, fault: str, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add(fault, event="POLY_AGENT_THINKING")
        assert session.ask("hello").text == "You said: hello"
        assert set(bench.codes) == {"client.protocol"}
        assert bench.peer.connections_total == 1


def test_lagging_reader_is_told_how_much_it_missed(bench: Bench) -> None:
    session = started(bench, event_window=4)
    reader = session.events()
    session.ask("one two three four five six")
    session.ask("again")
    all_events = [call["event"] for call in bench.recorder.calls("on_event")]
    error = raised(next, reader)
    assert isinstance(error, LaggedError)
    before = len(all_events) - 4
    first = next(n for n, event in enumerate(all_events) if event.type == "EVENT_TYPE_USER_MESSAGE")
    assert error.missed == before - first
    with pytest.raises(StopIteration):
        next(reader)


def test_closing_lets_a_waiting_call_go(bench: Bench) -> None:
    session = started(bench)
    waiting = Caller(session.next_message)
    wait_until(waiting.is_alive)
    session.close()
    assert isinstance(raised(waiting.result, 1), SessionClosedError)
