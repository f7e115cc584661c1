"""Cutting a stream into HTTP messages and WebSocket frames, so that a fault can strike at a certain one."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Unit", "Units", "close_frame", "frame"]

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_UPGRADE = re.compile(rb"(?i)^HTTP/1\.1 101 |\r\nupgrade: *websocket")


@frozen
class Unit:
    """A piece of a stream that means something.

    Attributes:
        raw: As on the wire.
        text: What it says: of a frame the payload, unmasked.
        opcode: Of a frame; ``None`` for HTTP.
    """

    raw: bytes
    text: bytes
    opcode: int | None = None


class Units:
    """One direction of one connection: HTTP messages, and WebSocket frames after the upgrade."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.frames = False
        """Has it become a WebSocket?"""

    def feed(self, data: bytes) -> Iterator[Unit]:
        """Every unit that is complete now."""
        self._data += data
        while (unit := self._frame() if self.frames else self._message()) is not None:
            yield unit

    @property
    def rest(self) -> bytes:
        """What has come of the next one."""
        return bytes(self._data)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken

    def _message(self) -> Unit | None:
        head, end, _ = bytes(self._data).partition(b"\r\n\r\n")
        if not end:
            return None
        length = _LENGTH.search(head)
        size = len(head) + 4 + (int(length[1]) if length else 0)
        if len(self._data) < size:
            return None
        self.frames = _UPGRADE.search(head) is not None and not (length and head.startswith(b"HTTP/"))
        raw = self._take(size)
        return Unit(raw, raw)

    def _frame(self) -> Unit | None:
        data = self._data
        if len(data) < 2:
            return None
        masked, length, at = data[1] & 0x80, data[1] & 0x7F, 2
        if length > 125:
            wide = ("!H", 2) if length == 126 else ("!Q", 8)
            if len(data) < 2 + wide[1]:
                return None
            (length,), at = struct.unpack_from(wide[0], data, 2), 2 + wide[1]
        start = at + (4 if masked else 0)
        if len(data) < start + length:
            return None
        mask = bytes(data[at:start])
        raw = self._take(start + length)
        payload = raw[start:]
        if masked:
            stretched = (mask * (length // 4 + 1))[:length]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")).to_bytes(length, "big")
        return Unit(raw, payload, raw[0] & 0x0F)


def frame(payload: bytes | str, opcode: int = 0x1, *, fin: bool = True, length: int | None = None) -> bytes:
    """A server's frame, which is not masked; ``length`` to lie about it."""
    data = payload.encode() if isinstance(payload, str) else payload
    size = len(data) if length is None else length
    first = bytes([opcode | (0x80 if fin else 0)])
    if size < 126:
        return first + bytes([size]) + data
    if size < 65536:
        return first + b"\x7e" + struct.pack("!H", size) + data
    return first + b"\x7f" + struct.pack("!Q", size) + data


def close_frame(code: int | None, reason: str = "") -> bytes:
    """A server's close frame; ``None`` = without a code."""
    return frame(b"" if code is None else struct.pack("!H", code) + reason.encode(), 0x8)
