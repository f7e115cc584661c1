"""The handoff as its events tell it (`protocol.md` §7.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from polyai_sync.events import (
    ClientHandoffRequired,
    Event,
    HandoffAccepted,
    HandoffFailed,
    HandoffQueueStatus,
    HandoffTimeout,
    LiveAgentJoined,
    LiveAgentLeft,
    PolyAgentTriggeredHandoff,
)
from polyai_sync.messages import Handoff, HandoffStatus

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BEGINNINGS", "advance"]

BEGINNINGS: Final = (PolyAgentTriggeredHandoff, ClientHandoffRequired)
"""Events after which a turn may end without a message."""


def _queued(handoff: Handoff, event: Any) -> Handoff:
    known = {
        "queue_name": event.queue_name,
        "position": event.position_in_queue,
        "estimated_wait_seconds": event.estimated_wait_seconds,
        "display_message": event.display_message,
    }
    stated = {name: value for name, value in known.items() if value is not None}
    return evolve(handoff, status=HandoffStatus.QUEUED, **stated)


def _over(status: HandoffStatus) -> Callable[[Handoff, Any], Handoff]:
    def change(handoff: Handoff, event: Any) -> Handoff:
        return evolve(handoff, status=status, reason=event.reason or handoff.reason, position=None)

    return change


_CHANGES: Final[dict[type[Event], Callable[[Handoff, Any], Handoff]]] = {
    PolyAgentTriggeredHandoff: lambda _, __: Handoff(status=HandoffStatus.TRIGGERED),
    HandoffAccepted: lambda handoff, event: evolve(
        handoff, status=HandoffStatus.ACCEPTED, queue_name=event.queue_name or handoff.queue_name
    ),
    HandoffQueueStatus: _queued,
    ClientHandoffRequired: lambda _, event: Handoff(
        status=HandoffStatus.CLIENT_REQUIRED, reason=event.reason, queue_name=event.queue_name, route=event.route
    ),
    HandoffFailed: _over(HandoffStatus.FAILED),
    HandoffTimeout: _over(HandoffStatus.TIMED_OUT),
    LiveAgentJoined: lambda handoff, event: evolve(
        handoff, status=HandoffStatus.LIVE, agent=event.agent, position=None
    ),
    LiveAgentLeft: lambda handoff, _: evolve(handoff, status=HandoffStatus.ENDED),
}


def advance(handoff: Handoff, event: Event) -> Handoff:
    """Return the handoff after ``event``; the same object where the event does not concern it."""
    change = _CHANGES.get(type(event))
    return handoff if change is None else change(handoff, event)
