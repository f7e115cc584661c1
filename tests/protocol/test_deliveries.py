"""A user's message from the call to its settlement (protocol.md §4 "Echoes", §7 "Reconnecting")."""

from __future__ import annotations

from typing import Any

import pytest
from protocol_kit import Talk

from polyai_sync.errors import ConnectionLostError, MessageTooLargeError
from polyai_sync.messages import Delivery
from polyai_sync.protocol.deliveries import REMEMBERED_FAILURES, Sent

PENDING, DELIVERED, FAILED = Delivery.PENDING, Delivery.DELIVERED, Delivery.FAILED


def receipt(talk: Talk, place: int = -1, **options: Any) -> dict[str, Any]:
    """The server's echo of one of the messages that were written."""
    return talk.server.echo(talk.sent("USER_MESSAGE")[place], **options)


def fate(sent: Sent) -> tuple[Delivery, str | None]:
    """How far a message came, and the outcome that its error states."""
    return sent.message.delivery, None if sent.error is None else sent.error.outcome


# --- what is written --------------------------------------------------------------------------------------------------


def test_message_is_written_once_with_its_text_as_given_and_its_id() -> None:
    talk = Talk().ready()
    talk.send(" a\n**table** 👋 ", order="12")
    talk.wait(4)
    (frame,) = talk.sent("USER_MESSAGE")
    assert frame == {
        "type": "EVENT_TYPE_USER_MESSAGE",
        "payload": {"text": " a\n**table** 👋 "},
        "metadata": {"custom": {"order": "12", "client_event_id": "ours-1"}},
    }


def test_pending_message_stands_at_the_end_of_the_transcript() -> None:
    talk = Talk().ready()
    talk.send("a table")
    talk.receive(talk.server.agent("Are you there?"))
    assert talk.said() == ["Hello!", "Are you there?", "a table"]
    assert talk.messages[-1].delivery is PENDING


def test_message_of_exactly_the_largest_size_is_taken_and_one_byte_more_is_not() -> None:
    talk = Talk().open()
    talk.history(talk.server.start(max_message_size_bytes=200))
    room = 200 - len(
        '{"type":"EVENT_TYPE_USER_MESSAGE","payload":{"text":""},"metadata":{"custom":{"client_event_id":"x"}}}'
    )
    with pytest.raises(MessageTooLargeError) as caught:
        talk.send("é" * (room // 2) + "x" * (room % 2 + 1), client_event_id="x")
    assert (caught.value.size, caught.value.limit) == (201, 200)
    assert talk.texts_sent() == []
    talk.send("é" * (room // 2) + "x" * (room % 2), client_event_id="x")  # the refused one used no id up
    assert len(talk.texts_sent()) == 1


def test_id_is_used_for_one_message_of_a_session() -> None:
    talk = Talk().ready()
    talk.send("one", client_event_id="mine")
    with pytest.raises(ValueError, match="mine"):
        talk.send("two", client_event_id="mine")
    talk.receive(receipt(talk))
    with pytest.raises(ValueError, match="mine"):
        talk.send("three", client_event_id="mine")
    assert talk.texts_sent() == ["one"]


def test_id_that_another_connection_used_is_taken() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.user("from another tab", custom={"client_event_id": "theirs"}))
    with pytest.raises(ValueError, match="theirs"):
        talk.send("mine", client_event_id="theirs")


def test_text_that_utf8_cannot_carry_is_refused_before_it_is_sent() -> None:
    talk = Talk().ready()
    with pytest.raises(ValueError, match="surrogate"):
        talk.send("half \ud83d")
    assert talk.texts_sent() == []


# --- the receipt ------------------------------------------------------------------------------------------------------


def test_echo_with_its_id_is_the_receipt() -> None:
    talk = Talk().ready()
    first, second = talk.send("one", order="1"), talk.send("two")
    echo = receipt(talk, 0)
    talk.receive(echo)
    assert (fate(first), fate(second)) == ((DELIVERED, None), (PENDING, None))
    message = first.message
    assert (message.role, message.text, message.sequence) == ("user", "one", echo["sequence"])
    assert message.message_id == echo["payload"]["message_id"]
    assert message.timestamp is not None
    assert message.custom == {"order": "1", "client_event_id": "ours-1"}
    assert [name for name, _ in talk.told] == ["on_event", "on_delivery", "on_message"]
    assert talk.hooks("on_delivery") == talk.hooks("on_message") == [message]


def test_receipts_may_come_in_another_order() -> None:
    talk = Talk().ready()
    first, second = talk.send("one"), talk.send("two")
    echoes = [receipt(talk, 0), receipt(talk, 1)]
    talk.receive(*reversed(echoes))
    assert (fate(first), fate(second)) == ((DELIVERED, None), (DELIVERED, None))
    assert talk.said()[-2:] == ["one", "two"]


def test_echo_that_lost_its_id_confirms_the_oldest_pending_message_of_equal_text() -> None:
    talk = Talk().ready()
    other, first, second = talk.send("other"), talk.send("same"), talk.send("same")
    talk.receive(receipt(talk, 1, custom={}))
    assert [sent.message.delivery for sent in (other, first, second)] == [PENDING, DELIVERED, PENDING]
    talk.receive(receipt(talk, 1, custom={}))
    assert [sent.message.delivery for sent in (other, first, second)] == [PENDING, DELIVERED, DELIVERED]


def test_echo_without_an_id_confirms_nothing_that_was_not_written() -> None:
    talk = Talk().ready()
    talk.writable = False
    sent = talk.send("same")
    talk.receive(talk.server.user("same"))
    assert sent.message.delivery is PENDING
    assert [message.text for message in talk.hooks("on_message")] == ["same"]  # somebody else said it


def test_echo_with_another_id_confirms_no_message_of_equal_text() -> None:
    talk = Talk().ready()
    sent = talk.send("same")
    talk.receive(talk.server.user("same", custom={"client_event_id": "another-tab"}))
    assert sent.message.delivery is PENDING


def test_message_of_another_connection_is_shown_as_a_users() -> None:
    talk = Talk().ready()
    talk.send("mine")
    talk.receive(talk.server.user("theirs", custom={"client_event_id": "another-tab", "order": "5"}))
    theirs = talk.messages[1]
    assert (theirs.role, theirs.text, theirs.delivery) == ("user", "theirs", DELIVERED)
    assert (theirs.client_event_id, theirs.custom["order"]) == ("another-tab", "5")
    assert talk.hooks("on_delivery") == []  # told only of messages sent here
    assert talk.hooks("on_message") == [theirs]


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_second_copy_of_a_message_under_one_id_is_no_second_message(whose: str) -> None:
    talk = Talk().ready()
    if whose == "ours":
        talk.send("once", client_event_id="id")
    for _ in range(2):
        talk.receive(talk.server.user("once", custom={"client_event_id": "id"}))
    assert talk.said() == ["Hello!", "once"]
    assert len(talk.hooks("on_message")) == 1


# --- the socket dies: nothing is sent again without proof -------------------------------------------------------------


@pytest.mark.pitfall(3, 4)
def test_message_echoed_in_the_replay_is_not_sent_again() -> None:
    talk = Talk().ready()
    sent = talk.send("cancel my order")
    echo = receipt(talk)
    talk.drop().open().wait(0.5).history(echo).beat().wait(60, echoing=True)
    assert fate(sent) == (DELIVERED, None)
    assert sent.message.replayed
    assert talk.texts_sent() == ["cancel my order"]


@pytest.mark.pitfall(3)
def test_nothing_is_sent_again_before_the_replay_is_over() -> None:
    talk = Talk().ready()
    talk.send("cancel my order")
    talk.drop().wait(5).open().history().receive(talk.server.agent("live")).wait(60)
    assert talk.texts_sent() == ["cancel my order"]
    assert not talk.conversation.questions


def test_message_missing_in_the_replay_is_sent_again_as_it_was_if_the_policy_agrees() -> None:
    talk = Talk().ready()
    sent = talk.send("cancel my order", order="12")
    talk.drop().again()
    assert list(talk.conversation.questions) == [sent]
    assert talk.texts_sent() == ["cancel my order"]
    talk.resend(True)
    first, second = talk.sent("USER_MESSAGE")
    assert first == second
    talk.receive(receipt(talk))
    assert fate(sent) == (DELIVERED, None)
    assert len(talk.hooks("on_delivery")) == 1


def test_message_that_the_policy_keeps_back_is_a_delivery_error_and_was_not_received() -> None:
    talk = Talk().ready()
    sent = talk.send("cancel my order")
    talk.drop().again()
    talk.resend(False)
    assert fate(sent) == (FAILED, "not_received")
    assert talk.hooks("on_error") == [sent.error]
    assert talk.hooks("on_delivery") == [sent.message]
    assert talk.texts_sent() == ["cancel my order"]


def test_policy_is_asked_once_and_its_late_answer_changes_nothing() -> None:
    talk = Talk().ready()
    sent = talk.send("cancel my order")
    talk.drop().again()
    question = talk.conversation.questions.pop(0)
    talk.receive(receipt(talk))  # it had been on its way after all
    talk.conversation.resend(question)
    talk.beat().wait(1)
    assert talk.texts_sent() == ["cancel my order"]
    assert fate(sent) == (DELIVERED, None)
    assert not talk.conversation.questions


def test_policys_first_answer_is_the_one() -> None:
    talk = Talk().ready()
    sent = talk.send("cancel my order")
    talk.drop().again().resend(True)
    talk.conversation.keep_back(sent)
    assert fate(sent) == (PENDING, None)


def test_question_is_withdrawn_when_the_receipt_comes_after_all() -> None:
    talk = Talk().ready()
    talk.send("cancel my order")
    talk.drop().again().receive(receipt(talk))
    assert not talk.conversation.questions


def test_resend_that_is_lost_too_is_in_doubt_again() -> None:
    talk = Talk().ready()
    sent = talk.send("cancel my order")
    talk.drop().again().resend(True)
    talk.drop().open().history()
    assert talk.texts_sent() == ["cancel my order"] * 2
    talk.beat()
    assert list(talk.conversation.questions) == [sent]
    talk.resend(True).receive(receipt(talk))
    assert fate(sent) == (DELIVERED, None)


def test_question_that_nobody_answered_before_the_next_drop_is_still_asked_once() -> None:
    talk = Talk().ready()
    sent = talk.send("cancel my order")
    talk.drop().again().drop().again()
    assert list(talk.conversation.questions) == [sent]
    talk.resend(True)
    assert talk.texts_sent() == ["cancel my order"] * 2


def test_message_that_was_never_written_is_sent_without_asking_once_the_connection_is_open() -> None:
    talk = Talk().ready().drop()
    sent = talk.send("a table")
    assert talk.texts_sent() == []
    talk.open()
    assert talk.texts_sent() == ["a table"]
    talk.history().beat()
    assert not talk.conversation.questions
    talk.receive(receipt(talk))
    assert fate(sent) == (DELIVERED, None)


# --- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.pitfall(3)
def test_nothing_overtakes_a_message_that_is_in_doubt() -> None:
    talk = Talk().ready()
    talk.send("one")
    talk.send("two")
    talk.drop()
    talk.send("three")
    talk.open()
    talk.send("four")
    talk.history()
    assert talk.texts_sent() == ["one", "two"]
    talk.beat()
    assert [question.message.text for question in talk.conversation.questions] == ["one", "two"]
    talk.send("five")
    assert talk.texts_sent() == ["one", "two"]
    talk.resend(True, True)
    assert talk.texts_sent() == ["one", "two", "one", "two", "three", "four", "five"]


@pytest.mark.parametrize(
    ("answers", "written"),
    [((True, False), ["one", "three"]), ((False, True), ["two", "three"]), ((False, False), ["three"])],
)
def test_what_is_kept_back_holds_nothing_up(answers: tuple[bool, bool], written: list[str]) -> None:
    talk = Talk().ready()
    talk.send("one")
    talk.send("two")
    talk.drop()
    talk.send("three")
    talk.again().resend(*answers)
    assert talk.texts_sent() == ["one", "two", *written]


def test_receipt_in_the_replay_lets_the_next_one_go_without_waiting_for_the_proof() -> None:
    talk = Talk().ready()
    talk.send("one")
    talk.drop()
    talk.send("two")
    talk.open().history(receipt(talk))
    assert talk.texts_sent() == ["one", "two"]


# --- nobody waits any longer: what is known is said -------------------------------------------------------------------


def test_outcome_is_what_is_known_when_the_caller_gives_up() -> None:
    talk = Talk().ready()
    written = talk.send("written")
    in_doubt = talk.send("in doubt")
    talk.give_up(written)
    talk.drop()
    queued = talk.send("queued")
    for sent in (in_doubt, queued):
        talk.give_up(sent)
    asked = Talk().ready()
    proved = asked.send("proved missing")
    asked.drop().again().give_up(proved)
    assert fate(written) == (FAILED, "unknown")
    assert fate(in_doubt) == (FAILED, "unknown")
    assert fate(queued) == (FAILED, "not_received")
    assert fate(proved) == (FAILED, "not_received")
    assert not asked.conversation.questions


def test_message_that_was_given_up_is_never_written_again() -> None:
    talk = Talk().ready()
    sent = talk.send("given up")
    talk.drop()
    held = talk.send("never written")
    talk.give_up(sent)
    talk.give_up(held)
    talk.again().wait(10, echoing=True)
    assert talk.texts_sent() == ["given up"]
    assert not talk.conversation.questions


def test_giving_up_a_message_twice_is_one_error_and_a_delivered_one_none() -> None:
    talk = Talk().ready()
    sent = talk.send("one")
    error = talk.give_up(sent)
    assert talk.give_up(sent) is error
    assert talk.hooks("on_error") == [error]
    talk.receive(receipt(talk))
    assert talk.give_up(sent) is None


@pytest.mark.pitfall(4)
@pytest.mark.parametrize("tagged", [True, False])
def test_late_echo_turns_a_failed_message_into_a_delivered_one(tagged: bool) -> None:
    talk = Talk().ready()
    sent = talk.send("one")
    talk.give_up(sent)
    assert [message.delivery for message in talk.messages] == [DELIVERED, FAILED]
    talk.receive(receipt(talk) if tagged else receipt(talk, custom={}))
    assert fate(sent) == (DELIVERED, None)
    assert [message.text for message in talk.messages] == ["Hello!", "one"]
    assert [message.delivery for message in talk.hooks("on_delivery")] == [FAILED, DELIVERED]


def test_failed_messages_are_remembered_within_bounds() -> None:
    talk = Talk().ready()
    many = [talk.send(f"{number}") for number in range(REMEMBERED_FAILURES + 1)]
    for sent in many:
        talk.give_up(sent)
    assert len(talk.messages) == 1 + REMEMBERED_FAILURES
    talk.receive(receipt(talk, 0), receipt(talk, 1))
    assert (fate(many[0])[0], fate(many[1])[0]) == (FAILED, DELIVERED)
    assert talk.said()[:3] == ["Hello!", "0", "1"]  # the forgotten one is a message like any other


# --- a receipt that does not come -------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [15.0, 3.0])
def test_receipt_that_does_not_come_in_time_is_a_delivery_error_of_unknown_outcome(limit: float) -> None:
    talk = Talk(receipt_limit=limit).ready()
    sent = talk.send("one")
    talk.wait(limit - 0.01)
    assert fate(sent) == (PENDING, None)
    talk.wait(0.01)
    assert fate(sent) == (FAILED, "unknown")
    assert sent.error is not None
    assert (sent.error.code, sent.error.client_event_id, sent.error.retryable) == (
        "client.not_delivered",
        "ours-1",
        False,
    )
    assert talk.hooks("on_error") == [sent.error]


def test_time_for_the_receipt_runs_only_while_connected_and_from_the_last_writing() -> None:
    talk = Talk(receipt_limit=15.0).ready()
    sent = talk.send("one")
    talk.wait(14, echoing=True).drop().wait(100).open().wait(0.5).history().beat()
    talk.resend(True).wait(14.9, echoing=True)
    assert fate(sent) == (PENDING, None)
    talk.wait(0.1)
    assert fate(sent) == (FAILED, "unknown")


def test_no_limit_waits_for_ever() -> None:
    talk = Talk(receipt_limit=None).ready()
    sent = talk.send("one")
    talk.wait(10_000, echoing=True)
    assert fate(sent) == (PENDING, None)


def test_message_without_its_receipt_for_five_seconds_sends_one_heartbeat_as_a_probe() -> None:
    talk = Talk().ready()
    beats = len(talk.sent("HEARTBEAT"))
    talk.send("one")
    talk.wait(4.9)
    assert len(talk.sent("HEARTBEAT")) == beats
    talk.wait(0.1)
    assert len(talk.sent("HEARTBEAT")) == beats + 1
    talk.wait(9)
    assert len(talk.sent("HEARTBEAT")) == beats + 1


def test_dropped_connection_is_not_probed() -> None:
    talk = Talk().ready()
    talk.send("one")
    talk.drop()
    assert talk.conversation.due() is None


def test_receipt_in_time_needs_no_probe() -> None:
    talk = Talk().ready()
    beats = len(talk.sent("HEARTBEAT"))
    talk.send("one")
    talk.echo_last("USER_MESSAGE").wait(20)
    assert len(talk.sent("HEARTBEAT")) == beats


@pytest.mark.parametrize("echoing", [True, False])
def test_rate_limit_is_suspected_where_a_heartbeat_sent_later_came_back_and_the_receipt_did_not(echoing: bool) -> None:
    talk = Talk().ready()
    talk.send("one")
    talk.wait(15, echoing=echoing)
    assert [(limit.surface, limit.certain, limit.error) for limit in talk.hooks("on_rate_limit")] == (
        [("websocket", False, None)] if echoing else []
    )
    talk.wait(60, echoing=True)
    assert len(talk.hooks("on_rate_limit")) == echoing  # once for each message


def test_heartbeat_sent_before_the_message_says_nothing_about_it() -> None:
    talk = Talk().ready()
    beat = talk.wait(30).sent("HEARTBEAT")[-1]
    talk.wait(1).send("one")
    talk.receive(talk.server.echo(beat)).wait(15)
    assert talk.hooks("on_rate_limit") == []


# --- the end of the connection ----------------------------------------------------------------------------------------


def test_close_fails_what_is_pending_without_an_error_of_its_own() -> None:
    talk = Talk().ready()
    sent = talk.send("one")
    talk.close()
    assert fate(sent) == (FAILED, None)
    assert talk.hooks("on_delivery") == [sent.message]
    assert talk.hooks("on_error") == []


def test_connection_lost_for_good_says_what_is_known_of_each_message() -> None:
    talk = Talk().ready()
    written = talk.send("written")
    talk.drop()
    queued = talk.send("queued")
    lost = ConnectionLostError("given up")
    talk.lose(lost)
    assert (fate(written), fate(queued)) == ((FAILED, "unknown"), (FAILED, "not_received"))
    for sent in (written, queued):
        assert sent.error is not None
        assert sent.error.__cause__ is lost
    assert talk.hooks("on_error") == [written.error, queued.error]
