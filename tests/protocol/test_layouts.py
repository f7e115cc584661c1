"""Events that are written as others of their type were: what a pattern reads is what the JSON would give."""

from __future__ import annotations

import copy
import json
import pickle
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire_cases import DOCUMENTED

from polyai_sync.events import Event, PolyAgentMessageChunk, UserMessage
from polyai_sync.protocol.codec import decode
from polyai_sync.protocol.layouts import PATIENCE, Layouts
from polyai_sync.protocol.usual import usual_frame

CHUNK = "EVENT_TYPE_POLY_AGENT_MESSAGE_CHUNK"
ENVELOPE = {"id": "e-7", "sequence": 7, "timestamp": "2026-03-01T09:30:15.250Z", "metadata": {"custom": {"a": "b"}}}
EMPTY = {"attachments": [], "response_suggestions": [], "chat_call_actions": None}
COMPACT = (",", ":")
WIDE = (", ", ": ")


def frame(wire_type: str, payload: dict[str, Any], /, **envelope: Any) -> dict[str, Any]:
    return {**ENVELOPE, "type": wire_type, "payload": payload, **envelope}


def written(document: Any, separators: tuple[str, str] = WIDE) -> str:
    return json.dumps(document, ensure_ascii=False, separators=separators)


def from_json(text: str) -> Event:
    """The event, read the long way: nothing unusual has a layout."""
    (event,) = decode(json.dumps({**json.loads(text), "something": None})).events
    return event


def learned(text: str) -> Layouts:
    layouts = Layouts()
    document = json.loads(text)
    event = usual_frame(document, text)
    assert event is not None
    for _ in range(PATIENCE):
        assert layouts.read(text) is None
        layouts.missed(event, document, text)
    assert layouts.read(text) is not None
    return layouts


CHUNKS = [
    {"message_id": "m-1", "text": "Hi ", **EMPTY, "chunk_index": 3, "is_complete": False},
    {"message_id": "m-1", "text": "Hi ", "agent_name": "Marta", "avatar_url": None, "chunk_index": 0},
    {"text": "", "is_complete": True},
]
PLAIN = [
    (name, {key: "Hi" if key == "text" else EMPTY.get(key, value) for key, value in payload.items()})
    for name, payload, _ in DOCUMENTED
]
USUAL = [(CHUNK, payload) for payload in CHUNKS] + [
    (name, payload) for name, payload in PLAIN if usual_frame(frame(name, payload), written(frame(name, payload)))
]


def test_most_types_are_usual() -> None:
    assert len({name for name, _ in USUAL}) > 15


@pytest.mark.parametrize("separators", [WIDE, COMPACT], ids=repr)
@pytest.mark.parametrize(("wire_type", "payload"), USUAL)
@settings(max_examples=10)
@given(data=st.data())
def test_what_is_written_alike_is_read_alike(
    data: st.DataObject, wire_type: str, payload: dict[str, Any], separators: tuple[str, str]
) -> None:
    values = {str: st.text(), int: st.integers(0, 2**63 - 1), bool: st.booleans()}
    layouts = learned(written(frame(wire_type, payload), separators))
    said = {n: data.draw(values[type(v)], n) if type(v) in values else v for n, v in payload.items()}
    document = frame(wire_type, said, id=data.draw(st.text()), metadata={"custom": {"a": data.draw(st.text())}})
    text = written(document, separators)
    event = layouts.read(text)
    if event is not None:
        assert event == from_json(text)
        assert (event.raw, event.custom, event.replayed) == (document, document["metadata"]["custom"], False)
        assert copy.deepcopy(event) == pickle.loads(pickle.dumps(event)) == event
    else:  # an escape, or a number that nobody counts to
        assert "\\" in text or any(type(value) is int and value >= 10**18 for value in said.values())


PIECES = st.sampled_from(
    [*'"\\{}[]:,.-+eEtfnu0123456789 \t\n\x00\x1f\x7fé😀\u0661', "null", "true", '\\"', '","', "\\u00e9", ""]
)
TEXTS = [written(frame(name, payload), separators) for name, payload in USUAL for separators in (WIDE, COMPACT)]
LEARNED: dict[str, Layouts] = {}


@settings(max_examples=2_000)
@given(
    text=st.sampled_from(TEXTS),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), PIECES), min_size=1, max_size=3),
)
def test_a_text_that_is_not_quite_the_same_is_read_as_json_or_not_at_all(
    text: str, changes: list[tuple[float, int, str]]
) -> None:
    layouts = LEARNED.get(text) or LEARNED.setdefault(text, learned(text))
    for where, length, piece in changes:
        at = round(where * len(text))
        text = text[:at] + piece + text[at + length :]
    event = layouts.read(text)
    if event is not None:
        assert event == from_json(text)
        assert event.raw == json.loads(text)


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": -7},
        {"sequence": 2**63},
        {"sequence": 7.0},
        {"sequence": True},
        {"sequence": None},
        {"sequence": "7"},
        {"id": None},
        {"id": "a\nb"},
        {"id": "a\\b"},
        {"timestamp": "2026-13-01T09:30:15Z"},
        {"timestamp": "2026-03-01T09:30:60Z"},
        {"timestamp": "20260301T093015Z"},
        {"timestamp": "2026-W09-7T09:30:15Z"},
        {"timestamp": "٢٠٢٦-03-01T09:30:15Z"},
        {"timestamp": None},
        {"metadata": {}},
        {"metadata": {"custom": {"b": "a"}}},
        {"payload": {}},
    ],
    ids=repr,
)
def test_what_is_not_usual_is_left_to_the_json(change: dict[str, Any]) -> None:
    payload = {"message_id": "m-1", "text": "Hi "}
    assert learned(written(frame(CHUNK, payload))).read(written(frame(CHUNK, payload, **change))) is None


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ('A "word",\n\n\ttwo \\ \b\f\r', True),
        ("\\u00e9\\", True),
        ('"', True),
        ("Grüße 👋 한글 \ud7ff\ue000\U0010ffff", True),
        ("\n" * 200, True),
        ("\n" * 201, False),
        ("x" * 2_000 + "\n" + "x" * 2_000, True),
        ("x" * 2_001, False),
        ("\x1f", True),
    ],
)
def test_prose_is_read_with_its_escapes(said: str, read: bool) -> None:
    layouts = learned(written(frame(CHUNK, CHUNKS[0])))
    for text in (
        json.dumps(frame(CHUNK, {**CHUNKS[0], "text": said})),
        written(frame(CHUNK, {**CHUNKS[0], "text": said})),
    ):
        event = layouts.read(text)
        assert event == (from_json(text) if read else None)
        assert event is None or (event.text, event.raw["payload"]["text"]) == (said, said)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "inside",
    [
        *("\\", "\\x", "\\u00", "\\u00g9", "\\U00e9", "\n", "\\\n", "\\'", "\\u 0e9", '\\\\"'),
        *("\\ud83d", "\\ud83dx", "\\uDC00", "\\ud83d\\ud83d", "\\ude00\\ud83d", "\\ud83d\\u00e9"),
    ],
)
def test_what_is_no_escape_or_half_a_character_is_left_to_the_json(inside: str) -> None:
    text = written(frame(CHUNK, CHUNKS[0]))
    assert learned(text).read(text.replace("Hi ", inside)) is None


@pytest.mark.parametrize(
    "number", ["07", "00", "-7", "-0", "+7", "7.0", "7e0", "7_0", "\u0667", "", " 7", "0x7", "9" * 19]
)
def test_a_number_is_read_as_json_has_it_or_not_at_all(number: str) -> None:
    text = written(frame(CHUNK, {"message_id": "m-1", "text": "Hi "}))
    assert '"sequence": 7,' in text
    assert learned(text).read(text.replace('"sequence": 7,', f'"sequence": {number},')) is None


@pytest.mark.parametrize("text", ["", '"', "EVENT_TYPE_", '"EVENT_TYPE_', f'"{CHUNK}"', f'{{"type": "{CHUNK}"}}', "\0"])
def test_no_text_makes_trouble(text: str) -> None:
    assert Layouts().read(text) is None
    assert learned(written(frame(CHUNK, CHUNKS[0]))).read(text) is None


def test_a_type_quoted_in_a_text_is_not_taken_for_the_events_own() -> None:
    layouts = learned(written(frame(CHUNK, {"message_id": "m-1", "text": "Hi"})))
    document = {"payload": {"text": f'"{CHUNK}"'}, **ENVELOPE, "type": "EVENT_TYPE_USER_MESSAGE"}
    assert layouts.read(written(document)) is None
    assert type(from_json(written(document))) is UserMessage


def test_another_layout_is_learned_where_the_one_known_fits_no_longer() -> None:
    old, new = written(frame(CHUNK, CHUNKS[0])), written(frame(CHUNK, dict(reversed(CHUNKS[0].items()))))
    layouts = learned(old)
    document = json.loads(new)
    event = usual_frame(document, new)
    assert event is not None
    for _ in range(2 * PATIENCE):
        assert layouts.read(new) is None
        layouts.missed(event, document, new)
    assert layouts.read(new) == event
    assert layouts.read(old) is None


def test_an_odd_one_now_and_then_changes_nothing() -> None:
    text, odd = written(frame(CHUNK, CHUNKS[0])), written(frame(CHUNK, CHUNKS[1]))
    layouts = learned(text)
    document = json.loads(odd)
    event = usual_frame(document, odd)
    assert event is not None
    for _ in range(50 * PATIENCE):
        assert layouts.read(odd) is None
        layouts.missed(event, document, odd)
        assert layouts.read(text) is not None


def test_a_server_that_writes_each_event_in_another_way_is_not_followed() -> None:
    layouts, source, kept = Layouts(), random.Random(7), 0
    for number in range(2_000):
        payload = list(CHUNKS[0].items())
        source.shuffle(payload)
        document = frame(CHUNK, dict(payload), id=f"e-{number}")
        text = written(document)
        event = usual_frame(document, text)
        assert event is not None
        before = dict(layouts._readers)
        if layouts.read(text) is None:
            layouts.missed(event, document, text)
        kept += layouts._readers != before
    assert 0 < kept <= 8


def test_types_that_alternate_have_their_layouts_side_by_side() -> None:
    texts = [written(frame(name, payload)) for name, payload in dict(USUAL).items()]
    layouts = Layouts()
    for text in texts * PATIENCE:
        event = usual_frame(json.loads(text), text)
        assert event is not None
        layouts.missed(event, json.loads(text), text)
    assert [layouts.read(text) for text in texts] == [from_json(text) for text in texts]


# --- batches ----------------------------------------------------------------------------------------------------------

BATCH = "EVENT_TYPE_EVENT_BATCH"


def batch(elements: list[Any], before: dict[str, Any], after: dict[str, Any], separators: tuple[str, str]) -> str:
    inner = {"events": elements, **after} if after else {"events": elements}
    return written({**before, "type": BATCH, "payload": inner, **after}, separators)


def whole(text: str) -> Any:
    """What a batch holds, read all at once: it holds what stands for the events where they are read apart."""
    return decode(text.replace("{", '{"here": "\ue000the events\ue000", ', 1), replayed=True)


def plain(event: Event) -> Any:
    return event, event.raw, event.metadata, event.replayed


ELEMENTS = st.sampled_from(USUAL).flatmap(
    lambda case: st.builds(
        lambda number, said: frame(
            case[0], {**case[1], **({"text": said} if "text" in case[1] else {})}, sequence=number
        ),
        st.none() | st.integers(0, 30),
        st.text(max_size=6),
    )
)
ODD = st.sampled_from(
    [
        None,
        7,
        [],
        "x",
        {},
        {"type": "EVENT_TYPE_NEW", "payload": {"events": [1]}},
        {"type": BATCH, "payload": {"events": [frame("EVENT_TYPE_HEARTBEAT", {}, sequence=3), 5]}},
        {"events": []},
        frame(CHUNK, {"text": "a", "more": [{"events": [{}]}]}),
    ]
)
AROUND = st.dictionaries(st.sampled_from(["id", "sequence", "events", "x"]), st.sampled_from([None, 5, [], [1], "x"]))


@settings(max_examples=300)
@given(
    elements=st.lists(ELEMENTS | ELEMENTS | ODD, max_size=40),
    before=AROUND,
    after=AROUND,
    separators=st.sampled_from([WIDE, COMPACT, (" ,\n", "\t:\r ")]),
)
def test_a_batch_is_read_in_parts_as_it_is_read_whole(
    elements: list[Any], before: dict[str, Any], after: dict[str, Any], separators: tuple[str, str]
) -> None:
    text = batch(elements, before, after, separators)
    parts, at_once = decode(text, replayed=True), whole(text)
    assert parts == at_once
    assert list(map(plain, parts.events)) == list(map(plain, at_once.events))


@settings(max_examples=1_000)
@given(
    elements=st.lists(ELEMENTS, min_size=1, max_size=3),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), PIECES), max_size=2),
)
def test_a_batch_that_is_not_quite_right_is_read_in_parts_as_it_is_read_whole(
    elements: list[Any], changes: list[tuple[float, int, str]]
) -> None:
    text = batch(elements * 4, {}, {}, WIDE)
    for where, length, piece in changes:
        at = 1 + round(where * (len(text) - 1))
        text = text[:at] + piece + text[at + length :]
    parts, at_once = decode(text, replayed=True), whole(text)
    assert (parts.events, parts.batch, parts.sequence) == (at_once.events, at_once.batch, at_once.sequence)
    assert len(parts.problems) == len(at_once.problems)
    if parts.batch:  # otherwise it is one event, and has the character in its JSON
        assert list(map(plain, parts.events)) == list(map(plain, at_once.events))


def test_half_a_character_in_a_batch_costs_only_its_event() -> None:
    texts = ["a\ud83dz", "👋", "Hi"]
    elements = [frame("EVENT_TYPE_USER_MESSAGE", {"message_id": "m", "text": text}) for text in texts * 20]
    text = json.dumps({"type": BATCH, "payload": {"events": elements}})
    events = decode(text, replayed=True).events
    assert events == whole(text).events
    assert [event.text for event in events] == ["a\ufffdz", "👋", "Hi"] * 20  # type: ignore[attr-defined]
    assert [event.raw["payload"]["text"] for event in events] == ["a\ufffdz", "👋", "Hi"] * 20


def test_an_event_of_a_batch_holds_on_to_its_own_text_alone() -> None:
    elements = [frame(CHUNK, CHUNKS[0], id=f"e-{number}") for number in range(100)]
    events = decode(batch(elements, {}, {}, WIDE)).events
    assert max(len(pickle.dumps(event)) for event in events) < 2_000
    assert [event.raw for event in events] == elements


@given(st.text(alphabet=st.characters(exclude_characters='"\\', min_codepoint=32), max_size=50))
@example("\ue000")
def test_whatever_the_event_says_that_is_learned_from(said: str) -> None:
    text = written(frame(CHUNK, {"text": said}, metadata={"custom": {"a": said, said: "b"}}))
    document = json.loads(text)
    event = usual_frame(document, text)
    assert event is not None
    layouts = Layouts()
    for _ in range(PATIENCE):
        layouts.missed(event, document, text)
    assert layouts.read(text) in (None, event)
    assert type(event) is PolyAgentMessageChunk
