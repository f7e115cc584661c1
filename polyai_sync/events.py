"""The server's events, one frozen class per type of the wire (`protocol.md` §6).

A class is named as its type reads: ``EVENT_TYPE_POLY_AGENT_MESSAGE`` is `PolyAgentMessage`. Fields carry the wire's
names; what an event leaves out has the field's default. How a field is read is said beside it, by its `Shape`, for
`polyai_sync.protocol.codec`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import field, frozen

from polyai_sync.messages import Attachment, CallAction, Capabilities, Participant, Suggestion, Word

__all__ = [
    "EVENT_CLASSES",
    "ClientHandoffRequired",
    "Event",
    "EventBatch",
    "HandoffAccepted",
    "HandoffFailed",
    "HandoffQueueStatus",
    "HandoffTimeout",
    "Heartbeat",
    "LanguageChanged",
    "LiveAgentJoined",
    "LiveAgentLeft",
    "LiveAgentMessage",
    "LiveAgentTyping",
    "PolyAgentJoined",
    "PolyAgentLeft",
    "PolyAgentMessage",
    "PolyAgentMessageChunk",
    "PolyAgentThinking",
    "PolyAgentTriggeredHandoff",
    "RequestPolyAgentJoin",
    "SessionEnd",
    "SessionStart",
    "SystemMessage",
    "SystemMessageLevel",
    "TypingState",
    "UnknownEvent",
    "UserEndSession",
    "UserMessage",
]


class Shape(Enum):
    """What a payload's field holds, and so how it is read. Junk counts as absent: the field's default stands in."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    FLAG = "flag"
    ATTACHMENTS = "attachments"
    SUGGESTIONS = "suggestions"
    CALL_ACTIONS = "call actions"
    CAPABILITIES = "capabilities"
    LEVEL = "level"
    TYPING = "typing"


def _wire(shape: Shape, *names: str, default: Any) -> Any:
    """Declare a field read from the payload under its own name, else under one of ``names``."""
    return field(default=default, metadata={"shape": shape, "names": names})


def _text() -> Any:
    return _wire(Shape.TEXT, default="")


def _optional(*older_names: str) -> Any:
    return _wire(Shape.TEXT, *older_names, default=None)


class SystemMessageLevel(Word):
    """How grave a system message is. A level that is not known counts as ``INFO``."""

    INFO = "SYSTEM_MESSAGE_LEVEL_INFO"
    WARNING = "SYSTEM_MESSAGE_LEVEL_WARNING"
    ERROR = "SYSTEM_MESSAGE_LEVEL_ERROR"


class TypingState(Word):
    """Has somebody begun to type, or stopped?"""

    STARTED = "TYPING_STATE_STARTED"
    STOPPED = "TYPING_STATE_STOPPED"


class _OnDemand:
    """A slot for the text that ``raw`` and ``metadata`` are read from when somebody looks at them.

    Few do. The text weighs half of its parsed JSON in every event kept, and costs the garbage collector nothing.
    """

    __slots__ = ("_source",)

    if not TYPE_CHECKING:  # every attribute is declared by the classes; nothing else shall pass for one

        def __getattr__(self, name: str) -> Any:
            if name not in {"raw", "metadata"}:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            raw = json.loads(self._source)
            value = raw if name == "raw" else raw["metadata"]
            object.__setattr__(self, name, value)
            return value


@frozen(kw_only=True)
class Event(_OnDemand):
    """What every event holds (`protocol.md` §4).

    Attributes:
        id: The server's id; empty where it gave none.
        sequence: Its place in the conversation; ``None`` for what passes by (typing and the like).
        timestamp: The server's time; ``None`` where it gave none.
        metadata: As it came; ``custom`` holds its ``custom`` part.
        replayed: It came in the history, not live.
        raw: The event's JSON as it came.
    """

    wire_type: ClassVar[str] = ""

    id: str = ""
    sequence: int | None = None
    timestamp: datetime | None = None
    metadata: Mapping[str, Any] = field(factory=dict, hash=False)
    replayed: bool = False
    raw: Mapping[str, Any] = field(factory=dict, eq=False, repr=False)

    @property
    def type(self) -> str:
        """The wire's name of the type, ``EVENT_TYPE_…``."""
        return self.wire_type

    @property
    def custom(self) -> dict[str, str]:
        """The metadata that the sender put in: the strings of ``metadata["custom"]``."""
        custom = self.metadata.get("custom")
        if not custom or (type(custom) is not dict and not isinstance(custom, Mapping)):  # the last takes longest
            return {}
        return {key: value for key, value in custom.items() if isinstance(key, str) and isinstance(value, str)}


@frozen(kw_only=True)
class UnknownEvent(Event):
    """An event of a type that this version does not know. Its JSON is in ``raw``, its payload in ``payload``."""

    type: str = ""
    payload: Mapping[str, Any] = field(factory=dict, hash=False)


@frozen(kw_only=True)
class EventBatch(Event):
    """A part of the history. ``session.events()`` yields its events, never the batch."""

    wire_type: ClassVar[str] = "EVENT_TYPE_EVENT_BATCH"
    events: tuple[Event, ...] = ()


@frozen(kw_only=True)
class SessionStart(Event):
    """The first event of a session."""

    wire_type: ClassVar[str] = "EVENT_TYPE_SESSION_START"
    capabilities: Capabilities = _wire(Shape.CAPABILITIES, default=Capabilities())
    context_id: str | None = _optional()


@frozen(kw_only=True)
class SessionEnd(Event):
    """The last event of a session. ``reason`` is the wire's word; see ``session.end_reason`` for its meaning."""

    wire_type: ClassVar[str] = "EVENT_TYPE_SESSION_END"
    reason: str | None = _optional()


@frozen(kw_only=True)
class PolyAgentJoined(Event):
    """The agent is there."""

    wire_type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_JOINED"
    agent_name: str | None = _optional()
    agent_avatar_url: str | None = _optional("avatar_url")


@frozen(kw_only=True)
class PolyAgentThinking(Event):
    """The agent is preparing a reply."""

    wire_type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_THINKING"


@frozen(kw_only=True)
class PolyAgentMessage(Event):
    """A whole message of the agent."""

    wire_type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_MESSAGE"
    message_id: str = _text()
    text: str = _text()
    attachments: tuple[Attachment, ...] = _wire(Shape.ATTACHMENTS, default=())
    response_suggestions: tuple[Suggestion, ...] = _wire(Shape.SUGGESTIONS, default=())
    chat_call_actions: tuple[CallAction, ...] = _wire(Shape.CALL_ACTIONS, default=())
    agent_name: str | None = _optional()
    avatar_url: str | None = _optional()
    end_conversation: bool = _wire(Shape.FLAG, default=False)


@frozen(kw_only=True)
class PolyAgentMessageChunk(Event):
    """A piece of a streamed message. Pieces of one ``message_id`` belong together, by ``chunk_index``."""

    wire_type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_MESSAGE_CHUNK"
    message_id: str = _text()
    text: str = _text()
    attachments: tuple[Attachment, ...] = _wire(Shape.ATTACHMENTS, default=())
    response_suggestions: tuple[Suggestion, ...] = _wire(Shape.SUGGESTIONS, default=())
    chat_call_actions: tuple[CallAction, ...] = _wire(Shape.CALL_ACTIONS, default=())
    agent_name: str | None = _optional()
    avatar_url: str | None = _optional()
    chunk_index: int = _wire(Shape.INTEGER, default=0)
    is_complete: bool = _wire(Shape.FLAG, default=False)


@frozen(kw_only=True)
class PolyAgentLeft(Event):
    """The agent has left, for a handoff as a rule."""

    wire_type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_LEFT"
    reason: str | None = _optional()


@frozen(kw_only=True)
class PolyAgentTriggeredHandoff(Event):
    """The agent has asked for a person to take over."""

    wire_type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_TRIGGERED_HANDOFF"


@frozen(kw_only=True)
class HandoffAccepted(Event):
    """The handoff provider has taken the conversation."""

    wire_type: ClassVar[str] = "EVENT_TYPE_HANDOFF_ACCEPTED"
    queue_name: str | None = _optional()


@frozen(kw_only=True)
class HandoffQueueStatus(Event):
    """Where the user stands in the queue."""

    wire_type: ClassVar[str] = "EVENT_TYPE_HANDOFF_QUEUE_STATUS"
    queue_name: str | None = _optional()
    position_in_queue: int | None = _wire(Shape.INTEGER, "position", default=None)
    estimated_wait_seconds: float | None = _wire(Shape.NUMBER, default=None)
    display_message: str | None = _optional()


@frozen(kw_only=True)
class ClientHandoffRequired(Event):
    """The embedding application has to route the user by itself."""

    wire_type: ClassVar[str] = "EVENT_TYPE_CLIENT_HANDOFF_REQUIRED"
    reason: str | None = _optional()
    queue_name: str | None = _optional()
    route: str | None = _optional()


@frozen(kw_only=True)
class HandoffFailed(Event):
    """The handoff failed; the conversation goes on."""

    wire_type: ClassVar[str] = "EVENT_TYPE_HANDOFF_FAILED"
    reason: str | None = _optional()


@frozen(kw_only=True)
class HandoffTimeout(Event):
    """Nobody took the handoff in time; the conversation goes on."""

    wire_type: ClassVar[str] = "EVENT_TYPE_HANDOFF_TIMEOUT"
    reason: str | None = _optional()


@frozen(kw_only=True)
class LiveAgentJoined(Event):
    """A person is there. The wire has ``agent`` nested, or its fields flat in the payload."""

    wire_type: ClassVar[str] = "EVENT_TYPE_LIVE_AGENT_JOINED"
    agent: Participant = Participant()


@frozen(kw_only=True)
class LiveAgentTyping(Event):
    """The person has begun to type, or stopped."""

    wire_type: ClassVar[str] = "EVENT_TYPE_LIVE_AGENT_TYPING"
    state: TypingState = _wire(Shape.TYPING, default=TypingState.STARTED)
    agent_id: str | None = _optional()
    agent_name: str | None = _optional()


@frozen(kw_only=True)
class LiveAgentMessage(Event):
    """A message of the person."""

    wire_type: ClassVar[str] = "EVENT_TYPE_LIVE_AGENT_MESSAGE"
    message_id: str = _text()
    text: str = _text()
    attachments: tuple[Attachment, ...] = _wire(Shape.ATTACHMENTS, default=())
    response_suggestions: tuple[Suggestion, ...] = _wire(Shape.SUGGESTIONS, default=())
    chat_call_actions: tuple[CallAction, ...] = _wire(Shape.CALL_ACTIONS, default=())
    agent_id: str | None = _optional()
    agent_name: str | None = _optional()
    avatar_url: str | None = _optional()
    end_conversation: bool = _wire(Shape.FLAG, default=False)


@frozen(kw_only=True)
class LiveAgentLeft(Event):
    """The person has left. Not by itself the end."""

    wire_type: ClassVar[str] = "EVENT_TYPE_LIVE_AGENT_LEFT"
    agent_id: str | None = _optional()
    agent_name: str | None = _optional()
    reason: str | None = _optional()


@frozen(kw_only=True)
class SystemMessage(Event):
    """A word of the system: information, or an error (`errors.md`)."""

    wire_type: ClassVar[str] = "EVENT_TYPE_SYSTEM_MESSAGE"
    level: SystemMessageLevel = _wire(Shape.LEVEL, default=SystemMessageLevel.INFO)
    message: str = _text()


@frozen(kw_only=True)
class LanguageChanged(Event):
    """The conversation's language is now ``language_code`` (BCP 47)."""

    wire_type: ClassVar[str] = "EVENT_TYPE_LANGUAGE_CHANGED"
    language_code: str = _text()


@frozen(kw_only=True)
class UserMessage(Event):
    """The echo of a user's message: its receipt. One that this session did not send came from another connection."""

    wire_type: ClassVar[str] = "EVENT_TYPE_USER_MESSAGE"
    message_id: str = _text()
    text: str = _text()


@frozen(kw_only=True)
class UserEndSession(Event):
    """The echo of the user's end."""

    wire_type: ClassVar[str] = "EVENT_TYPE_USER_END_SESSION"


@frozen(kw_only=True)
class Heartbeat(Event):
    """The echo of a heartbeat. Neither iterators nor hooks are told of it."""

    wire_type: ClassVar[str] = "EVENT_TYPE_HEARTBEAT"


@frozen(kw_only=True)
class RequestPolyAgentJoin(Event):
    """The echo of the request to join."""

    wire_type: ClassVar[str] = "EVENT_TYPE_REQUEST_POLY_AGENT_JOIN"


EVENT_CLASSES: Mapping[str, type[Event]] = MappingProxyType(
    {cls.wire_type: cls for cls in Event.__subclasses__() if cls.wire_type}
)
"""Every known type of the wire and its class."""
