"""Writing and closing, from any thread, while another one reads."""

import queue
import socket
import struct
import threading
import time

import pytest
import requests
from transport_wire import (  # noqa: F401 - some are fixtures
    CLOSE,
    PING,
    PONG,
    TEXT,
    Server,
    connect,
    make_certificates,
    no_leaks,
    no_proxies,
    proxy,
    read_to_end,
    read_until,
    receive,
    until,
)
from transport_wire import frame as server_frame

from polyai_sync.errors import ConnectionDroppedError
from polyai_sync.transport import connection as module
from polyai_sync.transport import link as link_module
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.link import Link, WantRead, WantWrite, link
from polyai_sync.transport.waker import Waker
from polyai_sync.transport.websocket import WebSocketConnection, _Frames


@pytest.fixture(params=["plain", "tls", "tls in tls"])
def opened(request, certificates):
    """Open a connection to a server that does something once it is open."""
    stack = []

    def make(handler):
        def serve(peer):
            peer.upgrade()
            handler(peer)

        server = Server(serve, None if request.param == "plain" else certificates.server())
        http = requests.Session()
        http.verify = certificates.bundle
        stack.append(server.__enter__())
        if request.param == "tls in tls":
            gate = Server(proxy([]), certificates.server())
            stack.append(gate.__enter__())
            http.proxies = {"https": gate.base_url}
        connection = connect(server.base_url, http=http)
        stack.append(connection)
        return connection

    yield make
    for item in reversed(stack):
        item.close() if isinstance(item, WebSocketConnection) else item.__exit__()


@pytest.fixture
def pair():
    """A connection over a pair of sockets, and the other end."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.settimeout(10)
    connection = WebSocketConnection(link(ours), _Frames(b"", 1024 * 1024))
    yield connection, theirs
    connection.close()
    theirs.close()


@pytest.fixture
def waker():
    made = Waker()
    yield made
    made.close()


def echo(peer):
    while True:
        opcode, payload = peer.frame()
        if opcode == CLOSE:
            return
        peer.send(server_frame(payload, opcode))


def in_thread(function, *arguments):
    """Run it; a queue that gets its result or its exception."""
    results = queue.Queue()

    def run():
        try:
            results.put(function(*arguments))
        except BaseException as error:
            results.put(error)

    threading.Thread(target=run, daemon=True).start()
    return results


# -- writing ----------------------------------------------------------------------------------------------------------


def test_what_is_written_arrives(opened):
    connection = opened(echo)
    texts = ["", "é€😀", "x" * 125, "x" * 126, "y" * 70_000, "z" * 400_000]
    for text in texts:
        connection.write(text, Deadline.after(5))
        assert read_until(connection, 1) == [text]


def test_a_large_message_waits_for_the_peer_to_read(opened):
    go = threading.Event()
    got = []

    def handler(peer):
        go.wait(60)
        got.append(peer.recv(14 + 24_000_000)[-1:])
        peer.linger()

    connection = opened(handler)  # more than the sockets' buffers hold, also on the two legs of a proxy
    result = in_thread(connection.write, "x" * 24_000_000, Deadline.after(60))
    with pytest.raises(queue.Empty):
        result.get(timeout=0.05)
    go.set()
    assert result.get(timeout=60) is None
    assert until(lambda: got)


def test_writers_and_the_reader_do_not_get_into_each_others_way(opened):
    connection = opened(echo)  # pitfalls.md 20
    end = time.monotonic() + 1
    sent: list[list[str]] = [[], [], []]
    failures = []

    def work(number):
        try:
            while time.monotonic() < end:
                text = f"{number}:{len(sent[number])}:" + "x" * (len(sent[number]) * 97 % 20_000)
                connection.write(text, Deadline.after(10))
                sent[number].append(text)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    came = []
    waker = Waker()
    while any(thread.is_alive() for thread in threads) or len(came) < sum(map(len, sent)):
        came += receive(connection, 0.1, waker) or []
        assert not failures
    waker.close()
    for number in range(3):
        assert [text for text in came if text.startswith(f"{number}:")] == sent[number]
    assert len(came) > 50


def test_a_peer_that_does_not_read_costs_the_connection(opened):
    done = threading.Event()
    connection = opened(lambda peer: done.wait(20))
    started = time.monotonic()
    with pytest.raises(ConnectionDroppedError, match="did not take a message in time") as caught:
        connection.write("x" * 20_000_000, Deadline.after(0.3))  # pitfalls.md 35
    assert time.monotonic() - started < 3
    assert isinstance(caught.value.__cause__, TimeoutError)
    _, error = read_to_end(connection)
    assert isinstance(error, ConnectionDroppedError)
    with pytest.raises(ConnectionDroppedError):
        connection.write("x", Deadline.after(5))
    done.set()


def test_a_writer_behind_a_stuck_one_has_its_own_deadline(pair):
    connection, _ = pair
    first = in_thread(connection.write, "x" * 1_000_000, Deadline.after(10))
    assert until(lambda: connection._write_lock.locked())
    with pytest.raises(ConnectionDroppedError):
        connection.write("y", Deadline.after(0.1))
    assert isinstance(first.get(timeout=5), ConnectionDroppedError)


def test_a_message_that_cannot_be_encoded_costs_nothing(pair):
    connection, theirs = pair
    with pytest.raises(UnicodeEncodeError):
        connection.write("\ud800", Deadline.after(5))
    connection.write("fine", Deadline.after(5))
    assert len(theirs.recv(100)) == 10


def test_ctrl_c_in_the_middle_of_a_frame_ends_the_connection(pair, monkeypatch):
    connection, _ = pair

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "wait_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        connection.write("x" * 1_000_000, Deadline.after(5))
    monkeypatch.undo()
    _, error = read_to_end(connection)
    assert isinstance(error, ConnectionDroppedError)


def test_a_ping_is_answered_behind_the_frame_that_is_being_written(pair, waker):
    connection, theirs = pair
    result = in_thread(connection.write, "x" * 300_000, Deadline.after(10))
    assert until(lambda: connection._write_lock.locked())
    theirs.sendall(server_frame(b"there?", PING) + server_frame("hello"))
    assert read_until(connection, 1) == ["hello"]
    data = b""
    while len(data) < 300_000 + 14 + 12:
        data += theirs.recv(65536)
    assert result.get(timeout=5) is None
    pong = data[300_014:]
    assert pong[:2] == bytes([0x80 | PONG, 0x80 | 6])
    assert bytes(byte ^ pong[2 + index % 4] for index, byte in enumerate(pong[6:])) == b"there?"


def test_a_pong_that_found_no_room_is_sent_by_a_later_wait(pair, waker):
    connection, theirs = pair
    connection._link._sock.setblocking(False)
    filler = 0
    try:
        while True:
            filler += connection._link._sock.send(b"\0" * 1024)
    except BlockingIOError:
        pass
    theirs.sendall(server_frame(b"there?", PING))
    assert receive(connection, 5, waker) == []
    assert receive(connection, 0.05, waker) is None
    data = b""
    while len(data) < filler:
        data += theirs.recv(filler - len(data))
    assert receive(connection, 0.05, waker) is None
    assert theirs.recv(2) == bytes([0x80 | PONG, 0x80 | 6])


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_a_wait_ends_when_its_time_is_up(opened, waker):
    connection = opened(lambda peer: peer.linger())
    read_until(connection, 1, timeout=0.1)  # TLS: the session tickets
    started = time.monotonic()
    assert receive(connection, 0.1, waker) is None
    assert 0.1 <= time.monotonic() - started < 1


def test_a_waker_ends_a_wait(opened, waker):
    connection = opened(lambda peer: peer.linger())
    read_until(connection, 1, timeout=0.1)
    result = in_thread(receive, connection, 20, waker)
    waker.wake()
    assert result.get(timeout=5) is None


def test_a_message_ends_a_wait(opened, waker):
    go = threading.Event()

    def handler(peer):
        go.wait(10)
        peer.send(server_frame("hello"))
        peer.linger()

    connection = opened(handler)
    read_until(connection, 1, timeout=0.1)
    result = in_thread(receive, connection, 20, waker)
    go.set()
    assert result.get(timeout=5) == ["hello"]


def test_what_tls_holds_already_is_not_waited_for(opened, monkeypatch):
    monkeypatch.setattr(link_module, "CHUNK", 7)  # less than a record: the rest is in OpenSSL, and the socket is quiet
    text = "x" * 1000
    assert read_until(opened(lambda peer: (peer.send(server_frame(text)), peer.linger())), 1) == [text]


# -- closing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 4000])
def test_close_says_so_and_is_idempotent(opened, code):
    told = []

    def handler(peer):
        told.append(peer.frame())
        peer.linger()
        told.append("gone")

    connection = opened(handler)
    connection.close(code)
    connection.close()
    assert until(lambda: len(told) == 2)
    assert told == [(CLOSE, struct.pack("!H", code)), "gone"]
    assert connection._link.fileno() == -1
    with pytest.raises(ConnectionDroppedError, match="closed on this side") as caught:
        receive(connection)
    assert caught.value.close_code is None
    with pytest.raises(ConnectionDroppedError, match="closed on this side"):
        connection.write("x", Deadline.after(5))


def test_close_wakes_the_thread_in_a_wait(opened, waker):
    connection = opened(lambda peer: peer.linger())
    read_until(connection, 1, timeout=0.1)
    result = in_thread(receive, connection, 20, waker)
    assert until(lambda: connection._users)
    started = time.monotonic()
    connection.close()
    error = result.get(timeout=5)
    assert isinstance(error, ConnectionDroppedError)
    assert "closed on this side" in str(error)
    assert time.monotonic() - started < 1
    assert until(lambda: connection._link.fileno() == -1)


def test_close_wakes_the_thread_in_a_write(opened):
    done = threading.Event()
    connection = opened(lambda peer: done.wait(20))
    result = in_thread(connection.write, "x" * 20_000_000, Deadline.after(20))
    assert until(lambda: connection._write_lock.locked())
    started = time.monotonic()
    connection.close()
    assert time.monotonic() - started < 0.5
    error = result.get(timeout=5)
    assert isinstance(error, ConnectionDroppedError)
    assert "closed on this side" in str(error)
    assert until(lambda: connection._link.fileno() == -1)
    done.set()


def test_close_waits_for_no_silent_peer(pair):
    connection, _ = pair
    in_thread(connection.write, "x" * 1_000_000, Deadline.after(20))  # pitfalls.md 21
    assert until(lambda: connection._write_lock.locked())
    started = time.monotonic()
    connection.close()
    assert time.monotonic() - started < 0.5


def test_many_may_close_at_once(opened):
    connection = opened(lambda peer: peer.linger())
    results = [in_thread(connection.close) for _ in range(8)]
    assert [result.get(timeout=5) for result in results] == [None] * 8
    assert connection._link.fileno() == -1


def test_connections_opened_and_closed_leave_no_descriptors(opened):
    for _ in range(10):
        opened(echo).close()  # the fixture counts


# -- what a plain socket seldom says ----------------------------------------------------------------------------------


class Moody(Link):
    """A link that wants what a test says before it does anything."""

    def __init__(self, sock, *wishes):
        super().__init__(sock)
        self.wishes = list(wishes)

    def _wish(self):
        if self.wishes:
            raise self.wishes.pop(0)

    def recv(self):
        self._wish()
        return super().recv()

    def send(self, data):
        self._wish()
        return super().send(data)


class Slow(Link):
    """A link whose writes are under way until a test lets them go on."""

    def __init__(self, sock):
        super().__init__(sock)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def send(self, data):
        self.begun.set()
        self.go_on.wait(20)
        return super().send(data)


def test_a_thread_that_waits_leaves_a_write_to_the_writer(waker):
    ours, theirs = socket.socketpair()
    with theirs:
        slow = Slow(ours)
        connection = WebSocketConnection(slow, _Frames(b"", 1000))
        assert receive(connection, 0, waker) == []
        result = in_thread(connection.write, "hello", Deadline.after(20))
        assert slow.begun.wait(5)
        started = time.monotonic()
        assert receive(connection, 0.2, waker) is None  # there is room to write, and somebody at it
        assert time.monotonic() - started >= 0.2
        theirs.sendall(server_frame(b"there?", PING))
        assert receive(connection, 5, waker) == []
        slow.go_on.set()
        assert result.get(timeout=5) is None
        data = b""
        while len(data) < 11 + 12:
            data += theirs.recv(100)
        assert data[11:13] == bytes([0x80 | PONG, 0x80 | 6])  # by the writer, when it was done
        connection.close()


def test_a_read_that_has_to_write_first_is_tried_again(waker):
    ours, theirs = socket.socketpair()
    with theirs:
        connection = WebSocketConnection(Moody(ours, WantWrite()), _Frames(b"", 1000))
        assert receive(connection, 0, waker) == []
        assert receive(connection, 5, waker) == []  # there is room to write, though nothing to read
        assert receive(connection, 0, waker) is None
        theirs.sendall(server_frame("hello"))
        assert receive(connection, 5, waker) == ["hello"]
        connection.close()


def test_a_write_that_has_to_read_first_is_tried_again():
    ours, theirs = socket.socketpair()
    with theirs:
        connection = WebSocketConnection(Moody(ours, WantRead(), WantWrite()), _Frames(b"", 1000))
        theirs.sendall(server_frame("something to read"))
        connection.write("hello", Deadline.after(5))
        assert len(theirs.recv(100)) == 11
        connection.close()


def test_an_interrupted_call_is_no_end():
    ours, theirs = socket.socketpair()
    with theirs:
        made = link(ours)

        class Interrupted:
            def recv(self, _):
                raise InterruptedError

        real, made._sock = made._sock, Interrupted()
        with pytest.raises(WantRead):
            made.recv()
        made._sock = real
        made.close()


def test_frames_are_text():
    assert _Frames(b"", 10).encode(TEXT, "x")[0] == 0x81
