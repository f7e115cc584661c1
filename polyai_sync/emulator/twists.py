"""The oddities of the wire, applied to copies of events on their way out; the journal keeps the plain ones.

Every name here is a fault's, less its ``wire.``; protocol.md §4 and §6 say where each was seen.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from polyai_sync.emulator import frames
from polyai_sync.emulator.journal import dump, envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from polyai_sync.emulator.faults import Fault

__all__ = ["frames_before", "junk_in_batch", "payload_under_type_name", "twisted", "wants_twisting"]

Event = dict[str, Any]

_DEFAULTS: tuple[Any, ...] = (False, 0, "", None)
_JUNK: tuple[Any, ...] = (None, 7, "junk", ["junk"], {"junk": True})


def _no_id(event: Event, _: Fault) -> None:
    event["id"] = ""


def _no_timestamp(event: Event, _: Fault) -> None:
    event.pop("timestamp", None)


def _whole_seconds(event: Event, _: Fault) -> None:
    if "timestamp" in event:  # another twist may have taken it away
        event["timestamp"] = event["timestamp"][:19] + "Z"


def _no_echo_metadata(event: Event, _: Fault) -> None:
    event.pop("metadata", None)


def _odd_metadata(event: Event, _: Fault) -> None:
    custom = event.setdefault("metadata", {}).setdefault("custom", {})
    custom.update(number=1, nothing=None, nested={"a": ["b"]})


def _default_fields_omitted(event: Event, _: Fault) -> None:
    event["payload"] = _without_defaults(event["payload"])


def _without_defaults(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_defaults(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in _DEFAULTS and item != []}
    if isinstance(value, list):
        return [_without_defaults(item) for item in value]
    return value


_OLD_NAMES = {
    "EVENT_TYPE_POLY_AGENT_JOINED": {"agent_avatar_url": "avatar_url"},
    "EVENT_TYPE_HANDOFF_QUEUE_STATUS": {"position_in_queue": "position"},
}


def _old_field_names(event: Event, _: Fault) -> None:
    payload = event["payload"]
    for new, old in _OLD_NAMES.get(event["type"], {}).items():
        if new in payload:
            payload[old] = payload.pop(new)
    agent = payload.get("agent")
    if isinstance(agent, dict):
        del payload["agent"]
        payload.update(agent_id=agent.get("id"), agent_name=agent.get("name"), avatar_url=agent.get("avatar_url"))


def _wrong_types(event: Event, _: Fault) -> None:
    wrong = {str: ["not", "text"], list: "not a list", bool: "perhaps", int: "soon", float: None, dict: 3}
    event["payload"] = {
        key: value if key == "message_id" else wrong.get(type(value), value) for key, value in event["payload"].items()
    }


def _extra_fields(event: Event, _: Fault) -> None:
    event["shard"] = 7
    event["payload"] = {**event["payload"], "mood": {"score": 0.5, "words": ["calm"]}}


def _junk_in_lists(event: Event, _: Fault) -> None:
    for key in ("attachments", "response_suggestions"):
        value = event["payload"].get(key)
        if isinstance(value, list):
            event["payload"][key] = list(_among_junk(value))


_TWISTS: Mapping[str, Callable[[Event, Fault], None]] = {
    "wire.no_id": _no_id,
    "wire.no_timestamp": _no_timestamp,
    "wire.whole_seconds": _whole_seconds,
    "wire.no_echo_metadata": _no_echo_metadata,
    "wire.odd_metadata": _odd_metadata,
    "wire.default_fields_omitted": _default_fields_omitted,
    "wire.old_field_names": _old_field_names,
    "wire.wrong_types": _wrong_types,
    "wire.extra_fields": _extra_fields,
    "wire.junk_in_lists": _junk_in_lists,
}


def wants_twisting(taken: Mapping[str, Fault]) -> bool:
    """Does any of the faults change the event itself?"""
    return not _TWISTS.keys().isdisjoint(taken)


def twisted(text: str, taken: Mapping[str, Fault]) -> Event:
    """A copy of the event with the faults' changes."""
    event: Event = json.loads(text)
    for name, fault in taken.items():
        change = _TWISTS.get(name)
        wanted = fault.options.get("event")
        if change is not None and (wanted is None or event["type"] == f"EVENT_TYPE_{wanted}"):
            change(event, fault)
    return event


# --- batches ----------------------------------------------------------------------------------------------------


def junk_in_batch(events: Iterable[Any]) -> list[Any]:
    """The events with things among them that are none."""
    return list(_among_junk(events))


def payload_under_type_name(event: Event) -> Event:
    """The event with its payload under ``poly_agent_message`` or the like."""
    moved = dict(event)
    moved[event["type"].removeprefix("EVENT_TYPE_").lower()] = moved.pop("payload")
    return moved


def _among_junk(values: Iterable[Any]) -> Iterator[Any]:
    yield from _JUNK[:2]
    for value in values:
        yield value
        yield from _JUNK[2:]


# --- frames that come before an event -----------------------------------------------------------------------------


def _oversize(fault: Fault) -> Iterator[bytes]:
    claim = fault.options["claim"]
    if claim is not None:
        yield frames.header(int(claim))
    else:
        yield frames.frame(b'"' + b"x" * (int(fault.options["size"]) - 2) + b'"')


def _absurd_numbers(_: Fault) -> Iterator[bytes]:
    event = dump(envelope("POLY_AGENT_MESSAGE", {"message_id": "absurd", "text": "9" * 5000}))
    yield frames.frame(event.replace('"' + "9" * 5000 + '"', "9" * 5000).encode())


def _not_object(_: Fault) -> Iterator[bytes]:
    for value in ([1, 2], 3, "text", None):
        yield frames.frame(dump(value).encode())


_BEFORE: Mapping[str, Callable[[Fault], Iterator[bytes]]] = {
    "wire.binary_frame": lambda _: iter((frames.frame(b"\x00\x01\x02\x03", frames.BINARY),)),
    "wire.oversize_frame": _oversize,
    "wire.broken_json": lambda fault: iter((frames.frame(str(fault.options["text"]).encode()),)),
    "wire.deep_json": lambda fault: iter(
        (frames.frame(b"[" * fault.options["depth"] + b"]" * fault.options["depth"]),)
    ),
    "wire.not_object": _not_object,
    "wire.absurd_numbers": _absurd_numbers,
    "wire.invalid_utf8": lambda _: iter((frames.frame(b'{"type": "\xff\xfe"}'),)),
    "wire.ping": lambda _: iter((frames.frame(b"there?", frames.PING),)),
}


def frames_before(taken: Mapping[str, Fault]) -> Iterator[bytes]:
    """The frames that the faults put before an event."""
    for name, fault in taken.items():
        make = _BEFORE.get(name)
        if make is not None:
            yield from make(fault)
