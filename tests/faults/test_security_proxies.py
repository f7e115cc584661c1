"""Both legs through a real proxy, with authentication, and by the same rules (``pitfalls.md`` 36)."""

from __future__ import annotations

import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
import requests
from attrs import frozen
from fault_kit import IMPATIENT, raised
from proxy import FaultProxy
from requests.utils import should_bypass_proxies
from tls import Authority, trusting

from polyai_sync import AuthenticationError, ConnectionFailedError, InvalidRequestError, PolyAIError
from polyai_sync.emulator import EchoAgent, Emulator
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TINYPROXY = shutil.which("tinyproxy")
pytestmark = pytest.mark.skipif(TINYPROXY is None, reason="tinyproxy is not installed (Debian: tinyproxy)")

USER, PASSWORD = "shop", "canary-pass.word"
AUTH = "shop:canary%2Dpass%2Eword"


@frozen
class Proxy:
    """A running tinyproxy, and a pass-through in front of it that counts."""

    line: FaultProxy
    log: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.line.port}"

    def url(self, auth: str = AUTH) -> str:
        return f"http://{auth}@{self.address}" if auth else f"http://{self.address}"

    @property
    def requests(self) -> list[str]:
        """What it was asked for, without the host's port."""
        wait_until(self.log.exists)
        lines = [line.partition("): ")[2] for line in self.log.read_text().splitlines() if "Request (file" in line]
        return [line.split()[0] for line in lines]


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """A proxy that wants a user and a password."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path / "tinyproxy.log"
    config = tmp_path / "tinyproxy.conf"
    config.write_text(
        f'Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\nAllow 127.0.0.1\nLogLevel Info\nLogFile "{log}"\n'
        f"BasicAuth {USER} {PASSWORD}\n"
    )
    assert TINYPROXY is not None
    process = subprocess.Popen([TINYPROXY, "-d", "-c", str(config)], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, "tinyproxy did not start"
        with FaultProxy(port, framed=False) as line:
            yield Proxy(line, log)
    finally:
        process.terminate()
        process.wait(5)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def converse(emulator: Emulator, http: requests.Session | None = None) -> None:
    """Hold a conversation, and come back after a drop."""
    with emulator.client(http=http, timeouts=IMPATIENT) as client, client.start_session() as session:
        assert session.ask("well?").text == "You said: well?"
        emulator.session.drop()
        assert session.ask("again?").text == "You said: again?"


@pytest.mark.parametrize("how", ["the environment", "the requests session"])
@pytest.mark.parametrize("tls", [True, False], ids=["TLS", "clear"])
def test_both_legs_and_a_reconnect_go_through_it(
    how: str, tls: bool, proxy: Proxy, ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = trusting(ca)
    if how == "the environment":
        monkeypatch.setenv("HTTPS_PROXY" if tls else "HTTP_PROXY", proxy.url())
    else:
        http.proxies = {"https" if tls else "http": proxy.url()}
    with Emulator(agent=EchoAgent(), tls=ca.server() if tls else None) as emulator:
        converse(emulator, http)
    methods = proxy.requests
    assert methods.count("CONNECT") == (3 if tls else 2), "REST where it is TLS, and two sockets"
    assert methods.count("POST") == (0 if tls else 2)


@pytest.mark.parametrize(
    ("auth", "in_the_clear"),
    [
        ("", InvalidRequestError),  # 407
        ("shop:wrong", AuthenticationError),  # tinyproxy says 401, as the service itself would
        ("nobody:canary-pass.word", AuthenticationError),
    ],
)
@pytest.mark.parametrize("tls", [True, False], ids=["TLS", "clear"])
def test_a_proxy_that_refuses_is_told_and_its_password_is_not(
    auth: str, in_the_clear: type, tls: bool, proxy: Proxy, ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    http = trusting(ca)
    http.proxies = {"https" if tls else "http": proxy.url(auth)}
    with Emulator(tls=ca.server() if tls else None) as emulator:
        with emulator.client(http=http, load_plugins=False, timeouts=IMPATIENT) as client:
            error = raised(client.start_session)
        assert emulator.log == ()
    assert isinstance(error, ConnectionFailedError if tls else in_the_clear)
    told = f"{error!r} {error} {vars(error)} {error.__cause__!r} {caplog.text}"
    for secret in filter(None, (auth, auth.partition(":")[2], PASSWORD)):
        assert secret not in told


def test_the_websockets_leg_alone_may_be_what_a_proxy_refuses(proxy: Proxy) -> None:
    """In the clear, REST is forwarded request by request and the WebSocket by CONNECT; both need the password."""
    http = requests.Session()
    http.proxies = {"http": proxy.url()}
    with Emulator(agent=EchoAgent()) as emulator:
        converse(emulator, http)
        state = None
        with emulator.client(http=http, timeouts=IMPATIENT) as client:
            state = client.start_session().state
        http.proxies = {"http": proxy.url("shop:wrong")}
        with emulator.client(http=http, load_plugins=False, timeouts=IMPATIENT) as client:
            error: PolyAIError = raised(client.resume_session, state)
    assert isinstance(error, ConnectionFailedError)
    assert "would not connect" in error.message


RULES = [
    "",
    "127.0.0.1",
    "127.0.0.0/8",
    "127.0.0.1:{port}",
    "127.0.0.1:1",
    " example.com , 127.0.0.1 ",
    "example.com,localhost",
    "0.0.1",
    "*",
    "10.0.0.0/8",
]


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("proxied_by", ["HTTP_PROXY", "ALL_PROXY"])
def test_no_proxy_means_the_same_on_both_legs(
    rule: str, variable: str, proxied_by: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Emulator(agent=EchoAgent()) as emulator, FaultProxy(emulator.port) as front:
        monkeypatch.setenv(proxied_by.lower() if proxied_by == "HTTP_PROXY" else proxied_by, proxy.url())
        monkeypatch.setenv(variable, rule.format(port=front.port))
        with emulator.client(base_url=front.url, timeouts=IMPATIENT) as client, client.start_session() as session:
            assert session.ask("well?").text == "You said: well?"
        methods = proxy.requests if proxy.line.accepted else []
        passed = should_bypass_proxies(front.url, None)
    by_proxy = {"REST": "POST" in methods, "WebSocket": "CONNECT" in methods}
    assert by_proxy == ({"REST": False, "WebSocket": False} if passed else {"REST": True, "WebSocket": True})


def test_a_session_that_trusts_no_environment_uses_none_on_either_leg(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url())
    http = requests.Session()
    http.trust_env = False
    with Emulator(agent=EchoAgent()) as emulator:
        converse(emulator, http)
    assert proxy.line.accepted == 0
