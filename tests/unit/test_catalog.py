"""The catalogue against the rows of the specification, both ways, and how errors are found in it.

``tests/data/error-codes.json`` holds the specification's facts, row by row: nothing in it is taken from the package.
"""

from __future__ import annotations

import builtins
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import polyai_sync.errors
from polyai_sync.catalog import (
    CATALOG,
    CatalogEntry,
    entry_for_code,
    explain,
    make_error,
    match_http,
    match_system_message,
)
from polyai_sync.errors import ConversationNotFoundError, InvalidEventError, PolyAIError, SessionNotFoundError

ROWS = json.loads((Path(__file__).parents[1] / "data" / "error-codes.json").read_text(encoding="utf-8"))
BY_CODE = {row["code"]: row for row in ROWS}

HTTP_TEXTS = [row for row in ROWS if row["surface"] in ("access_token", "session_create", "connect")]
SYSTEM_TEXTS = [row for row in ROWS if row["surface"] == "websocket" and row["text"]]
REST = ("access_token", "session_create")

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row["code"])
every_http_text = pytest.mark.parametrize("row", HTTP_TEXTS, ids=lambda row: row["code"])
every_system_text = pytest.mark.parametrize("row", SYSTEM_TEXTS, ids=lambda row: row["code"])
every_entry = pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.code)


def facts(entry: CatalogEntry) -> dict[str, object]:
    return {
        "code": entry.code,
        "surface": entry.surface,
        "status": entry.status,
        "text": entry.text,
        "aliases": list(entry.aliases),
        "exception": entry.exception.__name__,
        "retryable": entry.retryable,
    }


def test_catalogue_and_specification_have_the_same_rows_in_the_same_order():
    wanted = [{"aliases": [], **{key: row[key] for key in row if key in facts(CATALOG[0])}} for row in ROWS]
    assert [facts(entry) for entry in CATALOG] == wanted


@every_row
def test_exception_is_also_what_the_specification_calls_it(row):
    entry = entry_for_code(row["code"])
    assert entry.exception is getattr(polyai_sync.errors, row["exception"])
    for base in row.get("also_a", ()):
        wanted = getattr(polyai_sync.errors, base, None) or getattr(builtins, base)
        assert issubclass(entry.exception, wanted)


@every_row
def test_entry_says_how_it_is_recognised(row):
    wanted = row.get("match") or ("status" if row["surface"] == "http" or row["code"] == "system.unknown" else "exact")
    assert entry_for_code(row["code"]).match == wanted


@every_entry
def test_entry_is_fit_for_its_readers(entry):
    for text in (entry.cause, entry.resolution, entry.user_text):
        assert text == " ".join(text.split())
        assert len(text) > 10
    assert entry.cause.endswith(".")
    assert entry.resolution.endswith(".")
    if entry.user_text != entry.text:
        assert not any(word in entry.user_text.lower() for word in ("token", "http", "error", "session", "server"))


@every_row
def test_server_text_is_for_the_user_where_the_documentation_says_so(row):
    entry = entry_for_code(row["code"])
    assert (entry.user_text == row["text"]) is row.get("display", False)


def test_unknown_code_has_no_entry():
    assert entry_for_code("connect.no_such_code") is None
    assert entry_for_code("") is None


def spellings(text: str) -> list[str]:
    return [
        text,
        text.upper(),
        text.lower(),
        f"  {text}\n",
        text.replace("'", "\u2019"),
        text.replace(" ", "  "),
        text.rstrip("."),
        f"{text}.",
    ]


@every_http_text
def test_text_decides_on_its_surface(row):
    for text in (row["text"], *row.get("aliases", ())):
        for spelling in spellings(text):
            assert match_http(row["surface"], row["status"], spelling).code == row["code"]


@pytest.mark.parametrize("surface", ["access_token", "session_create", "connect"])
@pytest.mark.parametrize("row", [row for row in ROWS if row["surface"] == "http"], ids=lambda row: row["code"])
@pytest.mark.parametrize("text", ["", "no row has this", "<html>"])
def test_status_decides_where_the_text_is_in_no_row(surface, row, text):
    for status in row["statuses"]:
        if surface == "connect" and status in (401, 403, 404):
            continue
        assert match_http(surface, status, text).code == row["code"]


@pytest.mark.parametrize("text", ["", "nope", "Session not found", "authentication failed", "session not found"])
def test_handshake_status_decides_whatever_the_text(text):
    assert match_http("connect", 404, text).code == "connect.session_not_found"
    assert match_http("connect", 401, text).code == "connect.authentication_failed"
    assert match_http("connect", 403, text).code == "connect.authentication_failed"


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "http.bad_request"), (429, "http.rate_limited"), (503, "http.server_error"), (302, "http.redirected")],
)
@pytest.mark.parametrize("text", ["session not found", "authentication failed"])
def test_no_text_turns_another_status_into_the_end_of_a_session(status, code, text):  # pitfalls.md 1
    assert match_http("connect", status, text).code == code


def test_rest_text_decides_before_the_status():
    assert match_http("session_create", 403, "Invalid access token").code == "session_create.invalid_token"
    assert match_http("session_create", 400, "Error creating session").code == "session_create.failed"
    assert match_http("session_create", 429, "Failed to create session").code == "http.rate_limited"
    assert match_http("session_create", 302, "Failed to create session").code == "http.redirected"


def test_text_of_another_surface_does_not_count():
    assert match_http("access_token", 401, "Invalid access token").code == "http.unauthorized"
    assert match_http("session_create", 404, "session not found").code == "http.not_found"
    assert match_http("access_token", 401, "Missing authentication headers").code == "access_token.missing_headers"
    assert (
        match_http("session_create", 401, "Missing authentication headers").code
        == "session_create.malformed_authorization"
    )


@pytest.mark.parametrize("status", [-1, 0, 101, 200, 204, 600, 10**30])
def test_status_that_refuses_nothing_is_a_broken_protocol(status):
    assert match_http("access_token", status, "").code == "client.protocol"


@given(st.sampled_from(["access_token", "session_create", "connect", "", "x"]), st.integers(), st.text())
def test_match_http_takes_anything(surface, status, text):
    assert match_http(surface, status, text) in CATALOG


@every_system_text
def test_system_message_is_found_however_it_is_spaced_and_cased(row):
    for spelling in spellings(row["text"]):
        assert match_system_message(spelling).code == row["code"]


@pytest.mark.parametrize("end", ["EVENT_TYPE_SESSION_END", "EVENT_TYPE_*", "whatever", ""])
def test_event_not_allowed_is_found_by_its_beginning_and_keeps_the_type(end):
    text = f"Event type not allowed: {end}"
    entry = match_system_message(f" {text.upper()} ")
    assert entry.code == "event.not_allowed"
    error = make_error(entry, text)
    assert isinstance(error, InvalidEventError)
    assert error.message == text


@pytest.mark.parametrize("text", ["", "  ", "Error: Something new", "session not found", "Event type", None, 3, []])
def test_system_message_in_no_row_is_unknown(text):
    assert match_system_message(text).code == "system.unknown"


@every_entry
def test_make_error_carries_the_entry(entry):
    for given_entry in (entry, entry.code):
        error = make_error(given_entry)
        assert type(error) is entry.exception
        assert error.entry is entry
        assert error.message == entry.cause
        assert (error.code, error.surface, error.retryable, error.resolution, error.user_text) == (
            entry.code,
            entry.surface,
            entry.retryable,
            entry.resolution,
            entry.user_text,
        )


@every_entry
def test_make_error_keeps_the_servers_text(entry):
    error = make_error(entry, "Their OWN words.")
    assert error.message == "Their OWN words."
    assert error.user_text == ("Their OWN words." if BY_CODE[entry.code].get("display") else entry.user_text)


def test_make_error_keeps_what_was_seen():
    error = make_error("http.rate_limited", status=429, surface="connect", retry_after=2.5, request_id=None)
    assert (error.status, error.surface, error.retry_after, error.request_id) == (429, "connect", 2.5, None)
    assert make_error("http.rate_limited", surface=None).surface == "http"
    assert make_error("agent.no_response", "Sorry", user_text="Hm").user_text == "Hm"
    assert make_error("agent.no_response", "Sorry", user_text=None).user_text == "Sorry"
    assert make_error("client.session_ended", reason="REASON_USER_END").reason == "REASON_USER_END"


def test_make_error_refuses_a_code_that_is_not_there():
    with pytest.raises(LookupError, match=r"agent\.nope"):
        make_error("agent.nope")


@every_entry
def test_explain_finds_each_entry_by_code_and_by_exception(entry):
    assert explain(entry.code) is entry
    assert explain(f" {entry.code.upper()} ") is entry
    assert explain(make_error(entry)) is entry


@pytest.mark.parametrize("row", HTTP_TEXTS + SYSTEM_TEXTS, ids=lambda row: row["code"])
def test_explain_finds_each_text(row):
    first = next(other for other in ROWS if other["text"] == row["text"])
    for text in (row["text"], *row.get("aliases", ())):
        for spelling in spellings(text):
            assert explain(spelling).code == first["code"]
        assert explain(f"{text} (HTTP 500). And what to do.").code == first["code"]


def test_explain_of_a_text_in_two_rows_asks_the_exception():
    assert explain("Missing authentication headers").code == "access_token.missing_headers"
    error = make_error("session_create.malformed_authorization", "Missing authentication headers", status=401)
    assert explain(error).code == "session_create.malformed_authorization"


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (404, "http.not_found"),
        ("404", "http.not_found"),
        ("HTTP 503", "http.server_error"),
        (302, "http.redirected"),
        (4001, "connect.session_not_found"),
        ("4001", "connect.session_not_found"),
        ("SessionNotFoundError", "session.not_found"),
        ("deliveryerror", "client.not_delivered"),
        (ConversationNotFoundError, "session.conversation_not_found"),
        ("Event type not allowed: EVENT_TYPE_HEARTBEAT", "event.not_allowed"),
    ],
)
def test_explain_takes_numbers_and_class_names(what, code):
    assert explain(what).code == code


@pytest.mark.parametrize(
    "what",
    ["", " ", "no such thing", 200, 0, -404, 1000, True, "99999", None, 4.04, b"404", ValueError("404"), int, []],
)
def test_explain_knows_nothing_of_the_rest(what):
    assert explain(what) is None


@given(st.text() | st.integers() | st.floats() | st.binary())
def test_explain_takes_anything(what):
    assert explain(what) is None or explain(what) in CATALOG


def test_every_exception_has_an_entry_for_its_default_code_that_raises_it_or_a_subclass():
    for name in polyai_sync.errors.__all__:
        cls = getattr(polyai_sync.errors, name)
        entry = entry_for_code(cls.default_code)
        assert entry is not None, name
        if cls is not PolyAIError:
            assert issubclass(entry.exception, cls) or issubclass(cls, entry.exception), name


def test_every_exception_is_raised_by_some_entry():
    raised = {base for entry in CATALOG for base in entry.exception.__mro__}
    assert [name for name in polyai_sync.errors.__all__ if getattr(polyai_sync.errors, name) not in raised] == []


def test_refused_handshake_and_system_message_are_the_same_exception():
    assert entry_for_code("connect.session_not_found").exception is SessionNotFoundError
    assert entry_for_code("session.not_found").exception is SessionNotFoundError
