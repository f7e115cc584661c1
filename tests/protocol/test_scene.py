"""What the events tell: the transcript, who is there, where a handoff stands, which language (protocol.md §6, §7.6)."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from protocol_kit import Talk

from polyai_sync.messages import (
    Attachment,
    CallAction,
    Delivery,
    Handoff,
    HandoffStatus,
    Participant,
    SessionStatus,
    Suggestion,
)

# --- the transcript ---------------------------------------------------------------------------------------------------


def test_transcript_is_in_the_servers_order_then_what_grows_then_what_has_no_receipt() -> None:
    talk = Talk().ready()
    talk.send("pending")
    failed = talk.send("failed")
    talk.give_up(failed)
    late, earlier = talk.server.user("late"), talk.server.user("earlier")
    talk.receive(talk.server.chunk("s", 1, "growing"), talk.server.user("theirs"), earlier, late)
    assert talk.said() == ["Hello!", "late", "earlier", "theirs", "growing", "failed", "pending"]


def test_message_without_a_sequence_stands_where_it_arrived() -> None:
    talk = Talk().ready()
    first, last = talk.server.agent("first"), talk.server.agent("last")
    talk.receive(first, talk.server.agent("between", sequence=None), last)
    assert talk.said() == ["Hello!", "first", "between", "last"]


def test_messages_that_share_a_sequence_stand_as_they_arrived() -> None:
    talk = Talk().ready()
    talk.receive(*(talk.server.agent(text, sequence=50) for text in ("b", "a", "c")))
    assert talk.said() == ["Hello!", "b", "a", "c"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_transcript_is_the_same_whatever_order_messages_come_in(order: tuple[int, ...]) -> None:
    talk = Talk().ready()
    messages = [talk.server.agent(text) for text in "abc"]
    talk.receive(*(messages[place] for place in order))
    assert talk.said() == ["Hello!", "a", "b", "c"]


def test_corrected_message_keeps_its_place() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.agent("fro two", "m"), talk.server.user("thanks"), talk.server.agent("for two", "m"))
    assert talk.said() == ["Hello!", "for two", "thanks"]


def test_repetition_from_further_ahead_moves_a_message_to_where_it_first_stood() -> None:
    talk = Talk().ready()
    ahead = talk.server.agent("fro two", "m")
    talk.receive(talk.server.user("thanks"), talk.server.agent("for two", "m"))
    assert talk.said() == ["Hello!", "thanks", "for two"]
    talk.receive(ahead)
    assert talk.said() == ["Hello!", "fro two", "thanks"]


def test_one_id_of_two_sides_is_two_messages() -> None:
    talk = Talk().ready()
    for type_ in ("POLY_AGENT_MESSAGE", "LIVE_AGENT_MESSAGE", "USER_MESSAGE"):
        talk.receive(talk.server.event(type_, {"message_id": "m", "text": type_}))
    assert [message.role for message in talk.messages[1:]] == ["agent", "live_agent", "user"]


def test_messages_without_an_id_are_each_their_own() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.agent("same", ""), talk.server.agent("same", ""))
    assert talk.said() == ["Hello!", "same", "same"]


@pytest.mark.parametrize(("type_", "role"), [("POLY_AGENT_MESSAGE", "agent"), ("LIVE_AGENT_MESSAGE", "live_agent")])
def test_message_holds_all_that_the_wire_says(type_: str, role: str) -> None:
    talk = Talk().ready()
    payload = {
        "message_id": "m",
        "text": "**for** two",
        "attachments": [{"title": "Menu", "content_url": "https://e.example/m"}],
        "response_suggestions": [{"message_text": "Yes"}],
        "chat_call_actions": [{"title": "Desk", "contact_number": "+44 20"}],
        "agent_name": "Marta",
        "avatar_url": "https://e.example/m.png",
    }
    talk.receive(talk.server.event(type_, payload, custom={"order": "12"}))
    message = talk.messages[-1]
    assert (message.role, message.message_id, message.text) == (role, "m", "**for** two")
    assert message.plain_text() == "for two"
    assert message.attachments == (Attachment(title="Menu", content_url="https://e.example/m"),)
    assert message.suggestions == (Suggestion(message_text="Yes"),)
    assert message.call_actions == (CallAction(title="Desk", contact_number="+44 20"),)
    assert (message.agent_name, message.avatar_url) == ("Marta", "https://e.example/m.png")
    assert message.custom == {"order": "12"}
    assert message.sequence == talk.server.sequence
    assert (message.complete, message.delivery, message.replayed) == (True, Delivery.DELIVERED, False)


@pytest.mark.pitfall(10)
def test_history_keeps_the_servers_times_and_is_marked_as_replayed() -> None:
    talk = Talk().ready()
    old = talk.server.agent("old")
    message = talk.drop().again(old).messages[-1]
    assert old["timestamp"] == "2024-05-01T10:00:00.250Z"
    assert message.timestamp == datetime(2024, 5, 1, 10, 0, 0, 250_000, tzinfo=timezone.utc)
    assert message.replayed


def test_first_history_of_a_session_of_our_own_is_no_replay() -> None:
    talk = Talk().open()
    talk.history(talk.server.start(), talk.server.joined(), talk.server.agent("Hello!"))
    assert [message.replayed for message in talk.messages] == [False]


def test_looking_twice_gives_the_same_and_looking_later_what_came_since() -> None:
    talk = Talk().ready()
    before = talk.messages
    assert talk.messages == before
    talk.receive(talk.server.agent("for two"))
    assert talk.said() == ["Hello!", "for two"]
    assert [message.text for message in before] == ["Hello!"]


# --- who is there -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "agent"),
    [
        ({"agent_name": "Olive", "agent_avatar_url": "u"}, Participant(name="Olive", avatar_url="u")),
        ({"agent_name": "Olive", "avatar_url": "old"}, Participant(name="Olive", avatar_url="old")),
        ({}, Participant()),
    ],
)
def test_agent_is_there_from_its_join_until_it_leaves(payload: dict[str, Any], agent: Participant) -> None:
    talk = Talk().open()
    assert talk.conversation.scene.agent is None
    talk.history(talk.server.start()).receive(talk.server.event("POLY_AGENT_JOINED", payload))
    assert talk.conversation.scene.agent == agent
    talk.receive(talk.server.event("POLY_AGENT_LEFT", {"reason": "handoff"}))
    assert talk.conversation.scene.agent is None
    assert talk.conversation.joined  # it has been there


@pytest.mark.parametrize(
    "payload", [{"agent": {"id": "z", "name": "Zoë"}}, {"agent_id": "z", "agent_name": "Zoë"}], ids=["nested", "flat"]
)
def test_live_agent_is_there_from_its_join_until_it_leaves(payload: dict[str, Any]) -> None:
    talk = Talk().ready()
    talk.receive(talk.server.event("LIVE_AGENT_JOINED", payload))
    assert talk.conversation.scene.live_agent == Participant(id="z", name="Zoë")
    assert talk.conversation.scene.agent == Participant(name="Olive")  # nobody said that it left
    talk.receive(talk.server.event("LIVE_AGENT_LEFT", {"agent_id": "z"}))
    assert talk.conversation.scene.live_agent is None
    assert talk.conversation.status is SessionStatus.OPEN


@pytest.mark.parametrize(
    ("codes", "language"),
    [((), None), (("de",), "de"), (("de", "pt-BR"), "pt-BR"), (("de", ""), "de"), (("de", None), "de")],
)
def test_last_language_wins_and_an_empty_one_says_nothing(codes: tuple[str | None, ...], language: str | None) -> None:
    talk = Talk().ready()
    talk.receive(*(talk.server.event("LANGUAGE_CHANGED", {"language_code": code}) for code in codes))
    assert talk.conversation.scene.language == language


def test_unknown_event_is_handed_on_and_changes_nothing() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.event("SHOW_CSAT_REQUEST", {"scale": 5}))
    (event,) = talk.events
    assert event.raw["payload"] == {"scale": 5}
    assert talk.hooks("on_event") == [event]
    assert talk.said() == ["Hello!"]


# --- where a handoff stands -------------------------------------------------------------------------------------------

TRIGGERED = ("POLY_AGENT_TRIGGERED_HANDOFF", {})
ACCEPTED = ("HANDOFF_ACCEPTED", {"queue_name": "Desk"})
QUEUED = ("HANDOFF_QUEUE_STATUS", {"position_in_queue": 3, "estimated_wait_seconds": 90, "display_message": "Hold on"})
ZOE = ("LIVE_AGENT_JOINED", {"agent": {"name": "Zoë"}})
zoe = Participant(name="Zoë")
queued = Handoff(
    status=HandoffStatus.QUEUED, queue_name="Desk", position=3, estimated_wait_seconds=90.0, display_message="Hold on"
)


@pytest.mark.parametrize(
    ("steps", "handoff"),
    [
        ([], Handoff()),
        ([TRIGGERED], Handoff(status=HandoffStatus.TRIGGERED)),
        ([TRIGGERED, ACCEPTED], Handoff(status=HandoffStatus.ACCEPTED, queue_name="Desk")),
        ([TRIGGERED, ACCEPTED, QUEUED], queued),
        (
            [TRIGGERED, ACCEPTED, QUEUED, ("HANDOFF_QUEUE_STATUS", {"position": 1})],
            Handoff(
                status=HandoffStatus.QUEUED,
                queue_name="Desk",
                position=1,
                estimated_wait_seconds=90.0,
                display_message="Hold on",
            ),
        ),
        (
            [TRIGGERED, ACCEPTED, QUEUED, ZOE],
            Handoff(
                status=HandoffStatus.LIVE,
                queue_name="Desk",
                estimated_wait_seconds=90.0,
                display_message="Hold on",
                agent=zoe,
            ),
        ),
        ([TRIGGERED, ZOE], Handoff(status=HandoffStatus.LIVE, agent=zoe)),
        ([TRIGGERED, ZOE, ("LIVE_AGENT_LEFT", {})], Handoff(status=HandoffStatus.ENDED, agent=zoe)),
        (
            [
                TRIGGERED,
                ("CLIENT_HANDOFF_REQUIRED", {"reason": "POLICY", "queue_name": "Desk", "route": "https://e.example"}),
            ],
            Handoff(
                status=HandoffStatus.CLIENT_REQUIRED, reason="POLICY", queue_name="Desk", route="https://e.example"
            ),
        ),
        (
            [TRIGGERED, ACCEPTED, QUEUED, ("HANDOFF_FAILED", {"reason": "nobody there"})],
            Handoff(
                status=HandoffStatus.FAILED,
                queue_name="Desk",
                estimated_wait_seconds=90.0,
                display_message="Hold on",
                reason="nobody there",
            ),
        ),
        ([TRIGGERED, ACCEPTED, ("HANDOFF_TIMEOUT", {})], Handoff(status=HandoffStatus.TIMED_OUT, queue_name="Desk")),
        ([TRIGGERED, ACCEPTED, ("HANDOFF_FAILED", {}), TRIGGERED], Handoff(status=HandoffStatus.TRIGGERED)),
        ([TRIGGERED, ("POLY_AGENT_LEFT", {})], Handoff(status=HandoffStatus.TRIGGERED)),
        ([TRIGGERED, ACCEPTED, ("HANDOFF_ACCEPTED", {})], Handoff(status=HandoffStatus.ACCEPTED, queue_name="Desk")),
    ],
)
def test_handoff_is_what_its_events_have_told(steps: list[tuple[str, dict[str, Any]]], handoff: Handoff) -> None:
    talk = Talk().ready()
    talk.receive(*(talk.server.event(*step) for step in steps))
    assert talk.conversation.scene.handoff == handoff
    assert talk.conversation.status is SessionStatus.OPEN  # whatever becomes of it, the conversation goes on


def test_plugins_are_told_of_each_change_and_only_of_changes() -> None:
    talk = Talk().ready()
    talk.receive(*(talk.server.event(*step) for step in (TRIGGERED, ACCEPTED, ACCEPTED, QUEUED, QUEUED)))
    assert [handoff.status for handoff in talk.hooks("on_handoff")] == [
        HandoffStatus.TRIGGERED,
        HandoffStatus.ACCEPTED,
        HandoffStatus.QUEUED,
    ]
    assert len(talk.hooks("on_event")) == 5


def test_live_agents_messages_are_read_like_the_agents() -> None:
    talk = Talk().ready()
    talk.receive(talk.server.event(*ZOE), talk.server.live_agent("Zoë here."))
    assert talk.inbox() == ["Zoë here."]
    assert [message.role for message in talk.hooks("on_message")] == ["live_agent"]


# --- what plugins are told, in order ----------------------------------------------------------------------------------


def test_plugins_are_told_of_an_event_before_what_follows_from_it() -> None:
    talk = Talk()
    talk.open().history(talk.server.start()).receive(talk.server.joined(), talk.server.agent("Hello!"))
    talk.receive(talk.server.event("SESSION_END", {"reason": "REASON_NATURAL_END"}))
    assert [name for name, _ in talk.told] == [
        "on_event",
        "on_session_start",
        "on_event",
        "on_event",
        "on_message",
        "on_event",
        "on_session_end",
    ]


def test_session_start_is_told_once_however_often_it_comes_and_the_last_capabilities_hold() -> None:
    talk = Talk().ready()
    talk.drop().again(talk.server.start(streaming=True))
    assert talk.hooks("on_session_start") == []
    assert talk.conversation.capabilities is not None
    assert talk.conversation.capabilities.streaming


def test_nothing_under_way_is_a_quiet_moment() -> None:
    talk = Talk().ready()
    assert talk.conversation.quiet
    turn = talk.ask()
    assert not talk.conversation.quiet
    talk.echo_last("USER_MESSAGE")
    assert not talk.conversation.quiet  # its answer is awaited
    talk.receive(talk.server.agent("for two")).leave(turn)
    assert talk.conversation.quiet
    talk.receive(talk.server.chunk("s", 1, "half"))
    assert not talk.conversation.quiet
    talk.receive(talk.server.chunk("s", 2, "", last=True))
    assert talk.conversation.quiet
    assert not talk.end().conversation.quiet
