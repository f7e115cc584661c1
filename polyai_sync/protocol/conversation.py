"""The conversation as a state machine: what arrives goes in, what must be done comes out.

Nothing here knows a clock, a socket, a thread, a logger or a hook. Time is passed in (monotonic seconds), and what
follows is left for the session to take:

- ``take_events()``: new events, for the session's log;
- ``notices``: which hooks are to be told, in order;
- ``take_frame()``: what is to be written;
- ``questions``: messages of which a policy has to say whether they are sent again.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from polyai_sync.catalog import make_error, match_system_message
from polyai_sync.errors import AuthenticationError, DeliveryError, PolyAIError, ProtocolError, SessionNotFoundError
from polyai_sync.events import (
    Event,
    Heartbeat,
    LiveAgentMessage,
    PolyAgentJoined,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    RequestPolyAgentJoin,
    SessionEnd,
    SessionStart,
    SystemMessage,
    SystemMessageLevel,
    UserEndSession,
    UserMessage,
)
from polyai_sync.hooks import ClientEvent, RateLimit
from polyai_sync.messages import Capabilities, Delivery, EndReason, Message, SessionStatus
from polyai_sync.protocol.codec import decode, encode
from polyai_sync.protocol.deliveries import Deliveries, Progress, Sent
from polyai_sync.protocol.joining import Joining
from polyai_sync.protocol.ledger import Ledger
from polyai_sync.protocol.liveness import Attempts, Liveness, TypingThrottle
from polyai_sync.protocol.notices import Notices
from polyai_sync.protocol.replay import Replay
from polyai_sync.protocol.scene import Scene
from polyai_sync.protocol.turns import Turn, ended_error, fresh

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from polyai_sync.state import SessionState

__all__ = ["Conversation"]

_END_WORDS: Final[Mapping[str | None, EndReason]] = {
    None: EndReason.UNKNOWN,
    "": EndReason.UNKNOWN,
    "user_ended": EndReason.USER_END,
    "agent_ended": EndReason.NATURAL_END,
    "normal": EndReason.NATURAL_END,
    **{reason.value: reason for reason in EndReason},
}
"""The words of ``SESSION_END``, the documented and the older ones (`protocol.md` §6)."""

_AGENTS_WORDS: Final = (PolyAgentMessage, PolyAgentMessageChunk, LiveAgentMessage)


class Conversation:
    """One session's conversation, from the first socket to the end.

    Args:
        identity: A random word that tells this client's heartbeats from those of the session's other connections.
        join: Ask the agent to join where nobody has.
        receipt_limit: Seconds to wait for a message's receipt while connected; ``None`` = for ever.
        greeting_limit: Seconds from a join to the agent's greeting; ``None`` = for ever.
        state: Where a resumed session was left; ``None`` for one that this client has just created.
        history: Of a resumed session: rebuild what was before ``state`` from the server's journal.
    """

    def __init__(
        self,
        *,
        identity: str,
        join: bool = True,
        receipt_limit: float | None = 15.0,
        greeting_limit: float | None = 30.0,
        state: SessionState | None = None,
        history: bool = False,
    ) -> None:
        self.notices = Notices()
        self.scene = Scene(self.notices, state)
        self.lines = self.scene.lines
        self.attempts = Attempts()
        self.questions: deque[Sent] = deque()
        """Messages proved not received: `resend` or `keep_back` each."""
        self.capabilities: Capabilities | None = state.capabilities if state else None
        self.end_reason: str | None = None
        self.end_error: PolyAIError | None = None
        self.failure: PolyAIError | None = None
        self.closed = False

        self._identity = identity
        self._fresh = state is None
        self._started = state is not None and (state.cursor > 0 or state.capabilities is not None)
        self._old_until = state.cursor if state and history else 0
        self._ledger = Ledger(state.cursor if state and not history else 0)
        self._joining = Joining(wanted=join, joined=state.joined if state else False, greeting_limit=greeting_limit)
        self._deliveries = Deliveries(receipt_limit)
        self._replay = Replay()
        self._liveness = Liveness()
        self._typing = TypingThrottle()
        self._events: list[Event] = []
        self._control: deque[ClientEvent] = deque()
        self._connections = 0
        self._online = False
        self._dropped_at = float("-inf")
        self._beats = 0
        self._holes_until = 0
        self._ending = False
        self._end_deadline: float | None = None
        self._end_written = False
        self._end_echoed = False
        if self.capabilities is not None:
            self._liveness.set_interval(self.capabilities.heartbeat_interval_seconds)

    # --- what can be seen ---

    @property
    def status(self) -> SessionStatus:
        """Where the session stands."""
        if self.end_reason is not None:
            return SessionStatus.ENDED
        if self.closed:
            return SessionStatus.CLOSED
        if self.failure is not None:
            return SessionStatus.FAILED
        if self._online and self._replay.over:
            return SessionStatus.OPEN
        first = self._connections == 0 or (self._connections == 1 and self._online)
        return SessionStatus.CONNECTING if first else SessionStatus.RECONNECTING

    @property
    def over(self) -> bool:
        """Can nothing more come: ended, closed or given up?"""
        return self.end_reason is not None or self.closed or self.failure is not None

    @property
    def cursor(self) -> int:
        """The highest sequence up to which everything was handed on."""
        return max(self._old_until, self._ledger.cursor)

    @property
    def cursor_to_ask(self) -> int:
        """The cursor for the next handshake."""
        return self._ledger.cursor

    @property
    def joined(self) -> bool:
        """Has the agent joined, now or before?"""
        return self._joining.joined

    @property
    def ready(self) -> bool:
        """Is the history in, and the agent there where it was asked for?"""
        return self.status is SessionStatus.OPEN and (self._joining.joined or not self._joining.awaited)

    @property
    def times_joined(self) -> int:
        """How often the agent has joined."""
        return self._joining.times

    @property
    def join_received(self) -> bool:
        """Has the server the last request to join?"""
        return self._joining.received

    @property
    def greeting_expected(self) -> bool:
        """Has an agent that was asked to join yet to greet? No question is sent meanwhile."""
        return self._joining.greeting_expected

    @property
    def quiet(self) -> bool:
        """Is nothing under way, so that the socket can be renewed unnoticed?"""
        idle = not self._deliveries and not self.scene.streaming and self.lines.active is None and not self._ending
        return idle and self.ready

    @property
    def messages(self) -> tuple[Message, ...]:
        """The transcript."""
        return self.scene.messages(self._deliveries.unsettled)

    @property
    def max_message_size(self) -> int:
        """The largest frame that the server takes, in bytes."""
        return (self.capabilities or Capabilities()).max_message_size_bytes

    def outcome(self) -> PolyAIError | None:
        """What a call on a session that is over raises; ``None`` while it is not over."""
        if self.end_reason is not None:
            return ended_error(self.end_reason, self.end_error)
        if self.closed:
            return make_error("client.session_closed")
        return None if self.failure is None else fresh(self.failure)

    def take_events(self) -> list[Event]:
        """New events since the last call."""
        events, self._events = self._events, []
        return events

    # --- the socket ---

    def opened(self, now: float) -> None:
        """The server answered 101."""
        fresh = self._fresh and self._connections == 0
        self._connections += 1
        self._online = True
        self.failure = None
        self._holes_until = self._ledger.highest
        self.attempts.opened(now)
        self._liveness.opened(now)
        self._replay.opened(now, fresh=fresh, started=self._started, echoes=self._liveness.echoes)
        self._beat()

    def heard(self, now: float) -> None:
        """Bytes came, whatever they were."""
        self._liveness.heard(now)

    def receive(self, text: str, now: float) -> None:
        """A text frame came."""
        self._liveness.heard(now)
        if self.over:
            return
        decoded = decode(text, replayed=not self._fresh or self._connections > 1)
        if decoded.batch:
            self._replay.batch(now)
        for event in decoded.events:
            self._take(event, now, live=not decoded.batch)
        if decoded.sequence is not None:
            self._ledger.fill(decoded.sequence)
        if decoded.problems:
            self.report(ProtocolError(_joined_up(decoded.problems), surface="websocket"))
        self._settle(now)

    def dropped(self, now: float, close_code: int | None = None) -> None:
        """The socket is gone. Codes 1000 and 4001 are the end; after every other one the session lives on."""
        self._offline(now)
        if self.over:
            return
        if close_code == 1000:
            self.end(EndReason.USER_END if self._end_echoed else EndReason.CLOSED_BY_SERVER, now)
        elif close_code == 4001:
            error = make_error("connect.session_not_found", surface="websocket")
            self.report(error)
            self.end(EndReason.SESSION_NOT_FOUND, now, error)

    def refused(self, error: PolyAIError, now: float) -> None:
        """A handshake was refused. 404: the session is gone; 401 and 403: its token is, and so is the session."""
        if isinstance(error, SessionNotFoundError):
            self.end(EndReason.SESSION_NOT_FOUND, now, error)
        elif isinstance(error, AuthenticationError):
            self.end(EndReason.AUTHENTICATION_FAILED, now, error)

    def given_up(self, error: PolyAIError, now: float) -> None:
        """No more attempts are made; the session may live on at the server."""
        if self.over:
            return
        self._offline(now)
        self._fail_deliveries(cause=error)
        self.failure = error
        self._release(error)

    def close(self, now: float) -> None:
        """The connection is closed on this side."""
        if self.over:
            return
        self._offline(now)
        self.closed = True
        self._fail_deliveries(quietly=True)
        self._release(make_error("client.session_closed"))

    def end(self, reason: str, now: float, error: PolyAIError | None = None) -> None:
        """The session is over at the server."""
        if self.end_reason is not None:
            return
        self.scene.cut_off(now)
        self._offline(now)
        self.end_reason = reason
        self.end_error = error
        self._fail_deliveries(quietly=True)
        self.notices.tell("on_session_end", reason, error)
        position = self.notices.position
        for turn in self.lines.all_turns():
            turn.end(ended_error(reason, error), position)
            self._return_unread(turn)
        self.lines.fail_waiters(ended_error(reason, error), position)

    # --- what the user does ---

    def message(self, text: str, custom: Mapping[str, str], client_event_id: str) -> Sent:
        """Make a message ready to be sent; `send` sends it.

        Raises:
            MessageTooLargeError: Its frame is over the limit.
            ValueError: The ``client_event_id`` was used before, or the text cannot be encoded.
        """
        if self._deliveries.is_used(client_event_id):
            raise ValueError(f"The client_event_id {client_event_id!r} was used for another message of this session.")
        custom = {**custom, "client_event_id": client_event_id}
        event = ClientEvent(type=UserMessage.wire_type, payload={"text": text}, custom=custom)
        frame = encode(event)
        size = len(frame.encode())
        if size > self.max_message_size:
            raise make_error(
                "client.message_too_large",
                f"The message takes {size:,} bytes encoded, and the server takes {self.max_message_size:,}",
                size=size,
                limit=self.max_message_size,
            )
        message = Message(
            role="user", text=text, custom=custom, client_event_id=client_event_id, delivery=Delivery.PENDING
        )
        return Sent(event, frame, message)

    def send(self, sent: Sent) -> None:
        """Send a message; it is written once nothing older is in doubt."""
        if self._typing.stop():
            self._control.append(_typing_event("TYPING_STATE_STOPPED"))
        self._deliveries.add(sent)

    def give_up(self, sent: Sent, error: PolyAIError | None = None) -> DeliveryError:
        """Nobody waits for the receipt any longer: settle ``sent`` with what is known."""
        never_written = sent.progress is Progress.QUEUED
        return self._fail(sent, "not_received" if never_written else "unknown", error)

    def resend(self, sent: Sent) -> None:
        """The policy has no objection: the replay proved that ``sent`` was not received, so it cannot double."""
        if sent.progress is Progress.ASKED:
            sent.progress = Progress.QUEUED

    def keep_back(self, sent: Sent) -> None:
        """The policy says no."""
        if sent.progress is Progress.ASKED:
            self._fail(sent, "not_received")

    def type(self, now: float, *, active: bool) -> None:
        """The user types, or stopped."""
        if not self._online:
            return
        if active and self._typing.type(now):
            self._control.append(_typing_event("TYPING_STATE_STARTED"))
        elif not active and self._typing.stop():
            self._control.append(_typing_event("TYPING_STATE_STOPPED"))

    def leave(self, turn: Turn) -> None:
        """The turn's caller does not wait any longer; whole messages it will not see are for `next_message`."""
        self.lines.leave(turn)
        self.scene.inbox.extendleft(reversed(turn.give_back()))

    def ask_to_join(self, now: float) -> None:
        """Ask the agent to join, whatever was asked before."""
        self._joining.ask_again()
        self._settle(now)

    def ask_to_end(self, deadline: float | None) -> None:
        """Ask the server to end the conversation, now or as soon as a socket is open.

        Unconfirmed at the ``deadline``, it is over here all the same.
        """
        self._ending = True
        self._end_deadline = deadline
        self.failure = None

    @property
    def ending(self) -> bool:
        """Was the end asked for, and has it not come?"""
        return self._ending and self.end_reason is None

    def take_frame(self, now: float) -> tuple[ClientEvent, str] | None:
        """The next frame to write, if there is one. From here on it counts as written."""
        if not self._online or self.end_reason is not None:
            return None
        if self._control:
            event = self._control.popleft()
            if event.type == Heartbeat.wire_type:
                self._liveness.sent(now)
            elif event.type == RequestPolyAgentJoin.wire_type:
                self._joining.writing()
            return event, encode(event)
        sent = self._deliveries.next_to_write()
        if sent is not None:
            self._deliveries.writing(sent, now)
            return sent.event, sent.frame
        if self._ending and not self._end_written:
            self._end_written = True
            event = ClientEvent(type=UserEndSession.wire_type)
            return event, encode(event)
        return None

    # --- time ---

    def due(self) -> float | None:
        """When `tick` will next have something to do; ``None`` = never."""
        times = [
            self._end_deadline,
            self.scene.due(),
            self._joining.due(),
            *(turn.due() for turn in self.lines.all_turns()),
        ]
        if self._online:
            times += [
                self._liveness.beat_due(),
                self._liveness.dead_at(),
                self._replay.due(),
                self._typing.due(),
                self._deliveries.due(),
            ]
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self.over:
            return
        if self._end_deadline is not None and now >= self._end_deadline:
            self.end(EndReason.UNCONFIRMED, now)
            return
        self.scene.expire(now)
        self._joining.tick(now)
        if self._online:
            self._tick_connection(now)
        for turn in self.lines.all_turns():
            self._tick_turn(turn, now)
        self._settle(now)

    def is_dead(self, now: float) -> bool:
        """Has nothing come for so long that the connection must be dead, whatever TCP says?"""
        dead_at = self._liveness.dead_at()
        return self._online and dead_at is not None and now >= dead_at

    def _tick_connection(self, now: float) -> None:
        if (beat := self._liveness.beat_due()) is not None and now >= beat:
            self._beat()
        if unprobed := self._deliveries.unprobed(now):
            for sent in unprobed:
                sent.probed = True
            self._beat()
        for sent in self._deliveries.overdue(now):
            if self._liveness.last_answered > sent.written_at:
                self.notices.tell("on_rate_limit", RateLimit(surface="websocket", certain=False))
            self._fail(sent, "unknown")
        if (stop := self._typing.due()) is not None and now >= stop and self._typing.stop():
            self._control.append(_typing_event("TYPING_STATE_STOPPED"))
        self._replay.tick(now)

    def _tick_turn(self, turn: Turn, now: float) -> None:
        if turn.deadline is not None and now >= turn.deadline and turn.sent is not None and not turn.received:
            self.give_up(turn.sent)
        turn.tick(now, self.notices.position)
        self._return_unread(turn)

    # --- events ---

    def _take(self, event: Event, now: float, *, live: bool) -> None:
        if self.over:
            return  # nothing follows the end
        if isinstance(event, Heartbeat):
            self._heartbeat(event)
            return
        if not self._ledger.admit(event):
            return
        old = event.sequence is not None and event.sequence <= self._old_until
        self._events.append(event)
        if not old:
            self.notices.tell("on_event", event)
        self.scene.take(event, now, old=old)
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, now, old)
        if isinstance(event, _AGENTS_WORDS):
            self._joining.spoke()
            if live:
                self.attempts.spoke()
        if live and not isinstance(event, SessionStart):
            self._replay.live_event()

    def _heartbeat(self, event: Heartbeat) -> None:
        self._ledger.admit(event)
        tag = event.custom.get("client_event_id", self._identity)
        if tag.partition(":")[0] == self._identity:  # else another connection's, which proves nothing about ours
            self._liveness.answered()
            self._replay.answered()

    def _session_start(self, event: SessionStart, _: float, old: bool) -> None:
        first = not self._started
        self._started = True
        self.capabilities = event.capabilities
        self._liveness.set_interval(event.capabilities.heartbeat_interval_seconds)
        if first and not old:
            self.notices.tell("on_session_start", event.capabilities)
        self._replay.session_started()

    def _agent_joined(self, _: PolyAgentJoined, now: float, __: bool) -> None:
        self._joining.agent_joined(now)

    def _join_echo(self, _: RequestPolyAgentJoin, __: float, ___: bool) -> None:
        self._joining.echoed()

    def _end_echo(self, _: UserEndSession, __: float, ___: bool) -> None:
        self._end_echoed = True

    def _session_end(self, event: SessionEnd, now: float, _: bool) -> None:
        self.end(_END_WORDS.get(event.reason, event.reason or EndReason.UNKNOWN), now)

    def _user_message(self, event: UserMessage, now: float, old: bool) -> None:
        sent = self._deliveries.echo(event)
        if sent is not None:
            message = self._deliveries.deliver(sent, event)
            self.notices.tell("on_delivery", message)
            self.scene.user_message(message)
            if (turn := self.lines.active) is not None and turn.sent is sent:
                self.scene.receipt(turn, event.sequence, now)
            return
        client_event_id = event.custom.get("client_event_id")
        if client_event_id:
            if self._deliveries.is_used(client_event_id):
                return  # a second copy of the same message is still the same message
            self._deliveries.note_used(client_event_id)
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
        self.scene.user_message(message, old=old)

    def _system_message(self, event: SystemMessage, now: float, old: bool) -> None:
        if event.level is not SystemMessageLevel.ERROR or old:
            return
        client_event_id = event.custom.get("client_event_id")
        entry = match_system_message(event.message)
        error = make_error(entry, event.message, surface="websocket", event=event, client_event_id=client_event_id)
        self.report(error)
        if entry.code == "agent.start_failed":
            self._joining.failed()
        if entry.code == "agent.stream_failed":
            self.scene.cut_off(now)
        if entry.code == "session.not_found":
            self.end(EndReason.SESSION_NOT_FOUND, now, error)
        elif client_event_id is not None:
            self._blame(client_event_id, error)
        else:
            before = self._dropped_at if event.replayed else None
            # In the first history of a resumed session every error is older than the call that waits.
            first_history = event.replayed and self._connections == 1
            waiter = None if first_history else self.lines.longest_waiting(before)
            if waiter is not None:
                waiter.fail(error, self.notices.position)
                self._return_unread(waiter)

    def _blame(self, client_event_id: str, error: PolyAIError) -> None:
        """``error`` was caused by the message of this id: whoever waits for that one is told, and nobody else."""
        position = self.notices.position
        turn = self.lines.active
        if turn is not None and turn.sent is not None and turn.sent.client_event_id == client_event_id:
            turn.fail(error, position)
            self._return_unread(turn)
        for sent in self._deliveries:
            if sent.client_event_id == client_event_id:
                sent.refused_by = error

    def _return_unread(self, waiter: Any) -> None:
        if isinstance(waiter, Turn) and waiter.done:
            self.scene.inbox.extendleft(reversed(waiter.give_back()))

    # --- consequences ---

    def report(self, error: PolyAIError) -> None:
        """An error was met; each is told once."""
        if error.reported:
            return
        error.reported = True
        self.notices.tell("on_error", error)
        if error.status == 429:
            limit = RateLimit(surface=error.surface, retry_after=error.retry_after, certain=True, error=error)
            self.notices.tell("on_rate_limit", limit)

    def _settle(self, now: float) -> None:
        """Draw the conclusions: what the history proved, and what has to be asked."""
        if self.over or not self._online:
            return
        if self._replay.proved and self._holes_until:
            self._ledger.accept_holes(self._holes_until)
            self._holes_until = 0
        if self._replay.proved:
            for sent in self._deliveries.in_doubt():
                sent.progress = Progress.ASKED
                self.questions.append(sent)
        if self._replay.over and not self._ending and self._joining.to_be_asked():
            self._joining.queue(now)
            self._control.append(ClientEvent(type=RequestPolyAgentJoin.wire_type))

    def _beat(self) -> None:
        self._beats += 1
        custom = {"client_event_id": f"{self._identity}:{self._beats}"}
        self._control.append(ClientEvent(type=Heartbeat.wire_type, custom=custom))

    def _offline(self, now: float) -> None:
        if self._online:
            self._online = False
            self._dropped_at = now
            self.attempts.dropped(now)
        self._control.clear()
        self.questions.clear()
        self._deliveries.dropped()
        self._joining.dropped()
        self._liveness.closed()
        self._replay.closed()
        self._typing.forget()
        self._end_written = False

    def _fail(self, sent: Sent, outcome: str, cause: PolyAIError | None = None) -> DeliveryError:
        text = {
            "not_received": "The message was not received, and can be sent again",
            "unknown": "No receipt came for the message; the agent may have got it",
        }[outcome]
        error = make_error(
            "client.not_delivered",
            text,
            outcome=outcome,
            client_event_id=sent.client_event_id,
            surface="websocket",
        )
        error.__cause__ = cause
        assert isinstance(error, DeliveryError)  # noqa: S101 - the table says so
        if not sent.settled:
            message = self._deliveries.fail(sent, error)
            self.report(error)
            self.notices.tell("on_delivery", message)
            if (turn := self.lines.active) is not None and turn.sent is sent:
                turn.fail(error, self.notices.position)
        return error

    def _fail_deliveries(self, cause: PolyAIError | None = None, *, quietly: bool = False) -> None:
        """No receipt will come; ``quietly``: what every waiting call is told says it all."""
        for sent in self._deliveries:
            if quietly:
                self.notices.tell("on_delivery", self._deliveries.fail(sent, None))
            else:
                self.give_up(sent, cause)

    def _release(self, error: PolyAIError) -> None:
        position = self.notices.position
        for turn in self.lines.all_turns():
            turn.close(error, position)
            self._return_unread(turn)
        self.lines.fail_waiters(error, position)


def _typing_event(state: str) -> ClientEvent:
    return ClientEvent(type="EVENT_TYPE_USER_TYPING", payload={"state": state})


def _joined_up(problems: tuple[str, ...]) -> str:
    more = len(problems) - 1
    return problems[0] + (f" ({more} more of the kind.)" if more else "")


_HANDLERS: Final[dict[type[Event], Callable[[Any, Any, float, bool], None]]] = {
    SessionStart: Conversation._session_start,
    SessionEnd: Conversation._session_end,
    PolyAgentJoined: Conversation._agent_joined,
    RequestPolyAgentJoin: Conversation._join_echo,
    UserEndSession: Conversation._end_echo,
    UserMessage: Conversation._user_message,
    SystemMessage: Conversation._system_message,
}
