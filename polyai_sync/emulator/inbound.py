"""Whether a client's frame is an event that a client may send (protocol.md §5), and the words of its refusal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attrs import frozen

from polyai_sync.emulator.fault_rows import SYSTEM_TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Judgement", "judge"]

_PREFIX = "EVENT_TYPE_"
_SERVER_TYPES = frozenset({
    "EVENT_BATCH", "SESSION_START", "SESSION_END", "POLY_AGENT_JOINED", "POLY_AGENT_THINKING", "POLY_AGENT_MESSAGE",
    "POLY_AGENT_MESSAGE_CHUNK", "POLY_AGENT_LEFT", "POLY_AGENT_TRIGGERED_HANDOFF", "HANDOFF_ACCEPTED",
    "HANDOFF_QUEUE_STATUS", "CLIENT_HANDOFF_REQUIRED", "HANDOFF_FAILED", "HANDOFF_TIMEOUT", "LIVE_AGENT_JOINED",
    "LIVE_AGENT_TYPING", "LIVE_AGENT_MESSAGE", "LIVE_AGENT_LEFT", "SYSTEM_MESSAGE", "LANGUAGE_CHANGED",
    "SESSION_IDLE_WARNING", "SHOW_CSAT_REQUEST", "CSAT_RESPONSE", "USER_RECEIVED_MESSAGE", "USER_READ_MESSAGE",
    "POLY_AGENT_RECEIVED_MESSAGE", "POLY_AGENT_READ_MESSAGE", "LIVE_AGENT_RECEIVED_MESSAGE",
    "LIVE_AGENT_READ_MESSAGE",
})  # fmt: skip
_OWN_FIELDS = frozenset({"type", "payload", "metadata"})
_TYPING_STATES = ("TYPING_STATE_STARTED", "TYPING_STATE_STOPPED")
_PAYLOADS: Mapping[str, Callable[[dict[str, Any]], bool]] = {
    "REQUEST_POLY_AGENT_JOIN": lambda payload: payload == {},
    "USER_MESSAGE": lambda payload: payload.keys() == {"text"} and isinstance(payload["text"], str),
    "USER_TYPING": lambda payload: payload.keys() == {"state"} and payload["state"] in _TYPING_STATES,
    "USER_END_SESSION": lambda payload: payload == {},
    "HEARTBEAT": lambda payload: payload == {},
}


@frozen(kw_only=True)
class Judgement:
    """What became of a frame.

    Attributes:
        name: The type less its prefix.
        event: The event.
        metadata: What is echoed of its metadata.
        refusal: Why it is not accepted, in the server's words; empty if it is.
    """

    name: str = ""
    event: dict[str, Any]
    metadata: dict[str, Any] | None
    refusal: str = ""


def judge(data: str | bytes) -> Judgement:
    """Read one frame. A client that sends ``id``, ``sequence`` or anything else of its own is refused."""
    try:
        event = json.loads(data) if isinstance(data, str) else None
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        return Judgement(event={}, metadata=None, refusal=SYSTEM_TEXTS["event.unknown"])
    type_ = event.get("type")
    name = type_.removeprefix(_PREFIX) if isinstance(type_, str) and type_.startswith(_PREFIX) else ""
    refusal = ""
    if name in _SERVER_TYPES:
        refusal = SYSTEM_TEXTS["event.not_allowed"].partition(_PREFIX)[0] + _PREFIX + name
    elif name not in _PAYLOADS or event.keys() - _OWN_FIELDS or not _fits(name, event.get("payload")):
        refusal = SYSTEM_TEXTS["event.unknown"]
    return Judgement(name=name, event=event, metadata=_echoed(event.get("metadata")), refusal=refusal)


def _fits(name: str, payload: Any) -> bool:
    return isinstance(payload, dict) and _PAYLOADS[name](payload)


def _echoed(metadata: Any) -> dict[str, Any] | None:
    """What comes back of a client's metadata: one value that is no string loses the whole map (protocol.md §4)."""
    custom = metadata.get("custom") if isinstance(metadata, dict) else None
    if not isinstance(custom, dict) or not all(isinstance(value, str) for value in custom.values()):
        return None
    return {"custom": custom}
