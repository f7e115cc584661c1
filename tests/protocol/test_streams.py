"""Chunks to messages (protocol.md §7 "Streams")."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from protocol_kit import Server, Talk, answer, yielded

from polyai_sync.events import PolyAgentMessageChunk
from polyai_sync.messages import Attachment, Message, Suggestion
from polyai_sync.protocol.streams import MAX_OPEN, Streams


def growing(talk: Talk) -> list[str]:
    """What is not complete, while anything grows; a message that was cut short does not."""
    incomplete = [message.text for message in talk.messages if not message.complete]
    return incomplete if talk.conversation.scene.streaming else []


def last(talk: Talk) -> tuple[str, bool]:
    """The last message of the transcript: its text, and whether it came whole."""
    message = talk.messages[-1]
    return message.text, message.complete


# --- one message ------------------------------------------------------------------------------------------------------


@pytest.mark.pitfall(9)
def test_chunks_are_joined_as_they_stand() -> None:
    talk = Talk().ready()
    for chunk, text in zip(
        talk.server.stream("s", "A ", "tab", "le\n", "for  two."), ["A ", "A tab", "A table\n", None], strict=True
    ):
        talk.receive(chunk)
        assert growing(talk) == ([] if text is None else [text])
    assert last(talk) == ("A table\nfor  two.", True)
    assert talk.inbox() == ["A table\nfor  two."]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_chunks_are_put_in_order_whatever_order_they_come_in(order: tuple[int, ...], first: int) -> None:
    talk = Talk().ready()
    chunks = talk.server.stream("s", "a", "b", "c", "d", first=first)
    talk.receive(*(chunks[place] for place in order)).wait(2)
    assert last(talk) == ("abcd", True)
    assert talk.inbox() == ["abcd"]


@pytest.mark.parametrize("first", [0, 1])
def test_message_is_whole_at_its_last_chunk_without_waiting(first: int) -> None:
    talk = Talk().ready()
    talk.receive(*talk.server.stream("s", "a", "b", first=first))
    assert talk.inbox() == ["ab"]


def test_message_numbered_from_some_other_number_is_whole_after_the_grace() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(*talk.server.stream("s", "a", "b", first=7)).wait(1.99)
    assert not turn.done
    assert yielded(turn) == ""  # what comes before it may still come
    talk.wait(0.01)
    assert answer(turn) == ["ab"]
    assert yielded(turn) == "[ab]"
    assert last(talk) == ("ab", True)


@pytest.mark.parametrize("text", ["", None])
def test_last_chunk_may_carry_no_text(text: str | None) -> None:
    talk = Talk().ready()
    talk.receive(talk.server.chunk("s", 1, "all"), talk.server.chunk("s", 2, text, last=True))
    assert talk.inbox() == ["all"]


def test_message_of_one_chunk_is_whole_at_once() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.chunk("s", 1, "all", last=True))
    assert talk.inbox() == ["all"]


REPEATS = [
    (first, repeated, after, text)
    for first, after, text in itertools.product((0, 1), range(3), ("same", "other"))
    for repeated in range(after + 1)
    if (first, after, text) != (0, 0, "other")  # cannot be told from a server that leaves the index out
]


@pytest.mark.pitfall(9)
@pytest.mark.parametrize(("first", "repeated", "after", "text"), REPEATS)
def test_repeated_index_counts_once_under_whatever_event_id(first: int, repeated: int, after: int, text: str) -> None:
    talk = Talk().ready()
    chunks = talk.server.stream("s", "a", "b", "c", first=first)
    again = talk.server.chunk("s", first + repeated, "X" if text == "other" else "abc"[repeated])
    talk.receive(*chunks[: after + 1], again, *chunks[after + 1 :])
    assert last(talk) == ("abc", True)
    assert talk.inbox() == ["abc"]


def test_last_chunk_may_be_a_repeated_one() -> None:
    talk = Talk().ready()
    talk.receive(*talk.server.stream("s", "a", "b", complete=False))
    talk.receive(talk.server.chunk("s", 2, "", last=True))
    assert talk.inbox() == ["ab"]


@pytest.mark.parametrize("order", ["1 2 3", "2 3 1", "2 1 3"])
def test_chunk_behind_the_last_one_is_no_part_of_the_message(order: str) -> None:
    talk = Talk().ready()
    texts = {"1": "a", "2": "b", "3": "X"}
    talk.receive(*(talk.server.chunk("s", int(index), texts[index], last=index == "2") for index in order.split()))
    assert last(talk) == ("ab", True)
    assert talk.inbox() == ["ab"]


def test_attachments_and_suggestions_are_gathered_each_once() -> None:
    talk = Talk().ready()
    menu, map_ = {"title": "Menu"}, {"title": "Map"}
    yes, no = {"message_text": "Yes"}, {"message_text": "No"}
    parts = [([menu], [yes]), ([menu, map_], []), ([], [no, yes])]
    for chunk, (attachments, suggestions) in zip(talk.server.stream("s", "a", "b", "c"), parts, strict=True):
        chunk["payload"] |= {"attachments": attachments, "response_suggestions": suggestions}
        talk.receive(chunk)
    message = talk.messages[-1]
    assert message.attachments == (Attachment(title="Menu"), Attachment(title="Map"))
    assert message.suggestions == (Suggestion(message_text="Yes"), Suggestion(message_text="No"))


def test_streamed_message_stands_and_is_dated_where_it_began() -> None:
    talk = Talk().ready()
    chunks = talk.server.stream("s", "a", "b")
    chunks[0]["timestamp"], chunks[1]["timestamp"] = "2024-05-01T10:00:01Z", "2024-05-01T10:00:09Z"
    talk.receive(chunks[1], chunks[0])
    message = talk.messages[-1]
    assert message.sequence == chunks[0]["sequence"]
    assert message.timestamp is not None
    assert message.timestamp.second == 1


def test_plugins_are_told_of_a_streamed_message_once_when_it_is_whole() -> None:
    talk = Talk().ready()
    *most, final = talk.server.stream("s", "a", "b", "c")
    talk.receive(*most)
    assert talk.hooks("on_message") == []
    talk.receive(final, talk.server.chunk("s", 2, "b"))
    assert [message.text for message in talk.hooks("on_message")] == ["abc"]


# --- servers that number nothing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [("for ", "two"), ("ha", "haha", "ha"), ("a", "", "b")])
def test_chunks_without_an_index_are_taken_in_order_of_arrival(texts: tuple[str, ...]) -> None:
    talk = Talk().ready()
    for place, text in enumerate(texts):
        chunk = talk.server.chunk("s", 0, text, last=place == len(texts) - 1)
        del chunk["payload"]["chunk_index"]
        talk.receive(chunk)
    assert talk.inbox() == ["".join(texts)]


def test_messages_without_an_id_follow_one_another() -> None:
    talk = Talk().ready()
    talk.receive(*talk.server.stream("", "One", "."), *talk.server.stream("", "Two", "."))
    talk.receive(talk.server.agent("Three.", ""), talk.server.agent("Four.", ""))
    assert talk.inbox() == ["One.", "Two.", "Three.", "Four."]
    assert talk.said()[-4:] == ["One.", "Two.", "Three.", "Four."]


# --- a chunk is missing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0, 1])
def test_missing_chunk_is_waited_for_two_seconds_from_the_last_one(missing: int) -> None:
    talk = Talk().ready()
    turn = talk.asked()
    chunks = talk.server.stream("s", "a", "b", "c")
    late = chunks.pop(missing)
    talk.receive(*chunks).wait(1.99)
    assert not turn.done
    talk.receive(late)
    assert answer(turn) == ["abc"]
    assert last(talk) == ("abc", True)


def test_grace_is_not_made_longer_by_what_comes_meanwhile() -> None:
    talk = Talk().ready()
    first, second, _, fourth = talk.server.stream("s", "a", "b", "c", "d")
    talk.receive(first, fourth).wait(1.5).receive(second).wait(0.5)
    assert growing(talk) == []
    assert last(talk) == ("abd", False)
    assert talk.inbox() == []  # next_message returns whole ones


def test_grace_begins_at_a_last_chunk_that_is_a_repeated_one_too() -> None:
    talk = Talk().ready()
    talk.receive(
        talk.server.chunk("s", 1, "a"), talk.server.chunk("s", 3, "c"), talk.server.chunk("s", 3, "", last=True)
    )
    assert growing(talk) == ["ac"]
    talk.wait(2)
    assert growing(talk) == []
    assert last(talk) == ("ac", False)


def test_message_whose_chunk_never_comes_is_finished_as_it_is_and_not_complete() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    first, _, third = talk.server.stream("s", "a", "b", "c")
    talk.receive(first, third).wait(2)
    assert answer(turn) == ["ac"]
    assert turn.reply is not None
    assert not turn.reply.complete
    assert last(talk) == ("ac", False)
    assert talk.inbox() == []
    assert talk.hooks("on_message") == talk.hooks("on_delivery")  # its own question; never half a message


@pytest.mark.parametrize("number", [0, 1, 7])
def test_chunk_that_comes_after_the_grace_mends_its_message_at_once(number: int) -> None:
    talk = Talk().ready()
    first, second, third = talk.server.stream("s", "a", "b", "c", first=number)
    talk.receive(first, third).wait(5)
    assert last(talk) == ("ac", False)
    talk.receive(second)
    assert last(talk) == ("abc", True)
    assert talk.inbox() == ["abc"]
    assert [message.text for message in talk.hooks("on_message")] == ["abc"]


def test_beginning_that_comes_late_mends_a_message_that_was_taken_for_whole() -> None:
    talk = Talk().ready()
    first, second, third = talk.server.stream("s", "a", "b", "c")
    talk.receive(second, third).wait(2)
    assert last(talk) == ("bc", True)
    talk.receive(first)
    assert last(talk) == ("abc", True)
    assert talk.inbox() == ["abc"]  # nobody had read it yet
    assert talk.messages[-1].sequence == first["sequence"]
    assert len(talk.hooks("on_message")) == 1


def test_beginning_that_comes_late_is_in_a_reply_that_still_waits_for_quiet() -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=2.0)
    first, second, third = talk.server.stream("s", "a", "b", "c")
    talk.receive(second, third).wait(3).receive(first).wait(2)
    assert answer(turn) == ["abc"]


def test_stream_that_only_stalls_is_waited_for() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.chunk("s", 1, "a")).wait(60, echoing=True)
    assert growing(talk) == ["a"]
    talk.receive(talk.server.chunk("s", 2, "b", last=True))
    assert talk.inbox() == ["ab"]


# --- several at once --------------------------------------------------------------------------------------------------


def woven() -> list[list[str]]:
    """Every way to weave two messages of two chunks into one another."""
    names = ["a1", "a2", "b1", "b2"]
    return [
        list(order)
        for order in itertools.permutations(names)
        if order.index("a1") < order.index("a2") and order.index("b1") < order.index("b2") and order[0] == "a1"
    ]


@pytest.mark.pitfall(9)
@pytest.mark.parametrize("order", woven(), ids="".join)
def test_woven_messages_do_not_cut_each_other(order: list[str]) -> None:
    talk = Talk().ready()
    for name in order:
        talk.receive(talk.server.chunk(name[0], int(name[1]), name, last=name[1] == "2"))
    assert talk.said()[-2:] == ["a1a2", "b1b2"]
    assert all(message.complete for message in talk.messages)
    assert talk.inbox() == ["a1a2", "b1b2"]


@pytest.mark.parametrize("order", [order for order in woven() if order[:2] != ["a1", "a2"]], ids="".join)
@pytest.mark.parametrize("settle", [0.0, 1.5])
def test_reply_of_woven_messages_is_whole_and_in_order(order: list[str], settle: float) -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=settle)
    for name in order:
        talk.receive(talk.server.chunk(name[0], int(name[1]), name, last=name[1] == "2"))
    talk.wait(settle)
    if order[-1] == "a2" or settle:  # the later message was whole first: the earlier one is waited for
        assert answer(turn) == ["a1a2", "b1b2"]
        assert yielded(turn).replace("][", "") == "[a1a2\n\nb1b2]"
    else:
        assert answer(turn) == ["a1a2"]
        assert talk.inbox() == ["b1b2"]


def test_reply_waits_for_an_earlier_stream_as_long_as_that_goes_on() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.chunk("a", 1, "1 "), talk.server.agent("B"))
    for index in (2, 3, 4):
        talk.wait(0.9).receive(talk.server.chunk("a", index, f"{index} "))
    assert not turn.done
    talk.receive(talk.server.chunk("a", 5, "5", last=True))
    assert answer(turn) == ["1 2 3 4 5", "B"]
    assert turn.reply is not None
    assert turn.reply.complete


def test_reply_waits_one_second_for_an_earlier_stream_that_does_not_go_on() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.chunk("a", 1, "half"), talk.server.agent("B")).wait(0.99)
    assert not turn.done
    talk.wait(0.01)
    assert answer(turn) == ["half", "B"]
    assert turn.reply is not None
    assert [message.complete for message in turn.reply.messages] == [False, True]


def test_earlier_stream_that_still_goes_on_when_time_is_up_is_left_to_next_message() -> None:
    talk = Talk().ready()
    turn = talk.asked(timeout=2.0)
    talk.receive(talk.server.chunk("a", 1, "1 "), talk.server.agent("B"))
    for index in (2, 3):
        talk.wait(0.9).receive(talk.server.chunk("a", index, f"{index} "))
    talk.wait(0.2)
    assert answer(turn) == ["B"]
    talk.receive(talk.server.chunk("a", 4, "4", last=True))
    assert talk.inbox() == ["1 2 3 4"]


def test_each_of_three_woven_messages_is_waited_for() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.chunk("a", 1, "a"), talk.server.chunk("b", 1, "b"), talk.server.agent("C"))
    talk.wait(0.5).receive(talk.server.chunk("b", 2, "!", last=True))
    assert not turn.done
    talk.receive(talk.server.chunk("a", 2, "!", last=True))
    assert answer(turn) == ["a!", "b!", "C"]


def test_stream_that_goes_on_after_its_turn_ended_is_for_next_message() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.chunk("a", 1, "ha"), talk.server.agent("B")).wait(1)
    assert answer(turn) == ["ha", "B"]
    talk.receive(talk.server.chunk("a", 2, "lf", last=True))
    assert talk.inbox() == ["half"]
    assert talk.said()[-2:] == ["half", "B"]


# --- abandoned --------------------------------------------------------------------------------------------------------


def a_later_message(talk: Talk) -> Any:
    talk.receive(talk.server.agent("B"))


def a_later_stream(talk: Talk) -> Any:
    talk.receive(*talk.server.stream("b", "B", ""))


def the_end(talk: Talk) -> Any:
    talk.receive(talk.server.event("SESSION_END"))


def close_1000(talk: Talk) -> Any:
    talk.drop(1000)


def the_servers_error(talk: Talk) -> Any:
    talk.receive(talk.server.error("Sorry, I encountered an error. Please try again."))


@pytest.mark.pitfall(9)
@pytest.mark.parametrize("what", [a_later_message, a_later_stream, the_end, close_1000, the_servers_error])
def test_abandoned_stream_is_kept_incomplete(what: Any) -> None:
    talk = Talk().ready()
    talk.receive(talk.server.chunk("a", 1, "half"))
    what(talk)
    kept = next(message for message in talk.messages if message.message_id == "a")
    assert (kept.text, kept.complete) == ("half", False)
    assert not talk.conversation.scene.streaming
    assert "half" not in [message.text for message in talk.hooks("on_message")]
    assert [text for text in talk.said() if text != "half"] in (["Hello!"], ["Hello!", "B"])  # and leaks nowhere
    assert "half" not in talk.inbox()


@pytest.mark.parametrize(
    "what", ["USER_MESSAGE", "LIVE_AGENT_MESSAGE", "POLY_AGENT_LEFT", "a drop", "an earlier stream"]
)
def test_other_things_leave_a_stream_growing(what: str) -> None:
    talk = Talk().ready()
    if what == "an earlier stream":
        talk.receive(talk.server.chunk("earlier", 1, "x"), talk.server.chunk("a", 1, "ha"))
        talk.receive(talk.server.chunk("earlier", 2, "y", last=True))
    else:
        talk.receive(talk.server.chunk("a", 1, "ha"))
        if what == "a drop":
            talk.drop(1006).again()
        else:
            talk.receive(talk.server.event(what, {"text": "x", "message_id": "other"}))
    assert growing(talk) == ["ha"]
    talk.receive(talk.server.chunk("a", 2, "lf", last=True))
    assert "half" in talk.inbox()


def test_stream_that_goes_on_after_it_was_cut_short_is_shown_once() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.chunk("a", 1, "h"), talk.server.agent("B"), talk.server.chunk("a", 2, "al"))
    assert talk.said() == ["Hello!", "B", "hal"]
    talk.receive(talk.server.chunk("a", 3, "f", last=True))
    assert talk.said() == ["Hello!", "half", "B"]


def test_servers_error_leaves_a_stream_alone_that_began_after_it() -> None:
    talk = Talk().ready()
    error = talk.server.error("Sorry, I encountered an error. Please try again.")
    talk.receive(talk.server.chunk("a", 1, "ha"), error)
    assert growing(talk) == ["ha"]


def test_oldest_streams_are_finished_where_more_are_open_than_any_agent_would_have() -> None:
    streams, left = Streams(), []
    for number in range(MAX_OPEN + 2):
        streams.chunk(PolyAgentMessageChunk(message_id=f"s{number}"), born=number, old=False, now=0.0)
        left += [stream.message_id for stream in streams.overflow()]
    assert len(list(streams)) == MAX_OPEN
    assert left == ["s0", "s1"]


def test_flood_of_streams_is_bounded_and_the_oldest_are_finished_as_they_are() -> None:
    talk = Talk().ready()
    for number in range(MAX_OPEN + 2):
        talk.receive(talk.server.chunk(f"s{number}", 1, f"{number}"))
    assert [message.text for message in talk.messages[1:3]] == ["0", "1"]
    assert len(talk.messages) == 1 + MAX_OPEN + 2
    talk.receive(talk.server.chunk("s0", 2, "!", last=True))
    assert "0!" in talk.inbox()


def test_late_chunk_of_a_message_long_forgotten_changes_nothing() -> None:
    talk = Talk().ready()
    talk.receive(*talk.server.stream("a", "One", "."))
    for number in range(MAX_OPEN + 1):
        talk.receive(*talk.server.stream(f"s{number}", "x", "y"))
    before = talk.messages
    talk.receive(talk.server.chunk("a", 3, "?"))
    assert talk.messages == before


# --- a whole message in the place of a stream -------------------------------------------------------------------------

ALL = ["Before its chunks", "while it grows", "after its end"]


@pytest.mark.parametrize("when", ALL)
def test_whole_message_with_the_id_of_a_streamed_one_replaces_it_and_is_no_second_one(when: str) -> None:
    talk = Talk().ready()
    chunks = talk.server.stream("s", "fro ", "two")
    whole = talk.server.agent("for two", "s")
    place = {ALL[0]: 0, ALL[1]: 1, ALL[2]: 2}[when]
    talk.receive(*chunks[:place], whole, *chunks[place:]).wait(2)
    assert talk.said()[1:] == ["for two"]
    assert last(talk) == ("for two", True)
    assert talk.inbox() == ["for two"]
    assert len(talk.hooks("on_message")) == 1
    assert not talk.conversation.scene.streaming


@pytest.mark.parametrize("when", ALL)
def test_replaced_message_stands_where_its_first_part_stands(when: str) -> None:
    talk = Talk().ready()
    first, second = talk.server.stream("s", "fro ", "two")
    between = talk.server.user("from another tab")
    whole = talk.server.agent("for two", "s")
    order = {
        ALL[0]: [between, whole, first, second],
        ALL[1]: [first, between, whole],
        ALL[2]: [first, second, between, whole],
    }
    talk.receive(*order[when])
    assert talk.said()[1:] == ["for two", "from another tab"]


def test_whole_message_of_one_that_was_cut_short_is_read_in_its_place() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.chunk("a", 1, "ha"), talk.server.agent("B"), talk.server.agent("half", "a"))
    assert talk.said() == ["Hello!", "half", "B"]
    assert talk.inbox() == ["half", "B"]


def test_reply_holds_what_replaced_the_stream() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.chunk("s", 1, "fro "), talk.server.agent("for two", "s"))
    assert answer(turn) == ["for two"]


def test_message_that_comes_twice_with_another_text_is_corrected() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.agent("fro two", "m"), talk.server.agent("for two", "m"))
    assert talk.said()[1:] == ["for two"]
    assert talk.inbox() == ["for two"]
    assert len(talk.hooks("on_message")) == 1


def test_live_agents_message_replaces_no_stream_of_the_agent() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.chunk("m", 1, "for "))
    talk.receive(talk.server.event("LIVE_AGENT_MESSAGE", {"message_id": "m", "text": "Zoë here."}))
    talk.receive(talk.server.chunk("m", 2, "two", last=True))
    assert talk.inbox() == ["for two", "Zoë here."]


# --- in the history ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "replayed"), [(0, False), (1, False), (2, True)])
def test_message_is_replayed_where_all_of_it_came_in_the_history(split: int, replayed: bool) -> None:
    talk = Talk().ready()
    chunks = talk.server.stream("s", "a", "b")
    talk.drop().again(*chunks[:split]).receive(*chunks[split:])
    message: Message = talk.messages[-1]
    assert (message.text, message.replayed) == ("ab", replayed)


def test_message_that_began_live_and_ended_in_the_history_is_not_replayed() -> None:
    talk = Talk().ready()
    first, second = talk.server.stream("s", "a", "b")
    talk.receive(first).drop().again(second)
    assert last(talk) == ("ab", True)
    assert not talk.messages[-1].replayed


def test_stream_goes_on_over_a_reconnect_that_repeats_it_from_its_beginning() -> None:
    talk = Talk(server := Server()).ready()
    first, second, third = server.stream("s", "a", "b", "c")
    talk.receive(first, second).drop().again(first, second, third)
    assert last(talk) == ("abc", True)
