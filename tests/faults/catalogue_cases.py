"""Every way a server can say no, as data: what to arm, and what the client must make of it.

Texts and statuses are those of errors.md and error-codes.md, written down here and not taken from the code under test.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["HTTP_CASES", "SYSTEM_CASES", "HttpCase", "SystemCase"]


@frozen(kw_only=True)
class HttpCase:
    """One refusal of an HTTP request or a handshake.

    Attributes:
        id: Its name in the test report.
        code: The row it is.
        surface: Where it is met.
        fault: What is armed at the emulator.
        options: The fault's options.
        status: The HTTP status.
        text: The server's words; ``None``: it has none that a person could read.
        retry_after: What the error must say about the wait: from-to, or ``None``.
    """

    id: str
    code: str
    surface: str
    fault: str
    status: int
    text: str | None
    options: Mapping[str, Any] = field(factory=dict)
    retry_after: tuple[float, float] | None = None


ROWS = (
    ("access_token.missing_headers", 401, "Missing authentication headers"),
    ("access_token.unknown_connector", 401, "Connector token does not exist"),
    ("access_token.host_mismatch", 401, "Failed to validate connector"),
    ("access_token.no_host_domain", 401, "Connector missing host domain"),
    ("access_token.creation_failed", 500, "Failed to create access token"),
    ("session_create.missing_token", 400, "Missing access token"),
    ("session_create.malformed_authorization", 401, "Missing authentication headers"),
    ("session_create.invalid_token", 401, "Invalid access token"),
    ("session_create.malformed_body", 400, "Error parsing request"),
    ("session_create.failed", 500, "Failed to create session"),
    ("connect.session_not_found", 404, "session not found"),
    ("connect.authentication_failed", 401, "authentication failed"),
    ("connect.too_many_connections", 429, "connection limit exceeded for session"),
    ("connect.invalid_parameters", 400, "invalid connection parameters"),
)
SHAPES = ("error", "message", "detail", "error_message", "nested", "text")
REST = ("access_token", "session_create")
LEGS = (*REST, "connect")
ON_HANDSHAKE = {
    401: "connect.authentication_failed",
    403: "connect.authentication_failed",
    404: "connect.session_not_found",
}
BY_STATUS = (
    ("http.redirected", (300, 301, 302, 303, 307, 308)),
    ("http.bad_request", (400, 405, 418, 422)),
    ("http.unauthorized", (401, 403)),
    ("http.not_found", (404,)),
    ("http.server_error", (500, 502, 503, 504, 599)),
)


def rows() -> Iterator[HttpCase]:
    """Each row with a text of its own, in each of the bodies that it may come in."""
    for code, status, text in ROWS:
        for shape in SHAPES:
            waits = {"retry_after": (1.0, 1.0)} if status == 429 else {}
            yield HttpCase(
                id=f"{code}-{shape}",
                code=code,
                surface=code.partition(".")[0],
                fault=code,
                status=status,
                text=text,
                options={"shape": shape},
                **waits,
            )


def other_words() -> Iterator[HttpCase]:
    """Aliases, other letters, and a row's text under a status that is not its own."""
    creation = "session_create.failed"
    for alias in ("Error creating session", "Unable to get agent details from connector service"):
        yield _plain(creation, "session_create", creation, 500, alias, text=alias)
    shouted = "CONNECTOR TOKEN DOES NOT EXIST"
    yield _plain("access_token.unknown_connector", "access_token", "access_token.unknown_connector", 401, shouted,
                 text=shouted)  # fmt: skip
    # On the handshake the status decides whether a conversation is thrown away, whatever the text (pitfalls.md 1).
    yield _plain("http.server_error", "connect", "connect.session_not_found", 503, "session not found", status=503)
    yield _plain("http.rate_limited", "connect", "connect.authentication_failed", 429, "authentication failed",
                 status=429)  # fmt: skip


def by_status() -> Iterator[HttpCase]:
    """Statuses whose text is in no row, on each leg."""
    for leg in LEGS:
        for code, statuses in BY_STATUS:
            for status in statuses:
                found = ON_HANDSHAKE.get(status, code) if leg == "connect" else code
                text = f"Words in no row, {status}"
                yield _plain(found, leg, code, status, text, on=leg, status=status, text=text)


def waits() -> Iterator[HttpCase]:
    """``Retry-After`` in all its forms (pitfalls.md 34)."""
    # An HTTP date has whole seconds; a large distance to now makes the rounding not matter.
    date = formatdate(time.time() + 3000, usegmt=True)
    forms: tuple[tuple[str, object, tuple[float, float] | None], ...] = (
        ("seconds", 7, (7, 7)),
        ("fraction", "0.25", (0.25, 0.25)),
        ("date", date, (2000, 3001)),
        ("past-date", formatdate(time.time() - 3000, usegmt=True), None),
        ("huge", "1e9", (1e9, 1e9)),
        ("negative", "-5", None),
        ("nan", "NaN", None),
        ("infinite", "inf", None),
        ("word", "soon", None),
        ("empty", "", None),
    )
    for leg in LEGS:
        for name, value, expected in forms:
            for code, fault, status, text in (
                ("http.rate_limited", "http.rate_limited", 429, "Too many requests"),
                ("http.server_error", "http.server_error", 503, "Service unavailable"),
            ):
                yield HttpCase(
                    id=f"{leg}-{status}-{name}",
                    code=code,
                    surface=leg,
                    fault=fault,
                    status=status,
                    text=text,
                    options={"on": leg, "retry_after": value},
                    retry_after=expected,
                )


def odd_bodies() -> Iterator[HttpCase]:
    """Bodies that no person could read."""
    bodies: tuple[tuple[str, object, str | None], ...] = (
        ("empty", "", None),
        ("html", "<html><head><title>Bad Gateway</title></head><body>nginx</body></html>", "Bad Gateway"),
        ("binary", b"\x00\xff\xfe\x80", None),
        ("list", ["no", "words"], None),
        ("deep", "[" * 5000 + "]" * 5000, None),
        ("long", "word " * 4000, None),
    )
    for leg in LEGS:
        for name, body, text in bodies:
            yield HttpCase(
                id=f"{leg}-body-{name}",
                code="http.server_error",
                surface=leg,
                fault="http.server_error",
                status=502,
                text=text,
                options={"on": leg, "status": 502, "body": body},
            )


def _plain(code: str, leg: str, fault: str, http_status: int, words: str, **options: Any) -> HttpCase:
    waited = {"retry_after": (1.0, 1.0)} if fault == "connect.too_many_connections" else {}
    return HttpCase(
        id=f"{leg}-{http_status}-{words.replace(' ', '_')}",
        code=code,
        surface=leg,
        fault=fault,
        status=http_status,
        text=words,
        options=options,
        **waited,
    )


def _unique(cases: Iterable[HttpCase]) -> tuple[HttpCase, ...]:
    found = {case.id: case for case in cases}
    return tuple(found.values())


HTTP_CASES = _unique(case for make in (rows, other_words, by_status, waits, odd_bodies) for case in make())


@frozen(kw_only=True)
class SystemCase:
    """One error that arrives as a system message.

    Attributes:
        code: The row it is.
        text: The server's words.
        on: The occasion it is provoked on, where that is not the fault's own.
        answered: The message has its receipt before the error comes.
    """

    code: str
    text: str
    on: str | None = None
    answered: bool = True
    options: Mapping[str, Any] = field(factory=dict)

    @property
    def id(self) -> str:
        return f"{self.code}{f'-{self.on}' if self.on else ''}"


SYSTEM_CASES = (
    SystemCase(code="event.unknown", text="Unknown event type or invalid message format", answered=False),
    SystemCase(code="event.not_allowed", text="Event type not allowed: EVENT_TYPE_POLY_AGENT_MESSAGE", answered=False),
    SystemCase(code="agent.overloaded", text="Our system is experiencing high load. Please try again in a moment."),
    SystemCase(
        code="agent.start_failed",
        text="Sorry, I'm unable to start a conversation right now. Please try again later.",
        on="join",
    ),
    SystemCase(code="agent.no_response", text="Sorry, I'm having trouble responding right now. Please try again."),
    SystemCase(code="agent.stream_failed", text="Sorry, I encountered an error. Please try again.", on="stream"),
    SystemCase(code="agent.stream_failed", text="Sorry, I encountered an error. Please try again.", on="turn"),
    SystemCase(code="session.not_found", text="Error: Session not found"),
    SystemCase(code="session.unavailable", text="Error: Unable to retrieve session"),
    SystemCase(code="session.connector_not_found", text="Error: Connector not found"),
    SystemCase(code="session.conversation_not_found", text="Error: Conversation not found"),
    SystemCase(code="session.conversation_uninitialised", text="Error: Conversation ID not found in session"),
    SystemCase(code="handoff.no_live_agent", text="Sorry, we could not connect you to an agent. Please try again."),
    SystemCase(
        code="handoff.no_live_agent",
        text="Sorry, we could not connect you to an agent. Please try again.",
        on="handoff",
    ),
    SystemCase(code="handoff.message_not_forwarded", text="Failed to forward message to live agent"),
    SystemCase(code="handoff.not_initiated", text="Sorry, handoff could not be initiated."),
    SystemCase(code="handoff.not_initiated", text="Sorry, handoff could not be initiated.", on="handoff"),
    SystemCase(code="system.unknown", text="The kitchen printer is on fire."),
)
