"""No exception, message, repr, traceback or log record holds a token, whatever happens (``pitfalls.md`` 31)."""

import copy
import http.client
import io
import logging
import pickle
import socket
import traceback
from urllib.parse import quote

import pytest
import requests
import websocket
from transport_wire import (  # noqa: F401 - some are fixtures
    CONNECTOR,
    TOKEN,
    Server,
    accepting,
    chain,
    connect,
    create,
    make_certificates,
    mint,
    no_leaks,
    no_proxies,
    proxy,
    read_to_end,
    settings,
)
from transport_wire import frame as server_frame

from polyai_sync.errors import PolyAIError
from polyai_sync.redaction import Redactor
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.dial import Dialer
from polyai_sync.transport.http import AccessToken, HttpTransport
from polyai_sync.transport.masking import masked_records

PASSWORD = "canary-proxy-password"
ENCODED = quote(TOKEN, safe="")
NEEDLES = (CONNECTOR, "canary+access/token", "canary%2Baccess%2Ftoken", PASSWORD)


@pytest.fixture(autouse=True)
def records(caplog):
    """Every record of every logger, with websocket-client's trace on."""
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "requests", "websocket"):
        caplog.set_level(logging.DEBUG, name)
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    websocket.enableTrace(True, handler=handler)
    yield shown
    websocket.enableTrace(False)
    formatter = logging.Formatter("%(name)s %(message)s")
    text = shown.getvalue() + "\n".join(formatter.format(record) + repr(record.__dict__) for record in caplog.records)
    assert clean(text)


def clean(text):
    for needle in NEEDLES:
        assert needle not in text
    return True


def assert_clean(error):
    """Whatever can be reached from the error without a debugger, and what one shows of it."""
    assert isinstance(error, PolyAIError)
    for link in chain(error):
        assert clean(f"{link} {link!r} {link.args!r} {vars(link)!r}")
        assert not isinstance(link, (requests.RequestException, websocket.WebSocketException))
        shown = traceback.TracebackException(type(link), link, link.__traceback__, capture_locals=True)
        # The test's own frames know the tokens, of course.
        frames = [frame for frame in shown.stack if "/polyai_sync/" in frame.filename]
        foreign = [frame for frame in shown.stack if frame not in frames and "site-packages" in frame.filename]
        assert not foreign, "the frames of libraries hold the request"
        for frame in frames:
            assert clean(repr(frame.locals))
    assert clean("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    assert clean(repr(vars(pickle.loads(pickle.dumps(error)))))
    assert clean(repr(vars(copy.copy(error))))


def dial(transport):
    return Dialer(transport._settings, transport).dial(Deadline.after(5))


def rest(handler):
    def serve(peer):
        peer.request()
        handler(peer)

    return serve


QUOTE = f"no: {TOKEN} {CONNECTOR} {ENCODED} access_token={ENCODED}".encode()

ANSWERS = {
    "refused": lambda peer: peer.answer(401, QUOTE, X_Polyai_Correlation_Id=TOKEN, Retry_After=TOKEN),
    "redirected": lambda peer: peer.answer(302, QUOTE, Location=f"http://127.0.0.1:1/?access_token={ENCODED}"),
    "failed": lambda peer: peer.answer(500, QUOTE),
    "not json": lambda peer: peer.answer(200, QUOTE),
    "no token": lambda peer: peer.answer(200, b'{"access_token": "%s\\n"}' % TOKEN.encode()),
    "cut off": lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + QUOTE),
    "garbage": lambda peer: peer.send(QUOTE + b"\r\n\r\n"),
    "bad header": lambda peer: peer.send(b"HTTP/1.1 200 OK\r\n" + QUOTE + b"\r\n\r\n"),
    "bad chunk": lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + QUOTE + b"\r\n"),
    "bad packing": lambda peer: peer.answer(200, QUOTE, Content_Encoding="gzip"),
    "hung up": lambda peer: None,
    "reset": lambda peer: peer.reset(),
    "silence": lambda peer: peer.linger(),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("call", [mint, create])
def test_rest_errors_are_clean(answer, call):
    with Server(rest(ANSWERS[answer])) as server:
        transport = HttpTransport(settings(server.base_url))
        with pytest.raises(PolyAIError) as caught:
            call(transport, seconds=0.3)
        assert_clean(caught.value)
        transport.close()


@pytest.mark.parametrize("answer", ANSWERS)
def test_handshake_errors_are_clean(answer):
    def handler(peer):
        peer.head()
        ANSWERS[answer](peer)

    with Server(handler) as server:
        with pytest.raises(PolyAIError) as caught:
            connect(server.base_url, seconds=0.3)
        assert_clean(caught.value)


@pytest.mark.parametrize("spoil", [b"Sec-WebSocket-Accept", b"Upgrade: websocket"])
def test_a_wrong_101_is_clean(spoil):
    def handler(peer):
        peer.send(accepting(peer.head()).replace(spoil, b"X-Other: " + TOKEN.encode()))
        peer.linger()

    with Server(handler) as server:
        with pytest.raises(PolyAIError) as caught:
            connect(server.base_url)
        assert_clean(caught.value)


def test_an_open_connection_is_clean():
    def handler(peer):
        peer.upgrade(f"Set-Cookie: token={TOKEN}; domain=127.0.0.1\r\n", server_frame("hello"))
        peer.frame()
        peer.reset()

    with Server(handler) as server:
        connection = connect(server.base_url)
        connection.write("hi", Deadline.after(5))
        _, error = read_to_end(connection)
        assert_clean(error)
        connection.close()
        assert clean(repr(connection) + repr({name: getattr(connection, name) for name in connection.__slots__}))


@pytest.mark.parametrize("call", [mint, create, dial])
def test_network_failures_are_clean(certificates, call):
    with Server(lambda peer: None, certificates.server("other.example.com")) as server:
        for url in (server.base_url, "http://127.0.0.1:1", "https://no-such-host.invalid"):
            with pytest.raises(PolyAIError) as caught:
                call(HttpTransport(settings(url)))
            assert_clean(caught.value)


@pytest.mark.parametrize(
    "url", ["http://u:{0}@127.0.0.1:1", "http://u:{0}@127.0.0.1:{1}", "gopher://u:{0}@x", "http://u:{0}@:1"]
)
@pytest.mark.parametrize("call", [mint, create, dial])
def test_proxy_failures_are_clean(monkeypatch, url, call):
    with Server(proxy([], password="user:other")) as gate:
        monkeypatch.setenv("HTTPS_PROXY", url.format(PASSWORD, gate.port))
        with pytest.raises(PolyAIError) as caught:
            call(HttpTransport(settings("https://messaging.example")))
        assert_clean(caught.value)


def test_http_client_debugging_prints_nothing(monkeypatch, capsys):
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    with Server(rest(ANSWERS["refused"])) as server, pytest.raises(PolyAIError):
        mint(HttpTransport(settings(server.base_url)))
    assert clean(capsys.readouterr().out)


def test_a_token_hides_in_its_repr():
    token = AccessToken(value=TOKEN, expires_in=1.0, expires_at=None)
    assert clean(repr(token) + str(token))
    assert token.value == TOKEN


# -- the filter on websocket-client's logger --------------------------------------------------------------------------


def test_the_trace_of_a_handshake_is_kept_but_for_the_tokens(records):
    def handler(peer):
        peer.upgrade()
        peer.linger()

    with Server(handler) as server:
        connect(server.base_url, session_id="sess-1").close()
    assert "GET /ws?session_id=sess-1&access_token=***" in records.getvalue()
    assert "Upgrade: websocket" in records.getvalue()


def test_records_without_a_token_are_left_alone(records):
    with masked_records(Redactor(TOKEN)):
        logging.getLogger("websocket").debug("count %d of %s", 3, "x")
        logging.getLogger("websocket").debug("cannot %d be formatted", "x")
        logging.getLogger("websocket").debug("it holds %s", TOKEN)
    logging.getLogger("websocket").debug("GET /ws?access_token=another&cursor=1")
    assert records.getvalue().splitlines() == [
        "count 3 of x",
        "(a record that cannot be formatted)",
        "it holds ***",
        "GET /ws?access_token=***&cursor=1",
    ]


def test_the_filter_is_there_once_and_changes_no_level():
    logger = logging.getLogger("websocket")
    level, handlers = logger.level, list(logger.handlers)
    for _ in range(3):
        with masked_records(Redactor()):
            pass
    assert len([item for item in logger.filters if type(item).__name__ == "_MaskTokens"]) == 1
    assert (logger.level, logger.handlers) == (level, handlers)


def test_refused_ports_are_free():
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 1)) != 0  # the tests above count on it
