"""The HTTP half of the WebSocket handshake.

websocket-client asks, and is shown the answer only where it is a 101 (and of it only the headers that it checks: it
would keep cookies in a jar for the whole process). Anything else is read here, where status, headers and body become
the error: a refusal decides what happens to a live conversation (``pitfalls.md`` 1, 19).
"""

from __future__ import annotations

import http.client
import io
import re
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from attrs import frozen

from polyai_sync.errors import PolyAIError, ProtocolError
from polyai_sync.redaction import MASK
from polyai_sync.refusals import error_from_response, parse_retry_after
from polyai_sync.transport.failures import network_error
from polyai_sync.transport.timed import arm

if TYPE_CHECKING:
    from polyai_sync.config import Secret
    from polyai_sync.redaction import Redactor
    from polyai_sync.transport.deadline import Deadline

__all__ = ["NO_TOKEN", "HandshakePort", "Stopped"]

#: Of the query that websocket-client is given. It shall not know the token: Python keeps the last 128 URLs it parsed.
NO_TOKEN: Final = f"access_token={MASK}"
_NO_TOKEN: Final = NO_TOKEN.encode()

#: Bytes of status line and headers, and of a refusal's body, that are read.
HEAD_LIMIT: Final = 64 * 1024
BODY_LIMIT: Final = 16 * 1024

_END_OF_HEAD: Final = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r?\n")
_CHECKED: Final = ("Upgrade", "Connection", "Sec-WebSocket-Accept")
_CHUNK: Final = 16 * 1024


class Stopped(Exception):  # noqa: N818 - it only leads out of websocket-client
    """Nothing for websocket-client to see; `HandshakePort.failure` says why."""


@frozen
class _Refusal:
    status: int
    response: http.client.HTTPResponse


class HandshakePort:
    """What websocket-client takes for its socket during the handshake. Blocks, under one deadline in all.

    Args:
        sock: The open connection.
        deadline: For the question and the answer.
        access_token: Put in the place of `NO_TOKEN`.

    Attributes:
        failure: Why it stopped, after `Stopped`.
        rest: What came behind the headers of a 101: the first frames.
    """

    def __init__(self, sock: Any, deadline: Deadline, access_token: Secret) -> None:
        self._sock = sock
        self._deadline = deadline
        self._token = quote(access_token.reveal(), safe="", errors="replace")
        self._started = time.monotonic()
        self._head: io.BytesIO | None = None
        self.rest = b""
        self.failure: Exception | _Refusal | None = None

    # -- the part of a socket that websocket-client uses ------------------------------------------------------------

    def gettimeout(self) -> float:
        """0: it shall call straight through."""
        return 0.0

    def send(self, data: bytes) -> int:
        """Write all of it. The request line comes in one piece."""
        try:
            arm(self._sock, self._deadline)
            self._sock.sendall(data.replace(_NO_TOKEN, b"access_token=" + self._token.encode(), 1))
        except OSError as error:
            self._stop(error)
        return len(data)

    def recv(self, size: int) -> bytes:
        """Bytes of the head of a 101."""
        if self._head is None:
            try:
                self._head = self._read_head()
            except (OSError, PolyAIError) as error:
                self._stop(error)
        return self._head.read(size)  # type: ignore[union-attr] # _stop raises

    def close(self) -> None:
        """Nothing: a refusal's body is still to be read."""

    # -- the answer -------------------------------------------------------------------------------------------------

    def error(self, *, where: str, redactor: Redactor) -> PolyAIError:
        """The error to raise after `Stopped`."""
        failure = self.failure
        if isinstance(failure, PolyAIError):
            return failure
        if isinstance(failure, _Refusal):
            return self._refusal_error(failure, redactor)
        waited = time.monotonic() - self._started
        return network_error(failure or EOFError(), surface="connect", where=where, waited=waited)

    def _stop(self, why: Exception | _Refusal) -> None:
        self.failure = why.with_traceback(None) if isinstance(why, Exception) else why
        raise Stopped from None

    def _read_head(self) -> io.BytesIO:
        data = b""
        while (end := _END_OF_HEAD.search(data)) is None:
            if len(data) > HEAD_LIMIT:
                raise ProtocolError(f"The answer's headers are longer than {HEAD_LIMIT} bytes", surface="connect")
            if not data.startswith(b"HTTP/"[: len(data)]):
                break
            arm(self._sock, self._deadline)
            chunk = self._sock.recv(_CHUNK)
            if not chunk:
                raise ConnectionResetError("closed without an answer")
            data += chunk
        line = _STATUS_LINE.match(data)
        if end is None or line is None:
            raise ProtocolError("What answered the handshake does not speak HTTP", surface="connect")
        if int(line[1]) != 101:
            self._stop(self._response(int(line[1]), data))
        try:
            headers = http.client.parse_headers(io.BytesIO(data[line.end() : end.end()]))
        except http.client.HTTPException:
            raise ProtocolError("The answer to the handshake has malformed headers", surface="connect") from None
        self.rest = data[end.end() :]
        checked = [f"{name}: {', '.join(headers.get_all(name, []))}\r\n" for name in _CHECKED if name in headers]
        return io.BytesIO(b"HTTP/1.1 101 Switching Protocols\r\n" + "".join(checked).encode() + b"\r\n")

    def _response(self, status: int, data: bytes) -> _Refusal:
        response = http.client.HTTPResponse(_Replayed(self._sock, data, self._deadline))  # type: ignore[arg-type]
        return _Refusal(status, response)

    def _refusal_error(self, refusal: _Refusal, redactor: Redactor) -> PolyAIError:
        status, response = refusal.status, refusal.response
        body = b""
        try:
            if status >= 200:  # a 1xx has no body; another answer follows
                response.begin()
                while len(body) < BODY_LIMIT and (chunk := response.read1(BODY_LIMIT)):
                    body += chunk
        except (OSError, http.client.HTTPException):
            pass  # what broke off counts as far as it came: the status says what to do
        finally:
            response.close()
        headers: Any = response.headers or {}
        if not 300 <= status < 600:
            return ProtocolError(
                "The server answered the handshake without opening a WebSocket",
                surface="connect",
                status=status,
                body=redactor.clip(body, BODY_LIMIT // 2),
            )
        return error_from_response(
            "connect",
            status,
            body,
            retry_after=parse_retry_after(headers.get("Retry-After"), time.time()),
            request_id=headers.get("X-Polyai-Correlation-Id"),
            redactor=redactor,
        )


class _Replayed(io.RawIOBase):
    """A socket for ``http.client``: first what was read already, then what still comes, under the deadline."""

    def __init__(self, sock: Any, data: bytes, deadline: Deadline) -> None:
        super().__init__()
        self._sock = sock
        self._data = data
        self._deadline = deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._data:
            arm(self._sock, self._deadline)
            return int(self._sock.recv_into(buffer))
        size = min(len(buffer), len(self._data))
        buffer[:size], self._data = self._data[:size], self._data[size:]
        return size
