"""What a conversation is made of: messages, replies, participants, handoffs, capabilities."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Literal

from attrs import field, frozen

from polyai_sync.plaintext import to_plain_text

__all__ = [
    "Attachment",
    "CallAction",
    "Capabilities",
    "Delivery",
    "EndReason",
    "Handoff",
    "HandoffStatus",
    "Message",
    "Participant",
    "Reply",
    "Role",
    "SessionStatus",
    "Suggestion",
]

Role = Literal["user", "agent", "live_agent"]


class Word(str, Enum):
    """A string that is one of a few: equal to its value, printed as its value."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:
        return format(str(self.value), spec)


class SessionStatus(Word):
    """Where a session stands."""

    CONNECTING = "CONNECTING"
    """From the call until the history is in."""
    OPEN = "OPEN"
    """The socket is open and the replay is over."""
    RECONNECTING = "RECONNECTING"
    """The socket dropped; the session's thread is bringing it back."""
    CLOSED = "CLOSED"
    """Closed on this side. The conversation lives on at the server."""
    ENDED = "ENDED"
    """The conversation is over at the server."""
    FAILED = "FAILED"
    """The connection was given up. The session may live on."""


class Delivery(Word):
    """How far a sent message came."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


class EndReason(Word):
    """Why a session ended.

    The first three are the wire's words (`protocol.md` §6), the others this client's. A word that neither
    knows is passed on as it came.
    """

    USER_END = "REASON_USER_END"
    USER_ABANDONED = "REASON_USER_ABANDONED"
    NATURAL_END = "REASON_NATURAL_END"
    UNKNOWN = "REASON_UNKNOWN"
    CLOSED_BY_SERVER = "CLOSED_BY_SERVER"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    AUTHENTICATION_FAILED = "AUTHENTICATION_FAILED"
    UNCONFIRMED = "UNCONFIRMED"


class HandoffStatus(Word):
    """Where a handoff to a person stands (`protocol.md` §7.6)."""

    NONE = "NONE"
    TRIGGERED = "TRIGGERED"
    ACCEPTED = "ACCEPTED"
    QUEUED = "QUEUED"
    LIVE = "LIVE"
    CLIENT_REQUIRED = "CLIENT_REQUIRED"
    """The embedding application has to route the user: see ``reason``, ``queue_name``, ``route``."""
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    ENDED = "ENDED"


@frozen(kw_only=True)
class Participant:
    """An agent or a person who takes part.

    Attributes:
        id: The server's id, where it gave one.
        name: The name to show.
        avatar_url: An image, or ``None``.
    """

    id: str | None = None
    name: str | None = None
    avatar_url: str | None = None


@frozen(kw_only=True)
class Capabilities:
    """What ``SESSION_START`` told about the session.

    Attributes:
        streaming: Replies come in chunks.
        max_message_size_bytes: Largest frame the server takes, in bytes of UTF-8.
        max_reconnect_attempts: A hint for the reconnect policy; 0 = no limit, ``None`` = the server gave none.
        heartbeat_interval_seconds: Seconds between heartbeats; 0 = none, ``None`` = the server gave none (30).
    """

    streaming: bool = False
    max_message_size_bytes: int = 131_072
    max_reconnect_attempts: int | None = None
    heartbeat_interval_seconds: float | None = None


@frozen(kw_only=True)
class Attachment:
    """A link or an image beside a message. ``content_type`` is the wire's word, unknown ones kept."""

    title: str = ""
    preview_image_url: str = ""
    content_url: str = ""
    content_type: str = ""
    call_to_action_text: str = ""

    @property
    def is_image(self) -> bool:
        """Is the content itself an image?"""
        return self.content_type == "ATTACHMENT_CONTENT_TYPE_IMAGE"


@frozen(kw_only=True)
class Suggestion:
    """An answer that the user may pick: ``session.choose(suggestion)`` sends ``message_text``."""

    message_text: str
    payload: Any = field(default=None, hash=False)


@frozen(kw_only=True)
class CallAction:
    """A telephone number that the agent offers."""

    title: str = ""
    contact_number: str = ""


@frozen(kw_only=True)
class Handoff:
    """A handoff to a person, as far as it has come.

    Attributes:
        status: The last step seen.
        queue_name: The queue, where the server named one.
        position: Place in the queue.
        estimated_wait_seconds: The server's own estimate.
        display_message: A text of the server to show while waiting.
        reason: ``COMPLEX_QUERY``, ``AGENT_DECISION``, ``POLICY``, or what was said of a failure.
        route: Where the application should send the user (client-managed; may be a URL).
        agent: The person who joined.
    """

    status: HandoffStatus = HandoffStatus.NONE
    queue_name: str | None = None
    position: int | None = None
    estimated_wait_seconds: float | None = None
    display_message: str | None = None
    reason: str | None = None
    route: str | None = None
    agent: Participant | None = None


@frozen(kw_only=True)
class Message:
    """One message, of whatever side.

    Attributes:
        role: ``user``, ``agent`` or ``live_agent``.
        message_id: The server's id; empty until a sent message has its receipt.
        text: Markdown and a little HTML, as it came; see ``plain_text()``.
        attachments: Links and images.
        suggestions: Answers to offer.
        call_actions: Telephone numbers to offer.
        complete: ``False`` while it is being streamed, and for good where the stream was cut off.
        sequence: Its place in the conversation; ``None`` until the server gave one.
        timestamp: The server's time; ``None`` where it gave none.
        agent_name: Who wrote it, where the server said so.
        avatar_url: An image of who wrote it.
        custom: The metadata sent along.
        client_event_id: The id this client gave to a message it sent, or ``None``.
        delivery: Of a sent message: how far it came. An agent's message is always ``DELIVERED``.
        replayed: It came in the history, not live.
    """

    role: Role
    message_id: str = ""
    text: str = ""
    attachments: tuple[Attachment, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    call_actions: tuple[CallAction, ...] = ()
    complete: bool = True
    sequence: int | None = None
    timestamp: datetime | None = None
    agent_name: str | None = None
    avatar_url: str | None = None
    custom: Mapping[str, str] = field(factory=dict, hash=False)
    client_event_id: str | None = None
    delivery: Delivery = Delivery.DELIVERED
    replayed: bool = False

    def plain_text(self) -> str:
        """The text without Markdown and HTML, for a log, a text message or a voice."""
        return to_plain_text(self.text)


@frozen(kw_only=True)
class Reply:
    """The answer to one ``ask`` or ``stream``.

    Attributes:
        messages: Its messages, in order.
        handoff: Set when this turn began or changed a handoff.
        ended: The session ended with this turn.
    """

    messages: tuple[Message, ...] = ()
    handoff: Handoff | None = None
    ended: bool = False

    @property
    def text(self) -> str:
        """The messages' texts, joined by blank lines."""
        return "\n\n".join(message.text for message in self.messages if message.text)

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The messages' attachments, in order."""
        return tuple(item for message in self.messages for item in message.attachments)

    @property
    def suggestions(self) -> tuple[Suggestion, ...]:
        """The messages' suggestions, in order."""
        return tuple(item for message in self.messages for item in message.suggestions)

    @property
    def complete(self) -> bool:
        """Did every message come whole?"""
        return all(message.complete for message in self.messages)

    def plain_text(self) -> str:
        """The text without Markdown and HTML."""
        return "\n\n".join(text for message in self.messages if (text := message.plain_text()))
