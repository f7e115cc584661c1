"""JSON of the wire to events and back (protocol.md §4 and §6): every type, every way to write it, and any junk."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire_cases import DOCUMENTED, JUNK, OLDER

from polyai_sync.events import EVENT_CLASSES, Event, EventBatch, UnknownEvent
from polyai_sync.hooks import ClientEvent
from polyai_sync.protocol.codec import Decoded, decode, encode
from polyai_sync.protocol.strict_json import MAX_DEPTH

BATCH = "EVENT_TYPE_EVENT_BATCH"
ENVELOPE = {"id": "e-7", "sequence": 7, "timestamp": "2026-03-01T09:30:15.250Z"}
WHEN = datetime(2026, 3, 1, 9, 30, 15, 250_000, tzinfo=timezone.utc)


def frame(wire_type: Any = "EVENT_TYPE_POLY_AGENT_THINKING", payload: Any = None, **envelope: Any) -> dict[str, Any]:
    return {**ENVELOPE, "type": wire_type, "payload": {} if payload is None else payload, **envelope}


def history(*elements: Any, **envelope: Any) -> str:
    return json.dumps({"type": BATCH, "payload": {"events": list(elements)}, **envelope})


def one(document: Any, *, problems: int = 0) -> Any:
    decoded = decode(json.dumps(document))
    assert len(decoded.problems) == problems, decoded.problems
    assert (len(decoded.events), decoded.batch) == (1, False)
    return decoded.events[0]


# --- every type, as documented ----------------------------------------------------------------------------------------


def test_every_type_of_the_wire_is_tried_below() -> None:
    assert {wire_type for wire_type, *_ in DOCUMENTED} == set(EVENT_CLASSES) - {BATCH}


@pytest.mark.parametrize(("wire_type", "payload", "fields"), DOCUMENTED)
def test_an_event_is_read_as_documented(wire_type: str, payload: dict[str, Any], fields: dict[str, Any]) -> None:
    document = frame(wire_type, payload, metadata={"custom": {"order": "12"}, "trace": 5})
    event = one(document)
    assert event == EVENT_CLASSES[wire_type](
        id="e-7", sequence=7, timestamp=WHEN, metadata={"custom": {"order": "12"}, "trace": 5}, **fields
    )
    assert event.raw == document
    assert event.custom == {"order": "12"}


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    ("wire_type", "payload", "fields"), [*DOCUMENTED, ("EVENT_TYPE_FROM_THE_FUTURE", {"a": 1}, {})]
)
def test_an_event_keeps_its_text_instead_of_its_json(
    wire_type: str, payload: dict[str, Any], fields: dict[str, Any], batch: bool
) -> None:
    document = frame(wire_type, payload, metadata={"custom": {"order": "12"}, "trace": 5})

    def again() -> Any:
        whole = {"type": BATCH, "payload": {"events": [document]}} if batch else document
        return decode(json.dumps(whole, ensure_ascii=False)).events[0]

    event = again()
    with pytest.raises(AttributeError):
        Event.raw.__get__(event)  # type: ignore[attr-defined] # a slot
    for twin in (copy.copy(again()), copy.deepcopy(again()), pickle.loads(pickle.dumps(again()))):
        assert (twin, twin.raw, twin.metadata, hash(twin)) == (event, document, document["metadata"], hash(event))
    assert attrs.evolve(again(), id="e-8").raw == document
    assert again().metadata == document["metadata"]
    assert attrs.evolve(again(), metadata={}) != event


@pytest.mark.parametrize(("wire_type", "payload", "fields"), OLDER)
def test_older_names_and_other_ways_to_write_an_event_are_read_too(
    wire_type: str, payload: dict[str, Any], fields: dict[str, Any]
) -> None:
    event = one(frame(wire_type, payload))
    assert {name: getattr(event, name) for name in fields} == fields


@pytest.mark.pitfall(8, 37)
@pytest.mark.parametrize(("wire_type", "payload", "fields"), JUNK)
def test_a_junk_field_costs_only_itself_and_is_reported(wire_type: str, payload: Any, fields: dict[str, Any]) -> None:
    decoded = decode(json.dumps(frame(wire_type, payload)))
    assert {name: getattr(decoded.events[0], name) for name in fields} == fields
    assert len(decoded.problems) == 1


@pytest.mark.parametrize(("wire_type", "payload", "fields"), DOCUMENTED)
def test_a_payload_may_stand_under_the_types_own_name(wire_type: str, payload: Any, fields: dict[str, Any]) -> None:
    named = frame(wire_type, payload)
    named[wire_type.removeprefix("EVENT_TYPE_").lower()] = named.pop("payload")
    assert decode(history(named)).events[0] == one(frame(wire_type, payload))
    assert one(named | {"payload": {}}) == one(frame(wire_type, payload))


@pytest.mark.parametrize("wire_type", [wire_type for wire_type, *_ in DOCUMENTED])
@pytest.mark.parametrize("empty", [{}, {"payload": {}}, {"payload": None}], ids=repr)
def test_what_holds_its_default_may_be_left_out(wire_type: str, empty: dict[str, Any]) -> None:
    assert one({"type": wire_type, **empty}) == EVENT_CLASSES[wire_type]()


@pytest.mark.parametrize(("wire_type", "payload", "fields"), DOCUMENTED)
def test_a_null_counts_as_left_out(wire_type: str, payload: dict[str, Any], fields: dict[str, Any]) -> None:
    nulls = dict.fromkeys(payload) | {"id": None}
    event = one(
        {"type": wire_type, "payload": nulls, "id": None, "sequence": None, "timestamp": None, "metadata": None}
    )
    assert event == EVENT_CLASSES[wire_type]()


# --- the envelope -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-03-01T09:30:15Z", WHEN.replace(microsecond=0)),
        ("2026-03-01T09:30:15", WHEN.replace(microsecond=0)),
        ("2026-03-01T09:30:15.25Z", WHEN),
        ("2026-03-01T09:30:15.250000999Z", WHEN),
        ("2026-03-01 09:30:15,25", WHEN),
        ("2026-03-01t11:30:15.25+02:00", WHEN),
        ("2026-03-01T04:00:15.25-0530", WHEN),
        ("2026-03-01T11:30:15.25+02", WHEN),
        ("", None),
    ],
)
def test_a_timestamp_is_read_with_and_without_fractions_and_zone(written: str, read: datetime | None) -> None:
    timestamp = one(frame(timestamp=written)).timestamp
    assert timestamp == read
    assert timestamp is None or timestamp.utcoffset() is not None


def test_a_timestamp_keeps_the_servers_zone() -> None:
    assert one(frame(timestamp="2026-03-01T11:30:15+02:00")).timestamp.utcoffset() == timedelta(hours=2)


@pytest.mark.pitfall(7, 8, 37)
@pytest.mark.parametrize(
    ("name", "junk"),
    [
        ("timestamp", junk)
        for junk in ["soon", "2026-13-01T00:00:00Z", "2026-03-01T09:30:15+99:99", 1_772_357_415, [1], {"a": 1}]
    ]
    + [("sequence", junk) for junk in ["soon", -1, 1.5, 2**63, 1e300, True, [7], {"a": 7}, "9" * 40, "--7"]]
    + [("id", junk) for junk in [["e"], {"a": 1}, True, 1.5, 2**64]]
    + [("metadata", junk) for junk in ["x", [1], 7, True]],
)
def test_junk_in_an_envelope_counts_as_absent_and_is_reported(name: str, junk: Any) -> None:
    whole, event = one(frame()), one(frame(**{name: junk}), problems=1)
    for field in ("id", "sequence", "timestamp", "metadata"):
        assert getattr(event, field) == (getattr(Event(), field) if field == name else getattr(whole, field))
    assert name in decode(json.dumps(frame(**{name: junk}))).problems[0]


@pytest.mark.parametrize(
    ("written", "read"), [(0, 0), ("41", 41), ("0", 0), (41.0, 41), (2**63 - 1, 2**63 - 1), (None, None)]
)
def test_a_sequence_is_a_number_also_in_quotes(written: Any, read: int | None) -> None:
    assert one(frame(sequence=written)).sequence == read


def test_a_number_for_an_id_is_an_id() -> None:
    assert one(frame(id=12)).id == "12"


@pytest.mark.pitfall(8)
def test_one_odd_custom_value_costs_only_itself() -> None:
    event = one(frame(metadata={"custom": {"client_event_id": "c-1", "count": 3, "none": None}}))
    assert event.custom == {"client_event_id": "c-1"}
    assert event.metadata["custom"]["count"] == 3


@pytest.mark.parametrize(
    "wire_type", ["EVENT_TYPE_SHOW_CSAT_REQUEST", "EVENT_TYPE_USER_TYPING", "event_type_heartbeat", "", "x"]
)
def test_an_unknown_type_is_kept_with_its_json(wire_type: str) -> None:
    document = frame(wire_type, {"scale": [1, 5]}, extra={"x": 1})
    event = one(document)
    assert type(event) is UnknownEvent
    assert (event.type, event.payload, event.raw) == (wire_type, {"scale": [1, 5]}, document)
    assert (event.id, event.sequence, event.timestamp) == ("e-7", 7, WHEN)


@pytest.mark.parametrize("wire_type", [None, 7, ["EVENT_TYPE_HEARTBEAT"], {}])
def test_an_event_without_a_type_is_kept_and_reported(wire_type: Any) -> None:
    event = one(frame(wire_type), problems=1)
    assert (type(event), event.type, event.id) == (UnknownEvent, "", "e-7")


@pytest.mark.parametrize("junk", ["x", 7, [1], True])
@pytest.mark.parametrize("wire_type", ["EVENT_TYPE_POLY_AGENT_MESSAGE", "EVENT_TYPE_NEW"])
def test_a_payload_that_is_no_object_is_reported_and_counts_as_empty(wire_type: str, junk: Any) -> None:
    assert one(frame(wire_type, junk), problems=1).id == "e-7"


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_flattened_and_sorted_with_null_last() -> None:
    inner = {"type": BATCH, "event_batch": {"events": [frame(id="d", sequence=2), frame(id="c", sequence=None)]}}
    last = frame(id="f")
    del last["sequence"]
    text = history(
        frame(id="a", sequence=9), inner, frame(id="b", sequence=2), frame(id="e", sequence=0), last, sequence=12
    )
    decoded = decode(text, replayed=True)
    assert [event.id for event in decoded.events] == ["e", "d", "b", "a", "c", "f"]
    assert all(event.replayed for event in decoded.events)
    assert (decoded.batch, decoded.sequence, decoded.problems) == (True, 12, ())


def test_only_the_events_of_a_batch_can_be_history() -> None:
    assert not decode(json.dumps(frame()), replayed=True).events[0].replayed
    assert not decode(history(frame())).events[0].replayed


@pytest.mark.parametrize(
    "document", [{"type": BATCH}, {"type": BATCH, "payload": {}}, {"type": BATCH, "payload": {"events": []}}]
)
def test_a_batch_may_be_empty(document: dict[str, Any]) -> None:
    assert decode(json.dumps(document)) == Decoded(batch=True)


@pytest.mark.pitfall(8)
@pytest.mark.parametrize("junk", [None, 7, "x", [], [frame()], True, 1.5])
def test_a_junk_element_costs_no_neighbour_and_is_reported_once(junk: Any) -> None:
    decoded = decode(history(frame(id="a"), junk, frame(id="b", sequence=8)))
    assert [event.id for event in decoded.events] == ["a", "b"]
    assert len(decoded.problems) == 1


@pytest.mark.parametrize("events", [None, {}, "x", 7])
def test_a_batch_whose_events_are_no_list_is_empty(events: Any) -> None:
    decoded = decode(json.dumps({"type": BATCH, "payload": {"events": events}}))
    assert (decoded.events, decoded.batch, len(decoded.problems)) == ((), True, 1)


# --- frames that are no events ----------------------------------------------------------------------------------------


@pytest.mark.pitfall(33, 37)
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nonsense",
        "{",
        '{"type"',
        "{'type': 1}",
        "\ufeff{}",
        "[]",
        "null",
        "7",
        '"x"',
        "true",
        '{"a": NaN}',
        "NaN",
        '{"a": Infinity}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": -1e999}',
        "{} {}",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
    ],
    ids=lambda text: repr(text)[:20],
)
def test_a_frame_that_is_no_event_is_skipped_and_reported_once(text: str) -> None:
    decoded = decode(text)
    assert (decoded.events, decoded.batch, len(decoded.problems)) == ((), False, 1)
    assert len(decoded.problems[0]) < 200


@pytest.mark.pitfall(33)
@pytest.mark.parametrize(("depth", "kept"), [(1, True), (MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]")])
def test_depth_has_a_bound(depth: int, kept: bool, opening: str, closing: str) -> None:
    inner = depth - 1
    decoded = decode('{"type":"x","b":' + opening * inner + "1" + closing * inner + "}")
    assert (len(decoded.events), len(decoded.problems)) == ((1, 0) if kept else (0, 1))


def test_many_objects_side_by_side_are_not_deep() -> None:
    assert len(decode(history(*(frame(id=str(n), sequence=n) for n in range(500)))).events) == 500


def test_a_number_of_ten_thousand_digits_costs_no_more_than_its_frame() -> None:
    assert len(decode('{"type":"x","sequence":' + "9" * 10_000 + "}").problems) == 1


def test_half_a_surrogate_pair_is_replaced_and_a_whole_one_is_kept() -> None:
    event = decode(r'{"type":"EVENT_TYPE_USER_MESSAGE","payload":{"text":"a\ud83dz \uD83D\uDE00 \udc00"}}').events[0]
    assert event.text == "a\ufffdz 😀 \ufffd"  # type: ignore[attr-defined]
    json.dumps(event.raw, ensure_ascii=False).encode()


@pytest.mark.pitfall(33)
@pytest.mark.parametrize("depth", [MAX_DEPTH, 200, 800])
def test_half_a_surrogate_pair_in_an_event_that_is_too_deep_costs_no_neighbour(depth: int) -> None:
    deep = '{"type":"x","text":"\\ud800","deep":' + "[" * depth + "]" * depth + "}"
    decoded = decode(f'{{"type":"{BATCH}","payload":{{"events":[{json.dumps(frame())},{deep}]}}}}')
    assert decoded.events == (one(frame()),)
    assert len(decoded.problems) == 1


# --- any JSON at all --------------------------------------------------------------------------------------------------

KEYS = ["type", "payload", "events"]

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(sorted(EVENT_CLASSES)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.pitfall(37)
@given(st.text() | st.binary().map(lambda data: data.decode(errors="replace")) | anything.map(json.dumps))
@example('{"type":"\ud800"}')
def test_no_text_raises(text: str) -> None:
    decoded = decode(text)
    assert all(isinstance(event, Event) and not isinstance(event, EventBatch) for event in decoded.events)
    assert decoded.events or decoded.problems or decoded.batch


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


#: What a documented value may be besides, by what it is; lists, objects and words of a few are tried above.
SAID: dict[type, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(0, 2**63 - 1),
    float: st.floats(0, 2.0**60),
    bool: st.booleans(),
}
READ_AS_SAID = [
    (wire_type, {name: value for name, value in payload.items() if type(fields.get(name)) is type(value) in SAID})
    for wire_type, payload, fields in DOCUMENTED
]


@pytest.mark.parametrize(("wire_type", "payload"), [(name, payload) for name, payload in READ_AS_SAID if payload])
@settings(max_examples=15)
@given(data=st.data())
def test_whatever_an_event_says_is_read_as_it_was_said(data: st.DataObject, wire_type: str, payload: Any) -> None:
    said = {name: data.draw(SAID[type(value)], name) for name, value in payload.items()}
    document = frame(wire_type, said, id=data.draw(SAID[str]), sequence=data.draw(st.none() | SAID[int]))
    for event in (one(document), *decode(history(document)).events):
        assert {name: getattr(event, name) for name in said} == said
        assert (event.id, event.sequence, event.raw) == (document["id"], document["sequence"], document)
        assert EVENT_CLASSES[wire_type] is type(event)


@pytest.mark.pitfall(8, 37)
@pytest.mark.parametrize(("wire_type", "payload", "fields"), DOCUMENTED)
@settings(max_examples=15)
@given(data=st.data())
def test_an_odd_event_of_any_type_never_raises_and_never_costs_a_neighbour(
    data: st.DataObject, wire_type: str, payload: dict[str, Any], fields: dict[str, Any]
) -> None:
    odd = {"event": copy.deepcopy(frame(wire_type, payload, id="odd", metadata={"custom": {"a": "b"}}))}
    path = data.draw(st.sampled_from(places(odd)[1:]))
    place: Any = odd
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = data.draw(anything)
    neighbours = (
        frame(id="before", sequence=1),
        frame("EVENT_TYPE_USER_MESSAGE", {"text": "hi"}, id="after", sequence=9),
    )
    odd_text = json.dumps(odd["event"]).replace("-Infinity", "0").replace("Infinity", "0").replace("NaN", "0")
    decode(odd_text)
    decoded = decode(history(neighbours[0], json.loads(odd_text), neighbours[1]))
    assert [one(neighbour) in decoded.events for neighbour in neighbours] == [True, True]
    assert len(decoded.events) >= 2


# --- encoding ---------------------------------------------------------------------------------------------------------


def test_a_client_event_is_compact_and_not_escaped() -> None:
    event = ClientEvent(type="EVENT_TYPE_USER_MESSAGE", payload={"text": "Grüße 👋"}, custom={"client_event_id": "c-1"})
    assert encode(event) == (
        '{"type":"EVENT_TYPE_USER_MESSAGE","payload":{"text":"Grüße 👋"},'
        '"metadata":{"custom":{"client_event_id":"c-1"}}}'
    )
    assert encode(ClientEvent(type="EVENT_TYPE_HEARTBEAT")) == '{"type":"EVENT_TYPE_HEARTBEAT","payload":{}}'


@pytest.mark.parametrize(
    "where", [{"payload": {"text": "a\ud83d"}}, {"custom": {"a": "\udc00"}}, {"custom": {"\ud800": "a"}}]
)
def test_half_a_surrogate_pair_is_never_sent(where: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        encode(ClientEvent(type="EVENT_TYPE_USER_MESSAGE", **where))


TIMES = [
    "2024-05-01T10:00:00Z",
    "2024-05-01T10:00:00.123456789Z",
    "2024-05-01 10:00:00Z",
    "2024-05-01T10:00:00",
    "2024-05-01T10:00:00+02:00",
    "2024-05-01T10:00:00+02:00Z",
    "2024-05-01t10:00:00z",
    "2024-13-01T10:00:00Z",
    "2024-W18-3T10:00:00Z",
    "2024-05-01T100000.25Z",
    "20240501T100000Z",
    "2024-05-01T10:00Z",
]


@pytest.mark.parametrize(("wire_type", "payload", "fields"), DOCUMENTED)
@settings(max_examples=25)
@given(data=st.data())
def test_the_short_way_reads_what_the_long_way_reads(
    data: st.DataObject, wire_type: str, payload: dict[str, Any], fields: dict[str, Any]
) -> None:
    odd = {"event": copy.deepcopy(frame(wire_type, payload, id="odd", metadata={"custom": {}}))}
    odd["event"]["timestamp"] = data.draw(st.sampled_from(TIMES), "time")
    if data.draw(st.booleans(), "odd"):
        path = data.draw(st.sampled_from(places(odd)[1:]))
        place: Any = odd
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = data.draw(anything | st.sampled_from([[], {}, "", 0, False, None]))
    event = odd["event"]
    if not isinstance(event, dict):
        return
    detour = {**event, "something": None}  # nothing unusual goes the short way
    assert decode(json.dumps(event)) == decode(json.dumps(detour))
    assert decode(history(event)) == decode(history(detour))


@given(st.text(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_what_is_sent_is_what_was_said(text: str, custom: dict[str, str]) -> None:
    written = encode(ClientEvent(type="EVENT_TYPE_USER_MESSAGE", payload={"text": text}, custom=custom))
    expected: dict[str, Any] = {"type": "EVENT_TYPE_USER_MESSAGE", "payload": {"text": text}}
    assert json.loads(written.encode()) == expected | ({"metadata": {"custom": custom}} if custom else {})
    event = decode(written).events[0]
    assert (event.text, event.custom) == (text, custom)  # type: ignore[attr-defined]
