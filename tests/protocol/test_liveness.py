"""Heartbeats, a silent peer, the count of attempts, and typing (architecture.md "Liveness")."""

from __future__ import annotations

from typing import Any

import pytest
from protocol_kit import Talk

from polyai_sync.protocol.liveness import Attempts

LIVED = 30.0


def started(**capabilities: Any) -> Talk:
    """A session whose server told these capabilities, and nothing since."""
    talk = Talk(join=False)
    talk.open()
    start = talk.server.event("SESSION_START", {"capabilities": capabilities})
    return talk.history(start).beat()


def beats(talk: Talk) -> int:
    return len(talk.sent("HEARTBEAT"))


# --- the rhythm -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "interval"), [(30, 30), (12.5, 12.5), (None, 30), (0.2, 1), (1, 1), (300, 300), (86_400, 300), (-5, 30)]
)
def test_heartbeat_is_sent_every_interval_clamped_to_what_makes_sense(told: float | None, interval: float) -> None:
    talk = started(heartbeat_interval_seconds=told)
    talk.wait(interval - 0.01)
    assert beats(talk) == 1
    talk.wait(0.01, echoing=True)
    assert beats(talk) == 2
    talk.wait(10 * interval, echoing=True)
    assert beats(talk) == 12


def test_interval_of_zero_is_no_rhythm() -> None:
    talk = started(heartbeat_interval_seconds=0).wait(10_000)
    assert beats(talk) == 1  # the one after the 101
    assert not talk.conversation.is_dead(talk.now)


def test_heartbeats_go_on_though_other_things_are_written() -> None:
    talk = started(heartbeat_interval_seconds=30)
    for _ in range(6):
        talk.wait(10)
        talk.send("hi")
        talk.echo_last("USER_MESSAGE")
    assert beats(talk) == 3


@pytest.mark.pitfall(16)
def test_no_heartbeat_is_made_offline_and_each_socket_begins_with_one() -> None:
    talk = started(heartbeat_interval_seconds=30).drop()
    talk.wait(1000)
    assert beats(talk) == 1
    assert talk.conversation.due() is None
    talk.open()
    assert beats(talk) == 2
    talk.history().beat().wait(29.9)
    assert beats(talk) == 2
    talk.wait(0.1)
    assert beats(talk) == 3


@pytest.mark.pitfall(16)
def test_heartbeat_that_could_not_be_written_is_not_sent_on_the_next_socket_as_well() -> None:
    talk = started(heartbeat_interval_seconds=30)
    talk.writable = False
    talk.wait(30).drop()
    talk.writable = True
    talk.open()
    assert beats(talk) == 2


def test_heartbeats_do_not_pile_up_where_the_socket_takes_nothing() -> None:
    talk = started(heartbeat_interval_seconds=2)
    talk.writable = False
    talk.wait(4.5)
    talk.writable = True
    talk.history()
    assert beats(talk) == 2


def test_probe_is_not_written_beside_one_that_still_waits() -> None:
    talk = started(heartbeat_interval_seconds=0)
    talk.send("one")
    talk.wait(1).send("two")
    talk.writable = False
    talk.wait(10)
    talk.writable = True
    talk.history()
    assert beats(talk) == 2


def test_interval_that_changes_counts_from_the_last_heartbeat() -> None:
    talk = started(heartbeat_interval_seconds=30).wait(10)
    talk.history(talk.server.start(heartbeat_interval_seconds=12)).wait(1.9)
    assert beats(talk) == 1
    talk.wait(0.1)
    assert beats(talk) == 2


# --- a silent peer ----------------------------------------------------------------------------------------------------


@pytest.mark.pitfall(16)
@pytest.mark.parametrize(("interval", "silence"), [(30, 75.0), (10, 25.0), (0.1, 2.5), (None, 75.0)])
def test_connection_is_dead_after_two_and_a_half_intervals_of_silence(interval: Any, silence: float) -> None:
    talk = started(heartbeat_interval_seconds=interval)
    until = talk.now + silence
    talk.wait(silence - 0.01)
    assert not talk.conversation.is_dead(talk.now)
    assert talk.conversation.due() == pytest.approx(until)  # the session's thread wakes up for it
    talk.wait(0.01)
    assert talk.conversation.is_dead(talk.now)


@pytest.mark.parametrize("sign", ["an event", "bytes"])
def test_any_sign_of_the_peer_counts(sign: str) -> None:
    talk = started(heartbeat_interval_seconds=30).wait(70)
    if sign == "bytes":
        talk.conversation.heard(talk.now)  # a ping, or half of a frame
    else:
        talk.receive(talk.server.event("POLY_AGENT_THINKING", sequence=None))
    talk.wait(74.9)
    assert not talk.conversation.is_dead(talk.now)
    talk.wait(0.1)
    assert talk.conversation.is_dead(talk.now)


def test_without_a_rhythm_silence_counts_only_behind_a_heartbeat_that_was_not_answered() -> None:
    talk = started(heartbeat_interval_seconds=0).wait(500)
    talk.send("hi")
    talk.wait(5 + 74.9)  # the probe is sent after 5 s
    assert not talk.conversation.is_dead(talk.now)
    talk.wait(0.1)
    assert talk.conversation.is_dead(talk.now)


def test_no_socket_is_not_a_dead_one() -> None:
    talk = started(heartbeat_interval_seconds=30).drop().wait(1000)
    assert not talk.conversation.is_dead(talk.now)
    talk.open()
    assert not talk.conversation.is_dead(talk.now)
    assert talk.conversation.is_dead(talk.now + 75)


# --- the count of attempts --------------------------------------------------------------------------------------------


def reopened(talk: Talk) -> int:
    """Another attempt, which succeeds; its number."""
    number = talk.conversation.attempts.begin()
    talk.open()
    return number


@pytest.mark.pitfall(15)
def test_server_that_accepts_and_drops_is_counted_on() -> None:
    talk = Talk().ready().wait(LIVED, echoing=True).drop()
    numbers = []
    for _ in range(5):
        numbers.append(reopened(talk))
        talk.history().beat().wait(LIVED - 0.1, echoing=True).drop()
    assert numbers == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("sign", "next_number"),
    [
        ("it lived", 1),
        ("live message", 1),
        ("live chunk", 1),
        ("live person", 1),
        ("replayed message", 2),
        ("thinking", 2),
    ],
)
def test_attempts_count_from_one_again_once_a_connection_lived_or_carried_a_live_message(
    sign: str, next_number: int
) -> None:
    talk = Talk().ready().drop()
    reopened(talk)
    server = talk.server
    signs = {
        "it lived": lambda: talk.wait(LIVED, echoing=True),
        "live message": lambda: talk.receive(server.agent("hi")),
        "live chunk": lambda: talk.receive(server.chunk("s", 1, "h")),
        "live person": lambda: talk.receive(server.live_agent("hi")),
        "replayed message": lambda: talk.history(server.agent("hi")),
        "thinking": lambda: talk.receive(server.event("POLY_AGENT_THINKING")),
    }
    signs[sign]()
    talk.drop()
    assert reopened(talk) == next_number


def test_sign_of_life_belongs_to_its_connection() -> None:
    talk = Talk().ready().drop()
    reopened(talk)
    talk.receive(talk.server.agent("hi")).drop()
    reopened(talk)
    talk.drop()
    assert reopened(talk) == 2


def test_failed_attempts_are_counted() -> None:
    attempts = Attempts()
    assert [attempts.begin() for _ in range(3)] == [1, 2, 3]
    attempts.dropped(1000.0)  # there was no connection
    assert attempts.made == 3


# --- typing -----------------------------------------------------------------------------------------------------------

STARTED, STOPPED = "TYPING_STATE_STARTED", "TYPING_STATE_STOPPED"


def typed(talk: Talk) -> list[str]:
    return [frame["payload"]["state"] for frame in talk.sent("USER_TYPING")]


def test_started_is_sent_at_most_once_in_three_seconds() -> None:
    talk = Talk().ready()
    for _ in range(30):
        talk.type().wait(0.2)  # 6 s
    assert typed(talk) == [STARTED, STARTED]
    talk.type()
    assert typed(talk) == [STARTED, STARTED, STARTED]


def test_typing_stops_by_itself_five_seconds_after_the_last_key() -> None:
    talk = Talk().ready()
    talk.type().wait(2).type().wait(4.9)
    assert typed(talk) == [STARTED]
    talk.wait(0.1)
    assert typed(talk) == [STARTED, STOPPED]
    talk.wait(60, echoing=True)
    assert typed(talk) == [STARTED, STOPPED]


def test_typing_stops_once_when_the_user_says_so() -> None:
    talk = Talk().ready()
    talk.type(active=False)
    assert typed(talk) == []
    talk.type().type(active=False).type(active=False).wait(10)
    assert typed(talk) == [STARTED, STOPPED]


def test_started_is_not_repeated_within_three_seconds_though_it_was_stopped() -> None:
    talk = Talk().ready()
    talk.type().type(active=False).wait(1).type()
    assert typed(talk) == [STARTED, STOPPED]
    talk.wait(2).type()
    assert typed(talk) == [STARTED, STOPPED, STARTED]


def test_sending_stops_typing_before_the_message() -> None:
    talk = Talk().ready().type()
    talk.send("hi")
    assert [frame["type"].removeprefix("EVENT_TYPE_") for frame in talk.written[-3:]] == [
        "USER_TYPING",
        "USER_TYPING",
        "USER_MESSAGE",
    ]
    assert typed(talk) == [STARTED, STOPPED]


def test_typing_is_not_said_offline_nor_remembered_for_the_next_socket() -> None:
    talk = Talk().ready().type().drop()
    talk.type().type(active=False).again()
    assert typed(talk) == [STARTED]
    talk.type()
    assert typed(talk) == [STARTED, STARTED]  # the new socket has not heard it yet
