"""The bundled plugin that writes records: where, at what level, with which fields, and never with a token."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from datetime import datetime, timezone
from types import MappingProxyType

import pytest

from polyai_sync.errors import ConnectionDroppedError, ServerError, SystemMessageError
from polyai_sync.events import LanguageChanged, SystemMessage, UnknownEvent
from polyai_sync.hooks import OBSERVERS, ClientEvent, RateLimit, hookimpl
from polyai_sync.messages import Capabilities, Delivery, Handoff, HandoffStatus, Message
from polyai_sync.plugin_host import PluginHost
from polyai_sync_plugins import Logging

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyLTEifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
RAW = {
    "id": "e-7",
    "sequence": 7,
    "timestamp": "2026-01-02T03:04:05Z",
    "type": "EVENT_TYPE_SYSTEM_MESSAGE",
    "payload": {"level": "SYSTEM_MESSAGE_LEVEL_ERROR", "message": "Größe \ud800"},
    "metadata": {"custom": {"client_event_id": "c-1"}},
}


class Session:
    """What the plugin looks at."""

    session_id = "session-1"


SESSION = Session()
LIMIT = RateLimit(surface="session_create", retry_after=3.0)
DROP = ConnectionDroppedError("gone", close_code=1006)
REPORTED = SystemMessageError(
    "odd", surface="websocket", event=SystemMessage(id="e-7", sequence=7, raw=RAW), client_event_id="c-1"
)
HTTP = {"operation": "session_create", "attempt": 2, "correlation_id": "k-1"}
URL = "https://messaging.us-1.poly.ai/api/v1/sessions"

# hook, arguments, logger, level, words of the message, fields
RECORDS = [
    (
        "on_error",
        {"session": SESSION, "error": REPORTED},
        ("session", "ERROR"),
        ["odd", "[system.unknown]", '"id": "e-7"', '"timestamp": "2026-01-02T03:04:05Z"', "Größe"],
        {"code": "system.unknown", "error_type": "SystemMessageError", "raw": RAW, "client_event_id": "c-1"},
    ),
    (
        "on_error",
        {"session": None, "error": ServerError("no", surface="session_create", status=500, request_id="r-1")},
        ("http", "ERROR"),
        ["no", "HTTP 500", "[http.server_error]"],
        {"surface": "session_create", "status": 500, "request_id": "r-1", "retryable": True, "raw": None},
    ),
    (
        "on_session_start",
        {"session": SESSION, "capabilities": Capabilities(streaming=True)},
        ("session", "INFO"),
        ["started"],
        {"streaming": True},
    ),
    (
        "on_session_end",
        {"session": SESSION, "reason": "SESSION_NOT_FOUND", "error": DROP},
        ("session", "INFO"),
        ["ended", "SESSION_NOT_FOUND"],
        {"reason": "SESSION_NOT_FOUND", "code": "client.connection_dropped"},
    ),
    (
        "on_rate_limit",
        {"session": None, "limit": LIMIT},
        ("http", "WARNING"),
        ["rate limit", "session_create"],
        {"surface": "session_create", "retry_after": 3.0, "certain": True},
    ),
    (
        "on_rate_limit",
        {"session": SESSION, "limit": RateLimit(surface="websocket", certain=False)},
        ("session", "WARNING"),
        ["seems", "websocket"],
        {"certain": False},
    ),
    (
        "on_request",
        {"session": None, "method": "POST", "url": URL, **HTTP},
        ("http", "DEBUG"),
        ["POST", URL, "attempt 2"],
        {"method": "POST", "url": URL, **HTTP},
    ),
    (
        "on_response",
        {"session": None, "status": 200, "seconds": 0.25, "error": None, **HTTP},
        ("http", "DEBUG"),
        ["200", "0.250 s", "attempt 2"],
        {"status": 200, "seconds": 0.25, **HTTP},
    ),
    (
        "on_response",
        {"session": None, "status": None, "seconds": 0.25, "error": DROP, **HTTP},
        ("http", "DEBUG"),
        ["client.connection_dropped"],
        {"status": None},
    ),
    (
        "on_connect",
        {"session": SESSION, "attempt": 1, "cursor": 4, "seconds": 0.1},
        ("session", "INFO"),
        ["connected", "cursor 4"],
        {"attempt": 1, "cursor": 4, "seconds": 0.1},
    ),
    ("on_disconnect", {"session": SESSION, "error": None}, ("session", "INFO"), ["asked for"], {"code": None}),
    (
        "on_disconnect",
        {"session": SESSION, "error": DROP},
        ("session", "INFO"),
        ["client.connection_dropped"],
        {"code": "client.connection_dropped"},
    ),
    (
        "on_reconnect",
        {"session": SESSION, "attempt": 3, "delay": 2.5, "error": DROP},
        ("session", "WARNING"),
        ["reconnecting", "2.50 s", "attempt 3"],
        {"attempt": 3, "delay": 2.5, "code": "client.connection_dropped"},
    ),
    (
        "on_event",
        {"session": SESSION, "event": SystemMessage(id="e-7", sequence=7, raw=RAW)},
        ("frames", "DEBUG"),
        ["received EVENT_TYPE_SYSTEM_MESSAGE", '"sequence": 7'],
        {"raw": RAW, "event_type": "EVENT_TYPE_SYSTEM_MESSAGE", "event_id": "e-7", "sequence": 7},
    ),
    (
        "on_send",
        {"session": SESSION, "event": ClientEvent(type="EVENT_TYPE_USER_MESSAGE", payload={"text": "Hi"})},
        ("frames", "DEBUG"),
        ["sent EVENT_TYPE_USER_MESSAGE", '{"text": "Hi"}'],
        {"raw": {"type": "EVENT_TYPE_USER_MESSAGE", "payload": {"text": "Hi"}}},
    ),
    (
        "on_send",
        {"session": SESSION, "event": ClientEvent(type="EVENT_TYPE_USER_MESSAGE", custom={"client_event_id": "c-1"})},
        ("frames", "DEBUG"),
        ["c-1"],
        {
            "raw": {
                "type": "EVENT_TYPE_USER_MESSAGE",
                "payload": {},
                "metadata": {"custom": {"client_event_id": "c-1"}},
            }
        },
    ),
    (
        "on_delivery",
        {"session": SESSION, "message": Message(role="user", client_event_id="c-1", delivery=Delivery.FAILED)},
        ("session", "WARNING"),
        ["c-1", "FAILED"],
        {"client_event_id": "c-1", "delivery": "FAILED"},
    ),
    (
        "on_delivery",
        {"session": SESSION, "message": Message(role="user", client_event_id="c-1")},
        ("session", "DEBUG"),
        ["c-1", "DELIVERED"],
        {"delivery": "DELIVERED"},
    ),
    (
        "on_handoff",
        {"session": SESSION, "handoff": Handoff(status=HandoffStatus.QUEUED, queue_name="sales", position=2)},
        ("session", "INFO"),
        ["handoff", "QUEUED"],
        {"handoff_status": "QUEUED", "queue_name": "sales", "position": 2},
    ),
]
UNLOGGED = {"on_message"}  # its events are frames already


@pytest.fixture
def host():
    return PluginHost([Logging()], load_plugins=False, environ={})


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, logger="polyai_sync")
    return caplog


def test_every_observer_is_in_the_table():
    assert {hook for hook, *_ in RECORDS} == set(OBSERVERS) - UNLOGGED


@pytest.mark.parametrize(
    ("hook", "arguments", "where", "words", "fields"),
    RECORDS,
    ids=[f"{hook}-{'-'.join(where)}-{n}" for n, (hook, _, where, *_) in enumerate(RECORDS)],
)
def test_an_occurrence_is_one_record(hook, arguments, where, words, fields, host, log):
    getattr(host, hook)(**arguments)
    (record,) = log.records
    logger, level = where
    assert (record.name, record.levelname) == (f"polyai_sync.{logger}", level)
    assert record.session_id == (None if arguments["session"] is None else "session-1")
    message = record.getMessage()
    assert message.startswith(f"session {record.session_id or '-'}: ")
    for word in words:
        assert word in message
    assert {name: getattr(record, name) for name in fields} == fields
    assert record.funcName == hook, "the record names the hook that was told"


def test_the_full_event_of_an_error_is_in_the_message_as_json(host, log):
    host.on_error(SESSION, REPORTED)
    text = log.records[0].getMessage().partition(" event: ")[2]
    assert json.loads(text) == RAW


def test_a_record_can_be_encoded_whatever_the_server_sent(host, caplog):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    handler = logging.StreamHandler(stream)
    errors = []
    handler.handleError = errors.append
    logger = logging.getLogger("polyai_sync.session")
    logger.addHandler(handler)
    try:
        host.on_error(SESSION, REPORTED)
    finally:
        logger.removeHandler(handler)
    assert errors == []


def test_what_is_no_plain_json_is_written_all_the_same(host, log):
    payload = MappingProxyType({"text": "Hi", "at": datetime(2026, 1, 2, tzinfo=timezone.utc)})
    host.on_send(SESSION, ClientEvent(type="EVENT_TYPE_USER_MESSAGE", payload=payload))
    assert '{"text": "Hi", "at": "2026-01-02 00:00:00+00:00"}' in log.messages[0]


# --- retries ---


class Policy:
    """Answers what it was made with."""

    def __init__(self, delay):
        self.delay = delay

    @hookimpl
    def retry_delay(self):
        return self.delay


@pytest.mark.parametrize(("operation", "logger"), [("access_token", "http"), ("ask", "session")])
def test_a_retry_is_a_warning(operation, logger, log):
    host = PluginHost([Policy(1.5), Logging()], load_plugins=False, environ={})
    assert host.retry_delay(None, operation, ServerError("no"), 2) == 1.5
    (record,) = log.records
    assert (record.name, record.levelname) == (f"polyai_sync.{logger}", "WARNING")
    assert (record.operation, record.attempt, record.delay, record.session_id) == (operation, 2, 1.5, None)
    assert record.code == "http.server_error"


def test_what_is_not_tried_again_is_no_retry(log):
    host = PluginHost([Policy(None), Logging()], load_plugins=False, environ={})
    assert host.retry_delay(SESSION, "ask", ServerError("no"), 2) is None
    assert PluginHost([Logging()], load_plugins=False, environ={}).retry_delay(SESSION, "ask", ServerError(), 1) is None
    assert not log.records


# --- secrets ---


def laden(value):
    """The same value with a token at the end of every text."""
    if isinstance(value, dict):
        return {key: laden(item) for key, item in value.items()}
    return f"{value} {JWT}" if isinstance(value, str) else value


TOKEN_URL = f"wss://messaging.us-1.poly.ai/ws?session_id=1&access_token={JWT}"
LADEN_EVENT = UnknownEvent(type=f"EVENT_TYPE_{JWT}", id=JWT, raw=laden(RAW))
LADEN_ERROR = SystemMessageError(
    f"odd {JWT}", event=LADEN_EVENT, body=f'{{"access_token": "{JWT}"}}', request_id=JWT, client_event_id=JWT
)
LADEN = {
    "on_error": {"session": SESSION, "error": LADEN_ERROR},
    "on_session_end": {"session": SESSION, "reason": JWT, "error": LADEN_ERROR},
    "on_rate_limit": {"session": SESSION, "limit": RateLimit(surface=JWT, error=LADEN_ERROR)},
    "on_request": {"session": SESSION, "method": "POST", "url": TOKEN_URL, **HTTP},
    "on_response": {"session": SESSION, "status": None, "seconds": 1.0, "error": LADEN_ERROR, **HTTP},
    "on_reconnect": {"session": SESSION, "attempt": 1, "delay": 1.0, "error": LADEN_ERROR},
    "on_event": {"session": SESSION, "event": LADEN_EVENT},
    "on_send": {"session": SESSION, "event": ClientEvent(type="T", payload={"text": JWT}, custom={"a": JWT})},
    "on_handoff": {"session": SESSION, "handoff": Handoff(queue_name=JWT, reason=JWT)},
    "on_delivery": {"session": SESSION, "message": Message(role="user", client_event_id=JWT)},
}


@pytest.mark.parametrize("hook", LADEN)
def test_no_record_holds_a_token(hook, host, log):
    getattr(host, hook)(**LADEN[hook])
    (record,) = log.records
    everything = repr(vars(record)) + logging.Formatter().format(record)
    assert JWT not in everything
    assert JWT.rpartition(".")[0] not in everything


# --- manners ---


def test_levels_and_the_root_logger_are_left_alone():
    code = (
        "import logging; level = logging.getLogger().level; import polyai_sync_plugins.logging as one; one.Logging();"
        "ours = [logging.getLogger(name) for name in logging.root.manager.loggerDict if 'polyai' in name];"
        "print(logging.root.handlers, logging.root.level == level, {one.level for one in ours},"
        " {type(one).__name__ for one in logging.getLogger('polyai_sync').handlers})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[] True {0} {'NullHandler'}"


def test_an_application_that_does_not_log_sees_nothing():
    code = (
        "from polyai_sync.plugin_host import PluginHost; from polyai_sync.errors import ServerError;"
        "PluginHost().on_error(None, ServerError('no'))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("", "")


def test_frames_are_not_looked_at_unless_they_are_logged(host, caplog):
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError(f"{name} was read")

    caplog.set_level(logging.INFO, logger="polyai_sync")
    host.on_event(SESSION, Untouchable())
    host.on_send(SESSION, Untouchable())
    assert not caplog.records


def test_a_disabled_level_costs_no_record(host, caplog):
    caplog.set_level(logging.ERROR, logger="polyai_sync")
    host.on_event(SESSION, LanguageChanged(language_code="de"))
    host.on_connect(SESSION, 1, 0, 0.1)
    host.on_reconnect(SESSION, 1, 0.1, DROP)
    assert not caplog.records
