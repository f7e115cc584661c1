"""Whether the agent has to be asked to join (protocol.md §7.3, pitfalls.md 5 and 6)."""

from __future__ import annotations

from typing import Any

import pytest
from protocol_kit import Server, Talk

from polyai_sync.state import SessionState

START_FAILED = "Sorry, I'm unable to start a conversation right now. Please try again later."


def joins(talk: Talk) -> int:
    return len(talk.sent("REQUEST_POLY_AGENT_JOIN"))


def resumed(server: Server, *, joined: bool = False, **options: Any) -> Talk:
    """A session that another client has left; its socket is open."""
    state = SessionState(session_id="s", access_token="t", base_url="http://127.0.0.1", joined=joined)
    return Talk(server, state=state, **options).open()


def asked(**options: Any) -> Talk:
    """A session of our own; its agent is asked, and has not answered."""
    talk = Talk(**options).open()
    return talk.history(talk.server.start()).beat()


# --- a session of our own ---------------------------------------------------------------------------------------------


def test_session_of_our_own_asks_at_its_start_without_waiting_for_the_history() -> None:
    talk = Talk().open()
    assert joins(talk) == 0
    talk.history(talk.server.start())
    assert [frame["payload"] for frame in talk.sent("REQUEST_POLY_AGENT_JOIN")] == [{}]


def test_it_asks_once() -> None:
    talk = Talk().ready().wait(60, echoing=True)
    talk.receive(talk.server.event("POLY_AGENT_LEFT"), talk.server.start()).drop().again()
    assert joins(talk) == 1


def test_join_false_asks_nobody_and_waits_for_nobody() -> None:
    talk = asked(join=False)
    assert joins(talk) == 0
    assert talk.conversation.ready


def test_session_is_ready_once_the_agent_is_there() -> None:
    talk = asked()
    assert not talk.conversation.ready
    talk.echo_last("REQUEST_POLY_AGENT_JOIN")
    assert talk.conversation.join_received
    assert not talk.conversation.ready
    talk.receive(talk.server.joined())
    assert talk.conversation.ready
    assert (talk.conversation.joined, talk.conversation.times_joined) == (True, 1)


# --- somebody else's session: decided when the history is over --------------------------------------------------------


def splits(size: int) -> list[list[int]]:
    """Every way to cut a history of ``size`` events into batches, as the places of the cuts."""
    return [[place for place in range(1, size) if mask >> place & 1] for mask in range(0, 2**size, 2)]


@pytest.mark.pitfall(5)
@pytest.mark.parametrize("cuts", splits(4), ids=str)
@pytest.mark.parametrize("has_joined", [True, False])
def test_decision_waits_for_the_whole_history_however_it_is_split(cuts: list[int], has_joined: bool) -> None:
    server = Server()
    events = [server.start(), server.event("REQUEST_POLY_AGENT_JOIN"), server.joined(), server.agent("Hello!")]
    if not has_joined:
        events = [events[0], *(server.user(text) for text in ("a", "b", "c"))]
    talk = resumed(server)
    for begin, end in zip([0, *cuts], [*cuts, None], strict=True):
        talk.history(*events[begin:end]).wait(0.9)
        assert joins(talk) == 0
    talk.beat()
    assert joins(talk) == (0 if has_joined else 1)


@pytest.mark.pitfall(5)
def test_live_event_is_no_reason_to_ask_while_the_history_may_go_on() -> None:
    talk = resumed(server := Server())
    talk.history(server.start()).receive(server.user("from another tab"))
    assert joins(talk) == 0
    talk.history(server.joined()).beat()
    assert joins(talk) == 0


def test_agent_that_had_joined_when_the_session_was_left_is_not_asked_again() -> None:
    talk = resumed(server := Server(), joined=True)
    talk.history(server.start()).beat()
    assert joins(talk) == 0
    assert talk.conversation.ready


def test_request_of_another_client_that_nobody_has_answered_yet_is_not_ours_to_repeat() -> None:
    talk = resumed(server := Server())
    talk.history(server.start(), server.event("REQUEST_POLY_AGENT_JOIN")).beat()
    assert joins(talk) == 0


def test_join_that_failed_before_this_client_came_is_asked_for_afresh_once() -> None:
    talk = resumed(server := Server())
    talk.history(server.start(), server.event("REQUEST_POLY_AGENT_JOIN"), server.error(START_FAILED)).beat()
    assert joins(talk) == 1
    talk.echo_last("REQUEST_POLY_AGENT_JOIN").receive(server.error(START_FAILED)).wait(60, echoing=True)
    assert joins(talk) == 1


# --- a request whose socket died --------------------------------------------------------------------------------------


@pytest.mark.pitfall(5)
@pytest.mark.parametrize(
    ("in_the_replay", "asked"),
    [([], 2), (["REQUEST_POLY_AGENT_JOIN"], 1), (["POLY_AGENT_JOINED"], 1), (["LANGUAGE_CHANGED"], 2)],
)
def test_request_whose_socket_died_before_the_echo_is_repeated_only_if_the_replay_does_not_show_it(
    in_the_replay: list[str], asked: int
) -> None:
    talk = Talk().open()
    talk.history(talk.server.start()).drop().open()
    talk.history(*(talk.server.event(type_) for type_ in in_the_replay))
    assert joins(talk) == 1
    talk.beat()
    assert joins(talk) == asked


def test_request_that_was_received_is_not_repeated_over_reconnects_however_long_the_agent_takes() -> None:
    talk = Talk().open()
    talk.history(talk.server.start()).echo_last("REQUEST_POLY_AGENT_JOIN").drop().again().drop().again()
    assert joins(talk) == 1


def test_request_that_was_not_written_yet_is_written_once_on_the_next_socket() -> None:
    talk = Talk().open()
    talk.writable = False
    talk.history(talk.server.start()).drop()
    talk.writable = True
    talk.again()
    assert joins(talk) == 1


# --- asked for by the user, or by a policy after a failure ------------------------------------------------------------


def test_user_may_ask_whatever_was_asked_before() -> None:
    talk = Talk().ready()
    talk.join_again()
    assert joins(talk) == 2


def test_request_that_waits_to_be_written_is_the_one() -> None:
    talk = Talk().ready()
    talk.writable = False
    talk.join_again().join_again()
    talk.writable = True
    talk.history()
    assert joins(talk) == 2


def test_request_made_offline_is_written_when_the_history_is_over() -> None:
    talk = Talk().ready().drop().join_again()
    talk.open().history()
    assert joins(talk) == 1
    talk.beat()
    assert joins(talk) == 2


def test_older_echo_does_not_settle_a_newer_request() -> None:
    talk = Talk().open()
    talk.history(talk.server.start())
    old = talk.server.echo(talk.sent("REQUEST_POLY_AGENT_JOIN")[-1])
    talk.drop().join_again().again(old)
    assert joins(talk) == 2


@pytest.mark.pitfall(6)
def test_failed_join_is_not_repeated_by_itself() -> None:
    talk = Talk().open()
    talk.history(talk.server.start()).beat().echo_last("REQUEST_POLY_AGENT_JOIN")
    talk.receive(talk.server.error(START_FAILED))
    assert not talk.conversation.greeting_expected  # nobody is there to greet
    talk.wait(60, echoing=True)
    assert joins(talk) == 1


def test_join_that_failed_while_the_client_was_away_is_not_repeated_by_itself_either() -> None:
    talk = Talk().open()
    talk.history(talk.server.start()).beat().echo_last("REQUEST_POLY_AGENT_JOIN")
    talk.drop().again(talk.server.error(START_FAILED))
    assert joins(talk) == 1


def test_session_that_is_being_ended_asks_nobody() -> None:
    talk = Talk().open().end()
    talk.history(talk.server.start()).beat()
    assert joins(talk) == 0


# --- the greeting -----------------------------------------------------------------------------------------------------


def test_greeting_is_expected_from_the_request_until_the_agent_who_joined_says_something() -> None:
    talk = Talk().open()
    assert not talk.conversation.greeting_expected
    talk.history(talk.server.start())
    assert talk.conversation.greeting_expected
    talk.echo_last("REQUEST_POLY_AGENT_JOIN").receive(talk.server.joined(), talk.server.event("POLY_AGENT_THINKING"))
    assert talk.conversation.greeting_expected
    talk.receive(talk.server.agent("Hello!"))
    assert not talk.conversation.greeting_expected


def test_word_of_an_agent_from_before_the_join_is_no_greeting() -> None:
    talk = Talk().ready().join_again()
    talk.receive(talk.server.agent("An answer to something else."))
    assert talk.conversation.greeting_expected
    talk.receive(talk.server.joined(), talk.server.agent("Hello again!"))
    assert not talk.conversation.greeting_expected


def test_time_for_the_greeting_begins_anew_at_the_join() -> None:
    talk = asked(greeting_limit=30.0).wait(20)
    talk.receive(talk.server.joined()).wait(29.9)
    assert talk.conversation.greeting_expected
    talk.wait(0.1)
    assert not talk.conversation.greeting_expected


@pytest.mark.parametrize(("limit", "expected"), [(30.0, False), (None, True)])
def test_agent_that_never_joins_is_not_expected_to_greet_for_ever(limit: float | None, expected: bool) -> None:
    talk = asked(greeting_limit=limit).wait(1000, echoing=True)
    assert talk.conversation.greeting_expected is expected


def test_greeting_of_an_agent_who_had_joined_before_is_not_waited_for() -> None:
    talk = resumed(server := Server())
    talk.history(server.start(), server.joined()).beat()
    assert not talk.conversation.greeting_expected
