"""What the events tell: who is there, what was said, where a handoff stands."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

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
from polyai_sync.messages import Handoff, Message, Participant, Role
from polyai_sync.protocol import handoffs
from polyai_sync.protocol.streams import Stream, Streams
from polyai_sync.protocol.transcript import Transcript
from polyai_sync.protocol.turns import Lines, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from polyai_sync.protocol.notices import Notices
    from polyai_sync.state import SessionState

__all__ = ["Scene"]


class Scene:
    """The content of a conversation, apart from how it travels.

    Args:
        notices: Where plugins' news go.
        state: Where a resumed session was left.
    """

    def __init__(self, notices: Notices, state: SessionState | None = None) -> None:
        self.agent: Participant | None = state.agent if state else None
        self.live_agent: Participant | None = state.live_agent if state else None
        self.handoff: Handoff = state.handoff if state else Handoff()
        self.language: str | None = state.language if state else None
        self.lines = Lines()
        self.inbox: deque[Message] = deque()
        """Agents' complete messages that no call has returned."""
        self.births = 0
        """How many events there have been; an event's number is when its message was born."""
        self._notices = notices
        self._streams = Streams()
        self._transcript = Transcript()
        self._born: dict[tuple[str, str], tuple[int, int | None]] = {}

    @property
    def streaming(self) -> bool:
        """Does a message grow at this moment?"""
        return bool(self._streams)

    def messages(self, unsettled: Iterable[Message]) -> tuple[Message, ...]:
        """The transcript, with the messages that have no receipt yet at its end."""
        return self._transcript.view((stream.message() for stream in self._streams), unsettled)

    def take(self, event: Event, now: float, *, old: bool) -> None:
        """Take in an event; an ``old`` one rebuilds what was, and is news to nobody."""
        self.births += 1
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, now, old)
        handoff = handoffs.advance(self.handoff, event)
        if handoff != self.handoff:
            self.handoff = handoff
            if not old:
                self._notices.tell("on_handoff", handoff)
                if turn := self.lines.active:
                    turn.handoff(handoff, begins=isinstance(event, handoffs.BEGINNINGS), now=now)

    def user_message(self, message: Message, *, old: bool = False) -> None:
        """A user's message is settled, ours or another connection's."""
        self._transcript.add(message)
        if not old:
            self._notices.tell("on_message", message)

    def receipt(self, turn: Turn, sequence: int | None, now: float) -> None:
        """The question of ``turn`` arrived. What the server said after it answers it, even if it came before."""
        turn.receipt(self.births, sequence)
        overtook: list[Message] = []
        while self.inbox and turn.concerns(*self._began(self.inbox[-1])):
            overtook.append(self.inbox.pop())
        for message in reversed(overtook):
            if turn.done:
                self.inbox.append(message)
            else:
                turn.message(message, self._began(message)[0], self._notices.position, now)
        for stream in self._streams:
            if turn.concerns(stream.born, stream.began):
                turn.text(stream.born, stream.flowed, now)

    def _began(self, message: Message) -> tuple[int, int | None]:
        """When it was born, and the sequence of its first event."""
        return self._born.get((message.role, message.message_id), (0, message.sequence))

    # --- streams that end in other ways than by their last chunk ---

    def due(self) -> float | None:
        """When `expire` will have something to do."""
        return self._streams.due()

    def expire(self, now: float) -> None:
        """Finish the streams whose missing chunk did not come."""
        for stream in self._streams.expire(now):
            self._finished(stream, now)

    def cut_off(self, now: float) -> None:
        """Finish all that grows, as it is."""
        for stream in self._streams.abandon():
            self._finished(stream, now, final=False)

    # --- one handler a type ---

    def _joined(self, event: PolyAgentJoined, _: float, __: bool) -> None:
        self.agent = Participant(name=event.agent_name, avatar_url=event.agent_avatar_url)

    def _left(self, _: PolyAgentLeft, __: float, ___: bool) -> None:
        self.agent = None

    def _live_joined(self, event: LiveAgentJoined, _: float, __: bool) -> None:
        self.live_agent = event.agent

    def _live_left(self, _: LiveAgentLeft, __: float, ___: bool) -> None:
        self.live_agent = None

    def _language(self, event: LanguageChanged, _: float, __: bool) -> None:
        self.language = event.language_code or self.language

    def _activity(self, _: Event, now: float, old: bool) -> None:
        if not old and (turn := self.lines.active):
            turn.activity(now)

    def _chunk(self, event: PolyAgentMessageChunk, now: float, old: bool) -> None:
        settled = self._transcript.find("agent", event.message_id)
        if settled is not None and settled.complete and not self._streams.knows(event.message_id):
            return  # a late piece of a message that came whole
        stream, completed = self._streams.chunk(event, born=self.births, old=old, now=now)
        if completed:
            for earlier in self._streams.abandon(born_before=stream.born):
                self._finished(earlier, now, final=False)
            self._finished(stream, now)
            return
        if stream.complete:
            if settled is not None and settled.text != stream.text:  # a late piece found its place
                self._replace(settled, stream.message(), stream.born)
            return
        for surplus in self._streams.overflow():
            self._finished(surplus, now, final=False)
        if not old and (text := stream.flow()) and (turn := self._turn_of(stream)):
            turn.text(stream.born, text, now)
        elif not old:
            self._activity(event, now, old)

    def _finished(self, stream: Stream, now: float, *, final: bool = True) -> None:
        message = stream.message()
        if not stream.old and (text := stream.flow()) and (turn := self._turn_of(stream)):
            turn.text(stream.born, text, now)
        self._agents(message, (stream.born, stream.began), now, old=stream.old, final=final)

    def _turn_of(self, stream: Stream) -> Turn | None:
        """The turn that the stream answers."""
        turn = self.lines.active
        return turn if turn is not None and turn.concerns(stream.born, stream.began) else None

    def _whole(self, event: PolyAgentMessage | LiveAgentMessage, now: float, old: bool) -> None:
        role: Role = "live_agent" if isinstance(event, LiveAgentMessage) else "agent"
        known = self._transcript.find(role, event.message_id)
        stream = self._streams.replace(event.message_id) if role == "agent" else None
        began = self.births, event.sequence
        if stream is not None:
            began = stream.born, stream.began
        elif event.message_id:
            began = self._born.get((role, event.message_id), began)
        born = began[0]
        message = Message(
            role=role,
            message_id=event.message_id,
            text=event.text,
            attachments=event.attachments,
            suggestions=event.response_suggestions,
            call_actions=event.chat_call_actions,
            sequence=event.sequence,
            timestamp=event.timestamp,
            agent_name=event.agent_name,
            avatar_url=event.avatar_url,
            custom=event.custom,
            replayed=event.replayed,
        )
        if known is not None and known.complete:
            self._replace(known, message, born)
            return
        if role == "agent":
            for earlier in self._streams.abandon(born_before=born):
                self._finished(earlier, now, final=False)
        self._agents(message, began, now, old=old)

    def _agents(
        self, message: Message, began: tuple[int, int | None], now: float, *, old: bool, final: bool = True
    ) -> None:
        """A message of an agent is finished: complete, or as far as it will come.

        Args:
            message: The message.
            began: When it was born, and the sequence of its first event.
            now: Monotonic seconds.
            old: It is news to nobody.
            final: It was not cut off by one that follows at once.
        """
        self._transcript.add(message)
        if message.message_id:
            self._born[message.role, message.message_id] = began
        if old:
            return
        if message.complete:
            self._notices.tell("on_message", message)
        turn = self.lines.active
        if turn is not None and turn.concerns(*began):
            turn.message(message, began[0], self._notices.position, now, final=final)
        elif message.complete:
            self.inbox.append(message)

    def _replace(self, known: Message, message: Message, born: int) -> None:
        """The same message again, whole: it stands for what came before, and is not a second one."""
        self._transcript.add(message)
        if turn := self.lines.active:
            turn.replaced(message, born)
        for index, waiting in enumerate(self.inbox):
            if waiting is known:
                self.inbox[index] = message


_HANDLERS: Final[dict[type[Event], Callable[[Any, Any, float, bool], None]]] = {
    PolyAgentJoined: Scene._joined,
    PolyAgentLeft: Scene._left,
    PolyAgentThinking: Scene._activity,
    PolyAgentMessage: Scene._whole,
    PolyAgentMessageChunk: Scene._chunk,
    LiveAgentJoined: Scene._live_joined,
    LiveAgentTyping: Scene._activity,
    LiveAgentMessage: Scene._whole,
    LiveAgentLeft: Scene._live_left,
    LanguageChanged: Scene._language,
}
