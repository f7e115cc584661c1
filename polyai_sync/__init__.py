"""A synchronous, thread-based client of the PolyAI Messaging API whose policies are plugins.

::

    from polyai_sync import Client

    with Client("connector-token", "https://www.example.com") as client:
        with client.start_session() as session:
            print(session.next_message().text)
            print(session.ask("A table for two, please").text)
            session.end()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from polyai_sync._version import __version__

if TYPE_CHECKING:
    from polyai_sync import events
    from polyai_sync.asking import ReplyStream
    from polyai_sync.catalog import CATALOG, CatalogEntry, explain
    from polyai_sync.client import Client
    from polyai_sync.config import Secret, Settings, Timeouts
    from polyai_sync.errors import (
        AgentError,
        AgentOverloadedError,
        AuthenticationError,
        ConfigurationError,
        ConnectionDroppedError,
        ConnectionFailedError,
        ConnectionLimitError,
        ConnectionLostError,
        ConversationNotFoundError,
        DeliveryError,
        HandoffError,
        InvalidEventError,
        InvalidRequestError,
        LaggedError,
        MessageTooLargeError,
        PluginError,
        PolyAIError,
        ProtocolError,
        RateLimitError,
        ReadyTimeoutError,
        ReentrantCallError,
        ReplyTimeoutError,
        ServerError,
        SessionClosedError,
        SessionEndedError,
        SessionError,
        SessionNotFoundError,
        SessionUnavailableError,
        SystemMessageError,
        TransportError,
        WaitTimeoutError,
    )
    from polyai_sync.events import Event, UnknownEvent
    from polyai_sync.hooks import ClientEvent, PluginInfo, RateLimit, hookimpl
    from polyai_sync.messages import (
        Attachment,
        CallAction,
        Capabilities,
        Delivery,
        EndReason,
        Handoff,
        HandoffStatus,
        Message,
        Participant,
        Reply,
        SessionStatus,
        Suggestion,
    )
    from polyai_sync.session import Session
    from polyai_sync.state import SessionState
    from polyai_sync.transport.http import AccessToken

__all__ = [
    "CATALOG",
    "AccessToken",
    "AgentError",
    "AgentOverloadedError",
    "Attachment",
    "AuthenticationError",
    "CallAction",
    "Capabilities",
    "CatalogEntry",
    "Client",
    "ClientEvent",
    "ConfigurationError",
    "ConnectionDroppedError",
    "ConnectionFailedError",
    "ConnectionLimitError",
    "ConnectionLostError",
    "ConversationNotFoundError",
    "Delivery",
    "DeliveryError",
    "EndReason",
    "Event",
    "Handoff",
    "HandoffError",
    "HandoffStatus",
    "InvalidEventError",
    "InvalidRequestError",
    "LaggedError",
    "Message",
    "MessageTooLargeError",
    "Participant",
    "PluginError",
    "PluginInfo",
    "PolyAIError",
    "ProtocolError",
    "RateLimit",
    "RateLimitError",
    "ReadyTimeoutError",
    "ReentrantCallError",
    "Reply",
    "ReplyStream",
    "ReplyTimeoutError",
    "Secret",
    "ServerError",
    "Session",
    "SessionClosedError",
    "SessionEndedError",
    "SessionError",
    "SessionNotFoundError",
    "SessionState",
    "SessionStatus",
    "SessionUnavailableError",
    "Settings",
    "Suggestion",
    "SystemMessageError",
    "Timeouts",
    "TransportError",
    "UnknownEvent",
    "WaitTimeoutError",
    "__version__",
    "events",
    "explain",
    "hookimpl",
]

_NAMES: Final = {
    "asking": ("ReplyStream",),
    "catalog": ("CATALOG", "CatalogEntry", "explain"),
    "client": ("Client",),
    "config": ("Secret", "Settings", "Timeouts"),
    "events": ("Event", "UnknownEvent"),
    "hooks": ("ClientEvent", "PluginInfo", "RateLimit", "hookimpl"),
    "messages": (
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
        "SessionStatus",
        "Suggestion",
    ),
    "session": ("Session",),
    "state": ("SessionState",),
    "transport.http": ("AccessToken",),
}
"""Where names come from; errors are told by theirs. Importing the package imports none of it, the first use does (bench
p10)."""

_HOMES: Final = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name == "events":
        return importlib.import_module(f"{__name__}.events")
    home = "errors" if name.endswith("Error") else _HOMES.get(name)
    if home is None or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
