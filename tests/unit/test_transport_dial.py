"""The connection that is opened before there is anything to say."""

import errno
import os
import socket
import time

import pytest
import requests
import urllib3.util.connection
from transport_wire import (  # noqa: F401 - some are fixtures
    Server,
    connect,
    make_certificates,
    no_leaks,
    no_proxies,
    read_until,
    settings,
    until,
)
from transport_wire import frame as server_frame

from polyai_sync.config import Timeouts
from polyai_sync.errors import ConfigurationError, ConnectionFailedError
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.dial import Dialer
from polyai_sync.transport.failures import network_error
from polyai_sync.transport.http import HttpTransport


def stays(peer):
    peer.linger()


def dialer(base_url, *, http=None, websocket_options=None, **changes):
    chosen = settings(base_url, **changes)
    return Dialer(chosen, HttpTransport(chosen, http=http), websocket_options=websocket_options)


@pytest.fixture
def names(monkeypatch):
    """Names that resolve to what a test says."""
    known = {}
    real = socket.getaddrinfo

    def resolve(host, port, *args, **kwargs):
        if host in known:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


def full_listener():
    """A port whose queue of connections is full: the next one is neither accepted nor refused."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
        waiting.append(sock)
    return listener, waiting


def test_a_dialled_connection_is_young_and_open():
    with Server(stays) as server:
        dialled = dialer(server.base_url).dial(Deadline.after(5))
        assert dialled.fresh()
        assert 0 <= dialled.age() < 5
        assert dialled.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        dialled.close()
        dialled.close()


def test_one_that_the_server_has_closed_is_not_fresh():
    with Server(lambda peer: None) as server:
        dialled = dialer(server.base_url).dial(Deadline.after(5))
        assert until(lambda: not dialled.fresh())
        dialled.close()
        assert not dialled.fresh()


def test_one_that_was_spoken_to_is_not_fresh():
    def handler(peer):
        peer.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        peer.linger()

    with Server(handler) as server:
        dialled = dialer(server.base_url).dial(Deadline.after(5))
        assert until(lambda: not dialled.fresh())
        dialled.close()


def test_an_old_one_is_not_fresh(monkeypatch):
    with Server(stays) as server:
        dialled = dialer(server.base_url).dial(Deadline.after(5))
        monkeypatch.setattr(dialled, "_since", time.monotonic() - 5)
        assert dialled.age() >= 5
        assert not dialled.fresh()
        dialled.close()


def test_session_tickets_do_not_make_a_tls_connection_stale(certificates):
    def handler(peer):
        peer.upgrade(behind=server_frame("hello"))
        peer.linger()

    with Server(handler, certificates.server()) as server, requests.Session() as http:
        http.verify = certificates.bundle
        chosen = dialer(server.base_url, http=http)
        dialled = chosen.dial(Deadline.after(5))
        assert dialled.sock.version() == "TLSv1.3"
        time.sleep(0.05)  # for the tickets, which come after the handshake, to be there
        assert dialled.fresh()
        dialled.close()
        connection = connect(server.base_url, http=http)
        assert read_until(connection, 1) == ["hello"]
        connection.close()


def test_a_closed_tls_connection_is_not_fresh(certificates):
    with Server(lambda peer: None, certificates.server()) as server, requests.Session() as http:
        http.verify = certificates.bundle
        dialled = dialer(server.base_url, http=http).dial(Deadline.after(5))
        assert until(lambda: not dialled.fresh())
        dialled.close()


def test_a_dead_address_is_passed_over(names):
    with Server(stays) as server:
        names["localhost"] = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
        dialled = dialer(f"http://localhost:{server.port}").dial(Deadline.after(5))
        assert dialled.sock.getpeername()[0] == "127.0.0.1"
        dialled.close()


def test_silent_addresses_share_one_deadline(names):
    listener, waiting = full_listener()
    try:
        port = listener.getsockname()[1]
        names["localhost"] = ["127.0.0.1"] * 5
        started = time.monotonic()
        with pytest.raises(ConnectionFailedError, match=rf"Timed out .*localhost:{port}") as caught:
            dialer(f"http://localhost:{port}").dial(Deadline.after(0.5))
        assert 0.4 <= time.monotonic() - started < 1.5
        assert caught.value.surface == "connect"
    finally:
        for sock in (listener, *waiting):
            sock.close()


def test_a_silent_address_leaves_time_for_the_next(names, monkeypatch):
    listener, waiting = full_listener()
    with Server(stays) as server:
        try:
            real = socket.getaddrinfo
            ports = [listener.getsockname(), ("127.0.0.1", server.port)]
            monkeypatch.setattr(
                socket,
                "getaddrinfo",
                lambda host, port, *rest: (
                    [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in ports]
                    if host == "localhost"
                    else real(host, port, *rest)
                ),
            )
            dialled = dialer("http://localhost:1").dial(Deadline.after(1))
            assert dialled.sock.getpeername()[1] == server.port
            dialled.close()
        finally:
            for sock in (listener, *waiting):
                sock.close()


def test_the_connect_time_out_counts_too():
    listener, waiting = full_listener()
    try:
        started = time.monotonic()
        with pytest.raises(ConnectionFailedError, match="Timed out"):
            dialer(f"http://127.0.0.1:{listener.getsockname()[1]}", timeouts=Timeouts(connect=0.3)).dial(
                Deadline.after(30)
            )
        assert time.monotonic() - started < 2
    finally:
        for sock in (listener, *waiting):
            sock.close()


def test_a_server_that_never_answers_the_tls_handshake_is_given_up(certificates):
    with Server(stays) as server:
        started = time.monotonic()
        with pytest.raises(ConnectionFailedError, match="Timed out"):
            dialer(server.base_url.replace("http:", "https:")).dial(Deadline.after(0.3))
        assert time.monotonic() - started < 2


def test_the_tls_handshake_has_all_the_time_that_is_left(names):
    with Server(stays) as server:
        names["localhost"] = ["127.0.0.1"] * 4
        started = time.monotonic()
        with pytest.raises(ConnectionFailedError, match="Timed out"):
            dialer(f"https://localhost:{server.port}").dial(Deadline.after(0.4))
        assert 0.4 <= time.monotonic() - started < 2


def test_time_that_a_proxy_took_is_not_given_again_to_tls(monkeypatch):
    def handler(peer):
        peer.head()
        time.sleep(1.0)
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.linger()

    with Server(handler) as gate:
        monkeypatch.setenv("HTTPS_PROXY", gate.base_url)
        started = time.monotonic()
        with pytest.raises(ConnectionFailedError, match="Timed out"):
            dialer("https://messaging.example").dial(Deadline.after(1.5))
        assert 1.5 <= time.monotonic() - started < 2.3


def test_a_proxy_that_dribbles_is_given_up(monkeypatch):
    def handler(peer):
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            for byte in b"X-Slow: loris\r\n":
                peer.send(bytes([byte]))
                time.sleep(0.01)

    with Server(handler) as gate:
        monkeypatch.setenv("HTTPS_PROXY", gate.base_url)
        started = time.monotonic()
        with pytest.raises(ConnectionFailedError, match="Timed out"):
            dialer("https://messaging.example").dial(Deadline.after(0.4))
        assert time.monotonic() - started < 2


def test_after_the_deadline_nothing_is_dialled():
    with Server(stays) as server:
        with pytest.raises(ConnectionFailedError):
            dialer(server.base_url).dial(Deadline.after(0))
        assert server.accepted == 0


def test_failures_are_told_in_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailedError, match="refused") as caught:
        dialer(f"http://127.0.0.1:{port}").dial(Deadline.after(5))
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert caught.value.__context__ is None or caught.value.__context__ is caught.value.__cause__
    assert caught.value.__cause__.__traceback__ is None
    with pytest.raises(ConnectionFailedError, match="Could not resolve the host name"):
        dialer("https://no-such-host.invalid").dial(Deadline.after(5))
    with pytest.raises(ConnectionFailedError, match="Could not resolve the host name"):
        dialer("https://" + "a" * 70 + ".example").dial(Deadline.after(5))


def test_a_program_that_wants_one_address_family_gets_it(monkeypatch):
    asked = []
    real = socket.getaddrinfo
    monkeypatch.setattr(urllib3.util.connection, "allowed_gai_family", lambda: socket.AF_INET)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: asked.append(args[2]) or real(*args))
    with Server(stays) as server:
        dialer(server.base_url).dial(Deadline.after(5)).close()
    assert asked == [socket.AF_INET]


def test_an_ipv6_address_is_dialled():
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listener:
        dialled = dialer(f"http://[::1]:{listener.getsockname()[1]}").dial(Deadline.after(5))
        dialled.close()


# -- options ----------------------------------------------------------------------------------------------------------


def test_socket_options_are_set():
    options = {"sockopt": [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]}
    with Server(stays) as server:
        dialled = dialer(server.base_url, websocket_options=options).dial(Deadline.after(5))
        assert dialled.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert dialled.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        dialled.close()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sslopt": {}}, "sslopt"),
        ({"http_proxy_host": "x"}, "http_proxy_host"),
        ({"sockopt": "x"}, "sockopt"),
        ({"sockopt": [1]}, "sockopt"),
        ({"sockopt": 1}, "sockopt"),
        ({"sockopt": [("a", "b", "c")]}, "sockopt"),
        ({"sockopt": [(1, 2)]}, "sockopt"),
        (["sockopt"], "mapping"),
        ({"header": ["no colon"]}, "header"),
        ({"header": ["X-A: b\r\nX-C: d"]}, "header"),
        ({"header": {"X-A": "b\nX-C: d"}}, "header"),
        ({"header": {"X A": "b"}}, "header"),
        ({"header": {"X-A": "é"}}, "header"),
        ({"header": [7]}, "header"),
        ({"header": 7}, "header"),
        ({"header": {"Host": "elsewhere"}}, "Host"),
        ({"header": ["sec-websocket-protocol: x"]}, "sec-websocket-protocol"),
        ({"header": ["Upgrade: x"]}, "Upgrade"),
    ],
)
def test_malformed_options_are_refused_at_construction(options, match):
    with pytest.raises(ConfigurationError, match=match) as caught:
        dialer("https://messaging.example", websocket_options=options)
    assert caught.value.resolution


def test_headers_may_be_a_mapping_or_lines():
    assert dialer("https://messaging.example").headers == ()
    for header in ({"X-A": "b", "X-None": None}, ["X-A: b"], "X-A: b"):
        assert dialer("https://messaging.example", websocket_options={"header": header}).headers == ("X-A: b",)


@pytest.mark.parametrize(("number", "whose"), [(errno.EMFILE, "this process"), (errno.ENFILE, "the system")])
def test_too_many_open_files_are_no_trouble_of_the_network(number, whose):
    error = network_error(OSError(number, os.strerror(number)), surface="connect", where="host:443")
    assert isinstance(error, ConnectionFailedError)
    assert f"{whose} has too many open files: close sessions" in str(error)
