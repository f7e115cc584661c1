"""Opening the WebSocket: what is asked, and every way not to be let in."""

import gc
import inspect
import json
import re
import time
import types
import urllib.parse
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
import websocket
from transport_wire import (  # noqa: F401 - some are fixtures
    TOKEN,
    Server,
    accepting,
    connect,
    no_leaks,
    no_proxies,
    open_descriptors,
    read_until,
    settings,
)
from transport_wire import frame as server_frame

from polyai_sync.config import Secret, Timeouts
from polyai_sync.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ConnectionLimitError,
    InvalidRequestError,
    PolyAIError,
    ProtocolError,
    RateLimitError,
    ServerError,
    SessionNotFoundError,
)
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.dial import Dialer
from polyai_sync.transport.http import HttpTransport
from polyai_sync.transport.websocket import open_websocket


def asked(**options):
    """The head of the request that ``connect`` makes."""
    heads = []

    def handler(peer):
        heads.append(peer.upgrade())
        peer.linger()

    path = options.pop("path", "")
    with Server(handler) as server:
        connect(server.base_url + path, **options).close()
    return heads[0], server.port


def test_the_question_is_that_of_the_protocol():
    head, port = asked(session_id="a b/c&d=é", cursor=17, user_agent="polyai-sync/9")
    lines = head.split("\r\n")
    method, target, version = lines[0].split(" ")
    assert (method, version) == ("GET", "HTTP/1.1")
    assert quote(TOKEN, safe="") in target
    url = urlsplit(target)
    assert url.path == "/ws"
    assert parse_qsl(url.query, strict_parsing=True) == [
        ("session_id", "a b/c&d=é"),
        ("access_token", TOKEN),
        ("cursor", "17"),
    ]
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    assert len(headers) == len(lines) - 1
    assert headers.pop("sec-websocket-key")
    assert headers == {
        "host": f"127.0.0.1:{port}",
        "upgrade": "websocket",
        "connection": "upgrade",
        "sec-websocket-version": "13",
        "user-agent": "polyai-sync/9",
    }


def kept_by(module):
    """All texts that a module keeps, the caches of its functions included."""
    seen, texts = set(), set()
    waiting = [value for value in vars(module).values() if not inspect.ismodule(value)]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, str):
            texts.add(thing)
        elif id(thing) not in seen and not isinstance(thing, (type, types.FunctionType, types.BuiltinFunctionType)):
            seen.add(id(thing))
            waiting += gc.get_referents(thing)
    return texts


def test_pythons_cache_of_urls_gets_no_token():
    urllib.parse.clear_cache()
    urlsplit("ws://127.0.0.1/canary?access_token=of-somebody-else")
    assert quote(TOKEN, safe="") in asked()[0]
    texts = kept_by(urllib.parse)
    assert any("of-somebody-else" in text for text in texts)
    assert not [text for text in texts if quote(TOKEN, safe="") in text]


@pytest.mark.parametrize("cursor", [0, -1])
def test_no_cursor_is_sent_that_is_not_above_nought(cursor):
    assert "cursor" not in asked(cursor=cursor)[0]


def test_the_base_urls_path_prefix_is_kept():
    assert asked(path="/some/prefix")[0].startswith("GET /some/prefix/ws?session_id=")


def test_further_headers_are_sent():
    head, _ = asked(headers=["X-Trace: 7", "Origin: https://www.example.com", "User-Agent: mine"])
    assert "X-Trace: 7\r\n" in head
    assert "Origin: https://www.example.com\r\n" in head
    assert re.findall(r"(?i)user-agent: (.*)", head) == ["mine"]


def test_cookies_of_the_process_wide_jar_are_neither_sent_nor_set():
    jar = websocket._handshake.CookieJar
    jar.add("theirs=1; domain=127.0.0.1")
    before = dict(jar.jar)
    heads = []

    def handler(peer):
        heads.append(peer.upgrade("Set-Cookie: ours=2; domain=.example.com\r\n"))
        peer.linger()

    try:
        with Server(handler) as server:
            connect(server.base_url).close()
        assert "cookie" not in heads[0].lower()
        assert jar.jar == before
    finally:
        jar.jar.clear()


def test_frames_that_come_with_the_answer_are_not_lost():
    def handler(peer):
        peer.upgrade(behind=server_frame("one") + server_frame("two") + server_frame("three")[:3])
        peer.send(server_frame("three")[3:])
        peer.linger()

    with Server(handler) as server:
        connection = connect(server.base_url)
        assert read_until(connection, 3) == ["one", "two", "three"]
        connection.close()


@pytest.mark.parametrize("pause", [0.0, 0.0005])
def test_an_answer_byte_by_byte_is_understood(pause):
    def handler(peer):
        for byte in accepting(peer.head(), "X-Filler: abc\r\n"):
            peer.send(bytes([byte]))
            time.sleep(pause)
        peer.send(server_frame("hello"))
        peer.linger()

    with Server(handler) as server:
        connection = connect(server.base_url)
        assert read_until(connection, 1) == ["hello"]
        connection.close()


def test_headers_that_are_no_text_do_no_harm():
    def handler(peer):
        peer.upgrade("X-Odd: \xff\xfe\r\nSet-Cookie: a\xe9=b; domain=x\r\n", server_frame("hello"))
        peer.linger()

    with Server(handler) as server:
        connection = connect(server.base_url)
        assert read_until(connection, 1) == ["hello"]
        connection.close()


# -- refusals ---------------------------------------------------------------------------------------------------------


def refusal(answer, *, seconds=5, linger=True, **options):
    """The error that an answer leads to."""

    def handler(peer):
        peer.head()
        answer(peer) if callable(answer) else peer.send(answer)
        if linger:
            peer.linger()

    with Server(handler) as server:
        before = open_descriptors()
        with pytest.raises(PolyAIError) as caught:
            connect(server.base_url, seconds=seconds, **options)
        assert len(open_descriptors()) <= len(before) + 1  # at most the server's own end
    return caught.value


@pytest.mark.parametrize(
    ("status", "text", "class_", "code"),
    [
        (400, "invalid connection parameters", InvalidRequestError, "connect.invalid_parameters"),
        (401, "authentication failed", AuthenticationError, "connect.authentication_failed"),
        (403, "whatever", AuthenticationError, "connect.authentication_failed"),
        (404, "session not found", SessionNotFoundError, "connect.session_not_found"),
        (404, "<html>nginx</html>", SessionNotFoundError, "connect.session_not_found"),
        (429, "connection limit exceeded for session", ConnectionLimitError, "connect.too_many_connections"),
        (429, "slow down", RateLimitError, "http.rate_limited"),
        (500, "oops", ServerError, "http.server_error"),
        (502, "<html>Bad Gateway</html>", ServerError, "http.server_error"),
        (503, "busy", ServerError, "http.server_error"),
        (302, "", InvalidRequestError, "http.redirected"),
        (418, "teapot", InvalidRequestError, "http.bad_request"),
    ],
)
def test_a_refusal_is_what_its_status_and_body_say(status, text, class_, code):
    def answer(peer):
        peer.answer(
            status,
            json.dumps({"error": text}).encode(),
            Retry_After="7",
            X_PolyAI_Correlation_ID="server-id",
            Location="ws://127.0.0.1:1/",
        )

    error = refusal(answer)  # pitfalls.md 1 and 19
    assert (type(error), error.code, error.status, error.surface) == (class_, code, status, "connect")
    assert error.retry_after == 7
    assert error.request_id == "server-id"
    assert json.loads(error.body) == {"error": text}


def test_retry_after_may_be_a_date():
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=40), usegmt=True)
    assert 30 < refusal(lambda peer: peer.answer(503, b"", Retry_After=date)).retry_after <= 40


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nsession\r\na\r\n not found\r\n0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\nsession not found",
        b"HTTP/1.1 404\r\nContent-Length: 17\r\n\r\nsession not found",
        b"HTTP/1.0 404 Not Found\r\nContent-Length: 17\r\n\r\nsession not found",
        b"HTTP/1.1 404 Not Found\nContent-Length: 17\n\nsession not found",
    ],
    ids=["chunked", "length", "no reason", "HTTP/1.0", "bare line feeds"],
)
def test_bodies_are_read_however_they_are_framed(answer):
    assert refusal(answer).message == "session not found"


def test_a_body_that_ends_with_the_connection_is_read():
    assert refusal(b"HTTP/1.1 404 Not Found\r\n\r\nsession not found", linger=False).message == "session not found"


def test_a_body_that_breaks_off_leaves_the_refusal_what_it_is():
    def answer(peer):
        peer.send(b"HTTP/1.1 429 Slow\r\nContent-Length: 100\r\nRetry-After: 3\r\n\r\nconn")
        peer.reset()

    error = refusal(answer)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 3
    assert error.body == "conn"


def test_a_body_that_never_comes_leaves_the_refusal_what_it_is():
    started = time.monotonic()
    error = refusal(b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n", seconds=0.4)
    assert isinstance(error, SessionNotFoundError)
    assert time.monotonic() - started < 2


def test_a_body_without_end_is_not_read():
    sent = []

    def answer(peer):
        peer.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 10000000000\r\n\r\n")
        for number in range(1000):
            peer.send(b"x" * 65536)
            sent.append(number)

    started = time.monotonic()
    error = refusal(answer)
    assert time.monotonic() - started < 2
    assert isinstance(error, ServerError)
    assert len(error.body) == 8192
    assert len(sent) < 1000


def test_a_token_quoted_by_the_server_is_masked():
    body = f"authentication failed for {TOKEN}".encode()
    error = refusal(lambda peer: peer.answer(401, body, X_Polyai_Correlation_Id=TOKEN))
    assert TOKEN not in f"{error}{error!r}{error.body}{error.args}{error.request_id}"


@pytest.mark.parametrize("status", [200, 204, 100, 102])
def test_an_answer_that_neither_opens_nor_refuses_is_a_protocol_error(status):
    error = refusal(lambda peer: peer.answer(status, b"hello"))
    assert isinstance(error, ProtocolError)
    assert (error.status, error.surface) == (status, "connect")
    assert "without opening a WebSocket" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example.com ESMTP\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"HTTP/2 404\r\n\r\n",
        b"HTTP/1.1 4o4 Not Found\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n" + b"X-A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 101 Switching\r\nX-A: " + b"b" * 100_000 + b"\r\n\r\n",
    ],
    ids=lambda answer: repr(answer[:20]),
)
def test_what_is_no_http_answer_is_a_protocol_error(answer):
    error = refusal(answer)
    assert isinstance(error, ProtocolError)
    assert error.surface == "connect"


def test_headers_without_end_are_not_read():
    sent = []

    def answer(peer):
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\n")
        for number in range(100_000):
            peer.send(b"X-Header-%d: value\r\n" % number)
            sent.append(number)

    assert isinstance(refusal(answer), ProtocolError)
    assert len(sent) < 100_000


@pytest.mark.parametrize(
    "spoil",
    [
        lambda answer: answer.replace(b"Sec-WebSocket-Accept", b"X-Other"),
        lambda answer: re.sub(rb"Accept: ....", b"Accept: AAAA", answer),
        lambda answer: answer.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        lambda answer: answer.replace(b"Connection: Upgrade\r\n", b""),
    ],
    ids=["no accept", "wrong accept", "wrong upgrade", "no connection"],
)
def test_a_101_with_the_wrong_headers_is_a_protocol_error(spoil):
    heads = []

    def handler(peer):
        heads.append(peer.head())
        peer.send(spoil(accepting(heads[0])))
        peer.linger()

    with Server(handler) as server, pytest.raises(ProtocolError, match="wrong headers") as caught:
        connect(server.base_url)
    assert caught.value.surface == "connect"


# -- no answer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 101 Swi", b"HTTP/1.1 404 Not Found\r\nContent-"])
@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_connection_that_dies_before_the_answer_is_a_failed_connection(part, how):
    def answer(peer):
        peer.send(part)
        if how == "reset":
            peer.reset()

    error = refusal(answer, linger=False)
    assert isinstance(error, ConnectionFailedError)
    assert "closed before an answer" in str(error)
    assert error.surface == "connect"
    assert error.retryable


def test_no_answer_ends_at_the_deadline():
    started = time.monotonic()
    error = refusal(b"", seconds=0.3)
    assert isinstance(error, ConnectionFailedError)
    assert "Timed out" in str(error)
    assert 0.3 <= time.monotonic() - started < 2


def test_no_answer_ends_at_the_connect_time_out():
    started = time.monotonic()
    assert isinstance(refusal(b"", seconds=30, timeouts=Timeouts(connect=0.3)), ConnectionFailedError)
    assert time.monotonic() - started < 2


def test_what_the_dial_took_counts_against_the_connect_time_out():
    with Server(lambda peer: peer.linger()) as server:
        chosen = settings(server.base_url, timeouts=Timeouts(connect=5))
        dialled = Dialer(chosen, HttpTransport(chosen)).dial(Deadline.after(5))
        assert 0 < dialled.took < 5
        dialled.took = 4.8
        started = time.monotonic()
        with pytest.raises(ConnectionFailedError, match="Timed out"):
            open_websocket(
                dialled,
                settings=chosen,
                session_id="s",
                access_token=Secret(TOKEN),
                cursor=0,
                deadline=Deadline.after(30),
            )
        assert time.monotonic() - started < 2


def test_a_byte_now_and_then_does_not_extend_the_time():
    def answer(peer):
        peer.send(b"HTTP/1.1 101 ")
        while True:
            peer.send(b"x")
            time.sleep(0.01)

    started = time.monotonic()
    assert isinstance(refusal(answer, seconds=0.4), ConnectionFailedError)
    assert time.monotonic() - started < 2
