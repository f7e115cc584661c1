"""When the history is over, and when that is proved (protocol.md §7.3). Nothing on the wire marks it."""

from __future__ import annotations

import pytest
from protocol_kit import IDENTITY, Talk

from polyai_sync.messages import SessionStatus

CONNECTING, OPEN, RECONNECTING = SessionStatus.CONNECTING, SessionStatus.OPEN, SessionStatus.RECONNECTING


def in_doubt() -> Talk:
    """A session with one message written before its socket died, and another socket open, whose history has not come.

    ``talk.conversation.questions`` tells whether the history is proved to be over: the message was not in it.
    """
    talk = Talk().ready()
    talk.send("in doubt")
    return talk.drop().open()


def silent() -> Talk:
    """The same where the server has never echoed a heartbeat."""
    talk = Talk()
    talk.open().history(talk.server.start(), talk.server.joined()).wait(1)
    talk.send("in doubt")
    return talk.drop().open()


def proved(talk: Talk) -> bool:
    return bool(talk.conversation.questions)


# --- over: the session is open ----------------------------------------------------------------------------------------


def test_session_of_our_own_has_no_history_and_is_open_at_its_start() -> None:
    talk = Talk().open()
    assert talk.conversation.status is CONNECTING
    talk.history(talk.server.start())
    assert talk.conversation.status is OPEN


@pytest.mark.pitfall(29)
def test_nothing_is_open_before_the_session_start_was_seen() -> None:
    talk = Talk().open()
    talk.beat().wait(20).receive(talk.server.event("LANGUAGE_CHANGED", {"language_code": "de"}))
    assert talk.conversation.status is CONNECTING
    talk.receive(talk.server.start())
    assert talk.conversation.status is OPEN


def test_first_word_on_a_socket_is_a_heartbeat_of_its_own() -> None:
    talk = Talk().open()
    assert [frame["type"] for frame in talk.written] == ["EVENT_TYPE_HEARTBEAT"]
    talk.history(talk.server.start()).drop().open()
    first, second = talk.sent("HEARTBEAT")
    assert first["metadata"] != second["metadata"]


def test_history_is_over_at_the_echo_of_our_heartbeat() -> None:
    talk = in_doubt()
    assert talk.conversation.status is RECONNECTING
    talk.history()
    assert talk.conversation.status is RECONNECTING
    talk.beat()
    assert talk.conversation.status is OPEN


def test_history_is_over_at_any_live_event() -> None:
    talk = in_doubt()
    talk.receive(talk.server.event("LANGUAGE_CHANGED", {"language_code": "de"}))
    assert talk.conversation.status is OPEN


def test_event_in_a_batch_is_no_live_one() -> None:
    talk = in_doubt()
    talk.history(talk.server.agent("said while we were away"))
    assert talk.conversation.status is RECONNECTING


def test_known_event_that_comes_again_live_is_no_news_and_no_sign() -> None:
    talk = Talk().ready()
    event = talk.server.agent("for two")
    talk.receive(event).drop().open().receive(event)
    assert talk.conversation.status is RECONNECTING


def test_history_is_over_after_a_second_of_quiet_counted_from_its_last_batch() -> None:
    talk = in_doubt()
    talk.wait(0.9).history().wait(0.9).history().wait(0.99)
    assert talk.conversation.status is RECONNECTING
    talk.wait(0.01)
    assert talk.conversation.status is OPEN


def test_history_is_over_after_a_second_where_nothing_comes_at_all() -> None:
    talk = in_doubt().wait(0.99)
    assert talk.conversation.status is RECONNECTING
    talk.wait(0.01)
    assert talk.conversation.status is OPEN


# --- proved: what did not come in it is missing -----------------------------------------------------------------------


def test_echo_behind_a_batch_proves_it_at_once() -> None:
    talk = in_doubt().history()
    assert not proved(talk)
    assert proved(talk.beat())


def test_echo_before_any_batch_proves_it_after_a_second_of_quiet() -> None:
    talk = in_doubt().beat()
    assert not proved(talk.wait(0.99))
    assert proved(talk.wait(0.01))


def test_batch_that_comes_after_the_echo_is_waited_out() -> None:
    talk = in_doubt().beat().wait(0.5).history()
    assert not proved(talk.wait(0.99))
    assert proved(talk.wait(0.01))


def test_live_event_proves_nothing_since_replay_and_live_delivery_may_overlap() -> None:
    talk = in_doubt().history()
    talk.receive(talk.server.agent("live"))
    assert talk.conversation.status is OPEN
    assert not proved(talk.wait(4))


def test_quiet_proves_nothing_where_the_server_is_known_to_echo() -> None:
    talk = in_doubt().history()
    assert not proved(talk.wait(60))
    assert proved(talk.beat())


def test_echo_that_does_not_come_is_asked_for_every_five_seconds_while_something_depends_on_it() -> None:
    talk = in_doubt().history()
    beats = len(talk.sent("HEARTBEAT"))
    talk.wait(4.9)
    assert len(talk.sent("HEARTBEAT")) == beats
    talk.wait(0.1)
    assert len(talk.sent("HEARTBEAT")) == beats + 1
    talk.wait(10)
    assert len(talk.sent("HEARTBEAT")) == beats + 3
    talk.beat().wait(20)
    assert len(talk.sent("HEARTBEAT")) == beats + 3


def test_echo_is_not_asked_for_where_nothing_depends_on_it() -> None:
    talk = Talk().ready().drop().open().history()
    talk.wait(29)
    assert len(talk.sent("HEARTBEAT")) == 2  # one a socket


# --- whose echo? ------------------------------------------------------------------------------------------------------


def test_echo_of_another_connections_heartbeat_proves_nothing() -> None:
    talk = in_doubt().history()
    ours = talk.sent("HEARTBEAT")[-1]["metadata"]["custom"]["client_event_id"]
    for theirs in (ours.replace(IDENTITY, "another-tab"), "junk", "", ":", f"{IDENTITY}:"):
        talk.receive(talk.server.event("HEARTBEAT", sequence=None, custom={"client_event_id": theirs}))
    assert talk.conversation.status is RECONNECTING
    assert not proved(talk)


def test_echo_of_our_heartbeat_on_an_earlier_socket_proves_nothing() -> None:
    talk = in_doubt().history()
    earlier = talk.sent("HEARTBEAT")[-2]
    talk.receive(talk.server.echo(earlier))
    assert talk.conversation.status is RECONNECTING
    assert not proved(talk)


def test_echo_in_the_history_proves_nothing() -> None:
    talk = in_doubt()
    talk.history(talk.server.echo(talk.sent("HEARTBEAT")[-1], sequence=talk.server.sequence + 1))
    assert not proved(talk)


def test_echo_that_lost_its_metadata_counts_for_ours_where_the_server_never_kept_it() -> None:
    talk = silent().history()
    assert not proved(talk)
    assert proved(talk.receive(talk.server.event("HEARTBEAT", sequence=None)))


def test_echo_without_metadata_is_somebody_elses_where_the_server_keeps_it() -> None:
    talk = in_doubt().history()
    assert not proved(talk.receive(talk.server.event("HEARTBEAT", sequence=None)))


def test_echo_before_anything_was_written_is_somebody_elses() -> None:
    talk = silent().drop()
    talk.writable = False
    talk.open().history().receive(talk.server.event("HEARTBEAT", sequence=None))
    assert not proved(talk)


# --- servers that never echo ------------------------------------------------------------------------------------------


def test_where_no_echo_was_ever_seen_a_second_of_quiet_after_a_batch_has_to_do() -> None:
    talk = silent().history()
    assert not proved(talk.wait(0.99))
    assert proved(talk.wait(0.01))


def test_where_neither_echo_nor_batch_is_seen_five_seconds_have_to_do() -> None:
    talk = silent()
    assert not proved(talk.wait(4.99))
    assert proved(talk.wait(0.01))


def test_each_socket_has_a_history_of_its_own() -> None:
    talk = in_doubt().history().drop().open()
    assert not proved(talk.beat())
    assert proved(talk.wait(1))
