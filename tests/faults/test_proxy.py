"""The fault proxy does what it says: each fault, seen by plain sockets on both sides."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from fault_kit import Caller, within
from proxy import CLOSE, CUT_OFF, HOLE, RESET, Death, FaultProxy, Flow, answer_with, close_with, half_close
from proxy_units import Unit, Units, close_frame, frame
from tls import authority, trusting

from polyai_sync.emulator import EchoAgent, Emulator
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from pathlib import Path


class Server:
    """Accepts, and keeps what it accepts; a test reads and writes for it."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(5)
        self.port: int = self.listener.getsockname()[1]

    def accept(self) -> socket.socket:
        sock, _ = self.listener.accept()
        sock.settimeout(5)
        return sock


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    yield
    wait_until(lambda: threading.active_count() <= threads)
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.listener.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.port, framed=False) as proxy:
        yield proxy


Pair = Callable[[], tuple[socket.socket, socket.socket]]


@pytest.fixture
def pair(proxy: FaultProxy, server: Server) -> Iterator[Pair]:
    """A connection through the proxy: the client's end and the server's."""
    opened: list[socket.socket] = []

    def connect() -> tuple[socket.socket, socket.socket]:
        client = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
        opened.append(client)
        opened.append(server.accept())
        proxy.wait_for(lambda: any(one.peer == client.getsockname() for one in proxy.connections))
        return client, opened[-1]

    yield connect
    for sock in opened:
        sock.close()


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def hears_nothing(sock: socket.socket) -> bool:
    """Does nothing come, not even the end?"""
    sock.settimeout(0.05)
    try:
        sock.recv(1)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(5)
    return False


def is_reset(sock: socket.socket) -> bool:
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return False


class TestPassing:
    def test_bytes_and_ends_pass_both_ways_and_are_counted(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        client.sendall(b"question")
        assert read(server, 8) == b"question"
        server.sendall(b"an answer")
        assert read(client, 9) == b"an answer"
        (one,) = proxy.connections
        assert (one.ordinal, one.up, one.down, proxy.accepted) == (1, 8, 9, 1)
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        server.sendall(b"more")
        server.close()
        assert read(client, 10) == b"more"
        proxy.wait_connections(0)

    def test_a_flood_passes_whole_and_is_held_back_where_nobody_reads(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        data = os.urandom(8_000_000)
        sending = Caller(client.sendall, data)
        proxy.wait_for(lambda: proxy.connections[0].up > 0)
        assert read(server, len(data)) == data
        sending.result()

    def test_a_reset_passes(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        assert is_reset(client)
        proxy.wait_connections(0)

    def test_a_server_that_is_down_is_a_closed_connection(self, server: Server) -> None:
        server.listener.close()
        with FaultProxy(server.port) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
            assert client.recv(1) == b""


class TestHole:
    def test_nothing_passes_either_way_and_no_end(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        proxy.set("both", Flow(hole=True))
        client.sendall(b"lost?")
        server.sendall(b"lost too?")
        proxy.wait_for(lambda: proxy.connections[0].sent_by_client == 5 and proxy.connections[0].sent_by_server == 9)
        server.shutdown(socket.SHUT_WR)
        assert hears_nothing(client)
        assert hears_nothing(server)
        assert (proxy.connections[0].up, proxy.connections[0].down) == (0, 0)

    def test_one_direction_only(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        proxy.set("down", Flow(hole=True))
        client.sendall(b"heard")
        assert read(server, 5) == b"heard"
        server.sendall(b"unheard")
        assert hears_nothing(client)

    def test_a_healed_network_brings_what_waited(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        proxy.set("up", Flow(hole=True))
        client.sendall(b"late")
        client.shutdown(socket.SHUT_WR)
        assert hears_nothing(server)
        proxy.heal()
        assert read(server, 10) == b"late"

    def test_a_reset_is_not_told(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        proxy.kill(HOLE)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        assert hears_nothing(client)

    def test_one_connection_only(self, proxy: FaultProxy, pair: Pair) -> None:
        first, second = pair(), pair()
        proxy.set("down", Flow(hole=True), connection=1)
        for _, server in (first, second):
            server.sendall(b"x")
        assert read(second[0], 1) == b"x"
        assert hears_nothing(first[0])

    def test_a_connection_to_come(self, proxy: FaultProxy, pair: Pair) -> None:
        proxy.set("down", Flow(hole=True), connection=2)
        first, second = pair(), pair()
        for _, server in (first, second):
            server.sendall(b"x")
        assert read(first[0], 1) == b"x"
        assert hears_nothing(second[0])

    def test_a_sender_into_a_hole_is_stopped_in_the_end(self, proxy: FaultProxy, pair: Pair) -> None:
        client, _ = pair()
        proxy.set("up", Flow(hole=True))
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(50_000_000))


class TestDeath:
    def test_reset(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        proxy.kill(RESET)
        assert is_reset(client)
        assert is_reset(server)
        assert proxy.connections == ()

    def test_fin_on_both_sides(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        server.sendall(b"last")
        proxy.wait_for(lambda: proxy.connections[0].down == 4)
        proxy.kill(CLOSE)
        assert read(client, 9) == b"last"
        assert server.recv(1) == b""
        client.sendall(b"into the void")
        assert client.recv(1) == b"", "a FIN, not a reset"

    def test_half_closed_for_the_client_that_may_still_send(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        proxy.kill(half_close("down"))
        assert client.recv(1) == b""
        client.sendall(b"still here")
        assert read(server, 10) == b"still here"

    def test_half_closed_for_the_server(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        proxy.kill(half_close("up"))
        assert server.recv(1) == b""
        server.sendall(b"goodbye")
        assert read(client, 7) == b"goodbye"

    def test_one_of_two(self, proxy: FaultProxy, pair: Pair) -> None:
        first, second = pair(), pair()
        proxy.kill(RESET, connection=2)
        assert is_reset(second[0])
        first[1].sendall(b"alive")
        assert read(first[0], 5) == b"alive"

    @pytest.mark.parametrize("at", [1, 5, 100])
    def test_cut_at_a_byte(self, at: int, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        proxy.set("down", Flow(cut_at=at, death=CLOSE))
        server.sendall(bytes(range(200)))
        assert read(client, 300) == bytes(range(at))

    def test_a_cut_counts_from_when_it_was_asked_for(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        server.sendall(b"0123")
        assert read(client, 4) == b"0123"
        proxy.set("down", Flow(cut_at=2))
        server.sendall(b"4567")
        assert read(client, 2) == b"45"
        assert is_reset(client)


class TestPace:
    def test_every_byte_by_itself(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        proxy.set("down", Flow(split=1, rate=2_000))
        server.sendall(b"0123456789" * 4)
        pieces: list[bytes] = []
        while sum(map(len, pieces)) < 40:
            pieces.append(client.recv(100))
        assert b"".join(pieces) == b"0123456789" * 4
        assert len(pieces) > 20, "a slow reader may find two bytes at once, but not most of them"

    def test_throttled(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        proxy.set("down", Flow(rate=100_000))
        began = time.monotonic()
        server.sendall(bytes(20_000))
        assert len(read(client, 20_000)) == 20_000
        assert time.monotonic() - began > 0.15

    def test_delayed_and_in_order(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        proxy.set("both", Flow(delay=0.1))
        began = time.monotonic()
        server.sendall(b"a")
        server.sendall(b"b")
        assert read(client, 2) == b"ab"
        assert time.monotonic() - began >= 0.1

    def test_an_end_does_not_overtake_what_is_on_its_way(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        proxy.set("down", Flow(delay=0.05, rate=100_000))
        server.sendall(bytes(5_000))
        server.close()
        assert len(read(client, 9_999)) == 5_000


class TestAccepting:
    def test_accepted_then_dropped(self, proxy: FaultProxy) -> None:
        proxy.on_accept(RESET)
        for _ in range(2):
            with pytest.raises(ConnectionResetError), socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
                client.recv(1)  # or it is met while connecting
        assert proxy.accepted == 2

    def test_the_second_is_dropped(self, proxy: FaultProxy, pair: Pair, server: Server) -> None:
        proxy.on_accept(CLOSE, connection=2)
        _, first = pair()
        with socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
            assert client.recv(1) == b""
        server.accept().close()
        client, third = pair()
        for one in (first, third):
            one.sendall(b"x")
        assert read(client, 1) == b"x"

    def test_refused_and_then_not(self, proxy: FaultProxy, pair: Pair) -> None:
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), 5)
        proxy.listen()
        client, server = pair()
        client.sendall(b"x")
        assert read(server, 1) == b"x"

    def test_unreachable_and_then_not(self, proxy: FaultProxy) -> None:
        proxy.unreachable()
        with pytest.raises(TimeoutError), within(1):
            socket.create_connection(("127.0.0.1", proxy.port), 0.2)
        proxy.listen()
        socket.create_connection(("127.0.0.1", proxy.port), 5).close()


HANDSHAKE = b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


class TestUnits:
    def test_frames_are_cut_wherever_the_bytes_are(self) -> None:
        frames = [frame("one"), frame("x" * 300), frame("y" * 70_000), close_frame(1000)]
        units = Units()
        found: list[Unit] = []
        for byte in SWITCHED + b"".join(frames):
            found += units.feed(bytes([byte]))
        assert [unit.raw for unit in found] == [SWITCHED, *frames]
        assert [unit.opcode for unit in found] == [None, 1, 1, 1, 8]

    def test_masked_frames_are_read(self) -> None:
        units = Units()
        masked = bytes([0x81, 0x83, 1, 2, 3, 4]) + bytes([ord("a") ^ 1, ord("b") ^ 2, ord("c") ^ 3])
        assert [unit.text for unit in units.feed(HANDSHAKE + masked)] == [HANDSHAKE, b"abc"]

    def test_an_http_message_is_head_and_body(self) -> None:
        units = Units()
        message = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
        assert not list(units.feed(message[:-1]))
        assert [unit.raw for unit in units.feed(message[-1:] + b"HTTP")] == [message]
        assert units.rest == b"HTTP"


class TestStrike:
    @pytest.fixture
    def proxy(self, server: Server) -> Iterator[FaultProxy]:
        with FaultProxy(server.port) as proxy:
            yield proxy

    @pytest.fixture
    def line(self, pair: Pair) -> tuple[socket.socket, socket.socket]:
        client, server = pair()
        client.sendall(HANDSHAKE)
        assert read(server, len(HANDSHAKE)) == HANDSHAKE
        server.sendall(SWITCHED)
        assert read(client, len(SWITCHED)) == SWITCHED
        return client, server

    @pytest.mark.parametrize(("when", "passes"), [("before", 0), ("inside", 0.5), ("after", 1)])
    def test_at_a_certain_frame(
        self, when: str, passes: float, proxy: FaultProxy, line: tuple[socket.socket, socket.socket]
    ) -> None:
        client, server = line
        strike = proxy.strike("down", "second", CLOSE, when=when)  # type: ignore[arg-type]
        first, second = frame("the first"), frame("the second")
        server.sendall(first + second + frame("the third"))
        proxy.wait_struck(strike)
        assert read(client, 999) == first + second[: int(len(second) * passes)]

    def test_the_second_of_its_kind(self, proxy: FaultProxy, line: tuple[socket.socket, socket.socket]) -> None:
        client, server = line
        proxy.strike("down", "chunk", RESET, skip=1)
        server.sendall(frame("chunk 1"))
        assert read(client, 9) == frame("chunk 1")
        server.sendall(frame("chunk 2"))
        assert is_reset(client)

    def test_a_close_frame_instead(self, proxy: FaultProxy, line: tuple[socket.socket, socket.socket]) -> None:
        client, server = line
        proxy.strike("down", "x", close_with(1012, "restart"))
        server.sendall(frame("x"))
        assert read(client, 99) == close_frame(1012, "restart")

    def test_what_a_client_says(self, proxy: FaultProxy, line: tuple[socket.socket, socket.socket]) -> None:
        client, server = line
        strike = proxy.strike("up", "abc", HOLE)
        client.sendall(bytes([0x81, 0x83, 0, 0, 0, 0]) + b"abc")
        proxy.wait_struck(strike)
        assert hears_nothing(server)

    def test_what_comes_behind_a_strike_waits_in_its_hole(
        self, proxy: FaultProxy, line: tuple[socket.socket, socket.socket]
    ) -> None:
        client, server = line
        deaf = Death("deaf", lambda one: one.lanes["down"].set(Flow(hole=True)))
        strike = proxy.strike("down", "one", deaf, when="after")
        server.sendall(frame("one") + frame("two") + frame("three")[:4])
        proxy.wait_struck(strike)
        server.sendall(frame("three")[4:])
        assert read(client, 5) == frame("one")
        assert hears_nothing(client)
        proxy.heal()
        assert read(client, 12) == frame("two") + frame("three")

    def test_another_answer(self, proxy: FaultProxy, pair: Pair) -> None:
        client, server = pair()
        refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
        proxy.strike("down", "HTTP/1.1 200", answer_with(refusal))
        server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert read(client, 999) == refusal

    def test_another_connection_is_spared(self, proxy: FaultProxy, pair: Pair) -> None:
        first, second = pair(), pair()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        proxy.strike("down", "HTTP", RESET, connection=2)
        for _, server in (first, second):
            server.sendall(answer)
        assert read(first[0], len(answer)) == answer
        assert is_reset(second[0])

    def test_injected(self, proxy: FaultProxy, line: tuple[socket.socket, socket.socket]) -> None:
        proxy.inject(frame("surprise"))
        assert read(line[0], 10) == frame("surprise")


class TestTLS:
    def test_spoken_by_the_proxy(self, tmp_path: Path, server: Server) -> None:
        ca = authority(tmp_path)
        trust = ssl.create_default_context(cafile=str(ca.bundle))
        with FaultProxy(server.port, tls=ca.server()) as proxy:
            raw = socket.create_connection(("127.0.0.1", proxy.port), 5)
            with (
                contextlib.closing(server.accept()) as far,
                trust.wrap_socket(raw, server_hostname="127.0.0.1") as near,
            ):
                near.sendall(HANDSHAKE)
                assert read(far, len(HANDSHAKE)) == HANDSHAKE
                far.sendall(SWITCHED + frame("x" * 100_000))
                assert read(near, len(SWITCHED) + 100_010) == SWITCHED + frame("x" * 100_000)
                proxy.strike("down", "the end", CLOSE, when="inside")
                far.sendall(frame("the end"))
                assert read(near, 99) == frame("the end")[:4]

    def test_cut_off_without_its_own_goodbye(self, tmp_path: Path, server: Server) -> None:
        ca = authority(tmp_path)
        trust = ssl.create_default_context(cafile=str(ca.bundle))
        with FaultProxy(server.port, tls=ca.server(), framed=False) as proxy:
            raw = socket.create_connection(("127.0.0.1", proxy.port), 5)
            with (
                contextlib.closing(server.accept()),
                trust.wrap_socket(raw, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as near,
            ):
                proxy.kill(CUT_OFF)
                with pytest.raises(ssl.SSLEOFError):
                    near.recv(1)

    @pytest.mark.parametrize("through", [True, False])
    def test_a_conversation_in_front_of_the_emulator(self, through: bool, tmp_path: Path) -> None:
        """TLS that passes through, and TLS that ends at the proxy; every byte by itself."""
        ca = authority(tmp_path)
        with (
            Emulator(agent=EchoAgent(), tls=ca.server() if through else None) as emulator,
            FaultProxy(emulator.port, tls=None if through else ca.server(), framed=not through) as proxy,
        ):
            proxy.set("both", Flow(split=1))
            base = f"https://127.0.0.1:{proxy.port}"
            with emulator.client(base_url=base, http=trusting(ca)) as client, client.start_session() as session:
                assert session.next_message().text == "Hello!"
                assert session.ask("all well?").text == "You said: all well?"

    def test_a_conversation_in_the_clear(self) -> None:
        with Emulator(agent=EchoAgent()) as emulator, FaultProxy(emulator.port) as proxy:
            proxy.set("both", Flow(split=1))
            with emulator.client(base_url=proxy.url) as client, client.start_session() as session:
                assert session.ask("all well?").text == "You said: all well?"
            assert proxy.accepted == 2


def test_an_error_on_the_thread_is_raised_at_the_end(server: Server) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    proxy = FaultProxy(server.port).start()
    proxy._commands.put(fail)
    proxy._ringer.send(b"\0")
    wait_until(lambda: proxy.errors)
    with pytest.raises(ZeroDivisionError):
        proxy.stop()


def test_stopping_ends_what_is_open(server: Server) -> None:
    with FaultProxy(server.port) as proxy:
        client = socket.create_connection(("127.0.0.1", proxy.port), 5)
        far = server.accept()
    with client, far:
        assert client.recv(1) == b""
        assert far.recv(1) == b""
