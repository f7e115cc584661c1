"""Errors that the server reports in the conversation: what they are, and which call gets them (errors.md, api.md)."""

from __future__ import annotations

from typing import Any

import pytest
from protocol_kit import Talk

from polyai_sync.catalog import CATALOG, CatalogEntry, make_error
from polyai_sync.errors import (
    AgentError,
    ConnectionLostError,
    ConversationNotFoundError,
    HandoffError,
    InvalidEventError,
    PolyAIError,
    ProtocolError,
    RateLimitError,
    SystemMessageError,
)
from polyai_sync.events import SystemMessage
from polyai_sync.messages import Delivery, SessionStatus

NO_RESPONSE = "Sorry, I'm having trouble responding right now. Please try again."
NO_CONVERSATION = "Error: Conversation not found"
NOT_FORWARDED = "Failed to forward message to live agent"
UNKNOWN_EVENT = "Unknown event type or invalid message format"

ROWS = [entry for entry in CATALOG if entry.surface == "websocket" and entry.text]
LIVING = [entry for entry in ROWS if entry.code != "session.not_found"]


def tied(talk: Talk, text: str, place: int = -1) -> dict[str, Any]:
    """An error that echoes the metadata of one of the messages that were written."""
    return talk.server.error(text, custom=talk.sent("USER_MESSAGE")[place]["metadata"]["custom"])


def codes(talk: Talk) -> list[str]:
    """The errors that plugins were told of."""
    return [error.code for error in talk.hooks("on_error")]


# --- what it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ROWS, ids=lambda entry: entry.code)
def test_system_message_of_level_error_is_the_error_of_its_row(entry: CatalogEntry) -> None:
    talk = Talk().ready()
    text = f"{entry.text}HEARTBEAT_ECHO" if entry.match == "prefix" else str(entry.text)
    talk.receive(talk.server.error(text, custom={"client_event_id": "x", "order": "12"}))
    (error,) = talk.hooks("on_error")
    assert type(error) is entry.exception
    assert (error.code, error.message, error.surface, error.retryable) == (
        entry.code,
        text,
        "websocket",
        entry.retryable,
    )
    assert error.client_event_id == "x"
    assert isinstance(error.event, SystemMessage)
    assert error.event.custom == {"client_event_id": "x", "order": "12"}
    assert error.event.raw["payload"]["message"] == text


def test_words_of_no_row_are_an_error_all_the_same() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.error("The moon is full."))
    assert isinstance(turn.error, SystemMessageError)
    assert (turn.error.code, turn.error.message, turn.error.retryable) == ("system.unknown", "The moon is full.", False)


@pytest.mark.parametrize("level", ["SYSTEM_MESSAGE_LEVEL_INFO", "SYSTEM_MESSAGE_LEVEL_WARNING", "NEW", None])
def test_info_or_warning_is_an_event_and_never_an_error(level: str | None) -> None:
    talk = Talk().ready()
    turn, waiter = talk.asked(), talk.waiter()
    talk.receive(talk.server.event("SYSTEM_MESSAGE", {"level": level, "message": NO_RESPONSE}))
    assert (turn.error, waiter.error, codes(talk)) == (None, None, [])
    assert talk.types()[-1] == "SYSTEM_MESSAGE"


@pytest.mark.parametrize("entry", LIVING, ids=lambda entry: entry.code)
def test_connection_stays_open(entry: CatalogEntry) -> None:
    talk = Talk().ready()
    talk.receive(talk.server.error(str(entry.text)))
    assert talk.conversation.status is SessionStatus.OPEN
    talk.asked()
    talk.receive(talk.server.agent("for two"))
    assert talk.said()[-1] == "for two"


# --- which call gets it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("received", [True, False])
def test_error_tied_to_a_question_is_raised_by_its_ask(received: bool) -> None:
    talk = Talk().ready()
    waiter = talk.wait(1).waiter()
    turn = talk.ask()
    if received:
        talk.echo_last("USER_MESSAGE")
    talk.receive(tied(talk, NO_RESPONSE))
    assert isinstance(turn.error, AgentError)
    assert turn.error.client_event_id == "ours-1"
    assert waiter.error is None  # though it has waited longer


@pytest.mark.parametrize("whose", ["an earlier question's", "a plain send's", "another tab's", "our heartbeat's"])
def test_error_tied_to_something_else_is_not_raised_by_an_ask(whose: str) -> None:
    talk = Talk().ready()
    if whose == "an earlier question's":
        talk.asked("before")
        talk.receive(talk.server.agent("So it is."))
    elif whose == "a plain send's":
        talk.send("before")
    turn, waiter = talk.asked(), talk.waiter()
    ids = {
        "another tab's": "theirs",
        "our heartbeat's": talk.sent("HEARTBEAT")[0]["metadata"]["custom"]["client_event_id"],
    }
    custom = {"client_event_id": ids.get(whose, "ours-1")}
    talk.receive(talk.server.error(NO_RESPONSE, custom=custom))
    assert (turn.error, waiter.error) == (None, None)
    assert codes(talk) == ["agent.no_response"]


def test_error_tied_to_none_is_raised_by_the_call_that_has_waited_longest() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    waiter = talk.wait(1).waiter()
    in_line = talk.ask("later")
    talk.receive(talk.server.error(NO_RESPONSE))
    assert isinstance(turn.error, AgentError)
    assert (waiter.error, in_line.error) == (None, None)


def test_another_call_that_has_waited_longer_than_the_ask_gets_it() -> None:
    talk = Talk().ready()
    waiter = talk.waiter()
    turn = talk.wait(1).asked()
    talk.receive(talk.server.error(NO_RESPONSE))
    assert isinstance(waiter.error, AgentError)
    assert turn.error is None


def test_error_is_raised_once_plugins_were_told_of_it() -> None:
    talk = Talk().ready()
    waiter = talk.waiter()
    talk.receive(talk.server.error(NO_CONVERSATION))
    assert [name for name, _ in talk.told] == ["on_event", "on_error"]
    assert waiter.done_at == talk.conversation.notices.position


@pytest.mark.pitfall(6)
def test_each_error_ends_one_call_and_each_call_gets_one_error() -> None:
    talk = Talk().ready()
    first, second = talk.waiter(), talk.wait(1).waiter()
    talk.receive(talk.server.error(NO_CONVERSATION))
    assert isinstance(first.error, ConversationNotFoundError)
    assert second.error is None
    talk.receive(talk.server.error(NO_RESPONSE))
    assert isinstance(first.error, ConversationNotFoundError)
    assert isinstance(second.error, AgentError)


def test_call_that_has_its_error_keeps_it_whatever_comes_next() -> None:
    talk = Talk().ready()
    waiter = talk.waiter()
    talk.receive(talk.server.error(NO_CONVERSATION)).drop(1000)
    assert isinstance(waiter.error, ConversationNotFoundError)


def test_call_that_no_longer_waits_gets_nothing() -> None:
    talk = Talk().ready()
    left, stays = talk.waiter(), talk.wait(1).waiter()
    talk.conversation.lines.stop_waiting(left)
    talk.receive(talk.server.error(NO_RESPONSE))
    assert left.error is None
    assert stays.error is not None


def test_question_that_is_still_in_line_has_no_share_in_errors() -> None:
    talk = Talk().ready().join_again()  # its greeting holds questions back
    turn = talk.ask()
    talk.receive(talk.server.error(NO_RESPONSE))
    assert turn.error is None


def test_with_no_call_waiting_plugins_and_readers_are_told_and_nothing_is_raised_later() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.error(NO_RESPONSE))
    assert codes(talk) == ["agent.no_response"]
    assert talk.types() == ["SYSTEM_MESSAGE"]
    turn = talk.asked()
    talk.receive(talk.server.agent("for two"))
    assert turn.error is None


# --- when it happened -------------------------------------------------------------------------------------------------


@pytest.mark.pitfall(6)
def test_error_is_told_once_however_often_it_is_sent() -> None:
    talk = Talk().ready()
    waiter = talk.waiter()
    error = talk.server.error(NO_CONVERSATION)
    talk.receive(error)
    waiter.error = None  # its caller tries again, and waits on
    talk.receive(error).drop().again(error)
    assert waiter.error is None
    assert codes(talk) == ["session.conversation_not_found"]


@pytest.mark.pitfall(6)
@pytest.mark.parametrize("behind", [0, 1])
def test_error_whose_place_was_passed_is_none_of_a_younger_calls_business(behind: int) -> None:
    talk = Talk().ready()
    talk.receive(talk.server.user("one"), talk.server.user("two"))
    turn, waiter = talk.ask(), talk.waiter()
    talk.receive(talk.server.error(NO_CONVERSATION, sequence=talk.server.sequence - behind))
    assert (turn.error, waiter.error) == (None, None)
    assert codes(talk) == ["session.conversation_not_found"]


@pytest.mark.pitfall(6)
def test_error_that_happened_while_the_client_was_away_counts_for_those_who_waited_already() -> None:
    talk = Talk().ready()
    waited = talk.asked()
    talk.wait(1).drop()
    younger = talk.wait(1).waiter()
    talk.again(talk.server.error(NO_RESPONSE))
    assert isinstance(waited.error, AgentError)
    assert younger.error is None


@pytest.mark.pitfall(6)
def test_error_of_a_replay_is_not_for_a_call_that_began_after_the_drop() -> None:
    talk = Talk().ready().drop()
    waiter = talk.wait(1).waiter()
    talk.again(talk.server.error(NO_CONVERSATION))
    assert waiter.error is None
    talk.receive(talk.server.error(NO_CONVERSATION))
    assert waiter.error is not None


def test_errors_in_the_history_of_a_resumed_session_end_nothing() -> None:
    talk = Talk().ready()
    errors = [talk.server.error(text) for text in (NO_RESPONSE, "Error: Session not found", NO_CONVERSATION)]
    again = talk.resume().open()
    waiter = again.waiter()
    again.history(*errors).beat()
    assert waiter.error is None
    assert again.conversation.status is SessionStatus.OPEN
    assert len(codes(again)) == 3


# --- what follows -----------------------------------------------------------------------------------------------------


def test_message_whose_event_was_refused_has_failed_and_is_never_sent_again() -> None:
    talk = Talk().ready()
    sent = talk.send("hi")
    talk.receive(tied(talk, UNKNOWN_EVENT))
    assert sent.message.delivery is Delivery.FAILED
    assert isinstance(sent.refused_by, InvalidEventError)
    assert codes(talk) == ["event.unknown"]  # one error, not two
    assert len(talk.hooks("on_delivery")) == 1
    talk.drop().again().wait(30, echoing=True)
    assert talk.texts_sent() == ["hi"]
    assert codes(talk) == ["event.unknown"]


@pytest.mark.parametrize("text", [NO_RESPONSE, NOT_FORWARDED])
def test_other_errors_leave_the_receipt_to_come(text: str) -> None:
    talk = Talk().ready()
    sent = talk.send("hi")
    talk.receive(tied(talk, text))
    assert sent.message.delivery is Delivery.PENDING
    assert sent.refused_by is not None
    talk.echo_last("USER_MESSAGE")
    assert sent.message.delivery is Delivery.DELIVERED


def test_failed_turn_lets_the_next_one_ask() -> None:
    talk = Talk().ready()
    first, second = talk.asked("one"), talk.ask("two")
    talk.receive(tied(talk, NOT_FORWARDED))
    assert isinstance(first.error, HandoffError)
    assert talk.texts_sent() == ["one", "two"]
    talk.echo_last("USER_MESSAGE").receive(talk.server.agent("2"))
    assert second.reply is not None


def test_error_that_comes_after_the_reply_spoils_nothing() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.agent("for two"), tied(talk, NO_RESPONSE))
    assert turn.error is None
    assert turn.reply is not None


def test_too_many_requests_are_told_as_a_rate_limit_too() -> None:
    talk = Talk()
    error = make_error("connect.too_many_connections", retry_after=7.0, status=429, surface="connect")
    talk.conversation.report(error)
    talk.conversation.report(error)
    talk.open()
    assert isinstance(error, RateLimitError)
    assert talk.hooks("on_error") == [error]
    (limit,) = talk.hooks("on_rate_limit")
    assert (limit.surface, limit.retry_after, limit.certain, limit.error) == ("connect", 7.0, True, error)


# --- what is no event at all ------------------------------------------------------------------------------------------


@pytest.mark.pitfall(8, 33)
@pytest.mark.parametrize("junk", ["", "no JSON", "[]", "1", '{"type":', "[" * 5000, '{"a":' * 5000 + "1" + "}" * 5000])
def test_broken_frame_is_reported_once_and_skipped_and_the_connection_stays(junk: str) -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.text(junk)
    assert [type(error) for error in talk.hooks("on_error")] == [ProtocolError]
    assert turn.error is None
    talk.receive(talk.server.agent("for two"))
    assert turn.reply is not None


@pytest.mark.pitfall(8)
def test_junk_in_a_batch_costs_no_neighbour_and_is_one_report() -> None:
    talk = Talk().open()
    start, agent = talk.server.start(), talk.server.agent("Hello!")
    agent["payload"]["attachments"] = [None, {"title": "Menu"}]
    talk.receive(talk.server.batch(None, start, 7, agent, "x"))
    assert talk.types() == ["SESSION_START", "POLY_AGENT_MESSAGE"]
    assert [attachment.title for attachment in talk.messages[0].attachments] == ["Menu"]
    (error,) = talk.hooks("on_error")
    assert isinstance(error, ProtocolError)
    assert "3 more" in error.message


def test_error_that_ends_several_calls_is_a_copy_for_each_with_all_that_it_holds() -> None:
    talk = Talk().ready()
    waiters = [talk.waiter(), talk.waiter()]
    error = make_error("client.connection_lost", attempts=3)
    error.__cause__ = OSError("reset")
    talk.lose(error)
    copies: list[PolyAIError | None] = [waiter.error for waiter in waiters]
    assert len({id(copy) for copy in (error, *copies)}) == 3
    for copy in copies:
        assert isinstance(copy, ConnectionLostError)
        assert (copy.code, copy.message, copy.attempts) == (error.code, error.message, 3)
        assert copy.__cause__ is error.__cause__
