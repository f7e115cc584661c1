"""Settings are checked and explained before anything is sent; no message holds a token."""

from __future__ import annotations

import copy
import pickle
import platform
import sys

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import polyai_sync._version
from polyai_sync.config import LONGEST_TIMEOUT, Secret, Settings, Timeouts, is_loopback, resolve_settings
from polyai_sync.errors import ConfigurationError

TOKEN = "ct_0123456789"
HOST = "https://www.example.com"


def settings(connector_token=TOKEN, host=HOST, *, environ=(), **given_settings):
    return resolve_settings(connector_token, host, environ=dict(environ), **given_settings)


def refusal(**given_settings):
    with pytest.raises(ConfigurationError) as caught:
        settings(**given_settings)
    error = caught.value
    text = str(error)
    assert error.code == "client.configuration"
    assert error.__cause__ is None
    assert error.__context__ is None
    assert text.endswith((".", "?"))
    assert error.resolution in text
    assert "\n" not in text
    assert TOKEN not in text
    return text


def test_defaults():
    resolved = settings()
    assert resolved == Settings(
        connector_token=Secret(TOKEN),
        host=HOST,
        base_url="https://messaging.us-1.poly.ai",
        streaming=True,
        platform="custom",
        device_type=None,
        timeouts=Timeouts(),
        event_window=10_000,
        user_agent=resolved.user_agent,
    )


def test_settings_are_frozen_picklable_and_hide_the_token():
    resolved = settings()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        resolved.host = "other"
    assert pickle.loads(pickle.dumps(resolved)) == resolved
    assert TOKEN not in repr(resolved)
    assert TOKEN not in repr(attrs.asdict(resolved))


# --- where settings come from ---------------------------------------------------------------------------------------


def test_environment_fills_what_is_missing():
    resolved = resolve_settings(
        environ={
            "POLYAI_CONNECTOR_TOKEN": f" {TOKEN}\n",
            "POLYAI_HOST": "\texample.com ",
            "POLYAI_CLUSTER": " uk-1 ",
        }
    )
    assert resolved.connector_token.reveal() == TOKEN
    assert resolved.host == "example.com"
    assert resolved.base_url == "https://messaging.uk-1.poly.ai"


def test_process_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("POLYAI_CONNECTOR_TOKEN", TOKEN)
    monkeypatch.setenv("POLYAI_HOST", "example.com")
    monkeypatch.setenv("POLYAI_BASE_URL", "http://localhost:8080")
    monkeypatch.delenv("POLYAI_CLUSTER", raising=False)
    assert resolve_settings().base_url == "http://localhost:8080"


def test_arguments_win_over_the_environment():
    environ = {"POLYAI_CONNECTOR_TOKEN": "other", "POLYAI_HOST": "other.example"}
    resolved = settings(environ=environ)
    assert (resolved.connector_token, resolved.host) == (Secret(TOKEN), HOST)


CLUSTER, URL = "POLYAI_CLUSTER", "POLYAI_BASE_URL"


@pytest.mark.parametrize(
    ("given_settings", "environ", "base_url"),
    [
        ({}, {}, "https://messaging.us-1.poly.ai"),
        ({}, {CLUSTER: "", URL: "  "}, "https://messaging.us-1.poly.ai"),
        ({}, {CLUSTER: "uk-1"}, "https://messaging.uk-1.poly.ai"),
        ({}, {CLUSTER: "uk-1", URL: "https://e.example/x"}, "https://e.example/x"),
        ({}, {CLUSTER: "NOT ONE", URL: "https://e.example/x"}, "https://e.example/x"),
        ({"cluster": "euw-1"}, {CLUSTER: "uk-1", URL: "https://e.example"}, "https://messaging.euw-1.poly.ai"),
        ({"base_url": "https://g.example"}, {CLUSTER: "uk-1", URL: "https://e.example"}, "https://g.example"),
        ({"base_url": "https://g.example"}, {CLUSTER: "uk-1"}, "https://g.example"),
    ],
)
def test_which_service_is_meant(given_settings, environ, base_url):
    assert settings(environ=environ, **given_settings).base_url == base_url


def test_base_url_and_cluster_together_are_refused():
    text = refusal(base_url="https://g.example", cluster="us-1")
    assert "base_url" in text
    assert "cluster" in text


# --- token and host -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "variable"), [("connector_token", "POLYAI_CONNECTOR_TOKEN"), ("host", "POLYAI_HOST")])
@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_missing_value_names_the_argument_and_the_variable(name, variable, value):
    text = refusal(**{name: value})
    assert name in text
    assert variable in text


@pytest.mark.parametrize(("name", "variable"), [("connector_token", "POLYAI_CONNECTOR_TOKEN"), ("host", "POLYAI_HOST")])
def test_blank_variable_counts_as_missing(name, variable):
    assert "is missing" in refusal(**{name: None}, environ={variable: " \n"})


def test_malformed_variable_is_named():
    assert "POLYAI_CONNECTOR_TOKEN" in refusal(connector_token=None, environ={"POLYAI_CONNECTOR_TOKEN": "a b"})
    assert "POLYAI_HOST" in refusal(host=None, environ={"POLYAI_HOST": "a b"})
    assert "POLYAI_CLUSTER" in refusal(environ={"POLYAI_CLUSTER": "a b"})
    assert "POLYAI_BASE_URL" in refusal(environ={"POLYAI_BASE_URL": "a b"})


@pytest.mark.parametrize(
    "token",
    [
        *("a b", f" {TOKEN}", f"{TOKEN}\n", f"{TOKEN}\r\nX-Host: evil", "a\tb", "a\0b", "a\x7fb", "caf\u00e9"),
        *("a\u00a0b", "a\u2028b", "\ud800", "Bearer abc", f'"{TOKEN}"', f"'{TOKEN}'"),
    ],
)
def test_malformed_token_is_refused_and_not_quoted(token):
    text = refusal(connector_token=token)
    assert text.startswith("connector_token ")
    assert token not in text


@pytest.mark.parametrize("value", [1, b"token", ["token"], True, object()])
@pytest.mark.parametrize("name", ["connector_token", "host", "cluster", "base_url", "app_info"])
def test_value_that_is_not_text_is_refused_by_its_type(name, value):
    text = refusal(**{name: value})
    assert text.startswith(f"{name} must be text, not {type(value).__name__}")


def test_token_may_be_a_secret():
    assert settings(connector_token=Secret(TOKEN)).connector_token == Secret(TOKEN)
    assert refusal(connector_token=Secret("a b")).startswith("connector_token ")


@pytest.mark.parametrize(
    "host",
    [
        *("example.com", "www.example.com", "localhost", "localhost:3000", "127.0.0.1:8000", "[::1]:8000"),
        *("com.example.shop", "com.example.shop_app", "my-app", "xn--bcher-kva.example", "Example.COM"),
        *("https://www.example.com", "http://localhost:3000", "https://[::1]:8443", "ionic://localhost"),
    ],
)
def test_domain_origin_and_namespace_are_taken_as_given(host):
    assert settings(host=host).host == host


def test_slash_at_the_end_of_an_origin_is_dropped():
    assert settings(host="https://www.example.com/").host == "https://www.example.com"


@pytest.mark.parametrize(
    "host",
    [
        *("exa mple.com", "example.com\r\nX-Token: a", "example.com\n", "b\u00fccher.example", "a\0b", "-", ".", "/"),
        *("example.com/path", "example.com?x", "example.com#x", "user@example.com", "example.com:0", "example.com:x"),
        *("example.com:99999", "[::1", "::1", "a..b", "@", "https://", "https:///x", "https://example.com/path"),
        *("https://u:secretpw@example.com", "https://example.com?x=1", "https://example.com#", "https://exa mple.com"),
        *("a" * 64 + ".example", "a." * 127 + "example", "*.example.com", "https://[::1", "https://a\\b"),
    ],
)
def test_malformed_host_is_refused(host):
    text = refusal(host=host)
    assert text.startswith("host ")
    assert "secretpw" not in text


@given(st.text())
def test_no_token_makes_a_header_break(token):
    try:
        revealed = resolve_settings(token, HOST, environ={}).connector_token.reveal()
    except ConfigurationError:
        return
    assert revealed == token
    assert revealed.isascii()
    assert revealed.isprintable()
    assert " " not in revealed


@given(st.text())
def test_no_host_makes_a_header_break(host):
    try:
        resolved = resolve_settings(TOKEN, host, environ={}).host
    except ConfigurationError:
        return
    assert resolved.isascii()
    assert resolved.isprintable()
    assert " " not in resolved


# --- cluster and base URL -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cluster", ["us-1", "uk-1", "euw-1", "us1", "ap-southeast-2", "9", "a-", "a" * 63])
def test_cluster_maps_to_its_host(cluster):
    resolved = settings(cluster=cluster)
    assert resolved.base_url == f"https://messaging.{cluster}.poly.ai"
    assert resolved.websocket_url == f"wss://messaging.{cluster}.poly.ai/ws"


@pytest.mark.parametrize(
    ("cluster", "meant"),
    [("US-1", "us-1"), ("us_1", "us-1"), ("us-1 ", "us-1"), ("Uk1", "uk-1"), ("EUW 1", "euw-1"), ("us-1\n", "us-1")],
)
def test_misspelt_cluster_is_told_the_likely_one(cluster, meant):
    text = refusal(cluster=cluster)
    assert f"did you mean {meant}?" in text
    assert "euw-1" in text


@pytest.mark.parametrize(
    "cluster", ["-us", "us.1", "https://messaging.us-1.poly.ai", "u/s", "\u00fcs-1", "us-1@evil.example/", "a" * 64]
)
def test_malformed_cluster_is_told_the_known_ones(cluster):
    text = refusal(cluster=cluster)
    assert text.startswith("cluster ")
    assert "us-1, uk-1, euw-1" in text


@pytest.mark.parametrize(
    ("given_url", "base_url", "websocket_url"),
    [
        ("https://m.example", "https://m.example", "wss://m.example/ws"),
        ("https://m.example/", "https://m.example", "wss://m.example/ws"),
        ("HTTPS://M.Example:443/", "https://m.example", "wss://m.example/ws"),
        ("https://m.example:8443/a/b//", "https://m.example:8443/a/b", "wss://m.example:8443/a/b/ws"),
        ("https://m.example/Chat%20API", "https://m.example/Chat%20API", "wss://m.example/Chat%20API/ws"),
        ("http://localhost:8080", "http://localhost:8080", "ws://localhost:8080/ws"),
        ("http://LOCALHOST:80/x", "http://localhost/x", "ws://localhost/x/ws"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9", "ws://127.0.0.1:9/ws"),
        ("http://127.9.8.7", "http://127.9.8.7", "ws://127.9.8.7/ws"),
        ("http://[::1]:9/p", "http://[::1]:9/p", "ws://[::1]:9/p/ws"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]", "wss://[2001:db8::1]/ws"),
    ],
)
def test_base_url_is_kept_in_one_spelling_with_its_prefix(given_url, base_url, websocket_url):
    resolved = settings(base_url=given_url)
    assert (resolved.base_url, resolved.websocket_url) == (base_url, websocket_url)
    assert settings(base_url=base_url).base_url == base_url


@pytest.mark.parametrize(
    "host",
    [
        *("example.com", "10.0.0.1", "192.168.1.1", "0.0.0.0", "128.0.0.1", "[::]", "[2001:db8::1]", "localhost."),
        *(
            "localhost.example.com",
            "127.0.0.1.example.com",
            "[::ffff:127.0.0.1]",
            "127.1",
            "my.localhost",
            "2130706433",
        ),
    ],
)
def test_cleartext_off_loopback_is_refused(host):
    text = refusal(base_url=f"http://{host}:8080/")
    assert text.startswith("base_url would send the token in clear text")
    assert "https://" in text


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("127.0.0.1", True),
        ("127.255.255.255", True),
        ("::1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("::1%lo", False),
        ("128.0.0.1", False),
        ("", False),
    ],
)
def test_is_loopback(host, loopback):
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    "base_url",
    [
        *("example.com", "//example.com", "wss://example.com", "ftp://example.com", "https:example.com", "https://"),
        *("https:///path", "https://u:secretpw@example.com", "https://u@localhost", "https://example.com?a=b"),
        *("https://example.com/?", "https://example.com#", "https://example.com/ a", "https://exa\nmple.com"),
        *("https://example.com\r\nX: y", "https://b\u00fccher.example", "https://example.com:99999", "https://a:0"),
        *("https://example.com:", "https://example.com:x", "https://[::1", "https://[v1.a]", "https://[::1%25lo]"),
        *("https://[m.example]", "https://[]", "https://[127.0.0.1]"),
        *("https://a..b", "https://-a.example", "https://" + "a" * 64 + ".example", "https://a\\@b.example"),
        *("http://127.0.0.1@evil.example", "http://localhost\\.evil.example", "https://%6c.example"),
        *("https://a.example/x\\y", "https://a.example/x y"),
    ],
)
def test_malformed_base_url_is_refused(base_url):
    text = refusal(base_url=base_url)
    assert text.startswith("base_url ")
    assert "secretpw" not in text


@given(st.text() | st.text().map("https://{}".format) | st.text().map("http://localhost{}".format))
def test_base_url_is_safe_or_refused(url):
    try:
        resolved = settings(base_url=url)
    except ConfigurationError:
        return
    assert resolved.base_url.startswith(("https://", "http://localhost"))
    assert not set(resolved.base_url) & set(" \r\n\t@?#\\")
    assert settings(base_url=resolved.base_url).base_url == resolved.base_url


# --- the rest -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["web", "ios", "android", "ios-web", "android-web", "custom"])
def test_platforms(name):
    assert settings(platform=name).platform == name


@pytest.mark.parametrize("name", ["mobile", "tablet", "desktop", None])
def test_device_types(name):
    assert settings(device_type=name).device_type == name


@pytest.mark.parametrize("value", ["", "Web", "windows", None, 1, ["web"]])
def test_unknown_platform_is_told_the_known_ones(value):
    text = refusal(platform=value)
    assert text.startswith("platform ")
    assert "web, ios, android, ios-web, android-web, custom" in text


@pytest.mark.parametrize("value", ["", "Mobile", "watch", 1, ["mobile"]])
def test_unknown_device_type_is_told_the_known_ones(value):
    text = refusal(device_type=value)
    assert text.startswith("device_type ")
    assert "mobile, tablet, desktop" in text


@pytest.mark.parametrize("value", [None, 1, 0, "true"])
def test_streaming_is_true_or_false(value):
    assert refusal(streaming=value).startswith("streaming ")
    assert settings(streaming=False).streaming is False


@pytest.mark.parametrize("value", [0, -1, 1.5, "10", None, True])
def test_event_window_is_a_positive_whole_number(value):
    assert refusal(event_window=value).startswith("event_window ")
    assert settings(event_window=1).event_window == 1


@pytest.mark.parametrize("value", [30, 1.5, {"read": 3}, "30"])
def test_timeouts_are_a_timeouts(value):
    assert "Timeouts(read=30)" in refusal(timeouts=value)
    assert settings(timeouts=Timeouts(3)).timeouts.connect == 3


def test_user_agent_names_library_python_and_system():
    version = polyai_sync._version.__version__
    own = f"polyai-sync/{version} python/{platform.python_version().rstrip('+')} {sys.platform}"
    assert settings().user_agent == own
    assert settings(app_info="shop/1.4 (kiosk)").user_agent == f"{own} shop/1.4 (kiosk)"


@pytest.mark.parametrize("value", ["", " ", " a", "a ", "a\nb", "a\r\nX-Token: b", "caf\u00e9", "a\0", "a" * 201])
def test_malformed_app_info_is_refused(value):
    assert refusal(app_info=value).startswith("app_info ")


# --- Timeouts -------------------------------------------------------------------------------------------------------

FIELDS = {"connect": 10, "read": 30, "ready": 60, "greeting": 30, "delivery": 15, "reply": 90, "close": 5}
WAITS = ("ready", "greeting", "delivery", "reply")


def test_timeouts_have_their_defaults_in_order():
    assert attrs.asdict(Timeouts()) == FIELDS
    assert list(attrs.asdict(Timeouts())) == list(FIELDS)
    assert Timeouts(1, 2) == Timeouts(connect=1, read=2)
    assert hash(Timeouts()) == hash(Timeouts())


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(
    "value", [0, -1, -0.0, float("nan"), float("inf"), float("-inf"), "10", True, [], 10**400, LONGEST_TIMEOUT + 1]
)
def test_timeout_that_is_no_positive_number_is_refused_by_name(name, value):
    with pytest.raises(ConfigurationError) as caught:
        Timeouts(**{name: value})
    assert str(caught.value).startswith(f"timeouts.{name} ")


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [1e-9, 1, 0.5, LONGEST_TIMEOUT])
def test_positive_timeouts_are_taken(name, value):
    assert getattr(Timeouts(**{name: value}), name) == value


@pytest.mark.parametrize("name", FIELDS)
def test_only_waits_for_the_conversation_may_last_for_ever(name):
    if name in WAITS:
        assert getattr(Timeouts(**{name: None}), name) is None
    else:
        with pytest.raises(ConfigurationError, match=rf"timeouts\.{name} "):
            Timeouts(**{name: None})


def test_timeouts_are_frozen_and_picklable():
    timeouts = Timeouts(reply=None)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        timeouts.reply = 3
    assert pickle.loads(pickle.dumps(timeouts)) == timeouts


# --- Secret ---------------------------------------------------------------------------------------------------------


def test_secret_shows_itself_on_demand_only():
    secret = Secret(TOKEN)
    assert secret.reveal() == TOKEN
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", "%s" % secret, f"{[secret]}"]  # noqa: UP031 - one more way
    assert shown == ["***"] * 5 + ["[***]"]


def test_secret_is_equal_by_value_and_to_nothing_else():
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


@pytest.mark.parametrize("journey", [copy.copy, copy.deepcopy, lambda secret: pickle.loads(pickle.dumps(secret))])
def test_secret_survives_copy_and_pickle(journey):
    assert journey(Secret(TOKEN)).reveal() == TOKEN


def test_secret_cannot_be_changed():
    secret = Secret(TOKEN)
    with pytest.raises(AttributeError):
        secret._value = "other"
    with pytest.raises(AttributeError):
        del secret._value
    with pytest.raises(AttributeError):
        secret.more = 1
    assert secret.reveal() == TOKEN
