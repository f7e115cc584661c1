"""A server made of bare sockets that a test turns hostile at one point; and a client of it, in a process of its own.

The client's process tells what came of it, how long it took and how much memory: so what the server spends on being
hostile is not counted.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from proxy_units import Units, frame

__all__ = ["CANARY", "Hostile", "Peer", "Seen", "event", "play", "play_all"]

CANARY = "canary-connector-token-4711"
TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"

Handler = Callable[["Peer"], None]


def event(type_: str, payload: Any = None, **fields: Any) -> str:
    """An event as the server writes it."""
    return json.dumps({"type": f"EVENT_TYPE_{type_}", "payload": {} if payload is None else payload, **fields})


class Peer:
    """One accepted connection, from its first request on."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.head = ""
        self.units = Units()

    def request(self) -> str:
        """Read one request; its path."""
        data = b""
        while True:
            for unit in self.units.feed(data):
                self.head = unit.text.decode("latin-1")
                return self.head.split()[1].partition("?")[0]
            data = self.sock.recv(65536)
            if not data:
                raise EOFError

    def send(self, data: bytes | str) -> None:
        self.sock.sendall(data.encode() if isinstance(data, str) else data)

    def answer(self, body: Any, status: int = 200, **headers: Any) -> None:
        """An HTTP answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} Well", f"Content-Length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode() + data)

    def accept(self, extra: str = "", *, key: str | None = None) -> None:
        """Open the WebSocket."""
        found = re.search(r"(?i)^sec-websocket-key: (.*)$", self.head, re.MULTILINE)
        assert found
        digest = hashlib.sha1(found[1].strip().encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        self.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {key or base64.b64encode(digest).decode()}\r\n{extra}\r\n"
        )

    def start(self, **capabilities: Any) -> None:
        """Open the WebSocket and a conversation on it: history, agent, greeting."""
        self.accept()
        told = {"streaming": True, "heartbeat_interval_seconds": 30, **capabilities}
        start = {"type": "EVENT_TYPE_SESSION_START", "id": "s", "sequence": 1, "payload": {"capabilities": told}}
        self.say("EVENT_BATCH", {"events": [start]})
        self.say("REQUEST_POLY_AGENT_JOIN", id="j", sequence=2)
        self.say("POLY_AGENT_JOINED", {"agent_name": "Mal"}, id="a", sequence=3)
        self.say("POLY_AGENT_MESSAGE", {"message_id": "g", "text": "Hello!"}, id="g", sequence=4)

    def say(self, type_: str, payload: Any = None, **fields: Any) -> None:
        """Send an event."""
        self.send(frame(event(type_, payload, **fields)))

    def hear(self, type_: str) -> dict[str, Any]:
        """Read until the client has sent an event of a type."""
        while True:
            for unit in self.units.feed(self.sock.recv(65536) or _gone()):
                if unit.opcode == 1 and (said := json.loads(unit.text))["type"] == f"EVENT_TYPE_{type_}":
                    return dict(said)

    def linger(self) -> None:
        """Stay until the client has gone."""
        while self.sock.recv(65536):
            pass


def _gone() -> bytes:
    raise EOFError


def _token(peer: Peer) -> None:
    peer.answer({"access_token": TOKEN, "expires_in": 3600})


def _session(peer: Peer) -> None:
    peer.answer({"session_id": "11111111-2222-3333-4444-555555555555"})


def _socket(peer: Peer) -> None:
    peer.start()
    heard = peer.hear("USER_MESSAGE")
    answer(peer, heard)
    peer.linger()


def answer(peer: Peer, heard: dict[str, Any], sequence: int = 10_000_000) -> None:
    """Confirm a message and answer it, as an honest server does."""
    peer.say("USER_MESSAGE", heard["payload"], id="u", sequence=sequence, metadata=heard["metadata"])
    peer.say("POLY_AGENT_MESSAGE", {"message_id": "r", "text": "Still here."}, id="r", sequence=sequence + 1)


class Hostile:
    """A whole service, honest but for the handlers given: ``token``, ``session``, ``socket``."""

    def __init__(self, *, token: Handler = _token, session: Handler = _session, socket: Handler = _socket) -> None:
        self._handlers = {"/api/v1/access-token": token, "/api/v1/sessions": session, "/ws": socket}
        self._listener = _listener()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: list[str] = []
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._open: list[socket_] = []

    def __enter__(self) -> Hostile:
        self._threads.append(threading.Thread(target=self._accept, daemon=True))
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        assert not self.failures, self.failures

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(sock)
            self._threads.append(threading.Thread(target=self._serve, args=(sock,), daemon=True))
            self._threads[-1].start()

    def _serve(self, sock: socket_) -> None:
        sock.settimeout(30)
        peer = Peer(sock)
        try:
            while True:
                path = peer.request()
                self.requests.append(peer.head)
                self._handlers[path](peer)
                if path == "/ws":
                    return
        except (OSError, EOFError, ValueError):
            pass  # the client has gone
        except BaseException as error:  # the test must hear of it
            self.failures.append(error)
        finally:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


socket_ = socket.socket


def _listener() -> socket_:
    return socket.create_server(("127.0.0.1", 0))


@frozen(kw_only=True)
class Seen:
    """What a client's process tells.

    Attributes:
        code: Of the error that ended it; ``None`` where its question was answered.
        text: The answer.
        errors: The codes that ``on_error`` was told.
        status: The session's, at the end.
        seconds: From the client's first call to its last.
        cpu: Seconds of processor time for that.
        grown: MiB of memory for that, at the worst.
        output: All that it printed and logged, at DEBUG.
    """

    code: str | None
    text: str | None
    errors: list[str]
    status: str | None
    seconds: float
    cpu: float
    grown: float
    output: str


_CLIENT = """
import json, logging, resource, sys, time, traceback
from polyai_sync import Client, PolyAIError, Timeouts, hookimpl
from polyai_sync_plugins import Reconnect

token, options = sys.argv[1], json.loads(sys.argv[2])
logging.basicConfig(level=options.get("level", "DEBUG"))

class Told:
    name = "told"

    def __init__(self):
        self.errors, self.sessions = [], []

    @hookimpl
    def on_error(self, error):
        if len(self.errors) < 100:
            self.errors.append(error.code)

    @hookimpl
    def on_connect(self, session):
        self.sessions.append(session)

def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime

limits = {"connect": 1, "read": 1, "ready": 2, "greeting": 1, "delivery": 2, "reply": 2, "close": 1}
limits.update(options.get("limits", {}))
for url in sys.argv[3:]:
    told = Told()
    policies = [Reconnect(base=0.01, cap=0.02, max_attempts=2)] if options.get("reconnect") else []
    client = Client(token, "localhost", base_url=url, timeouts=Timeouts(**limits), plugins=[told, *policies],
                    load_plugins=False, event_window=1000)
    code = text = None
    memory, cpu = used()
    began = time.monotonic()
    try:
        with client:
            session = client.start_session()
            session.next_message()
            text = session.ask("hello").text
    except PolyAIError as error:
        code = error.code
        traceback.print_exc(file=sys.stdout)
        print(repr(error), error.body, error.user_text, vars(error))
    seconds = time.monotonic() - began
    peak, spent = used()
    status = str(told.sessions[-1].status) if told.sessions else None
    print("RESULT" + json.dumps(dict(code=code, text=text, errors=told.errors, status=status, seconds=seconds,
                                     cpu=spent - cpu, grown=peak - memory)), flush=True)
"""


def play(server: Hostile, **options: Any) -> Seen:
    """Let a client meet the server; options as for `play_all`."""
    return play_all([server], **options)[0]


def play_all(servers: Sequence[Hostile], *, timeout: float = 60, **options: Any) -> list[Seen]:
    """Let clients meet servers, one after the other, in one process.

    Args:
        servers: The servers.
        timeout: Seconds after which it is taken to hang.
        **options: ``reconnect`` a policy that reconnects twice, ``limits`` time-outs, ``level`` of the log.
    """
    run = subprocess.run(
        [sys.executable, "-c", _CLIENT, CANARY, json.dumps(options), *(server.url for server in servers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:]
    parts = re.split(r"^RESULT(.*)\n", run.stdout, flags=re.MULTILINE)
    outputs, results = parts[:-1:2], parts[1::2]
    return [Seen(output=output, **json.loads(result)) for output, result in zip(outputs, results, strict=True)]
