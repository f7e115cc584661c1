"""The PolyAI Messaging API on loopback, for demos and tests (extra ``emulator``).

`Emulator` serves tokens, sessions and WebSockets as protocol.md describes them; an agent of yours, or the bundled
restaurant desk, talks; `Faults` makes every error and oddity happen on demand.
"""

from __future__ import annotations

try:
    import aiohttp as _aiohttp  # noqa: F401 - only to say in one sentence that it is missing
except ImportError as error:
    raise ImportError("The emulator needs aiohttp: pip install 'polyai-sync[emulator]'") from error

from polyai_sync.emulator.agent import (
    Action,
    Agent,
    Arm,
    ClientHandoff,
    Drop,
    EchoAgent,
    Emit,
    End,
    Fail,
    Handoff,
    HandoffFailed,
    HandoffTimedOut,
    Language,
    LiveLeave,
    LiveSay,
    LiveTyping,
    Notice,
    Pause,
    Say,
    ScriptedAgent,
    Stream,
    Think,
    Turn,
    image,
    link,
)
from polyai_sync.emulator.desk import RestaurantDesk
from polyai_sync.emulator.faults import Fault, Faults
from polyai_sync.emulator.rest import LoggedRequest
from polyai_sync.emulator.server import Emulator
from polyai_sync.emulator.view import EmulatedSession

__all__ = [
    "Action",
    "Agent",
    "Arm",
    "ClientHandoff",
    "Drop",
    "EchoAgent",
    "Emit",
    "EmulatedSession",
    "Emulator",
    "End",
    "Fail",
    "Fault",
    "Faults",
    "Handoff",
    "HandoffFailed",
    "HandoffTimedOut",
    "Language",
    "LiveLeave",
    "LiveSay",
    "LiveTyping",
    "LoggedRequest",
    "Notice",
    "Pause",
    "RestaurantDesk",
    "Say",
    "ScriptedAgent",
    "Stream",
    "Think",
    "Turn",
    "image",
    "link",
]
