"""WebSocket frames as a server writes them (RFC 6455 §5.2): unmasked, and odd ones on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BINARY", "CLOSE", "PING", "TEXT", "close_frame", "fragments", "frame", "header"]

CONTINUATION, TEXT, BINARY, CLOSE, PING = 0x0, 0x1, 0x2, 0x8, 0x9


def header(length: int, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    """The header of a frame that promises ``length`` bytes."""
    first = (0x80 if fin else 0) | opcode
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    """A whole frame."""
    return header(len(payload), opcode, fin=fin) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; the reason is cut to what fits into a control frame."""
    cut = reason.encode()[:123].decode(errors="ignore").encode()
    return frame(code.to_bytes(2, "big") + cut, CLOSE)


def fragments(payload: bytes, size: int) -> Iterator[bytes]:
    """One text message as fragments of ``size`` bytes with a ping after the first."""
    parts = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    for number, part in enumerate(parts):
        yield frame(part, CONTINUATION if number else TEXT, fin=number == len(parts) - 1)
        if number == 0:
            yield frame(b"between", PING)
