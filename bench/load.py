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
from urllib.parse import parse_qsl

from bench import crowd, frames
from bench.wire import GoneError, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SCENARIOS"]

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


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
    _answered_by(wire, blobs)


def _answered_by(wire: Wire, blobs: list[bytes]) -> None:
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


def _thoughts(wire: Wire, sizes: list[int]) -> None:
    """As `_floods`, of events that belong to no message."""
    at, blobs = 5, []
    for number, size in enumerate(sizes):
        rows = [frames.event("POLY_AGENT_THINKING", {}, sequence=at + index) for index in range(size)]
        rows.append(frames.last(at + size, number))
        blobs.append(b"".join(map(frames.frame, rows)))
        at += size + 1
    _answered_by(wire, blobs)


SCENARIOS: Final[dict[str, Callable[[Wire, list[int]], None]]] = {
    "flood": _floods,
    "thoughts": _thoughts,
    "stamps": _stamps,
    "stamped": _stamped,
    "echo": _echoing,
    "bounce": _bouncing,
    "greet": _quiet,
    "history": _history,
    "idle": crowd.idling,
    "steady": crowd.steady,
}


# --- HTTP -------------------------------------------------------------------------------------------------------------


def _answer(path: str) -> dict[str, Any]:
    if path.endswith("/access-token"):
        return {"access_token": f"token-{uuid.uuid4()}", "expires_in": 86_400, "token_type": "Bearer"}
    if path.endswith("/sessions"):
        return {"session_id": str(uuid.uuid4())}
    asked = crowd.CONTROLS.get(path.rpartition("/")[2].partition("-")[0])
    return asked(*map(float, path.rpartition("/")[2].split("-")[1:])) if asked else {}


def _upgrade(sock: socket.socket, target: str, headers: dict[str, str], rest: bytes) -> None:
    path, _, query = target.partition("?")
    scenario, *numbers = path.strip("/").split("/")[0].split("-")
    asked = dict(parse_qsl(query))
    run = SCENARIOS[scenario]
    key = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + _GUID).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {key}", "", ""]
    sock.sendall("\r\n".join(lines).encode())
    wire = Wire(sock, rest, asked["session_id"], int(asked.get("cursor", 0)))
    run(wire, [int(number) for number in numbers])


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
            target = request.split(" ")[1]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if "websocket" in headers.get("upgrade", "").lower():
                _upgrade(sock, target, headers, data)
                return
            size = int(headers.get("content-length", 0))
            while len(data) < size:
                data += sock.recv(65_536)
            data = data[size:]
            body = json.dumps(_answer(target.partition("?")[0])).encode()
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
