"""Every event of protocol.md §6 as the wire writes it, and what it is read as."""

from __future__ import annotations

from typing import Any

from polyai_sync.events import SystemMessageLevel, TypingState
from polyai_sync.messages import Attachment, CallAction, Capabilities, Participant, Suggestion

Case = tuple[str, dict[str, Any], dict[str, Any]]

LINK = {
    "title": "Menu",
    "preview_image_url": "https://e.example/p.png",
    "content_url": "https://e.example/menu",
    "content_type": "ATTACHMENT_CONTENT_TYPE_URL",
    "call_to_action_text": "Look",
}
PICTURE = {"content_url": "https://e.example/t.png", "content_type": "ATTACHMENT_CONTENT_TYPE_IMAGE"}
CONTENT = {
    "message_id": "m-1",
    "text": "A **table**\n for two? 👋",
    "attachments": [LINK, PICTURE],
    "response_suggestions": [{"message_text": "Yes"}, {"message_text": "No", "payload": {"why": ["late", 1]}}],
}
READ = {
    "message_id": "m-1",
    "text": "A **table**\n for two? 👋",
    "attachments": (Attachment(**LINK), Attachment(**PICTURE)),
    "response_suggestions": (
        Suggestion(message_text="Yes"),
        Suggestion(message_text="No", payload={"why": ["late", 1]}),
    ),
}
WHO = {"agent_name": "Marta", "avatar_url": "https://e.example/m.png"}
PERSON = {"agent_id": "l-1", "agent_name": "Zoë"}
FACE = {"avatar_url": "https://e.example/z.png"}
CALLS = {"chat_call_actions": [{"title": "Desk", "contact_number": "+44 20"}], "end_conversation": True}
CALLS_READ = {"chat_call_actions": (CallAction(title="Desk", contact_number="+44 20"),), "end_conversation": True}
LIMITS = {
    "streaming": True,
    "max_message_size_bytes": 4096,
    "max_reconnect_attempts": 0,
    "heartbeat_interval_seconds": 12.5,
}
QUEUE = {"queue_name": "Desk", "position_in_queue": 3, "estimated_wait_seconds": 90.5, "display_message": "Hold on"}


def _same(name: str, payload: dict[str, Any]) -> Case:
    """A type whose fields are read as they are written."""
    return name, payload, payload


_DOCUMENTED: list[Case] = [
    (
        "SESSION_START",
        {"capabilities": LIMITS, "context_id": "x"},
        {"capabilities": Capabilities(**LIMITS), "context_id": "x"},
    ),
    _same("SESSION_END", {"reason": "REASON_NATURAL_END"}),
    _same("POLY_AGENT_JOINED", {"agent_name": "Marta", "agent_avatar_url": "https://e.example/m.png"}),
    _same("POLY_AGENT_THINKING", {}),
    ("POLY_AGENT_MESSAGE", CONTENT | WHO | CALLS, READ | WHO | CALLS_READ),
    (
        "POLY_AGENT_MESSAGE_CHUNK",
        CONTENT | {"chunk_index": 2, "is_complete": True},
        READ | {"chunk_index": 2, "is_complete": True},
    ),
    _same("POLY_AGENT_LEFT", {"reason": "handoff"}),
    _same("POLY_AGENT_TRIGGERED_HANDOFF", {}),
    _same("HANDOFF_ACCEPTED", {"queue_name": "Desk"}),
    _same("HANDOFF_QUEUE_STATUS", QUEUE),
    _same("CLIENT_HANDOFF_REQUIRED", {"reason": "POLICY", "queue_name": "Desk", "route": "https://e.example/desk"}),
    _same("HANDOFF_FAILED", {"reason": "nobody"}),
    _same("HANDOFF_TIMEOUT", {"reason": "late"}),
    (
        "LIVE_AGENT_JOINED",
        {"agent": {"id": "l-1", "name": "Zoë", **FACE}},
        {"agent": Participant(id="l-1", name="Zoë", **FACE)},
    ),
    ("LIVE_AGENT_TYPING", {"state": "TYPING_STATE_STOPPED", **PERSON}, {"state": TypingState.STOPPED, **PERSON}),
    ("LIVE_AGENT_MESSAGE", CONTENT | PERSON | FACE | CALLS, READ | PERSON | FACE | CALLS_READ),
    _same("LIVE_AGENT_LEFT", PERSON | {"reason": "done"}),
    (
        "SYSTEM_MESSAGE",
        {"level": "SYSTEM_MESSAGE_LEVEL_ERROR", "message": "No"},
        {"level": SystemMessageLevel.ERROR, "message": "No"},
    ),
    _same("LANGUAGE_CHANGED", {"language_code": "pt-BR"}),
    _same("USER_MESSAGE", {"message_id": "m-2", "text": "Hi"}),
    _same("USER_END_SESSION", {}),
    _same("HEARTBEAT", {}),
    _same("REQUEST_POLY_AGENT_JOIN", {}),
]

_STARTED = {"state": TypingState.STARTED}
_OLDER: list[Case] = [
    ("POLY_AGENT_JOINED", {"avatar_url": "u"}, {"agent_avatar_url": "u"}),
    ("POLY_AGENT_JOINED", {"avatar_url": "old", "agent_avatar_url": "new"}, {"agent_avatar_url": "new"}),
    ("POLY_AGENT_JOINED", {"avatar_url": "old", "agent_avatar_url": None}, {"agent_avatar_url": "old"}),
    ("HANDOFF_QUEUE_STATUS", {"position": 4}, {"position_in_queue": 4}),
    ("HANDOFF_QUEUE_STATUS", {"position": 9, "position_in_queue": 4}, {"position_in_queue": 4}),
    ("HANDOFF_QUEUE_STATUS", {"position_in_queue": 0}, {"position_in_queue": 0}),
    ("HANDOFF_QUEUE_STATUS", {"estimated_wait_seconds": "90"}, {"estimated_wait_seconds": 90.0}),
    ("LIVE_AGENT_JOINED", PERSON | FACE, {"agent": Participant(id="l-1", name="Zoë", **FACE)}),
    ("LIVE_AGENT_JOINED", {"agent": {"name": "Zoë"}, "agent_id": "l-1"}, {"agent": Participant(id="l-1", name="Zoë")}),
    ("LIVE_AGENT_JOINED", {"agent": {"name": "Zoë"}, "agent_name": "x"}, {"agent": Participant(name="Zoë")}),
    ("LIVE_AGENT_JOINED", {"agent": None}, {"agent": Participant()}),
    ("LIVE_AGENT_TYPING", {}, _STARTED),
    ("LIVE_AGENT_TYPING", {"state": None}, _STARTED),
    ("LIVE_AGENT_TYPING", {"state": "TYPING_STATE_NEW"}, _STARTED),
    ("SYSTEM_MESSAGE", {"message": "Hi"}, {"level": SystemMessageLevel.INFO}),
    ("SYSTEM_MESSAGE", {"level": "SYSTEM_MESSAGE_LEVEL_WARNING"}, {"level": SystemMessageLevel.WARNING}),
    ("SYSTEM_MESSAGE", {"level": "SYSTEM_MESSAGE_LEVEL_NEW"}, {"level": SystemMessageLevel.INFO}),
    ("SESSION_END", {"reason": None}, {"reason": None}),
    ("SESSION_END", {"reason": "agent_ended"}, {"reason": "agent_ended"}),
    ("SESSION_END", {"reason": "a word of tomorrow"}, {"reason": "a word of tomorrow"}),
    ("SESSION_START", {"capabilities": {}}, {"capabilities": Capabilities()}),
    ("SESSION_START", {"capabilities": {"max_message_size_bytes": 0}}, {"capabilities": Capabilities()}),
    (
        "SESSION_START",
        {"capabilities": {"max_message_size_bytes": "4096"}},
        {"capabilities": Capabilities(max_message_size_bytes=4096)},
    ),
    (
        "SESSION_START",
        {"capabilities": {"heartbeat_interval_seconds": 0}},
        {"capabilities": Capabilities(heartbeat_interval_seconds=0)},
    ),
    (
        "POLY_AGENT_MESSAGE_CHUNK",
        {"text": None, "is_complete": True},
        {"text": "", "chunk_index": 0, "is_complete": True},
    ),
    (
        "POLY_AGENT_MESSAGE_CHUNK",
        {"text": "", "chunk_index": "12"},
        {"text": "", "chunk_index": 12, "is_complete": False},
    ),
    (
        "POLY_AGENT_MESSAGE",
        {"attachments": [{"content_type": "NEW"}]},
        {"attachments": (Attachment(content_type="NEW"),)},
    ),
    ("POLY_AGENT_MESSAGE", {"attachments": [{"title": "A", "size": 1}]}, {"attachments": (Attachment(title="A"),)}),
]

_ATTACHMENTS = {"attachments": (Attachment(title="a"), Attachment(title="b"))}
_JUNK: list[Case] = [
    *(
        ("POLY_AGENT_MESSAGE", {"text": "a", "message_id": junk}, {"text": "a", "message_id": ""})
        for junk in (1, ["m"], {}, True)
    ),
    *(
        ("POLY_AGENT_MESSAGE", {"text": junk, "message_id": "m"}, {"text": "", "message_id": "m"})
        for junk in (1, ["a"], {}, True)
    ),
    *(
        ("POLY_AGENT_MESSAGE", {"text": "a", "attachments": junk}, {"text": "a", "attachments": ()})
        for junk in (1, "x", {})
    ),
    *(
        ("POLY_AGENT_MESSAGE", {"attachments": [{"title": "a"}, junk, {"title": "b"}]}, _ATTACHMENTS)
        for junk in (None, 1, "x", [], {})
    ),
    ("POLY_AGENT_MESSAGE", {"attachments": [{"title": "a", "content_url": 7}, {"title": "b"}]}, _ATTACHMENTS),
    *(
        (
            "POLY_AGENT_MESSAGE",
            {"response_suggestions": [junk, {"message_text": "Yes"}]},
            {"response_suggestions": (Suggestion(message_text="Yes"),)},
        )
        for junk in (None, 1, "x", [], {}, {"message_text": 5}, {"text": "Yes"})
    ),
    *(
        (
            "POLY_AGENT_MESSAGE",
            {"chat_call_actions": [junk, {"title": "Desk"}]},
            {"chat_call_actions": (CallAction(title="Desk"),)},
        )
        for junk in (None, 1, "x", [], {})
    ),
    *(
        ("POLY_AGENT_MESSAGE_CHUNK", {"text": "a", "chunk_index": junk}, {"text": "a", "chunk_index": 0})
        for junk in ("soon", -1, 1.5, [], True, 2**63)
    ),
    *(
        ("POLY_AGENT_MESSAGE_CHUNK", {"text": "a", "is_complete": junk}, {"text": "a", "is_complete": False})
        for junk in ("true", 1, [], {})
    ),
    *(
        (
            "HANDOFF_QUEUE_STATUS",
            {"queue_name": "Desk", "estimated_wait_seconds": junk},
            {"queue_name": "Desk", "estimated_wait_seconds": None},
        )
        for junk in ("soon", "NaN", "inf", [], True, 1e300)
    ),
    *(
        ("LIVE_AGENT_TYPING", {"state": junk, "agent_id": "l-1"}, {"agent_id": "l-1", **_STARTED})
        for junk in (1, [], {}, True)
    ),
    *(
        ("SYSTEM_MESSAGE", {"level": junk, "message": "Hi"}, {"message": "Hi", "level": SystemMessageLevel.INFO})
        for junk in (1, [], {}, True)
    ),
    *(
        (
            "SESSION_START",
            {"capabilities": junk, "context_id": "x"},
            {"capabilities": Capabilities(), "context_id": "x"},
        )
        for junk in (1, "x", [], True)
    ),
    *(
        (
            "SESSION_START",
            {"capabilities": {"streaming": True, "max_reconnect_attempts": junk}},
            {"capabilities": Capabilities(streaming=True)},
        )
        for junk in ("soon", -1, 1.5, [], True)
    ),
    *(
        ("LIVE_AGENT_JOINED", {"agent": junk, "agent_name": "Zoë"}, {"agent": Participant(name="Zoë")})
        for junk in (1, "Zoë", [], True)
    ),
    ("LIVE_AGENT_JOINED", {"agent": {"id": 7, "name": "Zoë"}}, {"agent": Participant(name="Zoë")}),
    *(("LANGUAGE_CHANGED", {"language_code": junk}, {"language_code": ""}) for junk in (1, ["pt"], {})),
]


def _prefixed(cases: list[Case]) -> list[Case]:
    return [(f"EVENT_TYPE_{name}", payload, fields) for name, payload, fields in cases]


DOCUMENTED = _prefixed(_DOCUMENTED)
"""Each type with every field it has."""

OLDER = _prefixed(_OLDER)
"""Older names, other ways to write the same, and what stands in for what is left out."""

JUNK = _prefixed(_JUNK)
"""A field that holds something else than it should: it alone is lost, and that is said."""
