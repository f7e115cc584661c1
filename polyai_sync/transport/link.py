"""The bytes of one open connection, written and read by several threads.

None of them may block: waiting for the socket happens elsewhere. Reads and writes of one TLS connection must never
overlap (``pitfalls.md`` 20): a lock is held around each.
"""

from __future__ import annotations

import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final

from urllib3.util.ssltransport import SSLTransport

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CHUNK", "Link", "WantRead", "WantWrite", "link"]

#: Bytes asked for in one call.
CHUNK: Final = 64 * 1024


class WantRead(Exception):  # noqa: N818 - it reports a state, not a mistake
    """Nothing can be done before the socket is readable."""


class WantWrite(Exception):  # noqa: N818 - as above
    """Nothing can be done before the socket is writable."""


_WANT_READ: Final = ssl.SSLWantReadError
_WANT_WRITE: Final = ssl.SSLWantWriteError


class Link:
    """A plain socket that never blocks.

    Attributes:
        layered: May there be `more` inside than what the socket shows?
    """

    __slots__ = ("_recv", "_sock")

    layered: ClassVar[bool] = False

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._recv: Callable[[int], bytes] = sock.recv
        sock.settimeout(0)

    def fileno(self) -> int:
        """The descriptor, or -1 when closed."""
        return int(self._sock.fileno())

    def recv(self) -> bytes:
        """What has come, at most `CHUNK` bytes; empty at the end.

        Raises:
            WantRead: Nothing has come.
            WantWrite: TLS has to write first.
            OSError: The connection is broken.
        """
        try:
            return self._recv(CHUNK)
        except (BlockingIOError, InterruptedError, _WANT_READ):
            pass
        except _WANT_WRITE:
            raise WantWrite from None
        raise WantRead

    def send(self, data: memoryview) -> int:
        """Write some of the data; how much.

        Raises:
            WantWrite: There is no room now. The next call must come with the same data.
            WantRead: TLS has to read first.
            OSError: The connection is broken.
        """
        try:
            return self._send(data)
        except (BlockingIOError, InterruptedError, _WANT_WRITE):
            pass
        except _WANT_READ:
            raise WantRead from None
        raise WantWrite

    def flush(self) -> None:
        """Write what ``send`` took and could not pass on; raises as it does."""

    def more(self) -> bool:
        """Can there be more, although the socket is not readable?"""
        return False

    def shutdown(self) -> None:
        """End both directions, which wakes whoever polls the socket. Says nothing that TLS would."""
        _shutdown(self._sock)

    def close(self) -> None:
        """Give the descriptor back. TLS says nothing to the peer, so that a forked process may do it too."""
        self._sock.close()

    def _send(self, data: memoryview) -> int:
        return self._sock.send(data)  # type: ignore[no-any-return]


class _TLSLink(Link):
    """A TLS connection."""

    __slots__ = ("_io",)

    layered = True

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self._io = threading.Lock()

    def recv(self) -> bytes:
        with self._io:
            return super().recv()

    def send(self, data: memoryview) -> int:
        with self._io:
            return super().send(data)

    def more(self) -> bool:
        with self._io:
            return bool(self._sock.pending())


class _NestedLink(_TLSLink):
    """TLS inside the TLS of a proxy.

    urllib3's own transport loses data when its socket has no room, so only its parts are used.
    """

    __slots__ = ("_incoming", "_outgoing", "_tls", "_unsent")

    def __init__(self, transport: SSLTransport) -> None:
        super().__init__(transport.socket)
        self._tls = transport.sslobj
        self._incoming = transport.incoming
        self._outgoing = transport.outgoing
        self._unsent = b""
        self._recv = self._decrypted

    def more(self) -> bool:
        return True  # a record may lie in either layer; recv says when there is none

    def flush(self) -> None:
        with self._io:
            try:
                self._drain()
            except (BlockingIOError, InterruptedError, _WANT_WRITE):
                raise WantWrite from None

    def _decrypted(self, size: int) -> bytes:
        while True:
            try:
                return self._tls.read(size)
            except _WANT_READ:
                pass
            except ssl.SSLEOFError:
                return b""
            self._drain()
            data = self._sock.recv(size)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _send(self, data: memoryview) -> int:
        self._drain()
        sent = self._tls.write(data)
        try:
            self._drain()
        except (BlockingIOError, InterruptedError, _WANT_WRITE):
            return sent  # taken; flush() passes it on
        return sent

    def _drain(self) -> None:
        self._unsent += self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]


def _shutdown(sock: Any) -> None:
    try:
        # Not the TLS socket's own, which forgets that there is TLS: a read meanwhile would take the cipher for text.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return  # closed by the peer, or here, already


def link(sock: Any) -> Link:
    """The link for a socket as `Dialer` gives it."""
    if isinstance(sock, SSLTransport):
        return _NestedLink(sock)
    return _TLSLink(sock) if isinstance(sock, ssl.SSLSocket) else Link(sock)
