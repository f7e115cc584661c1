"""`Client.resume_session`: the same conversation, later or elsewhere (api.md, protocol.md §7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fault_kit import Bench, come_back, raised, said, started, within

from polyai_sync import AuthenticationError, ConfigurationError, SessionNotFoundError, SessionState, SessionStatus
from polyai_sync.emulator import ClientHandoff, Emulator, Handoff, Language, LiveSay, ScriptedAgent
from polyai_sync.messages import EndReason, HandoffStatus
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync import Session


def stored(session: Session) -> SessionState:
    """The state as another process would have it."""
    return SessionState.from_json(session.state.to_json())


def joins(bench: Bench) -> int:
    return sum(event["type"].endswith("REQUEST_POLY_AGENT_JOIN") for event in bench.peer.received)


def left(bench: Bench) -> SessionState:
    """A session with a question and its answer behind it, left by its process."""
    session = started(bench)
    session.ask("first")
    state = stored(session)
    session.close()
    bench.recorder.clear()
    return state


class TestLater:
    def test_conversation_goes_on_where_it_was(self, bench: Bench) -> None:
        state = left(bench)
        with bench.client().resume_session(state) as session:
            assert session.session_id == state.session_id
            assert session.status is SessionStatus.OPEN
            assert session.agent == state.agent
            assert session.agent is not None
            assert session.capabilities == state.capabilities
            assert session.messages == ()  # what is behind the cursor was handed on before
            assert session.ask("second").text == "You said: second"
            assert said(session) == bench.peer.transcript[-2:]
        assert bench.emulator.tokens_minted == bench.emulator.sessions_created == 1
        assert joins(bench) == 1
        handshake = bench.emulator.log[-1]
        assert handshake.query["cursor"] == str(state.cursor)
        assert [call["cursor"] for call in bench.recorder.calls("on_connect")] == [state.cursor]

    def test_what_happened_meanwhile_is_new(self, bench: Bench) -> None:
        state = left(bench)
        bench.peer.act("Are you still there?")
        with bench.client().resume_session(state) as session:
            message = session.next_message()
            assert message.text == "Are you still there?"
            assert message.replayed
            assert message.timestamp is not None
        told = [call["message"].text for call in bench.recorder.calls("on_message")]
        assert told == ["Are you still there?"]

    def test_old_events_reach_nobody_whatever_the_server_replays(self, bench: Bench) -> None:
        state = left(bench)
        bench.faults.add("history.full_replay")
        with bench.client().resume_session(state) as session:
            session.ask("second")
            assert [call["message"].text for call in bench.recorder.calls("on_message")] == [
                "second",
                "You said: second",
            ]
            assert all(call["event"].sequence > state.cursor for call in bench.recorder.calls("on_event"))
            assert raised(session.next_message, timeout=0.05).code == "client.reply_timeout"

    def test_session_start_is_not_told_again(self, bench: Bench) -> None:
        state = left(bench)
        bench.faults.add("history.full_replay")
        bench.client().resume_session(state)
        assert bench.recorder.calls("on_session_start") == []

    def test_state_can_be_taken_at_any_time(self, bench: Bench) -> None:
        session = started(bench)
        cursors = [session.state.cursor]
        session.ask("first")
        cursors.append(session.state.cursor)
        session.close()
        cursors.append(session.state.cursor)
        assert cursors == sorted(cursors)
        assert cursors[1] == cursors[2] == bench.peer.journal[-1]["sequence"]
        state = session.state
        assert SessionState.from_json(state.to_json()) == state
        assert state.access_token not in repr(state)
        assert state.created_at is not None
        assert state.updated_at is not None
        assert state.created_at <= state.updated_at

    def test_resumed_session_can_be_resumed(self, bench: Bench) -> None:
        state = left(bench)
        for number in range(3):
            with bench.client().resume_session(state) as session:
                session.ask(f"question {number}")
                assert session.state.created_at == state.created_at
                state = stored(session)
        assert len(bench.peer.transcript) == 1 + 2 * 4
        assert joins(bench) == 1

    def test_resumed_session_survives_a_drop(self, bench: Bench) -> None:
        with bench.client().resume_session(left(bench)) as session:
            come_back(bench, session)
            assert session.ask("second").text == "You said: second"
            assert said(session) == bench.peer.transcript[-2:]

    @pytest.mark.parametrize("fault", ["history.none_on_cursor", "history.split", "history.late", "heartbeat.dropped"])
    def test_no_sign_marks_the_end_of_the_history(self, fault: str, bench: Bench) -> None:
        state = left(bench)
        bench.faults.add(fault)
        with within(2), bench.client().resume_session(state) as session:
            assert session.ask("second").text == "You said: second"
        assert joins(bench) == 1

    def test_handoff_language_and_people_are_kept(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent([Language("fr-CA"), Handoff("Front desk"), LiveSay("Sam here.")]))
        session = started(bench)
        session.ask("a person, please")
        state = stored(session)
        session.close()
        with bench.client().resume_session(state) as again:
            assert again.language == "fr-CA"
            assert again.live_agent is not None
            assert again.live_agent.name == "Sam"
            assert again.handoff.status is HandoffStatus.LIVE
            assert again.handoff.queue_name == "Front desk"
            assert again.agent is None

    def test_left_agent_is_not_asked_to_join_again(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent(["Goodbye.", ClientHandoff()]))
        session = started(bench)
        session.ask("a person, please", settle=0.1)
        state = stored(session)
        session.close()
        with bench.client().resume_session(state) as again:
            assert again.handoff.status is HandoffStatus.CLIENT_REQUIRED
        assert joins(bench) == 1


class TestWhole:
    """``history=True``: all of it again."""

    def test_transcript_is_rebuilt(self, bench: Bench) -> None:
        state = left(bench)
        bench.peer.act("Are you still there?")
        with bench.client().resume_session(state, history=True) as session:
            assert said(session) == bench.peer.transcript
            assert all(message.replayed for message in session.messages)

    def test_events_can_be_read_again(self, bench: Bench) -> None:
        state = left(bench)
        with bench.client().resume_session(state, history=True) as session:
            events = session.events(replay=True)
            read = [next(events) for _ in bench.peer.journal]
            assert [event.id for event in read] == [event["id"] for event in bench.peer.journal]

    def test_old_part_is_no_news(self, bench: Bench) -> None:
        state = left(bench)
        bench.peer.act("Are you still there?")
        with bench.client().resume_session(state, history=True) as session:
            assert session.next_message().text == "Are you still there?"
            assert raised(session.next_message, timeout=0.05).code == "client.reply_timeout"
        assert [call["message"].text for call in bench.recorder.calls("on_message")] == ["Are you still there?"]
        assert all(call["event"].sequence > state.cursor for call in bench.recorder.calls("on_event"))
        assert bench.recorder.calls("on_session_start") == []
        assert "cursor" not in bench.emulator.log[-1].query

    def test_old_errors_and_handoffs_are_no_news(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent([Handoff(), LiveSay("Sam here.")]))
        session = started(bench)
        session.ask("a person, please")
        level = "SYSTEM_MESSAGE_LEVEL_ERROR"
        bench.peer.emit("SYSTEM_MESSAGE", {"level": level, "message": "Failed to forward message to live agent"})
        bench.recorder.wait_for("on_error")
        state = stored(session)
        session.close()
        bench.recorder.clear()
        with bench.client().resume_session(state, history=True) as again:
            assert again.handoff.status is HandoffStatus.LIVE
        assert bench.errors == []
        assert bench.recorder.calls("on_handoff") == []


class TestJoin:
    def test_agent_that_never_joined_is_asked_once(self, bench: Bench) -> None:
        session = bench.client().start_session(join=False)
        state = stored(session)
        session.close()
        bench.faults.add("history.split")
        with bench.client().resume_session(state) as again:
            assert again.agent is not None
            assert again.next_message().text == "Hello!"
        assert joins(bench) == 1

    def test_nobody_is_asked_where_it_is_not_wanted(self, bench: Bench) -> None:
        session = bench.client().start_session(join=False)
        state = stored(session)
        session.close()
        with bench.client().resume_session(state, join=False) as again:
            assert again.agent is None
        assert joins(bench) == 0

    def test_history_split_over_batches_brings_no_second_join(self, bench: Bench) -> None:
        state = left(bench)
        bench.faults.add("history.full_replay")
        bench.faults.add("history.split")
        with bench.client().resume_session(state, history=True) as session:
            assert session.ask("second").text == "You said: second"
        assert joins(bench) == 1

    def test_greeting_of_the_join_is_no_answer(self, bench: Bench) -> None:
        session = bench.client().start_session(join=False)
        state = stored(session)
        session.close()
        bench.faults.add("start.slow_greeting", delay=0.2)
        with bench.client().resume_session(state) as again:
            assert again.ask("hello").text == "You said: hello"
            assert again.next_message().text == "Hello!"


class TestRefused:
    def test_dead_session_is_not_found(self, bench: Bench) -> None:
        state = left(bench)
        bench.peer.end()
        error = raised(bench.client().resume_session, state)
        assert isinstance(error, SessionNotFoundError)
        assert error.status == 404
        assert bench.errors == [error]
        assert bench.ends == [(EndReason.SESSION_NOT_FOUND, error)]
        assert bench.tries == []

    def test_dead_token_is_an_authentication_error(self, bench: Bench) -> None:
        state = left(bench)
        bench.emulator.revoke_tokens()
        error = raised(bench.client().resume_session, state)
        assert isinstance(error, AuthenticationError)
        assert bench.errors == [error]
        assert bench.ends == [(EndReason.AUTHENTICATION_FAILED, error)]
        assert bench.emulator.tokens_minted == 1

    def test_state_of_another_service_is_refused_before_anything_is_sent(self, bench: Bench) -> None:
        state = left(bench)
        with Emulator() as other:
            error = raised(other.client().resume_session, state)
            assert other.log == ()
        assert isinstance(error, ConfigurationError)
        assert bench.emulator.url in error.message
        assert other.url in error.message

    @pytest.mark.parametrize("state", [None, "a text", {"session_id": "x"}])
    def test_something_else_is_refused(self, state: object, bench: Bench) -> None:
        error = raised(bench.client().resume_session, state)
        assert isinstance(error, ConfigurationError)

    @pytest.mark.parametrize(
        "document", ["", "{}", "[]", "null", '{"format": "polyai-sync.session"}', b"\xff", "[" * 9999]
    )
    def test_damaged_document_is_refused(self, document: str | bytes) -> None:
        assert isinstance(raised(SessionState.from_json, document), ConfigurationError)

    def test_passing_refusal_is_waited_out(self, bench: Bench) -> None:
        state = left(bench)
        bench.faults.add("http.server_error", on="connect", times=2)
        with bench.client().resume_session(state) as session:
            assert session.ask("second").text == "You said: second"
        assert bench.tries == [("connect", "http.server_error", 1), ("connect", "http.server_error", 2)]
        assert bench.ends == []

    def test_ended_session_that_the_server_still_knows_ends_again_here(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(end_retention=30)
        state = left(bench)
        bench.peer.end()
        error = raised(bench.client().resume_session, state)
        assert error.code == "client.session_ended"
        assert bench.ends == [(EndReason.NATURAL_END, None)]


def test_two_connections_of_one_session_see_each_others_messages(bench: Bench) -> None:
    first = started(bench)
    with bench.client().resume_session(stored(first)) as second:
        assert first.ask("from the first").text == "You said: from the first"
        wait_until(lambda: len(second.messages) == 2 and second.messages[-1].complete)
        assert [(message.role, message.text) for message in second.messages] == [
            ("user", "from the first"),
            ("agent", "You said: from the first"),
        ]
        assert second.messages[0].delivery == "DELIVERED"
        assert second.next_message().text == "You said: from the first"
        assert second.ask("from the second").text == "You said: from the second"
        wait_until(lambda: said(first) == bench.peer.transcript)
        assert bench.peer.connections == 2
        second.close()
        assert first.ask("still here").text == "You said: still here"
