"""Every fault the emulator can make happen: the single source for the registry, the command line and the docs.

A row says what is *seen* on the wire, in one sentence. ``on`` is the occasion it waits for by default; ``also`` are
the others that its option ``on=`` may name.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FAULT_TABLE", "OCCASIONS", "SYSTEM_TEXTS", "FaultRow"]

OCCASIONS: Mapping[str, str] = MappingProxyType(
    {
        "access_token": "an access token is asked for",
        "session_create": "a session is asked for",
        "connect": "a WebSocket handshake arrives",
        "open": "a WebSocket has just been accepted, nothing sent on it yet",
        "history": "the history of a connection is about to be sent",
        "opened": "the history of a connection has been sent",
        "join": "a client asks the agent to join",
        "message": "a user message arrives, not yet accepted",
        "echo": "a user message has been accepted and its echo sent",
        "turn": "the agent is about to think about a user message",
        "stream": "a message is about to be streamed",
        "chunk": "a chunk of a stream has been sent",
        "reply": "the agent has finished its answer to a user message",
        "handoff": "the agent is about to hand over to a person",
        "end_request": "a client asks for the end",
        "end": "the conversation is about to end",
        "heartbeat": "a heartbeat arrives",
        "event": "an event is about to be sent live",
    }
)
"""The moments at which a fault may fire, and what each is."""

SYSTEM_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "event.unknown": "Unknown event type or invalid message format",
        "event.not_allowed": "Event type not allowed: EVENT_TYPE_POLY_AGENT_MESSAGE",
        "agent.overloaded": "Our system is experiencing high load. Please try again in a moment.",
        "agent.start_failed": "Sorry, I'm unable to start a conversation right now. Please try again later.",
        "agent.no_response": "Sorry, I'm having trouble responding right now. Please try again.",
        "agent.stream_failed": "Sorry, I encountered an error. Please try again.",
        "session.not_found": "Error: Session not found",
        "session.unavailable": "Error: Unable to retrieve session",
        "session.connector_not_found": "Error: Connector not found",
        "session.conversation_not_found": "Error: Conversation not found",
        "session.conversation_uninitialised": "Error: Conversation ID not found in session",
        "handoff.no_live_agent": "Sorry, we could not connect you to an agent. Please try again.",
        "handoff.message_not_forwarded": "Failed to forward message to live agent",
        "handoff.not_initiated": "Sorry, handoff could not be initiated.",
        "system.unknown": "The kitchen printer is on fire.",
    }
)
"""The server's own words for each error that arrives as a system message (errors.md)."""


def _read_only(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(value))


@frozen(kw_only=True)
class FaultRow:
    """One fault that can be armed.

    Attributes:
        name: How it is armed. A catalogue code where the fault is a row of errors.md.
        does: What is seen when it fires, in one sentence.
        on: The occasions it waits for unless told otherwise.
        also: Further occasions that the option ``on`` may name.
        status: The HTTP status of a refusal.
        text: The server's words.
        options: The options it takes beside ``on`` and ``session_id``, with their defaults.
        all_at_once: It changes something and leaves room for others on the same occasion; the rest decide what
            happens, and there the first armed wins.
    """

    name: str
    does: str
    on: tuple[str, ...]
    also: tuple[str, ...] = ()
    status: int | None = None
    text: str | None = None
    options: Mapping[str, Any] = field(default=MappingProxyType({}), converter=_read_only)
    all_at_once: bool = False


HTTP_SURFACES = ("access_token", "session_create", "connect")
MOMENTS = ("open", "opened", "join", "message", "echo", "turn", "chunk", "reply", "heartbeat")

_HTTP_OPTIONS: Mapping[str, Any] = {
    "status": None,
    "text": None,
    "body": None,
    "shape": "error",
    "retry_after": None,
    "headers": None,
    "delay": 0.0,
}
_SYSTEM_OPTIONS: Mapping[str, Any] = {"text": None, "metadata": True, "delay": 0.0, "then_end": False}


def _refusal(name: str, status: int, text: str, does: str, **options: Any) -> FaultRow:
    surface = name.partition(".")[0]
    return FaultRow(name=name, does=does, on=(surface,), status=status, text=text, options={**_HTTP_OPTIONS, **options})


def _http(name: str, status: int | None, text: str | None, does: str, **options: Any) -> FaultRow:
    return FaultRow(
        name=name,
        does=does,
        on=HTTP_SURFACES,
        also=HTTP_SURFACES,
        status=status,
        text=text,
        options={**_HTTP_OPTIONS, **options},
    )


def _system(name: str, does: str, *, on: tuple[str, ...] = ("turn",), also: tuple[str, ...] = ()) -> FaultRow:
    return FaultRow(name=name, does=does, on=on, also=also, text=SYSTEM_TEXTS[name], options=_SYSTEM_OPTIONS)


def _row(name: str, on: str, does: str, *, also: tuple[str, ...] = (), **options: Any) -> FaultRow:
    return FaultRow(name=name, does=does, on=(on,), also=also, options=options)


def _twist(name: str, on: str | tuple[str, ...], does: str, **options: Any) -> FaultRow:
    where = (on,) if isinstance(on, str) else on
    return FaultRow(name=name, does=does, on=where, also=where, options=options, all_at_once=True)


_REFUSALS = (
    _refusal(
        "access_token.missing_headers",
        401,
        "Missing authentication headers",
        "The access token is refused as if a header were missing.",
    ),
    _refusal(
        "access_token.unknown_connector",
        401,
        "Connector token does not exist",
        "The access token is refused as if the connector token were unknown.",
    ),
    _refusal(
        "access_token.host_mismatch",
        401,
        "Failed to validate connector",
        "The access token is refused as if the host were not the registered one.",
    ),
    _refusal(
        "access_token.no_host_domain",
        401,
        "Connector missing host domain",
        "The access token is refused as if the connector had no host domain.",
    ),
    _refusal(
        "access_token.creation_failed",
        500,
        "Failed to create access token",
        "The service fails to make the access token.",
    ),
    _refusal(
        "session_create.missing_token",
        400,
        "Missing access token",
        "The session is refused as if no access token had been sent.",
    ),
    _refusal(
        "session_create.malformed_authorization",
        401,
        "Missing authentication headers",
        "The session is refused as if the Authorization header were malformed.",
    ),
    _refusal(
        "session_create.invalid_token",
        401,
        "Invalid access token",
        "The session is refused as if the access token were invalid.",
    ),
    _refusal(
        "session_create.malformed_body",
        400,
        "Error parsing request",
        "The session is refused as if its body were no JSON.",
    ),
    _refusal(
        "session_create.failed",
        500,
        "Failed to create session",
        "The service fails to make the session.",
    ),
    _refusal(
        "connect.session_not_found",
        404,
        "session not found",
        "The handshake is refused as if the session were gone.",
    ),
    _refusal(
        "connect.authentication_failed",
        401,
        "authentication failed",
        "The handshake is refused as if the access token were dead or another session's.",
    ),
    _refusal(
        "connect.too_many_connections",
        429,
        "connection limit exceeded for session",
        "The handshake is refused as if the session had ten connections already.",
        retry_after=1,
    ),
    _refusal(
        "connect.invalid_parameters",
        400,
        "invalid connection parameters",
        "The handshake is refused as if a query parameter were missing.",
    ),
    _refusal(
        "connect.answered_200",
        200,
        "OK",
        "The handshake is answered with 200 and a page, as a captive portal would.",
    ),
)

_HTTP = (
    _http("http.bad_request", 400, "Bad request", "The next request is refused with 400 and a text in no other row."),
    _http("http.unauthorized", 401, "Unauthorized", "The next request is refused with 401 (or status=403)."),
    _http("http.not_found", 404, "404 page not found", "The next request is answered with 404."),
    _http(
        "http.redirected",
        302,
        "Found",
        "The next request is redirected to location= (by default to a path of this server).",
        location=None,
    ),
    _http(
        "http.rate_limited",
        429,
        "Too many requests",
        "The next request is refused with 429 and Retry-After (retry_after=: seconds, a date, or junk).",
        retry_after=1,
    ),
    _http("http.server_error", 503, "Service unavailable", "The next request is answered with 503 (or any status=)."),
    _http("http.no_answer", None, None, "The next request's connection is cut without an answer."),
    _http("http.hang", None, None, "The next request gets no answer at all; its connection stays open.", delay=3600.0),
    _http("http.slow", None, None, "The next request is served after delay= seconds.", delay=0.2),
    _http("http.huge_body", 503, None, "The next request is refused with 503 and a body of size= bytes.", size=1 << 20),
)

_ANSWERS = (
    _twist("token.camel_case", "access_token", "The token answer uses accessToken and expiresIn."),
    _twist("token.no_lifetime", "access_token", "The token answer gives no lifetime."),
    _twist("token.missing", "access_token", "The token answer is a 200 without a token."),
    _twist("token.not_json", "access_token", "The token answer is a 200 that is not JSON."),
    _twist("token.not_jwt", "access_token", "The access token is an opaque word without dots."),
    _twist("token.no_exp", "access_token", "The access token's payload has no exp: it never expires."),
    _twist("token.float_exp", "access_token", "The access token's exp is a float."),
    _twist("token.expired", "access_token", "The access token is already expired when it is handed out."),
    _twist("session_create.camel_case", "session_create", "The session answer uses sessionId."),
    _twist("session_create.id_only", "session_create", "The session answer uses id."),
    _twist("session_create.no_id", "session_create", "The session answer is a 200 without an id."),
    _twist("session_create.not_json", "session_create", "The session answer is a 200 that is not JSON."),
)

_SYSTEM = (
    _system("event.unknown", "The next user message is refused as an unknown event.", on=("message",), also=("join",)),
    _system(
        "event.not_allowed",
        "The next user message is refused as an event that only the server may send.",
        on=("message",),
        also=("join",),
    ),
    _system("agent.overloaded", "The next user message is answered with the high-load error.", also=("join",)),
    _system("agent.start_failed", "The next join is echoed, then the agent fails to start.", on=("join",)),
    _system("agent.no_response", "The next user message is answered with the no-response error.", also=("join",)),
    _system(
        "agent.stream_failed", "The next streamed reply stops half-way with an error.", on=("stream",), also=("turn",)
    ),
    _system("session.not_found", "The next user message is answered: session not found.", also=("join",)),
    _system("session.unavailable", "The next user message is answered: session not retrieved.", also=("join",)),
    _system("session.connector_not_found", "The next user message is answered: no connector.", also=("join",)),
    _system("session.conversation_not_found", "The next user message is answered: no conversation.", also=("join",)),
    _system(
        "session.conversation_uninitialised",
        "The next user message is answered: no conversation id.",
        also=("join",),
    ),
    _system(
        "handoff.no_live_agent",
        "The next user message (or on=handoff: the next handoff) is answered: no live agent.",
        also=("handoff",),
    ),
    _system("handoff.message_not_forwarded", "The next user message is echoed, but not forwarded to the live agent."),
    _system(
        "handoff.not_initiated",
        "The next user message (or on=handoff: the next handoff) is answered: not initiated.",
        also=("handoff",),
    ),
    _system("system.unknown", "The next user message is answered with an error in no row.", also=("join",)),
    _row("system.info", "turn", "An informative system message comes before the next reply.", text="We close at ten."),
    _row(
        "system.warning", "turn", "A system message of level warning comes before the next reply.", text="Almost full."
    ),
    _row("system.odd_level", "turn", "A system message of an unknown level comes before the next reply.", text="Psst."),
    _row("agent.silent", "turn", "The next user message is echoed and never answered."),
    _row("agent.slow", "turn", "The next reply comes delay= seconds late.", delay=0.3),
)

_START = (
    _twist("start.no_session_start", "history", "The history lacks its SESSION_START."),
    _row("start.no_join_echo", "join", "The agent joins and greets, but the join is not echoed."),
    _row("start.no_join", "join", "The join is echoed, and the agent never joins."),
    _row("start.no_greeting", "join", "The agent joins and says nothing."),
    _row("start.slow_greeting", "join", "The greeting comes delay= seconds after the join.", delay=0.3),
    _row(
        "start.join_lost",
        "join",
        "The socket dies before the join's echo; the join is lost (accepted=true: only its echo is).",
        accepted=False,
    ),
    _twist("start.no_capabilities", "history", "SESSION_START carries no capabilities."),
    _twist("start.odd_capabilities", "history", "SESSION_START carries capabilities of the wrong types."),
)

_HISTORY = (
    _twist("history.split", "history", "The history comes in batches of size= events.", size=1),
    _twist("history.unbatched", "history", "The history comes as single events, without a batch."),
    _twist("history.reversed", "history", "The events of the batch come in reverse order."),
    _twist("history.duplicate", "history", "The batch comes twice."),
    _twist("history.overlap_live", "history", "The last count= events of the batch come again, live.", count=3),
    _twist("history.full_replay", "history", "The cursor is ignored: the whole history comes again."),
    _twist("history.none_on_cursor", "history", "With a cursor and nothing new there is no batch at all."),
    _twist("history.late", "history", "The history comes delay= seconds late; live events overtake it.", delay=0.2),
    _twist("history.never", "history", "No history is ever sent."),
)

_SEQUENCE = (
    _twist("sequence.hole", "event", "An event is not sent live; only a replay holds it.", event=None),
    _twist("sequence.permanent_hole", "event", "A sequence number is left out for good before an event.", event=None),
    _twist("sequence.duplicate", "event", "An event is sent twice, under one id.", event=None),
)

_MESSAGE = (
    _row("message.dropped", "message", "A user message is dropped without a word (the rate limit)."),
    _row("message.dropped_then_drop", "message", "The socket is cut before a user message is accepted."),
    _row("message.echo_lost_then_drop", "message", "A user message is accepted; the socket is cut before its echo."),
    _row(
        "message.echo_delayed",
        "message",
        "A user message is accepted, its echo comes delay= seconds later (reply_first=true: after the reply).",
        delay=0.2,
        reply_first=False,
    ),
    _row("message.echo_lost", "message", "A user message is accepted and answered; its echo is only in the replay."),
    _row("message.doubled", "message", "A user message is accepted twice: two echoes, two ids, two answers."),
    _row("heartbeat.dropped", "heartbeat", "A heartbeat is not echoed."),
)

_STREAM = (
    _twist("stream.zero_based", "stream", "Chunks are counted from 0."),
    _twist("stream.repeated_chunk", "stream", "A chunk comes twice, under two event ids."),
    _twist("stream.out_of_order", "stream", "Two neighbouring chunks change places."),
    _twist("stream.missing_chunk", "stream", "A chunk in the middle never comes."),
    _twist(
        "stream.interleaved", "stream", "A second streamed message is woven into the first one.", text="One moment."
    ),
    _twist("stream.abandoned", "stream", "The stream stops half-way and is never completed."),
    _twist("stream.replaced_by_whole", "stream", "A whole message with the stream's id comes after it.", text=None),
    _twist("stream.no_final_text", "stream", "The completing chunk carries no text (null)."),
    _twist("stream.slow", "stream", "Each chunk comes delay= seconds after the one before.", delay=0.05),
)

_END = (
    _row(
        "end.natural", "reply", "The conversation ends by itself after the next reply.", also=("echo", "turn", "opened")
    ),
    _row(
        "end.abandoned", "reply", "The server gives the user up after the next reply.", also=("echo", "turn", "opened")
    ),
    _row("end.unanswered", "end_request", "The client's request for an end is neither echoed nor followed."),
    _row("end.no_echo", "end_request", "The end comes without the echo of the request."),
    _twist("end.close_1000_only", "end", "The socket closes with 1000, and there is no SESSION_END."),
    _twist("end.old_word", "end", "SESSION_END carries an older word for its reason.", reason="user_ended"),
    _twist("end.null_reason", "end", "SESSION_END carries null for its reason."),
    _twist("end.no_close", "end", "SESSION_END comes, and the socket stays open."),
)

_LINE = (
    _row("connection.drop", "echo", "The socket is cut without a close frame.", also=MOMENTS),
    _row("connection.silent", "echo", "The socket goes dead: nothing is read or written any more.", also=MOMENTS),
    _row("close.<code>", "echo", "The socket is closed with that code, as in close.1011.", also=MOMENTS, reason=""),
    _row("accept_then_drop", "open", "The handshake is accepted, and the socket cut at once."),
)

_EVENT = ("event",)
_BOTH = ("event", "history")
_WIRE = (
    _twist("wire.binary_frame", _EVENT, "A binary frame comes before an event.", event=None),
    _twist(
        "wire.oversize_frame",
        _EVENT,
        "A frame of size= bytes comes before an event (claim=: only a header that promises so many).",
        event=None,
        size=2 << 20,
        claim=None,
    ),
    _twist(
        "wire.broken_json", _EVENT, "A frame that is no JSON comes before an event.", event=None, text='{"type": "EV'
    ),
    _twist("wire.deep_json", _EVENT, "A frame nested depth= deep comes before an event.", event=None, depth=20_000),
    _twist("wire.not_object", _EVENT, "Frames holding a list, a number, a string and null come first.", event=None),
    _twist("wire.absurd_numbers", _EVENT, "A frame with a number of 5,000 digits comes before an event.", event=None),
    _twist("wire.invalid_utf8", _EVENT, "A text frame that is not UTF-8 comes before an event.", event=None),
    _twist("wire.ping", _EVENT, "A WebSocket ping comes before an event.", event=None),
    _twist("wire.fragmented", _EVENT, "An event comes in several fragments with a ping between them.", event=None),
    _twist("wire.unknown_event", _EVENT, "An event of an unknown type comes before an event.", event=None),
    _twist("wire.no_echo_metadata", _EVENT, "An event comes without its metadata.", event="USER_MESSAGE"),
    _twist("wire.odd_metadata", _EVENT, "An event's metadata holds values that are no strings.", event=None),
    _twist("wire.no_id", _EVENT, "An event comes with an empty id.", event=None),
    _twist("wire.no_timestamp", _BOTH, "Events come without a timestamp.", event=None),
    _twist("wire.whole_seconds", _BOTH, "Timestamps come without fractions of a second.", event=None),
    _twist("wire.default_fields_omitted", _BOTH, "Fields that hold their default are left out.", event=None),
    _twist("wire.old_field_names", _BOTH, "Older and flat field names are used where there are some.", event=None),
    _twist(
        "wire.wrong_types", _BOTH, "Payload fields come with values of the wrong types.", event="POLY_AGENT_MESSAGE"
    ),
    _twist("wire.extra_fields", _BOTH, "Events carry fields nobody has documented.", event=None),
    _twist("wire.junk_in_lists", _BOTH, "Attachments and suggestions have junk among them.", event=None),
    _twist("wire.junk_in_batch", "history", "The batch has junk among its events."),
    _twist("wire.payload_under_type_name", "history", "Events of the batch carry their payload under the type's name."),
    _twist("wire.batch_without_id", "history", "The batch has neither id, timestamp nor sequence."),
    _row("wire.heartbeat_echo_bare", "heartbeat", "A heartbeat's echo has neither id nor timestamp."),
    _row("wire.heartbeat_sequenced", "heartbeat", "A heartbeat's echo has a sequence and is in the replay."),
)

FAULT_TABLE: Mapping[str, FaultRow] = MappingProxyType(
    {
        row.name: row
        for rows in (
            _REFUSALS,
            _HTTP,
            _ANSWERS,
            _SYSTEM,
            _START,
            _HISTORY,
            _SEQUENCE,
            _MESSAGE,
            _STREAM,
            _END,
            _LINE,
            _WIRE,
        )
        for row in rows
    }
)
"""Name -> row, in the order of the protocol's surfaces."""
