"""The conversation's part of what has gone wrong before (``pitfalls.md`` 1 to 19), each over real sockets."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from fault_kit import IMPATIENT, Bench, Caller, raised, said, within
from line_kit import DEAF, Line
from proxy import CLOSE, HOLE, RESET, Flow, answer_with
from proxy_units import close_frame

from polyai_sync import (
    AuthenticationError,
    ConfigurationError,
    ConnectionLostError,
    ConversationNotFoundError,
    DeliveryError,
    InvalidRequestError,
    LaggedError,
    ProtocolError,
    ReadyTimeoutError,
    SessionEndedError,
    SessionState,
    SessionStatus,
    hookimpl,
)
from polyai_sync.emulator import EchoAgent, Emulator, Handoff, LiveLeave, ScriptedAgent, Stream
from polyai_sync.messages import Delivery
from polyai_sync.testing import wait_until
from polyai_sync_plugins import Reconnect

if TYPE_CHECKING:
    from tls import Authority

JOIN, MESSAGE = "REQUEST_POLY_AGENT_JOIN", "EVENT_TYPE_USER_MESSAGE"

Making = Callable[..., Any]


def asked(bench: Bench, type_: str) -> int:
    """How often the server accepted an event of a type."""
    return sum(event["type"] == f"EVENT_TYPE_{type_}" for event in bench.peer.received)


@pytest.mark.pitfall(1)
@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("http.rate_limited", {"retry_after": 0.01}),
        ("connect.too_many_connections", {"retry_after": 0.01}),
        ("http.server_error", {"status": 502, "body": "<html>Bad Gateway</html>"}),
        ("http.server_error", {"status": 503}),
        ("http.no_answer", {}),
    ],
)
def test_pitfall_01_a_refused_handshake_is_no_dead_session(fault: str, options: dict[str, Any], line: Line) -> None:
    session = line.started()
    line.bench.faults.add(fault, on="connect", **options)
    line.kill(CLOSE)
    assert session.ask("still there?").text == "You said: still there?"
    assert line.bench.emulator.sessions_created == 1
    assert line.bench.ends == []


@pytest.mark.pitfall(1)
def test_pitfall_01_nor_is_a_tls_handshake_that_fails(ca: Authority, make_line: Callable[..., Line]) -> None:
    line = make_line(tls=ca)
    session = line.started(plugins=[line.bench.recorder, Reconnect(base=0.2)])
    context, line.proxy.tls = line.proxy.tls, None
    dropped = line.proxy.accepted
    line.proxy.on_accept(answer_with(b"HTTP/1.1 400 Bad Request\r\n\r\n"), connection=dropped + 1)
    line.kill(CLOSE)
    line.proxy.wait_accepted(dropped + 1)
    line.proxy.tls = context
    assert session.ask("still there?").text == "You said: still there?"
    assert line.bench.codes == ["client.connection_dropped", "client.connect_failed"]
    assert line.bench.ends == []


@pytest.mark.pitfall(2)
def test_pitfall_02_a_dead_token_ends_the_session_and_no_fresh_one_is_tried(line: Line) -> None:
    session = line.started()
    state = session.state
    line.bench.emulator.revoke_tokens()
    line.kill(RESET)
    with within(2):
        assert isinstance(raised(session.ask, "still there?"), AuthenticationError)
    assert session.status is SessionStatus.ENDED
    with within(2):
        assert isinstance(raised(line.client().resume_session, state), AuthenticationError)
    assert line.bench.emulator.tokens_minted == 1
    assert line.bench.emulator.sessions_created == 1


@pytest.mark.pitfall(3)
def test_pitfall_03_one_copy_of_a_message_is_outstanding_and_no_more(line: Line) -> None:
    """Lost three times over, and each time with another message behind it."""
    session = line.started()
    lost = [line.proxy.strike("up", MESSAGE, RESET) for _ in range(3)]
    first = Caller(session.ask, "cancel my order")
    second = Caller(session.send, "please")
    assert first.result().text == "You said: cancel my order"
    second.result()
    assert [strike.fired for strike in lost] == [1, 1, 1]
    spoken = [text for role, text in line.bench.peer.transcript if role == "user"]
    assert sorted(spoken) == ["cancel my order", "please"]
    written: Counter[tuple[int, str]] = Counter()  # (which socket, which message)
    sockets = 0
    for hook, arguments in line.bench.recorder.all_calls:
        sockets += hook == "on_connect"
        if hook == "on_send" and arguments["event"].type == MESSAGE:
            written[sockets, arguments["event"].custom["client_event_id"]] += 1
    assert sockets == 4
    assert len({client_event_id for _, client_event_id in written}) == 2
    assert max(written.values()) == 1, "one copy a socket"


@pytest.mark.pitfall(3)
def test_pitfall_03_nothing_is_sent_again_before_the_replay_is_over(line: Line) -> None:
    session = line.started()
    line.bench.faults.add("history.late", delay=0.3, on="history")
    line.bench.faults.add("heartbeat.dropped")
    strike = line.proxy.strike("down", MESSAGE, RESET)  # it arrived; only its echo is lost
    assert session.ask("cancel my order").text == "You said: cancel my order"
    assert strike.fired
    assert asked(line.bench, "USER_MESSAGE") == 1
    assert len([call for call in line.bench.recorder.calls("on_send") if call["event"].type == MESSAGE]) == 1


@pytest.mark.pitfall(4)
def test_pitfall_04_a_send_without_a_receipt_is_of_unknown_fate_until_a_late_echo(line: Line) -> None:
    session = line.started()
    line.proxy.set("down", Flow(hole=True))
    error = raised(session.send, "is this on?", timeout=0.2)
    assert isinstance(error, DeliveryError)
    assert error.outcome == "unknown"
    assert session.messages[-1].delivery is Delivery.FAILED
    line.proxy.heal()
    wait_until(lambda: session.messages[1].delivery is Delivery.DELIVERED)
    told = line.bench.recorder.wait_for("on_delivery", 2)
    assert [call["message"].delivery for call in told] == ["FAILED", "DELIVERED"]


@pytest.mark.pitfall(4)
def test_pitfall_04_only_a_replay_proves_that_it_was_not_received(line: Line) -> None:
    class Never:
        name = "never"

        @hookimpl
        def resend(self) -> bool:
            return False

    session = line.started(plugins=[Never(), line.bench.recorder, line.bench.reconnect])
    line.proxy.strike("up", MESSAGE, RESET)
    error = raised(session.send, "is this on?")
    assert isinstance(error, DeliveryError)
    assert error.outcome == "not_received"
    assert asked(line.bench, "USER_MESSAGE") == 0


@pytest.mark.pitfall(5)
def test_pitfall_05_a_history_in_pieces_is_no_reason_to_join_again(line: Line) -> None:
    state = line.started().state
    line.bench.faults.add("history.split", size=1, times=None)
    session = line.client().resume_session(evolve(state, cursor=0, joined=False))
    assert session.ask("still there?").text == "You said: still there?"
    assert asked(line.bench, JOIN) == 1


@pytest.mark.pitfall(5)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_pitfall_05_a_join_whose_socket_died_is_asked_for_again_if_it_was_lost(direction: Any, line: Line) -> None:
    strike = line.proxy.strike(direction, JOIN, RESET)
    session = line.started()
    assert strike.fired
    assert session.agent is not None
    assert asked(line.bench, JOIN) == 1


@pytest.mark.pitfall(6)
def test_pitfall_06_a_missing_conversation_is_joined_again_once_and_no_more(line: Line) -> None:
    session = line.started()
    line.bench.faults.add("session.conversation_not_found", times=None)
    with within(3):
        assert isinstance(raised(session.ask, "anybody?"), ConversationNotFoundError)
    assert asked(line.bench, JOIN) == 2
    assert asked(line.bench, "USER_MESSAGE") == 2


@pytest.mark.pitfall(6)
def test_pitfall_06_an_error_from_before_the_call_is_not_acted_on(line: Line) -> None:
    session = line.started()
    line.bench.peer.emit(
        "SYSTEM_MESSAGE", {"level": "SYSTEM_MESSAGE_LEVEL_ERROR", "message": "Error: Conversation not found"}
    )
    line.bench.recorder.wait_for("on_error")
    assert session.ask("anybody?").text == "You said: anybody?"
    assert asked(line.bench, JOIN) == 1


@pytest.mark.pitfall(6)
def test_pitfall_06_one_that_happened_while_the_client_was_away_does_count(line: Line) -> None:
    session = line.started()
    line.bench.faults.add("agent.no_response", metadata=False)
    line.proxy.strike("down", "Sorry, I'm having trouble", RESET)
    assert raised(session.ask, "anybody?").code == "agent.no_response"


@pytest.mark.pitfall(7)
def test_pitfall_07_a_session_start_without_a_timestamp_starts_the_session(line: Line) -> None:
    line.bench.faults.add("wire.no_timestamp", on="history", times=None)
    session = line.started()
    assert session.ask("well?").text == "You said: well?"


@pytest.mark.pitfall(7)
def test_pitfall_07_a_session_start_that_never_comes_is_not_waited_for_for_ever(line: Line) -> None:
    line.bench.faults.add("history.never", times=None)
    with within(1.5):
        error = raised(line.client(timeouts=evolve(IMPATIENT, ready=0.5)).start_session)
    assert isinstance(error, ReadyTimeoutError)


@pytest.mark.pitfall(8)
def test_pitfall_08_junk_in_a_batch_costs_only_itself(line: Line) -> None:
    first = line.started()
    first.ask("remember me")
    line.bench.faults.add("wire.junk_in_batch")
    session = line.client().resume_session(first.state, history=True)
    assert said(session) == line.bench.peer.transcript
    assert [type(error) for error in line.bench.errors] == [ProtocolError]


@pytest.mark.pitfall(8)
def test_pitfall_08_one_odd_value_leaves_the_rest_of_the_metadata(line: Line) -> None:
    session = line.started()
    line.bench.faults.add("wire.odd_metadata", event="USER_MESSAGE")
    message = session.send("tell me", custom={"page": "menu"})
    assert message.delivery is Delivery.DELIVERED
    assert message.custom["page"] == "menu"


WORDS = ("Schmet", "ter", "ling", ", ", "so  ", "it is")


@pytest.mark.pitfall(9)
@pytest.mark.parametrize("fault", ["stream.repeated_chunk", "stream.out_of_order", "stream.zero_based"])
def test_pitfall_09_chunks_are_joined_verbatim_each_once(fault: str, make_line: Making) -> None:
    line = make_line(agent=ScriptedAgent(Stream(WORDS)))
    session = line.started()
    line.bench.faults.add(fault)
    with session.stream("a word?") as stream:
        text = "".join(stream)
    assert stream.reply is not None
    assert text == stream.reply.text == "Schmetterling, so  it is"


@pytest.mark.pitfall(9)
def test_pitfall_09_streams_that_interleave_do_not_cut_each_other(make_line: Making) -> None:
    line = make_line(agent=ScriptedAgent(Stream(WORDS)))
    session = line.started()
    line.bench.faults.add("stream.interleaved", text="One moment.")
    reply = session.ask("a word?", settle=0.2)
    assert sorted(message.text for message in reply.messages) == ["One moment.", "Schmetterling, so  it is"]
    assert all(message.complete for message in reply.messages)


@pytest.mark.pitfall(9)
def test_pitfall_09_an_abandoned_stream_stays_out_of_the_next_message(make_line: Making) -> None:
    line = make_line(agent=ScriptedAgent("half of this is never said", "whole"))
    session = line.started()
    line.bench.faults.add("stream.abandoned")
    assert raised(session.ask, "first", timeout=0.3).code == "client.reply_timeout"
    reply = session.ask("second")
    assert [message.text for message in reply.messages if message.complete] == ["whole"]
    halves = [message for message in session.messages if message.text.startswith("half")]
    assert len(halves) == 1
    assert not halves[0].complete


@pytest.mark.pitfall(10)
def test_pitfall_10_history_has_the_servers_times_and_is_marked(line: Line) -> None:
    first = line.started()
    first.ask("when was this?")
    session = line.client().resume_session(first.state, history=True)
    events = [event for event in line.bench.peer.journal if event["type"] == MESSAGE]
    (message,) = [message for message in session.messages if message.role == "user"]
    assert message.timestamp == datetime.fromisoformat(events[0]["timestamp"].replace("Z", "+00:00"))
    assert all(message.replayed for message in session.messages)
    assert not session.ask("and now?").messages[0].replayed


@pytest.mark.pitfall(11)
@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("REASON_USER_END", "REASON_USER_END"),
        ("REASON_USER_ABANDONED", "REASON_USER_ABANDONED"),
        ("REASON_NATURAL_END", "REASON_NATURAL_END"),
        ("user_ended", "REASON_USER_END"),
        ("agent_ended", "REASON_NATURAL_END"),
        ("normal", "REASON_NATURAL_END"),
        (None, "REASON_UNKNOWN"),
        ("on_fire", "on_fire"),
    ],
)
def test_pitfall_11_the_documented_words_for_the_end_are_known(word: str | None, reason: str, line: Line) -> None:
    session = line.started()
    line.bench.peer.end(word)
    assert session.wait_ended(3) == session.end_reason == reason


@pytest.mark.pitfall(12)
def test_pitfall_12_close_1000_alone_is_the_end(line: Line) -> None:
    session = line.started()
    line.bench.faults.add("agent.silent")
    asking = Caller(session.ask, "anybody?")
    wait_until(lambda: session.messages[-1].delivery is Delivery.DELIVERED and len(session.messages) == 2)
    line.bench.peer.drop(1000)
    with pytest.raises(SessionEndedError):
        asking.result(1)
    assert session.end_reason == "CLOSED_BY_SERVER"


@pytest.mark.pitfall(12)
def test_pitfall_12_the_old_sockets_late_1000_ends_nothing(line: Line) -> None:
    session = line.started()
    old = line.socket.ordinal
    line.kill(HOLE)
    line.back(session, 2, timeout=4)
    line.proxy.inject(close_frame(1000), connection=old)
    assert session.ask("still there?").text == "You said: still there?"
    assert session.status is SessionStatus.OPEN


@pytest.mark.pitfall(13)
def test_pitfall_13_a_live_agent_who_leaves_is_not_the_end(make_line: Making) -> None:
    line = make_line(agent=ScriptedAgent([Handoff()], [LiveLeave()], "I am back."))
    session = line.started()
    assert session.ask("a person, please").handoff is not None
    wait_until(lambda: session.live_agent)
    session.send("bye")
    wait_until(lambda: session.live_agent is None)
    assert session.status is SessionStatus.OPEN
    assert session.ask("anybody?").text == "I am back."


@pytest.mark.pitfall(14)
def test_pitfall_14_a_slow_reader_is_told_what_it_missed_and_nothing_else_is_lost(line: Line) -> None:
    session = line.started(event_window=20)
    slow, fast = session.events(), session.events()
    for number in range(10):
        session.ask(str(number))
        for event in fast:
            if event.raw["type"].endswith("CHUNK") and event.is_complete:  # type: ignore[attr-defined]
                break
    with pytest.raises(LaggedError) as caught:
        next(slow)
    assert caught.value.missed > 0
    assert said(session) == line.bench.peer.transcript
    assert session.state.cursor == line.bench.peer.journal[-1]["sequence"]


@pytest.mark.pitfall(15)
def test_pitfall_15_a_server_that_accepts_and_drops_is_not_hammered_for_ever(line: Line) -> None:
    session = line.started()
    line.bench.faults.add("accept_then_drop", times=None)
    line.kill(RESET)
    with pytest.raises(ConnectionLostError):
        session.wait_ended(5)
    assert line.bench.emulator.handshakes == 1 + 5  # the first, and as many as the server allows
    delays = [delay for delay in line.bench.reconnect.answers if delay is not None]
    assert all(later > earlier for earlier, later in zip(delays[::2], delays[2::2], strict=False))


@pytest.mark.pitfall(16)
def test_pitfall_16_a_half_open_socket_is_noticed(line: Line) -> None:
    session = line.started()
    line.kill(DEAF)  # what the client says still arrives; TCP acknowledges it all
    with within(2.5 + 0.5):
        line.bench.recorder.wait_for("on_disconnect", timeout=4)
    line.back(session, 2)


@pytest.mark.pitfall(16)
def test_pitfall_16_no_heartbeat_is_saved_up_for_the_next_socket(line: Line) -> None:
    class Patient:
        name = "reconnect"

        @hookimpl
        def reconnect_delay(self) -> float:
            return 2.2  # two heartbeats long

    session = line.started(plugins=[line.bench.recorder, Patient()])
    line.kill(RESET)
    before = asked(line.bench, "HEARTBEAT")
    line.back(session, 2)
    assert asked(line.bench, "HEARTBEAT") == before + 1, "the one that follows the handshake"


@pytest.mark.pitfall(17)
def test_pitfall_17_a_state_is_of_one_service_and_holds_its_own_token(line: Line) -> None:
    text = line.started().state.to_json()
    with Emulator(agent=EchoAgent()) as other, other.client() as stranger:
        assert isinstance(raised(stranger.resume_session, SessionState.from_json(text)), ConfigurationError)
        assert other.log == ()
    session = line.client().resume_session(SessionState.from_json(text))
    assert session.ask("it is me").text == "You said: it is me"
    assert line.bench.emulator.tokens_minted == 1


@pytest.mark.pitfall(18)
def test_pitfall_18_an_end_is_not_over_before_the_server_has_it(line: Line) -> None:
    session = line.started()
    line.proxy.set("up", Flow(delay=0.3))
    assert session.end() == "REASON_USER_END"
    assert line.bench.peer.end_reason == "REASON_USER_END"  # which it sets before it says so


@pytest.mark.pitfall(18)
def test_pitfall_18_no_ladder_brings_back_a_session_that_was_ended(line: Line) -> None:
    session = line.started()
    line.proxy.refuse()
    line.kill(RESET)
    line.bench.recorder.wait_for("on_disconnect")
    assert session.end(timeout=1) is None
    assert session.status is SessionStatus.ENDED
    wait_until(
        lambda: not [one for one in threading.enumerate() if one.name.startswith("polyai-") and "emu" not in one.name]
    )
    accepted = line.proxy.accepted
    line.proxy.listen()
    assert raised(session.ask, "hello?").code == "client.session_ended"
    assert line.proxy.accepted == accepted
    assert line.bench.emulator.handshakes == 1


@pytest.mark.pitfall(19)
@pytest.mark.parametrize(
    ("fault", "kind", "shape"),
    [
        ("session_create.malformed_body", InvalidRequestError, "message"),
        ("session_create.malformed_authorization", AuthenticationError, "nested"),
        ("access_token.host_mismatch", AuthenticationError, "detail"),
        ("access_token.unknown_connector", AuthenticationError, "text"),
        ("connect.invalid_parameters", InvalidRequestError, "error_message"),
    ],
)
def test_pitfall_19_the_body_of_a_refusal_says_what_is_wrong(fault: str, kind: type, shape: str, line: Line) -> None:
    line.bench.faults.add(fault, shape=shape, times=None)
    error = raised(line.client().start_session)
    assert error.code == fault
    assert isinstance(error, kind)


@pytest.mark.pitfall(19)
def test_pitfall_19_a_stale_access_token_is_replaced_and_no_wrong_connector_token(line: Line) -> None:
    line.bench.faults.add("token.expired")
    session = line.started()
    assert session.ask("well?").text == "You said: well?"
    assert line.bench.codes == ["session_create.invalid_token"]
    assert line.bench.emulator.tokens_minted == 2
