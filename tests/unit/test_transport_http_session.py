"""The caller's requests session, threads, forks, TLS and proxies, for both legs."""

import copy
import datetime as dt
import importlib.util
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import UserDict

import pytest
import requests
from requests.adapters import HTTPAdapter
from transport_wire import (  # noqa: F401 - some are fixtures
    GOOD,
    TOKEN,
    Recorded,
    Server,
    connect,
    create,
    headers_of,
    make_calling,
    make_certificates,
    mint,
    no_leaks,
    no_proxies,
    proxy,
    read_until,
    relay,
    settings,
)
from transport_wire import frame as server_frame

from polyai_sync.errors import ConfigurationError, ConnectionFailedError, ProtocolError
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.dial import Dialer
from polyai_sync.transport.http import HttpTransport


def both(peer):
    """A server of both legs."""
    while True:
        head = peer.head()
        if head.startswith("POST"):
            peer.recv(2)
            peer.answer(200, GOOD, Set_Cookie="flavour=oatmeal; Path=/")
            continue
        peer.data = head.encode("latin-1") + b"\r\n\r\n"
        peer.upgrade(behind=server_frame("hello"))
        peer.linger()


def both_legs(base_url, http=None):
    """Use both, and hang up."""
    transport = HttpTransport(settings(base_url), http=http)
    try:
        mint(transport)
    finally:
        transport.close()
    connection = connect(base_url, http=http)
    try:
        assert read_until(connection, 1) == ["hello"]
    finally:
        connection.close()


def fails(base_url, error, match, http=None):
    """Both legs fail alike."""
    transport = HttpTransport(settings(base_url), http=http)
    found = []
    try:
        with pytest.raises(error, match=match) as caught:
            mint(transport)
        found.append(caught.value)
        with pytest.raises(error, match=match) as caught:
            Dialer(settings(base_url), transport).dial(Deadline.after(5))
        found.append(caught.value)
    finally:
        transport.close()
    return found


# -- the caller's session ---------------------------------------------------------------------------------------------


def test_the_callers_settings_are_used_and_left_alone(calling):
    handler = Recorded(Set_Cookie="flavour=oatmeal; Path=/")
    with requests.Session() as session:
        session.headers["X-Gateway"] = "key"
        session.headers["User-Agent"] = "theirs"
        session.cookies.set("mine", "1")
        session.params = {"tenant": "7"}
        session.auth = ("somebody", "else")
        replies = []
        session.hooks["response"].append(lambda response, **_: replies.append(response.status_code))
        before = copy.deepcopy(
            {name: value for name, value in vars(session).items() if name not in ("adapters", "hooks")}
        )
        adapters = dict(session.adapters)
        transport = calling(handler, http=session)
        mint(transport)
        create_error = None
        try:
            create(transport)
        except Exception as error:
            create_error = error
        assert create_error is not None  # the answer was one to the other call
        after = {name: value for name, value in vars(session).items() if name not in ("adapters", "hooks")}
        assert {**after, "cookies": dict(session.cookies)} == {**before, "cookies": {"mine": "1"}}
        assert dict(session.adapters) == adapters
        assert replies == [200, 200]
    for head, _ in handler.requests:
        headers = headers_of(head)
        assert headers["x-gateway"] == "key"
        assert headers["user-agent"].startswith("polyai-sync/")
        assert headers["cookie"] == "mine=1"
        assert "?tenant=7 " in head.split("\r\n", 1)[0]
    assert headers["authorization"] == f"Bearer {TOKEN}"


def test_a_hook_that_reads_the_body_does_no_harm(calling):
    with requests.Session() as session:
        read = []
        session.hooks["response"].append(lambda response, **_: read.append(response.json()))
        assert mint(calling(Recorded(), http=session)).value == TOKEN
        assert read


def test_a_hook_may_stand_alone(calling):
    with requests.Session() as session:
        read = []
        session.hooks["response"] = lambda response, **_: read.append(response.status_code)
        session.proxies = None
        mint(calling(Recorded(), http=session))
        assert read == [200]


def test_a_session_of_another_class_keeps_its_ways(calling):
    class Signing(requests.Session):
        def __init__(self):
            super().__init__()
            self.key = "k"

        def request(self, *args, **kwargs):
            kwargs["headers"] = {**kwargs["headers"], "X-Signed": self.key}
            return super().request(*args, **kwargs)

    handler = Recorded()
    with Signing() as session:
        mint(calling(handler, http=session))
    assert headers_of(handler.requests[0][0])["x-signed"] == "k"


class HastyEnviron(UserDict):
    """The environment, of which another thread takes a variable away whenever somebody goes through it."""

    def __init__(self, variables, times):
        super().__init__(variables)
        self.times = times

    def __iter__(self):
        names = [*self.data]
        if self.times:
            self.times -= 1
            names.append("gone_proxy")
        return iter(names)


class OwnSettings(requests.Session):
    """Makes something of the settings itself."""

    def merge_environment_settings(self, *arguments, **named):
        return {**super().merge_environment_settings(*arguments, **named)}


@pytest.mark.parametrize("session", [None, requests.Session(), OwnSettings()], ids=["ours", "theirs", "another class"])
def test_a_variable_that_goes_away_meanwhile_does_no_harm(session, monkeypatch):
    environ = HastyEnviron(os.environ, times=7)
    with Server(both) as server:
        monkeypatch.setattr(os, "environ", environ)
        both_legs(server.base_url, session)
    assert environ.times == 0


def test_retries_of_requests_own_adapter_are_off(monkeypatch):
    tries = []
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: tries.append(args) or real(*args))
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=5))
        transport = HttpTransport(settings("http://127.0.0.1:1"), http=session)
        with pytest.raises(ConnectionFailedError):
            mint(transport)
        assert len(tries) == 1
        assert session.adapters["http://"].max_retries.total == 5


def test_an_adapter_that_was_changed_is_not_replaced(calling):
    with requests.Session() as session:
        used = []
        adapter = session.adapters["http://"]
        adapter.send = lambda *args, **kwargs: used.append(True) or HTTPAdapter.send(adapter, *args, **kwargs)
        mint(calling(Recorded(), http=session))
        assert used


def test_close_leaves_the_callers_adapters_open(calling):
    class Closed(HTTPAdapter):
        closed = 0

        def close(self):
            type(self).closed += 1
            super().close()

    with requests.Session() as session:
        session.mount("http://", Closed())
        transport = calling(Recorded(), http=session)
        mint(transport)
        transport.close()
        assert Closed.closed == 0
        mint(transport)
    assert Closed.closed == 1


def test_nothing_is_opened_before_the_first_call():
    threads = threading.active_count()
    transport = HttpTransport(settings("http://127.0.0.1:1"))
    assert transport._pools == {}
    assert threading.active_count() == threads
    transport.close()


def test_many_threads_share_one_transport(calling):
    handler = Recorded()
    transport = calling(handler)
    tokens, errors = [], []

    def work():
        try:
            tokens.extend(mint(transport).value for _ in range(20))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert tokens == [TOKEN] * 160


# -- a fork -----------------------------------------------------------------------------------------------------------

FORK = """
import os, sys, requests
from requests.adapters import HTTPAdapter
sys.path.insert(0, {folder!r})
from transport_wire import mint, settings
from polyai_sync.transport.http import HttpTransport

class Extra(HTTPAdapter):
    def __init__(self, extra):
        self.extra = extra
        super().__init__()
    def init_poolmanager(self, *args, **kwargs):
        assert self.extra
        super().init_poolmanager(*args, **kwargs)

http = None
if {custom}:
    http = requests.Session()
    http.mount("http://", Extra("more"))
transport = HttpTransport(settings({url!r}), http=http)
mint(transport)
mint(transport)
pid = os.fork()
if pid == 0:
    mint(transport)
    mint(transport)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
mint(transport)
transport.close()
"""


@pytest.mark.parametrize("custom", [False, True])
def test_a_forked_process_has_connections_of_its_own(custom):
    peers = []

    def handler(peer):
        count = 0
        peers.append(lambda: count)
        while True:
            peer.request()
            count += 1
            peer.answer(200, GOOD)

    with Server(handler) as server:
        code = FORK.format(folder=__file__.rpartition("/")[0], custom=custom, url=server.base_url)
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert sorted(count() for count in peers) == [2, 3]  # the child's two, and the parent's three on its own


# -- TLS --------------------------------------------------------------------------------------------------------------


def trusting(certificates):
    session = requests.Session()
    session.verify = certificates.bundle
    return session


def test_a_ca_bundle_on_the_session_serves_both_legs(certificates):
    with Server(both, certificates.server()) as server, trusting(certificates) as session:
        both_legs(server.base_url, session)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_ca_bundle_in_the_environment_serves_both_legs(certificates, monkeypatch, variable):
    monkeypatch.setenv(variable, certificates.bundle)
    with Server(both, certificates.server()) as server:
        both_legs(server.base_url)


def test_a_name_is_as_good_as_an_address(certificates):
    with Server(both, certificates.server()) as server, trusting(certificates) as session:
        both_legs(server.base_url.replace("127.0.0.1", "localhost"), session)


def test_an_unknown_authority_is_told_on_both_legs(certificates):
    with Server(both, certificates.server()) as server:
        for error in fails(server.base_url, ConnectionFailedError, "authority that is not trusted.*REQUESTS_CA_BUNDLE"):
            assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


def test_a_wrong_name_is_told_on_both_legs(certificates):
    with Server(both, certificates.server("other.example.com")) as server, trusting(certificates) as session:
        fails(server.base_url, ConnectionFailedError, "certificate is for another name", session)


def test_an_expired_certificate_is_told_on_both_legs(certificates):
    long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    context = certificates.server(not_before=long_ago, not_after=long_ago + dt.timedelta(days=1))
    with Server(both, context) as server, trusting(certificates) as session:
        fails(server.base_url, ConnectionFailedError, "certificate has expired", session)


def test_a_port_that_speaks_no_tls_is_told_on_both_legs():
    def handler(peer):
        peer.sock.recv(100)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Server(handler) as server:
        fails(server.base_url.replace("http:", "https:"), ConnectionFailedError, "speaks TLS on this port")


def test_a_missing_ca_bundle_is_a_setting_on_both_legs(monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
    fails("https://127.0.0.1:1", ConfigurationError, r"/no/such/bundle\.pem.*REQUESTS_CA_BUNDLE")


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # urllib3 says so, rightly
def test_verification_is_off_only_where_the_callers_session_says_so(certificates):
    with Server(both, certificates.server("other.example.com")) as server, requests.Session() as session:
        session.verify = False
        both_legs(server.base_url, session)


def test_a_client_certificate_serves_both_legs(certificates):
    context = certificates.server()
    context.verify_mode = ssl.CERT_REQUIRED
    certificates.ca.configure_trust(context)
    with Server(both, context) as server, trusting(certificates) as session:
        session.cert = certificates.client()  # pitfalls.md 36
        both_legs(server.base_url, session)


def test_a_missing_client_certificate_is_told_on_both_legs(certificates):
    context = certificates.server()
    context.verify_mode = ssl.CERT_REQUIRED
    certificates.ca.configure_trust(context)
    with Server(both, context) as server, trusting(certificates) as session:
        transport = HttpTransport(settings(server.base_url), http=session)
        with pytest.raises(ConnectionFailedError, match=r"client certificate|closed before"):
            mint(transport)
        with pytest.raises(ConnectionFailedError, match=r"client certificate|closed before"):
            connect(server.base_url, http=session)


def test_no_ca_bundle_is_loaded_for_a_second_connection(certificates, monkeypatch):
    with Server(both, certificates.server()) as server, trusting(certificates) as session:
        both_legs(server.base_url, session)
        monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: pytest.fail("loaded again"))
        both_legs(server.base_url, session)


# -- proxies ----------------------------------------------------------------------------------------------------------


def test_a_proxy_serves_both_legs(certificates, monkeypatch):
    seen = []
    with Server(both, certificates.server()) as server, Server(proxy(seen)) as gate, trusting(certificates) as session:
        monkeypatch.setenv("HTTPS_PROXY", gate.base_url)
        both_legs(server.base_url, session)
        assert [head.split("\r\n")[0].rpartition(" ")[0] for head in seen] == [f"CONNECT 127.0.0.1:{server.port}"] * 2
        assert TOKEN not in "".join(seen)


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "https_proxy"])
def test_requests_own_variables_count_on_both_legs(certificates, monkeypatch, variable):
    seen = []
    with Server(both, certificates.server()) as server, Server(proxy(seen)) as gate, trusting(certificates) as session:
        monkeypatch.setenv(variable, f"127.0.0.1:{gate.port}")
        both_legs(server.base_url, session)
        assert len(seen) == 2


def test_no_proxy_counts_on_both_legs(certificates, monkeypatch):
    seen = []
    with Server(both, certificates.server()) as server, Server(proxy(seen)) as gate, trusting(certificates) as session:
        monkeypatch.setenv("HTTPS_PROXY", gate.base_url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
        both_legs(server.base_url, session)
        assert seen == []


def test_the_sessions_proxies_count_on_both_legs_with_user_and_password(certificates):
    seen = []
    gate_handler = proxy(seen, password="user:pass word")
    with Server(both, certificates.server()) as server, Server(gate_handler) as gate, trusting(certificates) as session:
        session.trust_env = False
        session.proxies = {"https": gate.base_url.replace("//", "//user:pass%20word@")}
        both_legs(server.base_url, session)
        assert len(seen) == 2


def test_a_proxy_that_refuses_is_told_without_its_password(certificates, monkeypatch):
    with Server(proxy([], password="user:right")) as gate:
        monkeypatch.setenv("HTTPS_PROXY", gate.base_url.replace("//", "//user:wrongpass@"))
        for error in fails("https://127.0.0.1:1", ConnectionFailedError, r"proxy 127\.0\.0\.1:\d+ would not .*407"):
            assert "wrongpass" not in f"{error}{error!r}{error.__cause__!r}"


def test_a_proxy_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secretpass@127.0.0.1:1")
    for error in fails("https://messaging.example", ConnectionFailedError, r"refused by the proxy 127\.0\.0\.1:1"):
        assert "secretpass" not in str(error)


def test_a_malformed_proxy_is_a_setting(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "gopher://127.0.0.1:1")
    fails("https://messaging.example", ConfigurationError, "proxy URL")
    monkeypatch.setenv("HTTPS_PROXY", "http://")
    fails("https://messaging.example", ConfigurationError, "proxy URL")


def test_a_proxy_that_speaks_no_http_is_told_on_both_legs(monkeypatch):
    def handler(peer):
        peer.head()
        peer.send(b"220 mail.example.com ESMTP\r\n")

    with Server(handler) as gate:
        monkeypatch.setenv("HTTPS_PROXY", gate.base_url)
        fails("https://messaging.example", ProtocolError, rf"proxy 127\.0\.0\.1:{gate.port}\) does not speak HTTP")


def test_an_https_proxy_serves_both_legs(certificates):
    seen = []
    with (
        Server(both, certificates.server()) as server,
        Server(proxy(seen), certificates.server()) as gate,
        trusting(certificates) as session,
    ):
        session.proxies = {"https": gate.base_url}
        both_legs(server.base_url, session)
        assert len(seen) == 2


def test_a_plain_websocket_goes_through_a_proxy_by_connect(monkeypatch):
    seen = []
    with Server(both) as server, Server(proxy(seen)) as gate:
        monkeypatch.setenv("HTTP_PROXY", gate.base_url)
        connection = connect(server.base_url)
        assert read_until(connection, 1) == ["hello"]
        connection.close()
        assert seen[0].startswith(f"CONNECT 127.0.0.1:{server.port} ")


def test_an_https_proxy_cannot_lead_to_a_plain_server(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "https://127.0.0.1:1")
    transport = HttpTransport(settings("http://127.0.0.1:2"))
    with pytest.raises(ConfigurationError, match="NO_PROXY"):
        Dialer(settings("http://127.0.0.1:2"), transport).dial(Deadline.after(5))


# -- SOCKS ------------------------------------------------------------------------------------------------------------


def test_a_socks_proxy_without_its_package_is_a_setting(monkeypatch):
    monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.setattr(requests.adapters, "SOCKSProxyManager", missing_socks)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    fails("https://messaging.example", ConfigurationError, "PySocks")


def missing_socks(*_, **__):
    raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")  # as requests does


def socks5(seen):
    """A handler that is a SOCKS 5 proxy without passwords, for IPv4 addresses and names."""

    def handle(peer):
        _, count = peer.recv(2)
        peer.recv(count)
        peer.send(b"\x05\x00")
        _, _, _, kind = peer.recv(4)
        host = socket.inet_ntoa(peer.recv(4)) if kind == 1 else peer.recv(peer.recv(1)[0]).decode()
        port = int.from_bytes(peer.recv(2), "big")
        seen.append((host, port))
        peer.send(b"\x05\x00\x00\x01\0\0\0\0\0\0")
        relay(peer, host, port)

    return handle


@pytest.mark.parametrize(("scheme", "host"), [("socks5", "127.0.0.1"), ("socks5h", "localhost")])
def test_a_socks_proxy_serves_both_legs(certificates, scheme, host):
    pytest.importorskip("socks")
    seen = []
    with Server(both, certificates.server()) as server, Server(socks5(seen)) as gate, trusting(certificates) as session:
        session.proxies = {"https": f"{scheme}://127.0.0.1:{gate.port}"}
        both_legs(server.base_url.replace("127.0.0.1", "localhost"), session)
        assert seen == [(host, server.port)] * 2


def test_a_socks_proxy_that_is_silent_is_given_up():
    pytest.importorskip("socks")
    with Server(lambda peer: peer.linger()) as gate, requests.Session() as session:
        session.proxies = {"https": f"socks5://127.0.0.1:{gate.port}"}
        transport = HttpTransport(settings("https://127.0.0.1:1"), http=session)
        started = time.monotonic()
        with pytest.raises(ConnectionFailedError):
            mint(transport, seconds=0.3)
        with pytest.raises(ConnectionFailedError):
            Dialer(settings("https://127.0.0.1:1"), transport).dial(Deadline.after(0.3))
        assert time.monotonic() - started < 3
