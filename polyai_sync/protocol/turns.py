"""What ends an ``ask``, a ``stream`` and a ``next_message`` (`api.md`, the table of that name).

A `Turn` is one question and its answer; at most one is active in a session, the others wait in line. A `Waiter` is any
other call that waits. Both are told what happens by the conversation and keep the result until their caller looks.
"""

from __future__ import annotations

import copy
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Final

from polyai_sync.errors import (
    AuthenticationError,
    DeliveryError,
    PolyAIError,
    ReplyTimeoutError,
    SessionEndedError,
    SessionNotFoundError,
)
from polyai_sync.messages import Handoff, Message, Reply

if TYPE_CHECKING:
    from polyai_sync.protocol.deliveries import Sent

__all__ = ["Lines", "Turn", "Waiter", "ended_error", "fresh"]

HANDOFF_QUIET: Final = 1.0
"""Seconds without a message after which a handoff ends a turn."""


class Waiter:
    """A call that waits, and that an error may concern.

    Attributes:
        since: When it began to wait: an error of before is none of its business.
        error: The error that ends it.
    """

    __slots__ = ("done_at", "error", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.error: PolyAIError | None = None
        self.done_at = 0

    def fail(self, error: PolyAIError, position: int) -> None:
        """End the wait with ``error``."""
        if self.error is None:
            self.error = error
            self.done_at = position


class _Phase(Enum):
    IN_LINE = "in line"
    ASKED = "asked"
    ANSWERING = "answering"
    DONE = "done"


class Turn(Waiter):
    """One question and its answer.

    Args:
        since: When the call began.
        settle: Seconds of quiet that gather further messages.
        deadline: When its time is up; ``None`` = never.

    Attributes:
        reply: The answer, once there is one.
    """

    __slots__ = (
        "_after",
        "_collected",
        "_floor",
        "_flow",
        "_handoff",
        "_open",
        "_phase",
        "_quiet_until",
        "deadline",
        "reply",
        "sent",
        "settle",
    )

    def __init__(self, since: float, *, settle: float, deadline: float | None) -> None:
        super().__init__(since)
        self.settle = settle
        self.deadline = deadline
        self.sent: Sent | None = None
        self.reply: Reply | None = None
        self._phase = _Phase.IN_LINE
        self._floor = 0
        self._after: int | None = None
        self._handoff: Handoff | None = None
        self._quiet_until: float | None = None
        self._collected: dict[int, Message] = {}  # by birth
        self._open: set[int] = set()  # births of the streams that began in this turn and still grow
        self._flow = _Flow()

    # --- what its caller sees ---

    @property
    def pieces(self) -> deque[str]:
        """Text to yield, for a stream; the caller takes it from the left."""
        return self._flow.pieces

    @property
    def done(self) -> bool:
        """Has it a reply or an error?"""
        return self._phase is _Phase.DONE

    @property
    def active(self) -> bool:
        """Is it this turn's turn?"""
        return self._phase in {_Phase.ASKED, _Phase.ANSWERING}

    @property
    def received(self) -> bool:
        """Is the receipt in?"""
        return self._phase is _Phase.ANSWERING

    @property
    def holds_reply(self) -> bool:
        """Is there a whole message already, and only quiet awaited?"""
        return self._phase is _Phase.ANSWERING and bool(self._collected)

    def due(self) -> float | None:
        """When `tick` will have something to do."""
        if self._phase is _Phase.DONE:
            return None
        times = [time for time in (self.deadline, None if self._open else self._quiet_until) if time is not None]
        return min(times, default=None)

    # --- what the conversation tells it ---

    def asked(self, sent: Sent) -> None:
        """The question is on its way."""
        self.sent = sent
        self._phase = _Phase.ASKED

    def receipt(self, floor: int, sequence: int | None) -> None:
        """The question arrived.

        Args:
            floor: What was born at or before it is no answer …
            sequence: … unless its sequence is above this one, the receipt's: an answer may overtake it.
        """
        if self._phase is _Phase.ASKED:
            self._phase = _Phase.ANSWERING
            self._floor = floor
            self._after = sequence

    def concerns(self, born: int, sequence: int | None) -> bool:
        """Is a message that was born at ``born``, and began with ``sequence``, part of the answer?"""
        if self._phase is not _Phase.ANSWERING:
            return False
        overtook = sequence is not None and self._after is not None and sequence > self._after
        return born > self._floor or overtook

    def activity(self, now: float) -> None:
        """The agent does something: it is not quiet."""
        if self._quiet_until is not None:
            self._quiet_until = max(self._quiet_until, now + self.settle)

    def text(self, born: int, text: str, now: float) -> None:
        """A stream of this turn grew by ``text``."""
        self._open.add(born)
        self.activity(now)
        self._flow.add(born, text)

    def message(self, message: Message, born: int, position: int, now: float, *, final: bool = True) -> None:
        """A message of this turn is finished; not ``final``: it was cut off by one that follows at once."""
        self._open.discard(born)
        self._flow.finish(born, message.text)
        self._collected[born] = message
        if final:
            self._quiet_until = now + self.settle
            if self.settle <= 0:
                self._finish(position)

    def replaced(self, message: Message, born: int) -> None:
        """A message that was finished has another text now."""
        if born in self._collected and not self.done:
            self._collected[born] = message

    def handoff(self, handoff: Handoff, *, begins: bool, now: float) -> None:
        """The handoff changed."""
        if self._phase is not _Phase.ANSWERING:
            return
        self._handoff = handoff
        if begins:
            self._quiet_until = max(self._quiet_until or 0.0, now + max(self.settle, HANDOFF_QUIET))

    def fail(self, error: PolyAIError, position: int) -> None:
        """End with an error."""
        if not self.done:
            super().fail(error, position)
            self._phase = _Phase.DONE

    def close(self, error: PolyAIError, position: int) -> None:
        """The connection is over for us: a whole reply is returned, else ``error`` is raised."""
        if self.holds_reply:
            self._finish(position)
        else:
            self.fail(fresh(error), position)

    def end(self, error: PolyAIError, position: int) -> None:
        """The session ended; what came of the answer is the reply, even a message that was cut off."""
        if self.done:
            return
        if self._phase is _Phase.ANSWERING and self._collected:
            self._finish(position, ended=True)
        else:
            self.fail(error, position)

    def tick(self, now: float, position: int) -> None:
        """Time has passed."""
        if self.done:
            return
        out_of_time = self.deadline is not None and now >= self.deadline
        quiet = self._quiet_until is not None and now >= self._quiet_until and not self._open
        if self._phase is _Phase.ANSWERING and (self._collected or quiet) and (quiet or out_of_time):
            self._finish(position)
        elif out_of_time and self._phase is _Phase.IN_LINE:
            text = "The message was not sent: earlier questions were still being answered"
            self.fail(DeliveryError(text, outcome="not_received", surface="client"), position)
        elif out_of_time:
            self.fail(ReplyTimeoutError("No complete reply came in time", surface="client"), position)

    def give_back(self) -> list[Message]:
        """The messages that the caller will never see, because the turn failed."""
        messages, self._collected = tuple(self._collected.values()), {}
        return [message for message in messages if message.complete] if self.reply is None else []

    # --- inside ---

    def _finish(self, position: int, *, ended: bool = False) -> None:
        self.reply = Reply(messages=tuple(self._collected.values()), handoff=self._handoff, ended=ended)
        self._phase = _Phase.DONE
        self.done_at = position


class _Flow:
    """Texts of several messages as one: in the order they began, one after the other, a blank line in between."""

    __slots__ = ("_finished", "_said", "_waiting", "pieces")

    def __init__(self) -> None:
        self.pieces: deque[str] = deque()
        self._waiting: dict[int, list[str]] = {}  # what each message has yet to say, first message first
        self._said: dict[int, list[str]] = {}
        self._finished: set[int] = set()

    def add(self, born: int, text: str) -> None:
        """The message born at ``born`` goes on with ``text``."""
        self._waiting.setdefault(born, []).append(text)
        self._pump()

    def finish(self, born: int, whole: str) -> None:
        """It is over, and ``whole`` is all of its text. What of it was said is not said again."""
        waiting = self._waiting.setdefault(born, [])
        said = "".join((*self._said.get(born, ()), *waiting))
        if whole.startswith(said):
            waiting.append(whole[len(said) :])
        self._finished.add(born)
        self._pump()

    def _pump(self) -> None:
        while self._waiting:
            born = next(iter(self._waiting))
            if text := "".join(self._waiting[born]):
                if self._said and born not in self._said:
                    self.pieces.append("\n\n")
                self.pieces.append(text)
                self._said.setdefault(born, []).append(text)
                self._waiting[born] = []
            if born not in self._finished:
                return
            del self._waiting[born]


class Lines:
    """Who waits: turns in order of arrival, and the other calls."""

    def __init__(self) -> None:
        self._turns: deque[Turn] = deque()
        self._waiters: list[Waiter] = []

    @property
    def active(self) -> Turn | None:
        """The turn that is being served, if any."""
        return self._turns[0] if self._turns and self._turns[0].active else None

    def join(self, turn: Turn, *, first: bool = False) -> None:
        """Stand in line; a question that is asked again goes to its head."""
        if first:
            self.settle()
            self._turns.insert(1 if self.active else 0, turn)
        else:
            self._turns.append(turn)

    def is_next(self, turn: Turn) -> bool:
        """Is everybody before it served?"""
        self.settle()
        return bool(self._turns) and self._turns[0] is turn

    def leave(self, turn: Turn) -> None:
        """Leave the line, served or not."""
        if turn in self._turns:
            self._turns.remove(turn)

    def settle(self) -> None:
        """Let go of turns that are done, whether or not their callers have looked."""
        while self._turns and self._turns[0].done:
            self._turns.popleft()

    def all_turns(self) -> tuple[Turn, ...]:
        """Everybody in line."""
        return tuple(self._turns)

    def wait(self, waiter: Waiter) -> None:
        """Note a call that waits."""
        self._waiters.append(waiter)

    def stop_waiting(self, waiter: Waiter) -> None:
        """It does not wait any longer."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def fail_waiters(self, error: PolyAIError, position: int) -> None:
        """Nothing more will come: everybody who waits is told."""
        for waiter in self._waiters:
            waiter.fail(fresh(error), position)

    def longest_waiting(self, before: float | None = None) -> Waiter | None:
        """The call that has waited longest (and since before ``before``)."""
        calls: list[Waiter] = [waiter for waiter in self._waiters if waiter.error is None]
        if self.active is not None:
            calls.append(self.active)
        if before is not None:
            calls = [call for call in calls if call.since < before]
        return min(calls, key=lambda call: call.since, default=None)


def fresh(error: PolyAIError) -> PolyAIError:
    """A copy to raise: one exception shared by threads would gather the tracebacks of all of them."""
    twin = copy.copy(error)
    twin.__cause__ = error.__cause__
    return twin


def ended_error(reason: str, cause: PolyAIError | None) -> PolyAIError:
    """What a call on an ended session raises: the cause where the token or the session was refused."""
    if isinstance(cause, (SessionNotFoundError, AuthenticationError)):
        return fresh(cause)
    return SessionEndedError(f"The session has ended ({reason})", reason=reason, surface="client")
