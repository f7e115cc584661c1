"""The WebSocket (protocol.md §3): the only module that knows websocket-client.

That library makes the handshake and parses frames. What it does not do well is done here: its sockets block, its locks
let a read and a write of one TLS connection overlap, it believes any length, and its ``close()`` waits for the reader.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import websocket
from attrs import frozen

from polyai_sync.errors import ConnectionDroppedError, PolyAIError, ProtocolError
from polyai_sync.redaction import Redactor
from polyai_sync.transport.failures import bare
from polyai_sync.transport.handshake import HandshakePort, Stopped
from polyai_sync.transport.http import address
from polyai_sync.transport.link import Link, WantRead, WantWrite, link
from polyai_sync.transport.masking import masked_records
from polyai_sync.transport.waker import Waker, wait_ready

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyai_sync.config import Secret, Settings
    from polyai_sync.transport.deadline import Deadline
    from polyai_sync.transport.dial import Dialled

__all__ = ["MESSAGE_LIMIT", "WebSocketConnection", "open_websocket"]

#: Bytes of one assembled message that are believed.
MESSAGE_LIMIT: Final = 1024 * 1024

#: One ``read()`` gives no more than so many frames, or bytes: a flood must not keep a thread from its deadlines.
FRAMES_AT_ONCE: Final = 256
BYTES_AT_ONCE: Final = 256 * 1024

_ABNF: Final = websocket.ABNF
_CONTROL_LIMIT: Final = 125
_CONTROLS_KEPT: Final = 8

# Close codes of RFC 6455 §7.4.1.
_NO_CODE: Final = 1005
_PROTOCOL_BROKEN: Final = 1002
_NOT_TEXT: Final = 1003
_NOT_UTF8: Final = 1007
_TOO_LARGE: Final = 1009


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
    port = HandshakePort(dialled.sock, deadline.within(settings.timeouts.connect))
    try:
        error = _shake_hands(port, settings, session_id, access_token, cursor, headers)
    except BaseException:
        dialled.close()
        raise
    if error is not None:
        dialled.close()
        raise error
    return WebSocketConnection(link(dialled.sock), port.rest, message_limit=message_limit)


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
    query = {"session_id": session_id, "access_token": access_token.reveal()}
    if cursor > 0:
        query["cursor"] = str(cursor)
    encoded = "&".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in query.items())
    lines = list(headers)
    if not any(line.lower().startswith("user-agent:") for line in lines):
        lines.insert(0, f"User-Agent: {settings.user_agent}")
    error: PolyAIError | None = None
    with masked_records(redactor):
        try:
            client: Any = websocket.WebSocket(enable_multithread=False, skip_utf8_validation=True)
            client.connect(
                # The host of this URL serves as a key into websocket-client's process-wide cookie jar, and for nothing
                # else: under this name there are none.
                f"ws://polyai-sync.invalid{base.path}?{encoded}",
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
    if error is not None:
        error.__context__ = None
    return error


class _Incomplete(Exception):  # noqa: N818 - it reports a state, not a mistake
    """The rest of a frame has not come yet."""


class _Refused(Exception):  # noqa: N818 - it becomes a ProtocolError
    """A frame that ends the connection."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Frames(websocket.frame_buffer):
    """websocket-client's parser, fed from memory; judges a frame by its header, before the payload has come."""

    def __init__(self, data: bytes, limit: int) -> None:
        super().__init__(None, skip_utf8_validation=True)  # type: ignore[arg-type] # recv_strict does not call it
        self._data = data
        self._at = 0
        self._behind = bytearray()
        self._limit = limit
        self.message: bytearray | None = None
        """The fragments so far of a message that has begun."""

    def feed(self, data: bytes) -> None:
        """Add what came."""
        if self._at == len(self._data) and not self._behind:
            self._data, self._at = data, 0
        else:
            self._behind += data

    def release(self) -> None:
        """Let go of what has been parsed: an idle connection shall cost little memory."""
        if self._at == len(self._data):
            self._data, self._at = b"", 0

    def recv_strict(self, bufsize: int) -> bytes:
        """Exactly so many bytes, or `_Incomplete`; a later call goes on."""
        end = self._at + bufsize
        if end > len(self._data):
            if end > len(self._data) + len(self._behind):
                raise _Incomplete
            self._data = self._data[self._at :] + self._behind
            self._behind.clear()
            self._at, end = 0, bufsize
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def recv_length(self) -> None:
        """The length, and whether the frame may come at all."""
        super().recv_length()
        assert self.header is not None  # noqa: S101 - for the type checker
        fin, rsv1, rsv2, rsv3, opcode, _, _ = self.header
        length = self.length or 0
        if rsv1 or rsv2 or rsv3 or opcode not in _ABNF.OPCODES:
            raise _Refused(_PROTOCOL_BROKEN, "The server sent a frame with bits that mean nothing")
        if opcode >= _ABNF.OPCODE_CLOSE:
            if length > _CONTROL_LIMIT or not fin:
                raise _Refused(_PROTOCOL_BROKEN, "The server sent a control frame that is too long or in pieces")
        elif opcode == _ABNF.OPCODE_BINARY:
            raise _Refused(_NOT_TEXT, "The server sent a binary frame")
        elif (opcode == _ABNF.OPCODE_CONT) != (self.message is not None):
            raise _Refused(_PROTOCOL_BROKEN, "The server sent the pieces of a message out of order")
        elif length + len(self.message or b"") > self._limit:
            raise _Refused(_TOO_LARGE, f"The server sent a message of more than {self._limit} bytes")

    def text(self, frame: Any) -> str | None:
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
            raise _Refused(_NOT_UTF8, "The server sent text that is not UTF-8") from None


@frozen
class _End:
    """How a connection came to its end, as its callers are told."""

    message: str
    close_code: int | None = None
    close_reason: str = ""
    cause: OSError | None = None
    broke_protocol: bool = False

    def error(self) -> PolyAIError:
        """For the reader."""
        return ProtocolError(self.message, surface="websocket") if self.broke_protocol else self.dropped()

    def dropped(self) -> PolyAIError:
        """For a writer, whatever it was."""
        error = ConnectionDroppedError(
            self.message, close_code=self.close_code, close_reason=self.close_reason, surface="websocket"
        )
        error.__cause__ = self.cause
        return error


_CLOSED_HERE: Final = _End("The connection was closed on this side")
_NO_CLOSE_FRAME: Final = _End("The connection was cut off without a closing frame")


class WebSocketConnection:
    """An open WebSocket.

    One thread calls ``wait`` and ``read``; any thread may ``write`` and ``close``. No method but ``wait`` and
    ``write`` waits for anything.

    Attributes:
        generation: Which connection of its session this is; for the caller.
    """

    def __init__(self, wire: Link, rest: bytes = b"", *, message_limit: int = MESSAGE_LIMIT) -> None:
        self.generation = 0
        self._link = wire
        self._frames = _Frames(rest, message_limit)
        self._more = True  # the first frames may have come with the handshake's answer
        self._read_wants_write = False
        self._end: _End | None = None
        self._write_lock = threading.Lock()
        self._controls: deque[bytes] = deque(maxlen=_CONTROLS_KEPT)
        self._unsent = b""
        self._close_sent = False
        # Reentrant: a signal handler may close what its own thread is using.
        self._state = threading.RLock()
        self._users = 0
        self._closing = False

    def wait(self, timeout: float | None, waker: Waker) -> bool:
        """Wait until there may be something to read.

        Args:
            timeout: Seconds, ``None`` for ever.
            waker: Ends the wait too; it is left as it is.

        Returns:
            Is it worth calling ``read``? ``False``: time is up, or the waker was.
        """
        if self._more or self._end is not None or not self._enter():
            return True
        try:
            fd = self._link.fileno()
            writers = (fd,) if self._read_wants_write or self._controls or self._unsent else ()
            readable, writable = wait_ready((fd, waker.fileno()), writers, timeout)
            if writable:
                self._flush_controls()
            return fd in readable or bool(writable and self._read_wants_write)
        finally:
            self._leave()

    def read(self) -> list[str]:
        """Every complete text message that has come, without waiting; at most `FRAMES_AT_ONCE` or `BYTES_AT_ONCE`.

        Pings are answered, and a close frame too.

        Raises:
            ConnectionDroppedError: The connection is over, and everything that came before was returned.
            ProtocolError: The server sent what it must not; the connection is over.
        """
        messages: list[str] = []
        if self._end is None:
            if self._enter():
                try:
                    self._read_into(messages)
                finally:
                    self._leave()
            else:
                self._end = _CLOSED_HERE
        if self._end is not None and not messages:
            raise self._end.error()
        return messages

    def write(self, text: str, deadline: Deadline) -> None:
        """Send one text message. Where it is not written whole in time the connection is over (``pitfalls.md`` 35).

        Raises:
            ConnectionDroppedError: The connection is over. Whether the message arrived is not known.
        """
        frame = _ABNF.create_frame(text, _ABNF.OPCODE_TEXT).format()
        if self._end is not None:
            raise self._end.dropped()
        if not self._enter():
            raise _CLOSED_HERE.dropped()
        end: _End | None = None
        try:
            remaining = deadline.remaining()
            if not self._write_lock.acquire(timeout=-1 if remaining is None else min(remaining, threading.TIMEOUT_MAX)):
                raise TimeoutError("timed out")  # noqa: TRY301 - as in the middle of a frame
            try:
                self._unsent += b"".join((*self._taken_controls(), frame))
                self._write_whole(deadline)
            finally:
                self._write_lock.release()
            self._flush_controls()
        except OSError as error:
            what = "did not take a message in time" if isinstance(error, TimeoutError) else "broke while writing"
            end = _CLOSED_HERE if self._closing else _End(f"The connection {what}", cause=bare(error))
            self._link.shutdown()
        except BaseException:
            self._link.shutdown()  # half a frame may be out
            raise
        finally:
            self._leave()
        if end is not None:
            raise end.dropped()

    def close(self, code: int = 1000) -> None:
        """Close it from any thread: a close frame where there is room for one, then the socket. Waits for nothing.

        Whoever is in ``wait`` or ``write`` comes back at once. Idempotent.
        """
        with self._state:
            if self._closing:
                return
            self._closing = True
            self._users += 1
        try:
            self._send_close(code)
            self._link.shutdown()
        finally:
            self._leave()

    def abandon(self) -> None:
        """Give the descriptor back in a forked process, without a word to the peer: the parent still talks to it."""
        self._closing = True
        self._end = _CLOSED_HERE
        self._state = threading.RLock()
        self._write_lock = threading.Lock()
        self._link.close()

    # -- reading ----------------------------------------------------------------------------------------------------

    def _read_into(self, messages: list[str]) -> None:
        self._more = self._read_wants_write = False
        frames, size, again = 0, 0, True
        try:
            while frames < FRAMES_AT_ONCE and size < BYTES_AT_ONCE:
                try:
                    frame = self._frames.recv_frame()
                except _Incomplete:
                    if not again:
                        break
                    data = self._link.recv()
                    if not data:
                        self._end = _NO_CLOSE_FRAME
                        break
                    self._frames.feed(data)
                    again = self._link.more(len(data))
                    size += len(data)
                    continue
                frames += 1
                if frame.opcode < _ABNF.OPCODE_CLOSE:
                    text = self._frames.text(frame)
                    if text is not None:
                        messages.append(text)
                elif self._control(frame):
                    break
            else:
                self._more = True
        except WantRead:
            pass
        except WantWrite:
            self._read_wants_write = True
        except OSError as error:
            self._end = _End("The connection was reset", cause=bare(error))
        except (_Refused, websocket.WebSocketException) as error:
            code = error.code if isinstance(error, _Refused) else _PROTOCOL_BROKEN
            message = str(error) if isinstance(error, _Refused) else "The server sent a malformed frame"
            self._end = _End(message, broke_protocol=True)
            self._send_close(code)
        self._frames.release()

    def _control(self, frame: Any) -> bool:
        """Answer a control frame; is it the end?"""
        if frame.opcode == _ABNF.OPCODE_PING:
            self._controls.append(_ABNF.create_frame(frame.data, _ABNF.OPCODE_PONG).format())
            self._flush_controls()
        if frame.opcode != _ABNF.OPCODE_CLOSE:
            return False
        code = struct.unpack("!H", frame.data[:2])[0] if frame.data else _NO_CODE
        reason = frame.data[2:].decode("utf-8", "replace")
        self._end = _End(f"The server closed the connection ({code})", close_code=code, close_reason=reason)
        self._send_close(code if frame.data else None)
        return True

    # -- writing ----------------------------------------------------------------------------------------------------

    def _write_whole(self, deadline: Deadline) -> None:
        """Write all that is unsent, waiting for room."""
        while (want := self._write_some()) is not None:
            if deadline.expired():
                raise TimeoutError("timed out")
            fd = (self._link.fileno(),)
            wait_ready(fd if want is WantRead else (), fd if want is WantWrite else (), deadline.remaining())

    def _write_some(self) -> type[Exception] | None:
        """Write as much as goes now; what the rest needs, or ``None`` where nothing is left."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._link.send(self._unsent) :]
            self._link.flush()
        except (WantRead, WantWrite) as want:
            return type(want)
        return None

    def _flush_controls(self) -> None:
        """Write the control frames that wait, unless somebody is writing: that thread does it when it is done."""
        while (self._controls or self._unsent) and self._write_lock.acquire(blocking=False):
            try:
                self._unsent += b"".join(self._taken_controls())
                if not self._written():
                    return
            finally:
                self._write_lock.release()

    def _written(self) -> bool:
        try:
            return self._write_some() is None
        except OSError:
            self._unsent = b""
            self._link.shutdown()  # the reader finds the end, behind what is still to be read
            return True

    def _taken_controls(self) -> list[bytes]:
        taken = []
        while self._controls:
            taken.append(self._controls.popleft())
        return taken

    def _send_close(self, code: int | None) -> None:
        if self._close_sent:
            return
        self._close_sent = True
        payload = b"" if code is None else struct.pack("!H", code)
        self._controls.append(_ABNF.create_frame(payload, _ABNF.OPCODE_CLOSE).format())
        self._flush_controls()

    # -- the descriptor's life: closed by the last one out, so that nobody polls a number that is somebody else's now --

    def _enter(self) -> bool:
        with self._state:
            if self._closing:
                return False
            self._users += 1
            return True

    def _leave(self) -> None:
        with self._state:
            self._users -= 1
            if self._closing and not self._users:
                self._link.close()
