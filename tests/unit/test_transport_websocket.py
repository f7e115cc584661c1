"""Reading: frames however they come, and every way a connection ends."""

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from transport_wire import (  # noqa: F401 - some are fixtures
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Server,
    connect,
    make_certificates,
    no_leaks,
    no_proxies,
    read_to_end,
    read_until,
    receive,
    until,
)
from transport_wire import frame as server_frame

from polyai_sync.errors import ConnectionDroppedError, ProtocolError
from polyai_sync.transport import connection as module
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.link import link
from polyai_sync.transport.waker import Waker, wait_readable
from polyai_sync.transport.websocket import WebSocketConnection, _Frames


@pytest.fixture(params=["plain", "tls"])
def opened(request, certificates):
    """Open a connection to a server that does something once it is open."""
    stack = []

    def make(handler):
        def serve(peer):
            peer.upgrade()
            handler(peer)

        server = Server(serve, certificates.server() if request.param == "tls" else None)
        server.__enter__()
        stack.append(server)
        http = None
        if request.param == "tls":
            http = requests.Session()
            http.verify = certificates.bundle
        connection = connect(server.base_url, http=http)
        stack.append(connection)
        return connection

    yield make
    for item in reversed(stack):
        item.close() if isinstance(item, WebSocketConnection) else item.__exit__()


def sends(data):
    """A handler that sends these bytes and stays."""

    def handler(peer):
        peer.send(data)
        peer.linger()

    return handler


# -- messages ---------------------------------------------------------------------------------------------------------


def test_messages_come_whole_and_in_order(opened):
    texts = ["", "a", "é€😀", "x" * 125, "x" * 126, "x" * 65535, "y" * 65536, "z" * 300_000, '{"type": "E"}']
    connection = opened(sends(b"".join(map(server_frame, texts))))
    assert read_until(connection, len(texts)) == texts


def test_a_message_byte_by_byte(opened):
    def handler(peer):
        for byte in server_frame("héllo") + server_frame("x" * 200):
            peer.send(bytes([byte]))
        peer.linger()

    assert read_until(opened(handler), 2) == ["héllo", "x" * 200]


def test_many_messages_in_one_segment(opened):
    texts = [f"message {number}" for number in range(1000)]
    assert read_until(opened(sends(b"".join(map(server_frame, texts)))), 1000) == texts


def test_a_fragmented_message_with_a_ping_in_it(opened):
    pongs = []

    def handler(peer):
        text = "größer".encode()
        peer.send(server_frame(text[:3], TEXT, fin=False))  # in the middle of a letter
        peer.send(server_frame(b"are you there", PING))
        peer.send(server_frame(text[3:5], CONTINUATION, fin=False))
        peer.send(server_frame(b"", CONTINUATION, fin=False))
        peer.send(server_frame(text[5:], CONTINUATION))
        peer.send(server_frame("next"))
        pongs.append(peer.frame())
        peer.linger()

    connection = opened(handler)
    assert read_until(connection, 2) == ["größer", "next"]
    assert until(lambda: pongs) == [(PONG, b"are you there")]


def test_a_pong_is_passed_over(opened):
    assert read_until(opened(sends(server_frame(b"x", PONG) + server_frame("hello"))), 1) == ["hello"]


def test_a_masked_frame_is_understood(opened):
    mask = b"\x01\x02\x03\x04"
    payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(b"hello"))
    assert read_until(opened(sends(b"\x81\x85" + mask + payload)), 1) == ["hello"]


def test_nothing_there_is_no_message_and_no_wait(opened):
    connection = opened(lambda peer: peer.linger())
    started = time.monotonic()
    assert receive(connection) == []
    assert receive(connection) is None
    assert time.monotonic() - started < 0.5


def test_an_unfinished_frame_does_not_make_a_wait_spin(opened):
    connection = opened(sends(server_frame("hello")[:4]))
    waker = Waker()
    until(lambda: receive(connection, 0.01, waker), timeout=0.1)
    started = time.monotonic()
    rounds = 0
    while time.monotonic() - started < 0.2:
        assert not receive(connection, 0.05, waker)
        rounds += 1
    assert rounds < 10
    waker.close()


def test_a_flood_is_read_in_portions(opened):
    count = 5000
    connection = opened(sends(server_frame("x" * 200) * count))
    waker = Waker()
    portions = []
    while sum(portions) < count:
        portions.append(len(receive(connection, 5, waker)))
    assert max(portions) <= module.FRAMES_AT_ONCE
    assert max(portions) > 20
    waker.close()


@st.composite
def some_messages(draw):
    """Texts; and their frames, some of them in fragments, and control frames in between."""
    texts, data = [], b""
    for _ in range(draw(st.integers(1, 6))):
        size = draw(st.sampled_from([0, 1, 124, 125, 126, 300, 5_000, 65_535, 65_536, 70_000]))
        texts.append(draw(st.sampled_from("aé€😀")) * (size // 4) + "x" * (size % 4))
        payload = texts[-1].encode()
        bounds = [0, *sorted(draw(st.lists(st.integers(0, len(payload)), max_size=2))), len(payload)]
        for index, (start, end) in enumerate(pairwise(bounds)):
            data += draw(st.sampled_from([b"", server_frame(b"there?", PING), server_frame(b"", PONG)]))
            last = index == len(bounds) - 2
            data += server_frame(payload[start:end], TEXT if index == 0 else CONTINUATION, fin=last)
    return texts, data


@settings(max_examples=100, deadline=None)
@given(some_messages(), st.data(), st.booleans())
def test_messages_come_whole_however_their_bytes_are_cut(messages, data, early):
    texts, wire = messages
    bounds = [0, *sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=12))), len(wire)]
    pieces = [wire[start:end] for start, end in pairwise(bounds)]
    ours, theirs = socket.socketpair()
    with theirs:
        connection = WebSocketConnection(link(ours), frames_of(pieces.pop(0) if early else b""))  # with the handshake
        waker = Waker()
        came = []
        for piece in pieces or [b""]:
            sender = threading.Thread(target=theirs.sendall, args=(piece,))
            sender.start()
            while sender.is_alive() or wait_readable([ours.fileno()], 0):
                came += receive(connection, 0.01, waker) or []
            sender.join()
        came += receive(connection, 0, waker) or []
        assert came == texts
        connection.close()
        waker.close()


def test_what_a_portion_left_behind_needs_no_wait():
    ours, theirs = socket.socketpair()
    with theirs:
        connection = WebSocketConnection(link(ours), frames_of())
        theirs.sendall(server_frame("x") * (module.FRAMES_AT_ONCE + 10))
        waker = Waker()
        assert len(receive(connection, 5, waker)) == module.FRAMES_AT_ONCE
        assert len(receive(connection, 5, waker)) == 10  # the socket is empty; the buffer was not
        assert receive(connection, 0, waker) is None
        connection.close()
        waker.close()


def frames_of(data=b"", limit=1024 * 1024):
    return _Frames(data, limit)


# -- what the server must not send ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "match", "code"),
    [
        (server_frame("x", length=10_000_000_000), "more than 1048576 bytes", 1009),
        (server_frame("x", length=1024 * 1024 + 1), "more than 1048576 bytes", 1009),
        (server_frame("x", length=2**63), "more than 1048576 bytes", 1009),
        (server_frame(b"x" * 600_000, fin=False) + server_frame(b"", CONTINUATION, length=600_000), "more than", 1009),
        (server_frame(b"x", BINARY), "binary", 1003),
        (server_frame(b"\xff\xfe"), "UTF-8", 1007),
        (server_frame(b"\xed\xa0\x80"), "UTF-8", 1007),
        (server_frame(b"\xc3", fin=False) + server_frame(b"x", CONTINUATION), "UTF-8", 1007),
        (server_frame(b"x", CONTINUATION), "out of order", 1002),
        (server_frame(b"x", fin=False) + server_frame(b"y"), "out of order", 1002),
        (server_frame(b"x", 0x3), "mean nothing", 1002),
        (server_frame(b"x", 0xB), "mean nothing", 1002),
        (b"\xc1\x01x", "mean nothing", 1002),
        (server_frame(b"x" * 126, PING), "control frame", 1002),
        (server_frame(b"", PING, length=10_000_000), "control frame", 1002),
        (server_frame(b"x", PING, fin=False), "control frame", 1002),
        (server_frame(b"x", CLOSE), "malformed", 1002),
        (server_frame(struct.pack("!H", 1005), CLOSE), "malformed", 1002),
        (server_frame(struct.pack("!H", 99), CLOSE), "malformed", 1002),
    ],
)
def test_a_frame_that_must_not_be_ends_the_connection(opened, data, match, code):
    told = []

    def handler(peer):
        peer.send(server_frame("before") + data)
        told.append(peer.frame())
        peer.linger()

    connection = opened(handler)
    messages, error = read_to_end(connection)
    assert messages == ["before"]
    assert isinstance(error, ProtocolError)
    assert error.code == "client.protocol"
    assert error.surface == "websocket"
    assert match in str(error)
    assert until(lambda: told) == [(CLOSE, struct.pack("!H", code))]
    with pytest.raises(ProtocolError):
        receive(connection)
    with pytest.raises(ConnectionDroppedError):
        connection.write("x", None)


def test_a_huge_frame_is_judged_by_its_header(opened):
    def handler(peer):
        peer.send(server_frame("", length=10_000_000_000))  # pitfalls.md 33
        peer.linger()

    started = time.monotonic()
    _, error = read_to_end(opened(handler))
    assert isinstance(error, ProtocolError)
    assert time.monotonic() - started < 2


def test_endless_empty_fragments_cost_no_memory():
    frames = frames_of()
    frames.feed(server_frame(b"x", fin=False))
    assert frames.take() == (TEXT, None)
    for _ in range(1000):
        frames.feed(server_frame(b"", CONTINUATION, fin=False))
        assert frames.take() == (CONTINUATION, None)
    assert frames.message == bytearray(b"x")
    frames.feed(server_frame(b"y", CONTINUATION))
    assert frames.take() == (CONTINUATION, "xy")
    frames.release()
    assert len(frames._data) + len(frames._behind) == 0


def test_a_ping_flood_from_a_peer_that_does_not_read_is_not_hoarded():
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection = WebSocketConnection(link(ours), frames_of())
        waker = Waker()
        for _ in range(2000):
            theirs.sendall(server_frame(b"p" * 100, PING))
            assert receive(connection, 5, waker) == []
        assert connection._unsent  # the peer's side is full
        assert len(connection._unsent) + sum(map(len, connection._controls)) < 4096
        connection.close()
        waker.close()


# -- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (struct.pack("!H", 1000), 1000, ""),
        (struct.pack("!H", 4001) + b"unknown session", 4001, "unknown session"),
        (struct.pack("!H", 1011) + "größer".encode(), 1011, "größer"),
        (struct.pack("!H", 1012) + b"\xff", 1012, "\ufffd"),
        (struct.pack("!H", 3000), 3000, ""),
        (b"", 1005, ""),
    ],
)
def test_a_close_is_reported_and_answered(opened, payload, code, reason):
    told = []

    def handler(peer):
        peer.send(server_frame("bye") + server_frame(payload, CLOSE) + server_frame("never read"))
        told.append(peer.frame())
        told.append(peer.sock.recv(100))

    connection = opened(handler)
    messages, error = read_to_end(connection)
    assert messages == ["bye"]
    assert isinstance(error, ConnectionDroppedError)
    assert (error.close_code, error.close_reason) == (code, reason)
    assert error.retryable
    assert until(lambda: told)
    for _ in range(2):
        with pytest.raises(ConnectionDroppedError) as caught:
            receive(connection)
        assert caught.value.close_code == code
    with pytest.raises(ConnectionDroppedError) as caught:
        connection.write("too late", None)
    assert caught.value.close_code == code
    connection.close()
    assert until(lambda: len(told) == 2)
    assert told == [(CLOSE, payload[:2]), b""]


@pytest.mark.parametrize("part", [b"", server_frame("unfinished")[:5], b"\x81"])
def test_an_end_without_a_close_has_no_code(opened, part):
    def handler(peer):
        peer.send(server_frame("last") + part)

    messages, error = read_to_end(opened(handler))
    assert messages == ["last"]
    assert isinstance(error, ConnectionDroppedError)
    assert (error.close_code, error.close_reason) == (None, "")


def test_a_reset_has_no_code_and_a_cause(opened):
    connection = opened(lambda peer: peer.reset())
    messages, error = read_to_end(connection)
    assert messages == []
    assert isinstance(error, ConnectionDroppedError)
    assert error.close_code is None
    assert error.__cause__ is None or isinstance(error.__cause__, OSError)


def test_a_close_behind_a_failed_write_is_still_read():
    ours, theirs = socket.socketpair()
    connection = WebSocketConnection(link(ours), frames_of())
    theirs.sendall(server_frame("last words") + server_frame(struct.pack("!H", 4001), CLOSE))
    theirs.close()
    with pytest.raises(ConnectionDroppedError) as caught:
        connection.write("hello?", Deadline.after(5))
    assert caught.value.close_code is None
    messages, error = read_to_end(connection)
    assert messages == ["last words"]
    assert error.close_code == 4001
    connection.close()


def test_what_came_before_this_side_broke_off_is_still_read(opened):
    go = threading.Event()

    def handler(peer):
        peer.send(server_frame("first"))
        go.wait(10)
        peer.send(server_frame("last words"))
        peer.linger()

    connection = opened(handler)
    assert read_until(connection, 1) == ["first"]
    go.set()
    assert wait_readable([connection._link.fileno()], 5)
    connection._link.shutdown()  # as a failed write does; a TLS socket's own shutdown() would forget that there is TLS
    messages, error = read_to_end(connection)
    assert messages == ["last words"]
    assert isinstance(error, ConnectionDroppedError)


# -- forks ------------------------------------------------------------------------------------------------------------


def test_abandon_says_nothing_and_gives_the_descriptor_back(opened):
    told = []

    def handler(peer):
        peer.send(server_frame("hello"))
        told.append(peer.frame())
        peer.send(server_frame("still here"))
        peer.linger()

    connection = opened(handler)
    assert read_until(connection, 1) == ["hello"]
    # The child's copy, as far as descriptors go; a lock that another thread held at the fork must not hinder it.
    child = WebSocketConnection(link(socket.socket(fileno=os.dup(connection._link.fileno()))), frames_of())
    child._state.acquire()
    child._write_lock.acquire()
    before = len(os.listdir("/proc/self/fd"))
    thread = threading.Thread(target=child.abandon)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert len(os.listdir("/proc/self/fd")) == before - 1
    with pytest.raises(ConnectionDroppedError):
        receive(child)
    with pytest.raises(ConnectionDroppedError):
        child.write("x", Deadline.after(5))
    child.close()
    child.abandon()
    connection.write("from the parent", Deadline.after(5))
    assert read_until(connection, 1) == ["still here"]
    assert told == [(TEXT, b"from the parent")]


@pytest.mark.parametrize("end", ["abandon", "close"])
def test_the_end_of_a_childs_copy_leaves_the_parents_tls_alone(certificates, end):
    code = """
import os, sys, requests
sys.path.insert(0, {folder!r})
from transport_wire import connect, read_until
from polyai_sync.transport.deadline import Deadline
http = requests.Session()
http.verify = {bundle!r}
connection = connect({url!r}, http=http)
assert read_until(connection, 1) == ["hello"]
pid = os.fork()
if pid == 0:
    connection.{end}()
    del connection
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
connection.write("from the parent", Deadline.after(5))
assert read_until(connection, 1) == ["still here"]
connection.close()
"""

    def handler(peer):
        peer.upgrade(behind=server_frame("hello"))
        assert peer.frame() == (TEXT, b"from the parent")
        peer.send(server_frame("still here"))
        peer.linger()

    with Server(handler, certificates.server()) as server:
        filled = code.format(end=end, folder=os.path.dirname(__file__), bundle=certificates.bundle, url=server.base_url)
        subprocess.run([sys.executable, "-c", filled], check=True, timeout=30)
