"""What each type of event means for the session; what it tells of the conversation's content is the scene's.

One function a type, called with the conversation, the event, the time, and whether the event is *old*: handed on by an
earlier client, and taken in only to rebuild what was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from polyai_sync.events import (
    Event,
    PolyAgentJoined,
    RequestPolyAgentJoin,
    SessionEnd,
    SessionStart,
    SystemMessage,
    SystemMessageLevel,
    UserEndSession,
    UserMessage,
)
from polyai_sync.messages import EndReason, Message
from polyai_sync.protocol.blame import error_of, waiter_for
from polyai_sync.protocol.ending import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from polyai_sync.protocol.conversation import Conversation

__all__ = ["REACTIONS"]


def _session_start(conversation: Conversation, event: SessionStart, _: float, old: bool) -> None:
    first, conversation.started = not conversation.started, True
    conversation.capabilities = event.capabilities
    conversation.connection.set_interval(event.capabilities.heartbeat_interval_seconds)
    if first and not old:
        conversation.notices.tell("on_session_start", event.capabilities)
    conversation.connection.session_started()


def _session_end(conversation: Conversation, event: SessionEnd, now: float, _: bool) -> None:
    conversation.end(reason_of(event.reason), now)


def _agent_joined(conversation: Conversation, _: PolyAgentJoined, now: float, __: bool) -> None:
    conversation.joining.agent_joined(now)


def _join_echo(conversation: Conversation, _: RequestPolyAgentJoin, __: float, ___: bool) -> None:
    conversation.joining.echoed()


def _end_echo(conversation: Conversation, _: UserEndSession, __: float, ___: bool) -> None:
    conversation.end_request.echoed()


def _user_message(conversation: Conversation, event: UserMessage, now: float, old: bool) -> None:
    deliveries, scene = conversation.deliveries, conversation.scene
    sent = None if old else deliveries.echo(event)
    if sent is not None:
        scene.user_message(conversation.sending.delivered(sent, event))
        turn = conversation.lines.active
        if turn is not None and turn.sent is sent:
            scene.receipt(turn, event.sequence, now)
        return
    client_event_id = event.custom.get("client_event_id")
    if client_event_id:
        if deliveries.is_used(client_event_id):
            return  # a second copy of the same message is still the same message
        deliveries.note_used(client_event_id)
    message = Message(
        role="user",
        message_id=event.message_id,
        text=event.text,
        sequence=event.sequence,
        timestamp=event.timestamp,
        custom=event.custom,
        client_event_id=client_event_id,
        replayed=event.replayed,
    )
    scene.user_message(message, old=old)


def _system_message(conversation: Conversation, event: SystemMessage, now: float, old: bool) -> None:
    if event.level is not SystemMessageLevel.ERROR or old:
        return
    error = error_of(event)
    conversation.report(error)
    # It happened before this client came back, and the server has taken the session up since.
    stale = event.replayed and conversation.connection.number == 1
    if error.code == "agent.start_failed":
        conversation.joining.failed(before_us=stale)
    elif error.code == "agent.stream_failed":
        conversation.scene.cut_off(now, before=event.sequence)
    elif error.code == "session.not_found" and not stale:
        conversation.end(EndReason.SESSION_NOT_FOUND, now, error)
        return
    if error.client_event_id is not None:
        conversation.sending.refuse(error.client_event_id, error)
    waiter = waiter_for(event, error, conversation.lines, conversation.connection.dropped_at)
    if waiter is not None:
        conversation.fail(waiter, error)


REACTIONS: Final[Mapping[type[Event], Callable[[Conversation, Any, float, bool], None]]] = {
    SessionStart: _session_start,
    SessionEnd: _session_end,
    PolyAgentJoined: _agent_joined,
    RequestPolyAgentJoin: _join_echo,
    UserEndSession: _end_echo,
    UserMessage: _user_message,
    SystemMessage: _system_message,
}
