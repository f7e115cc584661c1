"""Opening the connection that a WebSocket will use, before there is anything secret to send over it.

The dial runs while the REST calls are still under way, so that the time to the greeting is the sum of the round trips
that truly depend on each other. Proxies, CA bundle and client certificate are those that requests finds for the same
host, so that one configuration serves both legs (``pitfalls.md`` 36).
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlsplit

import urllib3
from attrs import frozen
from requests.utils import get_auth_from_url, select_proxy
from urllib3.connection import ProxyConfig

from polyai_sync.errors import ConfigurationError, PolyAIError
from polyai_sync.transport.failures import address, network_error
from polyai_sync.transport.timed import TimedHTTPConnection, TimedHTTPSConnection, limits, socks_classes
from polyai_sync.transport.trust import ssl_context
from polyai_sync.transport.waker import wait_readable

if TYPE_CHECKING:
    from polyai_sync.config import Settings
    from polyai_sync.transport.deadline import Deadline
    from polyai_sync.transport.http import HttpTransport

__all__ = ["FRESH", "Dialer", "Dialled", "WebSocketOptions"]

#: Seconds for which a connection that nothing was sent on is as good as new; servers close silent ones.
FRESH: Final = 5.0

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[ -~\t]*")

#: Headers that the handshake itself is made of.
_RESERVED: Final = re.compile(
    "host|connection|upgrade|content-length|transfer-encoding|sec-websocket-.*", re.IGNORECASE
)


@frozen
class WebSocketOptions:
    """What ``Client(websocket_options=…)`` may say; everything else the settings and the requests session do.

    Attributes:
        sockopt: Arguments of ``socket.setsockopt``, one tuple each.
        header: Further headers of the handshake, as ``name: value``.
    """

    sockopt: tuple[tuple[Any, ...], ...] = ()
    header: tuple[str, ...] = ()

    @classmethod
    def check(cls, options: object) -> WebSocketOptions:
        """Read what was given.

        Raises:
            ConfigurationError: An unknown option, a socket option that is none, a header that is malformed or
                belongs to the handshake.
        """
        options = {} if options is None else options
        if not isinstance(options, Mapping):
            _refuse("is not a mapping", "give a dict with sockopt and header.")
        left = dict(options)
        sockopt, header = left.pop("sockopt", None) or (), left.pop("header", None) or ()
        if left:
            names = ", ".join(map(str, left))
            _refuse(f"has what is not supported ({names})", "only sockopt and header are; Client has the rest.")
        if not isinstance(sockopt, (list, tuple)) or not all(map(_is_socket_option, sockopt)):
            _refuse("sockopt is malformed", "give tuples such as (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1).")
        if isinstance(header, Mapping):
            header = [f"{name}: {value}" for name, value in header.items() if value is not None]
        for line in header if isinstance(header, (list, tuple)) else [header]:
            name, colon, value = line.partition(":") if isinstance(line, str) else ("", "", "")
            if not colon or not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                _refuse("header is malformed", "give a mapping, or lines such as 'X-Trace: 1'.")
            if _RESERVED.fullmatch(name):
                _refuse(f"header names {name}, which the handshake sets", "leave it out.")
        header = [header] if isinstance(header, str) else header
        return cls(tuple(tuple(item) for item in sockopt), tuple(header))


def _is_socket_option(item: object) -> bool:
    return (
        isinstance(item, (list, tuple))
        and len(item) in (3, 4)
        and all(isinstance(part, int) for part in item[:2])
        and isinstance(item[2], (int, bytes, type(None)))
    )


def _refuse(problem: str, fix: str) -> NoReturn:
    raise ConfigurationError(f"websocket_options {problem}: {fix}", resolution=fix)


class Dialer:
    """Opens connections to the service.

    Args:
        settings: Where to.
        http: Knows proxies and certificates.
        websocket_options: See `WebSocketOptions`.

    Attributes:
        headers: The handshake's further headers, for ``open_websocket``.

    Raises:
        ConfigurationError: The options are malformed.
    """

    def __init__(
        self, settings: Settings, http: HttpTransport, *, websocket_options: Mapping[str, Any] | None = None
    ) -> None:
        self._settings = settings
        self._http = http
        self._options = WebSocketOptions.check(websocket_options)
        self.headers = self._options.header

    def dial(self, deadline: Deadline) -> Dialled:
        """Open one: TCP, the proxy's CONNECT where there is one, TLS. No token is sent.

        Args:
            deadline: For all of it; `Timeouts.connect` counts too.

        Raises:
            ConnectionFailedError: It could not be opened; the message says why.
            ConfigurationError: A CA bundle, certificate or proxy setting cannot be used.
        """
        made = self._dialled(deadline)
        if isinstance(made, PolyAIError):
            raise made
        return made

    def _dialled(self, deadline: Deadline) -> Dialled | PolyAIError:
        """The error is returned, so that no frame which knows a proxy's password is in its traceback."""
        url = self._settings.base_url
        started = time.monotonic()
        proxy: str | None = None
        try:
            environment = self._http.environment(url)
            proxy = select_proxy(url, environment["proxies"]) or None
            if deadline.expired():
                raise TimeoutError("timed out")
            with limits(deadline, connect=self._settings.timeouts.connect, read=self._settings.timeouts.connect):
                sock = self._open(url, proxy, environment["verify"], environment["cert"])
            return Dialled(sock, took=time.monotonic() - started)
        # HTTPException: what a proxy answers may be no HTTP. ImportError: a SOCKS proxy needs a package.
        except (OSError, urllib3.exceptions.HTTPError, HTTPException, ValueError, ImportError) as error:
            return network_error(
                error,
                surface="connect",
                where=str(address(url)),
                proxy=address(proxy),
                waited=time.monotonic() - started,
            )

    def _open(self, url: str, proxy: str | None, verify: Any, cert: Any) -> Any:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        options: dict[str, Any] = {"socket_options": list(self._options.sockopt)}
        if secure:
            options["ssl_context"] = ssl_context(verify, cert)
        host, port = str(parts.hostname), parts.port or (443 if secure else 80)
        if proxy is None:
            connection = (TimedHTTPSConnection if secure else TimedHTTPConnection)(host, port, **options)
        else:
            proxy = proxy if "://" in proxy else f"http://{proxy}"
            if proxy.lower().startswith("socks"):
                connection = _through_socks(proxy, host, port, secure=secure, options=options)
            else:
                connection = self._through_proxy(proxy, url, host, port, secure=secure, verify=verify, options=options)
        try:
            connection.connect()
        except BaseException as error:
            at_proxy = connection.proxy is not None and not connection.has_connected_to_proxy
            connection.close()
            if at_proxy and isinstance(error, Exception):
                raise urllib3.exceptions.ProxyError("", error) from error
            raise
        sock, connection.sock = connection.sock, None  # ours now: the connection would close it
        return sock

    def _through_proxy(
        self, proxy: str, url: str, host: str, port: int, *, secure: bool, verify: Any, options: dict[str, Any]
    ) -> Any:
        parsed = urllib3.util.parse_url(proxy)
        if not parsed.host or parsed.scheme not in ("http", "https"):
            raise urllib3.exceptions.ProxySchemeUnknown(parsed.scheme)
        if parsed.scheme == "https":
            if not secure:
                fix = "add this machine to NO_PROXY."
                raise ConfigurationError(f"An https proxy cannot lead to an http base URL: {fix}", resolution=fix)
            options["proxy_config"] = ProxyConfig(ssl_context(verify), False, None, None)
        proxy_port = parsed.port or (443 if parsed.scheme == "https" else 80)
        class_ = TimedHTTPSConnection if secure else TimedHTTPConnection
        connection = class_(parsed.host, proxy_port, proxy=parsed, **options)
        # CONNECT also where the target speaks no TLS: a proxy that forwards requests one by one passes no upgrade on.
        connection.set_tunnel(host, port, self._http.proxy_headers(url, proxy), scheme=parsed.scheme or "http")
        return connection


def _through_socks(proxy: str, host: str, port: int, *, secure: bool, options: dict[str, Any]) -> Any:
    plain, tls = socks_classes()
    parts = urlsplit(proxy)
    username, password = get_auth_from_url(proxy)
    version = 1 if parts.scheme.lower().startswith("socks4") else 2  # PySocks' PROXY_TYPE_SOCKS4 and _SOCKS5
    chosen = {
        "socks_version": version,
        "proxy_host": parts.hostname,
        "proxy_port": parts.port or 1080,
        "username": username or None,
        "password": password or None,
        "rdns": parts.scheme.lower() in ("socks4a", "socks5h"),  # does the proxy resolve the name?
    }
    return (tls if secure else plain)(chosen, host, port, **options)


class Dialled:
    """An open connection that nothing has been sent on.

    Attributes:
        sock: The socket: plain, TLS, or urllib3's TLS inside TLS.
        took: Seconds that it took to open; they count against `Timeouts.connect` together with the handshake's.
    """

    def __init__(self, sock: Any, *, took: float = 0.0) -> None:
        self.sock = sock
        self.took = took
        self._since = time.monotonic()

    def age(self) -> float:
        """Seconds since it was opened."""
        return time.monotonic() - self._since

    def fresh(self) -> bool:
        """Is it young and still open, so that a handshake may be sent on it?"""
        return self.age() < FRESH and not self._spoken_to()

    def close(self) -> None:
        """Close it. Nothing is said to the peer: nothing was said before."""
        self.sock.close()

    def cut(self) -> None:
        """End it while another thread uses it: that one comes back from its wait, and closes it.

        Closing it here would give its descriptor's number away under that thread's feet.
        """
        sock = self.sock if isinstance(self.sock, socket.socket) else self.sock.socket
        try:
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            return  # it has gone already

    def _spoken_to(self) -> bool:
        """Has the peer closed it, or said something, which no HTTP server does unasked?"""
        try:
            if not wait_readable([self.sock.fileno()], 0):
                return False
            if isinstance(self.sock, socket.socket) and not isinstance(self.sock, ssl.SSLSocket):
                return True
            # TLS 1.3 sends its session tickets after the handshake: read them, and see what is behind.
            self.sock.settimeout(0)
            self.sock.recv(1)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return False
        except (OSError, ValueError):
            return True
        return True
