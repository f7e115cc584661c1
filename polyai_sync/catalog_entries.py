"""The error catalogue as data: one entry for each error there is, in the order of the documentation.

``code``, ``exception`` and ``retryable`` are public names and facts; they do not change once released. `catalog` looks
things up in here.
"""

from __future__ import annotations

from functools import partial
from typing import Final, Literal

from attrs import frozen

from polyai_sync import errors

__all__ = ["CATALOG", "CatalogEntry"]


@frozen(kw_only=True)
class CatalogEntry:
    """One kind of error.

    Attributes:
        code: Its stable name, such as ``"connect.session_not_found"``.
        surface: Where it is met: ``http`` (any HTTP answer), ``access_token``, ``session_create``, ``connect``,
            ``websocket`` (a system message) or ``client`` (this library's own).
        status: The HTTP status, or the first of a range; ``None`` where no HTTP answer is involved.
        text: The server's words, or ``None`` where it has none of its own.
        aliases: Other words for the same.
        match: How an answer is recognised: ``exact`` (by the text), ``prefix`` (the text begins it) or ``status``.
        exception: The class that is raised.
        retryable: May a program try the same thing again by itself?
        cause: What happened, in one sentence for a developer.
        resolution: What the developer should do.
        user_text: What may be shown to an end user. Where the service's documentation says to display the server's
            message, it is that message.
    """

    code: str
    surface: str
    status: int | None = None
    text: str | None = None
    aliases: tuple[str, ...] = ()
    match: Literal["exact", "prefix", "status"] = "exact"
    exception: type[errors.PolyAIError]
    retryable: bool = False
    cause: str
    resolution: str
    user_text: str


# What an end user reads where the server has no words for one. They blame nobody and promise nothing.
_UNAVAILABLE: Final = "The chat is not available right now. Please try again later."
_TRY_AGAIN: Final = "Something went wrong on our side. Please try again in a moment."
_BUSY: Final = "There is a lot going on right now. Please try again in a moment."
_OVER: Final = "This conversation has ended. Please start a new one."
_OFFLINE: Final = "The connection could not be made. Please check your network and try again."
_NOT_SENT: Final = "Your message could not be delivered. Please try again."
_NOT_PROCESSED: Final = "Something went wrong with your last action. Please try again."

_CONTACT: Final = "If it persists, contact PolyAI with the request id"

_http = partial(CatalogEntry, surface="http", match="status")
_access_token = partial(CatalogEntry, surface="access_token", user_text=_UNAVAILABLE)
_session_create = partial(CatalogEntry, surface="session_create", user_text=_UNAVAILABLE)
_connect = partial(CatalogEntry, surface="connect")
_websocket = partial(CatalogEntry, surface="websocket")
_client = partial(CatalogEntry, surface="client")


def _displayed(
    *,
    code: str,
    text: str,
    exception: type[errors.PolyAIError],
    retryable: bool = False,
    cause: str,
    resolution: str,
) -> CatalogEntry:
    """A system message whose own words are meant for the end user."""
    return CatalogEntry(
        code=code,
        surface="websocket",
        text=text,
        exception=exception,
        retryable=retryable,
        cause=cause,
        resolution=resolution,
        user_text=text,
    )


CATALOG: Final[tuple[CatalogEntry, ...]] = (
    # HTTP, by status
    _http(
        code="http.bad_request",
        status=400,
        exception=errors.InvalidRequestError,
        cause="The service did not accept the request.",
        resolution="Read the message and the body, and correct the request; the same one will be refused again.",
        user_text=_UNAVAILABLE,
    ),
    _http(
        code="http.unauthorized",
        status=401,
        exception=errors.AuthenticationError,
        cause="The service did not accept the credentials.",
        resolution="Check the connector token, the host, and that both belong to the cluster in use.",
        user_text=_UNAVAILABLE,
    ),
    _http(
        code="http.not_found",
        status=404,
        exception=errors.InvalidRequestError,
        cause="Nothing answers at this address.",
        resolution="Check base_url or cluster; a path prefix may be missing or one too many.",
        user_text=_UNAVAILABLE,
    ),
    _http(
        code="http.redirected",
        status=300,
        exception=errors.InvalidRequestError,
        cause="The server answered with a redirect, which is never followed because it would carry the token along.",
        resolution="Set base_url to the address that the service itself answers at.",
        user_text=_UNAVAILABLE,
    ),
    _http(
        code="http.rate_limited",
        status=429,
        exception=errors.RateLimitError,
        retryable=True,
        cause="Too many requests were made in too short a time.",
        resolution="Wait for retry_after seconds, or back off where there is none, and then try again.",
        user_text=_BUSY,
    ),
    _http(
        code="http.server_error",
        status=500,
        exception=errors.ServerError,
        retryable=True,
        cause="The service failed to answer the request.",
        resolution=f"Try again, waiting longer each time. {_CONTACT}.",
        user_text=_TRY_AGAIN,
    ),
    # POST /api/v1/access-token
    _access_token(
        code="access_token.missing_headers",
        status=401,
        text="Missing authentication headers",
        exception=errors.AuthenticationError,
        cause="The token request reached the service without X-Token or X-Host.",
        resolution="Look for a proxy that drops these headers; the client always sends both.",
    ),
    _access_token(
        code="access_token.unknown_connector",
        status=401,
        text="Connector token does not exist",
        exception=errors.AuthenticationError,
        cause="The service does not know this connector token, at least not in this cluster.",
        resolution="Copy the connector token from Messaging, API Configuration in Agent Studio, and check that the "
        "cluster is the project's own.",
    ),
    _access_token(
        code="access_token.host_mismatch",
        status=401,
        text="Failed to validate connector",
        exception=errors.AuthenticationError,
        cause="The host is not the one registered for this connector.",
        resolution="Set host to the registered domain, one of its subdomains, or the registered app namespace.",
    ),
    _access_token(
        code="access_token.no_host_domain",
        status=401,
        text="Connector missing host domain",
        exception=errors.AuthenticationError,
        cause="No host domain is registered for this connector.",
        resolution="Register one in Messaging, API Configuration in Agent Studio.",
    ),
    _access_token(
        code="access_token.creation_failed",
        status=500,
        text="Failed to create access token",
        exception=errors.ServerError,
        retryable=True,
        cause="The service could not produce an access token.",
        resolution=f"Try again, waiting longer each time. {_CONTACT}.",
    ),
    # POST /api/v1/sessions
    _session_create(
        code="session_create.missing_token",
        status=400,
        text="Missing access token",
        exception=errors.InvalidRequestError,
        cause="The session request reached the service without an Authorization header.",
        resolution="Look for a proxy that drops the header; the client always sends it.",
    ),
    _session_create(
        code="session_create.malformed_authorization",
        status=401,
        text="Missing authentication headers",
        exception=errors.AuthenticationError,
        cause="The Authorization header did not reach the service in the form Bearer and a token.",
        resolution="Look for a proxy or an adapter of the HTTP session that rewrites the header.",
    ),
    _session_create(
        code="session_create.invalid_token",
        status=401,
        text="Invalid access token",
        exception=errors.AuthenticationError,
        retryable=True,
        cause="The access token has expired, is damaged, or was not issued by this service.",
        resolution="Create the session again with a fresh access token, and keep no token from one session to another.",
    ),
    _session_create(
        code="session_create.malformed_body",
        status=400,
        text="Error parsing request",
        exception=errors.InvalidRequestError,
        cause="The service could not read the body of the session request as JSON.",
        resolution="Look for a proxy or an adapter of the HTTP session that changes the body.",
    ),
    _session_create(
        code="session_create.failed",
        status=500,
        text="Failed to create session",
        aliases=("Error creating session", "Unable to get agent details from connector service"),
        exception=errors.ServerError,
        retryable=True,
        cause="The service could not create a session.",
        resolution=f"Try again, waiting longer each time. {_CONTACT}.",
    ),
    # The WebSocket handshake
    _connect(
        code="connect.session_not_found",
        status=404,
        text="session not found",
        exception=errors.SessionNotFoundError,
        cause="The service does not know the session; it has ended, or about ten idle minutes ended it.",
        resolution="Start a new session; no reconnect brings this one back.",
        user_text=_OVER,
    ),
    _connect(
        code="connect.authentication_failed",
        status=401,
        text="authentication failed",
        exception=errors.AuthenticationError,
        cause="The access token has expired, is damaged, or belongs to another session.",
        resolution="Start a new session, which gets a fresh token; a fresh token does not open the old session.",
        user_text=_OVER,
    ),
    _connect(
        code="connect.too_many_connections",
        status=429,
        text="connection limit exceeded for session",
        exception=errors.ConnectionLimitError,
        retryable=True,
        cause="The session has as many WebSocket connections open as the service allows (10 unless set otherwise).",
        resolution="Close connections of this session that are no longer used, then connect again; the session lives.",
        user_text="This conversation is open in too many places. Please close one of them and try again.",
    ),
    _connect(
        code="connect.invalid_parameters",
        status=400,
        text="invalid connection parameters",
        exception=errors.InvalidRequestError,
        cause="The WebSocket request reached the service without the session id or the access token.",
        resolution="Look for a proxy that drops the query of the URL; when resuming, check that the state is whole.",
        user_text=_UNAVAILABLE,
    ),
    # Invalid events
    _websocket(
        code="event.unknown",
        text="Unknown event type or invalid message format",
        exception=errors.InvalidEventError,
        cause="The service could not read an event it was sent, or does not know its type.",
        resolution="Report it with the event; if the frame was built by hand, check its JSON and its type.",
        user_text=_NOT_PROCESSED,
    ),
    _websocket(
        code="event.not_allowed",
        text="Event type not allowed:",
        match="prefix",
        exception=errors.InvalidEventError,
        cause="An event was sent that only the server may send.",
        resolution="Send only the five client events: join request, user message, typing, end of session, heartbeat.",
        user_text=_NOT_PROCESSED,
    ),
    # Agent errors
    _displayed(
        code="agent.overloaded",
        text="Our system is experiencing high load. Please try again in a moment.",
        exception=errors.AgentOverloadedError,
        retryable=True,
        cause="The agent service is overloaded for the moment.",
        resolution="Show the message, and try again after 2 to 5 seconds.",
    ),
    _displayed(
        code="agent.start_failed",
        text="Sorry, I'm unable to start a conversation right now. Please try again later.",
        exception=errors.AgentError,
        retryable=True,
        cause="The agent could not start the conversation.",
        resolution="Show the message, and ask the agent to join again or start a new session.",
    ),
    _displayed(
        code="agent.no_response",
        text="Sorry, I'm having trouble responding right now. Please try again.",
        exception=errors.AgentError,
        cause="The agent produced no answer to the message.",
        resolution="Show the message, and let the user decide whether to send the text again.",
    ),
    _displayed(
        code="agent.stream_failed",
        text="Sorry, I encountered an error. Please try again.",
        exception=errors.AgentError,
        cause="The answer broke off while it was being streamed.",
        resolution="Show the message beside what had arrived, and let the user decide whether to send the text again.",
    ),
    # Session state
    _websocket(
        code="session.not_found",
        text="Error: Session not found",
        exception=errors.SessionNotFoundError,
        cause="The session no longer exists at the service.",
        resolution="Start a new session.",
        user_text=_OVER,
    ),
    _websocket(
        code="session.unavailable",
        text="Error: Unable to retrieve session",
        exception=errors.SessionUnavailableError,
        retryable=True,
        cause="The service could not look the session up.",
        resolution="Try again after a moment; if it persists, start a new session.",
        user_text=_TRY_AGAIN,
    ),
    _websocket(
        code="session.connector_not_found",
        text="Error: Connector not found",
        exception=errors.AuthenticationError,
        cause="The connector that the session was created with is no longer valid.",
        resolution="Check the connector in Agent Studio, and contact PolyAI: the project's configuration is broken.",
        user_text=_UNAVAILABLE,
    ),
    _websocket(
        code="session.conversation_not_found",
        text="Error: Conversation not found",
        exception=errors.ConversationNotFoundError,
        retryable=True,
        cause="The session exists, but no conversation is going on in it.",
        resolution="Ask the agent to join with session.join(), then send the message again.",
        user_text=_TRY_AGAIN,
    ),
    _websocket(
        code="session.conversation_uninitialised",
        text="Error: Conversation ID not found in session",
        exception=errors.ConversationNotFoundError,
        retryable=True,
        cause="The session's conversation was not set up completely.",
        resolution="Ask the agent to join with session.join(), then send the message again; if it persists, start a "
        "new session.",
        user_text=_TRY_AGAIN,
    ),
    # Handoff
    _displayed(
        code="handoff.no_live_agent",
        text="Sorry, we could not connect you to an agent. Please try again.",
        exception=errors.HandoffError,
        cause="The handoff provider opened no session with a live agent.",
        resolution="Show the message, and let the user try again or choose another channel.",
    ),
    _displayed(
        code="handoff.message_not_forwarded",
        text="Failed to forward message to live agent",
        exception=errors.HandoffError,
        cause="A message did not reach the live agent.",
        resolution="Show the message, and let the user send the text again; if it persists, take the handoff for "
        "failed.",
    ),
    _displayed(
        code="handoff.not_initiated",
        text="Sorry, handoff could not be initiated.",
        exception=errors.HandoffError,
        cause="The handoff was refused, or is not configured correctly.",
        resolution="Show the message, and check the handoff's configuration in Agent Studio; if it persists, contact "
        "PolyAI.",
    ),
    _websocket(
        code="system.unknown",
        match="status",
        exception=errors.SystemMessageError,
        cause="The service reported an error that this version does not know.",
        resolution="Read the message, and report it to PolyAI with the full event if it is not clear.",
        user_text=_TRY_AGAIN,
    ),
    # The client's own
    _client(
        code="client.configuration",
        exception=errors.ConfigurationError,
        cause="A setting is missing or malformed.",
        resolution="Correct the setting that the message names; nothing has been sent.",
        user_text=_UNAVAILABLE,
    ),
    _client(
        code="client.connect_failed",
        exception=errors.ConnectionFailedError,
        retryable=True,
        cause="No answer came from the service.",
        resolution="Check the network, the base URL, the proxy and the certificates, then try again.",
        user_text=_OFFLINE,
    ),
    _client(
        code="client.connection_dropped",
        exception=errors.ConnectionDroppedError,
        retryable=True,
        cause="The open connection went away; the session lives on at the service.",
        resolution="Reconnect with the same session; the reconnect plugin does so by itself.",
        user_text="The connection was interrupted and is being restored.",
    ),
    _client(
        code="client.connection_lost",
        exception=errors.ConnectionLostError,
        cause="The connection dropped and was given up; the session may live on at the service.",
        resolution="Resume it later with client.resume_session(session.state), or start a new session.",
        user_text="The connection was lost. Please check your network and try again.",
    ),
    _client(
        code="client.not_delivered",
        exception=errors.DeliveryError,
        cause="No receipt came for the message.",
        resolution='Look at outcome: after "not_received" it is safe to send again, after "unknown" the agent may '
        "have it already.",
        user_text=_NOT_SENT,
    ),
    _client(
        code="client.reply_timeout",
        exception=errors.ReplyTimeoutError,
        cause="No complete reply came in time.",
        resolution="Take a late one from next_message(), or give more time with timeout= or Timeouts.reply.",
        user_text="The answer is taking longer than usual. Please wait a little or try again.",
    ),
    _client(
        code="client.ready_timeout",
        exception=errors.ReadyTimeoutError,
        cause="The agent did not join in time.",
        resolution="Try again, or give more time with timeout= or Timeouts.ready.",
        user_text=_UNAVAILABLE,
    ),
    _client(
        code="client.wait_timeout",
        exception=errors.WaitTimeoutError,
        cause="What was waited for did not happen in time.",
        resolution="Wait again, or give more time with timeout=; the session stays usable.",
        user_text="This is taking longer than usual. Please wait a little.",
    ),
    _client(
        code="client.session_ended",
        exception=errors.SessionEndedError,
        cause="The session has ended.",
        resolution="Start a new session; reason says how this one ended.",
        user_text=_OVER,
    ),
    _client(
        code="client.session_closed",
        exception=errors.SessionClosedError,
        cause="The session's connection was closed by this program.",
        resolution="Resume it with client.resume_session(session.state), or start a new session.",
        user_text="This conversation is closed. Please open it again.",
    ),
    _client(
        code="client.lagged",
        exception=errors.LaggedError,
        cause="A reader of events fell so far behind that some it had not read are no longer kept.",
        resolution="Read faster or raise event_window; session.messages still holds the whole transcript.",
        user_text=_TRY_AGAIN,
    ),
    _client(
        code="client.message_too_large",
        exception=errors.MessageTooLargeError,
        cause="The message is larger than the service accepts; nothing was sent.",
        resolution="Shorten the text or the custom metadata; size and limit are in bytes.",
        user_text="Your message is too long. Please shorten it.",
    ),
    _client(
        code="client.protocol",
        exception=errors.ProtocolError,
        cause="The server sent something that the protocol does not allow.",
        resolution="Check that base_url leads to the PolyAI Messaging API and not to a proxy; else report it.",
        user_text=_TRY_AGAIN,
    ),
    _client(
        code="client.would_deadlock",
        exception=errors.ReentrantCallError,
        cause="A call would wait for the very thread that it was made on.",
        resolution="In a hook use what does not wait, such as send(wait=False), or make the call on another thread.",
        user_text=_TRY_AGAIN,
    ),
    _client(
        code="client.plugin",
        exception=errors.PluginError,
        cause="A plugin could not be loaded, or one of its hooks is not valid.",
        resolution="Correct the plugin that the message names, or leave it out with block=.",
        user_text=_UNAVAILABLE,
    ),
)
