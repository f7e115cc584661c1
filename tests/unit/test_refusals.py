"""What a refusal says: its body in whatever form it comes, ``Retry-After``, and no token in the error."""

from __future__ import annotations

import json
import math
import pickle
import time
from datetime import datetime, timezone
from email.utils import format_datetime
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyai_sync.errors import (
    AuthenticationError,
    ConnectionLimitError,
    PolyAIError,
    RateLimitError,
    ServerError,
    SessionNotFoundError,
)
from polyai_sync.redaction import MASK, Redactor
from polyai_sync.refusals import BODY_LIMIT, MESSAGE_LIMIT, error_from_response, error_texts, parse_retry_after

TOKEN = "ct_live-0123/456+789="
TEXT = "Connector token does not exist"
NOW = 1_700_000_000.0

BODIES = {
    "message": json.dumps({"message": TEXT}),
    "error": json.dumps({"error": TEXT, "code": 7}),
    "detail": json.dumps({"detail": TEXT}),
    "error_message": json.dumps({"error_message": TEXT}),
    "error.message": json.dumps({"error": {"message": TEXT, "status": "UNAUTHENTICATED"}}),
    "detail.error.message": json.dumps({"detail": {"error": {"message": TEXT}}}),
    "generic message beside it": json.dumps({"message": "Unauthorized", "error": TEXT}),
    "null message beside it": json.dumps({"message": None, "error": TEXT}),
    "blank message beside it": json.dumps({"message": " ", "detail": TEXT}),
    "JSON text": json.dumps(TEXT),
    "plain text": TEXT,
    "plain text, other case": f"  {TEXT.upper()}\n",
    "with a byte order mark": "\ufeff" + json.dumps({"error": TEXT}),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_text_is_found_wherever_it_stands(body):
    for given_body in (body, body.encode()):
        error = error_from_response("access_token", 401, given_body)
        assert error.code == "access_token.unknown_connector"
        assert error.message.lower() == TEXT.lower()
        assert error.status == 401
        assert error.surface == "access_token"
        assert error.body.strip() == body.strip()


def test_text_in_no_row_is_kept_and_the_status_decides():
    error = error_from_response("session_create", 502, '{"error": "upstream\\n  went away"}')
    assert isinstance(error, ServerError)
    assert (error.code, error.message) == ("http.server_error", "upstream went away")


@pytest.mark.parametrize("body", [None, "", "   ", b"", "<html><body>nginx</body></html>", "<!-- cut off"])
def test_body_without_a_text_leaves_the_catalogues(body):
    error = error_from_response("session_create", 502, body)
    assert error.code == "http.server_error"
    assert error.message == error.entry.cause
    assert error.body == (body.decode() if isinstance(body, bytes) else body)


def test_page_of_a_proxy_is_called_by_its_title():
    error = error_from_response("connect", 502, "<html>\n<head><TITLE>502 Bad\n Gateway</title></head><body>…")
    assert error.message == "502 Bad Gateway"


def test_json_without_a_text_is_the_text():
    assert error_texts('{"status": 401}') == ['{"status": 401}']
    assert error_texts("[1]") == ["[1]"]
    assert error_texts("null") == ["null"]


def test_texts_come_in_order_and_once():
    body = {"detail": "c", "error": {"detail": "b", "message": "b"}, "message": "a", "error_message": "c"}
    assert error_texts(json.dumps(body)) == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["session not found", "gone", ""])
def test_handshake_404_is_a_session_not_found_whatever_the_text(text):
    error = error_from_response("connect", 404, text)
    assert isinstance(error, SessionNotFoundError)
    assert error.code == "connect.session_not_found"
    assert error.message == (text or error.entry.cause)


@pytest.mark.parametrize("status", [401, 403])
def test_handshake_401_and_403_are_a_dead_token_whatever_the_text(status):
    error = error_from_response("connect", status, "session not found")
    assert isinstance(error, AuthenticationError)
    assert (error.code, error.status, error.retryable) == ("connect.authentication_failed", status, False)


def test_connection_limit_and_plain_429_on_the_handshake():
    limit = error_from_response("connect", 429, "connection limit exceeded for session", retry_after=3.0)
    assert isinstance(limit, ConnectionLimitError)
    assert (limit.retry_after, limit.retryable) == (3.0, True)
    plain = error_from_response("connect", 429, "slow down")
    assert type(plain) is RateLimitError
    assert plain.code == "http.rate_limited"


@pytest.mark.parametrize(
    "quoted",
    [TOKEN, quote(TOKEN, safe=""), json.dumps(TOKEN)[1:-1], TOKEN.replace("/", "\\/"), TOKEN.replace("/", "\\u002f")],
)
def test_token_quoted_by_the_server_is_nowhere_in_the_error(quoted):
    body = f'{{"error": "Connector {quoted} is not known", "token": "{quoted}"}}'
    error = error_from_response("access_token", 401, body, request_id=quoted, redactor=Redactor(TOKEN))
    assert error.message == f"Connector {MASK} is not known"
    seen = [str(error), repr(error), error.body, error.request_id, repr(error.args), repr(vars(error))]
    assert not any(spelling in text for text in seen for spelling in (quoted, TOKEN))
    assert TOKEN.encode() not in pickle.dumps(error)


@pytest.mark.parametrize("before", range(BODY_LIMIT - len(TOKEN) - 2, BODY_LIMIT + 2))
def test_token_at_the_limit_is_not_cut_into_view(before):
    body = "x" * before + TOKEN + "y" * 50
    error = error_from_response("access_token", 400, body, redactor=Redactor(TOKEN))
    assert len(error.body) <= BODY_LIMIT
    assert TOKEN[:4] not in error.body


def test_body_and_message_are_bounded_in_bytes():
    error = error_from_response("access_token", 400, "\u20ac" * 50_000)
    assert BODY_LIMIT - 3 < len(error.body.encode()) <= BODY_LIMIT
    assert MESSAGE_LIMIT - 3 < len(error.message.encode()) <= MESSAGE_LIMIT


def test_request_id_is_kept():
    assert error_from_response("connect", 500, "", request_id="abc").request_id == "abc"
    assert error_from_response("connect", 500, "").request_id is None


json_bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["message", "error", "detail", "error_message", "x"]), inner, max_size=4)
    ),
    max_leaves=15,
).map(json.dumps)


@given(
    st.sampled_from(["access_token", "session_create", "connect"]),
    st.integers(min_value=100, max_value=999),
    st.none() | st.text() | st.binary() | json_bodies,
)
def test_any_body_makes_an_error(surface, status, body):
    error = error_from_response(surface, status, body)
    assert isinstance(error, PolyAIError)
    assert error.message
    assert "\n" not in str(error)
    assert (error.status, error.surface) == (status, surface)
    pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("body", ["[" * 100_000, '{"error":' * 100_000, "9" * 100_000, "<title>" * 2_000])
def test_hostile_body_makes_an_error(body):
    assert error_from_response("connect", 400, body).code == "http.bad_request"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("+7", 7.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("2.", 2.0),
        (b"3", 3.0),
        ("1e9", 1e9),
        ("999999999999", 999999999999.0),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        ("Tuesday, 14-Nov-23 22:13:30 GMT", 10.0),
        ("Tue Nov 14 22:13:30 2023", 10.0),
        ("Tue, 14 Nov 2023 23:13:30 +0100", 10.0),
        ("Tue, 14 Nov 2023 22:13:20 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process can be set on POSIX only")
@pytest.mark.parametrize("value", ["Tue, 14 Nov 2023 22:13:30 -0000", "Tue Nov 14 22:13:30 2023"])
def test_retry_after_date_without_a_zone_is_utc_wherever_the_client_runs(value, monkeypatch):
    monkeypatch.setenv("TZ", "XXX-9")
    time.tzset()
    try:
        assert parse_retry_after(value, NOW) == 10.0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("value", ["9" * 400, "1e400", "1" + "0" * 5000])
def test_huge_retry_after_stays_a_finite_number(value):  # pitfalls.md 34
    seconds = parse_retry_after(value, NOW)
    assert seconds > 1e300
    assert math.isfinite(seconds)


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", " ", "-5", "-0.1", "NaN", "nan", "inf", "-inf", "Infinity", "soon", "1_000", "0x10", "1, 2", "5 s"),
        *("\u0663", "\u00b2", 5, True, ["5"], "Tue, 14 Nov 2023 22:13:10 GMT", "Tue, 99 Nov 2023 22:13:30 GMT"),
        *("Mon, 14 Nov 99999999999999999999 22:13:30 GMT", "GMT", ",", b"\xff"),
    ],
)
def test_broken_negative_or_past_retry_after_counts_as_absent(value):
    assert parse_retry_after(value, NOW) is None


@given(st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2099, 1, 1)), st.integers(0, 2**31))
def test_retry_after_date_is_the_time_until_then(date, now):
    date = date.replace(microsecond=0, tzinfo=timezone.utc)
    seconds = date.timestamp() - now
    assert parse_retry_after(format_datetime(date, usegmt=True), now) == (seconds if seconds >= 0 else None)


@given(
    st.text() | st.binary() | st.integers() | st.floats() | st.none() | st.from_regex(r"\A[0-9a-zA-Z ,:+.-]*\Z"),
    st.floats(),
)
def test_any_retry_after_is_a_finite_number_or_none(value, now):
    seconds = parse_retry_after(value, now)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
