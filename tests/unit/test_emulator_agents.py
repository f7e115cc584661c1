"""Agents of a test's own, each action, and the restaurant desk."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import pytest
from emulator_wire import Line, Peer, kind, kinds, seconds_between, text_of

from polyai_sync.emulator import (
    Arm,
    ClientHandoff,
    Drop,
    EchoAgent,
    Emit,
    Emulator,
    End,
    Fail,
    Handoff,
    HandoffFailed,
    HandoffTimedOut,
    Language,
    LiveLeave,
    LiveSay,
    LiveTyping,
    Notice,
    Pause,
    RestaurantDesk,
    Say,
    ScriptedAgent,
    Stream,
    Think,
    image,
    link,
)
from polyai_sync.emulator.booking import next_question, note_wishes
from polyai_sync.emulator.desk import _SKILLS
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Talk = "Callable[..., Line]"


@pytest.fixture
def talk() -> Iterator[Talk]:
    """Starts an emulator with an agent and gives a joined line."""
    running: list[tuple[Emulator, Peer]] = []

    def start(agent: object, *, streaming: bool = False, **options: object) -> Line:
        emulator = Emulator(agent=agent, **options).start()
        peer = Peer(emulator)
        running.append((emulator, peer))
        return peer.joined(streaming=streaming)

    yield start
    for emulator, peer in running:
        emulator.stop()
        peer.close()


def answer(line: Line, text: str = "go") -> list[dict]:
    """The events of one turn but for the echo and the thinking."""
    line.say(text)
    line.until("POLY_AGENT_THINKING")
    line.peer.emulator.session.act()
    return line.settled()


def payloads(events: list[dict]) -> list[dict]:
    return [event["payload"] for event in events]


@pytest.fixture
def acted(talk: Talk) -> Callable[..., list[dict]]:
    """What is seen of some actions."""

    def act(*actions: object, streaming: bool = False) -> list[dict]:
        line = talk(EchoAgent(), streaming=streaming)
        line.peer.emulator.session.act(*actions)
        return line.settled()

    return act


# --- actions ------------------------------------------------------------------------------------------------------


def test_say_is_whole_or_streamed_as_the_session_is(acted: Callable[..., list[dict]]) -> None:
    message = Say("a b", attachments=[link("L", "https://l.example")], suggestions=["Yes", {"message_text": "No"}])
    (whole,) = acted(message)
    assert kind(whole) == "POLY_AGENT_MESSAGE"
    first, last = acted(message, streaming=True)
    assert (first["payload"]["text"], last["payload"]["text"]) == ("a ", "b")
    assert first["payload"]["attachments"] == first["payload"]["response_suggestions"] == []
    for event in (whole, last):
        assert event["payload"]["response_suggestions"] == [{"message_text": "Yes"}, {"message_text": "No"}]
        (attachment,) = event["payload"]["attachments"]
        assert attachment["content_type"] == "ATTACHMENT_CONTENT_TYPE_URL"
        assert attachment["content_url"] == "https://l.example"


def test_say_without_stream_or_with_what_a_chunk_cannot_carry_is_whole(acted: Callable[..., list[dict]]) -> None:
    number = {"title": "Us", "contact_number": "+44"}
    plain, call, last = acted(
        Say("a b", stream=False), Say("c d", call_actions=[number]), Say("e f", end_conversation=True), streaming=True
    )
    assert kinds([plain, call, last]) == ["POLY_AGENT_MESSAGE"] * 3
    assert call["payload"]["chat_call_actions"] == [number]
    assert last["payload"]["end_conversation"] is True
    assert "chat_call_actions" not in plain["payload"]


def test_stream_keeps_its_chunks_and_is_joined_where_nothing_streams(acted: Callable[..., list[dict]]) -> None:
    message = Stream(["ab", "", " c"], suggestions=["More"])
    chunks = payloads(acted(message, streaming=True))
    assert [chunk["text"] for chunk in chunks] == ["ab", "", " c"]
    assert chunks[-1]["response_suggestions"] == [{"message_text": "More"}]
    (whole,) = acted(message)
    assert whole["payload"]["text"] == "ab c"


def test_an_empty_text_is_a_message_all_the_same(acted: Callable[..., list[dict]]) -> None:
    (chunk,) = acted(Say(""), streaming=True)
    assert (chunk["payload"]["text"], chunk["payload"]["is_complete"]) == ("", True)


def test_an_image_is_an_attachment_of_its_kind() -> None:
    picture = image("P", "https://p.example")
    assert picture["content_type"] == "ATTACHMENT_CONTENT_TYPE_IMAGE"
    assert picture["preview_image_url"] == "https://p.example"


def test_small_actions_are_one_event_each(acted: Callable[..., list[dict]]) -> None:
    events = acted(
        Think(),
        Language("de-DE"),
        Notice("Soon", "WARNING"),
        Fail("agent.overloaded"),
        Fail("system.unknown", "Own words."),
        Emit("SHOW_CSAT_REQUEST", {"a": 1}, metadata={"custom": {"b": "c"}}),
        Emit("LIVE_AGENT_TYPING", transient=True),
        None,
    )
    assert kinds(events) == [
        "POLY_AGENT_THINKING",
        "LANGUAGE_CHANGED",
        "SYSTEM_MESSAGE",
        "SYSTEM_MESSAGE",
        "SYSTEM_MESSAGE",
        "SHOW_CSAT_REQUEST",
        "LIVE_AGENT_TYPING",
    ]
    assert events[1]["payload"] == {"language_code": "de-DE"}
    assert events[2]["payload"] == {"level": "SYSTEM_MESSAGE_LEVEL_WARNING", "message": "Soon"}
    assert events[3]["payload"]["message"].startswith("Our system is experiencing high load")
    assert events[4]["payload"]["message"] == "Own words."
    assert events[5]["metadata"] == {"custom": {"b": "c"}}
    assert [event["sequence"] is None for event in events] == [False] * 6 + [True]


def test_a_pause_holds_up_the_turn_and_nothing_else(talk: Talk) -> None:
    line = talk(ScriptedAgent([Pause(0.1), "Done."]))
    line.say("go")
    line.until("POLY_AGENT_THINKING")
    assert line.settled() == []
    assert line.next()["payload"]["text"] == "Done."


def test_the_server_manages_a_handoff(talk: Talk) -> None:
    script = ScriptedAgent(
        ["One moment.", Handoff("Desk", positions=(2, 1), wait_seconds=30, agent_name="Kim")],
        lambda turn: [LiveTyping(), f"You said {turn.text}", LiveSay("And?", suggestions=["Nothing"])] * turn.live,
        [LiveLeave("DONE"), "Olive again.", End()],
    )
    line = talk(script)
    events = answer(line)
    assert kinds(events) == [
        "POLY_AGENT_MESSAGE",
        "POLY_AGENT_TRIGGERED_HANDOFF",
        "POLY_AGENT_LEFT",
        "HANDOFF_ACCEPTED",
        "HANDOFF_QUEUE_STATUS",
        "HANDOFF_QUEUE_STATUS",
        "LIVE_AGENT_JOINED",
    ]
    assert events[4]["payload"] == {
        "queue_name": "Desk",
        "position_in_queue": 2,
        "estimated_wait_seconds": 60,
        "display_message": "You are number 2.",
    }
    assert events[6]["payload"] == {"agent": {"id": "live-1", "name": "Kim", "avatar_url": ""}}
    line.say("hm")
    line.until("USER_MESSAGE")
    typing, first, second = line.next(), line.next(), line.next()
    assert (kind(typing), typing["sequence"]) == ("LIVE_AGENT_TYPING", None)
    assert kinds([first, second]) == ["LIVE_AGENT_MESSAGE"] * 2
    assert first["payload"]["text"] == "You said hm"
    assert first["payload"]["agent_name"] == "Kim"
    line.say("bye")
    assert line.gone() == 1000
    assert kinds(line.seen[-4:]) == ["USER_MESSAGE", "LIVE_AGENT_LEFT", "POLY_AGENT_MESSAGE", "SESSION_END"]
    roles = [role for role, _ in line.peer.emulator.session.transcript]
    assert roles == ["agent", "user", "agent", "user", "live_agent", "live_agent", "user", "agent"]


def test_a_handoff_may_fail_time_out_or_be_the_clients(acted: Callable[..., list[dict]]) -> None:
    events = acted(HandoffFailed("NO_AGENTS"), HandoffTimedOut(), ClientHandoff("POLICY", route="https://r.example"))
    assert kinds(events) == [
        "POLY_AGENT_TRIGGERED_HANDOFF",
        "HANDOFF_FAILED",
        "POLY_AGENT_TRIGGERED_HANDOFF",
        "HANDOFF_TIMEOUT",
        "POLY_AGENT_TRIGGERED_HANDOFF",
        "CLIENT_HANDOFF_REQUIRED",
        "POLY_AGENT_LEFT",
    ]
    assert payloads(events)[1] == {"reason": "NO_AGENTS"}
    assert payloads(events)[5] == {"reason": "POLICY", "route": "https://r.example"}


def test_an_agent_can_end_drop_and_arm(talk: Talk) -> None:
    line = talk(ScriptedAgent([Arm("message.dropped"), "Armed."], [Drop(1012, "bye"), "Unseen."], [End()]))
    assert text_of(answer(line)) == "Armed."
    line.say("lost")
    assert line.settled() == []
    line.say("again")
    assert line.gone() == 1012
    wait_until(lambda: line.peer.emulator.session.transcript[-1] == ("agent", "Unseen."))
    line = line.peer.again(len(line.peer.emulator.session.journal))
    line.say("end")
    assert line.gone() == 1000
    assert line.seen[-1]["payload"] == {"reason": "REASON_NATURAL_END"}


# --- agents -------------------------------------------------------------------------------------------------------


def test_an_agent_is_a_function_of_the_turn(talk: Talk) -> None:
    turns = []

    def agent(turn):
        turns.append((turn.number, turn.greeting, turn.text, dict(turn.custom), turn.live, turn.session.session_id))
        turn.memory["count"] = turn.memory.get("count", 0) + 1
        return f"{turn.memory['count']}"

    line = talk(agent)
    line.send("USER_MESSAGE", {"text": "x"}, tag="t")
    assert text_of(line.reply()) == "2"
    session_id = line.peer.emulator.session.session_id
    assert turns == [(0, True, "", {}, False, session_id), (1, False, "x", {"tag": "t"}, False, session_id)]


def test_memory_belongs_to_the_session(talk: Talk) -> None:
    def agent(turn):
        turn.memory.setdefault("seen", []).append(turn.text)
        return " ".join(turn.memory["seen"]) or "Hello!"

    one = talk(agent)
    two = one.peer.joined(streaming=False)
    assert [text_of(answer_of(line, text)) for line, text in ((one, "a"), (two, "b"), (one, "c"))] == [
        " a",
        " b",
        " a c",
    ]


def answer_of(line: Line, text: str) -> list[dict]:
    line.say(text)
    return line.reply()


def test_a_class_is_made_once_for_each_session(talk: Talk) -> None:
    class Counter:
        made = 0

        def __init__(self) -> None:
            Counter.made += 1
            self.turns = 0

        def __call__(self, turn):
            self.turns += 1
            return str(self.turns)

    one = talk(Counter)
    two = one.peer.joined(streaming=False)
    assert text_of(answer_of(one, "x")) == text_of(answer_of(two, "x")) == "2"
    assert Counter.made == 2


def test_a_scripted_agent_follows_its_script_and_then_keeps_silent(talk: Talk) -> None:
    line = talk(ScriptedAgent("one", ["two", "three"], lambda turn: turn.text.upper(), greeting=["Hi", "there"]))
    line.until("POLY_AGENT_MESSAGE", text="there")
    assert [text_of(answer(line, "x")) for _ in range(4)] == ["one", "twothree", "X", ""]


def test_a_scripted_agent_can_start_again(talk: Talk) -> None:
    line = talk(ScriptedAgent("one", "two", repeat=True))
    assert [text_of(answer(line)) for _ in range(3)] == ["one", "two", "one"]


def test_an_echo_agent_may_greet_with_nothing() -> None:
    with Emulator(agent=EchoAgent(greeting="", prefix="> ")) as emulator:
        peer = Peer(emulator)
        line = peer.line(*peer.fresh(streaming=False))
        line.send("REQUEST_POLY_AGENT_JOIN")
        line.until("POLY_AGENT_THINKING")
        line.say("x")
        assert text_of(line.reply()) == "> x"
        peer.close()


@pytest.mark.parametrize("bad", [lambda turn: 7, lambda turn: [object()], lambda turn: 1 / 0])
def test_a_slip_in_an_agent_is_the_services_own_trouble(
    talk: Talk, bad: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    line = talk(ScriptedAgent(bad, "fine"))
    line.send("USER_MESSAGE", {"text": "x"}, client_event_id="m")
    error = line.reply()[-1]
    assert error["payload"]["message"] == "Sorry, I'm having trouble responding right now. Please try again."
    assert error["metadata"] == {"custom": {"client_event_id": "m"}}
    assert [type(slip) for slip in line.peer.emulator.session.agent_errors] in ([TypeError], [ZeroDivisionError])
    assert caplog.records[0].name == "polyai_sync.emulator"
    assert text_of(answer_of(line, "again")) == "fine"


def test_a_repeated_join_greets_again(talk: Talk) -> None:
    line = talk(RestaurantDesk())
    line.send("REQUEST_POLY_AGENT_JOIN")
    assert text_of(line.reply()) == "Here I am again. Where were we?"


def test_delays_are_kept(talk: Talk) -> None:
    line = talk(EchoAgent(), streaming=True, thinking_delay=0.1, chunk_delay=0.03)
    line.say("a b c")
    thinking = line.until("POLY_AGENT_THINKING")
    chunks = line.reply()
    assert seconds_between(thinking, chunks[0]) >= 0.1
    assert all(seconds_between(one, two) >= 0.03 for one, two in itertools.pairwise(chunks))
    assert len(chunks) == 5


# --- the restaurant -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
def test_a_table_is_booked_in_several_turns(talk: Talk, *, streaming: bool) -> None:
    line = talk(RestaurantDesk, streaming=streaming)
    assert "Olive" in line.peer.emulator.session.transcript[0][1]
    for said, heard in (
        ("A table for two, please", "On which day?"),
        ("And a window seat?", "I have noted: by the window. On which day?"),
        ("Tomorrow", "At what time?"),
        ("at half past never", "Sorry, I did not get that. At what time?"),
        ("At 19:30", "what name"),
    ):
        assert heard in text_of(answer_of(line, said))
    booked = text_of(answer_of(line, "Ada Lovelace"))
    assert re.search(
        r"\*\*2 people\*\* on \*\*Tomorrow\*\* at \*\*19:30\*\*, by the window, for Ada Lovelace.*`OB-\d{4}`", booked
    )
    second = line.reply()[-1]["payload"]
    assert second["attachments"][0]["title"] == "Directions"


@pytest.mark.parametrize(
    ("text", "wishes"),
    [
        (
            "book for 4 on friday at 8:30, my name is Bob",
            {"party": "4 people", "day": "Friday", "time": "20:30", "name": "Bob"},
        ),
        ("seven of us, tonight at nine", {"party": "7 people", "day": "Tonight", "time": "21:00"}),
        ("for one at 7pm", {"party": "1 person", "time": "19:00"}),
        ("18.45 please", {"time": "18:45"}),
        ("for Grace Hopper", {"name": "Grace Hopper"}),
        ("a table", {"wanted": True}),
        ("blah", {}),
    ],
)
def test_wishes_are_understood(text: str, wishes: dict) -> None:
    booking: dict = {}
    assert note_wishes(booking, text) is bool(wishes)
    assert booking == wishes


def test_bare_answers_are_understood_where_they_were_asked_for() -> None:
    booking: dict = {"day": "Today", "time": "19:00"}
    assert next_question(booking)[0] == "For how many people?"
    assert note_wishes(booking, "five")
    assert next_question(booking)[0] == "And what name may I put it under?"
    assert note_wishes(booking, "ada")
    assert next_question(booking) is None
    assert booking["party"] == "5 people"
    assert booking["name"] == "ada"


def test_what_the_desk_does_not_know_it_says(talk: Talk) -> None:
    line = talk(RestaurantDesk)
    (reply,) = answer(line, "colourless green ideas")
    assert "did not get that" in reply["payload"]["text"]
    assert {"message_text": "help"} in reply["payload"]["response_suggestions"]


def test_nothing_is_said_after_the_end(talk: Talk) -> None:
    line = talk(ScriptedAgent([End(), "never said"]))
    line.say("go")
    assert line.gone() == 1000
    assert kind(line.peer.emulator.session.journal[-1]) == "SESSION_END"


def test_help_names_everything_that_can_be_said(talk: Talk) -> None:
    line = talk(RestaurantDesk)
    text = text_of(answer_of(line, "help"))
    assert len(_SKILLS) > 20
    for skill in _SKILLS:
        assert f"`{skill.shown}`" in text
        assert re.fullmatch(skill.words, skill.shown)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("See the menu", ["POLY_AGENT_MESSAGE"]),
        ("soup", ["POLY_AGENT_MESSAGE", "POLY_AGENT_MESSAGE"]),
        ("phone", ["POLY_AGENT_MESSAGE"]),
        ("Do you speak German?", ["LANGUAGE_CHANGED", "POLY_AGENT_MESSAGE"]),
        ("closing time", ["SYSTEM_MESSAGE", "POLY_AGENT_MESSAGE"]),
        ("wait", ["POLY_AGENT_MESSAGE"]),
        ("bye", ["POLY_AGENT_MESSAGE", "SESSION_END"]),
        ("nobody home", ["POLY_AGENT_TRIGGERED_HANDOFF", "HANDOFF_FAILED", "POLY_AGENT_MESSAGE"]),
        ("long queue", ["POLY_AGENT_TRIGGERED_HANDOFF", "HANDOFF_TIMEOUT", "POLY_AGENT_MESSAGE"]),
        (
            "I want to complain",
            ["POLY_AGENT_MESSAGE", "POLY_AGENT_TRIGGERED_HANDOFF", "CLIENT_HANDOFF_REQUIRED", "POLY_AGENT_LEFT"],
        ),
        ("error", ["SYSTEM_MESSAGE"]),
        ("half a reply", ["POLY_AGENT_MESSAGE_CHUNK", "SYSTEM_MESSAGE"]),
        ("high load", ["SYSTEM_MESSAGE"]),
        ("garbled", ["POLY_AGENT_MESSAGE"]),
        ("strange event", ["WAITER_DROPPED_A_TRAY", "POLY_AGENT_MESSAGE"]),
        ("hang up", ["POLY_AGENT_MESSAGE"]),
    ],
)
def test_each_thing_the_desk_knows_is_seen(talk: Talk, said: str, expected: list[str]) -> None:
    line = talk(RestaurantDesk, streaming="CHUNK" in str(expected))
    mark = len(line.peer.emulator.session.journal)
    line.say(said)
    line.until("POLY_AGENT_THINKING")
    if expected[-1] == "SESSION_END" or said == "hang up":
        assert line.gone() == 1000
    else:
        line.peer.emulator.session.act()
    seen = kinds(list(line.peer.emulator.session.journal))[mark + 2 :]
    assert list(dict.fromkeys(seen)) == list(dict.fromkeys(expected))
    if "CHUNK" not in str(expected):
        assert seen == expected


def test_the_menu_is_an_image_and_a_link(talk: Talk) -> None:
    line = talk(RestaurantDesk)
    (message,) = answer(line, "menu")
    assert [item["content_type"].rpartition("_")[2] for item in message["payload"]["attachments"]] == ["IMAGE", "URL"]


def test_a_person_comes_from_the_queue_talks_and_leaves(talk: Talk) -> None:
    line = talk(RestaurantDesk)
    line.say("Talk to a person")
    line.until("LIVE_AGENT_MESSAGE")
    assert kinds(line.seen).count("HANDOFF_QUEUE_STATUS") == 3
    line.say("My soup is cold")
    assert "My soup is cold" in line.until("LIVE_AGENT_MESSAGE")["payload"]["text"]
    line.say("thank you, bye")
    assert line.gone() == 1000
    assert kinds(line.seen)[-3:] == ["LIVE_AGENT_MESSAGE", "LIVE_AGENT_LEFT", "SESSION_END"]


def test_a_person_can_hand_back(talk: Talk) -> None:
    line = talk(RestaurantDesk)
    line.say("somebody real")
    line.until("LIVE_AGENT_MESSAGE")
    line.say("back to Olive please")
    line.until("LIVE_AGENT_LEFT")
    assert line.until("POLY_AGENT_MESSAGE")["payload"]["text"] == "It is me again, Olive."


@pytest.mark.parametrize("streaming", [False, True])
def test_the_line_drops_inside_or_after_the_reply(talk: Talk, *, streaming: bool) -> None:
    line = talk(RestaurantDesk, streaming=streaming)
    line.say("drop the line")
    assert line.gone() is None
    wait_until(lambda: line.peer.emulator.session.transcript[-1][1].endswith("would like."))
    assert ("would like." in text_of(line.seen)) is not streaming


@pytest.mark.parametrize(
    ("said", "kept"), [("lose the receipt", True), ("lose my message", False), ("rate limit", False)]
)
def test_the_next_message_can_be_lost_in_three_ways(talk: Talk, said: str, *, kept: bool) -> None:
    line = talk(RestaurantDesk)
    answer(line, said)
    line.say("Book a table")
    if said == "rate limit":
        assert line.settled() == []
    else:
        assert line.gone() is None
        wait_until(lambda: line.peer.emulator.session.connections == 0)
    wait_until(lambda: (("user", "Book a table") in line.peer.emulator.session.transcript) is kept)


def test_a_restart_is_announced(talk: Talk) -> None:
    line = talk(RestaurantDesk)
    line.say("restart")
    assert line.gone() == 1012


def test_high_load_passes(talk: Talk) -> None:
    line = talk(RestaurantDesk)
    assert kinds(answer(line, "high load")) == ["SYSTEM_MESSAGE"]
    assert "rush is over" in text_of(answer(line, "high load"))
