"""Errors that the server reports in the conversation: what they are, and whom they concern (`errors.md`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from polyai_sync.catalog import make_error, match_system_message

if TYPE_CHECKING:
    from polyai_sync.errors import PolyAIError
    from polyai_sync.events import SystemMessage
    from polyai_sync.protocol.lines import Lines
    from polyai_sync.protocol.turns import Waiter

__all__ = ["error_of", "is_refusal", "waiter_for"]

_REFUSALS: Final = "event."
"""What the codes of refused events begin with: the server did not take what was sent."""


def error_of(event: SystemMessage) -> PolyAIError:
    """The error that a system message of level error stands for."""
    entry = match_system_message(event.message)
    client_event_id = event.custom.get("client_event_id")
    return make_error(entry, event.message, surface="websocket", event=event, client_event_id=client_event_id)


def is_refusal(error: PolyAIError) -> bool:
    """Does it say that what was sent was not taken?"""
    return error.code.startswith(_REFUSALS)


def waiter_for(event: SystemMessage, error: PolyAIError, lines: Lines, dropped_at: float) -> Waiter | None:
    """The call that ``error`` ends, if any.

    One that carries the id of a message concerns whoever waits for that message, and nobody else; one that carries
    none concerns the call that has waited longest.

    Args:
        event: The system message.
        error: What it says.
        lines: Who waits.
        dropped_at: When the connection before this one went away.
    """
    if error.client_event_id is None:
        return lines.longest_waiting(event, dropped_at)
    turn = lines.active
    return turn if turn is not None and turn.asks(error.client_event_id) else None
