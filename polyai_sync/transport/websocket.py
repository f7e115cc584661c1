"""The WebSocket (protocol.md §3): the only module that knows websocket-client.

That library makes the handshake and parses frames. What it does not do well is done here: its sockets block, its locks
let a read and a write of one TLS connection overlap, it believes any length, and its ``close()`` waits for the reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import websocket

from polyai_sync.errors import PolyAIError, ProtocolError
from polyai_sync.redaction import Redactor
from polyai_sync.transport.connection import (
    CLOSE,
    NOT_TEXT,
    NOT_UTF8,
    PROTOCOL_BROKEN,
    TOO_LARGE,
    RefusedFrame,
    WebSocketConnection,
)
from polyai_sync.transport.failures import address
from polyai_sync.transport.handshake import NO_TOKEN, HandshakePort, Stopped
from polyai_sync.transport.link import link
from polyai_sync.transport.masking import masked_records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyai_sync.config import Secret, Settings
    from polyai_sync.transport.deadline import Deadline
    from polyai_sync.transport.dial import Dialled

__all__ = ["MESSAGE_LIMIT", "WebSocketConnection", "open_websocket"]

#: Bytes of one assembled message that are believed.
MESSAGE_LIMIT: Final = 1024 * 1024

_ABNF: Final = websocket.ABNF
_CONTROL_LIMIT: Final = 125

# The first byte of a text frame that is a whole message, and the second of one whose length is in the next two.
_WHOLE_TEXT: Final = 0x81
_TWO_BYTES: Final = 126

#: Bytes that are cheaper copied than kept apart.
_SMALL: Final = 4096


def open_websocket(
    dialled: Dialled,
    *,
    settings: Settings,
    session_id: str,
    access_token: Secret,
    cursor: int,
    deadline: Deadline,
    headers: Iterable[str] = (),
    message_limit: int = MESSAGE_LIMIT,
) -> WebSocketConnection:
    """Make the handshake over an open connection, which is used up: closed where this fails.

    Args:
        dialled: From `Dialer.dial`.
        settings: Where to, and as what.
        session_id: The session to attach to.
        access_token: The session's own (protocol.md §2).
        cursor: The highest sequence seen; sent where it is above 0.
        deadline: For all of it; `Timeouts.connect` counts too.
        headers: Further headers, as ``name: value``; `Dialer.headers`.
        message_limit: Bytes of one message that are accepted.

    Raises:
        ConnectionFailedError: No answer came.
        ProtocolError: An answer that is none, such as a 200, or a 101 with the wrong headers.
        PolyAIError: The refusal, as the catalogue names it, with ``surface`` ``connect``.
    """
    port = HandshakePort(dialled.sock, deadline.within(settings.timeouts.connect - dialled.took), access_token)
    try:
        error = _shake_hands(port, settings, session_id, access_token, cursor, headers)
    except BaseException:
        dialled.close()
        raise
    if error is not None:
        dialled.close()
        raise error
    return WebSocketConnection(link(dialled.sock), _Frames(port.rest, message_limit))


def _shake_hands(
    port: HandshakePort,
    settings: Settings,
    session_id: str,
    access_token: Secret,
    cursor: int,
    headers: Iterable[str],
) -> PolyAIError | None:
    """Ask for the upgrade. Returns the error, so that no frame which knows the URL is in its traceback."""
    redactor = Redactor(settings.connector_token, access_token)
    base = urlsplit(settings.websocket_url)
    query = f"session_id={quote(session_id, safe='', errors='replace')}&{NO_TOKEN}"
    if cursor > 0:
        query += f"&cursor={cursor}"
    lines = list(headers)
    if not any(line.lower().startswith("user-agent:") for line in lines):
        lines.insert(0, f"User-Agent: {settings.user_agent}")
    error: PolyAIError | None = None
    client: Any = websocket.WebSocket(enable_multithread=False, skip_utf8_validation=True)
    with masked_records(redactor):
        try:
            client.connect(
                # The host of this URL serves as a key into websocket-client's process-wide cookie jar, and for nothing
                # else: under this name there are none.
                f"ws://polyai-sync.invalid{base.path}?{query}",
                socket=port,
                host=base.netloc,
                suppress_origin=True,
                header=lines,
                redirect_limit=0,
            )
        except Stopped:
            error = port.error(where=str(address(settings.base_url)), redactor=redactor)
        except websocket.WebSocketException:
            error = ProtocolError(
                "The answer to the handshake has the wrong headers for a WebSocket", surface="connect"
            )
        finally:
            # It holds the client, which would wait for the garbage collector: 2 KB a session, URL and tokens included.
            client.frame_buffer = None
    if error is not None:
        error.__context__ = None
    return error


class _IncompleteFrame(Exception):  # noqa: N818 - it reports a state, not a mistake
    """The rest of a frame has not come."""


class _Parser(websocket.frame_buffer):
    """websocket-client's parser, fed from memory; judges a frame by its header, before the payload has come."""

    def __init__(self, frames: _Frames) -> None:
        super().__init__(None, skip_utf8_validation=True)  # type: ignore[arg-type] # recv_strict does not call it
        self._frames = frames

    def recv_strict(self, bufsize: int) -> bytes:
        """Exactly so many bytes, or `_IncompleteFrame`; a later call goes on."""
        return self._frames.exactly(bufsize)

    def recv_length(self) -> None:
        """The length, and whether the frame may come at all."""
        super().recv_length()
        assert self.header is not None  # noqa: S101 - for the type checker
        self._frames.judge(self.header, self.length or 0)


class _Frames:
    """The frames of one connection. Those that are no whole text, or a large one, are websocket-client's to parse.

    Its parser takes 400 bytes, and is there only while it is in the middle of a frame (bench p05).
    """

    __slots__ = ("_at", "_behind", "_data", "_limit", "_parser", "at_hand", "message")

    def __init__(self, data: bytes, limit: int) -> None:
        self._data = data
        self._at = 0
        self.at_hand = bool(data)
        self._behind: bytes | bytearray = b""
        self._limit = limit
        self._parser: _Parser | None = None  # in the middle of a frame
        self.message: bytearray | None = None
        """The fragments so far of a message that has begun."""

    def feed(self, data: bytes) -> None:
        """Add what came."""
        left = len(self._data) - self._at
        if self._behind or left > _SMALL:
            if not self._behind:
                self._behind = bytearray()
            self._behind += data  # put together once the frame is whole: it may come a byte at a time
        else:
            self._data = self._data[self._at :] + data if left else data
            self._at = 0
        self.at_hand = True

    def release(self) -> None:
        """Let go of what has been parsed: an idle connection shall cost little memory."""
        if self._at == len(self._data):
            self._data, self._at = b"", 0
        self.at_hand = bool(self._data or self._behind) or self._parser is not None

    def exactly(self, size: int) -> bytes:
        """For the parser: so many bytes, or `_IncompleteFrame`; a later call goes on."""
        end = self._at + size
        if end > len(self._data):
            if end > len(self._data) + len(self._behind):
                raise _IncompleteFrame
            self._data = self._data[self._at :] + self._behind
            self._behind = b""
            self._at, end = 0, size
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def judge(self, header: tuple[int, ...], length: int) -> None:
        """For the parser: may this frame come at all?"""
        fin, rsv1, rsv2, rsv3, opcode, _, _ = header
        if rsv1 or rsv2 or rsv3 or opcode not in _ABNF.OPCODES:
            raise RefusedFrame(PROTOCOL_BROKEN, "The server sent a frame with bits that mean nothing")
        if opcode >= _ABNF.OPCODE_CLOSE:
            if length > _CONTROL_LIMIT or not fin:
                raise RefusedFrame(PROTOCOL_BROKEN, "The server sent a control frame that is too long or in pieces")
        elif opcode == _ABNF.OPCODE_BINARY:
            raise RefusedFrame(NOT_TEXT, "The server sent a binary frame")
        elif (opcode == _ABNF.OPCODE_CONT) != (self.message is not None):
            raise RefusedFrame(PROTOCOL_BROKEN, "The server sent the pieces of a message out of order")
        elif length + len(self.message or b"") > self._limit:
            raise RefusedFrame(TOO_LARGE, f"The server sent a message of more than {self._limit} bytes")

    def texts(self, messages: list[str], at_most: int, data: bytes = b"") -> bool:
        """Take whole text frames up to the first frame that is anything else; see `Frames`.

        Nearly every frame is one: 0.4 µs instead of the 2.5 in `take` (bench p01).
        """
        if data and self.at_hand:
            self.feed(data)
        elif data:
            self._data, self._at, self.at_hand = data, 0, True
        if self.message is not None or self._parser is not None:
            return False
        data, at, limit = self._data, self._at, self._limit
        size, missing = len(data), at_most - len(messages)
        while missing > 0 and at + 4 <= size and data[at] == _WHOLE_TEXT:
            length = data[at + 1]
            if length == _TWO_BYTES:
                start = at + 4
                end = start + (data[at + 2] << 8) + data[at + 3]
            elif length < _TWO_BYTES:
                start = at + 2
                end = start + length
            else:  # longer, or masked
                break
            if end > size or end - start > limit:
                break
            try:
                messages.append(data[start:end].decode())
            except UnicodeDecodeError:
                break
            at = end
            missing -= 1
        found = at > self._at
        if at < size:
            self._data, self._at = data, at
        else:
            self._data, self._at = b"", 0
            self.at_hand = bool(self._behind)
        return found

    def take(self) -> tuple[int, str | bytes | None] | None:
        """The next frame; see `Frames`."""
        parser, self._parser = self._parser or _Parser(self), None
        try:
            frame = parser.recv_frame()
        except _IncompleteFrame:
            if parser.header is not None:
                self._parser = parser
            self.release()
            return None
        except websocket.WebSocketException:
            raise RefusedFrame(PROTOCOL_BROKEN, "The server sent a malformed frame") from None
        self.release()
        if frame.opcode >= CLOSE:
            data: Any = frame.data
            return frame.opcode, data
        return frame.opcode, self._text(frame)

    def encode(self, opcode: int, payload: str | bytes) -> bytes:
        """One whole frame, masked."""
        return _ABNF.create_frame(payload, opcode).format()

    def _text(self, frame: Any) -> str | None:
        """The message that a data frame completes, or ``None``."""
        data: bytes | bytearray = frame.data
        if self.message is not None:
            self.message += data
            data = self.message
        elif not frame.fin:
            self.message = bytearray(data)
        if not frame.fin:
            return None
        self.message = None
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise RefusedFrame(NOT_UTF8, "The server sent text that is not UTF-8") from None
