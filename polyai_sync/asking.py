"""A question and its answer: the line to stand in, the wait, the tries (`api.md`, "What ends an ask")."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from polyai_sync.engine import Engine, Stopped
from polyai_sync.errors import ConversationNotFoundError, PolyAIError, ReplyTimeoutError
from polyai_sync.protocol.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from polyai_sync.messages import Reply
    from polyai_sync.protocol.conversation import Conversation
    from polyai_sync.session import Session
    from polyai_sync.transport.deadline import Deadline

__all__ = ["Question", "ReplyStream"]


class Question:
    """One ``ask`` or ``stream``, through all its tries.

    Args:
        session: The session.
        engine: Its engine.
        text: What to send.
        custom: Metadata to send along.
        settle: Seconds of quiet that gather further messages.
        deadline: Of the whole call.
        flows: Is the answer's text wanted while it grows?
    """

    def __init__(
        self,
        session: Session,
        engine: Engine,
        text: str,
        custom: dict[str, str],
        *,
        settle: float,
        deadline: Deadline,
        flows: bool,
    ) -> None:
        self._session = session
        self._engine = engine
        self._text = text
        self._custom = custom
        self._settle = settle
        self._deadline = deadline
        self._flows = flows
        self._tries = 0
        self.turn = self._new_turn()

    def ask(self) -> None:
        """Wait for the turn, and send.

        Raises:
            PolyAIError: The session is over, or the message cannot be sent.
            ValueError: The ``client_event_id`` was used before, or the text cannot be encoded.
        """
        turn, engine = self.turn, self._engine
        first = self._tries > 0
        self._tries += 1
        try:
            if engine.change(lambda conversation, _: self._join(conversation, turn, first=first), waits=True):
                return
            engine.wait(lambda: self._may_send(turn), self._deadline)
            engine.change(lambda conversation, _: self._send(conversation, turn), waits=True)
        except BaseException:
            self.leave()
            raise

    def _join(self, conversation: Conversation, turn: Turn, *, first: bool) -> bool:
        """Stand in line; with nobody before, send at once."""
        conversation.lines.join(turn, first=first)
        if not self._may_send(turn):
            return False
        self._send(conversation, turn)
        return True

    def wait(self) -> Reply:
        """Wait for the answer; try again where the policies say so.

        Raises:
            PolyAIError: See `api.md`.
        """
        while True:
            try:
                self._engine.wait(self._answered, self._deadline, lasting=True)
            except BaseException:
                self.leave()
                raise
            if self.turn.reply is not None:
                return self.turn.reply  # and with that it has left the line
            self.leave()
            self.try_again()

    def wait_for_text(self) -> None:
        """Wait until the turn is done, or there is text to yield."""
        pieces = self.turn.pieces
        self._engine.wait(lambda: bool(pieces) or self._answered(), self._deadline)

    def try_again(self) -> None:
        """The turn failed: ask the policies, wait, and ask the question again.

        Raises:
            PolyAIError: The turn's error, where there is no other try.
        """
        engine, turn = self._engine, self.turn
        error = turn.error or ReplyTimeoutError("No complete reply came in time")
        if engine.conversation.over or isinstance(error, ReplyTimeoutError):
            raise error
        host, session, tries = engine.services.host, self._session, self._tries
        delay = engine.ask(lambda: host.retry_delay(session, "ask", error, tries))
        remaining = self._deadline.remaining()
        if delay is None or (remaining is not None and delay >= remaining):
            raise error
        try:
            engine.pause(delay, until_ending=True)
        except Stopped:
            raise error from None
        if engine.conversation.ending:
            raise error
        if isinstance(error, ConversationNotFoundError):
            engine.change(lambda conversation, now: conversation.ask_to_join(now))
        self._custom.pop("client_event_id", None)  # another try is another message
        self.turn = self._new_turn()
        self.ask()

    def leave(self) -> None:
        """Give the turn up."""
        turn = self.turn
        self._engine.change(lambda conversation, _: conversation.leave(turn))

    def _answered(self) -> bool:
        """Is the turn done, and were the hooks told of it? Then it stays so."""
        turn = self.turn
        return turn.done and self._engine.published >= turn.done_at

    def _new_turn(self) -> Turn:
        # Woken at the reply itself an ask returns 20 µs earlier, of 180 (bench p03); a stream has its text before.
        on_reply = None if self._flows else self._engine.wake_if_told
        return Turn(
            time.monotonic(), settle=self._settle, deadline=self._deadline.at, flows=self._flows, on_reply=on_reply
        )

    def _may_send(self, turn: Turn) -> bool:
        conversation = self._engine.conversation
        return (
            conversation.over or turn.done or (conversation.lines.is_next(turn) and not conversation.greeting_expected)
        )

    def _send(self, conversation: Conversation, turn: Turn) -> None:
        if (outcome := conversation.outcome()) is not None:
            raise outcome
        if turn.done:
            return
        client_event_id = self._custom.get("client_event_id") or str(uuid.uuid4())
        sent = conversation.message(self._text, self._custom, client_event_id)
        conversation.send(sent)
        turn.asked(sent)


class ReplyStream:
    """A reply's text as it is generated: an iterator of ``str``, and a context manager.

    Messages of one turn are set apart by a blank line. Closing it early leaves the session usable. One that is left
    behind unclosed gives its turn up as soon as its reply is complete.

    Attributes:
        reply: The whole reply, once the iteration has ended; ``None`` before.
    """

    def __init__(self, engine: Engine, question: Question) -> None:
        self._engine = engine
        self._question = question
        self._closed = False
        self._yielded = False
        self.reply: Reply | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """The next piece of text.

        Raises:
            PolyAIError: As ``ask``. Once text was yielded, the question is not asked again.
        """
        question = self._question
        while not self._closed:
            turn = question.turn
            pieces = turn.pieces
            try:
                self._engine.check_may_block("ReplyStream")
                question.wait_for_text()
            except BaseException:
                self.close()
                raise
            if pieces:
                self._yielded = True
                return pieces.popleft()
            if turn.reply is not None:
                self.reply = turn.reply
                self.close()
                break
            question.leave()
            try:
                if turn.error is not None and self._yielded:
                    raise turn.error
                question.try_again()
            except PolyAIError as error:
                self._closed = True
                self._engine.report(error)
                raise
        raise StopIteration

    def close(self) -> None:
        """Stop reading. What the agent still says is a later ``next_message()``."""
        if not self._closed:
            self._closed = True
            self._question.leave()

    def __enter__(self) -> ReplyStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
