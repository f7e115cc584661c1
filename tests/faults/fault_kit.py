"""What the fault suites share: impatient clients, policies in a hurry, and how an error is held against its row."""

from __future__ import annotations

import builtins
import json
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from attrs import define, evolve, field

import polyai_sync
from polyai_sync import Client, PolyAIError, Session, SessionStatus, Timeouts, hookimpl
from polyai_sync.catalog import entry_for_code
from polyai_sync.emulator import EchoAgent, Emulator
from polyai_sync.testing import HookRecorder, wait_until
from polyai_sync_plugins import Backoff, Reconnect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from polyai_sync.emulator import EmulatedSession

T = TypeVar("T")

SPEC_ROWS: Mapping[str, Mapping[str, Any]] = {
    row["code"]: row
    for row in json.loads((Path(__file__).parents[1] / "data" / "error-codes.json").read_text(encoding="utf-8"))
}
"""The rows of the specification, by code."""

IMPATIENT = Timeouts(connect=3, read=3, ready=3, greeting=3, delivery=3, reply=4, close=2)
"""No test needs longer; a hang is seen early."""


class Hurried:
    """A bundled policy whose pauses are cut short; what it really answered is kept."""

    def __init__(self, policy: Backoff | Reconnect, longest: float = 0.005) -> None:
        self.name = policy.name
        self.answers: list[float | None] = []
        self._policy = policy
        self._longest = longest

    def _cut(self, answer: float | None) -> float | None:
        self.answers.append(answer)
        return None if answer is None else min(answer, self._longest)


class HurriedBackoff(Hurried):
    """`Backoff` without the waiting."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(Backoff(**settings))

    @hookimpl
    def retry_delay(self, error: PolyAIError, attempt: int) -> float | None:
        assert isinstance(self._policy, Backoff)
        return self._cut(self._policy.retry_delay(error, attempt))


class HurriedReconnect(Hurried):
    """`Reconnect` without the waiting."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(Reconnect(**settings))

    @hookimpl
    def reconnect_delay(self, session: Session, error: PolyAIError, attempt: int) -> float | None:
        assert isinstance(self._policy, Reconnect)
        return self._cut(self._policy.reconnect_delay(session, error, attempt))


@define
class Bench:
    """A running emulator, and clients of it with everything recorded."""

    emulator: Emulator
    recorder: HookRecorder = field(factory=HookRecorder)
    backoff: HurriedBackoff = field(factory=HurriedBackoff)
    reconnect: HurriedReconnect = field(factory=HurriedReconnect)
    _clients: list[Client] = field(factory=list)

    @property
    def faults(self) -> Any:
        return self.emulator.faults

    @property
    def peer(self) -> EmulatedSession:
        """The server's side of the latest session."""
        return self.emulator.session

    def client(self, **options: Any) -> Client:
        """A client with the bundled policies, in a hurry."""
        given = options.pop("plugins", [self.recorder, self.backoff, self.reconnect])
        client = self.emulator.client(**{"timeouts": IMPATIENT, "plugins": given, **options})
        self._clients.append(client)
        return client

    def bare(self, **options: Any) -> Client:
        """A client without any policy: the first error is raised."""
        return self.client(**{"plugins": [self.recorder], "load_plugins": False, **options})

    def close(self) -> None:
        for client in self._clients:
            client.close()

    # --- what was recorded ---

    @property
    def errors(self) -> list[PolyAIError]:
        """What ``on_error`` was told, in order."""
        return [call["error"] for call in self.recorder.calls("on_error")]

    @property
    def codes(self) -> list[str]:
        return [error.code for error in self.errors]

    @property
    def ends(self) -> list[tuple[str, PolyAIError | None]]:
        return [(call["reason"], call["error"]) for call in self.recorder.calls("on_session_end")]

    @property
    def tries(self) -> list[tuple[str, str, int]]:
        """``(operation, code, attempt)`` of each question to the retry policies."""
        calls = self.recorder.calls("retry_delay")
        return [(call["operation"], call["error"].code, call["attempt"]) for call in calls]


def raised(call: Callable[..., object], *args: Any, **kwargs: Any) -> PolyAIError:
    """The error that a call raises; it must raise one."""
    try:
        result = call(*args, **kwargs)
    except PolyAIError as error:
        return error
    raise AssertionError(f"nothing was raised; the result was {result!r}")


def check_row(error: PolyAIError, code: str, *, surface: str, status: int | None, text: str | None) -> None:
    """Is ``error`` what the specification's row says, from its class to its advice?

    Args:
        error: What was raised or reported.
        code: The row.
        surface: The leg it must have been met on.
        status: The HTTP status it must carry.
        text: The server's words; ``None`` where it had none.
    """
    row, entry = SPEC_ROWS[code], entry_for_code(code)
    assert entry is not None
    assert error.code == code
    assert type(error) is getattr(polyai_sync, row["exception"])
    for base in row.get("also_a", ()):
        assert isinstance(error, getattr(polyai_sync, base, None) or getattr(builtins, base))
    assert error.surface == surface
    assert error.status == status
    assert error.retryable is row["retryable"]
    assert error.resolution
    assert error.resolution in str(error)
    if text is not None:
        assert error.message == text
    assert error.message
    if row.get("display"):
        assert error.user_text == text
    else:
        assert error.user_text == entry.user_text
        assert error.user_text not in ("", text)
    assert error.entry is entry


def said(session: Session) -> tuple[tuple[str, str], ...]:
    """The client's transcript in the form of `EmulatedSession.transcript`."""
    return tuple((message.role, message.text) for message in session.messages)


def stays(predicate: Callable[[], bool], seconds: float) -> bool:
    """Is it true now, and for so long?"""
    until = time.monotonic() + seconds
    while predicate():
        if time.monotonic() >= until:
            return True
        threading.Event().wait(0.01)
    return False


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What is inside must not take longer."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took <= seconds, f"took {took:.2f} s, and {seconds} s were allowed"


class Caller(threading.Thread):
    """A call on a thread of its own, and what came of it."""

    def __init__(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._args = args
        self._kwargs = kwargs
        self.value: Any = None
        self.error: BaseException | None = None
        self.took = 0.0
        self.start()

    def run(self) -> None:
        began = time.monotonic()
        try:
            self.value = self._call(*self._args, **self._kwargs)
        except BaseException as error:
            self.error = error
        self.took = time.monotonic() - began

    def result(self, timeout: float = 10.0) -> Any:
        """What it returned, or raise what it raised."""
        self.join(timeout)
        assert not self.is_alive(), f"still waiting after {timeout} s"
        if self.error is not None:
            raise self.error
        return self.value


def check_nothing_doubled(bench: Bench) -> None:
    """Whatever came twice was told once."""
    recorder = bench.recorder
    events = [call["event"] for call in recorder.calls("on_event")]
    ids = Counter(event.id for event in events if event.id and event.sequence is not None)
    assert [one for one, count in ids.items() if count > 1] == []
    messages = Counter((call["message"].role, call["message"].message_id) for call in recorder.calls("on_message"))
    assert [one for one, count in messages.items() if count > 1] == []
    deliveries = Counter(call["message"].client_event_id for call in recorder.calls("on_delivery"))
    assert [one for one, count in deliveries.items() if count > 1] == []
    accepted = Counter(
        event["metadata"]["custom"]["client_event_id"]
        for event in bench.peer.received
        if event["type"] == "EVENT_TYPE_USER_MESSAGE"
    )
    assert [one for one, count in accepted.items() if count > 1] == []
    joins = [event for event in bench.peer.received if event["type"].endswith("REQUEST_POLY_AGENT_JOIN")]
    assert len(joins) == 1
    assert len(recorder.calls("on_session_start")) == 1


def come_back(bench: Bench, session: Session) -> None:
    """Drop the connection and wait until it is back."""
    connections = bench.peer.connections_total
    bench.peer.drop()
    wait_until(lambda: bench.peer.connections_total > connections and session.status is SessionStatus.OPEN)


def short(**limits: float) -> Timeouts:
    """Less patience still, in what a test is about."""
    return evolve(IMPATIENT, **limits)


def started(bench: Bench, **options: Any) -> Session:
    """A session whose greeting has been read."""
    session = bench.client(**options).start_session()
    session.next_message()
    return session


SCENES: dict[str, str] = {}
"""Faults with a test of their own: name -> the test's name."""


def holds(*faults: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Note which faults a test is about."""

    def note(test: Callable[..., None]) -> Callable[..., None]:
        SCENES.update(dict.fromkeys(faults, test.__name__))
        return test

    return note


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    """Benches with an emulator as asked for; it echoes unless told otherwise."""
    with ExitStack() as stack:

        def make(**options: Any) -> Bench:
            emulator = stack.enter_context(Emulator(**{"agent": EchoAgent(), **options}))
            bench = Bench(emulator)
            stack.callback(bench.close)
            return bench

        yield make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """A bench whose agent greets with "Hello!" and echoes."""
    return make_bench()
