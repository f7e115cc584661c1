"""What happens, as records of the standard library's `logging`."""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from polyai_sync.hooks import hookimpl, only_if
from polyai_sync.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from polyai_sync.errors import PolyAIError
    from polyai_sync.events import Event
    from polyai_sync.hooks import ClientEvent, RateLimit
    from polyai_sync.messages import Capabilities, Handoff, Message
    from polyai_sync.session import Session

__all__ = ["Logging"]

# A library that is not asked to log stays silent, and never touches levels or the root logger.
logging.getLogger("polyai_sync").addHandler(logging.NullHandler())

_session: Final = logging.getLogger("polyai_sync.session")
_http: Final = logging.getLogger("polyai_sync.http")
_frames: Final = logging.getLogger("polyai_sync.frames")

_HTTP_SURFACES: Final = frozenset({"access_token", "session_create"})


class Logging:
    """Writes structured records to loggers below ``polyai_sync``.

    =======================  ==========================================================  ========================
    logger                   level                                                       fields beside session_id
    =======================  ==========================================================  ========================
    ``polyai_sync.session``  INFO: start, end, socket open and gone, handoff             what the hook was told
                             WARNING: reconnects, retries, rate limits, failed delivery
                             ERROR: errors                                               the error's attributes,
                                                                                         ``raw``: the full event
    ``polyai_sync.http``     the same for the two HTTP calls; DEBUG: each attempt        ``correlation_id`` …
    ``polyai_sync.frames``   DEBUG: every event received and sent                        ``raw``
    =======================  ==========================================================  ========================

    Every record has ``session_id`` (``None`` before there is a session) among its attributes, and the fields as
    attributes of their own, for formatters that write JSON. Errors are logged when they are met, also those which a
    retry or a reconnect then mends: the record after it, a WARNING, says so. No record holds a token. At DEBUG records
    hold what people wrote.

    Nothing is printed until the application sets up `logging`; levels are the application's to set.
    """

    __slots__ = ("_redactor",)

    name: ClassVar[str] = "logging"

    def __init__(self) -> None:
        self._redactor = Redactor()

    # --- errors ---

    @hookimpl
    def on_error(self, session: Session | None, error: PolyAIError) -> None:
        """Write the error with all that was seen, the full event included."""
        raw = None if error.event is None else error.event.raw
        self._write(
            _logger_of(error.surface),
            logging.ERROR,
            session,
            "%s [%s]%s",
            str(error),
            error.code,
            "" if raw is None else f" event: {self._dumped(raw)}",
            error_type=type(error).__name__,
            code=error.code,
            surface=error.surface,
            status=error.status,
            retryable=error.retryable,
            retry_after=error.retry_after,
            request_id=error.request_id,
            client_event_id=error.client_event_id,
            body=error.body,
            raw=raw,
        )

    @hookimpl
    def on_rate_limit(self, session: Session | None, limit: RateLimit) -> None:
        """Write that a rate limit was met, or that it looks like one."""
        self._write(
            _logger_of(limit.surface),
            logging.WARNING,
            session,
            "rate limit met on %s" if limit.certain else "a message seems to have been dropped by a rate limit on %s",
            limit.surface,
            surface=limit.surface,
            retry_after=limit.retry_after,
            certain=limit.certain,
        )

    @hookimpl(wrapper=True, tryfirst=True)
    def retry_delay(
        self, session: Session | None, operation: str, error: PolyAIError, attempt: int
    ) -> Generator[None, float | None, float | None]:
        """Write what the retry policies have decided; change nothing."""
        delay = yield
        if delay is not None:
            self._write(
                _logger_of(operation),
                logging.WARNING,
                session,
                "%s failed (%s), try %d; another after %.2f s",
                operation,
                error.code,
                attempt,
                delay,
                operation=operation,
                attempt=attempt,
                delay=delay,
                code=error.code,
            )
        return delay

    # --- the conversation's life ---

    @hookimpl
    def on_session_start(self, session: Session, capabilities: Capabilities) -> None:
        """Write that the session has started."""
        self._write(_session, logging.INFO, session, "session started", streaming=capabilities.streaming)

    @hookimpl
    def on_session_end(self, session: Session, reason: str, error: PolyAIError | None) -> None:
        """Write that the session is over, and why."""
        code = None if error is None else error.code
        self._write(_session, logging.INFO, session, "session ended: %s", str(reason), reason=str(reason), code=code)

    @hookimpl
    def on_connect(self, session: Session, attempt: int, cursor: int, seconds: float) -> None:
        """Write that the socket is open."""
        text = "connected in %.3f s (attempt %d, cursor %d)"
        fields = {"attempt": attempt, "cursor": cursor, "seconds": seconds}
        self._write(_session, logging.INFO, session, text, seconds, attempt, cursor, **fields)

    @hookimpl
    def on_disconnect(self, session: Session, error: PolyAIError | None) -> None:
        """Write that the socket is gone."""
        code = None if error is None else error.code
        self._write(_session, logging.INFO, session, "disconnected (%s)", code or "asked for", code=code)

    @hookimpl
    def on_reconnect(self, session: Session, attempt: int, delay: float, error: PolyAIError) -> None:
        """Write that the connection will be opened again."""
        self._write(
            _session,
            logging.WARNING,
            session,
            "reconnecting after %.2f s, attempt %d (%s)",
            delay,
            attempt,
            error.code,
            attempt=attempt,
            delay=delay,
            code=error.code,
        )

    @hookimpl
    def on_handoff(self, session: Session, handoff: Handoff) -> None:
        """Write each step of a handoff."""
        self._write(
            _session,
            logging.INFO,
            session,
            "handoff: %s",
            str(handoff.status),
            handoff_status=str(handoff.status),
            queue_name=handoff.queue_name,
            position=handoff.position,
            reason=handoff.reason,
        )

    @hookimpl
    @only_if(partial(_session.isEnabledFor, logging.DEBUG))
    def on_delivery(self, session: Session, message: Message) -> None:
        """Write what became of a message; a WARNING if it was not delivered."""
        level = logging.WARNING if message.delivery == "FAILED" else logging.DEBUG
        fields = {"client_event_id": message.client_event_id, "delivery": str(message.delivery)}
        text = "message %s: %s"
        self._write(_session, level, session, text, message.client_event_id, fields["delivery"], **fields)

    # --- HTTP ---

    @hookimpl
    def on_request(
        self, session: Session | None, operation: str, attempt: int, method: str, url: str, correlation_id: str
    ) -> None:
        """Write that an HTTP attempt begins."""
        fields = {"operation": operation, "attempt": attempt, "method": method, "url": url}
        text = "%s: %s %s (attempt %d)"
        arguments = (operation, method, url, attempt)
        self._write(_http, logging.DEBUG, session, text, *arguments, correlation_id=correlation_id, **fields)

    @hookimpl
    def on_response(
        self,
        session: Session | None,
        operation: str,
        attempt: int,
        status: int | None,
        seconds: float,
        correlation_id: str,
        error: PolyAIError | None,
    ) -> None:
        """Write what came of an HTTP attempt."""
        outcome = status if error is None else error.code
        fields = {"operation": operation, "attempt": attempt, "status": status, "seconds": seconds}
        text = "%s: %s in %.3f s (attempt %d)"
        arguments = (operation, outcome, seconds, attempt)
        self._write(_http, logging.DEBUG, session, text, *arguments, correlation_id=correlation_id, **fields)

    # --- frames ---

    @hookimpl
    @only_if(partial(_frames.isEnabledFor, logging.DEBUG))
    def on_event(self, session: Session, event: Event) -> None:
        """Write an event of the server."""
        if _frames.isEnabledFor(logging.DEBUG):  # asked here too: this is the event path
            fields = {"event_type": event.type, "event_id": event.id, "sequence": event.sequence}
            text = "received %s %s"
            raw = self._dumped(event.raw)
            self._write(_frames, logging.DEBUG, session, text, event.type, raw, raw=event.raw, **fields)

    @hookimpl
    def on_send(self, session: Session, event: ClientEvent) -> None:
        """Write an event of the client."""
        if _frames.isEnabledFor(logging.DEBUG):
            raw: dict[str, Any] = {"type": event.type, "payload": event.payload}
            if event.custom:
                raw["metadata"] = {"custom": event.custom}
            text = "sent %s %s"
            dumped = self._dumped(raw)
            self._write(_frames, logging.DEBUG, session, text, event.type, dumped, raw=raw, event_type=event.type)

    # --- writing ---

    def _write(
        self, log: logging.Logger, level: int, session: Session | None, text: str, *arguments: object, **fields: Any
    ) -> None:
        if not log.isEnabledFor(level):
            return
        session_id = None if session is None else session.session_id
        masked = [self._redactor.text(one) if isinstance(one, str) else one for one in arguments]
        extra = self._redactor.json({"session_id": session_id, **fields})
        template = f"session %s: {text}"  # the values stay apart, so that a collector can group the records
        log.log(level, template, session_id or "-", *masked, extra=extra, stacklevel=2)  # 2: name the hook, not this

    def _dumped(self, raw: Mapping[str, Any]) -> str:
        text = json.dumps(self._redactor.json(raw), ensure_ascii=False)
        # A lone surrogate is JSON, and would break the handler that encodes the record.
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _logger_of(leg: str) -> logging.Logger:
    return _http if leg in _HTTP_SURFACES else _session
