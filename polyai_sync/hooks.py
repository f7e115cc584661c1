"""The hooks: what a plugin may be told, and what it may decide.

There are two kinds. *Observers* (``on_…``) are told what happened: every implementation is called and what it returns
is ignored. *Policies* are asked what to do: the first answer that is not ``None`` wins, and with no answer the bare
mechanism acts (raise, give up, send again). An exception in either is logged on ``polyai_sync.plugins`` with the
plugin's name and changes nothing else.

A plugin is a module or an instance with functions marked by `hookimpl`; each may take any subset of the arguments, by
name, or none (``**rest`` takes all that are not named)::

    from polyai_sync import hookimpl

    @hookimpl
    def on_message(message):
        print(message.role, message.text)

It is given (``Client(plugins=[…])``) or found by an entry point of the group ``polyai_sync``. A wrapper
(``hookimpl(wrapper=True)``) runs around the implementations of all plugins; it never meets an exception of theirs.

Threads: the hooks of one session run one at a time, in order, on the thread that met the occurrence. That is mostly
the session's own, and there they run before the waiting call returns. The hooks of different sessions run in parallel.
A hook may call what does not wait for its own session: ``send(wait=False)``, ``typing()``, ``close()``,
``end(wait=False)`` and every property. A call that would wait for the session whose thread it is on raises
`ReentrantCallError`. A hook holds up its session's reading and heartbeats for as long as it runs.

``session`` is ``None`` where there is no session yet. Arguments are values to look at, not to change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import pluggy
from attrs import Factory, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from polyai_sync.errors import PolyAIError
    from polyai_sync.events import Event
    from polyai_sync.messages import Capabilities, Handoff, Message
    from polyai_sync.session import Session

__all__ = [
    "CONDITIONAL",
    "OBSERVERS",
    "POLICIES",
    "PROJECT",
    "ClientEvent",
    "PluginInfo",
    "RateLimit",
    "condition_of",
    "hookimpl",
    "hookspec",
    "only_if",
]

PROJECT: Final = "polyai_sync"
"""The name of the pluggy project, and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
"""Marks a specification. Only this module uses it."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's function as the implementation of the hook of the same name (or of ``specname``).

Options as pluggy has them: ``tryfirst``, ``trylast``, ``wrapper``, ``specname``, ``optionalhook``.
"""

Implementation = TypeVar("Implementation", bound="Callable[..., Any]")

_CONDITION: Final = "polyai_sync_only_if"

CONDITIONAL: Final = frozenset({"on_event", "on_message", "on_delivery", "on_handoff"})
"""The hooks that `only_if` is for."""


def only_if(condition: Callable[[], bool]) -> Callable[[Implementation], Implementation]:
    """Mark an observer's implementation that has nothing to do unless ``condition()`` holds.

    The condition is asked once for all that came at once, not for each call, so that a hook on the event path costs
    nothing while it is off. Where it holds, or raises, the implementation is called. Stands below ``@hookimpl``.

    It is for the hooks that the server's events bring about: ``on_event``, ``on_message``, ``on_handoff``, and
    ``on_delivery`` of a message that was delivered (a failure is always told). On others it changes nothing. It is
    asked on the session's thread, like a hook, and should do no more than look.
    """

    def mark(function: Implementation) -> Implementation:
        setattr(function, _CONDITION, condition)
        return function

    return mark


def condition_of(function: Callable[..., Any]) -> Callable[[], bool] | None:
    """What `only_if` said of an implementation."""
    condition: Callable[[], bool] | None = getattr(function, _CONDITION, None)
    return condition


@frozen(kw_only=True)
class RateLimit:
    """A limit was met (protocol.md §7 "Rate limits").

    Attributes:
        surface: The leg: ``access_token``, ``session_create``, ``connect`` or ``websocket``.
        retry_after: Seconds the server asked to wait, or ``None``.
        certain: ``True`` for a 429. ``False`` where it is only likely: on the socket messages may be dropped without a
            word, and a missing receipt beside answered heartbeats is the only sign.
        error: The 429 as an exception, or ``None`` where the limit is not certain.
    """

    surface: str
    retry_after: float | None = None
    certain: bool = True
    error: PolyAIError | None = None


@frozen(kw_only=True)
class ClientEvent:
    """One event of the client, as it is written to the socket (protocol.md §4, §5).

    Attributes:
        type: The wire's name, such as ``EVENT_TYPE_USER_MESSAGE``.
        payload: The payload; ``{}`` where the event has none.
        custom: ``metadata.custom``; it holds ``client_event_id`` for messages. Empty: no metadata is sent.
    """

    type: str
    payload: Mapping[str, Any] = Factory(dict)
    custom: Mapping[str, str] = Factory(dict)


@frozen(kw_only=True)
class PluginInfo:
    """One plugin of a client, as ``client.plugins`` lists it.

    Attributes:
        name: The name it is registered, reported and blocked by.
        origin: ``given`` (an argument of ``Client``), ``entry point`` (another distribution's) or ``bundled``.
        distribution: The distribution that brought it; ``None`` where it was given.
        version: That distribution's version, or ``None``.
        hooks: The hooks it implements, sorted.
    """

    name: str
    origin: str
    distribution: str | None = None
    version: str | None = None
    hooks: tuple[str, ...] = ()


# --- observers: errors and the conversation's life ---


@hookspec
def on_error(session: Session | None, error: PolyAIError) -> None:
    """Told of each error met, once, before it is raised or recovered.

    A drop of the connection is one error (`ConnectionDroppedError`), each failed attempt to reconnect is one, and
    giving up is one more (`ConnectionLostError`). Junk that the server sent and that was skipped comes as a
    `ProtocolError`. Errors raised by a constructor reach no hook.

    Thread: the one that met the error; the caller's before the session's thread runs, else mostly the session's.

    Args:
        session: The session, or ``None`` where none exists yet.
        error: What was met, with all that was seen of it (`PolyAIError`).
    """


@hookspec
def on_session_start(session: Session, capabilities: Capabilities) -> None:
    """Told of the first ``SESSION_START`` of a session. Later ones, after a reconnect, are not told.

    Thread: the session's.

    Args:
        session: The session.
        capabilities: What the server can do, as ``SESSION_START`` had it.
    """


@hookspec
def on_session_end(session: Session, reason: str, error: PolyAIError | None) -> None:
    """Told once per session that it is over, however it ended: server, user, close 1000, a 404, expiry.

    A connection that was closed here, or given up, is no end: the conversation lives on at the server.

    Thread: the session's; the caller's where the end is met on it (a refused resume).

    Args:
        session: The session.
        reason: A value of ``EndReason``, or the server's own word.
        error: The error that was the cause, or ``None`` where the conversation ended as it should.
    """


@hookspec
def on_rate_limit(session: Session | None, limit: RateLimit) -> None:
    """Told of a 429 on any surface, and of what looks like a message dropped on the socket.

    The latter is a message whose receipt did not come in time while heartbeats sent after it came back. It is told
    once per message, with ``limit.certain`` false.

    Thread: the one that met it.

    Args:
        session: The session, or ``None`` where none exists yet.
        limit: Where it was met, how long to wait, and whether it is certain.
    """


# --- observers: HTTP ---


@hookspec
def on_request(
    session: Session | None, operation: str, attempt: int, method: str, url: str, correlation_id: str
) -> None:
    """Told before each HTTP attempt.

    Thread: the caller's.

    Args:
        session: The session, or ``None``: both HTTP calls come before one exists.
        operation: ``access_token`` or ``session_create``.
        attempt: The number of this attempt, from 1.
        method: The HTTP method.
        url: The URL, without any secret.
        correlation_id: Sent as ``X-Polyai-Correlation-Id``; the same for all attempts of one call.
    """


@hookspec
def on_response(
    session: Session | None,
    operation: str,
    attempt: int,
    status: int | None,
    seconds: float,
    correlation_id: str,
    error: PolyAIError | None,
) -> None:
    """Told after each HTTP attempt, whatever came of it.

    Exactly one of ``status`` and ``error`` is ``None``.

    Thread: the caller's.

    Args:
        session: The session, or ``None``: both HTTP calls come before one exists.
        operation: ``access_token`` or ``session_create``.
        attempt: The number of this attempt, from 1.
        status: The HTTP status, or ``None`` where no answer came.
        seconds: How long the attempt took.
        correlation_id: The id that ``on_request`` had.
        error: Why no answer came, or ``None``.
    """


# --- observers: the connection ---


@hookspec
def on_connect(session: Session, attempt: int, cursor: int, seconds: float) -> None:
    """Told that the socket is open. The replay of the history comes after it.

    Thread: the session's.

    Args:
        session: The session.
        attempt: Handshakes since the last open connection, this one included: 1 = it opened at once.
        cursor: The cursor that was asked for; 0 = the whole history.
        seconds: How long the dial and the handshake took.
    """


@hookspec
def on_disconnect(session: Session, error: PolyAIError | None) -> None:
    """Told that the socket is gone, for whatever reason. Once for each ``on_connect``.

    Thread: the session's.

    Args:
        session: The session.
        error: What took it away, or ``None`` where it was asked for (``close()``, the conversation's end).
    """


@hookspec
def on_reconnect(session: Session, attempt: int, delay: float, error: PolyAIError) -> None:
    """Told before the wait for another attempt to reconnect. ``on_connect`` or ``on_error`` tells how it went.

    Thread: the session's.

    Args:
        session: The session.
        attempt: The number of the coming attempt, from 1.
        delay: Seconds until it begins.
        error: What made it necessary: the drop, or the last attempt's failure.
    """


# --- observers: traffic ---


@hookspec
def on_event(session: Session, event: Event) -> None:
    """Told of each new event of the server, in order, after deduplication; replayed ones too (``event.replayed``).

    Batches come as the events in them, and echoes of heartbeats not at all. This is the busiest hook: it should do
    little.

    Thread: the session's.

    Args:
        session: The session.
        event: The event; ``event.raw`` is its JSON.
    """


@hookspec
def on_send(session: Session, event: ClientEvent) -> None:
    """Told of each event of the client that is written, heartbeats included, and before anything that answers it.

    One that could not be written is told of only where another thread came to the hooks while it was tried.

    Thread: the one that writes it, a caller's or the session's.

    Args:
        session: The session.
        event: What is written.
    """


@hookspec
def on_message(session: Session, message: Message) -> None:
    """Told of each complete message of whatever side: agent, live agent, user.

    Own messages come at their receipt. Replayed ones come too (``message.replayed``).

    Thread: the session's.

    Args:
        session: The session.
        message: The message; its stream is over.
    """


@hookspec
def on_delivery(session: Session, message: Message) -> None:
    """Told that a message which this ``Session`` object sent is settled: ``DELIVERED`` or ``FAILED``.

    Messages sent by another connection of the session, or before it was resumed, are not told here.

    Thread: the one that met it, mostly the session's.

    Args:
        session: The session.
        message: The message, with its ``delivery``.
    """


@hookspec
def on_handoff(session: Session, handoff: Handoff) -> None:
    """Told of each change of the handoff: triggered, queued, a new place in the queue, live, over.

    Thread: the session's.

    Args:
        session: The session.
        handoff: The handoff as it is now.
    """


# --- policies ---


@hookspec(firstresult=True)
def retry_delay(session: Session | None, operation: str, error: PolyAIError, attempt: int) -> float | None:
    """Asked whether to try again what has just failed.

    A wait that would pass the call's deadline is not begun: the error is raised instead. ``close()``, ``end()``, the
    deadline and Ctrl-C end a wait at once. A retried ``ask`` is a new user message.

    Thread: the one that tries, the caller's or the session's.

    Args:
        session: The session, or ``None`` where none exists yet.
        operation: ``access_token``, ``session_create``, ``connect`` (the first handshake of a start or a resume),
            ``join`` or ``ask``.
        error: Why it failed.
        attempt: Tries made so far, from 1.

    Returns:
        Seconds to wait before the next try, 0.0 for at once. ``None``: no opinion; with no answer the error is raised.
    """


@hookspec(firstresult=True)
def reconnect_delay(session: Session, error: PolyAIError, attempt: int) -> float | None:
    """Asked after an open socket dropped, and again after each attempt to reopen it that failed.

    Thread: the session's.

    Args:
        session: The session; ``session.capabilities.max_reconnect_attempts`` is the server's hint.
        error: The drop, or the failure of the last attempt.
        attempt: The number of the coming attempt, from 1. It starts again once a connection has proved itself.

    Returns:
        Seconds to wait before that attempt. ``None``: no opinion; with no answer the connection is given up
        (`ConnectionLostError`).
    """


@hookspec(firstresult=True)
def resend(session: Session, message: Message) -> bool | None:
    """Asked whether to send again a message which a replay proved was not received.

    It would go out under the same ``client_event_id`` and cannot arrive twice. Not asked about a message that was
    never written: that one is simply sent once the connection is open.

    Thread: the session's.

    Args:
        session: The session.
        message: The message, still ``PENDING``.

    Returns:
        ``False``: do not; it becomes a `DeliveryError` with ``outcome="not_received"``. ``True``: do. ``None``: no
        opinion; with no answer it is sent again, which is what the caller asked for.
    """


OBSERVERS: Final = (
    "on_error",
    "on_session_start",
    "on_session_end",
    "on_rate_limit",
    "on_request",
    "on_response",
    "on_connect",
    "on_disconnect",
    "on_reconnect",
    "on_event",
    "on_send",
    "on_message",
    "on_delivery",
    "on_handoff",
)
"""The names of all observers."""

POLICIES: Final = ("retry_delay", "reconnect_delay", "resend")
"""The names of all policies."""
