"""One WebSocket of the load's, on a raw socket: as much of the protocol as a measurement needs."""

from __future__ import annotations

import contextlib
import json
import socket
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from bench import frames

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator

__all__ = ["GREETING", "GoneError", "Wire"]

GREETING: Final = "Welcome."

_CAPABILITIES: Final = {
    "streaming": True,
    "max_message_size_bytes": 131_072,
    "max_reconnect_attempts": 5,
}


class GoneError(Exception):
    """The client has left."""


class Wire:
    """One WebSocket, from the server's side."""

    def __init__(self, sock: socket.socket, rest: bytes, session: str = "", cursor: int = 0) -> None:
        self._sock = sock
        self._data = rest
        self.session = session
        self.cursor = cursor
        self.sequence = 0
        self.journal: deque[tuple[int, str]] | None = None
        """What a later connection of the session may be given again, if it is to be."""
        self.beats: list[float] = []
        self.opened_at = time.monotonic()
        self.interval = 30.0

    def write(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError:
            raise GoneError from None

    def send(self, *texts: str) -> None:
        self.write(b"".join(map(frames.frame, texts)))

    def drop(self) -> None:
        """End the connection without a word, from any thread."""
        with contextlib.suppress(OSError):  # it has ended by itself
            self._sock.shutdown(socket.SHUT_RDWR)

    def next(self) -> int:
        self.sequence += 1
        return self.sequence

    def events(self) -> Iterator[dict[str, Any]]:
        """What the client sends. Heartbeats, joins and pings are answered on the way."""
        while True:
            opcode, payload = self._frame()
            if opcode == 0x8:
                self.write(bytes((0x88, len(payload))) + payload)
                return
            if opcode == 0x9:
                self.write(bytes((0x8A, len(payload))) + payload)
            elif opcode == 0x1:
                event = json.loads(payload)
                if not self._answered(event):
                    yield event

    def open(self) -> None:
        """The history of a session that has just been created."""
        capabilities = {**_CAPABILITIES, "heartbeat_interval_seconds": self.interval}
        self.send(frames.batch([self.numbered("SESSION_START", {"capabilities": capabilities})]))

    def numbered(self, name: str, payload: dict[str, Any], metadata: dict[str, Any] | None = None) -> str:
        """The next event of the session, kept in its journal if it has one."""
        text = frames.event(name, payload, sequence=self.next(), metadata=metadata)
        return self.kept(text)

    def kept(self, text: str) -> str:
        """The event of the newest sequence, kept."""
        if self.journal is not None:
            self.journal.append((self.sequence, text))
        return text

    def echo(self, event: dict[str, Any]) -> str:
        """A receipt, without a sequence: floods know theirs beforehand."""
        name = event["type"].removeprefix("EVENT_TYPE_")
        payload = {**event["payload"], "message_id": str(uuid.uuid4())} if name == "USER_MESSAGE" else {}
        return frames.event(name, payload, sequence=None, metadata=event.get("metadata"))

    def _answered(self, event: dict[str, Any]) -> bool:
        name = event["type"].removeprefix("EVENT_TYPE_")
        if name == "HEARTBEAT":
            self.beats.append(time.monotonic())
            self.send(self.echo(event))
        elif name == "REQUEST_POLY_AGENT_JOIN":
            echo = self.numbered(name, {}, event.get("metadata"))
            joined = self.numbered("POLY_AGENT_JOINED", {"agent_name": "Ada"})
            self.send(echo, joined, self.kept(frames.whole(self.next(), GREETING)))
        elif name == "USER_END_SESSION":
            end = frames.event("SESSION_END", {"reason": "REASON_USER_END"}, sequence=None)
            self.send(self.echo(event), end)
        else:
            return False
        return True

    def _frame(self) -> tuple[int, bytes]:
        first, second = self._take(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        mask = self._take(4) if second & 0x80 else b"\0\0\0\0"
        data = self._take(size)
        whole = int.from_bytes(mask * (size // 4 + 1), "big") >> (8 * (4 - size % 4))
        return first & 0xF, (int.from_bytes(data, "big") ^ whole).to_bytes(size, "big")

    def _take(self, count: int) -> bytes:
        while len(self._data) < count:
            try:
                more = self._sock.recv(65_536)
            except OSError:
                more = b""
            if not more:
                raise GoneError
            self._data += more
        taken, self._data = self._data[:count], self._data[count:]
        return taken
