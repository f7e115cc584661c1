"""urllib3's connections, under one deadline.

urllib3 applies a time-out to each system call: a server that sends a byte now and then holds a caller for as long as
it likes, and a host with five dead addresses costs five time-outs. The classes here, used by both legs, share out one
deadline among all that happens on the way. It reaches them by the thread, because pools make connections by themselves.
"""

from __future__ import annotations

import errno
import http.client
import importlib.util
import io
import os
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import urllib3.util.connection
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.leash import holding
from polyai_sync.transport.trust import ssl_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from requests import PreparedRequest

    _Mixed = HTTPConnection
else:
    _Mixed = object

__all__ = ["DeadlineAdapter", "TimedHTTPConnection", "TimedHTTPSConnection", "TimedReader", "limits", "socks_classes"]

#: Connections that a pool keeps open; more than that at once are made and not kept.
_POOL_SIZE = 32


class _Limits(threading.local):
    """What limits the call that this thread is in."""

    deadline = Deadline(None)
    connect: float | None = None
    read: float | None = None
    phase = deadline
    response: http.client.HTTPResponse | None = None
    held: ExitStack | None = None
    connection: object = None


_limits = _Limits()


@contextmanager
def limits(deadline: Deadline, *, connect: float | None, read: float | None) -> Iterator[None]:
    """Hold everything this thread's connections do to ``deadline``.

    Args:
        deadline: For all of it.
        connect: Seconds for a new connection: name, TCP, proxy and TLS together.
        read: Seconds for one answer, headers and body together.
    """
    _limits.deadline, _limits.connect, _limits.read = deadline, connect, read
    try:
        with ExitStack() as _limits.held:
            yield
    finally:
        _limits.__dict__.clear()


def _hold(connection: object, sock: Any) -> None:
    """Keep a connection's socket on the thread's leash until the call is over."""
    if _limits.held is not None and _limits.connection is not connection:
        _limits.held.enter_context(holding(sock))
        _limits.connection = connection


class TimedReader(io.RawIOBase):
    """A socket's bytes, each read with what is left of a deadline.

    Attributes:
        ended: Has the end been met?
    """

    def __init__(self, sock: Any, raw: io.RawIOBase, deadline: Deadline) -> None:
        super().__init__()
        self._sock = sock
        self._raw = raw
        self._deadline = deadline
        self.ended = False

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read once, in what is left of the time."""
        arm(self._sock, self._deadline)
        size = self._raw.readinto(buffer)
        self.ended = self.ended or size == 0
        return size

    def close(self) -> None:
        """Close what is read from."""
        self._raw.close()
        super().close()


def arm(sock: Any, deadline: Deadline) -> None:
    """Give the socket what is left of the time.

    Raises:
        TimeoutError: Nothing is left.
    """
    remaining = deadline.remaining()
    if remaining is not None and remaining <= 0:
        raise TimeoutError("timed out")
    sock.settimeout(remaining)


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._bytes = TimedReader(sock, self.fp.detach(), _limits.phase)
        self.fp = io.BufferedReader(self._bytes)
        _limits.response = self

    def begin(self) -> None:
        """Read status line and headers. http.client takes an end among them for theirs, and so half a head for all."""
        super().begin()
        if self._bytes.ended:
            raise ConnectionResetError("closed within the headers of the answer")


class _Timed(_Mixed):
    # http.client prints headers, tokens among them, where an application has set this on its class.
    debuglevel = 0
    response_class = _TimedResponse

    def _new_conn(self) -> socket.socket:
        _limits.phase = _limits.deadline.within(_limits.connect)
        sock = self._connected()
        try:
            _hold(self, sock)
        except OSError:
            sock.close()
            raise
        # Small requests, each in a packet of its own: waiting for a delayed ACK costs 44 ms (`performance.md`).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        arm(sock, _limits.phase)
        return sock

    def _connected(self) -> socket.socket:
        sock = connect_any(
            self._dns_host,
            self.port,
            _limits.phase,
            source_address=self.source_address,
            options=self.socket_options or (),
        )
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
        except BaseException:
            if _limits.response is not None:
                _limits.response.close()  # http.client of Python 3.10 leaves it open, and the socket with it
            raise
        arm(self.sock, _limits.phase)

    def getresponse(self) -> Any:
        """The answer, headers and body under a deadline of their own."""
        if self.sock is None:  # urllib3 goes on after a reset, for there may be an answer: not if it never connected
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        _limits.phase = _limits.deadline.within(_limits.read)
        _hold(self, self.sock)
        return super().getresponse()


class TimedHTTPConnection(_Timed, HTTPConnection):
    """A plain connection under the thread's deadline."""


class TimedHTTPSConnection(_Timed, HTTPSConnection):
    """A TLS connection under the thread's deadline."""


def connect_any(
    host: str,
    port: int,
    deadline: Deadline,
    *,
    source_address: tuple[str, int] | None = None,
    options: Any = (),
) -> socket.socket:
    """Connect to the first address of a host that answers; the time left is shared among those left.

    Name resolution itself cannot be limited: the system's resolver has its own time-outs.

    Raises:
        OSError: No address answered (the last one's error), or the name has none (``socket.gaierror``).
    """
    # Looked up at the call: programs that want IPv4 alone replace it there.
    family = urllib3.util.connection.allowed_gai_family()
    try:
        addresses = socket.getaddrinfo(host.strip("[]"), port, family, socket.SOCK_STREAM)
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None
    failure = OSError("the name has no address")
    for left, (family_, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        remaining = deadline.remaining()
        if remaining is not None and remaining <= 0:
            failure = TimeoutError("timed out")
            break
        try:
            sock = socket.socket(family_, kind, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            for option in options:
                sock.setsockopt(*option)
            sock.settimeout(None if remaining is None else remaining / left)
            if source_address:
                sock.bind(source_address)
            with holding(sock):
                sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    try:
        raise failure
    finally:
        del failure  # it holds this frame, which holds it


def socks_classes() -> tuple[type[Any], type[Any]]:
    """The plain and the TLS connection through a SOCKS proxy, under the thread's deadline.

    Raises:
        ImportError: Their dependency (PySocks) is not installed.
    """
    if importlib.util.find_spec("socks") is None:  # urllib3 would warn first, and fail then
        raise ImportError("PySocks is not installed")
    from urllib3.contrib.socks import SOCKSConnection, SOCKSHTTPSConnection

    class _Connected:
        def _connected(self) -> socket.socket:
            self.timeout = _limits.phase.remaining()
            return super(_Timed, self)._new_conn()  # type: ignore[misc, no-any-return] # SOCKSConnection's

    class TimedSOCKSConnection(_Connected, _Timed, SOCKSConnection):
        pass

    class TimedSOCKSHTTPSConnection(_Connected, _Timed, SOCKSHTTPSConnection):
        pass

    return TimedSOCKSConnection, TimedSOCKSHTTPSConnection


def _pools(plain: type[Any], tls: type[Any]) -> dict[str, type[Any]]:
    """The pools that make these connections, by scheme."""
    return {
        "http": type("TimedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("TimedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": tls}),
    }


_POOLS = _pools(TimedHTTPConnection, TimedHTTPSConnection)


class DeadlineAdapter(HTTPAdapter):
    """requests' adapter: no retries (the policy decides on those), one shared TLS context, the thread's deadline."""

    def __init__(self) -> None:
        super().__init__(pool_maxsize=_POOL_SIZE, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools, of our connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make the pools of a proxy, of our connections."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        socks = proxy.lower().startswith("socks")
        manager.pool_classes_by_scheme = _pools(*socks_classes()) if socks else _POOLS
        return manager

    def get_connection_with_tls_context(
        self, request: PreparedRequest, verify: Any, proxies: Mapping[str, str] | None = None, cert: Any = None
    ) -> Any:
        """The pool for a request."""
        proxy = select_proxy(request.url or "", dict(proxies or {}))
        if proxy and proxy.lower().startswith("https:"):
            # requests makes the manager below without a context, and urllib3 then trusts the system's CAs.
            self.proxy_manager_for(proxy, proxy_ssl_context=ssl_context(verify))
        return super().get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)

    def build_connection_pool_key_attributes(
        self, request: PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        """What tells pools apart: scheme, host, port and the TLS context."""
        host, _ = super().build_connection_pool_key_attributes(request, True)
        return host, ({"ssl_context": ssl_context(verify, cert)} if host["scheme"] == "https" else {})

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing: the context has it all, and files named here would be loaded again for each connection."""
