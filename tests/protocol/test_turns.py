"""What ends an ask, a stream and a next_message (api.md, the table of that name)."""

from __future__ import annotations

from typing import Any

import pytest
from protocol_kit import Talk, answer, yielded

from polyai_sync.errors import (
    ConnectionLostError,
    DeliveryError,
    ReplyTimeoutError,
    SessionClosedError,
    SessionEndedError,
)
from polyai_sync.messages import Delivery, HandoffStatus

# --- who is told at once ----------------------------------------------------------------------------------------------


def test_a_reply_is_announced_once_in_the_midst_of_what_brings_it() -> None:
    talk = Talk().ready()
    seen: list[tuple[bool, str, bool]] = []

    def on_reply() -> None:
        assert turn.reply is not None
        seen.append((turn.done, turn.reply.text, talk.conversation.notices.position >= turn.done_at))

    turn = talk.asked(on_reply=on_reply)
    assert seen == []
    talk.receive(talk.server.agent("for two"), talk.server.agent("or three"))
    assert seen == [(True, "for two", True)]
    talk.receive(talk.server.event("SESSION_END", {"reason": "timeout"}))
    assert len(seen) == 1


def test_only_a_reply_is_announced() -> None:
    seen: list[None] = []
    talk = Talk().ready()
    turn = talk.asked(on_reply=lambda: seen.append(None), timeout=5)
    talk.wait(6)
    assert isinstance(turn.error, ReplyTimeoutError)
    assert seen == []


# --- which messages are the answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["agent", "live_agent"])
def test_first_whole_message_after_the_receipt_is_the_reply(role: str) -> None:
    talk = Talk().ready()
    turn = talk.asked()
    assert not turn.done
    talk.receive(getattr(talk.server, role)("for two"))
    assert answer(turn) == ["for two"]
    assert turn.reply is not None
    assert (turn.reply.complete, turn.reply.ended, turn.reply.handoff) == (True, False, None)
    assert talk.inbox() == []  # no other call returns it


def test_message_before_the_receipt_is_no_answer() -> None:
    talk = Talk().ready()
    turn = talk.ask()
    talk.receive(talk.server.agent("Are you there?")).echo_last("USER_MESSAGE")
    assert not turn.done
    talk.receive(talk.server.agent("for two"))
    assert answer(turn) == ["for two"]
    assert talk.inbox() == ["Are you there?"]


def test_servers_numbers_tell_an_answer_that_overtook_its_receipt() -> None:
    talk = Talk().ready()
    turn = talk.ask()
    before = talk.server.agent("Are you there?")
    receipt = talk.server.echo(talk.sent("USER_MESSAGE")[-1])
    after = talk.server.agent("for two")
    talk.receive(after, before)
    assert not turn.done
    talk.receive(receipt)
    assert answer(turn) == ["for two"]
    assert talk.inbox() == ["Are you there?"]


def test_first_of_several_answers_that_overtook_the_receipt_is_the_reply() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.agent("unread"), talk.server.agent("unread too"))
    turn = talk.ask()
    receipt = talk.server.echo(talk.sent("USER_MESSAGE")[-1])
    talk.receive(talk.server.agent("for two"), talk.server.agent("Anything else?"), receipt)
    assert answer(turn) == ["for two"]
    assert talk.inbox() == ["unread", "unread too", "Anything else?"]


def test_message_from_before_the_question_is_no_answer_however_late_it_comes() -> None:
    talk = Talk().ready()
    late = talk.server.agent("an old one")
    turn = talk.asked()
    talk.receive(late)
    assert not turn.done
    assert talk.inbox() == ["an old one"]


@pytest.mark.parametrize("numbered", ["receipt", "answer", "neither"])
def test_where_numbers_are_missing_the_order_of_arrival_decides(numbered: str) -> None:
    talk = Talk().ready()
    turn = talk.ask()

    def number(what: str) -> dict[str, Any]:
        return {} if what == numbered else {"sequence": None}

    talk.receive(talk.server.agent("early", sequence=None))
    talk.echo_last("USER_MESSAGE", **number("receipt"))
    assert not turn.done
    talk.receive(talk.server.agent("for two", **number("answer")))
    assert answer(turn) == ["for two"]
    assert talk.inbox() == ["early"]


def test_where_answer_and_receipt_share_a_number_the_order_of_arrival_decides() -> None:
    talk = Talk().ready()
    turn = talk.ask()
    place = talk.server.sequence + 1
    talk.receive(talk.server.agent("early", sequence=place)).echo_last("USER_MESSAGE", sequence=place)
    assert not turn.done
    talk.receive(talk.server.agent("for two", sequence=place))
    assert answer(turn) == ["for two"]


def test_stream_that_began_before_the_question_is_no_answer() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.chunk("old", 1, "As I "))
    turn = talk.asked()
    talk.receive(talk.server.chunk("old", 2, "said.", last=True))
    assert not turn.done
    assert yielded(turn) == ""
    assert talk.inbox() == ["As I said."]


def test_what_comes_after_the_reply_is_for_next_message() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.agent("for two"), talk.server.agent("Anything else?"))
    assert answer(turn) == ["for two"]
    assert talk.inbox() == ["Anything else?"]


def test_result_is_out_once_plugins_were_told_of_all_that_led_to_it() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    before = talk.conversation.notices.position
    talk.receive(talk.server.agent("for two"))
    assert [name for name, _ in talk.told[-2:]] == ["on_event", "on_message"]
    assert turn.done_at == before + 2


# --- settle: quiet that gathers further messages ----------------------------------------------------------------------


def test_settle_gathers_messages_until_it_has_been_quiet_that_long() -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=2.0)
    talk.receive(talk.server.agent("One.")).wait(1.9).receive(talk.server.agent("Two.")).wait(1.9)
    assert not turn.done
    talk.wait(0.1)
    assert answer(turn) == ["One.", "Two."]
    assert turn.reply is not None
    assert turn.reply.text == "One.\n\nTwo."


@pytest.mark.parametrize("type_", ["POLY_AGENT_THINKING", "LIVE_AGENT_TYPING"])
def test_an_agent_at_work_is_not_quiet(type_: str) -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=2.0)
    talk.receive(talk.server.agent("One.")).wait(1.5).receive(talk.server.event(type_, sequence=None)).wait(1.9)
    assert not turn.done
    talk.wait(0.1)
    assert answer(turn) == ["One."]


def test_thinking_before_the_first_message_begins_no_quiet() -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=2.0)
    talk.receive(talk.server.event("POLY_AGENT_THINKING")).wait(10)
    assert not turn.done


def test_it_is_not_quiet_while_a_message_grows() -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=2.0)
    talk.receive(talk.server.agent("One."), talk.server.chunk("s", 1, "Two")).wait(10)
    assert not turn.done
    talk.receive(talk.server.chunk("s", 2, ".", last=True)).wait(2)
    assert answer(turn) == ["One.", "Two."]


def test_message_that_is_replaced_while_quiet_is_awaited_counts_as_it_is_now() -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=2.0)
    talk.receive(*talk.server.stream("s", "fro ", "two"), talk.server.agent("for two", "s")).wait(2)
    assert answer(turn) == ["for two"]
    assert talk.inbox() == []


def test_older_message_that_is_corrected_meanwhile_is_no_part_of_the_reply() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.agent("Fro two?", "m"))
    turn = talk.asked(settle=2.0)
    talk.receive(talk.server.agent("Yes."), talk.server.agent("For two?", "m")).wait(2)
    assert answer(turn) == ["Yes."]
    assert talk.inbox() == ["For two?"]


# --- handoffs ---------------------------------------------------------------------------------------------------------

TRIGGER, CLIENT = "POLY_AGENT_TRIGGERED_HANDOFF", "CLIENT_HANDOFF_REQUIRED"


@pytest.mark.parametrize(
    ("type_", "status"), [(TRIGGER, HandoffStatus.TRIGGERED), (CLIENT, HandoffStatus.CLIENT_REQUIRED)]
)
@pytest.mark.parametrize(("settle", "quiet"), [(0.0, 1.0), (0.5, 1.0), (3.0, 3.0)])
def test_handoff_without_a_message_ends_the_turn_after_settle_or_at_least_a_second(
    type_: str, status: HandoffStatus, settle: float, quiet: float
) -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=settle)
    talk.receive(talk.server.event(type_)).wait(quiet - 0.01)
    assert not turn.done
    talk.wait(0.01)
    assert answer(turn) == []
    assert turn.reply is not None
    assert turn.reply.text == ""
    assert turn.reply.handoff is not None
    assert turn.reply.handoff.status is status


def test_message_right_after_the_trigger_is_the_reply_and_holds_the_handoff() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.event(TRIGGER)).wait(0.9).receive(talk.server.agent("I'll get someone."))
    assert answer(turn) == ["I'll get someone."]
    assert turn.reply is not None
    assert turn.reply.handoff is not None


def test_agent_at_work_makes_the_wait_behind_a_trigger_no_shorter() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.event(TRIGGER)).wait(0.5).receive(talk.server.event("POLY_AGENT_THINKING")).wait(0.4)
    assert not turn.done
    talk.receive(talk.server.agent("I'll get someone."))
    assert answer(turn) == ["I'll get someone."]


def test_farewell_that_is_still_streamed_is_waited_for() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.event(TRIGGER), talk.server.chunk("s", 1, "I'll get ")).wait(5)
    assert not turn.done
    talk.receive(talk.server.chunk("s", 2, "someone.", last=True))
    assert answer(turn) == ["I'll get someone."]


@pytest.mark.parametrize("type_", ["HANDOFF_ACCEPTED", "HANDOFF_QUEUE_STATUS", "HANDOFF_FAILED", "LIVE_AGENT_JOINED"])
def test_later_steps_of_a_handoff_end_no_turn_but_are_told_in_its_reply(type_: str) -> None:
    talk = Talk().ready()
    talk.receive(talk.server.event(TRIGGER))
    turn = talk.asked()
    talk.receive(talk.server.event(type_, {"queue_name": "Desk"})).wait(50)
    assert not turn.done
    talk.receive(talk.server.live_agent("Zoë here."))
    assert turn.reply is not None
    assert turn.reply.handoff == talk.conversation.scene.handoff


def test_handoff_from_before_the_receipt_is_not_this_turns() -> None:
    talk = Talk().ready()
    turn = talk.ask()
    talk.receive(talk.server.event(TRIGGER)).echo_last("USER_MESSAGE").wait(5)
    assert not turn.done
    talk.receive(talk.server.agent("for two"))
    assert turn.reply is not None
    assert turn.reply.handoff is None


# --- the greeting is nobody's answer ----------------------------------------------------------------------------------


def greeting_awaited(**options: Any) -> Talk:
    """The agent is there and has not spoken yet."""
    talk = Talk(**options)
    talk.open().history(talk.server.start()).beat().echo_last("REQUEST_POLY_AGENT_JOIN")
    return talk.receive(talk.server.joined())


def test_question_is_held_until_the_agent_has_greeted() -> None:
    talk = greeting_awaited()
    turn = talk.ask("a table")
    assert talk.texts_sent() == []
    talk.receive(talk.server.agent("Hello!"))
    assert talk.texts_sent() == ["a table"]
    talk.echo_last("USER_MESSAGE").receive(talk.server.agent("for two"))
    assert answer(turn) == ["for two"]
    assert talk.inbox() == ["Hello!"]


def test_streamed_greeting_holds_a_question_only_until_it_begins() -> None:
    talk = greeting_awaited()
    turn = talk.ask("a table")
    talk.receive(talk.server.chunk("g", 1, "Hel"))
    assert talk.texts_sent() == ["a table"]
    talk.echo_last("USER_MESSAGE").receive(talk.server.chunk("g", 2, "lo!", last=True))
    assert not turn.done
    assert talk.inbox() == ["Hello!"]


@pytest.mark.parametrize(("limit", "held"), [(30.0, 30.0), (2.0, 2.0)])
def test_greeting_that_does_not_come_in_time_is_not_waited_for_longer(limit: float, held: float) -> None:
    talk = greeting_awaited(greeting_limit=limit)
    talk.ask("a table", timeout=None)
    talk.wait(held - 0.01)
    assert talk.texts_sent() == []
    talk.wait(0.01)
    assert talk.texts_sent() == ["a table"]


def test_time_that_runs_out_behind_a_greeting_says_that_nothing_was_sent() -> None:
    talk = greeting_awaited()
    turn = talk.ask("a table", timeout=5)
    talk.wait(5)
    assert isinstance(turn.error, DeliveryError)
    assert turn.error.outcome == "not_received"
    talk.receive(talk.server.agent("Hello!"))
    assert talk.texts_sent() == []


def test_greeting_of_a_repeated_join_is_no_answer() -> None:
    talk = Talk().ready().join_again()
    turn = talk.ask("a table")
    talk.receive(talk.server.joined(), talk.server.agent("Hello again!"))
    talk.echo_last("USER_MESSAGE").receive(talk.server.agent("for two"))
    assert answer(turn) == ["for two"]
    assert talk.inbox() == ["Hello again!"]


# --- time is up -------------------------------------------------------------------------------------------------------


def test_time_up_before_the_receipt_is_a_delivery_error_of_unknown_outcome() -> None:
    talk = Talk().ready()
    turn = talk.ask(timeout=10)
    talk.wait(9.99)
    assert not turn.done
    talk.wait(0.01)
    assert isinstance(turn.error, DeliveryError)
    assert turn.error.outcome == "unknown"
    assert talk.messages[-1].delivery is Delivery.FAILED


def test_receipt_that_does_not_come_ends_the_turn_before_its_time() -> None:
    talk = Talk(receipt_limit=15.0).ready()
    turn = talk.ask(timeout=100)
    talk.wait(15)
    assert isinstance(turn.error, DeliveryError)


def test_time_up_after_the_receipt_is_a_reply_timeout_and_a_late_answer_is_the_next_message() -> None:
    talk = Talk().ready()
    turn = talk.asked(timeout=10)
    talk.wait(10)
    assert isinstance(turn.error, ReplyTimeoutError)
    talk.leave(turn).receive(talk.server.agent("for two"))
    assert talk.inbox() == ["for two"]


def test_half_of_an_answer_is_none_when_time_is_up() -> None:
    talk = Talk().ready()
    turn = talk.asked(timeout=10)
    talk.receive(talk.server.chunk("s", 1, "for ")).wait(10)
    assert isinstance(turn.error, ReplyTimeoutError)
    talk.leave(turn).receive(talk.server.chunk("s", 2, "two", last=True))
    assert talk.inbox() == ["for two"]


def test_time_up_while_quiet_is_awaited_gives_what_there_is() -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=5.0, timeout=10)
    talk.wait(8).receive(talk.server.agent("for two")).wait(2)
    assert answer(turn) == ["for two"]


def test_no_deadline_waits_for_ever() -> None:
    talk = Talk(receipt_limit=None).ready()
    turn = talk.asked(timeout=None)
    assert turn.due() is None
    talk.wait(1e6, echoing=True)
    assert not turn.done


# --- the connection and the session -----------------------------------------------------------------------------------


def test_dropped_connection_ends_nothing_and_the_answer_may_come_in_the_replay() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.drop(1006).wait(20)
    assert not turn.done
    talk.again(talk.server.agent("for two"))
    assert answer(turn) == ["for two"]
    assert turn.reply is not None
    assert turn.reply.messages[0].replayed


def test_receipt_and_answer_may_both_come_in_the_replay() -> None:
    talk = Talk().ready()
    turn = talk.ask()
    receipt = talk.server.echo(talk.sent("USER_MESSAGE")[-1])
    talk.drop().again(receipt, talk.server.agent("for two"))
    assert answer(turn) == ["for two"]
    assert talk.texts_sent() == ["hi"]


def test_connection_lost_for_good_before_the_receipt_is_a_delivery_error_chained_to_the_loss() -> None:
    talk = Talk().ready()
    turn = talk.ask()
    lost = ConnectionLostError("given up")
    talk.drop().lose(lost)
    assert isinstance(turn.error, DeliveryError)
    assert turn.error.outcome == "unknown"
    assert turn.error.__cause__ is lost


def test_connection_lost_for_good_after_the_receipt_is_the_loss_itself() -> None:
    talk = Talk().ready()
    first, second = talk.asked(), talk.ask()
    lost = ConnectionLostError("given up", attempts=7)
    talk.drop().lose(lost)
    for turn in (first, second):
        assert isinstance(turn.error, ConnectionLostError)
        assert turn.error.attempts == 7
        assert turn.error is not lost  # one exception in two threads would gather both tracebacks
    assert first.error is not second.error


@pytest.mark.parametrize(
    ("came", "expected"), [("whole", ["for two"]), ("half", SessionClosedError), ("none", SessionClosedError)]
)
def test_close_returns_a_whole_reply_and_nothing_less(came: str, expected: Any) -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=5.0)
    if came == "whole":
        talk.receive(talk.server.agent("for two"))
    elif came == "half":
        talk.receive(talk.server.chunk("s", 1, "for "))
    talk.close()
    if came == "whole":
        assert answer(turn) == expected
    else:
        assert isinstance(turn.error, expected)


@pytest.mark.parametrize(
    ("came", "texts"), [("whole", ["for two"]), ("half", ["for "]), ("none", None), ("unreceived", None)]
)
def test_end_of_the_session_gives_what_came_of_the_answer_even_half_of_it(came: str, texts: list[str] | None) -> None:
    talk = Talk().ready()
    turn = talk.ask(settle=5.0)
    if came != "unreceived":
        talk.echo_last("USER_MESSAGE")
    if came == "whole":
        talk.receive(talk.server.agent("for two"))
    elif came == "half":
        talk.receive(talk.server.chunk("s", 1, "for "))
    talk.receive(talk.server.event("SESSION_END", {"reason": "REASON_NATURAL_END"}))
    if texts is None:
        assert isinstance(turn.error, SessionEndedError)
        assert turn.error.reason == "REASON_NATURAL_END"
    else:
        assert answer(turn) == texts
        assert turn.reply is not None
        assert turn.reply.ended
        assert turn.reply.complete is (came == "whole")
    if came == "unreceived":
        assert [message.delivery for message in talk.hooks("on_delivery")] == [Delivery.FAILED]


# --- several questions ------------------------------------------------------------------------------------------------


def test_questions_are_asked_one_after_the_other_in_order_of_arrival() -> None:
    talk = Talk().ready()
    first, second, third = talk.ask("one"), talk.ask("two"), talk.ask("three")
    assert talk.texts_sent() == ["one"]
    talk.echo_last("USER_MESSAGE").receive(talk.server.agent("1"))
    assert talk.texts_sent() == ["one", "two"]
    talk.echo_last("USER_MESSAGE").receive(talk.server.agent("2"))
    talk.echo_last("USER_MESSAGE").receive(talk.server.agent("3"))
    assert [answer(turn) for turn in (first, second, third)] == [["1"], ["2"], ["3"]]


def test_turn_whose_caller_does_not_look_holds_nobody_up() -> None:
    talk = Talk().ready()
    left_behind = talk.asked("one")
    second = talk.ask("two")
    talk.receive(talk.server.agent("1")).echo_last("USER_MESSAGE").receive(talk.server.agent("2"))
    assert answer(second) == ["2"]
    assert answer(left_behind) == ["1"]


def test_caller_who_goes_away_lets_the_next_one_ask() -> None:
    talk = Talk().ready()
    first, second = talk.asked("one"), talk.ask("two")
    talk.leave(first)
    assert talk.texts_sent() == ["one", "two"]
    talk.echo_last("USER_MESSAGE").receive(talk.server.agent("2"))
    assert answer(second) == ["2"]


def test_question_that_is_asked_again_goes_to_the_head_of_the_line_but_not_before_the_one_under_way() -> None:
    talk = Talk().ready()
    talk.asked("under way")
    talk.ask("in line")
    talk.ask("again", first=True)
    talk.receive(talk.server.agent("1")).echo_last("USER_MESSAGE").receive(talk.server.agent("2"))
    assert talk.texts_sent() == ["under way", "again", "in line"]


def test_time_that_runs_out_in_line_says_that_nothing_was_sent() -> None:
    talk = Talk().ready()
    talk.asked("one", timeout=50)
    second = talk.ask("two", timeout=10)
    talk.wait(10)
    assert isinstance(second.error, DeliveryError)
    assert second.error.outcome == "not_received"
    talk.wait(50)
    assert talk.texts_sent() == ["one"]


# --- interrupted: what the caller will not see is for next_message ----------------------------------------------------


def test_whole_messages_of_an_interrupted_turn_are_given_back_in_their_place() -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=5.0)
    talk.receive(
        talk.server.agent("One."),
        *talk.server.stream("s", "Tw", "o."),
        talk.server.chunk("t", 1, "Thr"),
        talk.server.agent("Four."),
    )
    talk.leave(turn)
    assert talk.inbox() == ["One.", "Two.", "Four."]
    talk.receive(talk.server.chunk("t", 2, "ee.", last=True))
    assert talk.inbox() == ["Three."]


def test_given_back_message_stands_before_those_that_came_later() -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=5.0)
    talk.receive(talk.server.agent("One."), talk.server.error("Sorry, I encountered an error. Please try again."))
    assert turn.error is not None
    talk.receive(talk.server.agent("Two."))
    assert talk.inbox() == ["One.", "Two."]


def test_reply_that_was_returned_is_not_given_back() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.agent("for two")).leave(turn)
    assert talk.inbox() == []


def test_next_message_returns_each_message_once_in_the_order_in_which_they_began() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.chunk("s", 1, "On"), talk.server.agent("Two."), talk.server.chunk("s", 2, "e.", last=True))
    talk.receive(talk.server.user("from another tab"))
    assert talk.inbox() == ["One.", "Two."]
    assert talk.inbox() == []


# --- stream: the reply's text as it is generated ----------------------------------------------------------------------


def test_text_is_yielded_chunk_by_chunk() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    assert yielded(turn) == ""
    first, second, last = talk.server.stream("s", "for ", "two", "")
    talk.receive(first)
    assert yielded(turn) == "[for ]"
    talk.receive(second)
    assert yielded(turn) == "[two]"
    talk.receive(last)
    assert yielded(turn) == ""
    assert answer(turn) == ["for two"]


def test_beginning_that_overtook_the_receipt_is_yielded_with_the_receipt() -> None:
    talk = Talk().ready()
    turn = talk.ask()
    receipt = talk.server.echo(talk.sent("USER_MESSAGE")[-1])
    talk.receive(talk.server.chunk("s", 1, "for "))
    assert yielded(turn) == ""
    talk.receive(receipt)
    assert yielded(turn) == "[for ]"
    talk.receive(talk.server.chunk("s", 2, "two", last=True))
    assert answer(turn) == ["for two"]


def test_chunk_is_held_back_until_the_one_before_it_is_there() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    first, second, third = talk.server.stream("s", "a ", "table ", "for two")
    talk.receive(first, third)
    assert yielded(turn) == "[a ]"
    talk.receive(second)
    assert yielded(turn) == "[table for two]"


def test_messages_of_one_turn_are_set_apart_by_a_blank_line() -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=1.0)
    talk.receive(talk.server.agent("One."), *talk.server.stream("s", "Tw", "o.")).wait(1)
    assert yielded(turn) == "[One.][\n\n][Tw][o.]"
    assert turn.reply is not None
    assert turn.reply.text == "One.\n\nTwo."


def test_woven_messages_are_yielded_one_after_the_other() -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=1.0)
    a1, a2 = talk.server.stream("a", "One", ".")
    b1, b2 = talk.server.stream("b", "Two", ".")
    talk.receive(a1, b1)
    assert yielded(turn) == "[One]"
    talk.receive(b2)
    assert yielded(turn) == ""
    talk.receive(a2)
    assert yielded(turn) == "[.][\n\n][Two.]"
    talk.wait(1)
    assert answer(turn) == ["One.", "Two."]


def test_text_that_a_whole_message_replaces_is_not_yielded_twice() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.chunk("s", 1, "fro "))
    assert yielded(turn) == "[fro ]"
    talk.receive(talk.server.agent("for two", "s"))
    assert yielded(turn) == ""
    assert answer(turn) == ["for two"]


def test_whole_message_that_goes_on_where_its_stream_stopped_yields_the_rest() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(talk.server.chunk("s", 1, "for "), talk.server.agent("for two", "s"))
    assert yielded(turn) == "[for ][two]"


def test_text_of_a_stream_that_was_cut_short_is_yielded_as_far_as_it_came() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(
        talk.server.chunk("s", 1, "for "), talk.server.chunk("s", 3, "please"), talk.server.event("SESSION_END")
    )
    assert yielded(turn) == "[for ][please]"
    assert answer(turn) == ["for please"]


def test_what_can_no_longer_be_said_in_its_place_is_left_to_the_reply() -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=5.0)
    first, second, third, fourth = talk.server.stream("s", "a", "b", "c", "d")
    talk.receive(first, fourth).wait(2)
    assert yielded(turn) == "[a][d]"
    talk.receive(second).receive(third).wait(5)
    assert yielded(turn) == ""
    assert answer(turn) == ["abcd"]


def test_text_of_messages_that_are_not_in_the_reply_is_not_yielded_once_it_is_there() -> None:
    talk = Talk().ready()
    turn = talk.asked()
    talk.receive(
        talk.server.chunk("a", 1, "One"), talk.server.chunk("b", 1, "Two"), talk.server.live_agent("Zoë here.")
    )
    assert answer(turn) == ["Zoë here."]
    assert yielded(turn) == "[One][\n\n][Zoë here.]"


def test_blank_line_waits_for_a_text_to_set_apart() -> None:
    talk = Talk().ready()
    turn = talk.asked(settle=1.0)
    talk.receive(talk.server.agent(""), talk.server.agent("One."), talk.server.agent("")).wait(1)
    assert yielded(turn) == "[One.]"
    assert turn.reply is not None
    assert turn.reply.text == "One."
