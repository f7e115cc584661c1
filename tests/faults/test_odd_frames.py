"""Frames and fields that are not what they should be (protocol.md §4 and §6)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from fault_kit import (
    Bench,
    holds,
    said,
    short,
    started,
    within,
)

from polyai_sync import (
    DeliveryError,
    ReplyTimeoutError,
)
from polyai_sync.emulator import (
    ClientHandoff,
    EchoAgent,
    Handoff,
    LiveLeave,
    LiveSay,
    Say,
    ScriptedAgent,
    Stream,
    Turn,
    image,
    link,
)
from polyai_sync.events import UnknownEvent
from polyai_sync.messages import Delivery, HandoffStatus
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable


def rich(turn: Turn) -> object:
    """An agent whose answers hold all that a message can hold."""
    if turn.greeting:
        return "Hello!"
    links = [link("Menu", "https://example.com/menu"), image("Map", "https://example.com/map.png")]
    return Say(f"You said: {turn.text}", attachments=links, suggestions=["Yes, please", "No, thanks"])


@holds("wire.wrong_types")
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("event", ["POLY_AGENT_MESSAGE", "POLY_AGENT_MESSAGE_CHUNK", "USER_MESSAGE", None])
def test_values_of_wrong_types_break_nothing(event: str | None, streaming: bool, bench: Bench) -> None:
    session = started(bench, streaming=streaming, timeouts=short(reply=0.5, delivery=0.5))
    bench.faults.add("wire.wrong_types", event=event, times=8)
    understood = contextlib.suppress(ReplyTimeoutError, DeliveryError)  # there may be nothing in it that could be
    with within(3), understood:
        session.ask("one two three four")
    bench.faults.clear()
    assert session.ask("again", timeout=3).text == "You said: again"
    assert set(bench.codes) <= {"client.protocol", "client.not_delivered", "client.reply_timeout"}
    assert bench.peer.connections_total == 1


@holds("wire.unknown_event")
def test_unknown_event_is_handed_on_and_counted(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("wire.unknown_event", event="POLY_AGENT_THINKING")
    session.ask("hello")
    (event,) = [call["event"] for call in bench.recorder.calls("on_event") if isinstance(call["event"], UnknownEvent)]
    assert event.type == "EVENT_TYPE_SOMETHING_NEW"
    assert event.raw["payload"] == {"text": "from the future"}
    assert session.state.cursor == bench.peer.journal[-1]["sequence"]


@holds("wire.junk_in_lists")
@pytest.mark.parametrize("streaming", [True, False])
def test_good_elements_of_a_list_with_junk_are_kept(streaming: bool, make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(agent=rich)
    session = started(bench, streaming=streaming)
    event = "POLY_AGENT_MESSAGE_CHUNK" if streaming else "POLY_AGENT_MESSAGE"
    bench.faults.add("wire.junk_in_lists", event=event, times=None)
    reply = session.ask("hello")
    titles = [attachment.title for attachment in reply.attachments]
    assert [title for title in titles if title] == ["Menu", "Map"]  # an object without fields is an attachment, too
    assert [suggestion.message_text for suggestion in reply.suggestions] == ["Yes, please", "No, thanks"]


@holds("wire.odd_metadata")
def test_odd_value_in_the_metadata_costs_only_itself(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("wire.odd_metadata", event="USER_MESSAGE")
    message = session.send("hello", custom={"order": "7"})
    assert message.delivery is Delivery.DELIVERED
    (event,) = [call["event"] for call in bench.recorder.calls("on_event") if call["event"].type.endswith("R_MESSAGE")]
    assert event.custom["order"] == "7"
    assert event.custom["client_event_id"] == message.client_event_id


@holds("wire.no_echo_metadata")
def test_echo_without_metadata_confirms_the_oldest_send_of_equal_text(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("wire.no_echo_metadata", times=None)
    ours = [session.send("yes", wait=False), session.send("no", wait=False), session.send("yes", wait=False)]
    bench.recorder.wait_for("on_delivery", 3)
    settled = [call["message"].client_event_id for call in bench.recorder.calls("on_delivery")]
    assert settled == [message.client_event_id for message in ours]
    assert [text for role, text in said(session) if role == "user"] == ["yes", "no", "yes"]


@holds("wire.old_field_names")
def test_older_field_names_are_understood(make_bench: Callable[..., Bench]) -> None:
    agent = ScriptedAgent([Handoff(positions=(3,)), LiveSay("Sam here.")], LiveLeave())
    bench = make_bench(agent=agent)
    bench.faults.add("wire.old_field_names", times=None)
    session = bench.client().start_session()
    assert session.agent is not None
    assert session.agent.avatar_url == "https://cdn.example.com/olive.png"
    session.next_message()
    reply = session.ask("a person, please")
    assert reply.text == "Sam here."
    assert session.live_agent is not None
    assert session.live_agent.name == "Sam"
    positions = [call["handoff"].position for call in bench.recorder.calls("on_handoff")]
    assert 3 in positions


@holds("wire.default_fields_omitted")
def test_left_out_fields_have_their_defaults(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(agent=ScriptedAgent(Stream(["a", "b", "c", "d", "e"]), ClientHandoff(reason="")))
    session = started(bench)
    for fault in ("wire.default_fields_omitted", "stream.zero_based", "stream.no_final_text"):
        bench.faults.add(fault, times=None)
    assert session.ask("spell it").text == "abcde"
    reply = session.ask("a person, please")
    assert reply.handoff is not None
    assert reply.handoff.status is HandoffStatus.CLIENT_REQUIRED
    assert bench.errors == []


@holds("wire.ping")
def test_pings_are_answered(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("wire.ping", times=None)
    for _ in range(3):
        session.ask("hello")
    assert bench.errors == []


@holds("heartbeat.dropped")
def test_lost_heartbeat_is_no_dead_line(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(capabilities={"heartbeat_interval_seconds": 1}, agent=EchoAgent())
    session = started(bench)
    bench.faults.add("heartbeat.dropped")
    wait_until(lambda: not bench.faults.pending)
    assert session.ask("hello").text == "You said: hello"
    assert bench.errors == []
