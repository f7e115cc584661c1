"""The server's frames, as bytes that are ready to be written."""

from __future__ import annotations

import json
import struct
from typing import Any, Final

__all__ = ["LAST", "PLACE", "batch", "chunk", "event", "flood", "frame", "last", "stamped", "whole"]

STAMP: Final = "2026-11-22T11:58:34.358000Z"

LAST: Final = "xx-last"
"""The language code of the event that ends a flood."""

PLACE: Final = "0" * 20
"""A text that `stamped` replaces by the time."""

CHUNKS_A_MESSAGE: Final = 20


def frame(text: str | bytes) -> bytes:
    """One unmasked text frame."""
    data = text.encode() if isinstance(text, str) else text
    size = len(data)
    if size < 126:
        head = struct.pack("!BB", 0x81, size)
    elif size < 65_536:
        head = struct.pack("!BBH", 0x81, 126, size)
    else:
        head = struct.pack("!BBQ", 0x81, 127, size)
    return head + data


def event(
    wire_type: str, payload: dict[str, Any], *, sequence: int | None, metadata: dict[str, Any] | None = None
) -> str:
    """One event of the server as JSON."""
    number = sequence or 0
    return json.dumps(
        {
            "id": f"{number:08x}-5f3a-4c1e-9d2b-{number:012x}",
            "sequence": sequence,
            "timestamp": STAMP,
            "type": f"EVENT_TYPE_{wire_type}",
            "payload": payload,
            "metadata": metadata or {"custom": {}},
        }
    )


def chunk(sequence: int, number: int, text: str = "some words here ", *, of: int = CHUNKS_A_MESSAGE) -> str:
    """Chunk ``number`` (from 0) of an endless row of messages streamed in ``of`` chunks each; about 400 bytes."""
    message, index = divmod(number, of)
    payload = {
        "message_id": f"{message:08x}-77aa-4b0c-8e21-{sequence - index:012x}",
        "text": text,
        "attachments": [],
        "response_suggestions": [],
        "chunk_index": index + 1,
        "is_complete": index == of - 1,
    }
    return event("POLY_AGENT_MESSAGE_CHUNK", payload, sequence=sequence)


def whole(sequence: int, text: str) -> str:
    """A whole message of the agent."""
    payload = {
        "message_id": f"{sequence:08x}-77aa-4b0c-8e21-000000000000",
        "text": text,
        "attachments": [],
        "response_suggestions": [],
    }
    return event("POLY_AGENT_MESSAGE", payload, sequence=sequence)


def last(sequence: int, number: int = 0) -> str:
    """The event that ends a flood."""
    return event("LANGUAGE_CHANGED", {"language_code": f"{LAST}-{number}"}, sequence=sequence)


def stamped(ready: bytes, nanoseconds: int) -> bytes:
    """The frame with the time in place of `PLACE`."""
    return ready.replace(PLACE.encode(), b"%020d" % nanoseconds, 1)


def flood(first_sequence: int, count: int, number: int) -> bytes:
    """``count`` chunks and the event that ends flood ``number``."""
    rows = [chunk(first_sequence + index, index) for index in range(count)]
    rows.append(last(first_sequence + count, number))
    return b"".join(map(frame, rows))


def batch(events: list[str]) -> str:
    """A part of the history."""
    body = ",".join(events)
    return f'{{"type": "EVENT_TYPE_EVENT_BATCH", "payload": {{"events": [{body}]}}}}'
