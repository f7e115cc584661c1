"""The usual event, read the short way.

Nearly every frame holds one event in which there is nothing to leave out, mend or look for under another name. Such an
event is taken as it stands, slot by slot, in 4 µs instead of the 11 of `polyai_sync.protocol.codec`, 2 of either being
the JSON (``python -m bench p01``). What comes out is equal to what the long way makes, or ``None``: look closer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from polyai_sync.events import (
    EVENT_CLASSES,
    Event,
    EventBatch,
    LiveAgentJoined,
    LiveAgentMessage,
    PolyAgentMessage,
    Shape,
    UserMessage,
)
from polyai_sync.protocol.strict_json import torn
from polyai_sync.protocol.values import MAX_INTEGER, iso_moment, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["MESSAGES", "usual_element", "usual_frame"]


def usual_frame(document: Any, text: str) -> Event | None:
    """The event of a frame, which was ``text``, that is no batch."""
    if torn(text) or (event := _read(document)) is None:
        return None
    _set_replayed(event, False)
    _set_source(event, text)
    if type(event) in MESSAGES:  # whose metadata is looked at at once
        _set_metadata(event, document["metadata"])
    return event


def usual_element(document: Any, text: str | None, *, replayed: bool) -> Event | None:
    """The event of one element of a batch, which was ``text``, if that is known."""
    if (event := _read(document)) is None:
        return None
    _set_replayed(event, replayed)
    if text is None:
        _set_raw(event, document)
    else:
        _set_source(event, text)
    if text is None or type(event) in MESSAGES:
        _set_metadata(event, document["metadata"])
    return event


def _read(document: Any) -> Event | None:
    """The event, but for what tells where it came from.

    There is nothing in ``document`` that is not known, and so nothing that could be nested too deeply.
    """
    try:
        plan = _PLANS[document["type"]]
        payload, identifier, sequence = document["payload"], document["id"], document["sequence"]
        time, metadata = document["timestamp"], document["metadata"]
        if len(document) != _ENVELOPE or not plan.known.issuperset(payload):
            return None
        get = payload.get
    except (LookupError, TypeError, AttributeError):
        return None
    if type(identifier) is not str or not _plain(metadata):
        return None
    if type(sequence) is int:
        if not 0 <= sequence <= MAX_INTEGER:
            return None
    elif sequence is not None:
        return None
    if (moment := _moment(time)) is None:
        return None
    event = _new(plan.cls)
    _set_id(event, identifier)
    _set_sequence(event, sequence)
    _set_timestamp(event, moment)
    for assign, name, kind, default in plan.plain:
        value = get(name)
        if type(value) is kind:
            assign(event, value)
        elif value is None:
            assign(event, default)
        else:
            return None
    for assign, name, default in plan.numbers:
        value = get(name)
        if type(value) is int and 0 <= value <= MAX_INTEGER:
            assign(event, value)
        elif value is None:
            assign(event, default)
        else:
            return None
    for assign, name in plan.lists:
        value = get(name)
        if value is not None and (value or type(value) is not list):
            return None
        assign(event, ())
    return event


def _plain(metadata: Any) -> bool:
    """Is it a flat ``custom`` part, and nothing else?"""
    if type(metadata) is not dict or len(metadata) != 1:
        return False
    custom = metadata.get("custom")
    return type(custom) is dict and (not custom or all(type(value) is str for value in custom.values()))


def _moment(time: Any) -> datetime | None:
    if type(time) is str and time[4:17:3] == "--T::" and time[-1] == "Z":
        try:
            return iso_moment(time)
        except ValueError:
            return None
    return timestamp(time)


MESSAGES: Final = frozenset((PolyAgentMessage, LiveAgentMessage, UserMessage))

_ENVELOPE: Final = len(("id", "sequence", "timestamp", "type", "payload", "metadata"))

_LISTS: Final = frozenset((Shape.ATTACHMENTS, Shape.SUGGESTIONS, Shape.CALL_ACTIONS))
_KINDS: Final[Mapping[Shape, type]] = {Shape.TEXT: str, Shape.FLAG: bool}

_Setter = Callable[[Event, Any], None]


class _Plan(NamedTuple):
    """How an event of a type is filled.

    Attributes:
        cls: Its class.
        plain: Fields whose value is taken as it is where it has this type: setter, name, type, default.
        numbers: Fields for whole numbers that are not negative: setter, name, default.
        lists: Fields that are empty, in the usual event: setter, name.
        known: The names of all fields.
    """

    cls: type[Event]
    plain: tuple[tuple[_Setter, str, type, Any], ...]
    numbers: tuple[tuple[_Setter, str, Any], ...]
    lists: tuple[tuple[_Setter, str], ...]
    known: frozenset[str]


def _plan(cls: type[Event]) -> _Plan | None:
    """``None``: there is more to a field of this type than to take it."""
    fields = {field: field.metadata["shape"] for field in attrs.fields(cls) if "shape" in field.metadata}
    simple = {*_KINDS, Shape.INTEGER, *_LISTS}
    if any(shape not in simple or field.metadata["names"] for field, shape in fields.items()):
        return None
    return _Plan(
        cls,
        tuple(
            (_setter(cls, f.name), f.name, _KINDS[shape], f.default) for f, shape in fields.items() if shape in _KINDS
        ),
        tuple((_setter(cls, f.name), f.name, f.default) for f, shape in fields.items() if shape is Shape.INTEGER),
        tuple((_setter(cls, f.name), f.name) for f, shape in fields.items() if shape in _LISTS),
        frozenset(field.name for field in fields),
    )


def _setter(cls: type[Event], name: str) -> _Setter:
    # A frozen event is filled slot by slot: half the time of its own __init__, which takes every field by keyword.
    fill: _Setter = getattr(cls, name).__set__
    return fill


_PLANS: Final[Mapping[str, _Plan]] = {
    name: plan
    for name, cls in EVENT_CLASSES.items()
    if cls not in (EventBatch, LiveAgentJoined) and (plan := _plan(cls)) is not None
}

_new: Final = object.__new__
_set_id, _set_sequence, _set_timestamp, _set_metadata, _set_replayed, _set_raw, _set_source = (
    _setter(Event, name) for name in ("id", "sequence", "timestamp", "metadata", "replayed", "raw", "_source")
)
