"""A session's state as a document: what goes in comes out, and what is damaged is refused in one clear sentence."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from attrs.exceptions import FrozenInstanceError
from hypothesis import given, settings
from hypothesis import strategies as st

from polyai_sync import ConfigurationError, PolyAIError, SessionState
from polyai_sync.messages import Attachment, CallAction, Capabilities, Handoff, HandoffStatus, Participant, Suggestion
from polyai_sync.state import OpenStream, Piece

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0aGUtdXNlciJ9.c2lnbmF0dXJlLW9mLWl0"
WHEN = datetime(2026, 3, 1, 9, 30, 15, 250_000, tzinfo=timezone(timedelta(hours=2)))
AGENT = Participant(id="a-1", name="Marta", avatar_url="https://e.example/m.png")

FULL = SessionState(
    session_id="5f0c",
    access_token=TOKEN,
    base_url="https://messaging.us-1.poly.ai",
    cursor=41,
    capabilities=Capabilities(
        streaming=True, max_message_size_bytes=4096, max_reconnect_attempts=0, heartbeat_interval_seconds=12.5
    ),
    joined=True,
    agent=AGENT,
    live_agent=Participant(id="l-1", name="Zoë", avatar_url="https://e.example/z.png"),
    handoff=Handoff(
        status=HandoffStatus.QUEUED,
        queue_name="Bookings",
        position=0,
        estimated_wait_seconds=90.0,
        display_message="Hold on",
        reason="POLICY",
        route="https://e.example/desk",
        agent=AGENT,
    ),
    language="pt-BR",
    streaming=False,
    streams=(
        OpenStream(
            message_id="m-9",
            pieces=(Piece(first=0, last=2, text="A tab"), Piece(first=4, last=4, text="two")),
            final=6,
            numbered=True,
            attachments=(Attachment(title="Menu", content_url="https://e.example/menu"),),
            suggestions=(Suggestion(message_text="Yes", payload={"choice": [1, None]}),),
            call_actions=(CallAction(title="Desk", contact_number="+44 20"),),
            sequence=40,
            timestamp=WHEN,
            agent_name="Marta",
            avatar_url="https://e.example/m.png",
        ),
    ),
    created_at=WHEN,
    updated_at=WHEN + timedelta(minutes=3),
)
BARE = SessionState(session_id="s", access_token=TOKEN, base_url="http://127.0.0.1:8080")
DOCUMENT: dict[str, Any] = json.loads(FULL.to_json())


# --- a round trip over everything a state can hold -------------------------------------------------------------------

words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
texts = st.text(max_size=20)
wholes = st.integers(0, 2**63 - 1)
seconds = st.floats(-(2.0**63), 2.0**63)


def is_plain(time: datetime) -> bool:
    """Is it no hour that a clock shows twice? Times of two zones are never equal there, by PEP 495."""
    return time.utcoffset() is not None and time.utcoffset() == time.replace(fold=not time.fold).utcoffset()


times = st.datetimes(timezones=st.timezones() | st.just(timezone.utc)).filter(is_plain)
payloads = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def tuples(strategy: st.SearchStrategy[Any], **limits: int) -> st.SearchStrategy[Any]:
    return st.lists(strategy, max_size=3, **limits).map(tuple)


@st.composite
def some_pieces(draw: st.DrawFn) -> tuple[Piece, ...]:
    """Runs that rise without touching what was before."""
    bounds = sorted(draw(st.sets(st.integers(0, 10_000), min_size=2, max_size=6)))
    pairs = zip(bounds[::2], bounds[1::2], strict=False)
    return tuple(Piece(first=first, last=last, text=draw(texts)) for first, last in pairs)


participants = st.builds(Participant, id=maybe(texts), name=maybe(texts), avatar_url=maybe(texts))
some_capabilities = st.builds(
    Capabilities,
    streaming=st.booleans(),
    max_message_size_bytes=wholes,
    max_reconnect_attempts=maybe(wholes),
    heartbeat_interval_seconds=maybe(seconds),
)
handoffs = st.builds(
    Handoff,
    status=st.sampled_from(HandoffStatus),
    queue_name=maybe(texts),
    position=maybe(wholes),
    estimated_wait_seconds=maybe(seconds),
    display_message=maybe(texts),
    reason=maybe(texts),
    route=maybe(texts),
    agent=maybe(participants),
)
streams = st.builds(
    OpenStream,
    message_id=texts,
    pieces=some_pieces(),
    final=maybe(wholes),
    numbered=st.booleans(),
    cut_short=st.booleans(),
    attachments=tuples(st.builds(Attachment, **dict.fromkeys(attrs.fields_dict(Attachment), texts))),
    suggestions=tuples(st.builds(Suggestion, message_text=texts, payload=payloads)),
    call_actions=tuples(st.builds(CallAction, title=texts, contact_number=texts)),
    sequence=maybe(wholes),
    timestamp=maybe(times),
    agent_name=maybe(texts),
    avatar_url=maybe(texts),
)
TOKEN_MARK = "-what tokens begin with-"  # and nothing else does, by whatever chance
states = st.builds(
    SessionState,
    session_id=words,
    access_token=words.map(lambda word: TOKEN_MARK + word),
    base_url=words,
    cursor=wholes,
    capabilities=maybe(some_capabilities),
    joined=st.booleans(),
    agent=maybe(participants),
    live_agent=maybe(participants),
    handoff=handoffs,
    language=maybe(texts),
    streaming=st.booleans(),
    streams=tuples(streams),
    created_at=maybe(times),
    updated_at=maybe(times),
)


@settings(max_examples=20)
@given(states)
def test_what_was_written_is_read_back(state: SessionState) -> None:
    text = state.to_json()
    assert SessionState.from_json(text) == state
    assert SessionState.from_json(text.encode()) == state
    assert json.loads(text)["version"] == 1
    assert TOKEN_MARK not in repr(state)


@pytest.mark.parametrize("state", [FULL, BARE], ids=["full", "bare"])
def test_a_state_is_a_plain_value(state: SessionState) -> None:
    assert SessionState.from_json(state.to_json()) == state
    assert pickle.loads(pickle.dumps(state)) == state
    assert copy.deepcopy(state) == state == copy.copy(state)
    assert hash(state) == hash(SessionState.from_json(state.to_json()))
    with pytest.raises(FrozenInstanceError):
        state.cursor = 1  # type: ignore[misc]


def test_every_field_of_a_state_is_in_its_document() -> None:
    """So that a field which is added cannot be forgotten on one of the two ways."""
    assert set(DOCUMENT) == {"format", "version", *attrs.fields_dict(SessionState)}
    assert [field.name for field in attrs.fields(SessionState) if getattr(FULL, field.name) == field.default] == []


@pytest.mark.pitfall(31)
def test_the_token_is_in_no_picture_of_a_state() -> None:
    assert TOKEN not in repr(FULL) + str(FULL) + f"{FULL}" + repr([FULL])
    assert "5f0c" in repr(FULL)


# --- what is refused ------------------------------------------------------------------------------------------------


def refusal(text: Any) -> str:
    """What reading ``text`` is refused with; neither the sentence nor what it came from may hold the token."""
    with pytest.raises(ConfigurationError) as caught:
        SessionState.from_json(text)
    error: BaseException | None = caught.value
    assert isinstance(error, PolyAIError)
    assert (error.code, error.retryable) == ("client.configuration", False)
    sentence = error.message
    assert str(error) == f"{sentence}. Start a new session: this document leads to none."
    while error is not None:
        assert TOKEN not in f"{error} {error!r} {error.args} {vars(error)}"
        error = error.__cause__ or error.__context__
    assert "\n" not in sentence
    assert len(sentence) < 200
    assert sentence.startswith("The stored session state ")
    return sentence


def changed(**fields: Any) -> str:
    return json.dumps({**DOCUMENT, **fields})


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nonsense",
        TOKEN,
        FULL.to_json()[:-1],
        FULL.to_json() + "}",
        b"\xff\xfe\x00",
        b"",
        None,
        7,
        [],
        "[" * 99_999,
    ],
    ids=lambda text: repr(text)[:20],
)
def test_what_is_no_json_is_refused(text: Any) -> None:
    assert "is not JSON" in refusal(text)


@pytest.mark.parametrize(
    "document",
    [None, 1, "x", [], [DOCUMENT], {}, {"session_id": "s", "access_token": TOKEN}, DOCUMENT | {"format": "another"},
     DOCUMENT | {"format": None}, DOCUMENT | {"format": [TOKEN]}],
    ids=lambda document: repr(document)[:20],
)  # fmt: skip
def test_what_another_program_wrote_is_refused(document: Any) -> None:
    assert "was not written by SessionState.to_json()" in refusal(json.dumps(document))


@pytest.mark.parametrize("version", [0, 2, 99])
def test_a_document_of_another_version_is_refused_with_both_versions(version: int) -> None:
    assert f"has version {version}, and this release reads version 1" in refusal(changed(version=version))


@pytest.mark.parametrize("version", [None, "1", 1.0, True, TOKEN, [TOKEN] * 100, -1, 2**64])
def test_what_is_no_version_is_refused(version: Any) -> None:
    assert "no usable version" in refusal(changed(version=version))


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place of a document, from the outside in."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


PLACES = [
    path for path in places(DOCUMENT) if path[:1] not in [(), ("format",), ("version",)] and "payload" not in path
]
JUNK: list[Any] = [
    None,
    True,
    -1,
    7,
    0.5,
    2**64,
    10**400,
    float("nan"),
    float("-inf"),
    "",
    "\ud800",
    TOKEN,
    [],
    [TOKEN],
    {},
]
JUNK += [[{}], {"id": 1}, {"text": TOKEN}]


def put(path: tuple[str | int, ...], value: Any) -> str:
    document = copy.deepcopy(DOCUMENT)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(document)


def named(path: tuple[str | int, ...]) -> str:
    return ".".join(key for key in path if isinstance(key, str))


def fits(old: Any, new: Any) -> bool:
    """May ``new`` stand where ``old`` did? By kind alone: what a kind may hold beyond that is said elsewhere."""
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    if isinstance(old, (int, float)):
        return isinstance(new, (int, float))
    return isinstance(new, type(old))


@pytest.mark.parametrize("path", PLACES, ids=named)
def test_a_value_of_the_wrong_kind_is_refused_by_name(path: tuple[str | int, ...]) -> None:
    old: Any = DOCUMENT
    for key in path:
        old = old[key]
    for junk in JUNK:
        if junk is not None and not fits(old, junk):
            assert named(path) in refusal(put(path, junk)), junk


@pytest.mark.parametrize("path", PLACES, ids=named)
def test_whatever_stands_in_a_place_the_answer_is_a_state_or_a_refusal(path: tuple[str | int, ...]) -> None:
    for junk in JUNK:
        text = put(path, junk)
        try:
            state = SessionState.from_json(text)
        except ConfigurationError:
            refusal(text)
        else:
            assert SessionState.from_json(state.to_json()) == state


@pytest.mark.parametrize("path", [path for path in PLACES if isinstance(path[-1], str)], ids=named)
def test_a_field_that_is_missing_is_named(path: tuple[str | int, ...]) -> None:
    document = copy.deepcopy(DOCUMENT)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    assert f"no usable {named(path)}" in refusal(json.dumps(document))


@pytest.mark.parametrize("name", ["session_id", "access_token", "base_url"])
@pytest.mark.parametrize("value", [None, "", "a\nb", "a\x00b", "\ud800"], ids=repr)
def test_what_goes_into_an_address_is_never_empty_and_holds_nothing_that_splits_it(name: str, value: Any) -> None:
    assert f"no usable {name}" in refusal(changed(**{name: value}))


@pytest.mark.parametrize("cursor", [-1, 2**63, 1.5, "41", True, None])
def test_a_cursor_that_is_no_sequence_is_refused(cursor: Any) -> None:
    assert "no usable cursor" in refusal(changed(cursor=cursor))


@pytest.mark.parametrize("pieces", [[], [(3, 2)], [(0, 2), (2, 3)], [(4, 5), (0, 1)]])
def test_pieces_of_a_stream_that_do_not_rise_are_refused(pieces: list[tuple[int, int]]) -> None:
    broken = [{"first": first, "last": last, "text": "x"} for first, last in pieces]
    assert "no usable streams.pieces" in refusal(put(("streams", 0, "pieces"), broken))


def test_what_a_later_release_added_is_overlooked() -> None:
    assert SessionState.from_json(changed(mood="good", handoff={**DOCUMENT["handoff"], "floor": 3})) == FULL


def test_a_time_without_a_zone_is_read_as_utc() -> None:
    state = SessionState.from_json(changed(created_at="2026-03-01T09:30:15"))
    assert state.created_at == datetime(2026, 3, 1, 9, 30, 15, tzinfo=timezone.utc)
