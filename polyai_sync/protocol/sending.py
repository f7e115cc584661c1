"""A user's message from the call to its settlement (`protocol.md` §4 "Echoes", §7 "Reconnecting")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from polyai_sync.catalog import make_error
from polyai_sync.errors import DeliveryError, PolyAIError
from polyai_sync.events import UserMessage
from polyai_sync.hooks import ClientEvent, RateLimit
from polyai_sync.messages import Delivery, Message
from polyai_sync.protocol.blame import is_refusal
from polyai_sync.protocol.codec import encode
from polyai_sync.protocol.deliveries import Progress, Sent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polyai_sync.protocol.deliveries import Deliveries
    from polyai_sync.protocol.lines import Lines
    from polyai_sync.protocol.notices import Notices

__all__ = ["Sending"]

_OUTCOMES: Final[Mapping[str, str]] = {
    "not_received": "The message was not received, and can be sent again",
    "unknown": "No receipt came for the message; the agent may have got it",
}


class Sending:
    """What follows for a message, and for whoever waits for it, from what happens to it.

    Args:
        deliveries: The messages without a receipt.
        lines: Who waits for an answer.
        notices: Where plugins' news go.
    """

    __slots__ = ("_deliveries", "_lines", "_notices", "questions")

    def __init__(self, deliveries: Deliveries, lines: Lines, notices: Notices) -> None:
        self.questions: list[Sent] = []
        """Messages proved not received, of which a policy has to say whether they are sent again."""
        self._deliveries = deliveries
        self._lines = lines
        self._notices = notices

    def message(self, text: str, custom: Mapping[str, str], client_event_id: str, limit: int) -> Sent:
        """Make a message ready to be sent.

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
        if size > limit:
            text = f"The message takes {size:,} bytes encoded, and the server takes {limit:,}"
            raise make_error("client.message_too_large", text, size=size, limit=limit)
        message = Message(
            role="user", text=text, custom=custom, client_event_id=client_event_id, delivery=Delivery.PENDING
        )
        return Sent(event, frame, message)

    def delivered(self, sent: Sent, echo: UserMessage) -> Message:
        """The receipt is in."""
        message = self._deliveries.deliver(sent, echo)
        self._forget_question(sent)
        self._notices.tell("on_delivery", message)
        return message

    def give_up(self, sent: Sent, cause: PolyAIError | None = None) -> DeliveryError | None:
        """Nobody waits for the receipt any longer: settle ``sent`` with what is known.

        Returns:
            What to raise; ``None`` where the receipt is in.
        """
        if sent.message.delivery is Delivery.DELIVERED:
            return None
        return sent.error or self._fail(sent, cause)

    def answer(self, sent: Sent, *, again: bool) -> None:
        """The policy has spoken about a message that was proved not received."""
        if sent.progress is not Progress.ASKED:
            return
        if again:
            sent.progress = Progress.QUEUED
        else:
            self._fail(sent)

    def refuse(self, client_event_id: str, error: PolyAIError) -> None:
        """The server tied ``error`` to the message of this id."""
        sent = self._deliveries.find(client_event_id)
        if sent is None:
            return
        sent.refused_by = error
        if is_refusal(error):  # no receipt will come, and nothing is gained by sending it again
            self._fail_quietly(sent)

    def prove_missing(self) -> None:
        """A replay is over: what was in doubt, and did not come in it, was not received."""
        self.questions.extend(self._deliveries.prove_missing())

    def tick(self, now: float, *, answered: float) -> bool:
        """Time has passed; should the connection be probed?

        Args:
            now: Monotonic seconds.
            answered: When the last heartbeat that came back was sent: a message written before it was dropped by the
                server, for all that can be known, because there were too many (`protocol.md` "Rate limits").
        """
        for sent in self._deliveries.overdue(now):
            if sent.written_at is not None and answered > sent.written_at:
                self._notices.tell("on_rate_limit", RateLimit(surface="websocket", certain=False))
            self._fail(sent)
        return self._deliveries.probe(now)

    def fail_all(self, cause: PolyAIError | None = None, *, quietly: bool = False) -> None:
        """No receipt will come; ``quietly``: what every waiting call is told says it all."""
        self.questions.clear()
        for sent in self._deliveries:
            if quietly:
                self._fail_quietly(sent)
            else:
                self._fail(sent, cause)

    def _fail_quietly(self, sent: Sent) -> None:
        self._forget_question(sent)
        self._notices.insist("on_delivery", self._deliveries.fail(sent, None))

    def _fail(self, sent: Sent, cause: PolyAIError | None = None) -> DeliveryError:
        outcome = sent.outcome
        error = make_error(
            "client.not_delivered",
            _OUTCOMES[outcome],
            outcome=outcome,
            client_event_id=sent.client_event_id,
            surface="websocket",
        )
        error.__cause__ = cause
        assert isinstance(error, DeliveryError)  # noqa: S101 - the table says so
        if sent.settled:
            return error
        self._forget_question(sent)
        message = self._deliveries.fail(sent, error)
        self._notices.report(error)
        self._notices.insist("on_delivery", message)
        if (turn := self._lines.active) is not None and turn.sent is sent:
            turn.fail(error, self._notices.position)
        return error

    def _forget_question(self, sent: Sent) -> None:
        if self.questions and sent in self.questions:
            self.questions.remove(sent)
