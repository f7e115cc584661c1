"""One WebSocket of the emulator.

aiohttp makes the handshake and reads; frames are written by us, whole and in one step on the loop's thread. That
keeps the order of what every connection sees without a queue each, and lets the odd frames out.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import WSCloseCode, WSMsgType, web

from polyai_sync.emulator import frames

if TYPE_CHECKING:
    from polyai_sync.emulator.session import Session

__all__ = ["Connection", "serve_socket"]

_CLOSE_WAIT = 1.0
"""Seconds a peer has to answer a close frame before its socket is closed all the same."""


class Connection:
    """One accepted socket of a session."""

    def __init__(self, transport: asyncio.Transport, cursor: int) -> None:
        self.cursor = cursor
        self.closing = False
        self.silent = False
        self.released = asyncio.Event()
        self.last_heard = asyncio.get_running_loop().time()
        self._transport = transport

    @property
    def open(self) -> bool:
        """May anything still be sent?"""
        return not (self.closing or self._transport.is_closing())

    def send_text(self, text: str) -> None:
        """Send a text message."""
        self.send(frames.frame(text.encode()))

    def send(self, frame: bytes) -> None:
        """Write bytes that are whole frames (or are meant not to be)."""
        if not self.silent and self.open:
            self._transport.write(frame)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame; the peer answers, or the socket is closed a moment later."""
        if self.silent or not self.open:
            return
        self._transport.write(frames.close_frame(code, reason))
        self.closing = True
        asyncio.get_running_loop().call_later(_CLOSE_WAIT, self.finish)

    def finish(self, *, at_once: bool = False) -> None:
        """Close the socket after what has been written is out, or without waiting for a peer that does not read."""
        self.closing = True
        self.released.set()
        if at_once and self._transport.get_write_buffer_size():
            self._transport.abort()
        self._transport.close()

    def abort(self) -> None:
        """Cut the socket: no close frame, and what is still buffered is lost."""
        self.closing = True
        self.released.set()
        self._transport.abort()

    def go_silent(self) -> None:
        """Neither read nor write from now on, and keep the socket open."""
        self.silent = True
        self._transport.pause_reading()


async def serve_socket(
    session: Session, response: web.WebSocketResponse, connection: Connection, max_message_size: int
) -> None:
    """Read one socket until it is gone."""
    while True:
        message = await response.receive()
        if connection.silent:
            await connection.released.wait()
            return
        connection.last_heard = asyncio.get_running_loop().time()
        if message.type is WSMsgType.TEXT:
            if connection.closing:
                continue
            if len(message.data.encode()) > max_message_size:
                connection.close(WSCloseCode.MESSAGE_TOO_BIG, "message too big")
                continue
            session.receive(connection, message.data)
        elif message.type is WSMsgType.BINARY:
            session.receive(connection, message.data)
        else:
            if message.type is WSMsgType.CLOSE and not connection.closing:
                connection.send(frames.close_frame(message.data or WSCloseCode.OK))
            connection.finish()
            return
