"""What the tests of the transport talk to: servers and proxies made of bare sockets, whose manners a test decides."""

from __future__ import annotations

import base64
import contextlib
import gc
import hashlib
import json
import os
import re
import select
import socket
import ssl
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from polyai_sync.config import Secret, Settings, Timeouts
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.dial import Dialer
from polyai_sync.transport.http import HttpTransport
from polyai_sync.transport.waker import Waker
from polyai_sync.transport.websocket import WebSocketConnection, open_websocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECTOR = "canary-connector-token-4711"
TOKEN = "eyJhbGciOiJub25lIn0.canary+access/token=.signature"
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 0x1, 0x2, 0x8, 0x9, 0xA, 0x0


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has set, a test sets its own."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """No test leaves a descriptor or a thread behind."""
    before, threads = open_descriptors(), threading.active_count()
    yield
    if not until(lambda: threading.active_count() <= threads and len(open_descriptors()) <= len(before), timeout=1):
        gc.collect()
        assert until(lambda: threading.active_count() <= threads), threading.enumerate()
        assert until(lambda: len(open_descriptors()) <= len(before)), open_descriptors() - before


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def until(condition: Callable[[], Any], timeout: float = 5.0) -> Any:
    """Poll a condition; its last value."""
    end = time.monotonic() + timeout
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.005)
    return value


class Peer:
    """One accepted connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.data = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def recv(self, size: int) -> bytes:
        parts, missing = [self.data], size - len(self.data)
        while missing > 0:
            chunk = self.sock.recv(65536)
            if not chunk:
                raise EOFError
            parts.append(chunk)
            missing -= len(chunk)
        data = b"".join(parts)
        self.data = data[size:]
        return data[:size]

    def head(self) -> str:
        while b"\r\n\r\n" not in self.data:
            chunk = self.sock.recv(65536)
            if not chunk:
                raise EOFError
            self.data += chunk
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        return head.decode("latin-1")

    def request(self) -> tuple[str, bytes]:
        head = self.head()
        length = re.search(r"(?i)^content-length: (\d+)", head, re.MULTILINE)
        return head, self.recv(int(length[1]) if length else 0)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def upgrade(self, extra: str = "", behind: bytes = b"") -> str:
        """Accept a WebSocket; the head of the request."""
        head = self.head()
        self.send(accepting(head, extra) + behind)
        return head

    def frame(self) -> tuple[int, bytes]:
        """The next frame of the client, unmasked."""
        first, second = self.recv(2)
        assert second & 0x80, "a client masks"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self.recv(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.recv(8))
        mask = self.recv(4)
        payload = self.recv(length)
        return first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))

    def linger(self) -> None:
        """Stay until the client has gone."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket.close(self.sock)


def accepting(head: str, extra: str = "") -> bytes:
    key = re.search(r"(?i)^sec-websocket-key: (.*)$", head, re.MULTILINE)
    assert key
    digest = hashlib.sha1(key[1].strip().encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n{extra}\r\n"
    ).encode("latin-1")


def frame(payload: bytes | str = b"", opcode: int = TEXT, *, fin: bool = True, length: int | None = None) -> bytes:
    """A server's frame, which is not masked; ``length`` to lie about it."""
    data = payload.encode() if isinstance(payload, str) else payload
    size = len(data) if length is None else length
    first = opcode | (0x80 if fin else 0)
    if size < 126:
        return bytes([first, size]) + data
    if size < 65536:
        return bytes([first, 126]) + struct.pack("!H", size) + data
    return bytes([first, 127]) + struct.pack("!Q", size) + data


class Server:
    """Accepts on 127.0.0.1 and runs ``handler`` for each connection, in a thread."""

    def __init__(self, handler: Callable[[Peer], None], tls: ssl.SSLContext | None = None) -> None:
        self.handler = handler
        self.tls = tls
        self.accepted = 0
        self.failures: list[BaseException] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._peers: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept)

    @property
    def base_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._peers.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(20)
        peer = None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self._peers.append(sock)
            peer = Peer(sock)
            self.handler(peer)
        except (OSError, EOFError):
            pass  # the client has gone
        except BaseException as error:  # the test must hear of it
            self.failures.append(error)
        finally:
            sock.close()

    def __enter__(self) -> Server:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(5)
        for sock in self._peers:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        assert not self.failures, self.failures


def proxy(seen: list[str], *, password: str | None = None) -> Callable[[Peer], None]:
    """A handler that is a CONNECT proxy; ``seen`` gets the heads of the requests."""

    def handle(peer: Peer) -> None:
        head = peer.head()
        seen.append(head)
        if password is not None and base64.b64encode(password.encode()).decode() not in head:
            peer.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = head.split()[1].rpartition(":")
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        relay(peer, host, int(port))

    return handle


def relay(peer: Peer, host: str, port: int) -> None:
    """Connect to the target, and copy both ways until one is done. One thread: TLS bears no more at a time."""
    with socket.create_connection((host, port)) as target:
        waiting = {peer.sock: b"", target: b""}
        for sock in waiting:
            sock.settimeout(0)
        while True:
            moved = False
            for source, sink in ((peer.sock, target), (target, peer.sock)):
                with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    if len(waiting[sink]) < 100_000:
                        data = source.recv(65536)
                        if not data:
                            sink.settimeout(5)
                            sink.sendall(waiting[sink])
                            socket.socket.shutdown(sink, socket.SHUT_RDWR)
                            return
                        waiting[sink] += data
                        moved = True
                with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    while waiting[sink]:
                        waiting[sink] = waiting[sink][sink.send(waiting[sink]) :]
                        moved = True
            if not moved:
                select.select(list(waiting), [sock for sock, data in waiting.items() if data], [], 20)


def settings(base_url: str, **changes: Any) -> Settings:
    changes.setdefault("timeouts", Timeouts(connect=5, read=5))
    return Settings(connector_token=Secret(CONNECTOR), host="www.example.com", base_url=base_url, **changes)


class Seen:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.requests: list[tuple[Any, ...]] = []
        self.responses: list[tuple[Any, ...]] = []

    def on_request(self, *arguments: Any) -> None:
        self.requests.append(arguments)

    def on_response(self, *arguments: Any) -> None:
        self.responses.append(arguments)


def mint(transport: HttpTransport, *, seconds: float = 5, observer: Any = None) -> Any:
    return transport.mint_access_token(
        deadline=Deadline.after(seconds), attempt=1, correlation_id="corr-1", observer=observer
    )


def create(transport: HttpTransport, *, seconds: float = 5, observer: Any = None, streaming: bool = True) -> str:
    return transport.create_session(
        Secret(TOKEN),
        streaming=streaming,
        deadline=Deadline.after(seconds),
        attempt=1,
        correlation_id="corr-2",
        observer=observer,
    )


def connect(
    base_url: str,
    *,
    http: Any = None,
    seconds: float = 5,
    session_id: str = "session-1",
    cursor: int = 0,
    headers: Any = (),
    websocket_options: Any = None,
    **changes: Any,
) -> WebSocketConnection:
    """Dial and make the handshake."""
    chosen = settings(base_url, **changes)
    transport = HttpTransport(chosen, http=http)
    deadline = Deadline.after(seconds)
    return open_websocket(
        Dialer(chosen, transport, websocket_options=websocket_options).dial(deadline),
        settings=chosen,
        session_id=session_id,
        access_token=Secret(TOKEN),
        cursor=cursor,
        deadline=deadline,
        headers=headers,
    )


def receive(connection: WebSocketConnection, seconds: float = 0.0, waker: Waker | None = None) -> list[str] | None:
    """`WebSocketConnection.receive`, for a thread that uses the connection for that alone."""
    entered = connection.enter()
    own = waker or Waker()
    try:
        return connection.receive(seconds, own)
    finally:
        if own is not waker:
            own.close()
        if entered:
            connection.leave()


def read_until(connection: WebSocketConnection, count: int, timeout: float = 5.0) -> list[str]:
    """Read until there are so many messages."""
    messages: list[str] = []
    deadline = Deadline.after(timeout)
    waker = Waker()
    try:
        while len(messages) < count and not deadline.expired():
            messages += receive(connection, deadline.remaining() or 0.0, waker) or []
    finally:
        waker.close()
    return messages


def read_to_end(connection: WebSocketConnection, timeout: float = 5.0) -> tuple[list[str], Exception]:
    """Read until it raises; what came, and the error."""
    messages: list[str] = []
    deadline = Deadline.after(timeout)
    waker = Waker()
    try:
        while not deadline.expired():
            messages += receive(connection, deadline.remaining() or 0.0, waker) or []
    except Exception as error:
        return messages, error
    finally:
        waker.close()
    raise AssertionError("the connection did not end")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all that can be reached from it."""
    todo, seen = [error], set()
    while todo:
        link = todo.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        todo += [link.__cause__, link.__context__]
        todo += [item for item in link.args if isinstance(item, BaseException)]


class Certificates:
    """An authority, and what it issued."""

    def __init__(self, folder: Any) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.bundle = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.bundle)

    def server(self, *names: str, **options: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(names or ("127.0.0.1", "localhost")), **options).configure_cert(context)
        return context

    def client(self) -> str:
        path = str(self.folder / "client.pem")
        certificate = self.ca.issue_cert("client@example.com")
        certificate.private_key_and_cert_chain_pem.write_to_path(path)
        return path


@pytest.fixture(scope="session", name="certificates")
def make_certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


GOOD = json.dumps({"access_token": TOKEN, "expires_in": 86400, "token_type": "Bearer"}).encode()


class Recorded:
    """A handler that answers one thing and remembers the requests."""

    def __init__(self, body: bytes = GOOD, status: int = 200, **headers: str) -> None:
        self.arguments = status, body
        self.headers = headers
        self.requests: list[tuple[str, bytes]] = []

    def __call__(self, peer: Peer) -> None:
        while True:
            self.requests.append(peer.request())
            peer.answer(*self.arguments, **self.headers)


@pytest.fixture(name="calling")
def make_calling() -> Iterator[Callable[..., HttpTransport]]:
    """Make a transport for a handler, and close both afterwards."""
    made: list[tuple[Server, HttpTransport]] = []

    def make(handler: Callable[[Peer], None], **options: Any) -> HttpTransport:
        server = Server(handler)
        server.__enter__()
        http = options.pop("http", None)
        transport = HttpTransport(settings(server.base_url, **options), http=http)
        made.append((server, transport))
        return transport

    yield make
    for server, transport in made:
        transport.close()
        server.__exit__()


def headers_of(head: str) -> dict[str, str]:
    lines = [line.partition(": ") for line in head.split("\r\n")[1:]]
    names = [name.lower() for name, _, _ in lines]
    assert len(names) == len(set(names)), "a header was sent twice"
    return {name.lower(): value for name, _, value in lines}
