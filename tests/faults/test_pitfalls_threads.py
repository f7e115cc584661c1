"""The threads' and processes' part of what has gone wrong before (``pitfalls.md`` 20 to 30)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from attrs import evolve
from fault_kit import IMPATIENT, Caller, raised, said, within
from line_kit import DEAF, Line
from proxy import HOLE, RESET, Flow
from tls import Authority, trusting

from polyai_sync import ConnectionLostError, ReentrantCallError, Session, SessionClosedError, SessionStatus, hookimpl
from polyai_sync.emulator import EchoAgent, Emulator
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLACK = 0.5


def session_threads() -> list[threading.Thread]:
    """The threads of open sessions."""
    return [one for one in threading.enumerate() if one.name.startswith("polyai-") and one.name != "polyai-emulator"]


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """No session's thread outlives its test's client."""
    yield
    wait_until(lambda: not session_threads())


class Hooks:
    """A plugin of one function."""

    name = "hooks"

    def __init__(self, call: Callable[[Any, Any], None]) -> None:
        self._call = call

    @hookimpl
    def on_event(self, session: Session, event: Any) -> None:
        self._call(session, event)


class Script:
    """A program in a process of its own, with what it prints."""

    def __init__(self, source: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", PROLOGUE + textwrap.dedent(source), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def finish(self, timeout: float = 10) -> tuple[int, str, str]:
        """Exit status and the rest of its output."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode, out, err


PROLOGUE = """
import os, sys, threading
from polyai_sync import Client
from polyai_sync_plugins import Backoff

def make(**options):
    return Client("demo-connector-token", "localhost", base_url=sys.argv[1], **options)

"""


@pytest.mark.pitfall(20)
def test_pitfall_20_reader_and_writers_share_one_tls_connection(ca: Authority) -> None:
    """Megabytes in both directions at once: a single overlapping call would garble or crash it."""
    threads, each, size = 4, 25, 20_000
    with (
        Emulator(agent=EchoAgent(), tls=ca.server()) as emulator,
        emulator.client(http=trusting(ca)) as client,
        client.start_session(streaming=False) as session,
    ):

        def send(number: int) -> None:
            for count in range(each):
                session.send(f"{number}/{count} " + chr(97 + number) * size, wait=count % 5 == 0)

        senders = [Caller(send, number) for number in range(threads)]
        for sender in senders:
            sender.result(30)
        wait_until(lambda: len(emulator.session.transcript) == 1 + 2 * threads * each, timeout=20)
        wait_until(lambda: said(session) == emulator.session.transcript, timeout=20)
        assert emulator.session.connections_total == 1
        assert emulator.session.refused == ()


@pytest.mark.pitfall(21)
@pytest.mark.parametrize("death", [HOLE, DEAF], ids=str)
def test_pitfall_21_close_waits_for_no_silent_peer(death: Any, line: Line) -> None:
    session = line.started(timeouts=evolve(IMPATIENT, close=1))
    line.kill(death)
    with within(1 + SLACK):
        session.close()
    assert session.status is SessionStatus.CLOSED


@pytest.mark.pitfall(21)
def test_pitfall_21_close_waits_for_no_full_socket(line: Line) -> None:
    session = line.started(timeouts=evolve(IMPATIENT, connect=30, close=1))
    line.proxy.set("up", Flow(hole=True))
    text = "x" * 120_000
    writers = [Caller(session.send, text) for _ in range(80)]
    wait_until(lambda: line.socket.sent_by_client > 200_000)
    with within(1 + SLACK):
        session.close()
    for writer in writers:
        writer.join(SLACK)
        assert isinstance(writer.error, SessionClosedError)


@pytest.mark.pitfall(21)
def test_pitfall_21_close_from_a_hook_and_from_many_threads(line: Line) -> None:
    closed: list[float] = []

    def close(session: Session, event: Any) -> None:
        if event.raw["type"] == "EVENT_TYPE_USER_MESSAGE":
            began = time.monotonic()
            session.close()
            closed.append(time.monotonic() - began)

    line.bench.faults.add("agent.silent")
    session = line.started(plugins=[Hooks(close)])
    with pytest.raises(SessionClosedError):
        session.ask("close")
    assert closed[0] < SLACK
    others = [Caller(session.close) for _ in range(8)]
    for other in others:
        other.result(SLACK)
    wait_until(lambda: not session_threads())


@pytest.mark.pitfall(22)
def test_pitfall_22_a_hook_may_call_back_and_is_refused_what_would_wait(line: Line) -> None:
    refused: list[Exception] = []
    seen: list[Any] = []

    def call_back(session: Session, event: Any) -> None:
        if event.raw["type"] != "EVENT_TYPE_USER_MESSAGE" or seen:
            return
        session.send("from the hook", wait=False)
        session.typing()
        seen.extend((session.status, session.messages, session.state, session.agent))
        waits = (
            lambda: session.ask("deadlock?"),
            lambda: session.send("deadlock?"),
            session.next_message,
            session.wait_ended,
            session.end,
            session.join,
            lambda: next(session.events()),
        )
        refused.extend(raised(wait) for wait in waits)

    session = line.started(plugins=[Hooks(call_back)])
    with within(3):
        assert session.ask("hello").text == "You said: hello"
        assert session.next_message().text == "You said: from the hook"
    assert [type(error) for error in refused] == [ReentrantCallError] * 7
    assert len(seen) == 4


@pytest.mark.pitfall(23)
def test_pitfall_23_an_exception_in_a_callback_is_told_and_changes_nothing(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Session, event: Any) -> None:
        raise ValueError(f"cannot stand {event.raw['type']}")

    session = line.started(plugins=[Hooks(fail), line.bench.recorder])
    assert session.ask("well?").text == "You said: well?"
    assert line.bench.recorder.calls("on_event"), "the others are called"
    told = [record for record in caplog.records if record.name == "polyai_sync.plugins"]
    assert any("hooks" in record.getMessage() for record in told)
    assert session.status is SessionStatus.OPEN


@pytest.mark.pitfall(23)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # a thread that exits is the case
def test_pitfall_23_whoever_waits_is_told_when_the_sessions_thread_dies(line: Line) -> None:
    def leave(_: Session, event: Any) -> None:
        if event.raw["type"] == "EVENT_TYPE_USER_MESSAGE":
            raise SystemExit(3)  # passes through hooks, by contract

    line.bench.faults.add("agent.silent")
    session = line.started(plugins=[Hooks(leave)])
    waiting = Caller(session.wait_ended)
    with within(1), pytest.raises(ConnectionLostError) as caught:
        session.ask("bye", timeout=3)
    assert isinstance(caught.value.__cause__, SystemExit)
    with pytest.raises(ConnectionLostError):
        waiting.result(1)
    assert session.status is SessionStatus.FAILED


@pytest.mark.pitfall(24)
def test_pitfall_24_nothing_grows_with_the_reconnects(line: Line) -> None:
    def measure() -> tuple[int, int, int]:
        (thread,) = session_threads()
        assert thread.ident is not None
        frame: Any = sys._current_frames()[thread.ident]
        depth = 0
        while frame is not None:
            frame, depth = frame.f_back, depth + 1
        return threading.active_count(), len(os.listdir("/proc/self/fd")), depth

    def reconnect(times: int) -> None:
        for _ in range(times):
            sockets = line.bench.peer.connections_total
            line.kill(RESET)
            line.back(session, sockets + 1)
            session.ask("a life sign")  # so that the count of attempts begins anew

    session = line.started()
    reconnect(3)
    line.proxy.wait_connections(2)
    before = measure()
    reconnect(40)
    line.proxy.wait_connections(2)
    wait_until(lambda: measure() <= (before[0], before[1] + 1, before[2]) and measure()[1] <= before[1] + 1)
    assert said(session) == line.bench.peer.transcript


@pytest.mark.pitfall(25)
@pytest.mark.parametrize("silent", [False, True], ids=["answering", "silent"])
def test_pitfall_25_a_program_may_just_end(silent: bool, line: Line) -> None:
    script = Script(
        """
        client = make()
        sessions = [client.start_session() for _ in range(3)]
        sessions[0].ask("hello")
        print("ready", flush=True)
        sys.stdin.readline() if len(sys.argv) > 2 else None
        """,
        line.proxy.url,
    )
    assert script.line() == "ready"
    if silent:
        line.proxy.kill(HOLE)
    with within(3):
        assert script.finish() == (0, "", "")


@pytest.mark.pitfall(26)
def test_pitfall_26_a_fork_leaves_the_connection_to_the_parent(line: Line) -> None:
    """Made, used, forked: the child has no connection, and everything it needs for one of its own."""
    script = Script(
        """
        client = make()
        session = client.start_session()
        session.ask("before")
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            assert session.status == "CLOSED", session.status
            assert not [one for one in threading.enumerate() if one.name.startswith("polyai-")]
            try:
                session.send("into the parent's stream")
            except Exception as error:
                assert type(error).__name__ == "SessionClosedError"
            else:
                os._exit(7)
            with client.resume_session(session.state) as mine:
                assert mine.ask("child").text == "You said: child"
            with client.start_session() as another:
                another.ask("new")
            os.write(writer, b"done")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert os.read(reader, 9) == b"done"
        assert session.ask("after").text == "You said: after"
        session.close()
        client.close()
        """,
        line.proxy.url,
    )
    assert script.finish(20) == (0, "", "")
    first = next(iter(line.bench.emulator.sessions.values()))
    spoken = [text for role, text in first.transcript if role == "user"]
    assert spoken == ["before", "child", "after"]
    assert first.refused == ()
    assert first.connections_total == 2


@pytest.mark.pitfall(26)
def test_pitfall_26_a_client_that_is_made_at_import_opens_nothing(line: Line) -> None:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    clients = [line.client() for _ in range(5)]
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors)
    assert line.proxy.accepted == 0
    assert len(clients) == 5


INTERRUPTED = {
    "connecting": ("unreachable", "make().start_session()"),
    "waiting for the token": ("deaf", "make().start_session()"),
    "waiting for a reply": (
        None,
        "s = make().start_session(); print('asking', flush=True); s.ask('quiet', timeout=None)",
    ),
    "backing off": ("refuse", "make(plugins=[Backoff(base=60, cap=60, max_attempts=50)]).start_session(timeout=None)"),
}


@pytest.mark.pitfall(27)
@pytest.mark.parametrize("phase", INTERRUPTED)
def test_pitfall_27_ctrl_c_is_obeyed_within_a_second(phase: str, make_line: Callable[..., Line]) -> None:
    line = make_line(agent=lambda turn: "Hello!" if turn.greeting else None)
    how, call = INTERRUPTED[phase]
    if how == "deaf":
        line.proxy.set("down", Flow(hole=True))
    elif how:
        getattr(line.proxy, how)()
    script = Script(
        f"""
        import signal
        before = signal.getsignal(signal.SIGINT)
        client = make()
        assert signal.getsignal(signal.SIGINT) is before is signal.default_int_handler
        print("calling", flush=True)
        try:
            {call}
        except KeyboardInterrupt:
            print("obeyed", flush=True)
        """,
        line.proxy.url,
    )
    assert script.line() == "calling"
    if how is None:
        assert script.line() == "asking"
        wait_until(lambda: len(line.bench.peer.transcript) == 2)
    elif how == "deaf":
        line.proxy.wait_for(lambda: any(one.up for one in line.proxy.connections))
    time.sleep(0.05)  # until it waits; nothing outside shows that it does
    script.process.send_signal(signal.SIGINT)
    with within(1):
        assert script.line() == "obeyed"
    with within(2):
        assert script.finish() == (0, "", "")


@pytest.mark.pitfall(28)
def test_pitfall_28_the_callers_requests_session_is_shared_by_nobody_and_stays_as_it_was(line: Line) -> None:
    http = requests.Session()
    http.headers["X-Shop"] = "1"
    http.cookies.set("basket", "full")
    before = (dict(http.headers), http.cookies.get_dict(), dict(http.adapters), http.verify, http.proxies, http.auth)
    client = line.client(http=http)
    sessions = [Caller(client.start_session) for _ in range(12)]
    ids = {one.result(20).session_id for one in sessions}
    assert len(ids) == 12
    after = (dict(http.headers), http.cookies.get_dict(), dict(http.adapters), http.verify, http.proxies, http.auth)
    assert after == before
    assert all(entry.headers.get("X-Shop") == "1" for entry in line.bench.emulator.log if entry.method == "POST")


@pytest.mark.pitfall(29)
def test_pitfall_29_nothing_is_open_before_the_server_has_said_so(line: Line) -> None:
    strike = line.proxy.strike("down", "HTTP/1.1 101", DEAF, when="after")
    starting = Caller(line.client().start_session)
    (connect,) = line.bench.recorder.wait_for("on_connect")
    assert strike.fired
    assert connect["session"].status is SessionStatus.CONNECTING
    assert line.bench.recorder.calls("on_session_start") == []
    assert starting.is_alive()
    line.proxy.heal()
    assert starting.result().status is SessionStatus.OPEN
    assert len(line.bench.recorder.calls("on_session_start")) == 1


@pytest.mark.pitfall(30)
@pytest.mark.parametrize("step", [86_400, -86_400])
def test_pitfall_30_a_step_of_the_clock_closes_no_connection_and_keeps_none(
    step: float, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = line.started()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step)
    beats = sum(event["type"] == "EVENT_TYPE_HEARTBEAT" for event in line.bench.peer.received)
    wait_until(lambda: sum(event["type"] == "EVENT_TYPE_HEARTBEAT" for event in line.bench.peer.received) >= beats + 1)
    assert session.ask("what time is it?").text == "You said: what time is it?"
    assert line.bench.peer.connections_total == 1
    line.kill(HOLE)
    with within(2.5 + SLACK):
        line.bench.recorder.wait_for("on_disconnect")
