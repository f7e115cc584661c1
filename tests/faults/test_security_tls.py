"""TLS on both legs: who is trusted, who is not, and that an impostor is told nothing (``pitfalls.md`` 36)."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
import requests
from fault_kit import IMPATIENT, Caller, raised
from proxy import CLOSE, FaultProxy
from tls import Authority, trusting

from polyai_sync import ConfigurationError, ConnectionFailedError, SessionStatus
from polyai_sync.emulator import EchoAgent, Emulator
from polyai_sync_plugins import Reconnect

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from line_kit import Line

    from polyai_sync import Client

BAD: dict[str, tuple[Callable[[Authority, Authority], ssl.SSLContext], str]] = {
    "another name": (lambda ca, _: ca.server("shop.example.com"), "for another name"),
    "another address": (lambda ca, _: ca.server("127.0.0.2"), "for another name"),
    "expired": (lambda ca, _: ca.server(expired=True), "expired"),
    "an unknown authority": (lambda _, stranger: stranger.server(), "not trusted"),
}


@contextmanager
def speaking(tls: ssl.SSLContext) -> Iterator[tuple[Emulator, Callable[..., Client]]]:
    """An emulator behind TLS, and clients of it without any policy."""
    with ExitStack() as stack:
        emulator = stack.enter_context(Emulator(agent=EchoAgent()))
        proxy = stack.enter_context(FaultProxy(emulator.port, tls=tls))

        def client(http: requests.Session) -> Client:
            made = emulator.client(base_url=proxy.url, http=http, load_plugins=False, timeouts=IMPATIENT)
            return stack.enter_context(made)

        yield emulator, client


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """An authority that nobody trusts."""
    (folder := tmp_path / "stranger").mkdir()
    return Authority(folder)


@pytest.mark.parametrize("what", BAD)
def test_an_impostor_gets_no_request(what: str, ca: Authority, stranger: Authority) -> None:
    make, words = BAD[what]
    with speaking(make(ca, stranger)) as (impostor, client):
        error = raised(client(trusting(ca)).start_session)
        assert impostor.log == ()
    assert isinstance(error, ConnectionFailedError)
    assert words in error.message


@pytest.mark.parametrize("what", BAD)
def test_an_impostor_on_the_websockets_leg_gets_no_handshake(
    what: str, ca: Authority, stranger: Authority, make_line: Callable[..., Line]
) -> None:
    """Honest until the connection drops; then somebody else answers. The session outlives that."""
    make, words = BAD[what]
    line = make_line(tls=ca)
    session = line.started(plugins=[line.bench.recorder, Reconnect(base=0.2, cap=0.2)])
    honest, line.proxy.tls = line.proxy.tls, make(ca, stranger)
    line.kill(CLOSE)
    asking = Caller(session.ask, "still you?")
    (dropped, refused) = line.bench.recorder.wait_for("on_error", 2)
    line.proxy.tls = honest
    assert asking.result().text == "You said: still you?"
    assert isinstance(refused["error"], ConnectionFailedError)
    assert words in refused["error"].message
    assert session.status is SessionStatus.OPEN
    assert line.bench.emulator.handshakes == 2, "no more than the honest ones"
    assert dropped["error"].code == "client.connection_dropped"


def test_a_resume_with_an_impostor_sends_nothing(
    ca: Authority, stranger: Authority, make_line: Callable[..., Line]
) -> None:
    line = make_line(tls=ca)
    state = line.started().state
    line.proxy.tls = stranger.server()
    assert isinstance(raised(line.bare().resume_session, state), ConnectionFailedError)
    assert line.bench.emulator.handshakes == 1


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_named_in_the_environment_serves_both_legs(
    variable: str, ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(ca.bundle))
    with (
        Emulator(agent=EchoAgent(), tls=ca.server()) as emulator,
        emulator.client(timeouts=IMPATIENT) as client,
        client.start_session() as session,
    ):
        assert session.ask("well?").text == "You said: well?"


def test_a_bundle_on_the_requests_session_serves_both_legs_and_a_reconnect(ca: Authority) -> None:
    with (
        Emulator(agent=EchoAgent(), tls=ca.server()) as emulator,
        emulator.client(http=trusting(ca), timeouts=IMPATIENT, plugins=[Reconnect(base=0.01)]) as client,
        client.start_session() as session,
    ):
        emulator.session.drop()
        assert session.ask("well?").text == "You said: well?"
        assert emulator.session.connections_total == 2


@pytest.mark.parametrize("shown", ["none", "another authority's"])
def test_a_server_that_asks_for_a_certificate_refuses_both_legs_without(
    shown: str, ca: Authority, stranger: Authority
) -> None:
    http = trusting(ca, cert=None if shown == "none" else stranger.client_certificate())
    with speaking(ca.server(client_certificate=True)) as (emulator, client):
        error = raised(client(http).start_session)
        assert emulator.log == ()
    assert isinstance(error, ConnectionFailedError)


def test_a_certificate_is_shown_again_at_a_reconnect(ca: Authority) -> None:
    known = trusting(ca, cert=ca.client_certificate())
    with (
        Emulator(agent=EchoAgent(), tls=ca.server(client_certificate=True)) as emulator,
        emulator.client(http=known, timeouts=IMPATIENT, plugins=[Reconnect(base=0.01)]) as client,
        client.start_session() as session,
    ):
        emulator.session.drop()
        assert session.ask("well?").text == "You said: well?"


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # urllib3 says what the caller has decided
def test_only_the_callers_own_decision_turns_verification_off(stranger: Authority) -> None:
    careless = requests.Session()
    careless.verify = False
    with (
        Emulator(agent=EchoAgent(), tls=stranger.server("somebody.example.com")) as emulator,
        emulator.client(http=careless, timeouts=IMPATIENT) as client,
        client.start_session() as session,
    ):
        assert session.ask("well?").text == "You said: well?"


def test_a_bundle_that_is_not_there_is_named_before_anything_is_sent(ca: Authority, tmp_path: Path) -> None:
    http = trusting(ca)
    http.verify = str(tmp_path / "nowhere.pem")
    with Emulator(tls=ca.server()) as emulator:
        with emulator.client(http=http, timeouts=IMPATIENT) as client:
            error = raised(client.start_session)
        assert emulator.log == ()
    assert isinstance(error, ConfigurationError)
    assert "nowhere.pem" in error.message
