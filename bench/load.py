"""The load: a server by itself that writes frames which were encoded before. ``python -m bench.load`` prints its port.

It holds as much of the protocol as a measurement needs, a thread a connection, on raw sockets. The first part of the
path says what to do, such as ``/flood-2000-20000/ws``: the names of `SCENARIOS`, and numbers. It ends with its standard
input, and so with whoever started it.
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import itertools
import json
import os
import resource
import socket
import ssl
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from bench import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SCENARIOS"]

GREETING: Final = "Welcome."

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CAPABILITIES: Final = {
    "streaming": True,
    "max_message_size_bytes": 131_072,
    "max_reconnect_attempts": 5,
}


class GoneError(Exception):
    """The client has left."""


class Wire:
    """One WebSocket, from the server's side."""

    def __init__(self, sock: socket.socket, rest: bytes) -> None:
        self._sock = sock
        self._data = rest
        self.sequence = 0
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
        start = frames.event("SESSION_START", {"capabilities": capabilities}, sequence=self.next())
        self.send(frames.batch([start]))

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
            echo = frames.event(name, {}, sequence=self.next(), metadata=event.get("metadata"))
            joined = frames.event("POLY_AGENT_JOINED", {"agent_name": "Ada"}, sequence=self.next())
            self.send(echo, joined, frames.whole(self.next(), GREETING))
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


# --- what a connection can be asked for -------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _flood(first_sequence: int, count: int, number: int) -> bytes:
    return frames.flood(first_sequence, count, number)


def _floods(wire: Wire, sizes: list[int]) -> None:
    """The n-th message is answered with the n-th flood; the last size is used for all that follow."""
    at, blobs = 5, []  # SESSION_START, the join's echo, JOINED and the greeting come before
    for number, size in enumerate(sizes):
        blobs.append(_flood(at, size, number))
        at += size + 1
    wire.open()
    for blob, event in zip(blobs, wire.events(), strict=False):
        wire.send(wire.echo(event))
        wire.write(blob)
    for _ in wire.events():
        pass


def _stamps(wire: Wire, sizes: list[int]) -> None:
    """Each message is answered with ``count`` chunks, ``gap`` µs apart, whose text is the time they were written."""
    count, gap = sizes
    wire.open()
    for event in wire.events():
        wire.send(wire.echo(event))
        ready = [frames.frame(frames.chunk(wire.next(), index, frames.PLACE, of=count)) for index in range(count)]
        for one in ready:
            time.sleep(gap / 1e6)
            wire.write(frames.stamped(one, time.monotonic_ns()))


def _stamped(wire: Wire, sizes: list[int]) -> None:
    """Each message is answered, ``gap`` µs later, with a whole message whose text is the time it was written."""
    (gap,) = sizes
    wire.open()
    for event in wire.events():
        wire.send(wire.echo(event))
        ready = frames.frame(frames.whole(wire.next(), frames.PLACE))
        time.sleep(gap / 1e6)
        wire.write(frames.stamped(ready, time.monotonic_ns()))


def _echoing(wire: Wire, _: list[int]) -> None:
    """Each message is answered at once: its receipt, and a whole message."""
    wire.open()
    for event in wire.events():
        wire.send(wire.echo(event), frames.whole(wire.next(), event["payload"]["text"]))


def _bouncing(wire: Wire, _: list[int]) -> None:
    """Each message is answered with its receipt alone: a bare echo."""
    for event in wire.events():
        wire.send(wire.echo(event))


def _quiet(wire: Wire, _: list[int]) -> None:
    """Nothing beyond the greeting."""
    wire.open()
    for event in wire.events():
        wire.send(wire.echo(event))


@functools.lru_cache(maxsize=4)
def _history_of(count: int, a_batch: int) -> tuple[bytes, int]:
    rows = [frames.event("POLY_AGENT_JOINED", {"agent_name": "Ada"}, sequence=2)]
    rows += [frames.chunk(3 + index, index) for index in range(count)]
    parts = [frames.batch(rows[at : at + a_batch]) for at in range(0, len(rows), a_batch)]
    return b"".join(map(frames.frame, parts)), 2 + count


def _history(wire: Wire, sizes: list[int]) -> None:
    """``count`` events of history, ``a_batch`` in each batch."""
    data, sequence = _history_of(*sizes)
    wire.open()
    wire.sequence = sequence
    wire.write(data)
    for _ in wire.events():
        pass


_idle: set[Wire] = set()


def _idling(wire: Wire, sizes: list[int]) -> None:
    """Nothing but heartbeats, every so many seconds; `burst` and `stats` reach these connections."""
    wire.interval = float(sizes[0]) if sizes else 30.0
    wire.open()
    _idle.add(wire)
    try:
        for event in wire.events():
            wire.send(wire.echo(event))
    finally:
        _idle.discard(wire)


SCENARIOS: Final[dict[str, Callable[[Wire, list[int]], None]]] = {
    "flood": _floods,
    "stamps": _stamps,
    "stamped": _stamped,
    "echo": _echoing,
    "bounce": _bouncing,
    "greet": _quiet,
    "history": _history,
    "idle": _idling,
}


# --- HTTP -------------------------------------------------------------------------------------------------------------


def _burst() -> dict[str, Any]:
    """Write one event, whose text is the time it was written, to every idle connection, as fast as can be."""
    ready = [(wire, frames.frame(frames.whole(wire.next(), frames.PLACE))) for wire in list(_idle)]
    began = time.monotonic_ns()
    for wire, one in ready:
        wire.write(frames.stamped(one, time.monotonic_ns()))
    return {"written": len(ready), "began_ns": began, "ended_ns": time.monotonic_ns()}


def _stats() -> dict[str, Any]:
    """How the idle connections' heartbeats came: how many, and how late the latest was against its interval."""
    now, wires = time.monotonic(), list(_idle)
    beats, missed, worst = 0, 0, 0.0
    for wire in wires:
        times = [wire.opened_at, *wire.beats, now]
        beats += len(wire.beats)
        late = max(after - before for before, after in itertools.pairwise(times)) / wire.interval
        worst = max(worst, late)
        missed += late > 1.5
    return {"open": len(wires), "beats": beats, "missed": missed, "worst": worst}


def _answer(path: str) -> dict[str, Any]:
    if path.endswith("/access-token"):
        return {"access_token": f"token-{uuid.uuid4()}", "expires_in": 86_400, "token_type": "Bearer"}
    if path.endswith("/sessions"):
        return {"session_id": str(uuid.uuid4())}
    if path.endswith("/burst"):
        return _burst()
    return _stats() if path.endswith("/stats") else {}


def _upgrade(sock: socket.socket, path: str, headers: dict[str, str], rest: bytes) -> None:
    scenario, *numbers = path.strip("/").split("/")[0].split("-")
    run = SCENARIOS[scenario]
    key = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + _GUID).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {key}", "", ""]
    sock.sendall("\r\n".join(lines).encode())
    run(Wire(sock, rest), [int(number) for number in numbers])


def _serve(sock: socket.socket, context: ssl.SSLContext | None) -> None:
    """One connection: requests, and perhaps an upgrade."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            sock = context.wrap_socket(sock, server_side=True)
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = sock.recv(65_536)
                if not more:
                    return
                data += more
            head, data = data.split(b"\r\n\r\n", 1)
            request, *lines = head.decode("latin-1").split("\r\n")
            path = request.split(" ")[1].split("?")[0]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if "websocket" in headers.get("upgrade", "").lower():
                _upgrade(sock, path, headers, data)
                return
            size = int(headers.get("content-length", 0))
            while len(data) < size:
                data += sock.recv(65_536)
            data = data[size:]
            body = json.dumps(_answer(path)).encode()
            start = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            sock.sendall(start.encode() + body)
    except (GoneError, OSError):
        return
    finally:
        sock.close()


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--cert", help="certificate chain: speak TLS")
    parser.add_argument("--key", help="its key")
    options = parser.parse_args()
    context = None
    if options.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    threading.stack_size(256 * 1024)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_end_with_input, daemon=True).start()
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_serve, args=(sock, context), daemon=True).start()


if __name__ == "__main__":
    main()
