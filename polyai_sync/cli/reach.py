"""Can the service be reached? Names, TCP and TLS, on the way that the client itself takes."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from requests.utils import select_proxy

from polyai_sync.cli.text import one_line
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.dial import Dialer
from polyai_sync.transport.failures import address, network_error

if TYPE_CHECKING:
    from polyai_sync.config import Settings
    from polyai_sync.transport.http import HttpTransport

__all__ = ["Way"]

_PORTS: Final = {"http": 80, "https": 443}
_SHOWN: Final = 3
"""Addresses of a name that are shown."""


class Way:
    """The way to a service, perhaps through a proxy, as the client finds it for the same settings.

    Attributes:
        proxy: ``host:port`` of the proxy, or ``None``.
        bundle: The CA bundle that replaces requests' own, or ``None``.
    """

    def __init__(self, settings: Settings, http: HttpTransport) -> None:
        self._settings = settings
        self._dialer = Dialer(settings, http)
        environment = http.environment(settings.base_url)
        proxy = select_proxy(settings.base_url, environment["proxies"]) or None
        self.proxy = address(proxy)
        self.bundle = one_line(os.fspath(environment["verify"])) if isinstance(environment["verify"], str) else None
        parts = urlsplit(settings.base_url)
        self._where = f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        if proxy is not None:
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            host, port = parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80)
        self._next = host, port
        self._found: list[Any] = []

    @property
    def is_secure(self) -> bool:
        """Is there TLS?"""
        return self._settings.base_url.startswith("https:")

    def resolve(self) -> str:
        """Look the name up.

        Raises:
            ConnectionFailedError: It has no address.
        """
        found, failed = self._found, list[OSError]()

        def look_up() -> None:
            try:
                found.extend(socket.getaddrinfo(*self._next, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                failed.append(error if isinstance(error, OSError) else socket.gaierror(str(error)))

        # In a thread: the resolver has time-outs of its own, and Ctrl-C would wait for them.
        started = time.monotonic()
        thread = threading.Thread(target=look_up, name="polyai-doctor-dns", daemon=True)
        thread.start()
        thread.join(self._settings.timeouts.connect)
        if not found:
            self._fail(failed[0] if failed else TimeoutError("timed out"), started)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        more = f" and {len(addresses) - _SHOWN} more" if len(addresses) > _SHOWN else ""
        return f"{self._next[0]} is {', '.join(addresses[:_SHOWN])}{more}"

    def connect(self) -> str:
        """Open a TCP connection to the first address that takes one, and close it.

        Raises:
            ConnectionFailedError: None does.
        """
        started = time.monotonic()
        try:
            with socket.create_connection(self._next, timeout=self._settings.timeouts.connect) as connection:
                peer = connection.getpeername()
        except OSError as error:
            self._fail(error, started)
        return f"{f'[{peer[0]}]' if ':' in peer[0] else peer[0]} port {peer[1]}{' (the proxy)' if self.proxy else ''}"

    def secure(self) -> str:
        """Open a TLS connection to the service as the client does, through the proxy where there is one.

        Raises:
            ConnectionFailedError: There is none to be had.
            ConfigurationError: A CA bundle, certificate or proxy setting cannot be used.
        """
        dialled = self._dialer.dial(Deadline.after(self._settings.timeouts.connect))
        with contextlib.closing(dialled):
            certificate = dialled.sock.getpeercert() or {}
            version = dialled.sock.version()
        names = [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
        subject = _field(certificate.get("subject", ()), "commonName") or ", ".join(names[:1])
        issuer = _field(certificate.get("issuer", ()), "organizationName", "commonName")
        told = [str(version)]
        if subject:
            told.append(f"certificate of {subject}" + (f" from {issuer}" if issuer else ""))
        if expiry := certificate.get("notAfter"):
            told.append(f"valid until {expiry}")
        return one_line(", ".join(told))

    def _fail(self, error: OSError, started: float) -> Any:
        where = f"the proxy {self.proxy}" if self.proxy else self._where
        waited = time.monotonic() - started
        raise network_error(error, surface="connect", where=where, waited=waited) from None


def _field(name: Any, *wanted: str) -> str:
    fields = {key: value for part in name for key, value in part}
    return next((str(fields[key]) for key in wanted if key in fields), "")
