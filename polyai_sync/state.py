"""What has to be kept to come back to a session later, or from another process."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import attrs
from attrs import field, frozen

from polyai_sync.errors import ConfigurationError
from polyai_sync.messages import Capabilities, Handoff, HandoffStatus, Participant

__all__ = ["SessionState"]

FORMAT: Final = "polyai-sync.session"
VERSION: Final = 1

_NOT_JSON: Final = object()


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
        if document.get("version") != VERSION:
            raise _damaged(f"has version {document.get('version')!r}, and this release reads version {VERSION}")
        return cls(
            session_id=_text(document, "session_id"),
            access_token=_text(document, "access_token"),
            base_url=_text(document, "base_url"),
            cursor=_whole(document, "cursor"),
            capabilities=_nested(document, "capabilities", Capabilities),
            joined=_flag(document, "joined"),
            agent=_nested(document, "agent", Participant),
            live_agent=_nested(document, "live_agent", Participant),
            handoff=_handoff(document),
            language=_optional(document, "language", str),
            streaming=_flag(document, "streaming"),
            created_at=_time(document, "created_at"),
            updated_at=_time(document, "updated_at"),
        )

    @property
    def probably_expired(self) -> bool:
        """Have ten idle minutes passed since the state was taken? The server alone knows for certain."""
        return self.updated_at is not None and datetime.now(timezone.utc) - self.updated_at > timedelta(minutes=10)


def _plain(_: Any, __: Any, value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _damaged(what: str) -> ConfigurationError:
    return ConfigurationError(f"The stored session state {what}; start a new session", code="client.configuration")


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise _damaged(f"has no usable {name}")
    return value


def _whole(document: dict[str, Any], name: str) -> int:
    value = document.get(name)
    if type(value) is not int or not 0 <= value < 2**63:
        raise _damaged(f"has no usable {name}")
    return value


def _flag(document: dict[str, Any], name: str) -> bool:
    value = document.get(name)
    if not isinstance(value, bool):
        raise _damaged(f"has no usable {name}")
    return value


def _optional(document: dict[str, Any], name: str, kind: type) -> Any:
    value = document.get(name)
    if value is not None and not isinstance(value, kind):
        raise _damaged(f"has no usable {name}")
    return value


def _time(document: dict[str, Any], name: str) -> datetime | None:
    value = _optional(document, name, str)
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError as error:
        raise _damaged(f"has no usable {name}") from error
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "streaming": (bool,),
    "max_message_size_bytes": (int,),
    "max_reconnect_attempts": (int, type(None)),
    "heartbeat_interval_seconds": (int, float, type(None)),
    "position": (int, type(None)),
    "estimated_wait_seconds": (int, float, type(None)),
}


def _nested(document: dict[str, Any], name: str, cls: type[Any]) -> Any:
    value = _optional(document, name, dict)
    if value is None:
        return None
    known = {f.name: value[f.name] for f in attrs.fields(cls) if f.name in value}
    for key, stated in known.items():
        if not isinstance(stated, _KINDS.get(key, (str, type(None)))):
            raise _damaged(f"has no usable {name}.{key}")
    return cls(**known)


def _handoff(document: dict[str, Any]) -> Handoff:
    value = dict(_optional(document, "handoff", dict) or {})
    agent = _nested(value, "agent", Participant)
    value.pop("agent", None)
    handoff: Handoff = _nested({"handoff": value}, "handoff", Handoff)
    try:
        return attrs.evolve(handoff, agent=agent, status=HandoffStatus(handoff.status))
    except ValueError as error:
        raise _damaged("has no usable handoff.status") from error
