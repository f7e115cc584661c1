"""Everything this package raises, as one tree.

Exceptions are named by meaning, not by where they came from::

    PolyAIError
    ├── ConfigurationError (ValueError)      a setting is missing or malformed
    ├── PluginError                          a plugin could not be loaded
    ├── InvalidRequestError                  the service did not accept what was sent
    │   └── InvalidEventError                … a WebSocket event
    ├── AuthenticationError                  a token or host was not accepted
    ├── RateLimitError                       too much, too fast
    │   └── ConnectionLimitError             … too many sockets for one session
    ├── ServerError                          the service failed
    ├── AgentError                           the agent failed
    │   └── AgentOverloadedError             … for a moment
    ├── HandoffError                         a handoff failed
    ├── SystemMessageError                   an error that no row of the catalogue knows
    ├── SessionError                         the session cannot do this
    │   ├── SessionNotFoundError             the server does not know it (any more)
    │   ├── SessionUnavailableError          the server could not look it up
    │   ├── ConversationNotFoundError        it holds no conversation yet
    │   ├── SessionEndedError                it is over
    │   └── SessionClosedError               its connection was closed on this side
    ├── TransportError                       the network
    │   ├── ConnectionFailedError            no answer came
    │   ├── ConnectionDroppedError           an open socket went away
    │   └── ConnectionLostError              … and was given up
    ├── DeliveryError                        a message has no receipt
    ├── WaitTimeoutError (TimeoutError)      a wait was over before what it waited for
    │   ├── ReplyTimeoutError
    │   └── ReadyTimeoutError
    ├── LaggedError                          a reader of events fell too far behind
    ├── MessageTooLargeError (ValueError)    refused before sending
    ├── ProtocolError                        the server broke the protocol
    └── ReentrantCallError (RuntimeError)    a wait that could never end

``str(error)`` is one sentence; what a program may need is an attribute. No attribute ever holds a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from polyai_sync.catalog import CatalogEntry
    from polyai_sync.events import Event

__all__ = [
    "AgentError",
    "AgentOverloadedError",
    "AuthenticationError",
    "ConfigurationError",
    "ConnectionDroppedError",
    "ConnectionFailedError",
    "ConnectionLimitError",
    "ConnectionLostError",
    "ConversationNotFoundError",
    "DeliveryError",
    "HandoffError",
    "InvalidEventError",
    "InvalidRequestError",
    "LaggedError",
    "MessageTooLargeError",
    "PluginError",
    "PolyAIError",
    "ProtocolError",
    "RateLimitError",
    "ReadyTimeoutError",
    "ReentrantCallError",
    "ReplyTimeoutError",
    "ServerError",
    "SessionClosedError",
    "SessionEndedError",
    "SessionError",
    "SessionNotFoundError",
    "SessionUnavailableError",
    "SystemMessageError",
    "TransportError",
    "WaitTimeoutError",
]


class PolyAIError(Exception):
    """Base of everything this package raises.

    Attributes:
        code: The entry of the catalogue, such as ``"connect.session_not_found"``. Codes are stable.
        message: What happened, in the server's words where it gave any. ``str(error)`` adds the resolution.
        status: The HTTP status, or ``None`` where no HTTP answer was involved.
        surface: The leg it was met on: ``access_token``, ``session_create``, ``connect``, ``websocket``, ``client``.
        retryable: May a program try the same thing again by itself?
        retry_after: Seconds the server asked to wait, or ``None``.
        resolution: What a developer should do.
        user_text: What may be shown to an end user.
        request_id: The server's correlation id, or ``None``.
        event: The event that carried the error, or ``None``.
        client_event_id: The message that caused it, where the server said so.
        body: The body of a refusal, at most 8 KiB, tokens masked.
    """

    default_code: ClassVar[str] = "client.protocol"

    reported: bool = False
    """Have plugins been told of it? Each error is told once, however many calls it ends."""

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        status: int | None = None,
        surface: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        resolution: str | None = None,
        user_text: str | None = None,
        request_id: str | None = None,
        event: Event | None = None,
        client_event_id: str | None = None,
        body: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        entry = self.entry
        self.message = message or (entry.cause if entry else "")
        self.status = status
        self.surface = surface or (entry.surface if entry else "client")
        self.retryable = retryable if retryable is not None else bool(entry and entry.retryable)
        self.retry_after = retry_after
        self.resolution = resolution if resolution is not None else (entry.resolution if entry else "")
        self.user_text = user_text if user_text is not None else (entry.user_text if entry else "")
        self.request_id = request_id
        self.event = event
        self.client_event_id = client_event_id
        self.body = body

    @property
    def entry(self) -> CatalogEntry | None:
        """The catalogue's entry for ``code``."""
        from polyai_sync.catalog import entry_for_code  # the table names these classes, so it comes second

        return entry_for_code(self.code)

    def __str__(self) -> str:
        message = " ".join(self.message.split())
        notes = [f"HTTP {self.status}"] if self.status is not None else []
        if self.retry_after is not None:
            notes.append(f"retry after {self.retry_after:g} s")
        sentence = f"{message.rstrip('.')} ({', '.join(notes)})" if notes else message
        if not self.resolution or self.resolution in message:
            return sentence.strip()
        return f"{sentence}{'' if sentence.endswith(('.', '!', '?')) else '.'} {self.resolution}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, code={self.code!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception pickles by calling the class with its args, which loses what is keyword-only.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(cls: type[PolyAIError], args: tuple[Any, ...], attributes: dict[str, Any]) -> PolyAIError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class ConfigurationError(PolyAIError, ValueError):
    """A setting is missing or malformed. Raised before anything is sent; the message names the setting and the fix."""

    default_code = "client.configuration"


class PluginError(PolyAIError):
    """A plugin could not be loaded or has an invalid hook. Raised by ``Client(...)``, naming the plugin."""

    default_code = "client.plugin"


class InvalidRequestError(PolyAIError):
    """The service did not accept the request (400 and most other 4xx, a redirect). Sending it again changes nothing."""

    default_code = "http.bad_request"


class InvalidEventError(InvalidRequestError):
    """The service did not accept a WebSocket event. The connection stays open."""

    default_code = "event.unknown"


class AuthenticationError(PolyAIError):
    """A connector token, a host or an access token was not accepted (401, 403)."""

    default_code = "http.unauthorized"


class RateLimitError(PolyAIError):
    """Too many requests (429). ``retry_after`` holds the seconds to wait, where the server gave them."""

    default_code = "http.rate_limited"


class ConnectionLimitError(RateLimitError):
    """The session has too many sockets open (10 by default). Close one, or wait; the session itself is fine."""

    default_code = "connect.too_many_connections"


class ServerError(PolyAIError):
    """The service failed (5xx)."""

    default_code = "http.server_error"


class AgentError(PolyAIError):
    """The agent failed during the conversation; the client did nothing wrong. ``user_text`` may be shown."""

    default_code = "agent.no_response"


class AgentOverloadedError(AgentError):
    """The agent is under high load for a moment. Worth another try after 2 to 5 seconds."""

    default_code = "agent.overloaded"


class HandoffError(PolyAIError):
    """A handoff to a live agent failed, or a message could not be forwarded to one."""

    default_code = "handoff.no_live_agent"


class SystemMessageError(PolyAIError):
    """The server reported an error which the catalogue does not know. Its text is in ``message``."""

    default_code = "system.unknown"


class SessionError(PolyAIError):
    """The session cannot do what was asked of it."""

    default_code = "session.unavailable"


class SessionNotFoundError(SessionError):
    """The server does not know the session, or no longer: it is over. Start a new one."""

    default_code = "session.not_found"


class SessionUnavailableError(SessionError):
    """The server could not look the session up. Usually passes."""

    default_code = "session.unavailable"


class ConversationNotFoundError(SessionError):
    """The session exists, but holds no conversation. The agent has to be asked to join."""

    default_code = "session.conversation_not_found"


class SessionEndedError(SessionError):
    """A call on, or a wait inside, a session that has ended.

    Attributes:
        reason: Why it ended, a value of ``EndReason`` or the server's own word.
    """

    default_code = "client.session_ended"

    def __init__(self, message: str = "", *, reason: str = "", **seen: Any) -> None:
        super().__init__(message, **seen)
        self.reason = reason


class SessionClosedError(SessionError):
    """A call on, or a wait inside, a session whose connection was closed on this side.

    The conversation lives on at the server: ``client.resume_session(session.state)``.
    """

    default_code = "client.session_closed"


class TransportError(PolyAIError):
    """The network failed: no answer came, or an open connection went away."""

    default_code = "client.connect_failed"


class ConnectionFailedError(TransportError):
    """No answer came: name resolution, a refused connection, TLS, or a time-out while connecting."""

    default_code = "client.connect_failed"


class ConnectionDroppedError(TransportError):
    """An open socket went away. Told to ``on_error`` and ``reconnect_delay``; the session lives on.

    Attributes:
        close_code: The WebSocket close code, or ``None`` where the socket died without one.
        close_reason: The text that came with it.
    """

    default_code = "client.connection_dropped"

    def __init__(
        self, message: str = "", *, close_code: int | None = None, close_reason: str = "", **seen: Any
    ) -> None:
        super().__init__(message, **seen)
        self.close_code = close_code
        self.close_reason = close_reason


class ConnectionLostError(TransportError):
    """The socket dropped and the reconnect policy gave up.

    The session may live on: ``client.resume_session(session.state)``. ``__cause__`` holds the last failure.

    Attributes:
        close_code: The close code of the drop that began it, or ``None``.
        attempts: Attempts made to reconnect.
    """

    default_code = "client.connection_lost"

    def __init__(self, message: str = "", *, close_code: int | None = None, attempts: int = 0, **seen: Any) -> None:
        super().__init__(message, **seen)
        self.close_code = close_code
        self.attempts = attempts


class DeliveryError(PolyAIError):
    """A message was sent and has no receipt.

    Attributes:
        outcome: ``"not_received"`` (proved; safe to send again) or ``"unknown"`` (the agent may have got it).
    """

    default_code = "client.not_delivered"

    def __init__(self, message: str = "", *, outcome: str = "unknown", **seen: Any) -> None:
        super().__init__(message, **seen)
        self.outcome = outcome


class WaitTimeoutError(PolyAIError, TimeoutError):
    """A wait (``events``, ``wait_ended``) was over before what it waited for. The session stays usable."""

    default_code = "client.wait_timeout"


class ReplyTimeoutError(WaitTimeoutError):
    """No complete reply in time. The session stays usable; a late answer is the next ``next_message()``."""

    default_code = "client.reply_timeout"


class ReadyTimeoutError(WaitTimeoutError):
    """The agent did not join in time. ``start_session`` and ``resume_session`` have closed the connection."""

    default_code = "client.ready_timeout"


class LaggedError(PolyAIError):
    """An iterator over events fell out of the window that is kept; it has ended.

    Attributes:
        missed: How many events it can no longer give.
    """

    default_code = "client.lagged"

    def __init__(self, message: str = "", *, missed: int = 0, **seen: Any) -> None:
        super().__init__(message, **seen)
        self.missed = missed


class MessageTooLargeError(PolyAIError, ValueError):
    """The encoded message is over the limit; nothing was sent.

    Attributes:
        size: Bytes of the frame that would have been sent.
        limit: Bytes the server takes.
    """

    default_code = "client.message_too_large"

    def __init__(self, message: str = "", *, size: int = 0, limit: int = 0, **seen: Any) -> None:
        super().__init__(message, **seen)
        self.size = size
        self.limit = limit


class ProtocolError(PolyAIError):
    """The server sent what the protocol does not allow. Raised where it stops a call, else told to ``on_error``."""

    default_code = "client.protocol"


class ReentrantCallError(PolyAIError, RuntimeError):
    """A blocking call made on the very thread that it would wait for, such as ``ask`` in a hook."""

    default_code = "client.would_deadlock"
