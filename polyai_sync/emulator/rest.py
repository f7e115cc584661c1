"""The HTTP answers: access tokens, sessions, and whether a handshake is let in (protocol.md §2 and §3, errors.md)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web
from attrs import frozen

from polyai_sync.emulator.fault_table import FAULT_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from polyai_sync.emulator.faults import Fault

__all__ = ["ROUTES", "LoggedRequest", "Refusal", "answer_fault", "bearer", "check_connector", "json_answer", "refuse"]

ROUTES: Mapping[str, tuple[str, str]] = {
    "/api/v1/access-token": ("POST", "access_token"),
    "/api/v1/sessions": ("POST", "session_create"),
    "/ws": ("GET", "connect"),
}
"""Path -> (method, surface)."""

_CORRELATION = "X-PolyAI-Correlation-Id"
_SECRET_HEADERS = frozenset({"x-token", "authorization", "cookie", "proxy-authorization"})
_SHAPES: Mapping[str, Callable[[str], Any]] = {
    "error": lambda text: {"error": text},
    "message": lambda text: {"message": text},
    "detail": lambda text: {"detail": text},
    "error_message": lambda text: {"error_message": text},
    "nested": lambda text: {"error": {"message": text, "code": 7}},
    "text": lambda text: text,
}


@frozen(kw_only=True)
class LoggedRequest:
    """One HTTP request or handshake, as the emulator saw it; secrets are masked.

    Attributes:
        method: ``GET`` or ``POST``.
        path: Without the query.
        query: The query's parameters.
        headers: The headers.
        status: What it was answered with (101 = a WebSocket); ``None`` = no answer.
        surface: ``access_token``, ``session_create``, ``connect``, or empty for any other path.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int | None
    surface: str

    @classmethod
    def of(cls, request: web.BaseRequest, surface: str, status: int | None) -> LoggedRequest:
        """What may be kept of a request."""
        query = {name: "***" if name in ("access_token", "token") else value for name, value in request.query.items()}
        headers = {name: "***" if name.lower() in _SECRET_HEADERS else value for name, value in request.headers.items()}
        return cls(
            method=request.method, path=request.path, query=query, headers=headers, status=status, surface=surface
        )

    @property
    def correlation_id(self) -> str | None:
        """The client's ``X-Polyai-Correlation-Id``."""
        return next((value for name, value in self.headers.items() if name.lower() == _CORRELATION.lower()), None)


class Refusal(Exception):  # noqa: N818 - an answer, not a failure of ours
    """A request is answered with a row of errors.md."""

    def __init__(self, name: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(name)
        row = FAULT_TABLE[name]
        self.status = row.status or 500
        self.text = row.text or ""
        self.headers = dict(headers or {})


def json_answer(request: web.BaseRequest, value: Any, status: int = 200, **headers: str) -> web.Response:
    """An answer in JSON, under the request's correlation id."""
    correlation = request.headers.get(_CORRELATION) or str(uuid.uuid4())
    return web.json_response(value, status=status, headers={_CORRELATION: correlation, **headers})


def refuse(
    request: web.BaseRequest, status: int, text: str, *, shape: str = "error", headers: Mapping[str, str] | None = None
) -> web.Response:
    """A refusal with its text somewhere in the body; nobody has published where."""
    body = _SHAPES[shape](text)
    if isinstance(body, str):
        answer = web.Response(status=status, text=body)
        answer.headers[_CORRELATION] = request.headers.get(_CORRELATION) or str(uuid.uuid4())
        answer.headers.update(headers or {})
        return answer
    return json_answer(request, body, status, **dict(headers or {}))


async def answer_fault(request: web.BaseRequest, fault: Fault, stopping: asyncio.Event) -> web.Response | None:
    """What a fault answers instead of the service; ``None`` where the request is to be served after all."""
    options = fault.options
    if fault.name == "http.no_answer":
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)  # nobody is left to read it
    if options["delay"]:
        with contextlib.suppress(asyncio.TimeoutError):  # its own class before 3.11
            await asyncio.wait_for(stopping.wait(), options["delay"])
    if fault.name == "http.slow":
        return None
    if fault.name == "http.hang":
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)
    headers = {name: str(value) for name, value in (options["headers"] or {}).items()}
    if options["retry_after"] is not None:
        headers["Retry-After"] = str(options["retry_after"])
    if fault.name == "http.redirected":
        headers["Location"] = options["location"] or "/elsewhere"
    status = options["status"] or fault.row.status or 500
    body = options["body"]
    if fault.name == "http.huge_body":
        body = "x" * options["size"]
    if body is None:
        return refuse(request, status, options["text"] or fault.row.text or "", shape=options["shape"], headers=headers)
    if isinstance(body, bytes):
        return web.Response(status=status, body=body, headers=headers)
    if isinstance(body, str):
        return web.Response(status=status, text=body, headers=headers)
    return json_answer(request, body, status, **headers)


def check_connector(request: web.BaseRequest, connectors: Mapping[str, str | None]) -> None:
    """May this connector token be used from this host? Raises the `Refusal` that says why not."""
    token, host = request.headers.get("X-Token", ""), request.headers.get("X-Host", "")
    if not token or not host:
        raise Refusal("access_token.missing_headers")
    if token not in connectors:
        raise Refusal("access_token.unknown_connector")
    domain = connectors[token]
    if not domain:
        raise Refusal("access_token.no_host_domain")
    given, registered = _host(host), _host(domain)
    if given != registered and not given.endswith("." + registered):
        raise Refusal("access_token.host_mismatch")


def _host(value: str) -> str:
    """The bare name in a domain, an origin or an app's namespace."""
    name = value.strip().lower().partition("://")[2] or value.strip().lower()
    name = name.partition("/")[0]
    return name if name.startswith("[") else name.partition(":")[0]


def bearer(request: web.BaseRequest) -> str:
    """The token of the ``Authorization`` header."""
    value = request.headers.get("Authorization")
    if value is None:
        raise Refusal("session_create.missing_token")
    scheme, _, token = value.partition(" ")
    if scheme != "Bearer" or not token.strip():
        raise Refusal("session_create.malformed_authorization")
    return token.strip()


def session_settings(body: bytes) -> dict[str, Any]:
    """The body of a session's creation, which may be left out."""
    if not body.strip():
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal("session_create.malformed_body") from None
    fields = {"streaming_enabled": bool, "platform": str, "device_type": str}
    if not isinstance(value, dict) or any(
        not isinstance(value[name], kind) for name, kind in fields.items() if value.get(name) is not None
    ):
        raise Refusal("session_create.malformed_body")
    return value
