"""What went wrong on the network, in one sentence that says what to do.

The exceptions of ``requests`` and ``urllib3`` hold the request, and with it the tokens in its headers; so do their
tracebacks. What leaves the transport holds neither: a sentence, and as ``__cause__`` a bare copy of the innermost
``OSError``.
"""

from __future__ import annotations

import copy
import errno
import http.client
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

from polyai_sync.errors import ConfigurationError, ConnectionFailedError, PolyAIError, ProtocolError

__all__ = ["address", "bare", "innermost", "network_error"]

_NAME_MISMATCH: Final = "its certificate is for another name", "check the base URL, and who answers there."
_UNKNOWN_CA: Final = (
    "its certificate comes from an authority that is not trusted",
    "where a company's proxy inspects TLS, name its CA bundle in REQUESTS_CA_BUNDLE.",
)

#: OpenSSL's verification codes (X509_V_ERR_…): what they mean to a person, and what to do.
_CERTIFICATES: Final[dict[int, tuple[str, str]]] = {
    9: ("its certificate is not valid yet", "check this machine's clock."),
    10: ("its certificate has expired", "check this machine's clock, or tell whoever runs the server."),
    18: _UNKNOWN_CA,
    19: _UNKNOWN_CA,
    20: _UNKNOWN_CA,
    21: _UNKNOWN_CA,
    62: _NAME_MISMATCH,
    64: _NAME_MISMATCH,
}

_TOO_MANY_FILES: Final = {errno.EMFILE: "this process", errno.ENFILE: "the system"}

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_TUNNEL_FAILED: Final = "Tunnel connection failed: "


def network_error(
    error: BaseException, *, surface: str, where: str, proxy: str | None = None, waited: float | None = None
) -> PolyAIError:
    """The error to raise for a failure below HTTP.

    Args:
        error: What was caught, from ``requests``, ``urllib3``, ``http.client``, ``ssl`` or ``socket``.
        surface: The leg.
        where: ``host:port`` of the server.
        proxy: ``host:port`` of the proxy on the way, or ``None``.
        waited: The seconds that it took to fail, told where the time was up.

    Returns:
        A `ConnectionFailedError`; a `ProtocolError` where something answered that is no HTTP; a `ConfigurationError`
        where a setting makes the request impossible. ``__cause__`` is set.
    """
    chain = _chain(error)
    own = next((link for link in chain if isinstance(link, PolyAIError)), None)
    if own is not None:
        return own.with_traceback(None)
    inner = innermost(error)
    setting = next(
        ((what, fix) for kind, what, fix in _SETTINGS if any(isinstance(link, kind) for link in chain)), None
    )
    found: PolyAIError
    if setting:
        found = ConfigurationError(_sentence(*setting), resolution=setting[1], surface=surface)
    elif any(isinstance(link, http.client.HTTPException) and not isinstance(link, OSError) for link in chain):
        way = f" (by the proxy {proxy})" if proxy else ""
        found = ProtocolError(f"What answered at {where}{way} does not speak HTTP", surface=surface)
    else:
        if proxy and any(isinstance(link, _AT_PROXY) for link in chain):
            where = f"the proxy {proxy}"
        what, fix = _told(inner or error, where=where, proxy=proxy, waited=waited)
        found = ConnectionFailedError(_sentence(what, fix), resolution=fix, surface=surface)
    found.__cause__ = bare(inner)
    return found


_AT_PROXY: Final = urllib3.exceptions.ProxyError, requests.exceptions.ProxyError

#: What a setting of the caller's makes impossible. The exceptions' own texts may quote header values and passwords.
_SETTINGS: Final[tuple[tuple[type[BaseException], str, str], ...]] = (
    (
        requests.exceptions.InvalidProxyURL,
        "The proxy URL is malformed",
        "look at HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and the requests session's proxies.",
    ),
    (
        urllib3.exceptions.ProxySchemeUnknown,
        "The proxy URL has a scheme that is not supported",
        "look at HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and the requests session's proxies.",
    ),
    (ImportError, "A SOCKS proxy needs a package that is missing", "pip install PySocks."),
    (
        requests.exceptions.InvalidSchema,
        "There is no adapter for this URL or its proxy",
        "pip install PySocks for a SOCKS proxy, or mount an adapter on the requests session.",
    ),
    (
        requests.exceptions.InvalidHeader,
        "A header of the requests session cannot be sent",
        "look at the headers of the session passed in as http.",
    ),
    (requests.exceptions.InvalidURL, "The base URL or the proxy URL is malformed", "look at base_url and HTTPS_PROXY."),
)


def _sentence(what: str, fix: str) -> str:
    return f"{what}: {fix}"


def _told(error: BaseException, *, where: str, proxy: str | None, waited: float | None) -> tuple[str, str]:
    """What happened, and what to do."""
    text = str(error)
    if _TUNNEL_FAILED in text:
        answer = text.partition(_TUNNEL_FAILED)[2]
        return f"The proxy {proxy} would not connect to {where} ({answer})", "check its URL, user and password."
    if isinstance(error, socket.gaierror):
        return f"Could not resolve the host name of {where}", "check its spelling, and this machine's DNS and network."
    if isinstance(error, ssl.SSLCertVerificationError):
        why, fix = _CERTIFICATES.get(error.verify_code, (error.verify_message, "check who answers there."))
        return f"Could not trust {where}, {why}", fix
    if isinstance(error, TimeoutError) or "timed out" in text:
        time = "" if waited is None else f" (waited {waited:.3g} s)"
        return f"Timed out without an answer from {where}{time}", "check the network, or allow more time."
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        why = (error.reason or "no reason given").lower().replace("_", " ")
        fix = "check the client certificate." if "certificate" in why else "check that it speaks TLS on this port."
        return f"The TLS handshake with {where} failed ({why})", fix
    if isinstance(error, ConnectionRefusedError):
        return f"The connection was refused by {where}", "check host and port, and that the server is running."
    if isinstance(error, (ConnectionError, ssl.SSLError)):
        return f"The connection to {where} was closed before an answer came", "try again."
    if isinstance(error, OSError) and (whose := _TOO_MANY_FILES.get(error.errno or 0)):
        fix = "close sessions, or allow more descriptors (ulimit -n)."
        return f"Could not reach {where}, since {whose} has too many open files", fix
    why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return f"Could not reach {where} ({why})", "check this machine's network."


def address(url: str | None) -> str | None:
    """``host:port`` of a URL, for people; nothing of its user, path or query."""
    if not url:
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        port = None
    return f"{parts.hostname}:{port}" if port else str(parts.hostname)


def innermost(error: BaseException) -> OSError | None:
    """The ``OSError`` at the bottom of a chain of wrapped exceptions, or ``None``."""
    found = [link for link in _chain(error) if isinstance(link, OSError)]
    found = [link for link in found if not isinstance(link, requests.RequestException)]
    return found[-1] if found else None


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and those inside it, outermost first: by cause, context, ``reason`` and arguments."""
    seen: list[BaseException] = []
    todo: list[object] = [error]
    while todo and len(seen) < 32:
        link = todo.pop(0)
        if isinstance(link, BaseException) and not any(link is other for other in seen):
            seen.append(link)
            todo += [link.__cause__ or link.__context__, getattr(link, "reason", None), *link.args]
    return seen


def bare(error: OSError | None) -> OSError | None:
    """A copy without traceback, cause and context: their frames hold the request."""
    if error is None:
        return None
    fresh = copy.copy(error)
    fresh.__cause__ = fresh.__context__ = fresh.__traceback__ = None
    return fresh
