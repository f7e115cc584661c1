"""The decoder's promise: any text is read, nothing is raised, and what comes out is what the types say."""

from __future__ import annotations

import functools
import json
import typing
from collections.abc import Mapping
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Union, get_args, get_origin

import attrs

from polyai_sync.protocol.codec import decode

if TYPE_CHECKING:
    from polyai_sync.events import Event

__all__ = ["check"]


def check(data: bytes) -> None:
    """Decode, and hold what comes out against its types."""
    text = data.decode("utf-8", "replace")
    for replayed in (False, True):
        decoded = decode(text, replayed=replayed)
        assert len(decoded.events) <= 1 + text.count("{"), "events out of nothing"
        assert len(decoded.problems) <= 1 + len(text), "problems out of nothing"
        assert decoded.events or decoded.problems or decoded.batch, "a frame was dropped without a word"
        for problem in decoded.problems:
            problem.encode()
        numbers = [event.sequence for event in decoded.events]
        known = [number for number in numbers if number is not None]
        assert numbers == sorted(known) + [None] * (len(numbers) - len(known)), "a batch is not in order"
        for event in decoded.events:
            _hold(event, replayed=replayed and decoded.batch)
    assert decode(text) == decode(text)


def _hold(event: Event, *, replayed: bool) -> None:
    assert event.replayed is replayed
    assert event.sequence is None or 0 <= event.sequence < 2**63
    json.dumps(event.raw, ensure_ascii=False, allow_nan=False).encode()
    repr(event).encode()
    for name, kind in _types(type(event)).items():
        value = getattr(event, name)
        assert _fits(value, kind), f"{type(event).__name__}.{name} is {value!r}, and should be {kind}"


@functools.cache
def _types(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {one.name: hints[one.name] for one in attrs.fields(cls)}


def _fits(value: Any, kind: Any) -> bool:
    """Is the value of that type, to the depth of its own types?"""
    if kind is Any:
        return True
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if origin is ClassVar:
        return True
    if origin is tuple:
        return type(value) is tuple and all(_fits(one, get_args(kind)[0]) for one in value)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(key, get_args(kind)[0]) for key in value)
    if kind is float:
        return type(value) in (int, float) and value == value and abs(value) != float("inf")
    if attrs.has(kind):
        return isinstance(value, kind) and all(_fits(getattr(value, name), one) for name, one in _types(kind).items())
    if isinstance(kind, type) and issubclass(kind, Enum):
        return isinstance(value, kind)
    if kind is str:
        value.encode() if isinstance(value, str) else None
    return type(value) is (type(None) if kind is None else kind)
