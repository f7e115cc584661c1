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

_PREFIX: Final = "EVENT_TYPE_"
_MISSING: Final = object()
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?\s*([Zz]|[+-]\d\d(?::?\d\d)?)?"
)


@frozen
class Decoded:
    """What one frame held: its events in order, and what had to be left out, in words.

    A batch may have used up a ``sequence`` of its own.
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
    problems: list[str] = []
    if document.get("type") == EventBatch.wire_type:
        events = tuple(sorted(_batch(document, problems, replayed=replayed), key=_by_sequence))
        return Decoded(events=events, problems=tuple(problems), batch=True, sequence=_integer(document.get("sequence")))
    return Decoded(events=(_event(document, problems, replayed=False),), problems=tuple(problems))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)


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
    payload = document.get("payload", _MISSING)
    if payload is _MISSING:
        payload = document.get(wire_type.removeprefix(_PREFIX).lower(), _MISSING)
    if isinstance(payload, dict):
        return payload
    if payload is not _MISSING and payload is not None:
        problems.append(f"The payload of {wire_type or 'an event'} was no object but {type(payload).__name__}.")
    return {}


def _event(document: dict[str, Any], problems: list[str], *, replayed: bool) -> Event:
    wire_type = document.get("type")
    if not isinstance(wire_type, str):
        problems.append("An event had no type.")
        wire_type = ""
    metadata = document.get("metadata")
    payload = _payload(document, wire_type, problems)
    cls = EVENT_CLASSES.get(wire_type)
    envelope: dict[str, Any] = {
        "id": _identifier(document.get("id")),
        "sequence": _integer(document.get("sequence")),
        "timestamp": _timestamp(document.get("timestamp")),
        "metadata": metadata if isinstance(metadata, dict) else {},
        "replayed": replayed,
        "raw": document,
    }
    if cls is None:
        return UnknownEvent(**envelope, type=_clean(wire_type), payload=payload)
    for name, names, read in _READERS[cls]:
        value = _MISSING
        for key in names:
            value = payload.get(key, _MISSING)
            if value is not _MISSING and value is not None:
                break
        if read is _participant:
            value = payload if value is _MISSING or value is None else value
        if value is _MISSING or value is None:
            continue
        result = read(value, problems)
        if result is not _MISSING:
            envelope[name] = result
        else:
            problems.append(f"The field {name} of {wire_type} could not be read and was left out.")
    return cls(**envelope)


# --- one reader a shape: it returns the value, or _MISSING for junk --------------------------------------------------


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _clean(text: str) -> str:
    """JSON may hold half a surrogate pair, which breaks whoever prints or stores it."""
    return text if _encodable(text) else text.encode("utf-8", "replace").decode()


def _text(value: Any, _: list[str]) -> Any:
    return _clean(value) if isinstance(value, str) else _MISSING


def _identifier(value: Any) -> str:
    if isinstance(value, str):
        return _clean(value)
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


def _strings(element: Mapping[str, Any], cls: type) -> dict[str, str]:
    return {f.name: _clean(element[f.name]) for f in attrs.fields(cls) if isinstance(element.get(f.name), str)}


def _attachments(value: Any, problems: list[str]) -> Any:
    return _listed(value, problems, "attachments", lambda element: Attachment(**_strings(element, Attachment)))


def _call_actions(value: Any, problems: list[str]) -> Any:
    return _listed(value, problems, "call actions", lambda element: CallAction(**_strings(element, CallAction)))


def _suggestions(value: Any, problems: list[str]) -> Any:
    def read(element: dict[str, Any]) -> Any:
        text = element.get("message_text")
        if not isinstance(text, str):
            return _MISSING
        return Suggestion(message_text=_clean(text), payload=element.get("payload"))

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


def _participant(value: Any, _: list[str]) -> Any:
    """``agent: {id, name, avatar_url}``, or the payload itself with ``agent_id``, ``agent_name``, ``avatar_url``."""
    if not isinstance(value, dict):
        return _MISSING

    def first(*names: str) -> str | None:
        return next((_clean(value[name]) for name in names if isinstance(value.get(name), str)), None)

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


_Read = Callable[[Any, list[str]], Any]
_SHAPES: Final[Mapping[Shape, _Read]] = {
    Shape.TEXT: _text,
    Shape.OPTIONAL_TEXT: _text,
    Shape.INTEGER: _read_integer,
    Shape.OPTIONAL_INTEGER: _read_integer,
    Shape.OPTIONAL_NUMBER: _read_number,
    Shape.FLAG: _flag,
    Shape.ATTACHMENTS: _attachments,
    Shape.SUGGESTIONS: _suggestions,
    Shape.CALL_ACTIONS: _call_actions,
    Shape.CAPABILITIES: _capabilities,
    Shape.PARTICIPANT: _participant,
    Shape.LEVEL: _level,
    Shape.TYPING: _typing,
}

_READERS: Final[Mapping[type[Event], tuple[tuple[str, tuple[str, ...], _Read], ...]]] = {
    cls: tuple(
        (f.name, (f.name, *f.metadata["names"]), _SHAPES[f.metadata["shape"]])
        for f in attrs.fields(cls)
        if "shape" in f.metadata
    )
    for cls in EVENT_CLASSES.values()
}
