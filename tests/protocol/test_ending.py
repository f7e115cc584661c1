"""Every form of the end (protocol.md §3, §6, §7.7; architecture.md "Liveness"), and what waiting calls get."""

from __future__ import annotations

from typing import Any

import pytest
from protocol_kit import Talk

from polyai_sync.catalog import make_error
from polyai_sync.errors import (
    AuthenticationError,
    ConnectionLostError,
    PolyAIError,
    SessionClosedError,
    SessionEndedError,
    SessionNotFoundError,
)
from polyai_sync.messages import SessionStatus

CLOSED, ENDED, FAILED = SessionStatus.CLOSED, SessionStatus.ENDED, SessionStatus.FAILED


def session_end(talk: Talk, reason: Any = None, **options: Any) -> dict[str, Any]:
    return talk.server.event("SESSION_END", {"reason": reason}, **options)


def by_event(talk: Talk) -> None:
    talk.receive(session_end(talk, "REASON_NATURAL_END"))


def by_1000(talk: Talk) -> None:
    talk.drop(1000)


def by_1000_after_our_request(talk: Talk) -> None:
    talk.end().echo_last("USER_END_SESSION").drop(1000)


def by_4001(talk: Talk) -> None:
    talk.drop(4001)


def by_404(talk: Talk) -> None:
    talk.drop().refuse(make_error("connect.session_not_found"))


def by_401(talk: Talk) -> None:
    talk.drop().refuse(make_error("connect.authentication_failed"))


def by_message(talk: Talk) -> None:
    talk.receive(talk.server.error("Error: Session not found"))


def by_nobody(talk: Talk) -> None:
    talk.end(5).wait(5)


WAYS = [
    (by_event, "REASON_NATURAL_END", SessionEndedError),
    (by_1000, "CLOSED_BY_SERVER", SessionEndedError),
    (by_1000_after_our_request, "REASON_USER_END", SessionEndedError),
    (by_4001, "SESSION_NOT_FOUND", SessionNotFoundError),
    (by_404, "SESSION_NOT_FOUND", SessionNotFoundError),
    (by_401, "AUTHENTICATION_FAILED", AuthenticationError),
    (by_message, "SESSION_NOT_FOUND", SessionNotFoundError),
    (by_nobody, "UNCONFIRMED", SessionEndedError),
]
EVERY_WAY = pytest.mark.parametrize(("way", "reason", "error"), WAYS, ids=[way.__name__ for way, *_ in WAYS])


# --- every way --------------------------------------------------------------------------------------------------------


@EVERY_WAY
def test_session_is_ended_and_plugins_are_told_once(way: Any, reason: str, error: type[PolyAIError]) -> None:
    talk = Talk().ready()
    way(talk)
    assert talk.conversation.status is ENDED
    assert talk.conversation.end_reason == reason
    way(talk)
    ((told_reason, cause),) = talk.hooks("on_session_end")
    assert told_reason == reason
    assert (cause is None) is (error is SessionEndedError)
    assert cause is None or isinstance(cause, error)


@EVERY_WAY
def test_whoever_waits_is_told(way: Any, reason: str, error: type[PolyAIError]) -> None:
    talk = Talk().ready()
    waiters = [talk.waiter(), talk.waiter(), talk.asked(), talk.ask("in line")]
    way(talk)
    for waiter in waiters:
        assert type(waiter.error) is error
    assert len({id(waiter.error) for waiter in waiters}) == len(waiters)


@EVERY_WAY
def test_calls_that_come_later_are_told_the_same(way: Any, reason: str, error: type[PolyAIError]) -> None:
    talk = Talk().ready()
    assert talk.conversation.outcome() is None
    way(talk)
    first, second = talk.conversation.outcome(), talk.conversation.outcome()
    assert type(first) is type(second) is error
    assert first is not second
    if isinstance(first, SessionEndedError):
        assert first.reason == reason


@EVERY_WAY
def test_nothing_follows_the_end(way: Any, reason: str, error: type[PolyAIError]) -> None:
    talk = Talk().ready()
    way(talk)
    written, events = len(talk.written), len(talk.events)
    talk.receive(talk.server.agent("One more thing"), session_end(talk, "REASON_USER_ABANDONED"))
    talk.drop(1000).wait(1000)
    assert (len(talk.written), len(talk.events)) == (written, events)
    assert talk.conversation.due() is None
    assert talk.conversation.end_reason == reason
    assert talk.inbox() == []


@EVERY_WAY
def test_what_was_said_stays_readable(way: Any, reason: str, error: type[PolyAIError]) -> None:
    talk = Talk().ready()
    talk.receive(talk.server.agent("for two"), talk.server.chunk("s", 1, "half"))
    way(talk)
    assert talk.said() == ["Hello!", "for two", "half"]
    assert talk.inbox() == ["for two"]


# --- the server's words for it ----------------------------------------------------------------------------------------


@pytest.mark.pitfall(11)
@pytest.mark.parametrize(
    ("word", "reason"),
    [
        *((word, word) for word in ("REASON_USER_END", "REASON_USER_ABANDONED", "REASON_NATURAL_END")),
        ("user_ended", "REASON_USER_END"),
        ("agent_ended", "REASON_NATURAL_END"),
        ("normal", "REASON_NATURAL_END"),
        (None, "REASON_UNKNOWN"),
        ("", "REASON_UNKNOWN"),
        ("REASON_OF_TOMORROW", "REASON_OF_TOMORROW"),
    ],
)
def test_reason_is_the_documented_word_whichever_the_server_uses(word: str | None, reason: str) -> None:
    talk = Talk().ready()
    talk.receive(session_end(talk, word))
    assert talk.conversation.end_reason == reason
    assert isinstance(talk.conversation.end_reason, str)
    assert f"{talk.conversation.end_reason}" == reason


def test_end_in_a_batch_ends_the_batch() -> None:
    talk = Talk().ready()
    agent, end = talk.server.agent("Goodbye."), session_end(talk)
    talk.drop().again(agent, end, talk.server.agent("One more thing"))
    assert talk.types() == ["POLY_AGENT_MESSAGE", "SESSION_END"]
    assert talk.conversation.end_reason == "REASON_UNKNOWN"


def test_end_in_the_history_of_a_resumed_session_is_the_end() -> None:
    talk = Talk().ready()
    end = session_end(talk, "REASON_USER_ABANDONED")
    again = talk.resume().open()
    waiter = again.waiter()
    again.history(end)
    assert again.conversation.end_reason == "REASON_USER_ABANDONED"
    assert isinstance(waiter.error, SessionEndedError)


def test_session_that_was_lost_while_the_client_was_away_has_ended() -> None:
    talk = Talk().ready()
    talk.drop().again(talk.server.error("Error: Session not found"))
    assert talk.conversation.end_reason == "SESSION_NOT_FOUND"


# --- what is no end ---------------------------------------------------------------------------------------------------


@pytest.mark.pitfall(1, 12)
@pytest.mark.parametrize("code", [None, 1001, 1005, 1006, 1008, 1011, 1012, 4000, 4002, 4999])
def test_every_other_close_code_is_a_dropped_connection(code: int | None) -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.drop(code)
    assert talk.conversation.status is SessionStatus.RECONNECTING
    assert not turn.done
    talk.again(talk.server.agent("for two"))
    assert talk.conversation.status is SessionStatus.OPEN
    assert turn.reply is not None


@pytest.mark.pitfall(1)
@pytest.mark.parametrize(
    "code",
    [
        "http.rate_limited",
        "connect.too_many_connections",
        "connect.invalid_parameters",
        "http.server_error",
        "client.connect_failed",
    ],
)
def test_other_refusals_of_a_handshake_leave_the_session_alone(code: str) -> None:
    talk = Talk().ready().drop().refuse(make_error(code))
    assert talk.conversation.status is SessionStatus.RECONNECTING
    assert talk.hooks("on_session_end") == []


@pytest.mark.pitfall(13)
@pytest.mark.parametrize(
    "type_", ["LIVE_AGENT_LEFT", "POLY_AGENT_LEFT", "HANDOFF_FAILED", "HANDOFF_TIMEOUT", "USER_END_SESSION"]
)
def test_somebody_leaving_is_not_the_end(type_: str) -> None:
    talk = Talk().ready()
    talk.receive(talk.server.event(type_))
    assert talk.conversation.status is SessionStatus.OPEN


# --- asked for by the user --------------------------------------------------------------------------------------------


def ends(talk: Talk) -> int:
    return len(talk.sent("USER_END_SESSION"))


def test_end_is_asked_for_once_and_confirmed_by_the_server() -> None:
    talk = Talk().ready().end()
    assert [frame["payload"] for frame in talk.sent("USER_END_SESSION")] == [{}]
    assert talk.conversation.ending
    talk.echo_last("USER_END_SESSION")
    assert talk.conversation.ending
    talk.receive(session_end(talk, "REASON_USER_END"))
    assert not talk.conversation.ending
    assert talk.conversation.end_reason == "REASON_USER_END"
    assert ends(talk) == 1


@pytest.mark.pitfall(18)
def test_end_is_written_behind_the_messages_that_were_sent_before() -> None:
    talk = Talk().ready()
    talk.writable = False
    talk.send("one")
    talk.end()
    talk.writable = True
    talk.history()
    assert [frame["type"].removeprefix("EVENT_TYPE_") for frame in talk.written[-2:]] == [
        "USER_MESSAGE",
        "USER_END_SESSION",
    ]


@pytest.mark.pitfall(18)
def test_end_asked_for_offline_is_written_as_soon_as_a_socket_is_open() -> None:
    talk = Talk().ready().drop().end(30)
    assert ends(talk) == 0
    talk.open()
    assert ends(talk) == 1


def test_end_whose_socket_died_is_asked_for_again() -> None:
    talk = Talk().ready().end(30).drop().open()
    assert ends(talk) == 2


def test_end_waits_for_what_becomes_of_messages_in_doubt() -> None:
    talk = Talk().ready()
    talk.send("one")
    talk.drop().end(30).open().history()
    assert ends(talk) == 0
    talk.beat()
    assert ends(talk) == 0
    talk.resend(True)
    assert talk.texts_sent() == ["one", "one"]
    assert ends(talk) == 1


def test_end_does_not_wait_for_ever_for_a_proof() -> None:
    talk = Talk().ready()
    talk.send("one")
    talk.drop().end(30).open().history().wait(1)
    assert ends(talk) == 1
    assert talk.texts_sent() == ["one"]


@pytest.mark.pitfall(18)
def test_end_that_nobody_confirms_is_the_end_here_and_no_reconnect_brings_it_back() -> None:
    talk = Talk().ready().end(5).wait(4.99)
    assert talk.conversation.status is SessionStatus.OPEN
    talk.wait(0.01)
    assert talk.conversation.end_reason == "UNCONFIRMED"
    talk.drop().wait(100)
    assert talk.conversation.status is ENDED


def test_end_that_nobody_confirms_ends_offline_too() -> None:
    talk = Talk().ready().drop().end(5).wait(5)
    assert talk.conversation.end_reason == "UNCONFIRMED"


def test_session_that_was_given_up_can_still_be_ended() -> None:
    talk = Talk().ready().drop().lose(ConnectionLostError("given up"))
    assert talk.conversation.status is FAILED
    talk.end(30).open()
    assert ends(talk) == 1
    talk.receive(session_end(talk, "REASON_USER_END"))
    assert talk.conversation.end_reason == "REASON_USER_END"


def test_end_of_a_session_that_was_given_up_is_not_waited_for_longer_either() -> None:
    talk = Talk().ready().drop().lose(ConnectionLostError("given up")).end(5)
    assert talk.conversation.outcome() is None
    talk.wait(5)
    assert talk.conversation.end_reason == "UNCONFIRMED"


def test_close_1000_is_the_users_end_where_another_connection_asked_for_it() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.event("USER_END_SESSION")).drop(1000)
    assert talk.conversation.end_reason == "REASON_USER_END"


def test_close_1000_is_the_servers_end_where_our_request_was_not_received() -> None:
    talk = Talk().ready().end().drop(1000)
    assert talk.conversation.end_reason == "CLOSED_BY_SERVER"


# --- closed here, or given up: the conversation lives on --------------------------------------------------------------


def test_closing_ends_nothing_at_the_server() -> None:
    talk = Talk().ready()
    waiter, turn = talk.waiter(), talk.asked()
    talk.close()
    assert talk.conversation.status is CLOSED
    assert talk.hooks("on_session_end") == []
    for error in (waiter.error, turn.error, talk.conversation.outcome()):
        assert isinstance(error, SessionClosedError)
    assert ends(talk) == 0


@pytest.mark.pitfall(12)
def test_nothing_that_comes_after_closing_counts() -> None:
    talk = Talk().ready().close()
    talk.drop(1000).receive(session_end(talk)).lose(ConnectionLostError("given up")).wait(100)
    assert talk.conversation.status is CLOSED
    assert talk.conversation.due() is None
    assert talk.types() == []


def test_refusal_that_comes_after_closing_ends_nothing() -> None:
    talk = Talk().ready().drop().close().refuse(make_error("connect.session_not_found"))
    assert talk.conversation.status is CLOSED
    assert talk.hooks("on_session_end") == []


def test_closing_an_ended_session_changes_nothing() -> None:
    talk = Talk().ready().drop(1000).close()
    assert talk.conversation.status is ENDED


def test_connection_that_is_given_up_fails_every_waiting_call_and_ends_nothing() -> None:
    talk = Talk().ready()
    waiter, turn = talk.waiter(), talk.asked()
    talk.drop().lose(ConnectionLostError("given up", close_code=1006, attempts=10))
    assert talk.conversation.status is FAILED
    assert talk.hooks("on_session_end") == []
    for error in (waiter.error, turn.error, talk.conversation.outcome()):
        assert isinstance(error, ConnectionLostError)
        assert (error.close_code, error.attempts) == (1006, 10)
    assert talk.conversation.due() is None


def test_socket_that_opens_after_all_takes_the_loss_back() -> None:
    talk = Talk().ready().drop().lose(ConnectionLostError("given up")).again()
    assert talk.conversation.status is SessionStatus.OPEN
    assert talk.conversation.outcome() is None


def test_connection_that_is_given_up_is_given_up_once() -> None:
    talk = Talk().ready().drop().lose(ConnectionLostError("first")).lose(ConnectionLostError("second"))
    error = talk.conversation.outcome()
    assert error is not None
    assert error.message == "first"
