"""The conversation as a state machine: what arrives goes in, what must be done comes out.

Nothing here knows a clock, a socket, a thread, a logger or a hook. Time is passed in (monotonic seconds), and what
follows is left for the session to take:

- ``take_events()``: new events, for the session's log;
- ``notices``: which hooks are to be told, in order;
- ``take_frame()``: what is to be written;
- ``questions``: messages of which a policy has to say whether they are sent again.

What is known of each matter is kept by the part that is named after it; here they are told of one another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from polyai_sync.catalog import make_error
from polyai_sync.errors import AuthenticationError, PolyAIError, ProtocolError, SessionNotFoundError
from polyai_sync.events import Heartbeat, LiveAgentMessage, PolyAgentMessage, PolyAgentMessageChunk, SessionStart
from polyai_sync.messages import Capabilities, EndReason, Message, SessionStatus
from polyai_sync.protocol.codec import decode, decode_alike
from polyai_sync.protocol.connection import Connection
from polyai_sync.protocol.deliveries import Deliveries
from polyai_sync.protocol.ending import EndRequest, ended_error, fresh
from polyai_sync.protocol.joining import Joining
from polyai_sync.protocol.ledger import Ledger
from polyai_sync.protocol.lines import Lines
from polyai_sync.protocol.liveness import Liveness
from polyai_sync.protocol.notices import Notices
from polyai_sync.protocol.outbox import Outbox
from polyai_sync.protocol.reactions import REACTIONS
from polyai_sync.protocol.replay import Replay
from polyai_sync.protocol.scene import Scene
from polyai_sync.protocol.sending import Sending
from polyai_sync.protocol.times import earliest
from polyai_sync.protocol.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from polyai_sync.errors import DeliveryError
    from polyai_sync.events import Event
    from polyai_sync.hooks import ClientEvent
    from polyai_sync.protocol.deliveries import Sent
    from polyai_sync.protocol.liveness import Attempts
    from polyai_sync.protocol.turns import Waiter
    from polyai_sync.state import OpenStream, SessionState

__all__ = ["Conversation"]

_AGENTS_WORDS: Final = frozenset({PolyAgentMessage, PolyAgentMessageChunk, LiveAgentMessage})


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

    __slots__ = (
        "_agent_heard",
        "_fresh",
        "_liveness",
        "_old_streams",
        "_old_until",
        "_outbox",
        "_replay",
        "capabilities",
        "closed",
        "connection",
        "deliveries",
        "end_error",
        "end_reason",
        "end_request",
        "events",
        "failure",
        "joining",
        "ledger",
        "lines",
        "notices",
        "over",
        "scene",
        "sending",
        "started",
    )

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
        self.started = state is not None and (state.cursor > 0 or state.capabilities is not None)
        """Has ``SESSION_START`` come, now or before?"""
        self.capabilities: Capabilities | None = state.capabilities if state else None
        self.end_reason: str | None = None
        self.end_error: PolyAIError | None = None
        self.failure: PolyAIError | None = None
        self.closed = False
        self.over = False
        """Can nothing more come: ended, closed or given up?"""
        handed_on = state.cursor if state is not None and self.started else None
        self._fresh = state is None
        self._old_until = -1 if handed_on is None or not history else handed_on
        self._old_streams = state.streams if state else ()
        self.events: list[Event] = []
        """New ones, until somebody takes them."""
        self._agent_heard = False
        """Has it spoken on this connection, and since it was last asked to join?"""

        self.notices = Notices()
        self.ledger = Ledger(None if history else handed_on)
        self.lines = Lines(self.ledger)
        self.scene = Scene(self.notices, self.lines, state, history=history)
        self.joining = Joining(wanted=join, joined=state.joined if state else False, greeting_limit=greeting_limit)
        self.deliveries = Deliveries(receipt_limit)
        self.sending = Sending(self.deliveries, self.lines, self.notices)
        self.end_request = EndRequest()
        self._liveness, self._replay = Liveness(), Replay()
        self._outbox = Outbox(
            identity,
            deliveries=self.deliveries,
            end_request=self.end_request,
            joining=self.joining,
            liveness=self._liveness,
            replay=self._replay,
        )
        self.connection = Connection(self._outbox, self._liveness, self._replay)
        if self.capabilities is not None:
            self.connection.set_interval(self.capabilities.heartbeat_interval_seconds)

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
        if self.connection.online and self._replay.over:
            return SessionStatus.OPEN
        first = self.connection.number == (1 if self.connection.online else 0)
        return SessionStatus.CONNECTING if first else SessionStatus.RECONNECTING

    @property
    def cursor(self) -> int:
        """The highest sequence up to which everything was handed on."""
        return max(self._old_until, self.ledger.cursor)

    @property
    def cursor_to_ask(self) -> int:
        """The cursor for the next handshake."""
        return self.ledger.cursor

    @property
    def attempts(self) -> Attempts:
        """The count of attempts to connect."""
        return self.connection.attempts

    @property
    def questions(self) -> list[Sent]:
        """Messages proved not received: `resend` or `keep_back` each."""
        return self.sending.questions

    @property
    def streams(self) -> tuple[OpenStream, ...]:
        """What had come of messages that were growing at the cursor."""
        if self.ledger.cursor < self._old_until:  # the old part is not rebuilt yet
            return self._old_streams
        return self.scene.streams(self.cursor)

    @property
    def joined(self) -> bool:
        """Has the agent joined, now or before?"""
        return self.joining.joined

    @property
    def ready(self) -> bool:
        """Is the history in, and the agent there where it was asked for?"""
        return self.status is SessionStatus.OPEN and (self.joining.joined or not self.joining.awaited)

    @property
    def times_joined(self) -> int:
        """How often the agent has joined."""
        return self.joining.times

    @property
    def join_received(self) -> bool:
        """Has the server the last request to join?"""
        return self.joining.received

    @property
    def greeting_expected(self) -> bool:
        """Has an agent that was asked to join yet to greet? No question is sent meanwhile."""
        return self.joining.greeting_expected

    @property
    def ending(self) -> bool:
        """Was the end asked for, and has it not come?"""
        return self.end_request.made and self.end_reason is None

    @property
    def quiet(self) -> bool:
        """Is nothing under way, so that the socket can be renewed unnoticed?"""
        busy = self.deliveries or self.scene.streaming or self.lines.active is not None or self.end_request.made
        return not busy and self.ready

    @property
    def messages(self) -> tuple[Message, ...]:
        """The transcript."""
        return self.scene.messages(self.deliveries.unsettled)

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
        events, self.events = self.events, []
        return events

    # --- the socket ---

    def opened(self, now: float) -> None:
        """The server answered 101."""
        self._try_again()
        self._agent_heard = False
        self.ledger.opened()
        first = self.connection.number == 0
        resumed = first and not self._fresh and self._old_until < 0 and self.joining.joined
        self.connection.opened(now, fresh=self._fresh and first, started=self.started, awaited=not resumed)

    def heard(self, now: float) -> None:
        """Bytes came, whatever they were."""
        self.connection.heard(now)

    def receive(self, text: str, now: float) -> None:
        """A text frame came."""
        self.receive_all((text,), now)

    def receive_all(self, texts: Iterable[str], now: float) -> bool:
        """Text frames came, one behind the other: conclusions are drawn once.

        Returns:
            May a deadline have come nearer? Not where messages that grow just went on, as they do most of the time.
        """
        self._liveness.heard(now)
        if self.over:
            return True
        replayed = not self._fresh or self.connection.number > 1
        more = False
        for text in texts:
            if self.end_reason is not None:
                return True
            if (event := decode_alike(text)) is not None:
                more = self._take(event, now, live=True) or more
                continue
            events, problems, batch, sequence = decode(text, replayed=replayed)
            if batch:
                self._replay.batch(now)
                if sequence is not None:
                    self.ledger.envelope(sequence)
            for event in events:
                more = self._take(event, now, live=not batch) or more
            if problems:
                self.report(ProtocolError(_joined_up(problems), surface="websocket"))
        if more or not self._replay.over:
            self._settle(now)
            return True
        return False

    @property
    def busy(self) -> bool:
        """Is there something to write or to ask, or nothing more to come?"""
        waiting = self._outbox.control or self.deliveries.unwritten or self.sending.questions
        return bool(waiting) or self.end_request.made or self.over

    def dropped(self, now: float, close_code: int | None = None) -> None:
        """The socket is gone. Codes 1000 and 4001 are the end; after every other one the session lives on."""
        self._offline(now)
        if self.over:
            return
        if close_code == 1000:
            self.end(self.end_request.reason_for_1000, now)
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
        self.sending.fail_all(error)
        self.failure = error
        self.over = True
        self._release(error)

    def close(self, now: float) -> None:
        """The connection is closed on this side."""
        if self.over:
            return
        self._offline(now)
        self.closed = self.over = True
        self.sending.fail_all(quietly=True)
        self._release(make_error("client.session_closed"))

    def end(self, reason: str, now: float, error: PolyAIError | None = None) -> None:
        """The session is over at the server."""
        if self.end_reason is not None or self.closed:
            return
        self.scene.cut_off(now)
        self._offline(now)
        self.end_reason = reason
        self.end_error = error
        self.over = True
        self.sending.fail_all(quietly=True)
        self.notices.tell("on_session_end", reason, error)
        position = self.notices.position
        for turn in self.lines.all_turns():
            turn.end(ended_error(reason, error), position)
            self.scene.give_back(turn)
        self.lines.fail_waiters(ended_error(reason, error), position)

    # --- what the user does ---

    def message(self, text: str, custom: Mapping[str, str], client_event_id: str) -> Sent:
        """Make a message ready to be sent; `send` sends it.

        Raises:
            MessageTooLargeError: Its frame is over the limit.
            ValueError: The ``client_event_id`` was used before, or the text cannot be encoded.
        """
        return self.sending.message(text, custom, client_event_id, self.max_message_size)

    def send(self, sent: Sent) -> None:
        """Send a message; it is written once nothing older is in doubt."""
        self._outbox.stop_typing()
        self.deliveries.add(sent)

    def give_up(self, sent: Sent) -> DeliveryError | None:
        """Nobody waits for the receipt any longer: settle ``sent`` with what is known.

        Returns:
            What to raise; ``None`` where the receipt is in.
        """
        return self.sending.give_up(sent)

    def resend(self, sent: Sent) -> None:
        """The policy has no objection: the replay proved that ``sent`` was not received, so it cannot double."""
        self.sending.answer(sent, again=True)

    def keep_back(self, sent: Sent) -> None:
        """The policy says no."""
        self.sending.answer(sent, again=False)

    def type(self, now: float, *, active: bool) -> None:
        """The user types, or stopped."""
        if not self.connection.online:
            return
        if active:
            self._outbox.type(now)
        else:
            self._outbox.stop_typing()

    def leave(self, turn: Turn) -> None:
        """The turn's caller does not wait any longer; whole messages it will not see are for `next_message`."""
        self.lines.leave(turn)
        self.scene.give_back(turn)

    def ask_to_join(self, now: float) -> None:
        """Ask the agent to join, whatever was asked before."""
        self.joining.ask_again()
        self._settle(now)

    def ask_to_end(self, deadline: float | None) -> None:
        """Ask the server to end the conversation, now or as soon as a socket is open.

        Unconfirmed at the ``deadline``, it is over here all the same.
        """
        self.end_request.make(deadline)
        self._try_again()

    def take_frame(self, now: float) -> tuple[ClientEvent, str] | None:
        """The next frame to write, if there is one. From here on it counts as written."""
        return None if not self.connection.online or self.over else self._outbox.take(now)

    # --- time ---

    def due(self) -> float | None:
        """When `tick` will next have something to do; ``None`` = never."""
        if self.over:
            return None
        return earliest(
            self.end_request.deadline,
            self.scene.due(),
            self.joining.due(),
            self.deliveries.due(),
            self.connection.due(awaited=self._proof_awaited),
            *[turn.due() for turn in self.lines.all_turns()],
        )

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self.over:
            return
        if self.end_request.deadline is not None and now >= self.end_request.deadline:
            self.end(EndReason.UNCONFIRMED, now)
            return
        self.scene.expire(now)
        self.joining.tick(now)
        probe = self.sending.tick(now, answered=self._liveness.last_answered)
        self.connection.tick(now, awaited=self._proof_awaited, probe=probe)
        for turn in self.lines.all_turns():
            if turn.deadline is not None and now >= turn.deadline and turn.sent is not None and not turn.received:
                self.give_up(turn.sent)
            turn.tick(now, self.notices.position)
            if turn.done:
                self.scene.give_back(turn)
        self._settle(now)

    def is_dead(self, now: float) -> bool:
        """Has nothing come for so long that the connection must be dead, whatever TCP says?"""
        return self.connection.is_dead(now)

    @property
    def _proof_awaited(self) -> bool:
        """Does anything depend on the end of the history?"""
        return self.deliveries.doubtful > 0 or self.joining.to_be_asked()

    # --- events ---

    def _take(self, event: Event, now: float, *, live: bool) -> bool:
        """Take in an event; did more happen than that a message went on?"""
        if self.end_reason is not None:
            return True  # nothing follows the end
        kind = type(event)
        new = self.ledger.admit(event)
        if kind is Heartbeat:
            if live:
                self.connection.heartbeat(event)  # type: ignore[arg-type] # it is one
            return True
        if not new:
            return False
        old = event.sequence is not None and event.sequence <= self._old_until
        self.events.append(event)
        if not old and "on_event" not in self.notices.unheard:  # looked at here too: this is the event path
            self.notices.tell("on_event", event)
        went_on = self.scene.take(event, now, old=old)
        if went_on and self._agent_heard:
            return False
        if (react := REACTIONS.get(kind)) is not None:
            react(self, event, now, old)
        elif kind in _AGENTS_WORDS:
            if self.joining.greeting_until is not None:
                self.joining.spoke()
            if live and not self._agent_heard:
                self.attempts.spoke()
                self._agent_heard = True
        if live and not self._replay.over and kind is not SessionStart:
            self._replay.live_event()
        return not went_on

    # --- consequences ---

    def report(self, error: PolyAIError) -> None:
        """An error was met; each is told once."""
        self.notices.report(error)

    def fail(self, waiter: Waiter, error: PolyAIError) -> None:
        """A call that waits is ended by ``error``."""
        waiter.fail(error, self.notices.position)
        if isinstance(waiter, Turn):
            self.scene.give_back(waiter)

    def _settle(self, now: float) -> None:
        """Draw the conclusions from a history that is over: what is missing in it, and what has to be asked."""
        if not self._replay.proved or self.over:
            return
        if self.ledger.replayed_until > self.ledger.accepted:
            self.ledger.accept_holes()
        if self.deliveries.doubtful:
            self.sending.prove_missing()
        if not self.end_request.made and self.joining.to_be_asked():
            self._outbox.join(now)
            self._agent_heard = False

    def _try_again(self) -> None:
        self.failure = None
        self.over = self.end_reason is not None or self.closed

    def _offline(self, now: float) -> None:
        self.connection.closed(now)
        self.deliveries.dropped()
        self.joining.dropped()

    def _release(self, error: PolyAIError) -> None:
        position = self.notices.position
        for turn in self.lines.all_turns():
            turn.close(error, position)
            self.scene.give_back(turn)
        self.lines.fail_waiters(error, position)


def _joined_up(problems: tuple[str, ...]) -> str:
    more = len(problems) - 1
    return problems[0] + (f" ({more} more of the kind.)" if more else "")
