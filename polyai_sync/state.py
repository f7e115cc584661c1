"""What has to be kept to come back to a session later, or from another process."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Final, TypeVar

import attrs
from attrs import field, frozen

from polyai_sync.errors import ConfigurationError
from polyai_sync.messages import Attachment, CallAction, Capabilities, Handoff, HandoffStatus, Participant, Suggestion

__all__ = ["OpenStream", "Piece", "SessionState"]

FORMAT: Final = "polyai-sync.session"
VERSION: Final = 1

_NOT_JSON: Final = object()

T = TypeVar("T")


@frozen(kw_only=True)
class Piece:
    """A run of chunks without a gap: the indexes of its first and last one, and their text."""

    first: int
    last: int
    text: str


@frozen(kw_only=True)
class OpenStream:
    """What had come of a message that was being streamed: its chunks are handed on, and no replay brings them again.

    Attributes:
        message_id: The message.
        pieces: Its text so far; more than one where chunks are missing in between.
        final: The index of the last chunk, where that is known.
        numbered: Do its chunks carry an index of their own?
        cut_short: Was it over as it was, so that only another chunk brings it back?
        attachments: Links and images so far.
        suggestions: Answers to offer so far.
        call_actions: Telephone numbers so far.
        sequence: The place of its beginning in the conversation.
        timestamp: The server's time of its beginning.
        agent_name: Who writes it.
        avatar_url: An image of who writes it.
    """

    message_id: str
    pieces: tuple[Piece, ...]
    final: int | None = None
    numbered: bool = True
    cut_short: bool = False
    attachments: tuple[Attachment, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    call_actions: tuple[CallAction, ...] = ()
    sequence: int | None = None
    timestamp: datetime | None = None
    agent_name: str | None = None
    avatar_url: str | None = None


@frozen(kw_only=True)
class SessionState:
    """All that ``client.resume_session`` needs. Treat it like a password: it holds the session's access token.

    Attributes:
        session_id: The session.
        access_token: The token that created it: no other token opens it (`protocol.md` §2). Hidden in ``repr``.
        base_url: The service it lives on.
        cursor: The highest sequence up to which every event was handed on.
        capabilities: What ``SESSION_START`` told, or ``None`` before it came.
        joined: Has the agent joined?
        agent: The agent, while it takes part.
        live_agent: The person, while one takes part.
        handoff: How far a handoff has come.
        language: The conversation's language (BCP 47), where it was said.
        streaming: Was the session created for streaming?
        streams: What had come of messages that were being streamed.
        created_at: When this client first had the session.
        updated_at: When this state was taken.
    """

    session_id: str
    access_token: str = field(repr=False)
    base_url: str
    cursor: int = 0
    capabilities: Capabilities | None = None
    joined: bool = False
    agent: Participant | None = None
    live_agent: Participant | None = None
    handoff: Handoff = Handoff()
    language: str | None = None
    streaming: bool = True
    streams: tuple[OpenStream, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def to_json(self) -> str:
        """Return the state as a JSON document, for a store of yours. It holds the access token."""
        document = attrs.asdict(self, value_serializer=_plain)
        return json.dumps({"format": FORMAT, "version": VERSION, **document}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> SessionState:
        """Read what `to_json` wrote.

        Raises:
            ConfigurationError: The document is damaged, or not one of ours.
        """
        try:
            document = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            document = _NOT_JSON
        if document is _NOT_JSON:  # raised out here: the decoder's exception holds the document, and with it the token
            raise _damaged("is not JSON")
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise _damaged("was not written by SessionState.to_json()")
        if (version := _whole("version", document.get("version"))) != VERSION:
            raise _damaged(f"has version {version}, and this release reads version {VERSION}")
        return _STATE("", document)


def _plain(_: Any, __: Any, value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


# --- reading: one reader a shape, each told where it reads ------------------------------------------------------------

_Read = Callable[[str, Any], Any]


def _damaged(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"The stored session state {what}", resolution="Start a new session: this document leads to none."
    )


def _unusable(where: str) -> ConfigurationError:
    return _damaged(f"has no usable {where}")


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _unusable(where)
    return value


def _word(where: str, value: Any) -> str:
    if not _text(where, value) or not value.isprintable():
        raise _unusable(where)
    return str(value)


def _whole(where: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise _unusable(where)
    return value


def _seconds(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 2**63:  # nor NaN
        raise _unusable(where)
    return float(value)


def _flag(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _unusable(where)
    return value


def _anything(_: str, value: Any) -> Any:
    return value


def _time(where: str, value: Any) -> datetime:
    text, time = _text(where, value), None
    with suppress(ValueError):  # raised below instead: the parser's exception quotes what it read
        time = datetime.fromisoformat(text)
    if time is None:
        raise _unusable(where)
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _status(where: str, value: Any) -> HandoffStatus:
    if (word := _text(where, value)) not in HandoffStatus._value2member_map_:
        raise _unusable(where)
    return HandoffStatus(word)


def _optional(read: _Read) -> _Read:
    return lambda where, value: None if value is None else read(where, value)


def _list(read: _Read) -> _Read:
    def each(where: str, value: Any) -> Any:
        if not isinstance(value, list):
            raise _unusable(where)
        return tuple(read(where, element) for element in value)

    return each


def _object(cls: Callable[..., T], **fields: _Read) -> Callable[[str, Any], T]:
    """Read an object that has all of ``fields``; what else it has is of a later release."""

    def read(where: str, value: Any) -> T:
        if not isinstance(value, dict):
            raise _unusable(where)
        prefix = f"{where}." if where else ""
        for name in fields:
            if name not in value:
                raise _unusable(prefix + name)
        return cls(**{name: check(prefix + name, value[name]) for name, check in fields.items()})

    return read


def _stream(where: str, value: Any) -> OpenStream:
    stream = _STREAM(where, value)
    before = -1
    for piece in stream.pieces:
        if not before < piece.first <= piece.last:
            raise _unusable(f"{where}.pieces")
        before = piece.last
    if before < 0:
        raise _unusable(f"{where}.pieces")
    return stream


_PARTICIPANT: Final = _object(Participant, id=_optional(_text), name=_optional(_text), avatar_url=_optional(_text))
_CAPABILITIES: Final = _object(
    Capabilities,
    streaming=_flag,
    max_message_size_bytes=_whole,
    max_reconnect_attempts=_optional(_whole),
    heartbeat_interval_seconds=_optional(_seconds),
)
_HANDOFF: Final = _object(
    Handoff,
    status=_status,
    queue_name=_optional(_text),
    position=_optional(_whole),
    estimated_wait_seconds=_optional(_seconds),
    display_message=_optional(_text),
    reason=_optional(_text),
    route=_optional(_text),
    agent=_optional(_PARTICIPANT),
)
_ATTACHMENT: Final = _object(Attachment, **{f.name: _text for f in attrs.fields(Attachment)})
_SUGGESTION: Final = _object(Suggestion, message_text=_text, payload=_anything)
_CALL_ACTION: Final = _object(CallAction, title=_text, contact_number=_text)
_PIECE: Final = _object(Piece, first=_whole, last=_whole, text=_text)
_STREAM: Final = _object(
    OpenStream,
    message_id=_text,
    pieces=_list(_PIECE),
    final=_optional(_whole),
    numbered=_flag,
    cut_short=_flag,
    attachments=_list(_ATTACHMENT),
    suggestions=_list(_SUGGESTION),
    call_actions=_list(_CALL_ACTION),
    sequence=_optional(_whole),
    timestamp=_optional(_time),
    agent_name=_optional(_text),
    avatar_url=_optional(_text),
)
_STATE: Final = _object(
    SessionState,
    session_id=_word,
    access_token=_word,
    base_url=_word,
    cursor=_whole,
    capabilities=_optional(_CAPABILITIES),
    joined=_flag,
    agent=_optional(_PARTICIPANT),
    live_agent=_optional(_PARTICIPANT),
    handoff=_HANDOFF,
    language=_optional(_text),
    streaming=_flag,
    streams=_list(_stream),
    created_at=_optional(_time),
    updated_at=_optional(_time),
)
