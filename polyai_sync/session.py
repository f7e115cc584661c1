"""`Session`: one conversation, for any number of threads."""

from __future__ import annotations

import time
import uuid
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from polyai_sync.arrival import Arrival
from polyai_sync.asking import Question, ReplyStream
from polyai_sync.calls import UNSET, Timeout, deadline_of, reported, total, valid_custom, valid_seconds, valid_text
from polyai_sync.engine import Engine, Services
from polyai_sync.errors import (
    PolyAIError,
    ReplyTimeoutError,
    WaitTimeoutError,
)
from polyai_sync.event_iterator import EventIterator
from polyai_sync.life import Life
from polyai_sync.messages import (
    Capabilities,
    Delivery,
    EndReason,
    Handoff,
    Message,
    Participant,
    Reply,
    SessionStatus,
    Suggestion,
)
from polyai_sync.protocol.turns import Waiter
from polyai_sync.state import SessionState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from polyai_sync.config import Secret
    from polyai_sync.events import Event
    from polyai_sync.protocol.conversation import Conversation
    from polyai_sync.protocol.deliveries import Sent
    from polyai_sync.transport.deadline import Deadline

__all__ = ["Session"]

T = TypeVar("T")


class Session:
    """One conversation. Any thread may call it; make one with ``client.start_session()`` or ``resume_session()``.

    Every blocking call takes ``timeout``: seconds for the whole call, ``None`` for ever; left out, it is the sum of the
    limits of the call's phases (see `Timeouts`). Ctrl-C ends any of them at once.

    As a context manager it closes the connection at the end of the block. That does not end the conversation: only
    `end` does.
    """

    def __init__(
        self,
        services: Services,
        conversation: Conversation,
        *,
        streaming: bool,
        identity: tuple[str, Secret] | None,
        created_at: datetime | None,
        left: Callable[[Engine], None],
    ) -> None:
        self._timeouts = services.settings.timeouts
        self._base_url = services.settings.base_url
        self._created_at = created_at or datetime.now(timezone.utc)
        self._engine = Engine(services, conversation, self, streaming=streaming, identity=identity)
        self._life = Life(self._engine, left)

    def __repr__(self) -> str:
        return f"<Session {self.session_id or '(new)'} {self.status}>"

    # --- looking ---

    @property
    def session_id(self) -> str:
        """The server's id of the session."""
        return self._engine.session_id or ""

    @property
    def status(self) -> SessionStatus:
        """Where the session stands."""
        return self._look(lambda conversation: conversation.status)

    @property
    def capabilities(self) -> Capabilities:
        """What the server told at the start; the defaults where it has not yet."""
        return self._look(lambda conversation: conversation.capabilities) or Capabilities()

    @property
    def agent(self) -> Participant | None:
        """The agent, while it takes part."""
        return self._look(lambda conversation: conversation.scene.agent)

    @property
    def live_agent(self) -> Participant | None:
        """The person who took over, while one takes part."""
        return self._look(lambda conversation: conversation.scene.live_agent)

    @property
    def language(self) -> str | None:
        """The conversation's language (BCP 47), where the server said it."""
        return self._look(lambda conversation: conversation.scene.language)

    @property
    def handoff(self) -> Handoff:
        """How far a handoff has come; its status is ``NONE`` where there was none."""
        return self._look(lambda conversation: conversation.scene.handoff)

    @property
    def end_reason(self) -> str | None:
        """Why the session ended, a value of `EndReason` or the server's own word; ``None`` while it has not."""
        return self._look(lambda conversation: conversation.end_reason)

    @property
    def error(self) -> PolyAIError | None:
        """What ended or failed the session, where an error did."""
        return self._look(lambda conversation: conversation.end_error or conversation.failure)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The transcript: settled messages by sequence, then one that grows, then sends without a receipt."""
        return self._look(lambda conversation: conversation.messages)

    @property
    def state(self) -> SessionState:
        """All that ``client.resume_session`` needs, at any time, also after `close`. It holds the access token."""
        token = self._engine.access_token

        def read(conversation: Conversation) -> SessionState:
            scene = conversation.scene
            return SessionState(
                session_id=self.session_id,
                access_token=token.reveal() if token else "",
                base_url=self._base_url,
                cursor=conversation.cursor,
                capabilities=conversation.capabilities,
                joined=conversation.joined,
                agent=scene.agent,
                live_agent=scene.live_agent,
                handoff=scene.handoff,
                language=scene.language,
                streaming=self._engine.streaming,
                streams=conversation.streams,
                created_at=self._created_at,
                updated_at=datetime.now(timezone.utc),
            )

        return self._look(read)

    # --- sending ---

    @reported
    def send(
        self, text: str, *, custom: Mapping[str, str] | None = None, wait: bool = True, timeout: Timeout = UNSET
    ) -> Message:
        """Send one message of the user.

        Args:
            text: Sent as given.
            custom: Metadata to send along; a ``client_event_id`` in it is used as the message's own.
            wait: Return once the receipt is in; else at once, with ``delivery`` ``PENDING``.
            timeout: Seconds for the receipt; left out, ``Timeouts.delivery``.

        Raises:
            DeliveryError: No receipt came; ``outcome`` says what is known.
            MessageTooLargeError: Its frame is over the server's limit; nothing was sent.
            SessionError: The session has ended or was closed.
            ConnectionLostError: The connection was given up.
            ValueError: Blank text, or a ``client_event_id`` that was used before.
        """
        text, metadata = valid_text(text), valid_custom(custom)
        deadline = deadline_of(timeout, self._timeouts.delivery)
        if wait:
            self._engine.check_may_block("send(wait=True)")

        def put(conversation: Conversation, _: float) -> Sent:
            self._check_usable(conversation)
            client_event_id = metadata.get("client_event_id") or str(uuid.uuid4())
            sent = conversation.message(text, metadata, client_event_id)
            conversation.send(sent)
            return sent

        sent = self._engine.change(put)
        if not wait:
            return sent.message
        conversation, engine = self._engine.conversation, self._engine
        engine.wait(
            lambda: (sent.settled or sent.refused_by is not None or conversation.over) and self._engine.told, deadline
        )
        if sent.message.delivery is Delivery.DELIVERED:
            return sent.message
        if sent.error is not None:
            raise sent.error
        if sent.refused_by is not None:
            raise sent.refused_by
        with engine.lock:
            self._check_usable(conversation)
        error = engine.change(lambda conversation, _: conversation.give_up(sent))
        if error is None:  # the receipt came in the meantime
            return sent.message
        raise error

    @reported
    def ask(
        self, text: str, *, custom: Mapping[str, str] | None = None, settle: float = 0.0, timeout: Timeout = UNSET
    ) -> Reply:
        """Send one message and wait for the whole answer.

        Several threads may ask: they are served one after the other, in order of arrival.

        Args:
            text: Sent as given.
            custom: Metadata to send along.
            settle: Seconds of quiet that gather further messages of the same turn. Nothing on the wire marks a turn's
                end, so 0 returns with the first complete message; later ones are the next `next_message`.
            timeout: Left out, ``Timeouts.delivery`` + ``Timeouts.reply``.

        Raises:
            AgentError, HandoffError, SessionError, SystemMessageError: The server answered with an error.
            DeliveryError: No receipt came for the message.
            ReplyTimeoutError: No complete reply in time; a late answer is the next `next_message`.
            ConnectionLostError: The connection was given up.
            MessageTooLargeError: The message's frame is over the server's limit; nothing was sent.
            ValueError: Blank text, or a ``client_event_id`` that was used before.
        """
        question = self._question("ask", text, custom, settle, timeout)
        question.ask()
        return question.wait()

    @reported
    def stream(self, text: str, *, custom: Mapping[str, str] | None = None, timeout: Timeout = UNSET) -> ReplyStream:
        """Send one message, and iterate over the answer's text as it is generated.

        Arguments and errors as for `ask`; errors come from the iteration, once the message is on its way.
        """
        question = self._question("stream", text, custom, 0.0, timeout)
        question.ask()
        return ReplyStream(self._engine, question)

    @reported
    def choose(
        self,
        suggestion: Suggestion,
        *,
        custom: Mapping[str, str] | None = None,
        settle: float = 0.0,
        timeout: Timeout = UNSET,
    ) -> Reply:
        """Pick one of the agent's suggestions: `ask` with its ``message_text``."""
        if not isinstance(suggestion, Suggestion):
            raise TypeError(f"suggestion must be a Suggestion, not {type(suggestion).__name__}")
        return self.ask(suggestion.message_text, custom=custom, settle=settle, timeout=timeout)

    @reported
    def typing(self, active: bool = True) -> None:
        """Tell that the user types, or stopped. Call it at each key: it is sent at most once in 3 s.

        It stops by itself after 5 s, and with a `send`. Without a connection nothing is sent.
        """

        def put(conversation: Conversation, now: float) -> None:
            self._check_usable(conversation)
            conversation.type(now, active=bool(active))

        self._engine.change(put)

    @reported
    def join(self, timeout: Timeout = UNSET) -> None:
        """Ask the agent to join again, after it left or failed to start.

        Args:
            timeout: Left out, ``Timeouts.ready``.

        Raises:
            ReadyTimeoutError: It did not join in time; the connection stays.
            AgentError: It could not start.
        """
        self._engine.check_may_block("join")
        deadline = deadline_of(timeout, self._timeouts.ready)
        arrival = Arrival(self, self._engine)

        def put(conversation: Conversation, now: float) -> int:
            self._check_usable(conversation)
            conversation.ask_to_join(now)
            return conversation.times_joined

        def joined(conversation: Conversation) -> bool:
            there = conversation.scene.agent is not None and conversation.join_received
            return conversation.times_joined > before or there

        try:
            before = self._engine.change(put)
            arrival.wait(deadline, joined)
        finally:
            arrival.leave()

    @reported
    def end(self, *, wait: bool = True, timeout: Timeout = UNSET) -> str | None:
        """End the conversation politely.

        A connection that dropped or was given up is reopened for it once. Confirmed or not, the session is ``ENDED``
        here afterwards, and no reconnect brings it back.

        Args:
            wait: Wait for the server's confirmation.
            timeout: Left out, ``Timeouts.close``.

        Returns:
            The reason, at once where it had ended before; ``None`` where no confirmation came in time (the server then
            ends it by itself later), or none was waited for.

        Raises:
            SessionClosedError: The connection was closed here.
        """
        deadline = deadline_of(timeout, self._timeouts.close)
        if wait and self.end_reason is None:
            self._engine.check_may_block("end(wait=True)")

        def put(conversation: Conversation, now: float) -> bool:
            if conversation.end_reason is not None:
                return False
            if conversation.closed:
                self._check_usable(conversation)
            remaining = deadline.remaining()
            conversation.ask_to_end(None if remaining is None else now + remaining)
            return True

        if self._engine.change(put):
            self._engine.revive(self._life.revive)
            if not wait:
                return None
            conversation = self._engine.conversation
            self._engine.wait(lambda: conversation.over and self._engine.told, deadline)
            self._engine.change(lambda conversation, now: conversation.tick(now))
        with self._engine.lock:
            reason = self._engine.conversation.end_reason
            if reason is None:
                self._check_usable(self._engine.conversation)
        return None if reason == EndReason.UNCONFIRMED else reason

    # --- receiving ---

    @reported
    def next_message(self, timeout: Timeout = UNSET) -> Message:
        """The next complete message of an agent that no call has returned yet.

        Args:
            timeout: Left out, ``Timeouts.reply``.

        Raises:
            ReplyTimeoutError: None came in time.
            SessionEndedError: The session has ended, and every message was returned.
            PolyAIError: An error of the server that concerned no other call.
        """
        self._engine.check_may_block("next_message")
        deadline = deadline_of(timeout, self._timeouts.reply)
        waiter = Waiter(time.monotonic())
        found: list[Message] = []

        def ready() -> bool:
            conversation = self._engine.conversation
            if not self._engine.told:
                return False
            if conversation.scene.inbox and not found:
                found.append(conversation.scene.inbox.popleft())
            return bool(found) or waiter.error is not None or conversation.over

        self._engine.change(lambda conversation, _: conversation.lines.wait(waiter))
        try:
            self._engine.wait(ready, deadline)
        finally:
            self._engine.change(lambda conversation, _: conversation.lines.stop_waiting(waiter))
        if found:
            return found[0]
        if waiter.error is not None:
            raise waiter.error
        with self._engine.lock:
            self._check_usable(self._engine.conversation)
        raise ReplyTimeoutError("No message of the agent came in time", surface="client")

    def events(self, *, replay: bool = False, timeout: float | None = None) -> Iterator[Event]:
        """Every event once, in order, from this call on; any number of iterators at once.

        Batches come flattened, heartbeat echoes not at all. The iteration ends when the session does.

        Args:
            replay: Begin with the first event that is known.
            timeout: Seconds to wait for each event.

        Raises:
            WaitTimeoutError: No event came in time; the iterator can go on.
            LaggedError: The iterator fell out of the window that is kept (``Client(event_window=…)``), and has ended.
            ConnectionLostError: The connection was given up.
        """
        deadline_of(timeout, None)
        with self._engine.lock:
            log = self._engine.log
            return EventIterator(self._engine, log.start if replay else log.end, timeout)

    @reported
    def wait_ended(self, timeout: Timeout = UNSET) -> str:
        """Wait until the session has ended; returns the reason.

        Args:
            timeout: Left out, there is none.

        Raises:
            WaitTimeoutError: It has not ended in time.
            SessionClosedError: The connection was closed here.
            ConnectionLostError: The connection was given up.
        """
        deadline = deadline_of(timeout, None)
        if self.end_reason is None:
            self._engine.check_may_block("wait_ended")
        conversation = self._engine.conversation
        self._engine.wait(lambda: conversation.over and self._engine.told, deadline)
        with self._engine.lock:
            if conversation.end_reason is not None:
                return conversation.end_reason
            self._check_usable(conversation)
        raise WaitTimeoutError("The session has not ended in time", surface="client")

    # --- closing ---

    def close(self) -> None:
        """Close the connection and join the session's thread (from a hook: without joining).

        The conversation lives on at the server; `state` stays usable. Idempotent; returns within ``Timeouts.close``.
        """
        self._engine.close(self._timeouts.close)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- starting, for Client ---

    def _open(self, *, greeting: bool, deadline: Deadline, phases: bool) -> None:
        """Have it opened, and wait until the session is ready (and the agent has greeted).

        Args:
            greeting: Wait for the greeting as well, at most ``Timeouts.greeting``.
            deadline: Of the whole call.
            phases: The call has no time-out of its own: ``Timeouts.ready`` counts.
        """
        engine = self._engine
        arrival = Arrival(self, engine)
        try:
            engine.open(partial(self._life.live, deadline))
        except PolyAIError as error:
            engine.report(error)
            self._life.leave()
            raise
        try:
            arrival.wait(deadline, lambda _: engine.connected)
            ready = deadline.within(self._timeouts.ready) if phases else deadline
            arrival.wait(ready, lambda conversation: conversation.ready and engine.settled)
            if greeting:
                arrival.wait_for_greeting(deadline.within(self._timeouts.greeting))
        except BaseException as error:
            if isinstance(error, PolyAIError):
                engine.report(error)
            engine.close(0.2)  # the call is over: a thread that is busy ends by itself
            raise
        finally:
            arrival.leave()

    # --- inside ---

    def _look(self, read: Callable[[Conversation], T]) -> T:
        with self._engine.lock:
            return read(self._engine.conversation)

    def _check_usable(self, conversation: Conversation) -> None:
        if (outcome := conversation.outcome()) is not None:
            raise outcome

    def _question(
        self, call: str, text: str, custom: Mapping[str, str] | None, settle: float, timeout: Timeout
    ) -> Question:
        self._engine.check_may_block(call)
        default = total(self._timeouts.delivery, self._timeouts.reply)
        deadline = deadline_of(timeout, default)
        return Question(
            self,
            self._engine,
            valid_text(text),
            valid_custom(custom),
            settle=valid_seconds("settle", settle),
            deadline=deadline,
            flows=call == "stream",
        )
