"""What a row of the fault table is made of: its occasions, its options, and the server's words."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MOMENTS", "OCCASIONS", "SYSTEM_TEXTS", "FaultRow", "http", "refusal", "row", "system", "twist"]

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


_HTTP_SURFACES = ("access_token", "session_create", "connect")
MOMENTS: tuple[str, ...] = ("open", "opened", "join", "message", "echo", "turn", "chunk", "reply", "heartbeat")

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


def refusal(name: str, status: int, text: str, does: str, **options: Any) -> FaultRow:
    """A refusal of one surface, which its name begins with."""
    surface = name.partition(".")[0]
    return FaultRow(name=name, does=does, on=(surface,), status=status, text=text, options={**_HTTP_OPTIONS, **options})


def http(name: str, status: int | None, text: str | None, does: str, **options: Any) -> FaultRow:
    """What may meet a request of any surface."""
    return FaultRow(
        name=name,
        does=does,
        on=_HTTP_SURFACES,
        also=_HTTP_SURFACES,
        status=status,
        text=text,
        options={**_HTTP_OPTIONS, **options},
    )


def system(name: str, does: str, *, on: tuple[str, ...] = ("turn",), also: tuple[str, ...] = ()) -> FaultRow:
    """An error that arrives as a system message."""
    return FaultRow(name=name, does=does, on=on, also=also, text=SYSTEM_TEXTS[name], options=_SYSTEM_OPTIONS)


def row(name: str, on: str, does: str, *, also: tuple[str, ...] = (), **options: Any) -> FaultRow:
    """A fault that decides what happens."""
    return FaultRow(name=name, does=does, on=(on,), also=also, options=options)


def twist(name: str, on: str | tuple[str, ...], does: str, **options: Any) -> FaultRow:
    """A fault that changes something and leaves room for others."""
    where = (on,) if isinstance(on, str) else on
    return FaultRow(name=name, does=does, on=where, also=where, options=options, all_at_once=True)
