"""The two REST calls against a server that says what it is told to."""

import gzip
import json
import socket
import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
import requests
import responses
from requests.adapters import HTTPAdapter
from transport_wire import (  # noqa: F401 - some are fixtures
    CONNECTOR,
    GOOD,
    TOKEN,
    Peer,
    Recorded,
    Seen,
    create,
    headers_of,
    make_calling,
    mint,
    no_leaks,
    no_proxies,
    settings,
)

from polyai_sync.config import Timeouts
from polyai_sync.errors import (
    AuthenticationError,
    ConnectionFailedError,
    InvalidRequestError,
    PolyAIError,
    ProtocolError,
    RateLimitError,
    ServerError,
)
from polyai_sync.transport.http import HttpTransport

# -- what is sent -----------------------------------------------------------------------------------------------------


def test_a_token_is_minted_as_the_protocol_says(calling):
    handler = Recorded()
    token = mint(calling(handler, user_agent="polyai-sync/9 shop/1"))
    assert token.value == TOKEN
    assert token.expires_in == 86400
    assert abs(token.expires_at - datetime.now(timezone.utc) - timedelta(days=1)) < timedelta(seconds=10)
    ((head, body),) = handler.requests
    assert head.startswith("POST /api/v1/access-token HTTP/1.1\r\n")
    assert json.loads(body) == {}
    headers = headers_of(head)
    assert headers["x-token"] == CONNECTOR
    assert headers["x-host"] == "www.example.com"
    assert headers["content-type"] == headers["accept"] == "application/json"
    assert headers["user-agent"] == "polyai-sync/9 shop/1"
    assert headers["x-polyai-correlation-id"] == "corr-1"
    assert "authorization" not in headers


def test_a_session_is_created_as_the_protocol_says(calling):
    handler = Recorded(b'{"session_id": "abc"}')
    assert create(calling(handler, platform="ios", device_type="mobile"), streaming=False) == "abc"
    ((head, body),) = handler.requests
    assert head.startswith("POST /api/v1/sessions HTTP/1.1\r\n")
    assert json.loads(body) == {"streaming_enabled": False, "platform": "ios", "device_type": "mobile"}
    headers = headers_of(head)
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert "x-token" not in headers


def test_a_device_type_is_left_out_where_there_is_none(calling):
    handler = Recorded(b'{"session_id": "abc"}')
    create(calling(handler))
    assert json.loads(handler.requests[0][1]) == {"streaming_enabled": True, "platform": "custom"}


def test_the_base_urls_path_prefix_is_kept(calling):
    handler = Recorded()
    transport = calling(handler)
    prefixed = HttpTransport(settings(transport._settings.base_url + "/some/prefix"))
    mint(prefixed)
    prefixed.close()
    assert handler.requests[0][0].startswith("POST /some/prefix/api/v1/access-token ")


def test_a_netrc_does_not_replace_our_authorization(calling, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert requests.utils.get_netrc_auth("http://127.0.0.1/") == ("somebody", "else")
    handler = Recorded(b'{"session_id": "abc"}')
    transport = calling(handler)
    create(transport)
    assert headers_of(handler.requests[0][0])["authorization"] == f"Bearer {TOKEN}"


# -- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "lifetime"),
    [
        ({"access_token": "t"}, 3600),
        ({"accessToken": "t", "expiresIn": 60}, 60),
        ({"access_token": "t", "expires_in": "120.5"}, 120.5),
        ({"access_token": "t", "expires_in": 7.5}, 7.5),
        ({"access_token": "t", "expires_in": None}, 3600),
        ({"access_token": "t", "expires_in": True}, 3600),
        ({"access_token": "t", "expires_in": "soon"}, 3600),
        ({"access_token": "t", "expires_in": -1}, 3600),
        ({"access_token": "t", "expires_in": 0}, 3600),
        ({"access_token": "t", "expires_in": 10**400}, 3600),
        ({"access_token": "t", "expires_in": 1e300}, 3600),
        ({"access_token": "t", "expires_in": float("nan")}, 3600),
        ({"access_token": "t", "expires_in": float("inf")}, 3600),
        ({"access_token": "t", "expires_in": [60]}, 3600),
        ({"access_token": "", "accessToken": "t"}, 3600),
        ({"access_token": None, "accessToken": "t"}, 3600),
    ],
)
def test_tolerated_spellings_of_a_token(calling, body, lifetime):
    token = mint(calling(Recorded(json.dumps(body).encode())))
    assert (token.value, token.expires_in) == ("t", lifetime)


@pytest.mark.parametrize("name", ["session_id", "sessionId", "id"])
def test_tolerated_spellings_of_a_session_id(calling, name):
    assert create(calling(Recorded(json.dumps({name: "abc"}).encode(), 201))) == "abc"


def test_a_byte_order_mark_is_no_offence(calling):
    assert mint(calling(Recorded(b"\xef\xbb\xbf" + GOOD))).value == TOKEN


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b'"text"',
        b"<html>hello</html>",
        b'{"access_token": ""}',
        b'{"access_token": 5}',
        b'{"access_token": null}',
        b'{"access_token": ["t"]}',
        b'{"access_token": "a\\nb"}',
        b'{"access_token": "a b"}',
        b'{"access_token": "\\u00e9"}',
        b'{"access_token": "\\ud800"}',
        b'{"access_token": "t"',
        b"\xff\xfe\x00",
        b"[" * 60_000,
        b"9" * 60_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_200_without_a_usable_token_is_a_protocol_error(calling, body):
    transport = calling(Recorded(body))
    with pytest.raises(ProtocolError) as caught:
        mint(transport)
    assert caught.value.surface == "access_token"
    assert caught.value.code == "client.protocol"


def test_a_200_without_a_session_id_is_a_protocol_error(calling):
    transport = calling(Recorded(b'{"session_id": 7}'))
    with pytest.raises(ProtocolError) as caught:
        create(transport)
    assert caught.value.surface == "session_create"


def test_an_endless_body_is_not_read(calling):
    sent = []

    def handler(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(2000):
            peer.send(b" " * 65536)
            sent.append(65536)

    transport = calling(handler)
    with pytest.raises(ProtocolError, match="longer than 65536"):
        mint(transport)
    assert sum(sent) < 2000 * 65536


def test_a_packed_body_is_unpacked_and_still_bounded(calling):
    assert mint(calling(Recorded(gzip.compress(GOOD), Content_Encoding="gzip"))).value == TOKEN
    transport = calling(Recorded(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip"))
    with pytest.raises(ProtocolError, match="longer than"):
        mint(transport)


def test_a_chunked_body_is_understood(calling):
    def handler(peer):
        while True:
            peer.request()
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for position in range(0, len(GOOD), 7):
                part = GOOD[position : position + 7]
                peer.send(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            peer.send(b"0\r\n\r\n")

    transport = calling(handler)
    assert [mint(transport).value, mint(transport).value] == [TOKEN, TOKEN]


def test_connections_are_used_again(calling):
    peers = set()
    recorded = Recorded()

    def handler(peer):
        peers.add(peer.sock.getpeername())
        recorded(peer)

    transport = calling(handler)
    for _ in range(3):
        mint(transport)
    assert len(recorded.requests) == 3
    assert len(peers) == 1


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "text", "class_", "code"),
    [
        (401, "Connector token does not exist", AuthenticationError, "access_token.unknown_connector"),
        (401, "Failed to validate connector", AuthenticationError, "access_token.host_mismatch"),
        (403, "Nope", AuthenticationError, "http.unauthorized"),
        (400, "Strange", InvalidRequestError, "http.bad_request"),
        (404, "Not Found", InvalidRequestError, "http.not_found"),
        (429, "Slow down", RateLimitError, "http.rate_limited"),
        (500, "Failed to create access token", ServerError, "access_token.creation_failed"),
        (503, "Busy", ServerError, "http.server_error"),
    ],
)
@pytest.mark.parametrize("shape", ['{"message": "%s"}', '{"error": {"message": "%s"}}', "%s"])
def test_a_refusal_is_what_the_catalogue_says(calling, status, text, class_, code, shape):
    transport = calling(Recorded((shape % text).encode(), status, X_PolyAI_Correlation_Id="server-id"))
    seen = Seen()
    with pytest.raises(class_) as caught:
        mint(transport, observer=seen)
    error = caught.value
    assert (type(error), error.code, error.status, error.surface) == (class_, code, status, "access_token")
    assert error.message == text
    assert error.request_id == "server-id"
    assert error.body == shape % text
    ((operation, attempt, seen_status, seconds, correlation_id, seen_error),) = seen.responses
    assert (operation, attempt, seen_status, correlation_id, seen_error) == ("access_token", 1, status, "corr-1", None)
    assert 0 <= seconds < 5


def test_the_surface_is_that_of_the_call(calling):
    transport = calling(Recorded(b"Invalid access token", 401))
    with pytest.raises(AuthenticationError) as caught:
        create(transport)
    assert caught.value.code == "session_create.invalid_token"
    assert caught.value.surface == "session_create"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("1e9", 1e9),
        ("-5", None),
        ("NaN", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(calling, status, value, seconds):
    transport = calling(Recorded(b"", status, Retry_After=value))
    with pytest.raises(PolyAIError) as caught:
        mint(transport)
    assert caught.value.retry_after == seconds


def test_retry_after_as_a_date(calling):
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=40), usegmt=True)
    transport = calling(Recorded(b"", 429, Retry_After=date))
    with pytest.raises(RateLimitError) as caught:
        mint(transport)
    assert 30 < caught.value.retry_after <= 40


def test_a_redirect_is_not_followed(calling):
    elsewhere = Recorded()
    other = calling(elsewhere)
    for status in (301, 302, 303, 307, 308):
        transport = calling(Recorded(b"", status, Location=other._settings.base_url + "/api/v1/access-token"))
        with pytest.raises(InvalidRequestError) as caught:
            mint(transport)
        assert caught.value.code == "http.redirected"  # pitfalls.md 32
        assert caught.value.status == status
    assert elsewhere.requests == []


def test_the_body_of_a_redirect_is_not_read_without_end(calling):
    sent = []

    def handler(peer):
        peer.request()
        peer.send(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n")
        for _ in range(2000):
            peer.send(b"x" * 65536)
            sent.append(65536)

    transport = calling(handler)
    started = time.monotonic()
    with pytest.raises(InvalidRequestError):
        mint(transport)
    assert time.monotonic() - started < 2
    assert len(sent) < 2000


def test_a_long_body_is_cut_on_the_error(calling):
    transport = calling(Recorded(b"x" * 60_000, 500))
    with pytest.raises(ServerError) as caught:
        mint(transport)
    assert len(caught.value.body) == 8192


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_refusal_whose_body_breaks_off_is_still_that_refusal(calling, how):
    def handler(peer):
        peer.request()
        peer.send(b"HTTP/1.1 429 Slow\r\nContent-Length: 5000\r\nRetry-After: 3\r\n\r\npartial")
        if how == "reset":
            peer.reset()

    transport = calling(handler)
    with pytest.raises(RateLimitError) as caught:
        mint(transport)
    assert caught.value.retry_after == 3


def test_a_refusal_whose_body_does_not_end_is_told_in_time(calling):
    stop = threading.Event()

    def handler(peer):
        peer.request()
        peer.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 5000\r\n\r\n")
        while not stop.wait(0.02):
            peer.send(b"x")

    transport = calling(handler)
    started = time.monotonic()
    with pytest.raises(ServerError):
        mint(transport, seconds=0.3)
    assert time.monotonic() - started < 2
    stop.set()


def test_tokens_quoted_by_the_server_are_masked(calling):
    text = f"Invalid access token {TOKEN} for {CONNECTOR}"
    transport = calling(Recorded(json.dumps({"message": text}).encode(), 401, X_PolyAI_Correlation_Id=TOKEN))
    with pytest.raises(AuthenticationError) as caught:
        create(transport)
    error = caught.value
    for shown in (str(error), repr(error), error.message, error.body, error.request_id, repr(error.args)):
        assert TOKEN not in shown
        assert CONNECTOR not in shown


# -- no answer --------------------------------------------------------------------------------------------------------


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_refused_connection_is_told_in_a_sentence():
    port = refused_port()
    seen = Seen()
    transport = HttpTransport(settings(f"http://127.0.0.1:{port}"))
    with pytest.raises(ConnectionFailedError, match=rf"refused by 127\.0\.0\.1:{port}") as caught:
        mint(transport, observer=seen)
    assert caught.value.surface == "access_token"
    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    ((*_, status, _, _, error),) = seen.responses
    assert status is None
    assert error is caught.value


def test_a_name_that_does_not_resolve_is_told():
    transport = HttpTransport(settings("https://no-such-host.invalid"))
    with pytest.raises(ConnectionFailedError, match=r"resolve the host name .*no-such-host\.invalid") as caught:
        mint(transport)
    assert isinstance(caught.value.__cause__, socket.gaierror)


def silent(peer: Peer) -> None:
    peer.request()
    peer.linger()


def hangs_up(peer: Peer) -> None:
    peer.request()


def resets(peer: Peer) -> None:
    peer.request()
    peer.reset()


@pytest.mark.parametrize("handler", [hangs_up, resets])
def test_a_connection_that_dies_before_the_answer_is_a_failed_connection(calling, handler):
    transport = calling(handler)
    with pytest.raises(ConnectionFailedError, match="closed before an answer"):
        create(transport)


def test_something_that_is_no_http_is_a_protocol_error(calling):
    def handler(peer):
        peer.request()
        peer.send(b"220 mail.example.com ESMTP\r\n" * 3)

    transport = calling(handler)
    with pytest.raises(ProtocolError, match="does not speak HTTP"):
        mint(transport)


def test_a_200_whose_body_breaks_off_is_a_failed_connection(calling):
    def handler(peer):
        peer.request()
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"session_id"')

    transport = calling(handler)
    with pytest.raises(ConnectionFailedError):
        create(transport)


def test_no_answer_ends_at_the_deadline(calling):
    transport = calling(silent)
    started = time.monotonic()
    with pytest.raises(ConnectionFailedError, match=r"Timed out .*waited 0\.3"):
        mint(transport, seconds=0.3)
    assert 0.3 <= time.monotonic() - started < 2


def test_no_answer_ends_at_the_read_time_out(calling):
    transport = calling(silent, timeouts=Timeouts(connect=5, read=0.3))
    started = time.monotonic()
    with pytest.raises(ConnectionFailedError, match="Timed out"):
        mint(transport, seconds=30)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("part", ["status", "headers", "body", "chunks"])
def test_a_byte_now_and_then_does_not_extend_the_time(calling, part):
    stop = threading.Event()
    before = {
        "status": b"",
        "headers": b"HTTP/1.1 200 OK\r\n",
        "body": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
        "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    }[part]
    drip = {"status": b"HTTP/1.1 200 OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO", "headers": b"X-A: b\r\n"}.get(
        part, b"1\r\nx\r\n"
    )

    def handler(peer):
        peer.request()
        peer.send(before)
        while not stop.is_set():
            for byte in drip:
                peer.send(bytes([byte]))
                stop.wait(0.01)

    transport = calling(handler)
    started = time.monotonic()
    with pytest.raises(ConnectionFailedError):
        mint(transport, seconds=0.4)
    assert time.monotonic() - started < 2
    stop.set()


def test_nothing_is_sent_after_the_deadline(calling):
    handler = Recorded()
    transport = calling(handler)
    with pytest.raises(ConnectionFailedError, match="Timed out"):
        mint(transport, seconds=0)
    assert handler.requests == []


def test_a_failed_attempt_is_not_repeated(calling):
    hits = []

    def handler(peer):
        hits.append(peer.request())

    transport = calling(handler)
    with pytest.raises(ConnectionFailedError):
        mint(transport)
    assert len(hits) == 1  # pitfalls.md 39


# -- the observer -----------------------------------------------------------------------------------------------------


def test_an_attempt_is_observed(calling):
    seen = Seen()
    transport = calling(Recorded())
    mint(transport, observer=seen)
    url = transport._settings.base_url + "/api/v1/access-token"
    assert seen.requests == [("access_token", 1, "POST", url, "corr-1")]
    ((operation, attempt, status, seconds, correlation_id, error),) = seen.responses
    assert (operation, attempt, status, correlation_id, error) == ("access_token", 1, 200, "corr-1", None)
    assert 0 < seconds < 5


# -- odd answers ------------------------------------------------------------------------------------------------------


@responses.activate
def test_the_correlation_id_is_found_in_any_case():
    transport = HttpTransport(settings("https://messaging.example"))
    responses.post(
        "https://messaging.example/api/v1/access-token",
        status=500,
        json={"detail": "Failed to create access token"},
        headers={"X-POLYAI-CORRELATION-ID": "abc"},
    )
    with pytest.raises(ServerError) as caught:
        mint(transport)
    assert caught.value.request_id == "abc"
    assert caught.value.code == "access_token.creation_failed"


@responses.activate
def test_a_mocked_200_works_too():
    transport = HttpTransport(settings("https://messaging.example"))
    responses.post("https://messaging.example/api/v1/access-token", json={"accessToken": TOKEN})
    assert mint(transport).value == TOKEN
    assert responses.calls[0].request.headers["X-Token"] == CONNECTOR


@responses.activate
def test_an_exception_in_an_adapter_is_a_failed_connection():
    transport = HttpTransport(settings("https://messaging.example"))
    responses.post("https://messaging.example/api/v1/access-token", body=requests.ConnectionError("boom"))
    with pytest.raises(ConnectionFailedError):
        mint(transport)


# -- requests' own adapter is replaced; others are not ----------------------------------------------------------------


class Counting(HTTPAdapter):
    def __init__(self):
        self.calls = 0
        super().__init__()

    def send(self, *args, **kwargs):
        self.calls += 1
        return super().send(*args, **kwargs)


def test_the_callers_adapter_is_used(calling):
    session = requests.Session()
    adapter = Counting()
    session.mount("http://", adapter)
    transport = calling(Recorded(), http=session)
    mint(transport)
    mint(transport)
    assert adapter.calls == 2
    session.close()


def test_a_callers_adapter_too_has_to_keep_to_the_deadline(calling):
    stop = threading.Event()

    def handler(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        while not stop.wait(0.02):
            peer.send(b"x")

    session = requests.Session()
    session.mount("http://", Counting())
    transport = calling(handler, http=session)
    started = time.monotonic()
    with pytest.raises(ConnectionFailedError):
        mint(transport, seconds=0.4)
    assert time.monotonic() - started < 2
    stop.set()
    session.close()
