"""Nothing a user, a page or a setting says becomes a header, a path or an event; and no token travels in the clear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests
from fault_kit import Bench, raised

from polyai_sync import Client, ConfigurationError
from polyai_sync.emulator import Emulator
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from line_kit import Line

BREAKS = ("\r\nX-Evil: 1", "\nX-Evil: 1", "\rX-Evil: 1", "\x00", "\x7f", "\u2028", "\x85")
TOKEN = "demo-connector-token"

NASTY = [
    "line one\r\nX-Evil: 1\r\n\r\nGET /evil HTTP/1.1",
    '"}, "type": "EVENT_TYPE_USER_END_SESSION", "payload": {"x": "',
    "\\u0000\x00\x1f\x7f\u2028\u2029\ufeff",
    "</script><script>alert(1)</script>",
    "𝄞 ☃ é \U0001f600",
    "%0d%0aX-Evil: 1",
    "\\",
    "{{7*7}} ${7*7} %s %n",
]


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_a_text_is_a_text_and_nothing_else(text: str, bench: Bench) -> None:
    session = bench.client(streaming=False).start_session()
    custom = {text: text, "plain": "x"}
    message = session.send(text, custom=custom)
    assert (message.text, {name: message.custom[name] for name in custom}) == (text, custom)
    sent = [event for event in bench.peer.received if event["type"] == "EVENT_TYPE_USER_MESSAGE"]
    assert [event["payload"] for event in sent] == [{"text": text}]
    assert sent[0]["metadata"]["custom"][text] == text
    assert bench.peer.refused == ()
    assert not bench.peer.ended


@pytest.mark.parametrize("tail", BREAKS, ids=ascii)
@pytest.mark.parametrize(
    "setting",
    ["connector_token", "host", "cluster", "base_url", "platform", "device_type", "app_info"],
)
def test_a_setting_with_a_line_break_is_refused_by_name(setting: str, tail: str, line: Line) -> None:
    good = {"connector_token": TOKEN, "host": "https://www.example.com", "base_url": line.proxy.url}
    start = {"cluster": "us-1", "platform": "web", "device_type": "mobile", "app_info": "shop/1.4", **good}[setting]
    settings: dict[str, Any] = {**good, setting: start + tail}
    if setting == "cluster":
        del settings["base_url"]
    with pytest.raises(ConfigurationError, match=setting.replace("_", ".")):
        Client(**settings)
    assert line.proxy.accepted == 0


@pytest.mark.parametrize("variable", ["CONNECTOR_TOKEN", "HOST", "CLUSTER", "BASE_URL"])
def test_a_variable_with_a_line_break_is_refused_too(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"CONNECTOR_TOKEN": TOKEN, "HOST": "www.example.com"}
    start = {**values, "CLUSTER": "us-1", "BASE_URL": "https://messaging.example.com"}[variable]
    for name, value in {**values, variable: f"{start}\r\nX-Evil: 1"}.items():
        monkeypatch.setenv(f"POLYAI_{name}", value)
    with pytest.raises(ConfigurationError):
        Client()


@pytest.mark.parametrize(
    "cluster",
    [
        "us-1.evil.example",
        "evil.example/",
        "us-1@evil.example",
        "us-1#",
        "us-1?x=",
        "US-1",
        "-us",
        "us_1",
        "..",
        "us-1 ",
    ],
)
def test_a_cluster_is_one_label_of_a_name(cluster: str) -> None:
    with pytest.raises(ConfigurationError, match="cluster"):
        Client(TOKEN, "www.example.com", cluster=cluster)


@pytest.mark.parametrize(
    "header",
    [
        "X-Trace: 1\r\nX-Evil: 1",
        "X-Trace: 1\nX-Evil: 1",
        "X Trace: 1",
        "X-Trace",
        "",
        ": 1",
        "Host: evil.example",
        "Sec-WebSocket-Key: mine",
        "Upgrade: h2c",
        "Content-Length: 10",
    ],
)
def test_a_header_of_the_options_is_one_header(header: str, line: Line) -> None:
    for given in ([header], header) if header else ([header],):
        with pytest.raises(ConfigurationError, match="websocket_options"):
            line.client(websocket_options={"header": given})
    assert line.proxy.accepted == 0


def test_an_honest_header_of_the_options_arrives(bench: Bench) -> None:
    bench.client(websocket_options={"header": {"X-Trace": "1"}}).start_session()
    (handshake,) = [entry for entry in bench.emulator.log if entry.surface == "connect"]
    assert handshake.headers["X-Trace"] == "1"


def test_a_header_of_the_requests_session_with_a_line_break_is_refused_before_it_is_sent(bench: Bench) -> None:
    http = requests.Session()
    http.headers["X-Shop"] = "1\r\nX-Evil: 1"
    error = raised(bench.client(http=http).start_session)
    assert isinstance(error, ConfigurationError)
    assert bench.emulator.log == ()


@pytest.mark.parametrize(
    "base_url",
    [
        "http://messaging.us-1.poly.ai",
        "ws://messaging.us-1.poly.ai",
        "http://example.com:8080/polyai",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "http://evil.example#@127.0.0.1",
        "http://evil.example?127.0.0.1",
        "http://evil.example\\@127.0.0.1",
        "http://0x7f.evil.example",
        "http://10.0.0.1",
        "http://[2001:db8::1]",
        "http://[::ffff:10.0.0.1]",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "//127.0.0.1",
        "127.0.0.1",
    ],
)
@pytest.mark.parametrize("by", ["argument", "environment"])
def test_no_token_travels_in_clear_text_beyond_this_machine(
    base_url: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "environment":
        monkeypatch.setenv("POLYAI_BASE_URL", base_url)
    with pytest.raises(ConfigurationError, match=r"base.url|BASE_URL"):
        Client(TOKEN, "www.example.com", base_url=base_url if by == "argument" else None)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "127.1.2.3"])
def test_this_machine_may_be_spoken_to_in_clear_text(name: str) -> None:
    address = "127.1.2.3" if name == "127.1.2.3" else "127.0.0.1"
    with (
        Emulator(address=address) as emulator,
        emulator.client(base_url=f"http://{name}:{emulator.port}") as client,
        client.start_session() as session,
    ):
        wait_until(lambda: session.session_id)
