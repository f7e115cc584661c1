"""The events: one frozen class for each type of the wire, and values like any other."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import attrs
import pytest
from attrs.exceptions import FrozenInstanceError

import polyai_sync
from polyai_sync import events
from polyai_sync.events import EVENT_CLASSES, Event, UnknownEvent
from polyai_sync.messages import Attachment, CallAction, Capabilities, Participant, Suggestion

#: The specification's own list (protocol.md §6), written down apart from the code.
WIRE: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data" / "event-types.json").read_text("utf-8"))
ENVELOPE = {"id", "sequence", "timestamp", "metadata", "replayed", "raw"}

#: In the schema, and sent by nobody today: unknown events until they are.
NOT_SENT = ["USER_TYPING", "SESSION_IDLE_WARNING", "SHOW_CSAT_REQUEST", "CSAT_RESPONSE"]
NOT_SENT += [f"{who}_{what}_MESSAGE" for who in ("USER", "POLY_AGENT", "LIVE_AGENT") for what in ("RECEIVED", "READ")]

VALUES: dict[str, Any] = {
    "events": (events.Heartbeat(id="h"),),
    "capabilities": Capabilities(streaming=True),
    "attachments": (Attachment(title="Menu"),),
    "response_suggestions": (Suggestion(message_text="Yes", payload={"choice": [1]}),),
    "chat_call_actions": (CallAction(contact_number="+44 20"),),
    "agent": Participant(name="Zoë"),
    "state": events.TypingState.STOPPED,
    "level": events.SystemMessageLevel.ERROR,
    "end_conversation": True,
    "is_complete": True,
    "chunk_index": 3,
    "position_in_queue": 2,
    "estimated_wait_seconds": 90.0,
}


def filled(cls: type[Event]) -> Event:
    """An event of ``cls`` with something in every field."""
    return cls(
        id="e-1",
        sequence=7,
        timestamp=datetime(2026, 3, 1, tzinfo=timezone.utc),
        metadata={"custom": {"order": "12"}},
        replayed=True,
        raw={"id": "e-1"},
        **{name: VALUES.get(name, f"a {name}") for name in attrs.fields_dict(cls) if name not in ENVELOPE},
    )


ALL = [*EVENT_CLASSES.values(), UnknownEvent]
every_class = pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)


def test_every_type_of_the_specification_has_its_class_and_no_other_has_one() -> None:
    assert {name: cls.__name__ for name, cls in EVENT_CLASSES.items()} == {row["type"]: row["class"] for row in WIRE}


@pytest.mark.parametrize("row", WIRE, ids=lambda row: row["class"])
def test_a_class_has_the_wires_fields_and_is_named_as_its_type_reads(row: dict[str, Any]) -> None:
    cls = EVENT_CLASSES[row["type"]]
    assert cls.wire_type == row["type"]
    assert "EVENT_TYPE_" + "".join("_" + c if c.isupper() else c.upper() for c in row["class"])[1:] == row["type"]
    assert set(row["fields"]) <= set(attrs.fields_dict(cls)) - ENVELOPE
    assert getattr(events, row["class"]) is cls
    assert row["class"] in events.__all__


def test_nothing_but_the_wires_types_and_the_unknown_one_is_an_event() -> None:
    assert set(Event.__subclasses__()) == {*EVENT_CLASSES.values(), UnknownEvent}


@pytest.mark.parametrize("name", NOT_SENT)
def test_a_type_that_nobody_sends_yet_has_no_class(name: str) -> None:
    assert f"EVENT_TYPE_{name}" not in EVENT_CLASSES


def test_the_table_of_classes_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        EVENT_CLASSES["EVENT_TYPE_NEW"] = UnknownEvent  # type: ignore[index]


@every_class
def test_every_class_is_frozen_slotted_and_keyword_only(cls: type[Event]) -> None:
    event = filled(cls)
    assert not hasattr(event, "__dict__")
    with pytest.raises(FrozenInstanceError):
        event.id = "another"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        event.mood = "good"  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        cls("e-1")  # type: ignore[misc]


@every_class
def test_every_field_has_a_default(cls: type[Event]) -> None:
    event = cls()
    assert (event.id, event.sequence, event.timestamp, event.replayed) == ("", None, None, False)
    assert (event.metadata, event.raw, event.custom) == ({}, {}, {})
    assert cls().metadata is not event.metadata


@every_class
def test_an_event_survives_copies_and_pickle(cls: type[Event]) -> None:
    event = filled(cls)
    for twin in (copy.copy(event), copy.deepcopy(event), *(pickle.loads(pickle.dumps(event, n)) for n in range(2, 6))):
        assert twin == event
        assert type(twin) is cls
        assert twin.raw == event.raw
        assert hash(twin) == hash(event)
    assert {event: 1}[copy.deepcopy(event)] == 1


@every_class
def test_events_that_differ_in_a_field_are_different(cls: type[Event]) -> None:
    event = filled(cls)
    for field in attrs.fields(cls):
        if field.name != "raw":
            assert attrs.evolve(event, **{field.name: None}) != event, field.name
    assert attrs.evolve(event, raw={}) == event  # the same event, whatever was around it
    assert all(filled(other) != event for other in ALL if other is not cls)


@every_class
def test_an_events_picture_names_its_class_and_leaves_its_json_out(cls: type[Event]) -> None:
    picture = repr(filled(cls))
    assert picture.startswith(f"{cls.__name__}(id='e-1', sequence=7")
    assert "raw" not in picture


@pytest.mark.parametrize("row", WIRE, ids=lambda row: row["class"])
def test_an_event_tells_its_type(row: dict[str, Any]) -> None:
    assert EVENT_CLASSES[row["type"]]().type == row["type"]


def test_an_unknown_event_tells_the_type_it_came_with() -> None:
    event = UnknownEvent(type="EVENT_TYPE_SHOW_CSAT_REQUEST", payload={"scale": 5})
    assert (event.type, event.payload) == ("EVENT_TYPE_SHOW_CSAT_REQUEST", {"scale": 5})


@pytest.mark.pitfall(8)
@pytest.mark.parametrize(
    ("metadata", "custom"),
    [
        ({}, {}),
        ({"custom": {"a": "1", "b": ""}}, {"a": "1", "b": ""}),
        ({"custom": {"a": "1", "b": 2, "c": None, "d": ["x"], "e": True}}, {"a": "1"}),
        ({"custom": None}, {}),
        ({"custom": "a"}, {}),
        ({"custom": [["a", "1"]]}, {}),
        ({"trace": {"a": "1"}}, {}),
    ],
)
def test_one_odd_value_never_costs_the_other_metadata(metadata: dict[str, Any], custom: dict[str, str]) -> None:
    assert Event(metadata=metadata).custom == custom


@pytest.mark.parametrize("enum", [events.SystemMessageLevel, events.TypingState])
def test_the_wires_words_are_strings_and_print_as_such(enum: Any) -> None:
    for word in enum:
        assert word == word.value == str(word) == f"{word}" == f"{word:s}"
        assert pickle.loads(pickle.dumps(word)) is word
        assert json.dumps(word) == f'"{word.value}"'


def test_the_public_names_of_the_module_are_there() -> None:
    assert [name for name in events.__all__ if not hasattr(events, name)] == []
    assert polyai_sync.events is events
