"""Living a life: the user's steps against the server, and what both sides then hold against each other."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any

import requests

from polyai_sync import (
    Client,
    DeliveryError,
    EndReason,
    Session,
    SessionState,
    SessionStatus,
    Timeouts,
    WaitTimeoutError,
)
from polyai_sync_plugins import Backoff, Reconnect
from tests.soak.plan import Life, Step, Trouble, answer_to
from tests.soak.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from polyai_sync import Message
    from tests.soak.witness import Record, Witness

__all__ = ["Walk", "make_client"]

_PATIENCE = 20.0
"""Seconds for what may take a black hole and a few failed attempts."""


def make_client(settings: dict[str, Any], witness: Witness) -> Client:
    """A client with the bundled policies, which hurry."""
    http = requests.Session()
    http.trust_env = False  # a proxy of the machine's does not know our port, nor its bundle our authority
    http.verify = settings["bundle"] or True
    return Client(
        **settings["client"],
        http=http,
        plugins=[witness, Backoff(base=0.05, cap=0.3, max_attempts=8), Reconnect(base=0.05, cap=0.4, max_attempts=0)],
        timeouts=Timeouts(connect=5, read=5, ready=30, greeting=20, delivery=40, reply=60, close=10),
    )


class Walk:
    """One life on its way.

    Args:
        life: What to do.
        client: Whose session it is until it is taken up by another.
        settings: Of further clients.
        witness: The plugin of all of them.
        order: Gives the server an order.
        starting: Held during a start: its faults have no session yet that they could be tied to.
        stop: Set when there is no more time.
    """

    def __init__(
        self,
        life: Life,
        client: Client,
        settings: dict[str, Any],
        witness: Witness,
        order: Callable[..., Any],
        starting: threading.Lock,
        stop: threading.Event,
    ) -> None:
        self._life = life
        self._shared = client
        self._own: Client | None = None
        self._settings = settings
        self._witness = witness
        self._order = order
        self._starting = starting
        self._stop = stop
        self._armed = False
        self._session: Session
        self._watcher: Watcher | None = None
        self._past: list[Message] = []
        self._past_sequences: list[int] = []
        self._sent: dict[str, str] = {}
        self._again: Counter[str] = Counter()
        self.verdict = Verdict(life.number)

    def live(self) -> Verdict:
        """From the start to the end, and the checks."""
        try:
            self._start()
        except Exception:
            self._fail("at the start")
            return self.verdict
        id_ = self._session.session_id
        try:
            for step in self._life.steps:
                if self._stop.is_set():
                    break
                self._take(step)
            self._check()
            self._end()
        except Exception:
            self._fail(f"session {id_}")
        finally:
            self._close()
            self._order("calm", session=id_, for_good=True)
            self._order("forget", session=id_)
            self._witness.forget(id_)
        return self.verdict

    def _fail(self, where: str) -> None:
        self.verdict.failed.append(f"{where}: {traceback.format_exc().rstrip()}")

    # --- a session's life ---

    def _start(self) -> None:
        with self._starting:
            self._arm(self._life.start, None)
            try:
                self._session = self._shared.start_session(streaming=self._life.streaming, timeout=60)
            finally:
                self._order("calm", session=None)
        self._witness.count("sessions")
        self._armed = False
        self._watch()
        assert self._session.next_message(timeout=_PATIENCE).text == "Hello!"

    def _watch(self) -> None:
        if self._life.watched:
            self._watcher = Watcher(self._session)

    def _arm(self, troubles: Iterable[Trouble], session: str | None) -> None:
        for trouble in troubles:
            options = dict(trouble.options)
            self._order("arm", session=session, where=trouble.where, name=trouble.name, options=options)
            self._armed = True

    def _calm(self, *, for_good: bool = False) -> None:
        if self._armed or for_good:
            self._armed = False
            self._order("calm", session=self._session.session_id, for_good=for_good)

    def _take(self, step: Step) -> None:
        self._calm()
        self._arm(step.troubles, self._session.session_id)
        try:
            getattr(self, f"_do_{step.kind}")(step)
        except Exception as error:
            error.args = (f"at {step}: {error}", *error.args[1:])
            raise
        self._stop.wait(step.pause)

    def _custom(self, text: str, outcome: str = "accepted") -> dict[str, str]:
        """Give a message its own id, so that both sides can be asked about it."""
        self._sent[text] = outcome
        self._witness.count("messages")
        return {"client_event_id": text}

    # --- steps ---

    def _do_ask(self, step: Step) -> None:
        reply = self._session.ask(step.text, custom=self._custom(step.text))
        assert (reply.text, reply.complete) == (answer_to(step.text), True), reply

    def _do_stream(self, step: Step) -> None:
        with self._session.stream(step.text, custom=self._custom(step.text)) as stream:
            pieces = "".join(stream)
        assert stream.reply is not None
        assert pieces == stream.reply.text == answer_to(step.text), (pieces, stream.reply)

    def _do_send(self, step: Step) -> None:
        message = self._session.send(step.text, custom=self._custom(step.text))
        assert message.delivery == "DELIVERED"
        self._hear(step.text)

    def _do_burst(self, step: Step) -> None:
        texts = [f"{step.text}{letter}" for letter in "abc"]
        for text in texts:
            self._session.send(text, custom=self._custom(text), wait=False)
        for text in texts:
            self._hear(text)

    def _do_news(self, step: Step) -> None:
        self._order("say", session=self._session.session_id, text=f"News {step.text}")
        self._hear_exactly(f"News {step.text}")

    def _do_offline(self, step: Step) -> None:
        self._order("drop", session=self._session.session_id)
        self._do_ask(step)

    def _do_typing(self, step: Step) -> None:
        self._session.typing()

    def _do_dropped(self, step: Step) -> None:
        """The rate limit drops a message without a word: the call must not claim that it arrived."""
        self._arm([Trouble(where="emulator", name="message.dropped")], self._session.session_id)
        try:
            self._session.send(step.text, custom=self._custom(step.text, "not accepted"), timeout=1.5)
        except DeliveryError:
            return
        raise AssertionError("a message that was dropped has a receipt")

    def _do_resume(self, step: Step) -> None:
        self._take_up(history=False)
        self._do_ask(step)

    def _do_resume_with_history(self, step: Step) -> None:
        self._take_up(history=True)
        self._do_ask(step)

    def _do_resume_in_stream(self, step: Step) -> None:
        stream = self._session.stream(step.text, custom=self._custom(step.text))
        next(stream)
        stream.close()
        self._take_up(history=False)
        self._settle(step.text)

    def _do_resume_after_send(self, step: Step) -> None:
        self._session.send(step.text, custom=self._custom(step.text))
        self._take_up(history=step.text.endswith("2>"))
        self._settle(step.text)

    def _hear(self, text: str, timeout: float = 60) -> None:
        self._hear_exactly(answer_to(text), timeout)

    def _hear_exactly(self, text: str, timeout: float = 60) -> None:
        """The next message must be this one; but what an earlier `Session` had above its cursor comes once more."""
        while (heard := self._session.next_message(timeout=timeout).text) != text:
            assert self._again[heard], (heard, text)
            self._again[heard] -= 1

    def _take_up(self, *, history: bool) -> None:
        """Leave the conversation, and go on with it as another process would."""
        old, session_id = self._session, self._session.session_id
        old.close()
        self._stop_watching()
        state = SessionState.from_json(old.state.to_json())
        # Whatever lies above the cursor comes once more: the new session has that, and the old one's is not counted.
        said = [message for message in old.messages if message.complete and message.delivery == "DELIVERED"]
        kept = [message for message in said if message.sequence is not None and message.sequence <= state.cursor]
        self._again += Counter(message.text for message in said if message.role == "agent" and message not in kept)
        told = self._witness.record(session_id).sequences
        self._past = [] if history else self._past + kept
        self._past_sequences += [sequence for sequence in told if sequence <= state.cursor]
        self._witness.begin(session_id)
        if self._own is not None:
            self._own.close()
        self._own = make_client(self._settings, self._witness)
        self._session = self._own.resume_session(state, history=history, timeout=60)
        self._witness.count("resumes")
        self._watch()

    def _settle(self, text: str) -> None:
        """Wait until an answer is there, whichever of the two sessions has it, and let nobody wait for it."""
        deadline = time.monotonic() + 60
        while answer_to(text) not in (message.text for message in self._said() if message.complete):
            assert time.monotonic() < deadline, f"the answer to {text} never came"
            time.sleep(0.02)
        with contextlib.suppress(WaitTimeoutError):
            self._hear(text, timeout=1)  # it is there: what takes so long on a busy machine is that the hooks are told

    def _said(self) -> list[Message]:
        return [*self._past, *self._session.messages]

    # --- what must hold ---

    def _check(self) -> None:
        """Compare both sides at rest, in half of the lives after one more replay."""
        self._calm(for_good=True)
        id_ = self._session.session_id
        if self._life.overtaking or self._life.number % 2:
            if self._life.number % 4 == 1:
                self._arm([Trouble(where="emulator", name="history.full_replay")], id_)
            self._order("drop", session=id_)
        deadline = time.monotonic() + _PATIENCE
        while True:
            audit = self._order("audit", session=id_)
            verdict = Verdict(self._life.number, failed=list(self.verdict.failed))
            self._compare(verdict, audit)
            if (verdict.matches and self._session.status is SessionStatus.OPEN) or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        self.verdict = verdict
        if self._session.status is not SessionStatus.OPEN:
            self.verdict.failed.append(f"the session is {self._session.status}")
        if audit["joins"] != 1:
            self.verdict.failed.append(f"{audit['joins']} joins")
        self.verdict.failed += [f"the server refused {frame}" for frame in audit["refused"]]
        self.verdict.failed += [f"the agent failed: {error}" for error in audit["errors"]]

    def _transcript(self) -> list[tuple[str, str]]:
        return [
            (message.role, message.text)
            for message in self._said()
            if message.complete and message.delivery == "DELIVERED"
        ]

    def _compare(self, verdict: Verdict, audit: dict[str, Any]) -> None:
        """What was said, what was told, and that each message was taken in once, in the order in which it was sent."""
        verdict.compare("message", [tuple(one) for one in audit["transcript"]], self._transcript())
        types = {sequence: type_.removeprefix("EVENT_TYPE_") for sequence, type_ in audit["journal"]}
        journal = [f"{sequence} {type_}" for sequence, type_ in types.items() if type_ != "HEARTBEAT"]
        told = self._past_sequences + self._witness.record(self._session.session_id).sequences
        handed_on = [f"{sequence} {types.get(sequence)}" for sequence in told]
        verdict.compare("event", journal, handed_on, ordered=not self._life.overtaking)
        expected = [text for text, outcome in self._sent.items() if outcome == "accepted"]
        verdict.compare("own message", expected, audit["accepted"])

    # --- the end ---

    def _end(self) -> None:
        getattr(self, f"_end_{self._life.ending}")()
        expected = SessionStatus.CLOSED if self._life.ending == "close" else SessionStatus.ENDED
        assert self._session.status is expected, self._session.status

    def _ended(self, reason: str) -> None:
        assert self._session.wait_ended(timeout=_PATIENCE) == reason

    def _end_end(self) -> None:
        assert self._session.end() == EndReason.USER_END

    def _end_close(self) -> None:
        self._session.close()

    def _end_natural(self) -> None:
        self._order("end", session=self._session.session_id, reason="REASON_NATURAL_END")
        self._ended(EndReason.NATURAL_END)

    def _end_abandoned(self) -> None:
        self._order("end", session=self._session.session_id, reason="REASON_USER_ABANDONED")
        self._ended(EndReason.USER_ABANDONED)

    def _end_gone(self) -> None:
        self._arm([Trouble(where="emulator", name="connect.session_not_found")], self._session.session_id)
        self._order("drop", session=self._session.session_id)
        self._ended(EndReason.SESSION_NOT_FOUND)

    def _end_unauthorized(self) -> None:
        self._arm([Trouble(where="emulator", name="connect.authentication_failed")], self._session.session_id)
        self._order("drop", session=self._session.session_id)
        self._ended(EndReason.AUTHENTICATION_FAILED)

    def _end_expired(self) -> None:
        self._order("expire", session=self._session.session_id)
        self._ended(EndReason.SESSION_NOT_FOUND)

    def _end_only_1000(self) -> None:
        self._arm([Trouble(where="emulator", name="end.close_1000_only")], self._session.session_id)
        self._order("end", session=self._session.session_id, reason="REASON_NATURAL_END")
        self._ended(EndReason.CLOSED_BY_SERVER)

    def _close(self) -> None:
        self._session.close()
        self._stop_watching()
        if self._own is not None:
            self._own.close()

    def _stop_watching(self) -> None:
        """What the iterator had must be what the hooks had: the same events, in the same order."""
        if self._watcher is not None:
            record = self._witness.record(self._session.session_id)
            self.verdict.failed += self._watcher.compare(record)
            self._watcher = None


class Watcher:
    """An iterator over all events of one `Session`, on a thread of its own."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sequences: list[int] = []
        self._failure = ""
        self._thread = threading.Thread(target=self._run, name="soak-watcher", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for event in self._session.events(replay=True):
                if event.sequence is not None:
                    self._sequences.append(event.sequence)
        except Exception:
            self._failure = traceback.format_exc()

    def compare(self, record: Record) -> list[str]:
        """What differs."""
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            return ["an iterator goes on after the end of its session"]
        if self._failure:
            return [f"an iterator raised: {self._failure}"]
        told = self._sequences[len(self._sequences) - len(record.sequences) :]  # with a history it begins earlier
        return [] if told == record.sequences else [f"an iterator had {told[-9:]}, the hooks {record.sequences[-9:]}"]
