"""What the stories need: frames as a server builds them, and a conversation whose clock the test holds."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from polyai_sync.protocol.conversation import Conversation
from polyai_sync.protocol.turns import Turn, Waiter
from polyai_sync.state import SessionState

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.errors import DeliveryError, PolyAIError
    from polyai_sync.events import Event
    from polyai_sync.messages import Message
    from polyai_sync.protocol.deliveries import Sent

IDENTITY = "this-client"
PREFIX = "EVENT_TYPE_"

HEARTBEAT = PREFIX + "HEARTBEAT"


class Server:
    """Builds events: each with an id and the next sequence, unless the test says otherwise."""

    def __init__(self) -> None:
        self.sequence = 0
        self._ids = itertools.count(1)

    def event(
        self,
        type_: str,
        payload: dict[str, Any] | None = None,
        *,
        sequence: int | None = -1,
        event_id: str | None = None,
        custom: dict[str, str] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """One event; ``sequence=None`` makes a transient one, a number is taken as it stands."""
        if sequence == -1:
            self.sequence += 1
            sequence = self.sequence
        event: dict[str, Any] = {
            "id": f"event-{next(self._ids)}" if event_id is None else event_id,
            "sequence": sequence,
            "timestamp": "2024-05-01T10:00:00.250Z",
            "type": PREFIX + type_,
            "payload": payload or {},
            **more,
        }
        if custom is not None:
            event["metadata"] = {"custom": custom}
        return event

    def start(self, **capabilities: Any) -> dict[str, Any]:
        return self.event("SESSION_START", {"capabilities": {"heartbeat_interval_seconds": 30, **capabilities}})

    def joined(self, name: str = "Olive") -> dict[str, Any]:
        return self.event("POLY_AGENT_JOINED", {"agent_name": name})

    def agent(self, text: str, message_id: str | None = None, **options: Any) -> dict[str, Any]:
        message_id = f"message-{next(self._ids)}" if message_id is None else message_id
        return self.event("POLY_AGENT_MESSAGE", {"message_id": message_id, "text": text}, **options)

    def live_agent(self, text: str, **options: Any) -> dict[str, Any]:
        return self.event("LIVE_AGENT_MESSAGE", {"message_id": f"message-{next(self._ids)}", "text": text}, **options)

    def chunk(
        self, message_id: str, index: int, text: str | None, *, last: bool = False, **options: Any
    ) -> dict[str, Any]:
        payload = {"message_id": message_id, "chunk_index": index, "text": text, "is_complete": last}
        return self.event("POLY_AGENT_MESSAGE_CHUNK", payload, **options)

    def stream(self, message_id: str, *texts: str, first: int = 1, complete: bool = True) -> list[dict[str, Any]]:
        """A message in chunks."""
        return [
            self.chunk(message_id, first + place, text, last=complete and place == len(texts) - 1)
            for place, text in enumerate(texts)
        ]

    def error(self, text: str, **options: Any) -> dict[str, Any]:
        return self.event("SYSTEM_MESSAGE", {"level": "SYSTEM_MESSAGE_LEVEL_ERROR", "message": text}, **options)

    def echo(self, frame: dict[str, Any], **options: Any) -> dict[str, Any]:
        """The echo of a client's event."""
        payload = dict(frame["payload"])
        if frame["type"] == PREFIX + "USER_MESSAGE":
            payload["message_id"] = f"message-{next(self._ids)}"
        if frame["type"] == PREFIX + "HEARTBEAT":
            options.setdefault("sequence", None)
        options.setdefault("custom", frame.get("metadata", {}).get("custom"))
        return self.event(frame["type"].removeprefix(PREFIX), payload, **options)

    def user(self, text: str, **options: Any) -> dict[str, Any]:
        """A message that another connection of the session sent."""
        payload = {"text": text, "message_id": f"message-{next(self._ids)}"}
        return self.event("USER_MESSAGE", payload, **options)

    def batch(self, *events: Any, **options: Any) -> dict[str, Any]:
        options.setdefault("sequence", None)
        return self.event("EVENT_BATCH", {"events": list(events)}, **options)


def answer(turn: Turn) -> list[str]:
    """The texts of the reply that ended ``turn``; it must have one."""
    assert turn.reply is not None, turn.error or "nothing ended it"
    return [message.text for message in turn.reply.messages]


def yielded(turn: Turn) -> str:
    """Take what `stream` would have yielded by now, each piece in brackets."""
    pieces = "".join(f"[{piece}]" for piece in turn.pieces)
    turn.pieces.clear()
    return pieces


class Talk:
    """A conversation with a clock in the test's hand, and everything that came out of it."""

    def __init__(self, server: Server | None = None, **options: Any) -> None:
        self.server = server or Server()
        self.conversation = Conversation(identity=IDENTITY, **options)
        self.now = 1000.0
        self.events: list[Event] = []
        self.told: list[tuple[str, tuple[Any, ...]]] = []
        self.written: list[dict[str, Any]] = []
        self._client_event_ids = itertools.count(1)
        self.writable = True  # does the socket take anything?
        self._questions: list[tuple[Turn, str]] = []

    # --- the line ---

    def open(self) -> Talk:
        """A socket is open; what the client writes at once is in ``written``."""
        self.conversation.opened(self.now)
        return self._after()

    def receive(self, *events: dict[str, Any]) -> Talk:
        """Live frames."""
        for event in events:
            self.conversation.receive(json.dumps(event), self.now)
            self._after()
        return self

    def text(self, frame: str) -> Talk:
        """A frame as it stands."""
        self.conversation.receive(frame, self.now)
        return self._after()

    def history(self, *events: dict[str, Any]) -> Talk:
        """One batch."""
        return self.receive(self.server.batch(*events))

    def beat(self) -> Talk:
        """The server echoes the last heartbeat."""
        return self.receive(self.server.echo(self.sent("HEARTBEAT")[-1]))

    def drop(self, code: int | None = None) -> Talk:
        self.conversation.dropped(self.now, code)
        return self._after()

    def refuse(self, error: PolyAIError) -> Talk:
        """A handshake is refused."""
        self.conversation.refused(error, self.now)
        return self._after()

    def lose(self, error: PolyAIError) -> Talk:
        """The connection is given up."""
        self.conversation.given_up(error, self.now)
        return self._after()

    def wait(self, seconds: float, *, echoing: bool = False) -> Talk:
        """Time passes; every deadline on the way is met at its time.

        Args:
            seconds: How much.
            echoing: The server echoes each heartbeat that is written meanwhile.
        """
        until = self.now + seconds
        answered = len(self.written)
        while (due := self.conversation.due()) is not None and due <= until:
            self.now = max(self.now, due)
            self.conversation.tick(self.now)
            self._after()
            if self.conversation.is_dead(self.now):
                break
            after = self.conversation.due()
            assert after is None or after > self.now, "a deadline that was met is due again at once"
            for frame in self.written[answered:] if echoing else ():
                if frame["type"] == HEARTBEAT:
                    self.receive(self.server.echo(frame))
            answered = len(self.written)
        self.now = until
        self.conversation.tick(until)
        return self._after()

    def ready(self) -> Talk:
        """A session of this client's own: joined, greeted, and the greeting was read. What led to it is forgotten."""
        self.open().history(self.server.start()).beat()
        self.echo_last("REQUEST_POLY_AGENT_JOIN")
        self.receive(self.server.joined(), self.server.agent("Hello!"))
        self.inbox()
        return self.forget()

    def forget(self) -> Talk:
        """Look only at what comes from here on."""
        self.events.clear()
        self.told.clear()
        return self

    def again(self, *events: dict[str, Any]) -> Talk:
        """Another socket, whose history is ``events``."""
        return self.open().history(*events).beat()

    # --- the user ---

    def send(self, text: str = "hi", **custom: str) -> Sent:
        sent = self._give(text, **custom)
        self._after()
        return sent

    def _give(self, text: str, **custom: str) -> Sent:
        client_event_id = custom.get("client_event_id") or f"ours-{next(self._client_event_ids)}"
        sent = self.conversation.message(text, custom, client_event_id)
        self.conversation.send(sent)
        return sent

    def ask(
        self,
        text: str = "hi",
        *,
        settle: float = 0.0,
        timeout: float | None = 100.0,
        first: bool = False,
        on_reply: Callable[[], None] | None = None,
    ) -> Turn:
        """Stand in line; the question is sent as soon as its turn has come."""
        deadline = None if timeout is None else self.now + timeout
        turn = Turn(self.now, settle=settle, deadline=deadline, on_reply=on_reply)
        self.conversation.lines.join(turn, first=first)
        self._questions.append((turn, text))
        self._after()
        return turn

    def asked(self, text: str = "hi", **options: Any) -> Turn:
        """Ask, and have the receipt."""
        turn = self.ask(text, **options)
        self.echo_last("USER_MESSAGE")
        return turn

    def give_up(self, sent: Sent) -> DeliveryError | None:
        """The caller of a message does not wait for its receipt any longer."""
        error = self.conversation.give_up(sent)
        self._after()
        return error

    def resend(self, *answers: bool) -> Talk:
        """The policy answers as many questions as it is asked."""
        for again in answers:
            question = self.conversation.questions.pop(0)
            (self.conversation.resend if again else self.conversation.keep_back)(question)
        return self._after()

    def type(self, *, active: bool = True) -> Talk:
        self.conversation.type(self.now, active=active)
        return self._after()

    def join_again(self) -> Talk:
        self.conversation.ask_to_join(self.now)
        return self._after()

    def end(self, limit: float | None = None) -> Talk:
        """Ask for the end, and be done after ``limit`` seconds without it."""
        self.conversation.ask_to_end(None if limit is None else self.now + limit)
        return self._after()

    def close(self) -> Talk:
        self.conversation.close(self.now)
        return self._after()

    def leave(self, turn: Turn) -> Talk:
        """The caller of ``turn`` goes away, as every caller does at the end."""
        self.conversation.leave(turn)
        return self._after()

    def waiter(self) -> Waiter:
        """A call that waits for something else than an answer."""
        waiter = Waiter(self.now)
        self.conversation.lines.wait(waiter)
        return waiter

    def echo_last(self, type_: str, **options: Any) -> Talk:
        """The server echoes the last frame of this type."""
        return self.receive(self.server.echo(self.sent(type_)[-1], **options))

    # --- what came of it ---

    def sent(self, type_: str) -> list[dict[str, Any]]:
        """The client's frames of one type, so far."""
        return [frame for frame in self.written if frame["type"] == PREFIX + type_]

    def texts_sent(self) -> list[str]:
        return [frame["payload"]["text"] for frame in self.sent("USER_MESSAGE")]

    def hooks(self, name: str) -> list[Any]:
        """What one hook was told, so far: its argument, or all of them."""
        return [arguments[0] if len(arguments) == 1 else arguments for hook, arguments in self.told if hook == name]

    def types(self) -> list[str]:
        """The published events."""
        return [event.type.removeprefix(PREFIX) for event in self.events]

    @property
    def messages(self) -> tuple[Message, ...]:
        return self.conversation.messages

    def said(self) -> list[str]:
        return [message.text for message in self.messages]

    def inbox(self) -> list[str]:
        """Take everything that `next_message` would return."""
        inbox = self.conversation.scene.inbox
        return [inbox.popleft().text for _ in range(len(inbox))]

    def state(self) -> SessionState:
        """What a session would store, through its JSON."""
        conversation = self.conversation
        state = SessionState(
            session_id="session",
            access_token="token",
            base_url="http://127.0.0.1",
            cursor=conversation.cursor,
            capabilities=conversation.capabilities,
            joined=conversation.joined,
            agent=conversation.scene.agent,
            live_agent=conversation.scene.live_agent,
            handoff=conversation.scene.handoff,
            language=conversation.scene.language,
            streams=conversation.streams,
        )
        return SessionState.from_json(SessionState.to_json(state))

    def resume(self, *, history: bool = False, **options: Any) -> Talk:
        """Close this one, and come back as another client: its socket is not open yet."""
        state = self.state()
        self.conversation.close(self.now)
        talk = Talk(self.server, state=state, history=history, **options)
        talk.now = self.now
        return talk

    def _after(self) -> Talk:
        """What the session does after every change: ask what is next, write, publish, tell."""
        for turn, text in list(self._questions):
            lines, held = self.conversation.lines, self.conversation.greeting_expected
            if turn.done:
                self._questions.remove((turn, text))
            elif lines.is_next(turn) and not held and not self.conversation.over:
                self._questions.remove((turn, text))
                turn.asked(self._give(text))
        while self.writable and (taken := self.conversation.take_frame(self.now)) is not None:
            self.written.append(json.loads(taken[1]))
        self.events += self.conversation.take_events()
        self.told += self.conversation.notices.take()
        return self
