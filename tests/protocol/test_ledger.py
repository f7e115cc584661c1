"""Duplicates, holes and the cursor (protocol.md §4 "Order, duplicates, cursor")."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
from protocol_kit import Server, Talk

from polyai_sync.events import LanguageChanged, PolyAgentThinking
from polyai_sync.protocol.ledger import MAX_HOLES, REMEMBERED_IDS, Ledger


def event(sequence: int | None, event_id: str | None = None) -> PolyAgentThinking:
    return PolyAgentThinking(id=f"event-{sequence}" if event_id is None else event_id, sequence=sequence)


def seen(*sequences: int, handed_on: int | None = None) -> Ledger:
    ledger = Ledger(handed_on)
    for sequence in sequences:
        assert ledger.admit(event(sequence))
    return ledger


# --- duplicates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "new"),
    [
        ((1, "a"), (1, "a"), False),
        ((1, "a"), (2, "a"), False),  # the id decides
        ((1, "a"), (1, "b"), True),
        ((1, ""), (1, ""), False),  # without an id: sequence and type
        ((1, ""), (2, ""), True),
        ((1, "a"), (1, ""), True),
        ((None, "a"), (None, "a"), True),  # transient: never a duplicate
        ((None, "a"), (1, "a"), True),
        ((1, "a"), (None, "a"), True),
        ((0, ""), (0, ""), False),
    ],
)
def test_duplicate_is_told_by_its_id_where_it_has_a_sequence(first: Any, second: Any, new: bool) -> None:
    ledger = Ledger()
    assert ledger.admit(event(*first))
    assert ledger.admit(event(*second)) is new


def test_events_without_an_id_that_share_a_sequence_are_told_apart_by_their_type() -> None:
    ledger = Ledger()
    assert ledger.admit(event(1, ""))
    assert ledger.admit(LanguageChanged(id="", sequence=1, language_code="de"))


def test_repeated_id_fills_the_hole_of_the_sequence_it_comes_under() -> None:
    ledger = seen(1, 3)
    assert not ledger.admit(event(2, "event-1"))
    assert ledger.cursor == 3


def test_transient_event_moves_no_cursor() -> None:
    ledger = seen(1)
    ledger.admit(event(None))
    assert (ledger.cursor, ledger.highest) == (1, 1)


def test_duplicate_is_recognised_however_old_and_memory_stays_bounded() -> None:
    ledger = seen(*range(1, 2 * REMEMBERED_IDS))
    size = len(pickle.dumps(ledger))
    for sequence in range(2 * REMEMBERED_IDS, 4 * REMEMBERED_IDS):
        assert ledger.admit(event(sequence))
    assert len(pickle.dumps(ledger)) < 1.1 * size
    assert not any(ledger.admit(event(sequence)) for sequence in range(1, 4 * REMEMBERED_IDS))
    assert ledger.cursor == 4 * REMEMBERED_IDS - 1


def test_event_that_fills_an_old_hole_is_new_even_where_ids_are_forgotten() -> None:
    ledger = seen(1, *range(3, 2 * REMEMBERED_IDS))
    assert ledger.admit(event(2))
    assert not ledger.admit(event(2))


def test_everything_at_or_below_the_cursor_of_a_resumed_session_was_handed_on() -> None:
    ledger = Ledger(10)
    assert [ledger.admit(event(sequence)) for sequence in (0, 1, 9, 10, 11)] == [False, False, False, False, True]
    assert ledger.cursor == 11


# --- holes and the cursor ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sequences", "cursor"),
    [
        ((), 0),
        ((0,), 0),
        ((1, 2, 3), 3),
        ((2, 3), 0),
        ((1, 3), 1),
        ((1, 3, 2), 3),
        ((3, 2, 1), 3),
        ((1, 5, 3), 1),
        ((1, 5, 3, 2), 3),
        ((1, 5, 3, 2, 4), 5),
        ((1, 3, 5, 4), 1),
        ((1, 3, 5, 4, 2), 5),
        ((1000,), 0),
    ],
)
def test_cursor_is_the_highest_sequence_up_to_which_nothing_is_missing(sequences: tuple[int, ...], cursor: int) -> None:
    ledger = seen(*sequences)
    assert ledger.cursor == cursor
    assert ledger.highest == max(sequences, default=0)


def test_cursor_is_right_whatever_order_events_come_in() -> None:
    chance = random.Random(7)
    for _ in range(50):
        sequences = list(range(1, 30))
        chance.shuffle(sequences)
        ledger, known = Ledger(), {0}
        for sequence in sequences:
            assert ledger.admit(event(sequence))
            known.add(sequence)
            assert ledger.cursor == next(number for number in range(31) if number + 1 not in known)
            assert not ledger.admit(event(chance.choice(sorted(known - {0}))))


def replayed(ledger: Ledger, *sequences: int) -> list[int]:
    """A connection whose replay holds these; which of them were new?"""
    ledger.opened()
    new = [sequence for sequence in sequences if ledger.admit(event(sequence))]
    ledger.accept_holes()
    return new


def test_hole_is_asked_for_again_and_filled_by_the_replay() -> None:
    ledger = seen(1, 2, 4, 5)
    assert ledger.cursor == 2
    assert replayed(ledger, 3, 4, 5) == [3]
    assert ledger.cursor == 5


def test_hole_that_a_replay_passes_without_filling_it_is_accepted() -> None:
    ledger = seen(1, 2, 4, 5)
    assert replayed(ledger, 4, 5) == []
    assert ledger.cursor == 5


def test_what_turns_up_in_an_accepted_hole_is_still_new() -> None:
    ledger = seen(1, 2, 4, 5)
    replayed(ledger, 4, 5)
    assert ledger.admit(event(3))
    assert ledger.cursor == 5


def test_replay_that_repeats_nothing_says_nothing_of_a_hole() -> None:
    ledger = seen(1, 2, 4, 5)
    assert replayed(ledger) == []
    assert ledger.cursor == 2
    assert replayed(ledger, 6) == [6]  # from above what was known: it may have begun after the hole
    assert ledger.cursor == 2


def test_replay_accepts_holes_only_as_far_as_it_reaches() -> None:
    ledger = seen(1, 3, 5)
    replayed(ledger, 3)
    assert ledger.cursor == 3
    replayed(ledger, 5)
    assert ledger.cursor == 5


def test_hole_that_appears_later_holds_the_cursor_again() -> None:
    ledger = seen(1, 3)
    replayed(ledger, 3)
    ledger.admit(event(5))
    assert ledger.cursor == 3


def test_live_events_accept_no_hole_before_the_replay_is_over() -> None:
    ledger = seen(1, 3)
    ledger.opened()
    ledger.admit(event(3))
    assert ledger.cursor == 1


def test_each_connection_proves_its_own_holes() -> None:
    ledger = seen(1, 3)
    ledger.opened()
    ledger.admit(event(3))  # the socket died before the history was over
    assert replayed(ledger) == []
    assert ledger.cursor == 1


def test_server_that_leaves_numbers_out_on_purpose_costs_bounded_memory() -> None:
    ledger = Ledger()
    for number in range(1, 4 * MAX_HOLES):
        assert ledger.admit(event(2 * number))
    assert 0 < ledger.cursor < ledger.highest
    assert ledger.highest - ledger.cursor <= 2 * MAX_HOLES + 2
    assert not ledger.admit(event(2))


# --- batches that have a number of their own --------------------------------------------------------------------------


def test_number_of_a_batch_is_no_hole_once_something_above_it_came() -> None:
    ledger = seen(1, 2)
    ledger.envelope(3)
    assert ledger.cursor == 2  # an event may still come under this number
    ledger.admit(event(4))
    assert ledger.cursor == 4


def test_event_that_has_the_number_of_its_batch_is_new() -> None:
    ledger = seen(1, 2)
    ledger.envelope(3)
    assert ledger.admit(event(3))
    assert ledger.cursor == 3


def test_number_of_a_batch_belongs_to_its_connection() -> None:
    ledger = seen(1, 2)
    ledger.envelope(3)
    ledger.opened()
    ledger.admit(event(4))
    assert ledger.cursor == 2


# --- in a conversation ------------------------------------------------------------------------------------------------


def test_events_of_a_batch_are_sorted_by_sequence_stable_and_null_last() -> None:
    talk, server = Talk(), Server()
    start = server.start()
    languages = {
        name: server.event("LANGUAGE_CHANGED", {"language_code": name}, sequence=number)
        for name, number in {"second": 3, "none": None, "first": 2, "also second": 3, "none too": None}.items()
    }
    talk.open().history(*languages.values(), start)
    told = [event.language_code for event in talk.events if isinstance(event, LanguageChanged)]
    assert told == ["first", "second", "also second", "none", "none too"]
    assert talk.types()[0] == "SESSION_START"


def test_history_in_several_batches_and_the_live_delivery_may_overlap() -> None:
    talk, server = Talk(), Server()
    events = [server.start(), server.joined(), server.agent("Hello!"), server.user("hi"), server.agent("for two")]
    talk.open().history(*events[:3]).history(*events[1:4]).receive(*events[2:]).history(*events)
    assert talk.said() == ["Hello!", "hi", "for two"]
    assert len(talk.events) == len(events)


def test_duplicates_are_recognised_across_reconnects() -> None:
    talk = Talk().ready()
    event = talk.server.agent("for two")
    talk.receive(event).drop().again(event)
    assert talk.types() == ["POLY_AGENT_MESSAGE"]
    assert talk.inbox() == ["for two"]


def test_unknown_event_is_counted_like_any_other() -> None:
    talk = Talk().ready()
    event = talk.server.event("SOMETHING_NEW", {"x": 1})
    talk.receive(event, event)
    assert talk.types() == ["SOMETHING_NEW"]
    assert talk.conversation.cursor == event["sequence"]


def test_journalled_heartbeat_moves_the_cursor_and_is_no_event() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.event("HEARTBEAT", sequence=talk.server.sequence + 1))
    assert talk.types() == []
    assert talk.conversation.cursor == talk.server.sequence + 1


def test_hole_is_asked_for_on_the_next_connect() -> None:
    talk = Talk().ready()
    cursor = talk.conversation.cursor
    lost, came = talk.server.agent("lost"), talk.server.agent("came")
    talk.receive(came)
    assert talk.conversation.cursor_to_ask == cursor
    talk.drop().again(lost, came)
    assert talk.inbox() == ["came", "lost"]
    assert talk.said()[-2:] == ["lost", "came"]
    assert talk.conversation.cursor_to_ask == came["sequence"]


def test_hole_that_the_replay_does_not_fill_is_not_asked_for_again() -> None:
    talk = Talk().ready()
    talk.server.sequence += 1  # left out on purpose
    came = talk.server.agent("came")
    talk.receive(came).drop().open().history(came)
    assert talk.conversation.cursor_to_ask == came["sequence"] - 2
    talk.beat()
    assert talk.conversation.cursor_to_ask == came["sequence"]


def test_batch_that_uses_up_a_number_leaves_no_hole() -> None:
    talk = Talk().ready().drop().open()
    talk.receive(talk.server.batch(sequence=talk.server.sequence + 1))
    talk.server.sequence += 1
    came = talk.server.agent("came")
    talk.receive(came)
    assert talk.conversation.cursor == came["sequence"]


@pytest.mark.parametrize(
    ("written", "cursor"),
    [(3, 3), ("3", 3), (3.0, 3), *((junk, 2) for junk in (None, "soon", -3, 3.5, True, [], {}, 2**63, ""))],
    ids=repr,
)
def test_sequence_that_is_no_number_makes_the_event_a_transient_one(written: Any, cursor: int) -> None:
    talk = Talk()
    talk.open().history(talk.server.start(), talk.server.joined())
    event = talk.server.event("LANGUAGE_CHANGED", {"language_code": "de"}, sequence=written)
    talk.receive(event, event)
    assert talk.conversation.cursor == cursor
    assert talk.types().count("LANGUAGE_CHANGED") == (1 if cursor == 3 else 2)
