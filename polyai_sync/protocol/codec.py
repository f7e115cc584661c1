"""JSON of the wire to events, and client events to JSON (`protocol.md` §4).

Decoding never raises on anything a server may send: what cannot be used is left out and named in ``Decoded.problems``,
and its neighbours are kept.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, NoReturn

import attrs
from attrs import frozen

from polyai_sync.events import (
    EVENT_CLASSES,
    Event,
    EventBatch,
    LiveAgentJoined,
    Shape,
    SystemMessageLevel,
    TypingState,
    UnknownEvent,
)
from polyai_sync.messages import Attachment, CallAction, Capabilities, Participant, Suggestion

if TYPE_CHECKING:
    from polyai_sync.hooks import ClientEvent

__all__ = ["Decoded", "decode", "encode"]

MAX_DEPTH: Final = 64
"""JSON nested deeper than this is no message of the protocol, whose own events need six levels."""

MAX_INTEGER: Final = 2**63 - 1

_Reader = Callable[[Any, list[str]], Any]

_PREFIX: Final = "EVENT_TYPE_"
_MISSING: Final = object()
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?\s*([Zz]|[+-]\d\d(?::?\d\d)?)?"
)


@frozen(kw_only=True)
class Decoded:
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


# --- encoding ---------------------------------------------------------------------------------------------------------


def encode(event: ClientEvent) -> str:
    """Return the frame for ``event``: compact JSON, not ASCII-escaped, as the size limit counts it.

    Raises:
        ValueError: The text holds a lone surrogate, which no UTF-8 frame can carry.
    """
    frame: dict[str, Any] = {"type": event.type, "payload": dict(event.payload)}
    if event.custom:
        frame["metadata"] = {"custom": dict(event.custom)}
    text = json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
    if not _encodable(text):
        raise ValueError(
            "The text holds half of a surrogate pair, which UTF-8 cannot carry: decode it correctly first."
        )
    return text


# --- decoding ---------------------------------------------------------------------------------------------------------


def decode(text: str, *, replayed: bool = False) -> Decoded:
    """Decode one text frame; ``replayed`` marks the events of a batch as history."""
    try:
        document = _JSON.decode(text)
    except RecursionError:
        return Decoded(problems=("A frame was nested too deeply and was skipped.",))
    except ValueError as error:
        return Decoded(problems=(f"A frame was no JSON and was skipped: {_brief(error)}.",))
    if not isinstance(document, dict):
        return Decoded(problems=("A frame was no JSON object and was skipped.",))
    if text.count("{") + text.count("[") > MAX_DEPTH and _too_deep(document):
        return Decoded(problems=("A frame was nested too deeply and was skipped.",))
    if "\\ud" in text or "\\uD" in text:  # the only way for half a surrogate pair to get into decoded UTF-8
        document = _mended(document)
    problems: list[str] = []
    if document.get("type") == EventBatch.wire_type:
        events = tuple(sorted(_batch(document, problems, replayed=replayed), key=_by_sequence))
        return Decoded(events=events, problems=tuple(problems), batch=True, sequence=_integer(document.get("sequence")))
    return Decoded(events=(_event(document, problems, replayed=False),), problems=tuple(problems))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


_JSON = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _brief(error: ValueError) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)[:120]


def _too_deep(document: dict[str, Any]) -> bool:
    """Does ``document`` nest deeper than ``MAX_DEPTH``? Level by level, so that depth costs no stack."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _mended(value: Any) -> Any:
    """``value`` without halves of surrogate pairs, which break whoever prints or stores them."""
    if isinstance(value, str):
        return value if _encodable(value) else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_mended(element) for element in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(element) for key, element in value.items()}
    return value


def _by_sequence(event: Event) -> tuple[bool, int]:
    return event.sequence is None, event.sequence or 0


def _batch(document: dict[str, Any], problems: list[str], *, replayed: bool) -> Iterator[Event]:
    elements = _payload(document, EventBatch.wire_type, problems).get("events", [])
    if not isinstance(elements, list):
        problems.append(f"A batch's events were no list but {type(elements).__name__}.")
        return
    for element in elements:
        if not isinstance(element, dict):
            problems.append(f"A batch held something that is no event: {type(element).__name__}.")
        elif element.get("type") == EventBatch.wire_type:
            yield from _batch(element, problems, replayed=replayed)
        else:
            yield _event(element, problems, replayed=replayed)


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


def _event(document: dict[str, Any], problems: list[str], *, replayed: bool) -> Event:
    wire_type = document.get("type")
    if not isinstance(wire_type, str):
        problems.append("An event had no type.")
        wire_type = ""
    metadata = document.get("metadata")
    payload = _payload(document, wire_type, problems)
    fields: dict[str, Any] = {
        "id": _identifier(document.get("id")),
        "sequence": _integer(document.get("sequence")),
        "timestamp": _timestamp(document.get("timestamp")),
        "metadata": metadata if isinstance(metadata, dict) else {},
    }
    for name, value in fields.items():
        if not value and value != 0 and document.get(name):
            problems.append(f"The {name} of {wire_type or 'an event'} could not be read and was left out.")
    fields["replayed"], fields["raw"] = replayed, document
    cls = EVENT_CLASSES.get(wire_type)
    if cls is None:
        return UnknownEvent(**fields, type=wire_type, payload=payload)
    readers, older_names = _READERS[cls]
    for key, value in payload.items():
        if value is not None and (reader := readers.get(key)) is not None:
            _read(fields, key, value, reader, wire_type, problems)
    for name, key in older_names:
        if name not in fields and (value := payload.get(key)) is not None:
            _read(fields, name, value, readers[name], wire_type, problems)
    if cls is LiveAgentJoined:
        fields["agent"] = _participant(payload, problems)
    return cls(**fields)


def _read(fields: dict[str, Any], name: str, value: Any, reader: _Reader, wire_type: str, problems: list[str]) -> None:
    result = reader(value, problems)
    if result is _MISSING:
        problems.append(f"The field {name} of {wire_type} could not be read and was left out.")
    else:
        fields[name] = result


# --- one reader a shape: it returns the value, or _MISSING for junk --------------------------------------------------


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: Any, _: list[str]) -> Any:
    return value if isinstance(value, str) else _MISSING


def _identifier(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and abs(value) <= MAX_INTEGER and not isinstance(value, bool) else ""


def _number(value: Any) -> float | int | None:
    """A finite number, also as protobuf's JSON writes 64-bit integers: in quotes."""
    if isinstance(value, str) and len(value) <= 32:
        try:
            value = int(value) if value.lstrip("-").isdecimal() else float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if abs(value) <= MAX_INTEGER else None


def _integer(value: Any) -> int | None:
    """A whole number that is not negative, else ``None``."""
    if type(value) is int:  # the common case, without the detours
        return value if 0 <= value <= MAX_INTEGER else None
    number = _number(value)
    if number is None or number < 0 or number != int(number):
        return None
    return int(number)


def _read_integer(value: Any, _: list[str]) -> Any:
    number = _integer(value)
    return _MISSING if number is None else number


def _read_number(value: Any, _: list[str]) -> Any:
    number = _number(value)
    return _MISSING if number is None else float(number)


def _flag(value: Any, _: list[str]) -> Any:
    return value if isinstance(value, bool) else _MISSING


def _timestamp(value: Any) -> datetime | None:
    if not isinstance(value, str) or not (match := _TIMESTAMP.fullmatch(value)):
        return None
    *parts, fraction, zone = match.groups()
    offset = timedelta()
    if zone and zone not in "Zz":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:])) * (-1 if zone[0] == "-" else 1)
    try:
        year, month, day, hour, minute, second = map(int, parts)
        microsecond = int((fraction or "0").ljust(6, "0")[:6])
        return datetime(year, month, day, hour, minute, second, microsecond, timezone(offset))
    except ValueError:
        return None


def _listed(value: Any, problems: list[str], what: str, read: Callable[[dict[str, Any]], Any]) -> Any:
    if not isinstance(value, list):
        return _MISSING
    found = []
    for element in value:
        result = read(element) if isinstance(element, dict) else _MISSING
        if result is _MISSING:
            problems.append(f"One of an event's {what} could not be read and was left out.")
        else:
            found.append(result)
    return tuple(found)


def _strings(element: Mapping[str, Any], cls: type, problems: list[str]) -> Any:
    """An object of strings; one whose field is something else goes without that field."""
    found = {f.name: element[f.name] for f in attrs.fields(cls) if element.get(f.name) is not None}
    if odd := [name for name, value in found.items() if not isinstance(value, str)]:
        problems.append(f"The {odd[0]} of one of an event's {cls.__name__.lower()}s could not be read.")
        found = {name: value for name, value in found.items() if isinstance(value, str)}
    return cls(**found) if found else _MISSING


def _attachments(value: Any, problems: list[str]) -> Any:
    return _listed(value, problems, "attachments", lambda element: _strings(element, Attachment, problems))


def _call_actions(value: Any, problems: list[str]) -> Any:
    return _listed(value, problems, "call actions", lambda element: _strings(element, CallAction, problems))


def _suggestions(value: Any, problems: list[str]) -> Any:
    def read(element: dict[str, Any]) -> Any:
        text = element.get("message_text")
        if not isinstance(text, str):
            return _MISSING
        return Suggestion(message_text=text, payload=element.get("payload"))

    return _listed(value, problems, "suggestions", read)


def _capabilities(value: Any, problems: list[str]) -> Any:
    if not isinstance(value, dict):
        return _MISSING
    found: dict[str, Any] = {}
    for name, read in (
        ("streaming", _flag),
        ("max_message_size_bytes", _read_integer),
        ("max_reconnect_attempts", _read_integer),
        ("heartbeat_interval_seconds", _read_number),
    ):
        if (stated := value.get(name)) is None:
            continue
        if (result := read(stated, problems)) is _MISSING:
            problems.append(f"The capability {name} could not be read and was left out.")
        else:
            found[name] = result
    if not found.get("max_message_size_bytes"):
        found.pop("max_message_size_bytes", None)  # 0 or absent: the default (protocol.md §3)
    return Capabilities(**found)


def _participant(payload: dict[str, Any], problems: list[str]) -> Participant:
    """``agent: {id, name, avatar_url}``, or flat in the payload: ``agent_id``, ``agent_name``, ``avatar_url``."""
    nested = payload.get("agent")
    if nested is not None and not isinstance(nested, dict):
        problems.append("The agent who joined could not be read.")
    places = ({} if not isinstance(nested, dict) else nested, payload)

    def first(*names: str) -> str | None:
        found = [value for name in names for place in places if (value := place.get(name)) is not None]
        texts = [value for value in found if isinstance(value, str)]
        if len(texts) < len(found):
            problems.append(f"The {names[0]} of the agent who joined could not be read and was left out.")
        return texts[0] if texts else None

    return Participant(
        id=first("id", "agent_id"), name=first("name", "agent_name"), avatar_url=first("avatar_url", "agent_avatar_url")
    )


def _level(value: Any, _: list[str]) -> Any:
    return (
        SystemMessageLevel._value2member_map_.get(value, SystemMessageLevel.INFO)
        if isinstance(value, str)
        else _MISSING
    )


def _typing(value: Any, _: list[str]) -> Any:
    return TypingState._value2member_map_.get(value, TypingState.STARTED) if isinstance(value, str) else _MISSING


_SHAPES: Final[Mapping[Shape, _Reader]] = {
    Shape.TEXT: _text,
    Shape.INTEGER: _read_integer,
    Shape.NUMBER: _read_number,
    Shape.FLAG: _flag,
    Shape.ATTACHMENTS: _attachments,
    Shape.SUGGESTIONS: _suggestions,
    Shape.CALL_ACTIONS: _call_actions,
    Shape.CAPABILITIES: _capabilities,
    Shape.LEVEL: _level,
    Shape.TYPING: _typing,
}

_READERS: Final[Mapping[type[Event], tuple[dict[str, _Reader], tuple[tuple[str, str], ...]]]] = {
    cls: (
        {f.name: _SHAPES[f.metadata["shape"]] for f in attrs.fields(cls) if "shape" in f.metadata},
        tuple((f.name, older) for f in attrs.fields(cls) for older in f.metadata.get("names", ())),
    )
    for cls in EVENT_CLASSES.values()
}
"""Of each class: how each field is read, and the older names that fields have had."""
