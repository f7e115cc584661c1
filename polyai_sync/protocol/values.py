"""Values of the wire to values of ours: one reader a shape (`protocol.md` §6).

A reader returns the value, or `MISSING` for junk. What it leaves out of a value it names among the problems.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final

import attrs

from polyai_sync.events import EVENT_CLASSES, Event, Shape, SystemMessageLevel, TypingState
from polyai_sync.messages import Attachment, CallAction, Capabilities, Participant, Suggestion

__all__ = [
    "MAX_INTEGER",
    "MISSING",
    "READERS",
    "Reader",
    "identifier",
    "integer",
    "iso_moment",
    "participant",
    "timestamp",
]

MAX_INTEGER: Final = 2**63 - 1

MISSING: Final = object()

Reader = Callable[[Any, list[str]], Any]

_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?\s*([Zz]|[+-]\d\d(?::?\d\d)?)?"
)


def _text(value: Any, _: list[str]) -> Any:
    return value if isinstance(value, str) else MISSING


def identifier(value: Any) -> str:
    """A text, or a number as one; empty for anything else."""
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


def integer(value: Any) -> int | None:
    """A whole number that is not negative, else ``None``."""
    if type(value) is int:  # the common case, without the detours
        return value if 0 <= value <= MAX_INTEGER else None
    number = _number(value)
    if number is None or number < 0 or number != int(number):
        return None
    return int(number)


def _read_integer(value: Any, _: list[str]) -> Any:
    number = integer(value)
    return MISSING if number is None else number


def _read_number(value: Any, _: list[str]) -> Any:
    number = _number(value)
    return MISSING if number is None else float(number)


def _flag(value: Any, _: list[str]) -> Any:
    return value if isinstance(value, bool) else MISSING


def timestamp(value: Any) -> datetime | None:
    """ISO 8601 as servers write it, with or without fractions and zone; ``None`` for anything else."""
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


def _iso_moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(f"{text[:-1]}+00:00")  # before 3.11 that, with three or six digits or none
    except ValueError:
        if (moment := timestamp(text)) is None:
            raise
        return moment


iso_moment: Final[Callable[[str], datetime]] = datetime.fromisoformat if sys.version_info >= (3, 11) else _iso_moment
"""Reads ``YYYY-MM-DDThh:mm:ss[.f…]Z``, as servers write it, in a tenth of the time; raises ``ValueError``.

It may take other notations too.
"""


def _listed(value: Any, problems: list[str], what: str, read: Callable[[dict[str, Any]], Any]) -> Any:
    if not isinstance(value, list):
        return MISSING
    found = []
    for element in value:
        result = read(element) if isinstance(element, dict) else MISSING
        if result is MISSING:
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
    return cls(**found) if found else MISSING


def _attachments(value: Any, problems: list[str]) -> Any:
    return _listed(value, problems, "attachments", lambda element: _strings(element, Attachment, problems))


def _call_actions(value: Any, problems: list[str]) -> Any:
    return _listed(value, problems, "call actions", lambda element: _strings(element, CallAction, problems))


def _suggestions(value: Any, problems: list[str]) -> Any:
    def read(element: dict[str, Any]) -> Any:
        text = element.get("message_text")
        if not isinstance(text, str):
            return MISSING
        return Suggestion(message_text=text, payload=element.get("payload"))

    return _listed(value, problems, "suggestions", read)


_shared_capabilities = lru_cache(maxsize=64, typed=True)(Capabilities)
"""A server tells all its sessions the same: 90 bytes each (bench p05)."""


def _capabilities(value: Any, problems: list[str]) -> Any:
    if not isinstance(value, dict):
        return MISSING
    found: dict[str, Any] = {}
    for name, read in (
        ("streaming", _flag),
        ("max_message_size_bytes", _read_integer),
        ("max_reconnect_attempts", _read_integer),
        ("heartbeat_interval_seconds", _read_number),
    ):
        if (stated := value.get(name)) is None:
            continue
        if (result := read(stated, problems)) is MISSING:
            problems.append(f"The capability {name} could not be read and was left out.")
        else:
            found[name] = result
    if not found.get("max_message_size_bytes"):
        found.pop("max_message_size_bytes", None)  # 0 or absent: the default (protocol.md §3)
    return _shared_capabilities(**found)


def participant(payload: dict[str, Any], problems: list[str]) -> Participant:
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
        SystemMessageLevel._value2member_map_.get(value, SystemMessageLevel.INFO) if isinstance(value, str) else MISSING
    )


def _typing(value: Any, _: list[str]) -> Any:
    return TypingState._value2member_map_.get(value, TypingState.STARTED) if isinstance(value, str) else MISSING


_SHAPES: Final[Mapping[Shape, Reader]] = {
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

READERS: Final[Mapping[type[Event], tuple[dict[str, Reader], tuple[tuple[str, str], ...]]]] = {
    cls: (
        {f.name: _SHAPES[f.metadata["shape"]] for f in attrs.fields(cls) if "shape" in f.metadata},
        tuple((f.name, older) for f in attrs.fields(cls) for older in f.metadata.get("names", ())),
    )
    for cls in EVENT_CLASSES.values()
}
"""Of each class: how each field is read, and the older names that fields have had."""
