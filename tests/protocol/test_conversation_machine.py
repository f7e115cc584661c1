"""Random servers, lines and users against a model: nothing is lost, nothing comes twice, nothing is claimed in vain.

`ModelServer` says what a server may do. The rules below are what may happen in any order: frames travel, are lost,
doubled and swapped, the socket dies at any point, the agent and other connections talk, the user sends, asks, gives up
and leaves, and another client goes on from the stored state. Held after every step: what is published, in which order,
and the cursor. Held at the end, after one clean reconnect: the transcript, the deliveries, the answers.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model_server import PREFIX, Habits, ModelServer

from polyai_sync.messages import Delivery, Message
from polyai_sync.protocol.conversation import Conversation
from polyai_sync.protocol.turns import Turn
from polyai_sync.state import SessionState

if TYPE_CHECKING:
    from polyai_sync.events import Event
    from polyai_sync.protocol.deliveries import Sent

FEW = st.integers(0, 5)
SELDOM = st.integers(0, 4).map(lambda number: number == 4)
LINGER = 3.0  # longer than any stream or turn waits for a missing piece


class Expected:
    """What the client should publish: a naive reading of the frames it was handed."""

    def __init__(self, handed_on: int) -> None:
        self.handed_on = handed_on
        self.seen: set[Any] = set()
        self.sequences: set[int] = set()
        self.published: list[str] = []

    def frame(self, text: str) -> None:
        document = json.loads(text)
        events = [document]
        if document["type"] == PREFIX + "EVENT_BATCH":
            events = sorted(document["payload"]["events"], key=lambda event: event["sequence"])
        for event in events:
            sequence = event["sequence"]
            if sequence is not None:
                key = event["id"] or (sequence, event["type"])
                self.sequences.add(sequence)
                if key in self.seen or sequence <= self.handed_on:
                    continue
                self.seen.add(key)
            if event["type"] != PREFIX + "HEARTBEAT":
                self.published.append(name_of(event["id"], sequence, event["type"]))


def name_of(event_id: str, sequence: int | None, type_: str) -> str:
    return event_id or f"{sequence} {type_}"


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.number = 0
        self.texts = 0
        self.old_sends: list[Sent] = []

    # --- how it begins ---

    @initialize(
        seed=st.integers(0, 2**32),
        tags=st.booleans(),
        echoes=st.sampled_from([True, True, True, False]),
        journals_beats=SELDOM,
        echo_ids=st.sampled_from([True, True, False]),
        first_chunk=st.integers(0, 1),
        first_sequence=st.sampled_from([1, 1, 0, 1000]),
        empty_batch=st.booleans(),
        numbered_batches=SELDOM,
    )
    def start(self, seed: int, **habits: Any) -> None:
        self.server = ModelServer(Habits(**habits), random.Random(seed))
        self._begin(None, history=False)

    def _begin(self, state: SessionState | None, *, history: bool) -> None:
        """Another client takes the conversation up."""
        self.number += 1
        self.conversation = Conversation(
            identity=f"client-{self.number}", receipt_limit=15.0, greeting_limit=1.0, state=state, history=history
        )
        self.history = history or state is None
        self.until = -1  # what was handed on before this client; a cursor of 0 may also mean: nothing at all
        if state is not None and (state.cursor or state.capabilities is not None):
            self.until = state.cursor
        self.expected = Expected(-1 if history else self.until)
        self.events: list[Event] = []
        self.told: list[tuple[str, Any]] = []
        self.sends: list[Sent] = []
        self.turns: list[tuple[Turn, str]] = []
        self.answers: list[tuple[Turn, list[Message]]] = []
        self.taken: list[Message] = []
        self.not_received: set[str] = set()

    # --- the line ---

    @property
    def online(self) -> bool:
        return self.server.connected

    @property
    def over(self) -> bool:
        return self.conversation.over

    @rule(plain=st.booleans())
    @precondition(lambda self: not self.online and not self.over)
    def connect(self, plain: bool) -> None:
        self.server.connect(self.conversation.cursor_to_ask, plain=plain)
        self.conversation.opened(self.now)
        self._after()

    @rule(count=FEW)
    @precondition(lambda self: self.server.down)
    def frames_arrive(self, count: int) -> None:
        for _ in range(min(count + 1, len(self.server.down))):
            self._arrive()

    def _arrive(self) -> None:
        text = self.server.down.popleft()
        if self.over:
            return
        self.expected.frame(text)
        self.conversation.receive(text, self.now)
        self._after()

    @rule(count=FEW, accept=st.sampled_from([True] * 7 + [False]), lost=SELDOM)
    @precondition(lambda self: self.server.up)
    def server_reads(self, count: int, accept: bool, lost: bool) -> None:
        for _ in range(min(count + 1, len(self.server.up))):
            self.server.read_one(accept=accept, lost=lost)

    @rule(processed=FEW)
    @precondition(lambda self: self.online)
    def socket_dies(self, processed: int) -> None:
        self.server.cut(processed)
        self.conversation.dropped(self.now, 1006)
        self._after()

    @rule(seconds=st.sampled_from([0.1, 0.6, 1.1, 3.0, 6.0, 16.0]), at_once=st.booleans())
    def time_passes(self, seconds: float, at_once: bool) -> None:
        # A server that never echoes leaves nothing but quiet to go by: its history must not be late.
        if not (at_once and self.conversation._liveness.echoes):
            self._drain()
        until = self.now + seconds
        while not self.over and (due := self.conversation.due()) is not None and due <= until:
            self.now = max(self.now, due)
            self.conversation.tick(self.now)
            self._after()
            if self.conversation.is_dead(self.now):
                break
            again = self.conversation.due()
            assert again is None or again > self.now, "due at once again"
        self.now = until
        self.conversation.tick(until)
        self._after()
        if self.online and not self.over and self.conversation.is_dead(until):
            self.socket_dies(0)

    def _drain(self) -> None:
        for _ in range(50):
            if not self.server.up and not self.server.down:
                return
            while self.server.up:
                self.server.read_one(accept=True)
            while self.server.down:
                self._arrive()
        raise AssertionError("the line never comes to rest")

    @rule()
    @precondition(lambda self: self.server.down)
    def frame_is_doubled(self) -> None:
        self.server.repeat()

    @rule()
    @precondition(lambda self: len(self.server.down) > 1)
    def frames_are_swapped(self) -> None:
        self.server.swap()

    # --- the server ---

    @rule(lost=SELDOM)
    @precondition(lambda self: not self.server.ended)
    def agent_speaks(self, lost: bool) -> None:
        self.server.speak(self._text("agent"), lost=lost)

    @rule(streamed=st.booleans(), swapped=st.booleans())
    @precondition(lambda self: self.turns and self.online and not self.server.ended)
    def question_is_answered(self, streamed: bool, swapped: bool) -> None:
        while self.server.up:
            self.server.read_one(accept=True)
        if streamed:
            self.server.stream(self._text("chunk"))
            message_id = list(self.server.streams)[-1]
            self.server.stream(self._text("chunk"), message_id=message_id, last=True)
        else:
            self.server.speak(self._text("agent"))
        if swapped:
            self.server.swap()
        self._drain()

    @rule(pieces=st.integers(1, 3), last=st.booleans(), lost=SELDOM, anew=st.booleans())
    @precondition(lambda self: not self.server.ended)
    def agent_streams(self, pieces: int, last: bool, lost: bool, anew: bool) -> None:
        going = list(self.server.streams)
        message_id = going[0] if going and not anew else None
        for piece in range(pieces):
            self.server.stream(
                self._text("chunk"), message_id=message_id, last=last and piece == pieces - 1, lost=lost and piece == 0
            )
            message_id = message_id or list(self.server.streams or {"": 0})[-1]

    @rule()
    @precondition(lambda self: self.server.streams and not self.server.ended)
    def stream_is_replaced(self) -> None:
        self.server.replace(next(iter(self.server.streams)), self._text("whole"))

    @rule(lost=SELDOM, tagged=st.booleans())
    @precondition(lambda self: not self.server.ended)
    def another_connection_sends(self, lost: bool, tagged: bool) -> None:
        text = self._text("theirs")
        custom = {"client_event_id": f"theirs-{text}"} if tagged else None
        self.server.publish("USER_MESSAGE", {"text": text, "message_id": f"id {text}"}, custom, lost=lost)

    @rule()
    @precondition(lambda self: self.server.habits.tags)
    def another_connections_heartbeat_is_echoed(self) -> None:
        self.server.pass_by("HEARTBEAT", {}, {"client_event_id": "client-of-theirs:1"})

    @rule(
        lost=SELDOM,
        bare=st.booleans(),
        type_=st.sampled_from(["LANGUAGE_CHANGED", "SOMETHING_NEW", "SYSTEM_MESSAGE"]),
    )
    @precondition(lambda self: not self.server.ended)
    def something_else_happens(self, lost: bool, bare: bool, type_: str) -> None:
        self.server.publish(type_, {"language_code": "de", "message": "hm"}, lost=lost, bare=bare)

    @rule(type_=st.sampled_from(["POLY_AGENT_THINKING", "LIVE_AGENT_TYPING"]))
    def something_passes_by(self, type_: str) -> None:
        self.server.pass_by(type_, {})

    @rule()
    def number_is_left_out(self) -> None:
        self.server.skip()

    # --- the user ---

    @rule()
    @precondition(lambda self: not self.over)
    def user_sends(self) -> None:
        self._send()
        self._after()

    @rule(processed=FEW)
    @precondition(lambda self: self.online and not self.over)
    def message_goes_down_with_the_socket(self, processed: int) -> None:
        self.user_sends()
        self.socket_dies(processed)
        self.connect(plain=False)
        self.frames_arrive(5)

    @rule(settle=st.sampled_from([0.0, 0.5]))
    @precondition(lambda self: not self.over and len(self.turns) < 3)
    def user_asks(self, settle: float) -> None:
        turn = Turn(self.now, settle=settle, deadline=self.now + 30)
        self.conversation.lines.join(turn)
        self.turns.append((turn, ""))
        self._after()

    @rule(seldom=SELDOM)
    @precondition(lambda self: self.turns)
    def user_leaves_a_turn(self, seldom: bool) -> None:
        if not seldom:
            return
        turn, _ = self.turns.pop(0)
        self._leave(turn)
        self._after()

    @rule(which=FEW, seldom=SELDOM)
    @precondition(lambda self: any(not sent.settled for sent in self.sends))
    def user_gives_up(self, which: int, seldom: bool) -> None:
        if not seldom:
            return
        pending = [sent for sent in self.sends if not sent.settled]
        sent = pending[which % len(pending)]
        error = self.conversation.give_up(sent)
        assert error is not None
        assert error.outcome == "unknown" or sent.client_event_id not in self.server.accepted()
        self._after()

    @rule()
    def user_reads_a_message(self) -> None:
        if self.conversation.scene.inbox:
            self.taken.append(self.conversation.scene.inbox.popleft())

    @rule(again=st.sampled_from([True, True, False]))
    @precondition(lambda self: self.conversation.questions)
    def policy_answers(self, again: bool) -> None:
        self._answer(again=again)
        self._after()

    def _answer(self, *, again: bool) -> None:
        sent = self.conversation.questions.pop(0)
        assert sent.client_event_id not in self.server.accepted(), "asked about a message that was received"
        (self.conversation.resend if again else self.conversation.keep_back)(sent)

    @rule(processed=FEW, history=st.booleans(), seldom=SELDOM)
    @precondition(lambda self: not self.over)
    def another_client_goes_on(self, processed: int, history: bool, seldom: bool) -> None:
        if not seldom:
            return
        scene, conversation = self.conversation.scene, self.conversation
        state = SessionState(
            session_id="session",
            access_token="token",
            base_url="http://127.0.0.1",
            cursor=conversation.cursor,
            capabilities=conversation.capabilities,
            joined=conversation.joined,
            agent=scene.agent,
            language=scene.language,
            streams=conversation.streams,
        )
        self._hold_published()
        if self.online:
            self.server.cut(processed)
        self.conversation.close(self.now)
        self._after()
        self._check_deliveries(clean=False)
        self.old_sends += self.sends
        self._begin(SessionState.from_json(state.to_json()), history=history)

    @rule(limit=st.sampled_from([None, 2.0]))
    @precondition(lambda self: not self.over and self.chance_of_the_end())
    def user_ends(self, limit: float | None) -> None:
        self.conversation.ask_to_end(None if limit is None else self.now + limit)
        self._after()

    def chance_of_the_end(self) -> bool:
        return self.texts > 25

    # --- held after every step ---

    @invariant()
    def publishes_each_event_once_and_in_order(self) -> None:
        if hasattr(self, "conversation"):
            self._hold_published()

    def _hold_published(self) -> None:
        published = [name_of(event.id, event.sequence, event.type) for event in self.events]
        if self.conversation.end_reason is not None:
            assert published == self.expected.published[: len(published)]  # nothing follows the end
        else:
            assert published == self.expected.published
        new = [event for event in self.events if event.sequence is None or event.sequence > self._old_until()]
        assert [event for hook, event in self.told if hook == "on_event"] == new

    def _old_until(self) -> int:
        return self.until if self.history else -1

    @invariant()
    def cursor_passes_nothing_that_a_replay_could_bring(self) -> None:
        if not hasattr(self, "conversation"):
            return
        cursor = self.conversation.cursor
        missing = [
            event["sequence"]
            for event in self.server.journal
            if self.until < event["sequence"] <= cursor and cursor and event["sequence"] not in self.expected.sequences
        ]
        assert not missing
        assert cursor >= self.until

    @invariant()
    def no_message_is_taken_in_twice(self) -> None:
        if hasattr(self, "conversation"):
            assert all(count == 1 for count in self.server.accepted().values())

    # --- the end ---

    def teardown(self) -> None:
        if not hasattr(self, "conversation"):
            return
        if self.over:
            self._after()
            self._hold_published()
            self._check_deliveries(clean=False)
            return
        for _ in range(2):  # the second one shows that nothing is left to be done
            self._reconnect_cleanly()
        self._hold_published()
        self._check_transcript()
        self._check_deliveries(clean=True)
        self._check_messages_told_and_returned()
        self._check_order()

    def _reconnect_cleanly(self) -> None:
        if self.online:
            self.server.cut(0)
            self.conversation.dropped(self.now, 1006)
            self._after()
        self.server.connect(self.conversation.cursor_to_ask, plain=True)
        self.conversation.opened(self.now)
        self._after()
        for _ in range(4):
            self._drain()
            while self.conversation.questions:
                self._answer(again=True)
                self._after()
            self._drain()
            self.now += LINGER
            self.conversation.tick(self.now)
            self._after()
        self._drain()

    def _check_transcript(self) -> None:
        whole, partial = self.server.transcript()
        settled = [message for message in self.conversation.messages if message.delivery is Delivery.DELIVERED]
        complete = [(message.role, message.text) for message in settled if message.complete]
        assert len({id(message) for message in settled}) == len(settled)
        if self.history:
            assert complete == whole
            assert {message.message_id: message.text for message in settled if not message.complete} == partial
        else:  # it knows what it heard the end of, and whole: what it did not hear of a message, the state held
            known = {key: said for key, said in self.server.utterances().items() if said.ends > self.until}
            assert sorted(complete) == sorted((said.role, said.text) for said in known.values() if said.complete)
            places = [message.sequence or 0 for message in settled if message.complete]
            assert places == sorted(places)
            held = {message.message_id: message.text for message in settled if not message.complete}
            assert held.items() <= partial.items()
            assert held.keys() >= {key for key, said in known.items() if not said.complete}
        assert all(sent.settled for sent in self.sends)

    def _check_deliveries(self, *, clean: bool) -> None:
        accepted = self.server.accepted()
        for sent in self.sends:
            received = sent.client_event_id in accepted
            if sent.message.delivery is Delivery.DELIVERED:
                assert received
            elif clean:
                assert sent.message.delivery is Delivery.FAILED
                assert not received
            if sent.error is not None and sent.error.outcome == "not_received":
                assert not received
        for sent in self.old_sends:
            assert sent.message.delivery is not Delivery.DELIVERED or sent.client_event_id in accepted

    def _check_messages_told_and_returned(self) -> None:
        """Each complete message of the agent was told to the plugins once, and returned by exactly one call."""
        for turn, _ in self.turns:
            self._leave(turn)
        inbox = self.conversation.scene.inbox
        while inbox:
            self.taken.append(inbox.popleft())
        returned = [message.message_id for message in self.taken]
        for _, messages in self.answers:
            returned += [message.message_id for message in messages if message.complete]
        assert len(returned) == len(set(returned))
        told = [message for hook, message in self.told if hook == "on_message"]
        agents = [message.message_id for message in told if message.role == "agent"]
        assert sorted(agents) == sorted(returned)
        delivered = [message.client_event_id for message in told if message.role == "user" and message.client_event_id]
        assert len(delivered) == len(set(delivered))
        settled = {message.message_id for message in self.conversation.messages if message.complete}
        assert set(returned) <= settled

    def _check_order(self) -> None:
        """Messages are taken in by the server in the order in which they were sent; answers stand behind questions."""
        order = [sent.client_event_id for sent in self.sends]
        if not self.server.dropped_silently:
            accepted = [key for key in self.server.accepted() if key in order]
            assert accepted == sorted(accepted, key=order.index)
        said = self.server.utterances()
        for turn, messages in self.answers:
            assert turn.sent is not None
            asked_at = turn.sent.message.sequence
            for message in messages:
                assert asked_at is not None
                assert said[message.message_id].ends > asked_at  # its beginning may have been lost, and come too late

    # --- inside ---

    def _text(self, what: str) -> str:
        self.texts += 1
        return f"{what} {self.texts}."

    def _send(self) -> Sent:
        text = self._text("mine")
        sent = self.conversation.message(text, {}, f"mine-{self.number}-{self.texts}")
        self.conversation.send(sent)
        self.sends.append(sent)
        return sent

    def _leave(self, turn: Turn) -> None:
        self.conversation.leave(turn)
        if turn.reply is not None:
            self.answers.append((turn, list(turn.reply.messages)))

    def _after(self) -> None:
        """What the session does after every change: write, publish, look after those who wait."""
        conversation = self.conversation
        for turn, _ in list(self.turns):
            if turn.done:
                self.turns = [(other, text) for other, text in self.turns if other is not turn]
                self._leave(turn)
            elif (
                turn.sent is None
                and not conversation.over
                and conversation.lines.is_next(turn)
                and not conversation.greeting_expected
            ):
                turn.asked(self._send())
        while (taken := conversation.take_frame(self.now)) is not None:
            assert self.online
            self.server.up.append(json.loads(taken[1]))
        self.events += conversation.take_events()
        self.told += [(hook, arguments[0]) for hook, arguments in conversation.notices.take()]


def test_conversation_holds_against_any_server_that_keeps_the_protocol() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=max(20, settings().max_examples // 2), stateful_step_count=60),
    )
