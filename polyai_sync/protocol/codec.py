"""JSON of the wire to events, and client events to JSON (`protocol.md` §4).

Decoding never raises on anything a server may send: what cannot be used is left out and named in ``Decoded.problems``,
and its neighbours are kept.
"""

from __future__ import annotations

import functools
import json
import operator
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from polyai_sync.events import EVENT_CLASSES, Event, EventBatch, LiveAgentJoined, UnknownEvent
from polyai_sync.protocol.layouts import Layouts
from polyai_sync.protocol.strict_json import brief, encodable, mended, parse, scan, too_deep, torn
from polyai_sync.protocol.usual import MESSAGES, usual_element, usual_frame
from polyai_sync.protocol.values import MISSING, READERS, Reader, identifier, integer, participant, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from polyai_sync.hooks import ClientEvent

__all__ = ["Decoded", "decode", "decode_alike", "encode"]

_PREFIX: Final = "EVENT_TYPE_"

_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Decoded(NamedTuple):
    """What one frame held.

    Attributes:
        events: Its events, in order.
        problems: What had to be left out, in words.
        batch: Was it a batch: a part of the history?
        sequence: The number that the batch itself has, where it has one.
    """

    events: tuple[Event, ...] = ()
    problems: tuple[str, ...] = ()
    batch: bool = False
    sequence: int | None = None


# Of one event, in half the time: most frames hold one.
_alone: Final = functools.partial(tuple.__new__, Decoded)


_LAYOUTS: Final = Layouts()

decode_alike: Final = _LAYOUTS.read
"""The event of a frame that is written as others of its type were; ``None``: `decode` it."""


# --- encoding ---------------------------------------------------------------------------------------------------------


def encode(event: ClientEvent) -> str:
    """Return the frame for ``event``: compact JSON, not ASCII-escaped, as the size limit counts it.

    Raises:
        ValueError: The text holds a lone surrogate, which no UTF-8 frame can carry.
    """
    frame: dict[str, Any] = {"type": event.type, "payload": dict(event.payload)}
    if event.custom:
        frame["metadata"] = {"custom": dict(event.custom)}
    text = _COMPACT.encode(frame)
    if not encodable(text):
        raise ValueError(
            "The text holds half of a surrogate pair, which UTF-8 cannot carry: decode it correctly first."
        )
    return text


# --- decoding ---------------------------------------------------------------------------------------------------------


def decode(text: str, *, replayed: bool = False) -> Decoded:
    """Decode one text frame; ``replayed`` marks the events of a batch as history."""
    if (event := decode_alike(text)) is not None:
        return _alone(((event,), (), False, None))
    if EventBatch.wire_type in text and (history := _batch_by_parts(text, replayed=replayed)) is not None:
        return history
    try:
        document = parse(text)
    except RecursionError:
        return Decoded(problems=("A frame was nested too deeply and was skipped.",))
    except ValueError as error:
        return Decoded(problems=(f"A frame was no JSON and was skipped: {brief(error)}.",))
    if (event := usual_frame(document, text)) is not None:
        _LAYOUTS.missed(event, document, text)
        return _alone(((event,), (), False, None))
    if not isinstance(document, dict):
        return Decoded(problems=("A frame was no JSON object and was skipped.",))
    batch = document.get("type") == EventBatch.wire_type
    if not batch and too_deep(document):  # of a batch: each event for itself
        return Decoded(problems=("A frame was nested too deeply and was skipped.",))
    source: str | None = text
    if torn(text):
        document, source = mended(document), None
    problems: list[str] = []
    if batch:
        return _history(document, _batch(document, problems, replayed=replayed), problems)
    return Decoded(events=(_event(document, problems, text=source, replayed=False),), problems=tuple(problems))


# --- batches ----------------------------------------------------------------------------------------------------------


def _batch_by_parts(text: str, *, replayed: bool) -> Decoded | None:
    """A batch, event by event: each keeps its own text, and most of them need no JSON.

    Returns:
        ``None`` where it has to be looked at as a whole.
    """
    begin = _EVENTS.search(text)
    if begin is None or _HERE in text:
        return None
    events: list[Event] = []
    problems: list[str] = []
    at = begin.end()
    try:
        while True:
            while text[at] in _BLANKS:
                at += 1
            if (alike := _LAYOUTS.read_part(text, at, replayed)) is not None:
                event, end = alike
                events.append(event)
            else:
                element, end = scan(text, at)
                part = text[at:end]
                if torn(part):
                    events += _element(mended(element), problems, text=None, replayed=replayed)
                else:
                    events += _element(element, problems, text=part, replayed=replayed)
            while text[end] in _BLANKS:
                end += 1
            if text[end] != ",":
                break
            at = end + 1
        document = parse(f'{text[: begin.end()]}"{_HERE}"{text[end:]}')  # what is around the events
    except (StopIteration, ValueError, IndexError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("type") != EventBatch.wire_type:
        return None
    if _payload(document, EventBatch.wire_type, problems).get("events") != [_HERE]:
        return None
    return _history(document, events, problems)


_EVENTS: Final = re.compile(r'"events"[ \t\n\r]*:[ \t\n\r]*\[')
_BLANKS: Final = " \t\n\r"
_HERE: Final = "\ue000the events\ue000"


def _history(document: dict[str, Any], events: Iterable[Event], problems: list[str]) -> Decoded:
    listed = list(events)
    try:
        places = list(map(_SEQUENCE, listed))
        if any(map(operator.gt, places, places[1:])):  # to sort takes 4 KiB of stack, which a thread keeps (bench p05)
            listed.sort(key=_SEQUENCE)  # without a call of ours for each
    except TypeError:  # one has none
        listed.sort(key=_by_sequence)
    sequence = integer(document.get("sequence"))
    return Decoded(events=tuple(listed), problems=tuple(problems), batch=True, sequence=sequence)


_SEQUENCE: Final = operator.attrgetter("sequence")


def _by_sequence(event: Event) -> tuple[bool, int]:
    return event.sequence is None, event.sequence or 0


def _batch(document: dict[str, Any], problems: list[str], *, replayed: bool) -> Iterator[Event]:
    elements = _payload(document, EventBatch.wire_type, problems).get("events", [])
    if not isinstance(elements, list):
        problems.append(f"A batch's events were no list but {type(elements).__name__}.")
        return
    for element in elements:
        yield from _element(element, problems, text=None, replayed=replayed)


def _element(element: Any, problems: list[str], *, text: str | None, replayed: bool) -> Iterable[Event]:
    """What one element of a batch holds; ``text`` is its own, where it is known."""
    if (event := usual_element(element, text, replayed=replayed)) is not None:
        if text is not None:
            _LAYOUTS.missed(event, element, text, part=True)
        return (event,)
    if not isinstance(element, dict):
        problems.append(f"A batch held something that is no event: {type(element).__name__}.")
    elif too_deep(element):
        problems.append("An event of a batch was nested too deeply and was skipped.")
    elif element.get("type") == EventBatch.wire_type:
        return _batch(element, problems, replayed=replayed)
    else:
        return (_event(element, problems, text=text, replayed=replayed),)
    return ()


# --- events -----------------------------------------------------------------------------------------------------------


def _payload(document: dict[str, Any], wire_type: str, problems: list[str]) -> dict[str, Any]:
    """Under ``payload``, or under the type's own name; neither: an empty one."""
    payload = document.get("payload")
    if type(payload) is dict and payload:
        return payload
    named = document.get(wire_type.removeprefix(_PREFIX).lower()) if wire_type else None
    if isinstance(named, dict):
        return named
    junk = payload if payload is not None and not isinstance(payload, dict) else named
    if junk is not None:
        problems.append(f"The payload of {wire_type or 'an event'} was no object but {type(junk).__name__}.")
    return {}


def _event(document: dict[str, Any], problems: list[str], *, text: str | None, replayed: bool) -> Event:
    """The event; ``text`` is what ``document`` was parsed from, if that is known."""
    wire_type = document.get("type")
    if not isinstance(wire_type, str):
        problems.append("An event had no type.")
        wire_type = ""
    metadata = document.get("metadata")
    payload = _payload(document, wire_type, problems)
    fields: dict[str, Any] = {
        "id": identifier(document.get("id")),
        "sequence": integer(document.get("sequence")),
        "timestamp": timestamp(document.get("timestamp")),
        "metadata": metadata if isinstance(metadata, dict) else {},
    }
    for name, value in fields.items():
        if not value and value != 0 and document.get(name):
            problems.append(f"The {name} of {wire_type or 'an event'} could not be read and was left out.")
    fields["replayed"] = replayed
    if text is None:
        fields["raw"] = document
    cls = EVENT_CLASSES.get(wire_type)
    if cls is None:
        return _sourced(UnknownEvent(**fields, type=wire_type, payload=payload), text)
    readers, older_names = READERS[cls]
    for key, value in payload.items():
        if value is not None and (reader := readers.get(key)) is not None:
            _read(fields, key, value, reader, wire_type, problems)
    for name, key in older_names:
        if name not in fields and (value := payload.get(key)) is not None:
            _read(fields, name, value, readers[name], wire_type, problems)
    if cls is LiveAgentJoined:
        fields["agent"] = participant(payload, problems)
    return _sourced(cls(**fields), text)


def _sourced(event: Event, text: str | None) -> Event:
    """The event, which reads from ``text`` what few ask for."""
    if text is not None:
        object.__setattr__(event, "_source", text)
        object.__delattr__(event, "raw")
        if event.metadata and type(event) not in MESSAGES:  # theirs is looked at at once
            object.__delattr__(event, "metadata")
    return event


def _read(fields: dict[str, Any], name: str, value: Any, reader: Reader, wire_type: str, problems: list[str]) -> None:
    result = reader(value, problems)
    if result is MISSING:
        problems.append(f"The field {name} of {wire_type} could not be read and was left out.")
    else:
        fields[name] = result
