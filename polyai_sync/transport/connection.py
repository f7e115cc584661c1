"""An open WebSocket: the threads, locks and descriptors of it. What a frame looks like is somebody else's business."""

from __future__ import annotations

import math
import os
import select
import struct
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

from attrs import frozen

from polyai_sync.errors import ConnectionDroppedError, PolyAIError, ProtocolError
from polyai_sync.transport.failures import bare
from polyai_sync.transport.link import CHUNK, Link, WantRead, WantWrite
from polyai_sync.transport.waker import LONGEST_WAIT, Waker, wait_ready

if TYPE_CHECKING:
    from polyai_sync.transport.deadline import Deadline

__all__ = [
    "BYTES_AT_ONCE",
    "CLOSE",
    "FRAMES_AT_ONCE",
    "NOT_TEXT",
    "NOT_UTF8",
    "PING",
    "PONG",
    "PROTOCOL_BROKEN",
    "TEXT",
    "TOO_LARGE",
    "Frames",
    "RefusedFrame",
    "WebSocketConnection",
]

#: One ``receive()`` gives no more than so many frames, or bytes: a flood must not keep a thread from its deadlines.
FRAMES_AT_ONCE: Final = 256
BYTES_AT_ONCE: Final = 256 * 1024

# Opcodes and close codes of RFC 6455 §5.2 and §7.4.1.
TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
PROTOCOL_BROKEN: Final = 1002
NOT_TEXT: Final = 1003
NO_CODE: Final = 1005
NOT_UTF8: Final = 1007
TOO_LARGE: Final = 1009

#: Control frames that wait for room; older ones are dropped, since only the last ping needs an answer.
_CONTROLS_KEPT: Final = 8


class RefusedFrame(Exception):  # noqa: N818 - it becomes a ProtocolError
    """A frame that ends the connection.

    Attributes:
        code: The close code that says why.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Frames(Protocol):
    """Bytes to frames and back."""

    at_hand: bool
    """Is there anything that has not been parsed?"""

    def texts(self, messages: list[str], at_most: int, data: bytes = b"") -> bool:
        """Add text messages at hand that are a frame each, as long as ``messages`` holds fewer than ``at_most``.

        Args:
            messages: Where to.
            at_most: How many it may hold.
            data: What came; at hand from now on.

        Returns:
            Were there any? Where there were none the next frame is for `take`.
        """

    def take(self) -> tuple[int, str | bytes | None] | None:
        """The next frame: its opcode, and the payload of a control frame, or the message that a data frame completes.

        Returns:
            ``None`` where it has not come whole; a later call goes on.

        Raises:
            RefusedFrame: It is malformed, too long, or not text.
        """

    def encode(self, opcode: int, payload: str | bytes) -> bytes:
        """One whole frame, ready to be sent."""


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


_NOTHING: Final = memoryview(b"")
_CLOSED_HERE: Final = _End("The connection was closed on this side")
_NO_CLOSE_FRAME: Final = _End("The connection was cut off without a closing frame")


class WebSocketConnection:
    """An open WebSocket.

    One thread calls ``receive``; any thread may ``write`` and ``close``. No other method waits for anything.

    Attributes:
        generation: Which connection of its session this is; for the caller.
    """

    __slots__ = (
        "_close_sent",
        "_closing",
        "_controls",
        "_end",
        "_frames",
        "_link",
        "_made_in",
        "_more",
        "_poll",
        "_polled",
        "_read_wants_write",
        "_state",
        "_unsent",
        "_users",
        "_write_lock",
        "generation",
    )

    def __init__(self, wire: Link, frames: Frames) -> None:
        self.generation = 0
        self._made_in = os.getpid()
        self._link = wire
        self._frames = frames
        self._more = True  # the first frames may have come with the handshake's answer
        self._read_wants_write = False
        self._end: _End | None = None
        self._write_lock = threading.Lock()
        self._controls: list[bytes] = []
        self._unsent = _NOTHING
        self._close_sent = False
        # Reentrant: a signal handler may close what its own thread is using.
        self._state = threading.RLock()
        self._users = 0
        self._poll: Any = None
        self._polled = -2  # the descriptor of the waker that `_poll` knows beside the socket's
        self._closing = False

    def receive(self, timeout: float | None, waker: Waker) -> list[str] | None:
        """Wait until something comes, and read it. For a thread that did `enter`.

        Pings are answered, and a close frame too.

        Args:
            timeout: Seconds to wait, ``None`` for ever.
            waker: Ends the wait too; it is left as it is.

        Returns:
            Every complete text message that has come, at most `FRAMES_AT_ONCE` or `BYTES_AT_ONCE`; ``None`` where there
            was nothing to read: time is up, or the waker was.

        Raises:
            ConnectionDroppedError: The connection is over, and everything that came before was returned.
            ProtocolError: The server sent what it must not; the connection is over.
        """
        messages: list[str] = []
        if self._end is None:
            if not self._more and not self._closing:
                waker_fd = waker.fd
                stuck = (self._unsent or self._controls) and self._stuck()
                if stuck or waker_fd != self._polled or self._read_wants_write:
                    if not self._wait_closely(timeout, waker_fd):
                        return None
                else:  # the two descriptors that a session's thread waits for, most of the time: registered once
                    milliseconds = None
                    if timeout is not None:
                        milliseconds = math.ceil(min(timeout, LONGEST_WAIT) * 1000) if timeout > 0 else 0
                    happened = self._poll.poll(milliseconds)
                    if not happened or (len(happened) == 1 and happened[0][0] == waker_fd):
                        return None
            if self._closing:
                self._end = _CLOSED_HERE
            else:
                self._read_into(messages)
        if self._end is not None and not messages:
            raise self._end.error()
        return messages

    def _stuck(self) -> bool:
        """Is there something to write, and nobody at it? A writer sees to it all: no business of a reader."""
        return bool(self._controls or self._unsent) and not self._write_lock.locked()

    def _wait_closely(self, timeout: float | None, waker_fd: int) -> bool:
        """Is it worth looking, whatever the wait was for?"""
        fd = self._link.fileno()
        if self._read_wants_write or self._stuck():
            readable, writable = wait_ready((fd, waker_fd), (fd,), timeout)
            if writable:
                self._flush_controls()
            return fd in readable or bool(writable and self._read_wants_write)
        if hasattr(select, "poll") and fd >= 0 and waker_fd >= 0:
            self._poll, self._polled = select.poll(), waker_fd
            self._poll.register(fd, select.POLLIN)
            self._poll.register(waker_fd, select.POLLIN)
        return fd in wait_ready((fd, waker_fd), (), timeout)[0]

    def write(self, text: str, deadline: Deadline) -> None:
        """Send one text message. Where it is not written whole in time the connection is over (``pitfalls.md`` 35).

        Raises:
            ConnectionDroppedError: The connection is over. Whether the message arrived is not known.
        """
        frame = self._frames.encode(TEXT, text)
        if self._end is not None:
            raise self._end.dropped()
        if not self.enter():
            raise _CLOSED_HERE.dropped()
        end: _End | None = None
        try:
            remaining = deadline.remaining()
            if not self._write_lock.acquire(timeout=-1 if remaining is None else min(remaining, threading.TIMEOUT_MAX)):
                raise TimeoutError("timed out")  # noqa: TRY301 - as in the middle of a frame
            try:
                self._unsent = memoryview(b"".join((self._unsent, *self._taken_controls(), frame)))
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
            self.leave()
        if end is not None:
            raise end.dropped()

    def close(self, code: int = 1000) -> None:
        """Close it from any thread: a close frame where there is room for one, then the socket. Waits for nothing.

        Whoever is in ``receive`` or ``write`` comes back at once. Idempotent. In a forked process as `abandon`.
        """
        if os.getpid() != self._made_in:
            self.abandon()
            return
        with self._state:
            if self._closing:
                return
            self._closing = True
            self._users += 1
        try:
            self._send_close(struct.pack("!H", code))
            self._link.shutdown()
        finally:
            self.leave()

    def abandon(self) -> None:
        """Give the descriptor back in a forked process, without a word to the peer: the parent still talks to it."""
        self._closing = True
        self._end = _CLOSED_HERE
        self._state = threading.RLock()
        self._write_lock = threading.Lock()
        self._link.close()

    # -- the descriptor's life: closed by the last one out, so that nobody polls a number that is somebody else's now --

    def enter(self) -> bool:
        """The descriptor is in use from here on, until `leave`; ``False``: it is closed, or will be."""
        with self._state:
            if self._closing:
                return False
            self._users += 1
            return True

    def leave(self) -> None:
        """The descriptor is in use no longer, by this one."""
        with self._state:
            self._users -= 1
            if self._closing and not self._users:
                self._link.close()

    # -- reading ----------------------------------------------------------------------------------------------------

    def _read_into(self, messages: list[str]) -> None:
        self._more = self._read_wants_write = False
        frames, link = self._frames, self._link
        parsed, size, again = 0, 0, True
        try:
            while parsed + len(messages) < FRAMES_AT_ONCE and size < BYTES_AT_ONCE:
                if frames.at_hand and frames.texts(messages, FRAMES_AT_ONCE - parsed):
                    continue
                if frames.at_hand and (frame := frames.take()) is not None:
                    opcode, payload = frame
                    if isinstance(payload, str):
                        messages.append(payload)
                        continue
                    parsed += 1
                    if payload is not None and self._control(opcode, payload):
                        break
                elif again:
                    data = link.recv()
                    if not data:
                        self._end = _NO_CLOSE_FRAME
                        break
                    size += len(data)
                    again = len(data) >= CHUNK or (link.layered and link.more())
                    frames.texts(messages, FRAMES_AT_ONCE - parsed, data)
                    if not (again or frames.at_hand):
                        break
                else:
                    break
            else:
                self._more = True
        except WantRead:
            pass
        except WantWrite:
            self._read_wants_write = True
        except OSError as error:
            self._end = _End("The connection was reset", cause=bare(error))
        except RefusedFrame as error:
            self._end = _End(str(error), broke_protocol=True)
            self._send_close(struct.pack("!H", error.code))

    def _control(self, opcode: int, payload: bytes) -> bool:
        """Answer a control frame; is it the end?"""
        if opcode == PING:
            self._send_control(self._frames.encode(PONG, payload))
        if opcode != CLOSE:
            return False
        code = struct.unpack("!H", payload[:2])[0] if payload else NO_CODE
        reason = payload[2:].decode("utf-8", "replace")
        self._end = _End(f"The server closed the connection ({code})", close_code=code, close_reason=reason)
        self._send_close(payload[:2])
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
                # Nothing left: it lets go of the frame, too.
                self._unsent = self._unsent[self._link.send(self._unsent) :] or _NOTHING
            self._link.flush()
        except (WantRead, WantWrite) as want:
            return type(want)
        return None

    def _send_control(self, frame: bytes) -> None:
        self._controls.append(frame)
        del self._controls[:-_CONTROLS_KEPT]
        self._flush_controls()

    def _flush_controls(self) -> None:
        """Write the control frames that wait, unless somebody is writing: that thread does it when it is done."""
        while (self._controls or self._unsent) and self._write_lock.acquire(blocking=False):
            try:
                if not self._unsent:  # else what waits stays where its number is limited
                    self._unsent = memoryview(b"".join(self._taken_controls()))
                if not self._written():
                    return
            finally:
                self._write_lock.release()

    def _written(self) -> bool:
        try:
            return self._write_some() is None
        except OSError:
            self._unsent = _NOTHING
            self._link.shutdown()  # the reader finds the end, behind what is still to be read
            return True

    def _taken_controls(self) -> list[bytes]:
        taken = []
        while self._controls:
            taken.append(self._controls.pop(0))
        return taken

    def _send_close(self, payload: bytes) -> None:
        if self._close_sent:
            return
        self._close_sent = True
        self._send_control(self._frames.encode(CLOSE, payload))
