"""Every fault the emulator can make happen: the single source for the registry, the command line and the docs.

A row says what is *seen* on the wire, in one sentence; `FaultRow` tells the rest.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from polyai_sync.emulator.fault_rows import MOMENTS, FaultRow, http, refusal, row, system, twist

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FAULT_TABLE"]

_REFUSALS = (
    refusal(
        "access_token.missing_headers",
        401,
        "Missing authentication headers",
        "The access token is refused as if a header were missing.",
    ),
    refusal(
        "access_token.unknown_connector",
        401,
        "Connector token does not exist",
        "The access token is refused as if the connector token were unknown.",
    ),
    refusal(
        "access_token.host_mismatch",
        401,
        "Failed to validate connector",
        "The access token is refused as if the host were not the registered one.",
    ),
    refusal(
        "access_token.no_host_domain",
        401,
        "Connector missing host domain",
        "The access token is refused as if the connector had no host domain.",
    ),
    refusal(
        "access_token.creation_failed",
        500,
        "Failed to create access token",
        "The service fails to make the access token.",
    ),
    refusal(
        "session_create.missing_token",
        400,
        "Missing access token",
        "The session is refused as if no access token had been sent.",
    ),
    refusal(
        "session_create.malformed_authorization",
        401,
        "Missing authentication headers",
        "The session is refused as if the Authorization header were malformed.",
    ),
    refusal(
        "session_create.invalid_token",
        401,
        "Invalid access token",
        "The session is refused as if the access token were invalid.",
    ),
    refusal(
        "session_create.malformed_body",
        400,
        "Error parsing request",
        "The session is refused as if its body were no JSON.",
    ),
    refusal(
        "session_create.failed",
        500,
        "Failed to create session",
        "The service fails to make the session.",
    ),
    refusal(
        "connect.session_not_found",
        404,
        "session not found",
        "The handshake is refused as if the session were gone.",
    ),
    refusal(
        "connect.authentication_failed",
        401,
        "authentication failed",
        "The handshake is refused as if the access token were dead or another session's.",
    ),
    refusal(
        "connect.too_many_connections",
        429,
        "connection limit exceeded for session",
        "The handshake is refused as if the session had ten connections already.",
        retry_after=1,
    ),
    refusal(
        "connect.invalid_parameters",
        400,
        "invalid connection parameters",
        "The handshake is refused as if a query parameter were missing.",
    ),
    refusal(
        "connect.answered_200",
        200,
        "OK",
        "The handshake is answered with 200 and a page, as a captive portal would.",
    ),
)

_HTTP = (
    http("http.bad_request", 400, "Bad request", "The next request is refused with 400 and a text in no other row."),
    http("http.unauthorized", 401, "Unauthorized", "The next request is refused with 401 (or status=403)."),
    http("http.not_found", 404, "404 page not found", "The next request is answered with 404."),
    http(
        "http.redirected",
        302,
        "Found",
        "The next request is redirected to location= (by default to a path of this server).",
        location=None,
    ),
    http(
        "http.rate_limited",
        429,
        "Too many requests",
        "The next request is refused with 429 and Retry-After (retry_after=: seconds, a date, or junk).",
        retry_after=1,
    ),
    http("http.server_error", 503, "Service unavailable", "The next request is answered with 503 (or any status=)."),
    http("http.no_answer", None, None, "The next request's connection is cut without an answer."),
    http("http.hang", None, None, "The next request gets no answer at all; its connection stays open.", delay=3600.0),
    http("http.slow", None, None, "The next request is served after delay= seconds.", delay=0.2),
    http("http.huge_body", 503, None, "The next request is refused with 503 and a body of size= bytes.", size=1 << 20),
)

_ANSWERS = (
    twist("token.camel_case", "access_token", "The token answer uses accessToken and expiresIn."),
    twist("token.no_lifetime", "access_token", "The token answer gives no lifetime."),
    twist("token.missing", "access_token", "The token answer is a 200 without a token."),
    twist("token.not_json", "access_token", "The token answer is a 200 that is not JSON."),
    twist("token.not_jwt", "access_token", "The access token is an opaque word without dots."),
    twist("token.no_exp", "access_token", "The access token's payload has no exp: it never expires."),
    twist("token.float_exp", "access_token", "The access token's exp is a float."),
    twist("token.expired", "access_token", "The access token is already expired when it is handed out."),
    twist("session_create.camel_case", "session_create", "The session answer uses sessionId."),
    twist("session_create.id_only", "session_create", "The session answer uses id."),
    twist("session_create.no_id", "session_create", "The session answer is a 200 without an id."),
    twist("session_create.not_json", "session_create", "The session answer is a 200 that is not JSON."),
)

_SYSTEM = (
    system("event.unknown", "The next user message is refused as an unknown event.", on=("message",), also=("join",)),
    system(
        "event.not_allowed",
        "The next user message is refused as an event that only the server may send.",
        on=("message",),
        also=("join",),
    ),
    system("agent.overloaded", "The next user message is answered with the high-load error.", also=("join",)),
    system("agent.start_failed", "The next join is echoed, then the agent fails to start.", on=("join",)),
    system("agent.no_response", "The next user message is answered with the no-response error.", also=("join",)),
    system(
        "agent.stream_failed", "The next streamed reply stops half-way with an error.", on=("stream",), also=("turn",)
    ),
    system("session.not_found", "The next user message is answered: session not found.", also=("join",)),
    system("session.unavailable", "The next user message is answered: session not retrieved.", also=("join",)),
    system("session.connector_not_found", "The next user message is answered: no connector.", also=("join",)),
    system("session.conversation_not_found", "The next user message is answered: no conversation.", also=("join",)),
    system(
        "session.conversation_uninitialised",
        "The next user message is answered: no conversation id.",
        also=("join",),
    ),
    system(
        "handoff.no_live_agent",
        "The next user message (or on=handoff: the next handoff) is answered: no live agent.",
        also=("handoff",),
    ),
    system("handoff.message_not_forwarded", "The next user message is echoed, but not forwarded to the live agent."),
    system(
        "handoff.not_initiated",
        "The next user message (or on=handoff: the next handoff) is answered: not initiated.",
        also=("handoff",),
    ),
    system("system.unknown", "The next user message is answered with an error in no row.", also=("join",)),
    row("system.info", "turn", "An informative system message comes before the next reply.", text="We close at ten."),
    row(
        "system.warning", "turn", "A system message of level warning comes before the next reply.", text="Almost full."
    ),
    row("system.odd_level", "turn", "A system message of an unknown level comes before the next reply.", text="Psst."),
    row("agent.silent", "turn", "The next user message is echoed and never answered."),
    row("agent.slow", "turn", "The next reply comes delay= seconds late.", delay=0.3),
)

_START = (
    twist("start.no_session_start", "history", "The history lacks its SESSION_START."),
    row("start.no_join_echo", "join", "The agent joins and greets, but the join is not echoed."),
    row("start.no_join", "join", "The join is echoed, and the agent never joins."),
    row("start.no_greeting", "join", "The agent joins and says nothing."),
    row("start.slow_greeting", "join", "The greeting comes delay= seconds after the join.", delay=0.3),
    row(
        "start.join_lost",
        "join",
        "The socket dies before the join's echo; the join is lost (accepted=true: only its echo is).",
        accepted=False,
    ),
    twist("start.no_capabilities", "history", "SESSION_START carries no capabilities."),
    twist("start.odd_capabilities", "history", "SESSION_START carries capabilities of the wrong types."),
)

_HISTORY = (
    twist("history.split", "history", "The history comes in batches of size= events.", size=1),
    twist("history.unbatched", "history", "The history comes as single events, without a batch."),
    twist("history.reversed", "history", "The events of the batch come in reverse order."),
    twist("history.duplicate", "history", "The batch comes twice."),
    twist("history.overlap_live", "history", "The last count= events of the batch come again, live.", count=3),
    twist("history.full_replay", "history", "The cursor is ignored: the whole history comes again."),
    twist("history.none_on_cursor", "history", "With a cursor and nothing new there is no batch at all."),
    twist("history.late", "history", "The history comes delay= seconds late; live events overtake it.", delay=0.2),
    twist("history.never", "history", "No history is ever sent."),
)

_SEQUENCE = (
    twist("sequence.hole", "event", "An event is not sent live; only a replay holds it.", event=None),
    twist("sequence.permanent_hole", "event", "A sequence number is left out for good before an event.", event=None),
    twist("sequence.duplicate", "event", "An event is sent twice, under one id.", event=None),
)

_MESSAGE = (
    row("message.dropped", "message", "A user message is dropped without a word (the rate limit)."),
    row("message.dropped_then_drop", "message", "The socket is cut before a user message is accepted."),
    row("message.echo_lost_then_drop", "message", "A user message is accepted; the socket is cut before its echo."),
    row(
        "message.echo_delayed",
        "message",
        "A user message is accepted, its echo comes delay= seconds later (reply_first=true: after the reply).",
        delay=0.2,
        reply_first=False,
    ),
    row("message.echo_lost", "message", "A user message is accepted and answered; its echo is only in the replay."),
    row("message.doubled", "message", "A user message is accepted twice: two echoes, two ids, two answers."),
    row("heartbeat.dropped", "heartbeat", "A heartbeat is not echoed."),
)

_STREAM = (
    twist("stream.zero_based", "stream", "Chunks are counted from 0."),
    twist("stream.repeated_chunk", "stream", "A chunk comes twice, under two event ids."),
    twist("stream.out_of_order", "stream", "Two neighbouring chunks change places."),
    twist("stream.missing_chunk", "stream", "A chunk in the middle never comes."),
    twist("stream.interleaved", "stream", "A second streamed message is woven into the first one.", text="One moment."),
    twist("stream.abandoned", "stream", "The stream stops half-way and is never completed."),
    twist("stream.replaced_by_whole", "stream", "A whole message with the stream's id comes after it.", text=None),
    twist("stream.no_final_text", "stream", "The completing chunk carries no text (null)."),
    twist("stream.slow", "stream", "Each chunk comes delay= seconds after the one before.", delay=0.05),
)

_END = (
    row(
        "end.natural", "reply", "The conversation ends by itself after the next reply.", also=("echo", "turn", "opened")
    ),
    row(
        "end.abandoned", "reply", "The server gives the user up after the next reply.", also=("echo", "turn", "opened")
    ),
    row("end.unanswered", "end_request", "The client's request for an end is neither echoed nor followed."),
    row("end.no_echo", "end_request", "The end comes without the echo of the request."),
    twist("end.close_1000_only", "end", "The socket closes with 1000, and there is no SESSION_END."),
    twist("end.old_word", "end", "SESSION_END carries an older word for its reason.", reason="user_ended"),
    twist("end.null_reason", "end", "SESSION_END carries null for its reason."),
    twist("end.no_close", "end", "SESSION_END comes, and the socket stays open."),
)

_LINE = (
    row("connection.drop", "echo", "The socket is cut without a close frame.", also=MOMENTS),
    row("connection.silent", "echo", "The socket goes dead: nothing is read or written any more.", also=MOMENTS),
    row("close.<code>", "echo", "The socket is closed with that code, as in close.1011.", also=MOMENTS, reason=""),
    row("accept_then_drop", "open", "The handshake is accepted, and the socket cut at once."),
)

_EVENT = ("event",)
_BOTH = ("event", "history")
_WIRE = (
    twist("wire.binary_frame", _EVENT, "A binary frame comes before an event.", event=None),
    twist(
        "wire.oversize_frame",
        _EVENT,
        "A frame of size= bytes comes before an event (claim=: only a header that promises so many).",
        event=None,
        size=2 << 20,
        claim=None,
    ),
    twist(
        "wire.broken_json", _EVENT, "A frame that is no JSON comes before an event.", event=None, text='{"type": "EV'
    ),
    twist("wire.deep_json", _EVENT, "A frame nested depth= deep comes before an event.", event=None, depth=20_000),
    twist("wire.not_object", _EVENT, "Frames holding a list, a number, a string and null come first.", event=None),
    twist("wire.absurd_numbers", _EVENT, "A frame with a number of 5,000 digits comes before an event.", event=None),
    twist("wire.invalid_utf8", _EVENT, "A text frame that is not UTF-8 comes before an event.", event=None),
    twist("wire.ping", _EVENT, "A WebSocket ping comes before an event.", event=None),
    twist("wire.fragmented", _EVENT, "An event comes in several fragments with a ping between them.", event=None),
    twist("wire.unknown_event", _EVENT, "An event of an unknown type comes before an event.", event=None),
    twist("wire.no_echo_metadata", _EVENT, "An event comes without its metadata.", event="USER_MESSAGE"),
    twist("wire.odd_metadata", _EVENT, "An event's metadata holds values that are no strings.", event=None),
    twist("wire.no_id", _EVENT, "An event comes with an empty id.", event=None),
    twist("wire.no_timestamp", _BOTH, "Events come without a timestamp.", event=None),
    twist("wire.whole_seconds", _BOTH, "Timestamps come without fractions of a second.", event=None),
    twist("wire.default_fields_omitted", _BOTH, "Fields that hold their default are left out.", event=None),
    twist("wire.old_field_names", _BOTH, "Older and flat field names are used where there are some.", event=None),
    twist("wire.wrong_types", _BOTH, "Payload fields come with values of the wrong types.", event="POLY_AGENT_MESSAGE"),
    twist("wire.extra_fields", _BOTH, "Events carry fields nobody has documented.", event=None),
    twist("wire.junk_in_lists", _BOTH, "Attachments and suggestions have junk among them.", event=None),
    twist("wire.junk_in_batch", "history", "The batch has junk among its events."),
    twist("wire.payload_under_type_name", "history", "Events of the batch carry their payload under the type's name."),
    twist("wire.batch_without_id", "history", "The batch has neither id, timestamp nor sequence."),
    row("wire.heartbeat_echo_bare", "heartbeat", "A heartbeat's echo has neither id nor timestamp."),
    row("wire.heartbeat_sequenced", "heartbeat", "A heartbeat's echo has a sequence and is in the replay."),
)

FAULT_TABLE: Mapping[str, FaultRow] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            *_REFUSALS,
            *_HTTP,
            *_ANSWERS,
            *_SYSTEM,
            *_START,
            *_HISTORY,
            *_SEQUENCE,
            *_MESSAGE,
            *_STREAM,
            *_END,
            *_LINE,
            *_WIRE,
        )
    }
)
"""Name -> row, in the order of the protocol's surfaces."""
