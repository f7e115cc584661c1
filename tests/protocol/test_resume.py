"""Another client goes on where one has left: what the state carries, and what is news to whom (api.md)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from protocol_kit import Talk

from polyai_sync.messages import (
    Attachment,
    CallAction,
    Capabilities,
    Delivery,
    HandoffStatus,
    SessionStatus,
    Suggestion,
)
from polyai_sync.protocol.streams import MAX_KEPT, MAX_KEPT_PIECES, MAX_KEPT_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable


def journal(talk: Talk) -> list[dict[str, Any]]:
    """A conversation of all sorts, as the server has it; nothing of it was received here."""
    server = talk.server
    return [
        server.start(),
        server.event("REQUEST_POLY_AGENT_JOIN"),
        server.joined(),
        server.agent("Hello!"),
        server.user("a table", custom={"client_event_id": "before"}),
        *server.stream("s", "for ", "two"),
        server.error("Sorry, I'm having trouble responding right now. Please try again."),
        server.event("POLY_AGENT_TRIGGERED_HANDOFF"),
        server.event("LANGUAGE_CHANGED", {"language_code": "de"}),
        server.event("SOMETHING_NEW"),
    ]


SAID = ["Hello!", "a table", "for two"]


def left() -> tuple[Talk, list[dict[str, Any]]]:
    """A session that has seen all of its journal."""
    talk = Talk()
    events = journal(talk)
    return talk.open().history(*events).beat().wait(1), events


# --- what the state carries -------------------------------------------------------------------------------------------


def test_state_of_a_session_that_has_heard_nothing_yet_starts_it_afresh() -> None:
    talk = Talk().open().resume().open()
    assert talk.conversation.cursor_to_ask == 0
    assert talk.conversation.status is SessionStatus.CONNECTING
    talk.history(talk.server.start()).beat()
    assert talk.conversation.status is SessionStatus.OPEN
    assert talk.types() == ["SESSION_START"]
    assert len(talk.hooks("on_session_start")) == 1
    assert len(talk.sent("REQUEST_POLY_AGENT_JOIN")) == 1


def test_who_is_there_and_what_was_agreed_is_known_before_anything_comes() -> None:
    talk = Talk().ready()
    who = {"agent": {"id": "z", "name": "Zoë", "avatar_url": "https://e.example/z.png"}}
    talk.receive(talk.server.event("POLY_AGENT_TRIGGERED_HANDOFF"), talk.server.event("LIVE_AGENT_JOINED", who))
    talk.receive(talk.server.event("LANGUAGE_CHANGED", {"language_code": "pt-BR"}))
    again = talk.resume()
    before, after = talk.conversation, again.conversation
    assert after.scene.live_agent is not None
    assert after.scene.live_agent.name == "Zoë"
    assert after.scene.agent == before.scene.agent
    assert after.scene.handoff == before.scene.handoff
    assert after.scene.handoff.status is HandoffStatus.LIVE
    assert after.scene.language == "pt-BR"
    assert after.capabilities == before.capabilities == Capabilities(heartbeat_interval_seconds=30)
    assert (after.joined, after.started) == (True, True)


def test_session_whose_agent_had_joined_is_ready_at_the_first_batch() -> None:
    again = left()[0].resume().open()
    assert not again.conversation.ready
    again.history()
    assert again.conversation.ready
    assert again.conversation.status is SessionStatus.OPEN


def test_what_hangs_on_the_history_waits_for_all_of_it() -> None:
    talk, events = left()
    not_joined = Talk().open().history(talk.server.start()).resume().open().history()
    rebuilt = talk.resume(history=True).open().history(*events[:3])
    dropped = talk.resume().open().history().drop().open().history()
    assert [one.conversation.ready for one in (not_joined, rebuilt, dropped)] == [False, False, False]
    assert [one.beat().conversation.status for one in (rebuilt, dropped)] == [SessionStatus.OPEN] * 2


def test_rhythm_and_size_limit_hold_before_the_session_start_comes_again() -> None:
    talk = Talk().open()
    talk.history(talk.server.start(heartbeat_interval_seconds=5, max_message_size_bytes=100)).beat()
    again = talk.resume().open().history().beat().wait(5)
    assert len(again.sent("HEARTBEAT")) == 2
    assert again.conversation.max_message_size == 100


def test_cursor_goes_on_and_a_hole_stays_a_hole() -> None:
    talk = Talk().ready()
    lost, came = talk.server.agent("lost"), talk.server.agent("came")
    talk.receive(came)
    again = talk.resume()
    assert again.conversation.cursor_to_ask == lost["sequence"] - 1
    again.open().history(lost, came).beat()
    assert again.inbox() == ["lost", "came"]  # at least once: only what is below the cursor is known not to be news
    assert again.conversation.cursor == came["sequence"]


def test_state_can_be_taken_after_closing() -> None:
    talk = Talk().ready()
    before = talk.state()
    talk.close()
    assert talk.state() == before


# --- old events are news to nobody ------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [0, 4, 11])
def test_what_was_handed_on_is_no_news_though_the_server_replays_everything(split: int) -> None:
    talk, events = left()
    again = talk.resume().open()
    waiter = again.waiter()
    again.history(*events[:split]).history(*events[split:]).beat().wait(5)
    assert (again.types(), again.told, again.inbox(), again.messages) == ([], [], [], ())
    assert waiter.error is None
    assert again.conversation.status is SessionStatus.OPEN
    assert again.conversation.cursor == events[-1]["sequence"]


def test_history_rebuilds_the_transcript_and_tells_neither_plugins_nor_next_message() -> None:
    talk, events = left()
    again = talk.resume(history=True)
    assert again.conversation.cursor_to_ask == 0  # all of it is asked for again
    again.open()
    waiter = again.waiter()
    again.history(*events[:5]).history(*events[5:]).beat().wait(5)
    assert again.said() == SAID
    assert all(message.replayed and message.complete for message in again.messages)
    assert len(again.types()) == len(events)  # for events(replay=True)
    assert (again.told, again.inbox(), waiter.error) == ([], [], None)
    assert len(again.sent("REQUEST_POLY_AGENT_JOIN")) == 0


@pytest.mark.parametrize("history", [True, False])
def test_what_happened_since_is_news(history: bool) -> None:
    talk, events = left()
    again = talk.resume(history=history).open()
    news = again.server.agent("And for you?")
    again.history(*events, news).beat()
    assert again.inbox() == ["And for you?"]
    assert [message.text for message in again.hooks("on_message")] == ["And for you?"]
    assert [event.type for event in again.hooks("on_event")] == ["EVENT_TYPE_POLY_AGENT_MESSAGE"]
    assert again.said() == [*(SAID if history else []), "And for you?"]


def test_cursor_never_falls_behind_the_states_while_the_history_is_rebuilt() -> None:
    talk, events = left()
    again = talk.resume(history=True).open()
    assert again.conversation.cursor == events[-1]["sequence"]
    again.history(*events[:3])
    assert again.conversation.cursor == events[-1]["sequence"]
    assert again.conversation.cursor_to_ask == 3  # its own reconnect asks for the rest
    third = again.resume()
    assert third.conversation.cursor_to_ask == events[-1]["sequence"]


def test_people_are_where_the_state_left_them_though_old_events_say_otherwise() -> None:
    talk, events = left()
    away = talk.server.event("POLY_AGENT_LEFT")
    talk.receive(away)
    again = talk.resume(history=True).open()
    again.history(*events, away).beat()
    assert again.conversation.scene.agent is None
    assert again.conversation.scene.handoff.status is HandoffStatus.TRIGGERED
    assert again.hooks("on_handoff") == []


def test_message_in_flight_when_the_session_was_left_is_a_message_like_any_other() -> None:
    talk = Talk().ready()
    talk.send("cancel my order")
    echo = talk.server.echo(talk.sent("USER_MESSAGE")[-1])
    again = talk.resume().open()
    again.history(echo).beat().wait(5)
    assert again.said() == ["cancel my order"]
    assert again.texts_sent() == []
    assert again.hooks("on_delivery") == []
    with pytest.raises(ValueError, match="ours-1"):
        again.send("another", client_event_id="ours-1")


def test_old_messages_answer_no_question_of_the_new_client() -> None:
    talk, events = left()
    again = talk.resume(history=True).open()
    turn = again.ask("hi")
    again.history(*events).beat().echo_last("USER_MESSAGE")
    assert not turn.done
    again.receive(again.server.agent("for two"))
    assert turn.reply is not None


def test_old_echo_is_no_receipt_of_a_new_message_of_equal_text() -> None:
    talk = Talk().ready()
    old = talk.server.user("hi")
    talk.receive(old)
    again = talk.resume(history=True).open()
    sent = again.send("hi")
    again.history(old).beat()
    assert sent.message.delivery is Delivery.PENDING
    assert again.said() == ["hi", "hi"]


# --- a message that was growing ---------------------------------------------------------------------------------------


def through(talk: Talk, *, reopened: bool = True) -> Talk:
    """Leave and come back: nothing is replayed, since everything was handed on."""
    again = talk.resume()
    return again.open().history().beat() if reopened else again


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("cut", range(5))
def test_stream_goes_on_wherever_the_session_was_left(cut: int, first: int) -> None:
    talk = Talk().ready()
    chunks = talk.server.stream("s", "One ", "table ", "for ", "two", first=first)
    again = through(talk.receive(*chunks[:cut]))
    again.receive(*chunks[cut:])
    assert again.said() == ([] if cut == 4 else ["One table for two"])
    assert again.inbox() == ([] if cut == 4 else ["One table for two"])
    assert len(again.hooks("on_message")) == (0 if cut == 4 else 1)


TEXTS = ["One ", "table ", "for ", "two"]


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_stream_whose_chunks_come_in_any_order_goes_on_too(order: tuple[int, ...], cut: int) -> None:
    talk = Talk().ready()
    chunks = [talk.server.chunk("s", place + 1, TEXTS[place], last=place == 3) for place in order]
    again = through(talk.receive(*chunks[:cut])).receive(*chunks[cut:])
    assert again.said() == ["One table for two"]
    assert again.messages[0].complete


def test_stream_is_left_and_taken_up_again_and_again() -> None:
    talk = Talk().ready()
    chunks = talk.server.stream("s", *(f"{number} " for number in range(8)))
    for chunk in chunks:
        talk = through(talk).receive(chunk)
    assert talk.said() == ["0 1 2 3 4 5 6 7 "]
    assert talk.messages[0].sequence == chunks[0]["sequence"]


@pytest.mark.parametrize("repeated", [1, 2])
def test_repeated_chunk_of_what_was_handed_on_counts_once(repeated: int) -> None:
    talk = Talk().ready()
    chunks = talk.server.stream("s", "One ", "table", complete=False)
    again = through(talk.receive(*chunks))
    again.receive(talk.server.chunk("s", repeated, "again"), talk.server.chunk("s", 3, ".", last=True))
    assert again.said() == ["One table."]


def test_growing_message_is_shown_and_yielded_with_its_beginning() -> None:
    talk = Talk().ready()
    again = through(talk.receive(talk.server.chunk("s", 1, "One ")))
    assert [(message.text, message.complete) for message in again.messages] == [("One ", False)]


def test_everything_beside_the_text_is_kept() -> None:
    talk = Talk().ready()
    first, second = talk.server.stream("s", "One ", "table")
    first["payload"] |= {
        "attachments": [{"title": "Menu"}],
        "response_suggestions": [{"message_text": "Yes", "payload": {"x": [1]}}],
        "chat_call_actions": [{"title": "Desk"}],
        "agent_name": "Olive",
        "avatar_url": "https://e.example/o.png",
    }
    again = through(talk.receive(first)).receive(second)
    (message,) = again.messages
    assert message.attachments == (Attachment(title="Menu"),)
    assert message.suggestions == (Suggestion(message_text="Yes", payload={"x": [1]}),)
    assert message.call_actions == (CallAction(title="Desk"),)
    assert (message.agent_name, message.avatar_url) == ("Olive", "https://e.example/o.png")
    assert (message.sequence, message.timestamp is not None) == (first["sequence"], True)
    assert not message.replayed


def test_stream_that_numbers_nothing_goes_on_in_order_of_arrival() -> None:
    talk = Talk().ready()
    chunks = talk.server.stream("s", "a", "b", "c", "d")
    for chunk in chunks:
        del chunk["payload"]["chunk_index"]
    again = through(talk.receive(*chunks[:2])).receive(*chunks[2:])
    assert again.said() == ["abcd"]


def test_last_chunk_that_had_come_too_early_is_remembered_as_the_last() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.chunk("s", 1, "a"), talk.server.chunk("s", 3, "c", last=True))
    again = through(talk).receive(talk.server.chunk("s", 2, "b"))
    assert again.said() == ["abc"]
    assert again.messages[0].complete


def test_stream_that_was_cut_short_is_kept_but_not_brought_back_by_itself() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.chunk("s", 1, "ha"), talk.server.agent("Another."))
    again = through(talk)
    assert again.said() == []
    assert not again.conversation.scene.streaming
    again.receive(talk.server.chunk("s", 2, "lf", last=True))
    assert again.said() == ["half"]


def test_message_that_is_whole_is_not_carried_along() -> None:
    talk = Talk().ready()
    talk.receive(*talk.server.stream("s", "a", "b"), talk.server.chunk("t", 1, "x"), talk.server.agent("y", "t"))
    assert talk.state().streams == ()


def test_only_what_the_cursor_has_passed_is_carried_since_the_rest_comes_again() -> None:
    talk = Talk().ready()
    first, lost, third = talk.server.stream("s", "a", "b", "c", complete=False)
    talk.receive(first, third)
    (kept,) = talk.state().streams
    assert [piece.text for piece in kept.pieces] == ["a"]
    again = talk.resume().open().history(lost, third).beat()
    again.receive(talk.server.chunk("s", 4, "d", last=True))
    assert again.said() == ["abcd"]


def test_whole_message_beyond_the_cursor_leaves_its_stream_in_the_state() -> None:
    talk = Talk().ready()
    first = talk.server.chunk("s", 1, "fro ")
    lost, whole = talk.server.agent("lost"), talk.server.agent("for two", "s")
    talk.receive(first, whole)
    assert len(talk.state().streams) == 1
    again = talk.resume().open().history(lost, whole).beat()
    assert again.said() == ["for two", "lost"]
    assert all(message.complete for message in again.messages)


def test_close_before_the_history_is_rebuilt_keeps_what_the_state_held() -> None:
    talk = Talk().ready()
    first, last = talk.server.stream("s", "ha", "lf")
    talk.receive(first)
    again = talk.resume(history=True).open()
    assert again.state().streams == talk.state().streams
    third = through(again).receive(last)
    assert third.said() == ["half"]


def test_history_brings_a_growing_message_again_from_its_beginning() -> None:
    talk = Talk().open()
    events = [talk.server.start(), talk.server.joined(), *talk.server.stream("s", "ha", "lf", complete=False)]
    talk.history(*events).beat()
    again = talk.resume(history=True).open().history(*events).beat()
    assert again.said() == ["half"]
    again.receive(talk.server.chunk("s", 3, ".", last=True))
    assert again.said() == ["half."]
    assert again.inbox() == ["half."]  # its end is news
    assert [message.text for message in again.hooks("on_message")] == ["half."]


def test_message_whose_new_end_comes_before_its_old_beginning_is_news() -> None:
    talk = Talk().open()
    events = [talk.server.start(), talk.server.joined(), *talk.server.stream("s", "ha", "lf", complete=False)]
    talk.history(*events).beat()
    again = talk.resume(history=True).open()
    again.history(again.server.chunk("s", 3, ".", last=True)).history(*events).beat()
    assert again.inbox() == ["half."]


def flood_of_streams(talk: Talk) -> None:
    for number in range(MAX_KEPT + 5):
        talk.receive(talk.server.chunk(f"s{number}", 1, f"{number}"))


def stream_full_of_holes(talk: Talk) -> None:
    for number in range(MAX_KEPT_PIECES + 1):
        talk.receive(talk.server.chunk("s", 2 * number + 1, "x"))


def very_long_stream(talk: Talk) -> None:
    for number in range(3):
        talk.receive(talk.server.chunk("s", number + 1, "x" * (MAX_KEPT_TEXT // 2)))


@pytest.mark.parametrize(
    ("flood", "kept"), [(flood_of_streams, MAX_KEPT), (stream_full_of_holes, 0), (very_long_stream, 0)]
)
def test_state_stays_small_whatever_the_server_streams(flood: Callable[[Talk], None], kept: int) -> None:
    talk = Talk().ready()
    flood(talk)
    state = talk.state()
    assert len(state.streams) == kept
    assert len(state.to_json()) < 64 * 1024
    again = talk.resume().open().history().beat()
    again.receive(again.server.chunk(f"s{MAX_KEPT + 4}", 2, "!", last=True))
    assert (f"{MAX_KEPT + 4}!" in again.said()) is (kept > 0)
