"""One session: who is connected, what was said, and how each frame of a client is answered (protocol.md §3-§7).

Everything here runs on the emulator's own thread, without a wait in between: what one frame causes is done before
the next is looked at. `view.EmulatedSession` is what other threads have of it.
"""

from __future__ import annotations

import asyncio
import uuid
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from attrs import frozen

from polyai_sync.emulator import twists
from polyai_sync.emulator.frames import fragments, frame
from polyai_sync.emulator.history import send_history
from polyai_sync.emulator.inbound import judge
from polyai_sync.emulator.journal import Journal, dump, envelope, wire_type
from polyai_sync.emulator.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from polyai_sync.emulator.agent import Agent
    from polyai_sync.emulator.faults import Fault, Faults
    from polyai_sync.emulator.sockets import Connection
    from polyai_sync.emulator.view import EmulatedSession

__all__ = ["Rules", "Session"]

_CUTS = frozenset({"connection.drop", "connection.silent", "close.<code>", "message.dropped_then_drop"})
_WITHOUT_ECHO = frozenset({"message.echo_lost", "message.echo_delayed"})


@frozen(kw_only=True)
class Rules:
    """What holds for every session of one emulator; seconds and bytes."""

    faults: Faults
    agent: Callable[[], Agent]
    agent_name: str
    agent_avatar_url: str
    capabilities: Mapping[str, Any]
    idle_timeout: float
    session_timeout: float
    end_retention: float
    max_connections: int
    max_message_size: int
    thinking_delay: float
    chunk_delay: float
    view: Callable[[Session], EmulatedSession]


class Session:
    """The server's side of one conversation."""

    def __init__(self, rules: Rules, access_token: str, settings: Mapping[str, Any]) -> None:
        self.id = str(uuid.uuid4())
        self.rules = rules
        self.access_token = access_token
        self.settings = dict(settings)
        self.streaming = bool(settings.get("streaming_enabled", False))
        self.journal = Journal()
        self.connections: list[Connection] = []
        self.arriving = 0
        self.connections_total = 0
        self.received: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.ended = False
        self.gone = False
        self.end_reason: str | None = None
        self.joined = False
        self.turns = Turns(self)
        self._loop = asyncio.get_running_loop()
        self._last_heard = self._loop.time()
        self._timer: asyncio.Handle = self._loop.call_soon(self._look_for_idlers)
        self.publish("SESSION_START", {"capabilities": {"streaming": self.streaming, **rules.capabilities}})

    # --- out ------------------------------------------------------------------------------------------------------

    def publish(
        self,
        type_: str,
        payload: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        sequence: int | EllipsisType | None = ...,
        *,
        live: bool = True,
    ) -> dict[str, Any]:
        """Send an event to every connection and, unless ``sequence`` is ``None``, keep it for the replay.

        Args:
            type_: With or without ``EVENT_TYPE_``.
            payload: Its payload.
            metadata: Echoed to the client.
            sequence: ``...`` = the next number; ``None`` = transient; or a number of the caller's.
            live: ``False`` writes it to the journal alone.
        """
        taken = self.rules.faults.take_all("event", self.id, wire_type(type_)) if self.connections else {}
        if "wire.unknown_event" in taken:
            stranger = self.journal.write(envelope("SOMETHING_NEW", {"text": "from the future"}))
            self.send_to_all(stranger.text)
        if "sequence.permanent_hole" in taken:
            self.journal.skip()
        event = envelope(type_, payload, metadata)
        if sequence is None:
            text = dump(event)
        else:
            text = self.journal.write(event, None if isinstance(sequence, EllipsisType) else sequence).text
        if live and "sequence.hole" not in taken:
            self._send_twisted(text, taken) if taken else self.send_to_all(text)
        return event

    def _send_twisted(self, text: str, taken: dict[str, Fault]) -> None:
        for odd in twists.frames_before(taken):
            for connection in tuple(self.connections):
                connection.send(odd)
        if twists.wants_twisting(taken):
            text = dump(twists.twisted(text, taken))
        if "wire.fragmented" in taken:
            for connection in tuple(self.connections):
                connection.send(b"".join(fragments(text.encode(), 20)))
        else:
            self.send_to_all(text)
        if "sequence.duplicate" in taken:
            self.send_to_all(text)

    def send_to_all(self, text: str) -> None:
        """Send a text to every connection as it is, past the journal."""
        if self.connections:
            data = frame(text.encode())
            for connection in tuple(self.connections):
                connection.send(data)

    def system_message(
        self,
        text: str,
        *,
        level: str = "ERROR",
        metadata: Mapping[str, Any] | None = None,
        to: Connection | None = None,
    ) -> None:
        """Tell all connections, for good; or one of them, in passing (an event of its own was refused)."""
        payload = {"level": f"SYSTEM_MESSAGE_LEVEL_{level}", "message": text}
        if to is None:
            self.publish("SYSTEM_MESSAGE", payload, metadata)
        else:
            to.send_text(dump(envelope("SYSTEM_MESSAGE", payload, metadata)))

    # --- connections ----------------------------------------------------------------------------------------------

    def connect(self, connection: Connection) -> None:
        """A socket has been accepted: history first, then whatever happens live."""
        self.heard()
        if not self.ended:
            self._timer.cancel()
            self._timer = self._loop.call_later(self.rules.idle_timeout, self._look_for_idlers)
        self.connections_total += 1
        fault = self.rules.faults.take("open", self.id)
        if fault is not None:
            self.connections.append(connection)
            self._cut(fault, connection)
            return
        send_history(self, connection)
        if fault := self.rules.faults.take("opened", self.id):
            self.happen(fault, connection)
        if self.ended:
            self._close(connection, 1000, "session ended")

    def disconnect(self, connection: Connection) -> None:
        """A socket is gone."""
        if connection in self.connections:
            self.connections.remove(connection)

    def drop(self, code: int | None = None, reason: str = "") -> None:
        """Cut every connection, or close it with a code."""
        for connection in tuple(self.connections):
            self._close(connection, code, reason)

    def _close(self, connection: Connection, code: int | None, reason: str = "") -> None:
        if code is None:
            connection.abort()
        else:
            connection.close(code, reason)
        self.disconnect(connection)

    def heard(self) -> None:
        """A client has shown itself."""
        self._last_heard = self._loop.time()

    def _look_for_idlers(self) -> None:
        rules, now = self.rules, self._loop.time()
        waits = []
        for connection in tuple(self.connections):
            if connection.silent:  # a dead line hears of nothing
                continue
            wait = connection.last_heard + rules.idle_timeout - now
            if wait <= 0:
                self._close(connection, 1001, "idle")
            else:
                waits.append(wait)
        left = self._last_heard + rules.session_timeout - now
        if left <= 0:
            self.end("REASON_USER_ABANDONED")
        else:
            self._timer = self._loop.call_later(min((left, *waits)), self._look_for_idlers)

    # --- in -------------------------------------------------------------------------------------------------------

    def receive(self, connection: Connection, data: str | bytes) -> None:
        """Answer one frame of a client."""
        self.heard()
        if self.ended:
            return
        judged = judge(data)
        if judged.refusal:
            self._refuse(connection, data, judged.refusal, judged.metadata)
        else:
            _ANSWERS[judged.name](self, connection, judged.event, judged.metadata)

    def _refuse(self, connection: Connection, data: str | bytes, text: str, metadata: Mapping[str, Any] | None) -> None:
        self.refused.append(data if isinstance(data, str) else repr(data))
        self.system_message(text, metadata=metadata, to=connection)

    def _on_heartbeat(self, connection: Connection, event: dict[str, Any], metadata: dict[str, Any] | None) -> None:
        self.received.append(event)
        fault = self.rules.faults.take("heartbeat", self.id)
        if fault is None:
            connection.send_text(dump(envelope("HEARTBEAT", {}, metadata)))
        elif fault.name == "wire.heartbeat_echo_bare":
            connection.send_text(dump({"type": "EVENT_TYPE_HEARTBEAT", "payload": {}}))
        elif fault.name == "wire.heartbeat_sequenced":
            self.publish("HEARTBEAT", {}, metadata)
        elif fault.name != "heartbeat.dropped":
            self._cut(fault, connection)

    def _on_typing(self, connection: Connection, event: dict[str, Any], metadata: dict[str, Any] | None) -> None:
        self.received.append(event)

    def _on_join(self, connection: Connection, event: dict[str, Any], metadata: dict[str, Any] | None) -> None:
        fault = self.rules.faults.take("join", self.id)
        if self._turned_away(fault, connection, event, metadata):
            return
        name = fault.name if fault else ""
        if name == "start.join_lost":
            self._close(connection, None)
        self.received.append(event)
        self.publish("REQUEST_POLY_AGENT_JOIN", {}, metadata, live=name != "start.no_join_echo")
        self.turns.greet(metadata, fault)

    def _on_message(self, connection: Connection, event: dict[str, Any], metadata: dict[str, Any] | None) -> None:
        fault = self.rules.faults.take("message", self.id)
        if self._turned_away(fault, connection, event, metadata):
            return
        name = fault.name if fault else ""
        if name == "message.echo_lost_then_drop":
            self._close(connection, None)
        for _ in range(2 if name == "message.doubled" else 1):
            self.received.append(event)
            payload = {"text": event["payload"]["text"], "message_id": str(uuid.uuid4())}
            echo = self.publish("USER_MESSAGE", payload, metadata, live=name not in _WITHOUT_ECHO)
            later = (fault, dump(echo)) if fault and name == "message.echo_delayed" else None
            if later is None and (cut := self.rules.faults.take("echo", self.id)):
                self.happen(cut, connection)
            self.turns.answer(payload["text"], metadata, echo_later=later)

    def _turned_away(
        self, fault: Fault | None, connection: Connection, event: dict[str, Any], metadata: dict[str, Any] | None
    ) -> bool:
        """Let a fault refuse an event, lose it, or cut the line before it is accepted. Says whether it did."""
        if fault is None:
            return False
        if fault.name.startswith("event."):
            self._refuse(connection, dump(event), str(fault.options["text"] or fault.row.text), metadata)
        elif fault.row.name in _CUTS or (fault.name == "start.join_lost" and not fault.options["accepted"]):
            self._cut(fault, connection)
        else:
            return fault.name == "message.dropped"
        return True

    def _on_end(self, connection: Connection, event: dict[str, Any], metadata: dict[str, Any] | None) -> None:
        fault = self.rules.faults.take("end_request", self.id)
        name = fault.name if fault else ""
        if name == "end.unanswered":
            return
        self.received.append(event)
        if name != "end.no_echo":
            self.publish("USER_END_SESSION", {}, metadata)
        self.end("REASON_USER_END")

    # --- what a fault makes happen -----------------------------------------------------------------------------------

    def happen(self, fault: Fault, connection: Connection | None) -> None:
        """Let a fault end the conversation or touch the line; anything else is not of this occasion."""
        if fault.name == "end.natural":
            self.end("REASON_NATURAL_END")
        elif fault.name == "end.abandoned":
            self.end("REASON_USER_ABANDONED")
        else:
            for one in (connection,) if connection else tuple(self.connections):
                self._cut(fault, one)

    def _cut(self, fault: Fault, connection: Connection) -> None:
        if fault.name == "connection.silent":
            connection.go_silent()
        else:
            self._close(connection, fault.code, fault.options.get("reason", ""))

    # --- the end -----------------------------------------------------------------------------------------------------

    def end(self, reason: str | None) -> None:
        """``SESSION_END``, close 1000; the session is forgotten at once or after ``end_retention`` seconds."""
        if self.ended:
            return
        taken = self.rules.faults.take_all("end", self.id)
        if "end.old_word" in taken:
            reason = taken["end.old_word"].options["reason"]
        if "end.null_reason" in taken:
            reason = None
        self.turns.stop()
        self._timer.cancel()
        self.end_reason = reason  # before a client learns of it, whose test may look
        if "end.close_1000_only" not in taken:
            self.publish("SESSION_END", {"reason": reason})
        self.ended = True
        if "end.no_close" not in taken:
            self.drop(1000, "session ended")
        if self.rules.end_retention:
            self._timer = self._loop.call_later(self.rules.end_retention, self._be_forgotten)
        else:
            self._be_forgotten()

    def expire(self) -> None:
        """The session is gone, as after ten idle minutes, without a word; its sockets close with 4001."""
        self.ended = True
        self.turns.stop()
        self._timer.cancel()
        self.drop(4001, "session not found")
        self._be_forgotten()

    def _be_forgotten(self) -> None:
        self.gone = True

    def shut_down(self) -> None:
        """The emulator stops."""
        self._timer.cancel()
        self.turns.stop()
        for connection in tuple(self.connections):
            connection.close(1001, "going away")
            connection.finish(at_once=True)


_ANSWERS: Mapping[str, Callable[[Session, Any, dict[str, Any], dict[str, Any] | None], None]] = {
    "HEARTBEAT": Session._on_heartbeat,
    "USER_TYPING": Session._on_typing,
    "REQUEST_POLY_AGENT_JOIN": Session._on_join,
    "USER_MESSAGE": Session._on_message,
    "USER_END_SESSION": Session._on_end,
}
