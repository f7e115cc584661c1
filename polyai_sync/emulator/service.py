"""The service on the loop's thread: every request that arrives, and all sessions."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

from aiohttp import web

from polyai_sync.emulator.rest import (
    ROUTES,
    LoggedRequest,
    Refusal,
    answer_fault,
    bearer,
    check_connector,
    json_answer,
    refuse,
    session_settings,
)
from polyai_sync.emulator.session import Rules, Session
from polyai_sync.emulator.sockets import Connection, serve_socket
from polyai_sync.emulator.tokens import TokenMint

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from polyai_sync.emulator.faults import Fault, Faults

__all__ = ["Service"]

_FEW = 64
_NO_TOKEN = {"token_type": "Bearer"}


class _Server(web.Server):
    """Tells of every connection, also of one that nothing is ever asked on."""

    def __init__(self, handler: Callable[..., Any], made: Callable[[asyncio.Transport], None]) -> None:
        super().__init__(handler, access_log=None)
        self._made = made

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._made(transport)


class Service:
    """Answers requests; used on the loop's thread alone, but for the lists that others copy."""

    def __init__(
        self, rules: Rules, connectors: Mapping[str, str | None], token_lifetime: float, base_path: str
    ) -> None:
        self.rules = rules
        self.connectors = connectors
        self.base_path = base_path
        self.mint = TokenMint(token_lifetime)
        self.sessions: dict[str, Session] = {}
        self.log: list[LoggedRequest] = []
        self._stopping = asyncio.Event()
        self._transports: dict[asyncio.Transport, Any] = {}  # with their sockets
        self._look_through_at = _FEW

    @property
    def faults(self) -> Faults:
        """What will go wrong."""
        return self.rules.faults

    async def run(self, listener: socket.socket, tls: ssl.SSLContext | None, ready: Callable[[], None]) -> None:
        """Serve until `stop`."""
        runner = web.ServerRunner(_Server(self.handle, self._remember), shutdown_timeout=0.05)
        await runner.setup()
        try:
            await web.SockSite(runner, listener, ssl_context=tls).start()
            ready()
            await self._stopping.wait()
        finally:
            # No more are accepted, and who just was gets its transport: asyncio leaks it where the server has closed.
            asyncio.get_running_loop().remove_reader(listener)
            await asyncio.sleep(0)
            for session in self.sessions.values():
                session.shut_down()
            await runner.cleanup()
            await self._abort_all()

    async def _abort_all(self) -> None:
        """Leave no transport behind: TLS would wait half a minute for the peer's goodbye."""
        for transport, sock in self._transports.items():
            transport.abort()
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # one that was closed twice by now is deaf to an abort
        for _ in range(100):
            if all(sock.fileno() < 0 for sock in self._transports.values()):
                return
            await asyncio.sleep(0.002)

    def stop(self) -> None:
        """Let `run` come to its end."""
        self._stopping.set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, by its path."""
        path = request.path
        if not path.startswith(self.base_path):
            return self._logged(request, "", refuse(request, 404, "404 page not found"))
        method, surface = ROUTES.get(path.removeprefix(self.base_path), ("", ""))
        if not surface:
            return self._logged(request, "", refuse(request, 404, "404 page not found"))
        if request.method != method:
            return self._logged(request, surface, refuse(request, 405, "Method Not Allowed"))
        fault = self.faults.take(surface, request.query.get("session_id"))
        if fault is not None:
            answer = await answer_fault(request, fault, self._stopping)
            if answer is not None:
                return self._logged(request, surface, answer, fault)
        try:
            if surface == "connect":
                return await self._connect(request)
            answer = await (self._access_token if surface == "access_token" else self._session)(request)
        except Refusal as refusal:
            answer = refuse(request, refusal.status, refusal.text, headers=refusal.headers)
        return self._logged(request, surface, answer)

    def _remember(self, transport: asyncio.Transport) -> None:
        """Keep what must be closed at the stop; Python 3.10 takes a TLS transport for closed only if we closed it."""
        self._transports[transport] = transport.get_extra_info("socket")
        if len(self._transports) >= self._look_through_at:
            for one in self._transports:
                if one.is_closing():
                    one.abort()
            self._transports = {one: sock for one, sock in self._transports.items() if sock.fileno() >= 0}
            self._look_through_at = max(_FEW, 2 * len(self._transports))

    def _logged(
        self, request: web.BaseRequest, surface: str, answer: web.Response, fault: Fault | None = None
    ) -> web.Response:
        unanswered = fault is not None and fault.name in ("http.no_answer", "http.hang")
        self.log.append(LoggedRequest.of(request, surface, None if unanswered else answer.status))
        return answer

    async def _access_token(self, request: web.BaseRequest) -> web.Response:
        check_connector(request, self.connectors)
        taken = self.faults.take_all("access_token")
        if "token.not_json" in taken:
            return web.Response(text="<html>Welcome</html>", content_type="text/html")
        if "token.missing" in taken:
            return json_answer(request, _NO_TOKEN)
        token = self.mint.mint(taken)
        names = ("accessToken", "expiresIn") if "token.camel_case" in taken else ("access_token", "expires_in")
        answer: dict[str, Any] = {names[0]: token, names[1]: self.mint.lifetime, **_NO_TOKEN}
        if "token.no_lifetime" in taken:
            del answer[names[1]]
        return json_answer(request, answer)

    async def _session(self, request: web.BaseRequest) -> web.Response:
        token = bearer(request)
        if not self.mint.valid(token):
            raise Refusal("session_create.invalid_token")
        settings = session_settings(await request.read())
        taken = self.faults.take_all("session_create")
        if "session_create.not_json" in taken:
            return web.Response(text="<html>Welcome</html>", content_type="text/html")
        if "session_create.no_id" in taken:
            return json_answer(request, {})
        session = Session(self.rules, token, settings)
        self.sessions[session.id] = session
        name = "session_id"
        if "session_create.camel_case" in taken:
            name = "sessionId"
        elif "session_create.id_only" in taken:
            name = "id"
        return json_answer(request, {name: session.id})

    def _let_in(self, request: web.BaseRequest) -> Session:
        session_id, token = request.query.get("session_id"), request.query.get("access_token")
        if not session_id or not token:
            raise Refusal("connect.invalid_parameters")
        if not self.mint.valid(token):
            raise Refusal("connect.authentication_failed")
        session = self.sessions.get(session_id)
        if session is None or session.gone:
            raise Refusal("connect.session_not_found")
        if session.access_token != token:
            raise Refusal("connect.authentication_failed")
        if len(session.connections) + session.arriving >= self.rules.max_connections:
            raise Refusal("connect.too_many_connections", headers={"Retry-After": "1"})
        return session

    async def _connect(self, request: web.BaseRequest) -> web.StreamResponse:
        session = self._let_in(request)
        limit = self.rules.max_message_size
        response = web.WebSocketResponse(
            autoclose=False, compress=False, timeout=1.0, max_msg_size=limit + 4096  # the exact limit is ours to judge
        )  # fmt: skip
        if not response.can_prepare(request).ok:
            return self._logged(request, "connect", refuse(request, 426, "Upgrade Required"))
        session.arriving += 1
        self.log.append(LoggedRequest.of(request, "connect", 101))
        try:
            await response.prepare(request)
        finally:
            session.arriving -= 1
        transport = request.transport
        if transport is None:
            return response
        connection = Connection(transport, _cursor(request.query.get("cursor", "")))
        try:
            session.connect(connection)
            await serve_socket(session, response, connection, limit)
        finally:
            session.disconnect(connection)
        return response


def _cursor(value: str) -> int:
    """A cursor that is no number replays everything (errors.md); ``seq:<n>`` is the older spelling."""
    digits = value.removeprefix("seq:")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else 0
