"""What the events tell: who is there, what was said, where a handoff stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from polyai_sync.events import (
    Event,
    LanguageChanged,
    LiveAgentJoined,
    LiveAgentLeft,
    LiveAgentMessage,
    LiveAgentTyping,
    PolyAgentJoined,
    PolyAgentLeft,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    PolyAgentThinking,
)
from polyai_sync.messages import Delivery, Handoff, Message, Participant, Role
from polyai_sync.protocol import handoffs
from polyai_sync.protocol.drafts import draft_of
from polyai_sync.protocol.inbox import Inbox
from polyai_sync.protocol.streams import Growth, Stream, Streams
from polyai_sync.protocol.transcript import Place, Transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from polyai_sync.protocol.lines import Lines
    from polyai_sync.protocol.notices import Notices
    from polyai_sync.protocol.turns import Turn
    from polyai_sync.state import OpenStream, SessionState

__all__ = ["Scene"]

_NO_HANDOFF: Final = Handoff()
"""One for all who have none: 104 bytes a session (bench p05)."""


class Scene:
    """The content of a conversation, apart from how it travels.

    An *old* event is one that an earlier client handed on. It rebuilds what was said, and is news to nobody.

    Args:
        notices: Where plugins' news go.
        lines: Who waits for an answer.
        state: Where a resumed session was left.
        history: It is rebuilt from its beginning.
    """

    __slots__ = (
        "_births",
        "_lines",
        "_notices",
        "_streams",
        "_transcript",
        "agent",
        "handoff",
        "inbox",
        "language",
        "live_agent",
    )

    def __init__(self, notices: Notices, lines: Lines, state: SessionState | None = None, *, history: bool) -> None:
        self.agent: Participant | None = state.agent if state else None
        self.live_agent: Participant | None = state.live_agent if state else None
        self.handoff: Handoff = state.handoff if state else _NO_HANDOFF
        self.language: str | None = state.language if state else None
        self.inbox = Inbox()
        self._lines = lines
        self._notices = notices
        self._births = 0
        self._streams = Streams(state.streams if state and not history else ())
        self._transcript = Transcript()

    @property
    def streaming(self) -> bool:
        """Does a message grow at this moment?"""
        return bool(self._streams)

    def streams(self, cursor: int) -> tuple[OpenStream, ...]:
        """What had come of messages that were growing at ``cursor``, for a session's state."""
        return self._streams.keep(cursor)

    def messages(self, unsettled: Iterable[Message]) -> tuple[Message, ...]:
        """The transcript, with the messages that have no receipt yet at its end."""
        return self._transcript.view((stream.message() for stream in self._streams), unsettled)

    def take(self, event: Event, now: float, *, old: bool) -> bool:
        """Take in an event; was it just the next piece of a message that grows?"""
        self._births += 1
        kind = type(event)
        if kind is PolyAgentMessageChunk:
            stream = self._streams.follow(event, old=old)  # type: ignore[arg-type] # it is one
            if stream is not None:
                if self._lines.active is not None:
                    self._grows(stream, now)
                return True
        if (say := _WORDS.get(kind)) is not None:
            say(self, event, now, old)
        elif not old:
            if (change := _CHANGES.get(kind)) is not None:
                change(self, event)
            elif kind in _ACTIVITY and (turn := self._lines.active) is not None:
                turn.activity(now)
            self._advance_handoff(event, now)
        return False

    def user_message(self, message: Message, *, old: bool = False) -> None:
        """A user's message is settled, ours or another connection's; one whose id is known is no second message."""
        if self._transcript.find("user", message.message_id) is not None:
            return
        self._transcript.add(message, self._births)
        if not old:
            self._notices.tell("on_message", message)

    def receipt(self, turn: Turn, sequence: int | None, now: float) -> None:
        """The question of ``turn`` arrived. Its answer may have overtaken the receipt."""
        turn.receipt(self._births, sequence)
        if sequence is None:
            return
        for born, message in self.inbox.take_behind(sequence):
            if not turn.message(message, born, self._notices.position, now):
                self.inbox.put(born, message)
        for stream in self._streams:
            self._grows(stream, now)

    def give_back(self, turn: Turn) -> None:
        """The turn is over; whole messages that its caller will not see are for `next_message`."""
        for born, message in turn.give_back():
            self.inbox.put(born, message)

    # --- streams that end in other ways than by their last chunk ---

    def due(self) -> float | None:
        """When `expire` will have something to do."""
        return self._streams.due()

    def expire(self, now: float) -> None:
        """Finish the streams whose missing chunk did not come."""
        for stream in self._streams.expire(now):
            self._finished(stream, now)

    def cut_off(self, now: float, *, before: int | None = None) -> None:
        """Finish all that grows (only what stands before the sequence ``before``), as it is."""
        for stream in self._streams.abandon(placed_before=before):
            self._cut_short(stream, now)

    # --- who is there ---

    def _joined(self, event: PolyAgentJoined) -> None:
        self.agent = Participant(name=event.agent_name, avatar_url=event.agent_avatar_url)

    def _left(self, _: PolyAgentLeft) -> None:
        self.agent = None

    def _live_joined(self, event: LiveAgentJoined) -> None:
        self.live_agent = event.agent

    def _live_left(self, _: LiveAgentLeft) -> None:
        self.live_agent = None

    def _language(self, event: LanguageChanged) -> None:
        self.language = event.language_code or self.language

    def _advance_handoff(self, event: Event, now: float) -> None:
        handoff = handoffs.advance(self.handoff, event)
        if handoff is self.handoff or handoff == self.handoff:
            return
        self.handoff = handoff
        self._notices.tell("on_handoff", handoff)
        if (turn := self._lines.active) is not None:
            turn.handoff(handoff, begins=isinstance(event, handoffs.BEGINNINGS), now=now)

    # --- what is said ---

    def _chunk(self, event: PolyAgentMessageChunk, now: float, old: bool) -> None:
        place = self._transcript.find("agent", event.message_id)
        if place is not None and place.message.complete:
            self._transcript.began(place, event.sequence)
            if not self._streams.knows(event.message_id):
                return  # a late piece of a message that came whole
        stream, growth = self._streams.chunk(event, born=self._births, old=old, now=now)
        if growth is Growth.GREW:
            if place is not None:
                self._transcript.remove(place)  # it had been cut short, and goes on after all
            for surplus in self._streams.overflow():
                self._cut_short(surplus, now)
            self._grows(stream, now)
        elif growth is Growth.WHOLE:
            self._overtake(stream.born, now)
            self._finished(stream, now)
        elif growth is Growth.MENDED and place is not None:
            self._replaced(place, stream.message())

    def _whole(self, event: PolyAgentMessage | LiveAgentMessage, now: float, old: bool) -> None:
        role: Role = "live_agent" if type(event) is LiveAgentMessage else "agent"
        message: Any = _new(_MessageDraft)
        message.role = role
        message.message_id = event.message_id
        message.text = event.text
        message.attachments = event.attachments
        message.suggestions = event.response_suggestions
        message.call_actions = event.chat_call_actions
        message.complete = True
        message.sequence = event.sequence
        message.timestamp = event.timestamp
        message.agent_name = event.agent_name
        message.avatar_url = event.avatar_url
        message.custom = event.custom if event.metadata.get("custom") else {}  # most have none (bench p03)
        message.client_event_id = None
        message.delivery = Delivery.DELIVERED
        message.replayed = event.replayed
        message.__class__ = Message
        place = self._transcript.find(role, event.message_id)
        stream = None
        if role == "agent" and (self._streams.growing or self._streams.finished):
            stream = self._streams.replace(event.message_id, event.sequence)
        if place is not None and place.message.complete:
            self._replaced(place, message)
            return
        born = self._births
        if place is not None:
            born = place.born
        elif stream is not None:
            born = stream.born
            if stream.sequence is not None and (message.sequence is None or stream.sequence < message.sequence):
                message = evolve(message, sequence=stream.sequence)
        if role == "agent" and self._streams.growing:
            self._overtake(born, now)
        if place is None:
            self._settled(message, born, now, old=old)  # first: somebody may wait for it (bench p03)
            self._transcript.add(message, born)
        else:
            message = self._transcript.put(message, born).message
            self._settled(message, born, now, old=old)

    def _grows(self, stream: Stream, now: float) -> None:
        turn = self._lines.active
        if turn is None or stream.old:
            return
        turn.activity(now)
        if turn.concerns(stream.born, stream.sequence):
            turn.grows(stream.born, stream.flow(), now)

    def _overtake(self, born: int, now: float) -> None:
        """A message of the agent is complete: those that began before it are over, unless they go on."""
        for earlier in self._streams.abandon(born_before=born):
            self._cut_short(earlier, now)

    def _cut_short(self, stream: Stream, now: float) -> None:
        message = self._transcript.put(stream.message(), stream.born).message
        if (turn := self._turn_of(stream.born, stream.sequence)) is not None:
            turn.cut_short(message, stream.born, now)

    def _finished(self, stream: Stream, now: float) -> None:
        message = self._transcript.put(stream.message(), stream.born).message
        self._settled(message, stream.born, now, old=stream.old)

    def _settled(self, message: Message, born: int, now: float, *, old: bool) -> None:
        """A message of an agent is finished: complete, or as far as it will come."""
        if old:
            return
        if message.complete and "on_message" not in self._notices.unheard:  # looked at here too: the event path
            self._notices.tell("on_message", message)
        turn = self._lines.active
        if turn is not None and turn.message(message, born, self._notices.position, now):
            return
        if message.complete:
            self.inbox.put(born, message)

    def _replaced(self, place: Place, message: Message) -> None:
        """The same message again, with another text: it stands for what came before, and is not a second one."""
        message = self._transcript.put(message, place.born).message
        if (turn := self._lines.active) is not None:
            turn.replaced(message, place.born)
        self.inbox.replace(place.born, message)

    def _turn_of(self, born: int, sequence: int | None) -> Turn | None:
        """The turn that a message belongs to, if it is an answer."""
        turn = self._lines.active
        return turn if turn is not None and turn.concerns(born, sequence) else None


_new: Final = object.__new__
_MessageDraft: Final = draft_of(Message)

_WORDS: Final[Mapping[type[Event], Callable[[Any, Any, float, bool], None]]] = {
    PolyAgentMessage: Scene._whole,
    PolyAgentMessageChunk: Scene._chunk,
    LiveAgentMessage: Scene._whole,
}
_CHANGES: Final[Mapping[type[Event], Callable[[Any, Any], None]]] = {
    PolyAgentJoined: Scene._joined,
    PolyAgentLeft: Scene._left,
    LiveAgentJoined: Scene._live_joined,
    LiveAgentLeft: Scene._live_left,
    LanguageChanged: Scene._language,
}
_ACTIVITY: Final = frozenset({PolyAgentThinking, LiveAgentTyping})
