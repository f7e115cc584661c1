"""What is to be written to the socket, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyai_sync.events import Heartbeat, RequestPolyAgentJoin, UserEndSession
from polyai_sync.hooks import ClientEvent
from polyai_sync.protocol.codec import encode
from polyai_sync.protocol.liveness import TypingThrottle

if TYPE_CHECKING:
    from polyai_sync.protocol.deliveries import Deliveries
    from polyai_sync.protocol.ending import EndRequest
    from polyai_sync.protocol.joining import Joining
    from polyai_sync.protocol.liveness import Liveness
    from polyai_sync.protocol.replay import Replay

__all__ = ["Outbox"]

_TYPING = "EVENT_TYPE_USER_TYPING"


class Outbox:
    """Heartbeats, typing and the join first, then messages, at last the end.

    Args:
        identity: A random word that tells this client's heartbeats from those of the session's other connections.
        deliveries: The messages.
        end_request: The end.
        joining: Told when its request is written.
        liveness: Told when a heartbeat is written.
        replay: Knows whether messages in doubt may still be sent again.

    Attributes:
        control: What goes first.
    """

    __slots__ = (
        "_beats",
        "_deliveries",
        "_end_request",
        "_identity",
        "_joining",
        "_liveness",
        "_replay",
        "_typing",
        "control",
    )

    def __init__(
        self,
        identity: str,
        *,
        deliveries: Deliveries,
        end_request: EndRequest,
        joining: Joining,
        liveness: Liveness,
        replay: Replay,
    ) -> None:
        self._identity = identity
        self._deliveries = deliveries
        self._end_request = end_request
        self._joining = joining
        self._liveness = liveness
        self._replay = replay
        self.control: list[ClientEvent] = []
        self._typing = TypingThrottle()
        self._beats = 0

    def beat(self) -> None:
        """Send a heartbeat."""
        if not self._liveness.queue():
            return
        self._beats += 1
        custom = {"client_event_id": f"{self._identity}:{self._beats}"}
        self.control.append(ClientEvent(type=Heartbeat.wire_type, custom=custom))

    def number_of(self, echo: Heartbeat) -> int | None:
        """The number that the heartbeat of this echo was sent with.

        Returns:
            The number; ``None`` where the echo has lost it; -1 where the heartbeat was not this client's.
        """
        custom = echo.metadata.get("custom")
        tag = custom.get("client_event_id") if isinstance(custom, dict) else None
        if not isinstance(tag, str):
            return None
        identity, _, number = tag.rpartition(":")
        return int(number) if identity == self._identity and number.isdecimal() and len(number) < 16 else -1

    def join(self, now: float) -> None:
        """Ask the agent to join."""
        self._joining.queue(now)
        self.control.append(ClientEvent(type=RequestPolyAgentJoin.wire_type))

    def type(self, now: float) -> None:
        """The user types."""
        if self._typing.type(now):
            self._tell_typing("TYPING_STATE_STARTED")

    def stop_typing(self) -> None:
        """The user stopped, or sent."""
        if self._typing.stop():
            self._tell_typing("TYPING_STATE_STOPPED")

    def due(self) -> float | None:
        """When typing stops by itself."""
        return self._typing.due()

    def tick(self, now: float) -> None:
        """Time has passed."""
        if (stop := self._typing.due()) is not None and now >= stop:
            self.stop_typing()

    def take(self, now: float) -> tuple[ClientEvent, str] | None:
        """The next frame to write, if there is one. From here on it counts as written."""
        if self.control:
            event = self.control.pop(0)
            if event.type == Heartbeat.wire_type:
                self._liveness.sent(int(event.custom["client_event_id"].rpartition(":")[2]), now)
            elif event.type == RequestPolyAgentJoin.wire_type:
                self._joining.writing()
            return event, encode(event)
        if (sent := self._deliveries.next_to_write()) is not None:
            self._deliveries.writing(sent, now)
            return sent.event, sent.frame
        if self._end_request.made and not self._end_request.written and self._may_end():
            self._end_request.writing()
            event = ClientEvent(type=UserEndSession.wire_type)
            return event, encode(event)
        return None

    def dropped(self) -> None:
        """The socket is gone; what was to be said on it is decided anew."""
        self.control.clear()
        self._typing.forget()
        self._end_request.dropped()

    def _may_end(self) -> bool:
        """Are the messages gone that were sent before? Those in doubt are waited for until the history is over."""
        return not self._deliveries.unwritten or (self._replay.over and not self._replay.proved)

    def _tell_typing(self, state: str) -> None:
        self.control.append(ClientEvent(type=_TYPING, payload={"state": state}))
