"""`Session.ask`, `send`, `choose`, `typing`, `join`: what is sent, and what ends an ask (api.md)."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from fault_kit import Bench, Caller, come_back, raised, said, short, started, within

from polyai_sync import (
    AgentError,
    ConnectionLostError,
    ConversationNotFoundError,
    DeliveryError,
    HandoffError,
    ReplyTimeoutError,
    SessionEndedError,
    SessionNotFoundError,
    SystemMessageError,
)
from polyai_sync.emulator import (
    ClientHandoff,
    EchoAgent,
    Emit,
    End,
    Handoff,
    HandoffFailed,
    HandoffTimedOut,
    LiveSay,
    Pause,
    Say,
    ScriptedAgent,
    Turn,
    image,
    link,
)
from polyai_sync.event_log import EventLog
from polyai_sync.messages import Delivery, EndReason, HandoffStatus, Suggestion
from polyai_sync.testing import HookRecorder, wait_until
from polyai_sync.transport.websocket import WebSocketConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from polyai_sync import Session
    from polyai_sync.events import Event
    from polyai_sync.transport.waker import Waker

ERROR = "SYSTEM_MESSAGE_LEVEL_ERROR"
NO_RESPONSE = "Sorry, I'm having trouble responding right now. Please try again."


def sent(bench: Bench) -> list[str]:
    types = [event["type"].removeprefix("EVENT_TYPE_") for event in bench.peer.received]
    return [name for name in types if name != "HEARTBEAT"]


def received(session: Session) -> bool:
    """Has the latest message of the user its receipt?"""
    own = [message for message in session.messages if message.role == "user"]
    return bool(own) and own[-1].delivery is Delivery.DELIVERED


class TestReply:
    @pytest.mark.parametrize("streaming", [True, False])
    def test_whole_message_after_the_receipt_is_the_reply(self, streaming: bool, bench: Bench) -> None:
        session = started(bench, streaming=streaming)
        reply = session.ask("hello")
        assert reply.text == "You said: hello"
        assert reply.complete
        assert not reply.ended
        assert reply.handoff is None
        assert reply.messages == session.messages[-1:]

    def test_it_is_returned_before_the_rest_of_its_event_is_seen_to(
        self, make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = make_bench(agent=ScriptedAgent([Pause(0.2), "You said: hello"]))  # when the call waits
        session = started(bench, plugins=[], streaming=False)  # no plugin to be told before
        events = session.events()
        reached, go_on = threading.Event(), threading.Event()
        extend, receive = EventLog.extend, WebSocketConnection.receive

        def in_time(connection: WebSocketConnection, timeout: float | None, waker: Waker) -> list[str] | None:
            frames = receive(connection, timeout, waker)
            if any("AGENT_MESSAGE" in frame for frame in frames or ()):
                wait_until(lambda: session._engine.sleepers.bells)
            return frames

        def held_up(log: EventLog, new: Sequence[Event]) -> None:
            if any(event.type.endswith("AGENT_MESSAGE") for event in new):
                reached.set()
                assert go_on.wait(10)
            extend(log, new)

        monkeypatch.setattr(WebSocketConnection, "receive", in_time)
        monkeypatch.setattr(EventLog, "extend", held_up)
        try:
            assert session.ask("hello").text == "You said: hello"
            assert reached.wait(5)
            looking = Caller(lambda: session.messages[-1].text)
            reading = Caller(lambda: [next(events).type for _ in range(3)][-1])
            looking.join(0.05)
            assert looking.is_alive()  # what is read of the session waits for all of it
        finally:
            go_on.set()
        assert looking.result(5) == "You said: hello"
        assert reading.result(5) == "EVENT_TYPE_POLY_AGENT_MESSAGE"

    def test_all_that_came_with_it_can_be_read_at_once(self, bench: Bench) -> None:
        session = started(bench, plugins=[], streaming=False)
        events = session.events(timeout=0)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for number in range(100):
                reply = session.ask(str(number))
                assert reply.messages == session.messages[-1:]
                assert [next(events).type for _ in range(3)][-1] == "EVENT_TYPE_POLY_AGENT_MESSAGE"
                assert session.state.cursor == reply.messages[-1].sequence
        finally:
            sys.setswitchinterval(interval)

    def test_reply_holds_all_that_its_messages_hold(self, make_bench: Callable[..., Bench]) -> None:
        links = [link("Menu", "https://example.com/menu"), image("Map", "https://example.com/map.png")]
        calls = [{"title": "Call us", "contact_number": "+44 20 7946 0000"}]
        answer = Say("**Two** ways.", attachments=links, suggestions=["Yes", {"message_text": "No", "payload": 7}])
        bench = make_bench(agent=ScriptedAgent(answer, Say("Or call.", call_actions=calls)))
        session = started(bench)
        reply = session.ask("how?")
        assert [attachment.title for attachment in reply.attachments] == ["Menu", "Map"]
        assert [attachment.is_image for attachment in reply.attachments] == [False, True]
        assert reply.suggestions == (Suggestion(message_text="Yes"), Suggestion(message_text="No", payload=7))
        assert reply.plain_text() == "Two ways."
        (action,) = session.ask("or?").messages[0].call_actions
        assert (action.title, action.contact_number) == ("Call us", "+44 20 7946 0000")

    def test_quiet_gathers_further_messages(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent(["One.", Pause(0.1), "Two.", Pause(0.1), "Three."], repeat=True))
        session = started(bench)
        reply = session.ask("count", settle=0.4)
        assert reply.text == "One.\n\nTwo.\n\nThree."
        assert [message.text for message in reply.messages] == ["One.", "Two.", "Three."]

    def test_without_settle_the_rest_is_for_next_message(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent(["One.", Pause(0.05), "Two."], "Three."))
        session = started(bench)
        assert session.ask("count").text == "One."
        assert session.next_message().text == "Two."
        assert session.ask("and?").text == "Three."

    def test_end_of_time_ends_the_gathering(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent(["One.", Pause(0.1), "Two."], repeat=True))
        session = started(bench)
        with within(1.5):
            assert session.ask("count", settle=30, timeout=0.4).text == "One.\n\nTwo."

    def test_message_of_a_live_agent_is_a_reply(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent([Handoff(agent_name="Sam"), LiveSay("Sam here.")], LiveSay("Sure.")))
        session = started(bench)
        session.ask("a person, please")
        reply = session.ask("can you help?")
        (message,) = reply.messages
        assert (message.role, message.text, message.agent_name) == ("live_agent", "Sure.", "Sam")

    def test_message_before_the_receipt_is_no_answer(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("message.echo_delayed", delay=0.15)
        asking = Caller(session.ask, "hello")
        wait_until(lambda: "USER_MESSAGE" in sent(bench))
        bench.peer.emit("LIVE_AGENT_MESSAGE", {"message_id": "early", "text": "By the way"}, sequence=None)
        assert asking.result().text == "You said: hello"
        assert session.next_message().text == "By the way"


class TestHandoff:
    def test_client_handoff_without_a_message_is_a_reply(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent(ClientHandoff("POLICY", "Desk", route="https://example.com/desk")))
        session = started(bench)
        began = time.monotonic()
        reply = session.ask("a person, please")
        assert 1 <= time.monotonic() - began < 3  # at least a second for a message to come along
        assert reply.text == ""
        assert reply.handoff is not None
        assert reply.handoff.status is HandoffStatus.CLIENT_REQUIRED
        assert reply.handoff == session.handoff
        handoff = reply.handoff
        assert (handoff.reason, handoff.queue_name, handoff.route) == ("POLICY", "Desk", "https://example.com/desk")

    def test_handoff_that_a_message_announces_comes_with_it(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent([ClientHandoff(), "Somebody will call you."]))
        reply = started(bench).ask("a person, please")
        assert reply.text == "Somebody will call you."
        assert reply.handoff is not None
        assert reply.handoff.status is HandoffStatus.CLIENT_REQUIRED

    def test_server_handoff_is_told_step_by_step(self, make_bench: Callable[..., Bench]) -> None:
        agent = ScriptedAgent([Handoff("Desk", positions=(2, 1), agent_name="Sam"), LiveSay("Sam here.")])
        bench = make_bench(agent=agent)
        session = started(bench)
        reply = session.ask("a person, please")
        assert reply.text == "Sam here."
        assert reply.handoff is not None
        assert reply.handoff.status is HandoffStatus.LIVE
        steps = [call["handoff"] for call in bench.recorder.calls("on_handoff")]
        assert [step.status.value for step in steps] == ["TRIGGERED", "ACCEPTED", "QUEUED", "QUEUED", "LIVE"]
        assert [step.position for step in steps[2:4]] == [2, 1]
        assert steps[2].estimated_wait_seconds == 120
        assert steps[2].display_message == "You are number 2."
        assert session.live_agent is not None
        assert session.live_agent.name == "Sam"
        assert session.agent is None

    @pytest.mark.parametrize(
        ("action", "status"),
        [(HandoffFailed("no one"), HandoffStatus.FAILED), (HandoffTimedOut("late"), HandoffStatus.TIMED_OUT)],
    )
    def test_failed_handoff_is_no_end(
        self, action: Any, status: HandoffStatus, make_bench: Callable[..., Bench]
    ) -> None:
        bench = make_bench(agent=ScriptedAgent([action, "Let me try myself."], "Gladly."))
        session = started(bench)
        reply = session.ask("a person, please")
        assert reply.text == "Let me try myself."
        assert reply.handoff is not None
        assert reply.handoff.status is status
        assert session.ask("thanks").text == "Gladly."

    def test_next_turns_have_no_handoff_of_their_own(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent([HandoffFailed(), "Let me try myself."], "Gladly."))
        session = started(bench)
        session.ask("a person, please")
        assert session.ask("thanks").handoff is None


class TestError:
    def test_error_tied_to_the_send_ends_its_ask(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.no_response")
        error = raised(session.ask, "hello")
        assert isinstance(error, AgentError)
        (message,) = [message for message in session.messages if message.role == "user"]
        assert error.client_event_id == message.client_event_id

    @pytest.mark.parametrize("method", ["ask", "next_message"])
    def test_error_tied_to_none_ends_the_call_that_waited_longest(self, method: str, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.silent", times=None)
        first = Caller(session.ask, "hello") if method == "ask" else Caller(session.next_message)
        if method == "ask":
            wait_until(lambda: received(session))
        else:
            wait_until(lambda: session._engine.conversation.lines._waiters)
        second = Caller(session.next_message, timeout=0.5) if method == "ask" else Caller(session.ask, "x", timeout=0.5)
        wait_until(lambda: second.is_alive() and (method == "ask" or received(session)))
        if method == "ask":
            wait_until(lambda: session._engine.conversation.lines._waiters)
        bench.peer.emit("SYSTEM_MESSAGE", {"level": ERROR, "message": "The kitchen printer is on fire."})
        assert isinstance(raised(first.result), SystemMessageError)
        assert isinstance(raised(second.result), ReplyTimeoutError)
        assert bench.codes.count("system.unknown") == 1

    def test_error_tied_to_another_connections_send_is_not_ours(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.slow", delay=0.2)
        asking = Caller(session.ask, "hello")
        wait_until(lambda: received(session))
        custom = {"custom": {"client_event_id": str(uuid.uuid4())}}
        bench.peer.emit("SYSTEM_MESSAGE", {"level": ERROR, "message": NO_RESPONSE}, custom)
        assert asking.result().text == "You said: hello"
        assert bench.codes == ["agent.no_response"]

    def test_error_tied_to_an_earlier_send_is_not_this_asks(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.no_response", delay=0.1)
        bench.faults.add("agent.slow", delay=0.2)
        earlier = session.send("without waiting for an answer")
        asking = Caller(session.ask, "hello")
        assert asking.result().text == "You said: hello"
        (error,) = bench.errors
        assert error.client_event_id == earlier.client_event_id

    def test_error_from_before_the_call_is_not_its_own(self, bench: Bench) -> None:
        session = started(bench)
        bench.peer.emit("SYSTEM_MESSAGE", {"level": ERROR, "message": NO_RESPONSE})
        bench.recorder.wait_for("on_error")
        assert session.ask("hello").text == "You said: hello"

    def test_error_that_came_while_away_counts(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.silent")
        asking = Caller(session.ask, "hello")
        wait_until(lambda: received(session))
        bench.peer.emit("SYSTEM_MESSAGE", {"level": ERROR, "message": NO_RESPONSE}, live=False)
        bench.peer.drop()
        assert raised(asking.result).code == "agent.no_response"

    def test_error_in_the_history_of_a_resumed_session_is_older_than_the_call(self, bench: Bench) -> None:
        session = started(bench)
        state = session.state
        session.close()
        bench.peer.emit("SYSTEM_MESSAGE", {"level": ERROR, "message": NO_RESPONSE}, live=False)
        with bench.client().resume_session(state) as again:
            assert again.ask("hello").text == "You said: hello"
        assert bench.codes == ["agent.no_response"]

    def test_policies_are_asked_before_it_is_raised(self, bench: Bench) -> None:
        recorder = HookRecorder("again", retry_delay=lambda attempt, **_: 0.0 if attempt < 3 else None)
        session = started(bench, plugins=[recorder], load_plugins=False)
        bench.faults.add("agent.no_response", times=2)
        assert session.ask("hello").text == "You said: hello"
        asked = [(call["operation"], call["error"].code, call["attempt"]) for call in recorder.calls("retry_delay")]
        assert asked == [("ask", "agent.no_response", 1), ("ask", "agent.no_response", 2)]
        assert [text for role, text in said(session) if role == "user"] == ["hello"] * 3

    def test_retry_is_not_begun_past_the_deadline(self, bench: Bench) -> None:
        recorder = HookRecorder("later", retry_delay=5.0)
        session = started(bench, plugins=[recorder], load_plugins=False)
        bench.faults.add("agent.no_response")
        with within(1.5):
            assert isinstance(raised(session.ask, "hello", timeout=2), AgentError)

    def test_own_id_is_used_for_the_first_try_only(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.overloaded")
        session.ask("hello", custom={"client_event_id": "mine", "order": "7"})
        asked = [message for message in session.messages if message.role == "user"]
        assert asked[0].client_event_id == "mine"
        assert asked[1].client_event_id not in ("mine", None)
        assert [message.custom["order"] for message in asked] == ["7", "7"]

    def test_handoff_error_leaves_the_conversation_usable(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("handoff.no_live_agent")
        assert isinstance(raised(session.ask, "a person"), HandoffError)
        assert session.ask("hello").text == "You said: hello"

    def test_missing_conversation_is_mended_once(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("session.conversation_not_found", times=None)
        assert isinstance(raised(session.ask, "hello"), ConversationNotFoundError)
        assert sent(bench).count("REQUEST_POLY_AGENT_JOIN") == 2  # bound every recovery (pitfalls.md 6)
        assert sent(bench).count("USER_MESSAGE") == 2


class TestEnd:
    def test_reply_that_ends_the_session_says_so(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent(["Goodbye.", End()]))
        reply = started(bench).ask("bye", settle=1)
        assert (reply.text, reply.ended, reply.complete) == ("Goodbye.", True, True)

    def test_half_a_message_is_a_reply_when_the_session_ends(self, make_bench: Callable[..., Bench]) -> None:
        chunk = {"message_id": "m", "text": "I was ab", "chunk_index": 1, "is_complete": False}
        bench = make_bench(agent=ScriptedAgent([Emit("POLY_AGENT_MESSAGE_CHUNK", chunk), End()]))
        reply = started(bench).ask("hello")
        assert (reply.text, reply.ended, reply.complete) == ("I was ab", True, False)

    def test_end_without_a_message_is_raised(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent(End("REASON_USER_ABANDONED")))
        error = raised(started(bench).ask, "hello")
        assert isinstance(error, SessionEndedError)
        assert error.reason == EndReason.USER_ABANDONED

    @pytest.mark.parametrize("method", ["ask", "send"])
    def test_end_before_the_receipt_is_raised_and_the_message_failed(self, method: str, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("message.dropped")
        asking = Caller(getattr(session, method), "hello")
        wait_until(lambda: session.messages[-1].role == "user")
        bench.peer.end()
        assert isinstance(raised(asking.result), SessionEndedError)
        assert session.messages[-1].delivery is Delivery.FAILED
        assert [call["message"].delivery for call in bench.recorder.calls("on_delivery")] == [Delivery.FAILED]
        assert bench.codes == ["client.session_ended"]

    def test_unknown_session_is_raised_as_such(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.silent")
        asking = Caller(session.ask, "hello")
        wait_until(lambda: received(session))
        bench.peer.expire()
        assert isinstance(raised(asking.result), SessionNotFoundError)


class TestLost:
    def test_connection_given_up_after_the_receipt_is_raised(self, bench: Bench) -> None:
        session = bench.bare().start_session()
        session.next_message()
        bench.faults.add("agent.silent")
        asking = Caller(session.ask, "hello")
        wait_until(lambda: [message.delivery for message in session.messages] == ["DELIVERED"] * 2)
        bench.peer.drop()
        error = raised(asking.result)
        assert isinstance(error, ConnectionLostError)
        assert session.messages[-1].delivery is Delivery.DELIVERED

    def test_whole_reply_in_hand_is_returned_all_the_same(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent("One."))
        session = bench.bare().start_session()
        session.next_message()
        asking = Caller(session.ask, "count", settle=30, timeout=60)
        wait_until(lambda: len(session.messages) == 3 and session.messages[-1].complete)
        bench.peer.drop()
        assert asking.result().text == "One."

    def test_drop_with_the_reply_behind_it_is_nothing(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.slow", delay=0.2)
        asking = Caller(session.ask, "hello")
        wait_until(lambda: received(session))
        come_back(bench, session)
        assert asking.result().text == "You said: hello"


class TestLine:
    """Several threads ask one session."""

    def test_they_are_served_in_order_of_arrival(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.slow", delay=0.1)
        asking: list[Caller] = []
        for number in range(8):
            asking.append(Caller(session.ask, f"question {number}"))
            wait_until(lambda: len(session._engine.conversation.lines.all_turns()) == len(asking))
        assert [caller.result().text for caller in asking] == [f"You said: question {number}" for number in range(8)]
        questions = [text for role, text in bench.peer.transcript if role == "user"]
        assert questions == [f"question {number}" for number in range(8)]

    def test_each_gets_its_own_answer(self, bench: Bench) -> None:
        session = started(bench)

        def ask(name: int) -> bool:
            return all(session.ask(f"{name}-{turn}").text == f"You said: {name}-{turn}" for turn in range(10))

        callers = [Caller(ask, name) for name in range(6)]
        assert all(caller.result(20) for caller in callers)
        assert said(session) == bench.peer.transcript

    def test_time_spent_in_the_line_counts(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.slow", delay=0.4)
        first = Caller(session.ask, "slow")
        wait_until(lambda: received(session))
        error = raised(session.ask, "hurried", timeout=0.1)
        assert isinstance(error, DeliveryError)
        assert error.outcome == "not_received"  # it was never sent
        assert first.result().text == "You said: slow"
        assert "hurried" not in [text for _, text in bench.peer.transcript]

    def test_failed_ask_lets_the_next_one_go(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.silent")
        first = Caller(session.ask, "silence", timeout=0.2)
        wait_until(lambda: received(session))
        second = Caller(session.ask, "hello")
        assert isinstance(raised(first.result), ReplyTimeoutError)
        assert second.result().text == "You said: hello"


class TestSend:
    def test_returns_with_the_receipt(self, bench: Bench) -> None:
        session = started(bench)
        message = session.send("hello", custom={"order": "7"})
        assert message.delivery is Delivery.DELIVERED
        assert message.message_id
        assert message.sequence
        assert message.timestamp is not None
        assert message.role == "user"
        assert message.custom["order"] == "7"
        assert uuid.UUID(message.client_event_id).version == 4
        assert session.next_message().text == "You said: hello"

    def test_without_waiting_it_is_pending(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("message.echo_delayed", delay=0.1)
        message = session.send("hello", wait=False)
        assert message.delivery is Delivery.PENDING
        assert message.message_id == ""
        assert session.messages[-1] == message
        bench.recorder.wait_for("on_delivery")
        wait_until(lambda: [m.delivery for m in session.messages if m.role == "user"] == [Delivery.DELIVERED])

    def test_text_goes_out_as_it_is(self, bench: Bench) -> None:
        session = started(bench)
        texts = ["  blanks kept  ", "two\nlines", "ünïcödé 🍕 \u2028", "</script>", '"quoted" \\', "\u0000"]
        for text in texts:
            session.send(text)
        assert [event["payload"] for event in bench.peer.received if event["type"].endswith("R_MESSAGE")] == [
            {"text": text} for text in texts
        ]

    def test_frames_hold_what_the_protocol_asks_for(self, bench: Bench) -> None:
        session = started(bench)
        session.send("hello", custom={"order": "7"})
        (event,) = [event for event in bench.peer.received if event["type"] == "EVENT_TYPE_USER_MESSAGE"]
        assert event.keys() == {"type", "payload", "metadata"}
        assert event["metadata"]["custom"].keys() == {"order", "client_event_id"}
        assert bench.peer.refused == ()

    @pytest.mark.parametrize("custom", ["text", ["a"], {"a": 1}, {1: "a"}, {"a": None}, 7])
    def test_custom_maps_str_to_str(self, custom: Any, bench: Bench) -> None:
        session = started(bench)
        for call in (session.send, session.ask, session.stream):
            with pytest.raises(TypeError, match="custom"):
                call("hello", custom=custom)
        assert sent(bench).count("USER_MESSAGE") == 0

    @pytest.mark.parametrize("text", [None, 7, b"bytes", ["text"]])
    def test_text_is_a_str(self, text: Any, bench: Bench) -> None:
        session = started(bench)
        for call in (session.send, session.ask, session.stream):
            with pytest.raises(TypeError, match="text"):
                call(text)

    def test_own_id_is_used_once(self, bench: Bench) -> None:
        session = started(bench)
        custom = {"client_event_id": "mine"}
        assert session.send("hello", custom=custom).client_event_id == "mine"
        for call in (session.send, session.ask):
            with pytest.raises(ValueError, match="mine"):
                call("again", custom=custom)
        assert custom == {"client_event_id": "mine"}
        assert session.ask("hello").text == "You said: hello"

    def test_lone_surrogate_is_a_value_error(self, bench: Bench) -> None:
        session = started(bench)
        with pytest.raises(ValueError, match="surrogate"):
            session.send("\ud800")
        assert session.ask("hello").text == "You said: hello"

    def test_many_at_once_keep_their_order(self, bench: Bench) -> None:
        session = started(bench)
        texts = [f"message {number}" for number in range(50)]
        for text in texts:
            session.send(text, wait=False)
        bench.recorder.wait_for("on_delivery", 50)
        assert [text for role, text in bench.peer.transcript if role == "user"] == texts
        wait_until(lambda: said(session) == bench.peer.transcript)


class TestChoose:
    def test_sends_the_suggestions_text(self, make_bench: Callable[..., Bench]) -> None:
        def agent(turn: Turn) -> object:
            return Say("Which?", suggestions=["The red one"]) if turn.greeting else EchoAgent()(turn)

        bench = make_bench(agent=agent)
        session = started(bench)
        (suggestion,) = session.messages[0].suggestions
        assert session.choose(suggestion).text == "You said: The red one"

    def test_takes_a_suggestion_only(self, bench: Bench) -> None:
        session = started(bench)
        with pytest.raises(TypeError, match="Suggestion"):
            session.choose("The red one")  # type: ignore[arg-type] # it is the point


class TestTyping:
    def typed(self, bench: Bench) -> list[str]:
        events = [event for event in bench.peer.received if event["type"] == "EVENT_TYPE_USER_TYPING"]
        return [event["payload"]["state"].removeprefix("TYPING_STATE_") for event in events]

    def test_is_told_once_however_many_keys(self, bench: Bench) -> None:
        session = started(bench)
        for _ in range(50):
            session.typing()
        session.typing(False)
        session.send("hello")
        assert self.typed(bench) == ["STARTED", "STOPPED"]

    def test_stops_with_a_send(self, bench: Bench) -> None:
        session = started(bench)
        session.typing()
        session.send("hello")
        assert sent(bench)[-3:] == ["USER_TYPING", "USER_TYPING", "USER_MESSAGE"]
        assert self.typed(bench) == ["STARTED", "STOPPED"]

    def test_stop_without_a_start_is_nothing(self, bench: Bench) -> None:
        session = started(bench)
        session.typing(False)
        session.send("hello")
        assert self.typed(bench) == []

    def test_is_forgotten_while_there_is_no_connection(self, bench: Bench) -> None:
        session = started(bench, plugins=[HookRecorder("slow", reconnect_delay=0.1), bench.recorder])
        bench.peer.drop()
        wait_until(lambda: session.status == "RECONNECTING")
        session.typing()
        wait_until(lambda: session.status == "OPEN")
        session.send("hello")
        assert self.typed(bench) == []

    def test_stops_by_itself_after_five_seconds(self, bench: Bench) -> None:
        session = started(bench)
        session.typing()
        began = time.monotonic()
        wait_until(lambda: self.typed(bench) == ["STARTED", "STOPPED"], timeout=7)
        assert time.monotonic() - began >= 4.5


class TestJoin:
    def test_asks_again_and_returns_at_the_join(self, bench: Bench) -> None:
        session = started(bench)
        session.join()
        assert sent(bench) == ["REQUEST_POLY_AGENT_JOIN"] * 2
        assert session.next_message().text == "Hello!"

    def test_its_greeting_is_no_answer(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("start.slow_greeting", delay=0.2)
        session.join()
        assert session.ask("hello").text == "You said: hello"
        assert session.next_message().text == "Hello!"

    def test_silent_agent_does_not_hold_questions_back_for_ever(self, bench: Bench) -> None:
        session = started(bench, timeouts=short(greeting=0.2))
        bench.faults.add("start.no_greeting")
        session.join()
        with within(1.5):
            assert session.ask("hello").text == "You said: hello"

    def test_brings_an_agent_back_after_a_client_handoff(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent(["Bye.", ClientHandoff()], "I am back."))
        session = started(bench)
        session.ask("a person, please")
        wait_until(lambda: session.agent is None)
        session.join()
        assert session.agent is not None
        assert session.ask("hello").text == "I am back."

    def test_failure_is_raised_when_the_policies_give_up(self, bench: Bench) -> None:
        session = bench.bare().start_session(join=False)
        bench.faults.add("agent.start_failed")
        error = raised(session.join)
        assert isinstance(error, AgentError)
        assert error.code == "agent.start_failed"
        session.join()

    def test_goes_on_across_a_drop(self, bench: Bench) -> None:
        session = bench.client().start_session(join=False)
        bench.faults.add("start.join_lost")
        session.join()
        assert session.agent is not None
        assert sent(bench) == ["REQUEST_POLY_AGENT_JOIN"]
