"""The state machine's promise: whatever comes, in whatever order, nothing is raised, doubled or hoarded.

An input is a text of lines. A line that begins with ``!`` is something that happens, such as ``!drop 1006`` or
``!ask``; any other is a frame of the server's. Lines that make no sense where they stand are skipped, so that every
input does.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from polyai_sync.catalog import make_error
from polyai_sync.errors import PolyAIError
from polyai_sync.messages import Delivery
from polyai_sync.protocol.conversation import Conversation
from polyai_sync.protocol.turns import Turn
from polyai_sync.state import SessionState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from polyai_sync.events import Event
    from polyai_sync.messages import Message
    from polyai_sync.protocol.deliveries import Sent

__all__ = ["Run", "check"]

IDENTITY: Final = "fuzz"
LONGEST: Final = 200
"""Lines of one input."""
_MANY: Final = 500
"""More frames at once than any state has reason to write, and more deadlines than any second holds."""


def check(data: bytes) -> None:
    """Let it all happen, and look after every line; frames that come in bursts must tell the same as one by one."""
    lines = data.decode("utf-8", "replace").split("\n")[:LONGEST]
    runs = [Run(bursts=True)]
    if "!burst" in lines:
        runs.append(Run(bursts=False))
    for run in runs:
        for line in lines:
            run.step(line)
        run.finish()
    assert runs[0].published == runs[-1].published, "a burst tells another story"


class Run:
    """One conversation, or several that go on from one another's state.

    Args:
        bursts: Hand the frames behind a ``!burst``, up to the next line that is none, to the machine at once.
    """

    def __init__(self, *, bursts: bool = True) -> None:
        self._bursts = bursts
        self._burst: list[str] | None = None
        self.published: list[tuple[str, int | None, str]] = []
        self.now = 100.0
        self.frames = 0
        self.written: list[Mapping[str, Any]] = []
        self._texts = 0
        self._sends: list[Sent] = []
        self._begin(None, history=False)

    def _begin(self, state: SessionState | None, *, history: bool) -> None:
        self.online = False
        self.conversation = Conversation(
            identity=IDENTITY, receipt_limit=15.0, greeting_limit=1.0, state=state, history=history
        )
        self.turns: list[Turn] = []
        self._ids: set[str] = set()
        self._told: Counter[Any] = Counter()
        self._on_this_connection: Counter[str] = Counter()
        self._cursor = self.conversation.cursor
        self._size = 0
        self._own: list[Sent] = []

    def step(self, line: str) -> None:
        """One line."""
        if line.startswith("!"):
            self._flush()
            word, _, argument = line[1:].partition(" ")
            happen = _HAPPENS.get(word)
            if happen is not None:
                happen(self, argument)
        elif self.online:
            self._receive(line)
        self._after()

    def finish(self) -> None:
        """The end of the input: time goes by, and the connection goes."""
        for line in ("!tick 40", "!drop 1006", "!open", "!tick 40", "!close"):
            self.step(line)
        assert self.conversation.over
        assert all(turn.done for turn in self.turns)
        while self.conversation.scene.inbox:
            self._read("")

    # --- what happens ---

    def _receive(self, text: str) -> None:
        if self._burst is not None:
            self._burst.append(text)
        elif not self.conversation.over:
            self.frames += 1
            self._size += len(text)
            self.conversation.receive(text, self.now)

    def _begin_burst(self, _: str) -> None:
        if self._bursts:
            self._burst = []

    def _flush(self) -> None:
        burst, self._burst = self._burst, None
        if burst and self.online and not self.conversation.over:
            self.frames += len(burst)
            self._size += sum(map(len, burst))
            self.conversation.receive_all(burst, self.now)
            self._after()

    def _open(self, _: str) -> None:
        if not self.online and not self.conversation.over:
            self.online = True
            self._on_this_connection.clear()
            self.conversation.opened(self.now)

    def _drop(self, argument: str) -> None:
        if self.online:
            self.online = False
            self.conversation.dropped(self.now, int(argument) if argument.isascii() and argument.isdigit() else None)

    def _refuse(self, argument: str) -> None:
        codes = ("http.server_error", "connect.session_not_found", "connect.authentication_failed", "http.rate_limited")
        if not self.online and not self.conversation.over:
            self.conversation.refused(make_error(codes[len(argument) % len(codes)]), self.now)

    def _give_up(self, _: str) -> None:
        if not self.online and not self.conversation.over:
            self.conversation.given_up(make_error("client.connection_lost"), self.now)

    def _tick(self, argument: str) -> None:
        """Let time pass, from deadline to deadline."""
        until = self.now + _seconds(argument)
        for _ in range(_MANY):
            due = self.conversation.due()
            if due is None or due > until or self.conversation.over:
                break
            self.now = max(self.now, due)
            self.conversation.tick(self.now)
            self._after()
            if self.online and self.conversation.is_dead(self.now):
                self._drop("")
                break
            again = self.conversation.due()
            assert again is None or again > self.now, "due at once again"
        else:
            raise AssertionError("no second has so many deadlines")
        self.now = until
        self.conversation.tick(until)

    def _send(self, _: str) -> None:
        if not self.conversation.over:
            self._sent()

    def _sent(self) -> Sent | None:
        self._texts += 1
        text = "yes" if self._texts % 3 == 0 else f"mine {self._texts}"
        try:
            sent = self.conversation.message(text, {}, f"mine-{self._texts}")
        except ValueError:  # the server has used the id for another message, or takes next to nothing
            return None
        self.conversation.send(sent)
        self._sends.append(sent)
        self._own.append(sent)
        return sent

    def _ask(self, argument: str) -> None:
        if not self.conversation.over and len(self.turns) < 5:
            turn = Turn(self.now, settle=_seconds(argument) % 2, deadline=self.now + 30)
            self.conversation.lines.join(turn)
            self.turns.append(turn)

    def _leave(self, _: str) -> None:
        if self.turns:
            self.conversation.leave(self.turns.pop(0))

    def _read(self, _: str) -> None:
        if self.conversation.scene.inbox:
            self._returned(self.conversation.scene.inbox.popleft())

    def _abandon(self, _: str) -> None:
        for sent in self._own:
            if not sent.settled:
                self.conversation.give_up(sent)
                return

    def _answer(self, argument: str) -> None:
        if self.conversation.questions:
            sent = self.conversation.questions.pop(0)
            (self.conversation.keep_back if argument == "no" else self.conversation.resend)(sent)

    def _type(self, argument: str) -> None:
        self.conversation.type(self.now, active=argument != "no")

    def _join(self, _: str) -> None:
        if not self.conversation.over:
            self.conversation.ask_to_join(self.now)

    def _end(self, argument: str) -> None:
        if not self.conversation.over:
            self.conversation.ask_to_end(self.now + _seconds(argument))

    def _close(self, _: str) -> None:
        self.online = False
        self.conversation.close(self.now)

    def _resume(self, argument: str) -> None:
        """Another process goes on."""
        if self.conversation.end_reason is not None:
            return
        state = self._state()
        assert SessionState.from_json(state.to_json()) == state
        if not self.conversation.closed:
            self._close("")
        self._after()
        self._begin(SessionState.from_json(state.to_json()), history=argument == "history")

    def _state(self) -> SessionState:
        conversation, scene = self.conversation, self.conversation.scene
        return SessionState(
            session_id="session",
            access_token="token",
            base_url="http://127.0.0.1",
            cursor=conversation.cursor,
            capabilities=conversation.capabilities,
            joined=conversation.joined,
            agent=scene.agent,
            live_agent=scene.live_agent,
            handoff=scene.handoff,
            language=scene.language,
            streams=conversation.streams,
        )

    # --- what the session does, and what must hold ---

    def _after(self) -> None:
        conversation = self.conversation
        for turn in list(self.turns):
            if turn.done:
                self.turns.remove(turn)
                conversation.leave(turn)
                for message in turn.reply.messages if turn.reply is not None else ():
                    self._returned(message)
                assert (turn.reply is None) is isinstance(turn.error, PolyAIError), "neither an answer nor an error"
            elif (
                turn.sent is None
                and not conversation.over
                and conversation.lines.is_next(turn)
                and not conversation.greeting_expected
            ):
                self._ask_now(turn)
        self._write()
        for event in conversation.take_events():
            self._published(event)
        for hook, arguments in conversation.notices.take():
            self._notice(hook, *arguments)
        self._hold()

    def _ask_now(self, turn: Turn) -> None:
        sent = self._sent()
        if sent is None:
            self.turns.remove(turn)
            self.conversation.leave(turn)
        else:
            turn.asked(sent)

    def _write(self) -> None:
        for _ in range(_MANY):
            taken = self.conversation.take_frame(self.now)
            if taken is None:
                return
            assert self.online, "written without a socket"
            event = json.loads(taken[1])
            assert event["type"] in _CLIENT_EVENTS
            self.written.append(event)
            if event["type"] == "EVENT_TYPE_USER_MESSAGE":
                key = event["metadata"]["custom"]["client_event_id"]
                self._on_this_connection[key] += 1
                assert self._on_this_connection[key] == 1, "two copies on one connection"
        raise AssertionError("it writes without end")

    def _published(self, event: Event) -> None:
        self.published.append((event.id, event.sequence, event.type))
        if event.sequence is not None and event.id:
            assert event.id not in self._ids, f"event {event.id!r} twice"
            self._ids.add(event.id)

    def _returned(self, message: Message) -> None:
        if message.message_id and message.complete:
            self._told["returned", message.role, message.message_id] += 1
            assert self._told["returned", message.role, message.message_id] == 1, "two calls return one message"

    def _notice(self, hook: str, *arguments: Any) -> None:
        if hook in ("on_session_start", "on_session_end"):
            self._told[hook] += 1
            assert self._told[hook] == 1, f"{hook} twice"
        elif hook == "on_message":
            (message,) = arguments
            assert message.complete
            if message.message_id:
                self._told[message.role, message.message_id] += 1
                assert self._told[message.role, message.message_id] == 1, f"message {message.message_id!r} twice"
        elif hook == "on_delivery" and arguments[0].delivery is Delivery.DELIVERED:
            self._told["delivered", arguments[0].client_event_id] += 1
            assert self._told["delivered", arguments[0].client_event_id] == 1, "two receipts for one message"

    def _hold(self) -> None:
        conversation = self.conversation
        assert conversation.cursor >= self._cursor, "the cursor goes back"
        self._cursor = conversation.cursor
        messages = conversation.messages
        known = Counter((message.role, message.message_id) for message in messages if message.message_id)
        assert all(count == 1 for count in known.values()), f"twice in the transcript: {known.most_common(1)}"
        # What is kept is of the order of what came.
        assert len(messages) <= self.frames * LONGEST + len(self._sends)
        kept = sum(len(message.text) for message in messages)
        assert kept <= 4 * self._size + 100 * (len(self._own) + 1) or self._resumed, f"{kept} letters of {self._size}"

    @property
    def _resumed(self) -> bool:
        return self.conversation._old_until >= 0 or bool(self.conversation._old_streams)


def _seconds(text: str) -> float:
    digits = text.strip()[:4]
    return min(float(digits), 100.0) if digits.isascii() and digits.replace(".", "", 1).isdigit() else 1.0


_CLIENT_EVENTS: Final = frozenset(
    f"EVENT_TYPE_{name}"
    for name in ("REQUEST_POLY_AGENT_JOIN", "USER_MESSAGE", "USER_TYPING", "USER_END_SESSION", "HEARTBEAT")
)
_HAPPENS: Final[Mapping[str, Callable[[Run, str], None]]] = {
    "open": Run._open,
    "drop": Run._drop,
    "refuse": Run._refuse,
    "giveup": Run._give_up,
    "tick": Run._tick,
    "send": Run._send,
    "ask": Run._ask,
    "leave": Run._leave,
    "read": Run._read,
    "abandon": Run._abandon,
    "answer": Run._answer,
    "type": Run._type,
    "join": Run._join,
    "end": Run._end,
    "close": Run._close,
    "burst": Run._begin_burst,
    "resume": Run._resume,
}
