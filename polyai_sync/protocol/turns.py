"""What ends an ``ask``, a ``stream`` and a ``next_message`` (`api.md`, the table of that name).

A `Turn` is one question and its answer; at most one is active in a session, the others wait in line. A `Waiter` is any
other call that waits. Both are told what happens by the conversation and keep the result until their caller looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from polyai_sync.errors import DeliveryError, PolyAIError, ReplyTimeoutError
from polyai_sync.messages import Handoff, Message, Reply
from polyai_sync.protocol.drafts import draft_of
from polyai_sync.protocol.ending import fresh
from polyai_sync.protocol.flow import Flow
from polyai_sync.protocol.times import earliest

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from polyai_sync.protocol.deliveries import Sent

__all__ = ["Turn", "Waiter"]

_new: Final = object.__new__
_ReplyDraft: Final = draft_of(Reply)

HANDOFF_QUIET: Final = 1.0
"""Seconds without a message after which a handoff ends a turn."""

LINGER: Final = 1.0
"""Seconds for which a turn that could end waits for a stream that a later message cut short: the two may be woven into
one another, and the first go on."""


class Waiter:
    """A call that waits, and that an error may concern.

    Attributes:
        since: When it began to wait: an error of before is none of its business.
        known: The highest sequence seen by then.
        error: The error that ends it.
        done_at: The number of notices there had been by then.
    """

    __slots__ = ("done_at", "error", "known", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.known = -1
        self.error: PolyAIError | None = None
        self.done_at = 0

    def fail(self, error: PolyAIError, position: int) -> None:
        """End the wait with ``error``."""
        if self.error is None:
            self.error = error
            self.done_at = position


class Turn(Waiter):
    """One question and its answer.

    Messages are known by their birth: the number of the event that they began with.

    Args:
        since: When the call began.
        settle: Seconds of quiet that gather further messages.
        deadline: When its time is up; ``None`` = never.
        flows: Is the text wanted while it grows?
        on_reply: Called at once where there is a reply, in the midst of what follows from the event.

    Attributes:
        reply: The answer, once there is one.
        sent: The question's message, once it is on its way.
        active: Is it this turn's turn?
        received: Is the receipt in, and the answer not?
        done: Has it a reply or an error?
    """

    __slots__ = (
        "_collected",
        "_cut_short",
        "_floor",
        "_flow",
        "_handoff",
        "_on_reply",
        "_open",
        "_place",
        "_quiet_until",
        "active",
        "deadline",
        "done",
        "received",
        "reply",
        "sent",
        "settle",
    )

    def __init__(
        self,
        since: float,
        *,
        settle: float,
        deadline: float | None,
        flows: bool = True,
        on_reply: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(since)
        self._on_reply = on_reply
        self.settle = settle
        self.deadline = deadline
        self.sent: Sent | None = None
        self.reply: Reply | None = None
        self.active = self.received = self.done = False
        self._floor = 0
        self._place: int | None = None
        self._handoff: Handoff | None = None
        self._quiet_until: float | None = None
        self._collected: dict[int, Message] = {}
        self._open: set[int] = set()  # streams of this turn that grow
        self._cut_short: dict[int, float] = {}  # those that were cut short, and until when they may go on
        self._flow = Flow() if flows else None

    # --- what its caller sees ---

    @property
    def pieces(self) -> deque[str]:
        """Text to yield, for a stream; the caller takes it from the left."""
        assert self._flow is not None  # noqa: S101 - it was to be made
        return self._flow.pieces

    @property
    def holds_reply(self) -> bool:
        """Is there a whole message already, and only quiet awaited?"""
        return self.received and any(message.complete for message in self._collected.values())

    def due(self) -> float | None:
        """When `tick` will have something to do."""
        if self.done:
            return None
        return earliest(self.deadline, self._quiet_at())

    # --- what the conversation tells it ---

    def asked(self, sent: Sent) -> None:
        """The question is on its way."""
        self.sent = sent
        self.active = True

    def receipt(self, floor: int, sequence: int | None) -> None:
        """The question arrived; what stands before it, or was born at or before ``floor``, is no answer to it."""
        if self.active and not self.received:
            self.received = True
            self._floor = floor
            self._place = sequence

    def concerns(self, born: int, sequence: int | None) -> bool:
        """Is the message that was born then, and stands there, part of the answer? The server's order decides."""
        if not self.received:
            return False
        if sequence is None or self._place is None or sequence == self._place:
            return born > self._floor
        return sequence > self._place

    def asks(self, client_event_id: str) -> bool:
        """Is its question the message of this id?"""
        return self.sent is not None and self.sent.client_event_id == client_event_id

    def activity(self, now: float) -> None:
        """The agent does something: it is not quiet."""
        if self._quiet_until is not None:
            self._quiet_until = max(self._quiet_until, now + self.settle)

    def grows(self, born: int, text: str, now: float) -> None:
        """A stream of this turn grew (it may have been cut short before); ``text`` is what can be shown of it."""
        if born in self._cut_short:
            self._cut_short[born] = now + LINGER
            self._collected.pop(born, None)
        else:
            self._open.add(born)
        if text and self._flow is not None:
            self._flow.add(born, text)

    def cut_short(self, message: Message, born: int, now: float) -> None:
        """A stream of this turn is over as it is, unless it goes on."""
        self._open.discard(born)
        self._collected[born] = message
        self._cut_short[born] = now + LINGER

    def message(self, message: Message, born: int, position: int, now: float) -> bool:
        """A message is finished; is it part of the answer?"""
        sequence, place = message.sequence, self._place
        behind = self.received and sequence is not None and place is not None and sequence > place  # as nearly always
        if not behind and not self.concerns(born, sequence):
            return False
        self._open.discard(born)
        self._cut_short.pop(born, None)
        self._collected[born] = message
        self._quiet_until = now + self.settle
        if self.settle <= 0 and not self._cut_short:
            self._finish(position)
        elif self._flow is not None:
            self._flow.finish(born, message.text)
        return True

    def replaced(self, message: Message, born: int) -> None:
        """A message that was finished has another text now."""
        if born in self._collected and not self.done:
            self._collected[born] = message

    def handoff(self, handoff: Handoff, *, begins: bool, now: float) -> None:
        """The handoff changed."""
        if not self.received:
            return
        self._handoff = handoff
        if begins:
            self._quiet_until = max(self._quiet_until or 0.0, now + max(self.settle, HANDOFF_QUIET))

    def fail(self, error: PolyAIError, position: int) -> None:
        """End with an error."""
        if not self.done:
            super().fail(error, position)
            self.active = self.received = False
            self.done = True

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
        if self.received and self._collected:
            self._finish(position, ended=True)
        else:
            self.fail(error, position)

    def tick(self, now: float, position: int) -> None:
        """Time has passed."""
        if self.done:
            return
        out_of_time = self.deadline is not None and now >= self.deadline
        quiet_at = self._quiet_at()
        quiet = quiet_at is not None and now >= quiet_at
        if self.received and (quiet or (out_of_time and self._collected)):
            self._finish(position)
        elif out_of_time and not self.active:
            text = "The message was not sent: earlier questions were still being answered"
            self.fail(DeliveryError(text, outcome="not_received", surface="client"), position)
        elif out_of_time:
            self.fail(ReplyTimeoutError("No complete reply came in time", surface="client"), position)

    def give_back(self) -> list[tuple[int, Message]]:
        """The whole messages that the caller will never see, because the turn failed; each with its birth."""
        if self.reply is not None:
            return []
        collected, self._collected = self._collected, {}
        return [(born, message) for born, message in collected.items() if message.complete]

    # --- inside ---

    def _quiet_at(self) -> float | None:
        """When it has been quiet for long enough."""
        if self._quiet_until is None or self._open:
            return None
        return max((self._quiet_until, *self._cut_short.values()))

    def _finish(self, position: int, *, ended: bool = False) -> None:
        collected = self._collected
        if len(collected) > 1:
            collected = {born: collected[born] for born in sorted(collected)}
        if (flow := self._flow) is not None:
            for born in {*self._open, *self._cut_short} - collected.keys():
                flow.leave_out(born)  # what comes of these is a message of its own
            for born, message in collected.items():
                flow.finish(born, message.text)
        reply: Any = _new(_ReplyDraft)
        reply.messages = tuple(collected.values())
        reply.handoff = self._handoff
        reply.ended = ended
        reply.__class__ = Reply
        self.reply = reply
        self.active = self.received = False
        self.done_at = position
        self.done = True
        if (on_reply := self._on_reply) is not None:
            self._on_reply = None
            on_reply()
