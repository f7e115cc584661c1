"""The session's socket: dialled, shaken hands on, made the session's, renewed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from polyai_sync.engine import Engine, Stopped
from polyai_sync.errors import PolyAIError
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.websocket import WebSocketConnection, open_websocket

if TYPE_CHECKING:
    from polyai_sync.transport.dial import Dialled

__all__ = ["Connector"]

RENEW_AFTER: Final = 110 * 60.0
"""Seconds after which a socket is renewed at a quiet moment; the server closes it at about two hours."""

RENEW_AGAIN: Final = 60.0
"""Seconds between two attempts to renew."""


class Connector:
    """Opens the sockets of one session. For the session's own thread alone.

    Attributes:
        renew_at: When the socket that is open nears the end of its life.
    """

    __slots__ = ("_engine", "_handshakes", "renew_at")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._handshakes = 0
        self.renew_at = 0.0

    def connect(self, deadline: Deadline, dialled: Dialled | None = None) -> None:
        """Open the socket, and make it the session's."""
        started = time.monotonic()
        connection, cursor = self._shake_hands(deadline, dialled)
        with self._engine.lock:
            if self._engine.stopped or self._engine.conversation.over:
                connection.close()
                raise Stopped
            handshakes = self._handshakes
            self._adopt(connection)
            self._engine.queue("on_connect", handshakes, cursor, time.monotonic() - started)
            self._engine.commit()
        self._engine.follow_up()

    def renew_if_due(self) -> None:
        """Replace a socket that nears the end of its life by a new one, at a quiet moment (`protocol.md` §3)."""
        engine, now = self._engine, time.monotonic()
        if now < self.renew_at:
            return
        with engine.lock:
            if engine.writer.busy or not engine.conversation.quiet:
                return
            self.renew_at = now + RENEW_AGAIN
            engine.writer.busy = True  # what is sent now waits for the new socket: the old one would leave it in doubt
        try:
            connection, cursor = self._shake_hands(Deadline.after(engine.services.settings.timeouts.connect), None)
        except PolyAIError as error:
            engine.report(error)  # the old socket still works; it is tried again
        else:
            self._replace(connection, cursor, time.monotonic() - now)
        finally:
            with engine.lock:
                engine.writer.busy = False
            engine.follow_up()

    def _replace(self, connection: WebSocketConnection, cursor: int, seconds: float) -> None:
        engine = self._engine
        with engine.lock:
            old = engine.connection
            if engine.stopped or engine.conversation.over:
                connection.close()
                return
            engine.conversation.dropped(time.monotonic())
            self._adopt(connection)
            engine.queue("on_connect", 1, cursor, seconds)
            engine.queue("on_disconnect", None)
            engine.commit()
        if old is not None:
            old.close()

    def _shake_hands(self, deadline: Deadline, dialled: Dialled | None) -> tuple[WebSocketConnection, int]:
        if dialled is None:
            with self._engine.unless_stopped():
                dialled = self._engine.services.dialer.dial(deadline)
        with self._engine.lock:
            if self._engine.stopped:
                dialled.close()
                raise Stopped
            self._engine.dialled = dialled  # so that close() can cut the handshake short
            self._handshakes += 1
            cursor = self._engine.conversation.cursor_to_ask
        assert self._engine.identity is not None  # noqa: S101 - there is no handshake before there is a session
        session_id, token = self._engine.identity
        try:
            with self._engine.unless_stopped():
                connection = open_websocket(
                    dialled,
                    settings=self._engine.services.settings,
                    session_id=session_id,
                    access_token=token,
                    cursor=cursor,
                    deadline=deadline,
                    headers=self._engine.services.dialer.headers,
                )
        finally:
            self._engine.dialled = None
        return connection, cursor

    def _adopt(self, connection: WebSocketConnection) -> None:
        now = time.monotonic()
        self._handshakes = 0
        self._engine.generation += 1
        connection.generation = self._engine.generation
        self._engine.connection = connection
        self.renew_at = now + RENEW_AFTER
        self._engine.conversation.opened(now)
