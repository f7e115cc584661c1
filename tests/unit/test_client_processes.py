"""Ctrl-C, the end of the interpreter, and fork (api.md, architecture.md "Threads"; pitfalls.md 25, 26, 27)."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import pytest

from polyai_sync import ConnectionFailedError
from polyai_sync.messages import EndReason
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fault_kit import Bench

PREAMBLE = """
import os, sys, threading
from polyai_sync import Client, Timeouts

client = Client("demo-connector-token", "localhost", base_url=sys.argv[1], timeouts=Timeouts(close=5))

def ready():
    print("ready", flush=True)

"""
PATIENCE = 1.0
"""Seconds within which an interrupted process has to be gone, and one that has nothing more to do."""

SLACK = 2.0
"""What a busy machine may need to end an interpreter."""


class Script:
    """A Python process of its own."""

    def __init__(self, bench: Bench, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), bench.emulator.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line.strip() != "ready":
            raise AssertionError(f"it is not ready but said {line!r} and {self.process.communicate(timeout=10)}")

    def ended(self, seconds: float) -> tuple[int, str, str]:
        """Exit status, and what it still said; it has to be gone by then."""
        began = time.monotonic()
        out, err = self.process.communicate(timeout=20)
        took = time.monotonic() - began
        assert took < seconds, f"it took {took:.1f} s; stderr: {err}"
        return self.process.returncode, out, err


@pytest.fixture
def run(bench: Bench) -> Iterator[Callable[[str], Script]]:
    scripts: list[Script] = []

    def start(code: str) -> Script:
        scripts.append(Script(bench, code))
        return scripts[-1]

    yield start
    for script in scripts:
        if script.process.poll() is None:
            script.process.kill()
        script.process.communicate()


def asked(bench: Bench, event_type: str) -> Callable[[], bool]:
    return lambda: (
        bool(bench.emulator.sessions)
        and any(event["type"] == f"EVENT_TYPE_{event_type}" for event in bench.peer.received)
    )


INTERRUPTED: dict[str, tuple[str, dict[str, dict[str, object]], str]] = {
    # What the script does, the faults, and the client's event (or leg) after which it certainly waits.
    "token request": ("ready(); client.start_session()", {"http.hang": {"on": "access_token"}}, "access_token"),
    "handshake": ("ready(); client.start_session()", {"http.hang": {"on": "connect"}}, "connect"),
    "back-off": (
        "ready(); client.start_session()",
        {"http.rate_limited": {"on": "session_create", "retry_after": 30}},
        "session_create",
    ),
    "mint": (
        "ready(); client.mint_access_token()",
        {"http.rate_limited": {"on": "access_token", "retry_after": 30}},
        "access_token",
    ),
    "join": ("ready(); client.start_session()", {"start.no_join": {}}, "REQUEST_POLY_AGENT_JOIN"),
    "greeting": ("ready(); client.start_session()", {"start.no_greeting": {}}, "REQUEST_POLY_AGENT_JOIN"),
    "send": ('session = client.start_session(); ready(); session.send("x")', {"message.dropped": {}}, ""),
    "ask": ('session = client.start_session(); ready(); session.ask("x")', {"agent.silent": {}}, "USER_MESSAGE"),
    "stream": (
        'session = client.start_session(); ready(); list(session.stream("x"))',
        {"agent.silent": {}},
        "USER_MESSAGE",
    ),
    "retry of an ask": (
        """
        from polyai_sync.testing import HookRecorder
        client = Client("demo-connector-token", "localhost", base_url=sys.argv[1], load_plugins=False,
                        plugins=[HookRecorder(retry_delay=30.0)])
        session = client.start_session(); ready(); session.ask("x")
        """,
        {"agent.overloaded": {}},
        "USER_MESSAGE",
    ),
    "end": ("session = client.start_session(); ready(); session.end()", {"end.unanswered": {}}, ""),
    "next_message": (
        "session = client.start_session(); session.next_message(); ready(); session.next_message()",
        {},
        "",
    ),
    "events": ("session = client.start_session(); ready(); list(session.events())", {}, ""),
    "wait_ended": ("session = client.start_session(); ready(); session.wait_ended()", {}, ""),
    "reconnect": (
        "session = client.start_session(); ready(); session.wait_ended()",
        {"connection.drop": {"on": "message"}, "http.rate_limited": {"on": "connect", "after": 1, "retry_after": 30}},
        "",
    ),
    "block": ("with client, client.start_session() as session:\n    ready(); session.wait_ended()", {}, ""),
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_ctrl_c_ends_every_wait_within_a_second(name: str, bench: Bench, run: Callable[[str], Script]) -> None:
    code, faults, sign = INTERRUPTED[name]
    for fault, options in faults.items():
        bench.faults.add(fault, **options)
    script = run(code)
    script.wait_ready()
    if sign in ("access_token", "session_create", "connect"):
        wait_until(lambda: not bench.faults.pending)
    elif sign:
        wait_until(asked(bench, sign))
    if name == "reconnect":
        bench.peer.drop()
        wait_until(lambda: bench.emulator.handshakes == 2)
    script.process.send_signal(signal.SIGINT)
    status, _, err = script.ended(PATIENCE + SLACK)
    assert status == -signal.SIGINT
    assert err.rstrip().splitlines()[-1] == "KeyboardInterrupt"
    assert err.count("Traceback (most recent call last)") == 1, err
    assert "Exception ignored" not in err
    assert "Exception in thread" not in err
    wait_until(lambda: bench.emulator.connections == 0)


def test_interrupted_call_leaves_the_session_usable(bench: Bench, run: Callable[[str], Script]) -> None:
    bench.faults.add("agent.silent")
    script = run("""
        session = client.start_session()
        session.next_message()
        ready()
        try:
            session.ask("never answered")
        except KeyboardInterrupt:
            print(session.ask("hello").text)
            print(session.end())
    """)
    script.wait_ready()
    wait_until(asked(bench, "USER_MESSAGE"))
    script.process.send_signal(signal.SIGINT)
    assert script.ended(PATIENCE + SLACK) == (0, "You said: hello\nREASON_USER_END\n", "")


def test_clients_install_no_signal_handler(bench: Bench, run: Callable[[str], Script]) -> None:
    script = run("""
        import signal
        before = [signal.getsignal(one) for one in signal.valid_signals()]
        with client.start_session() as session:
            session.ask("hello")
        assert [signal.getsignal(one) for one in signal.valid_signals()] == before
        ready()
    """)
    script.wait_ready()
    assert script.ended(PATIENCE + SLACK) == (0, "", "")


class TestExit:
    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            ("session = client.start_session(); session.ask('x'); ready()", 0),
            ("sessions = [client.start_session() for _ in range(20)]; ready()", 0),
            ("session = client.start_session(); events = session.events(); next(session.stream('x')); ready()", 0),
            ("session = client.start_session(); ready(); sys.exit(3)", 3),
            (
                """
                session = client.start_session()
                threading.Thread(target=session.wait_ended, daemon=True).start()
                threading.Thread(target=lambda: list(session.events()), daemon=True).start()
                ready()
                """,
                0,
            ),
        ],
        ids=["open session", "many", "stream left", "sys.exit", "waiting threads"],
    )
    def test_without_closing_is_prompt_and_silent(
        self, code: str, expected: int, bench: Bench, run: Callable[[str], Script]
    ) -> None:
        script = run(code)
        script.wait_ready()
        assert script.ended(PATIENCE + SLACK) == (expected, "", "")
        wait_until(lambda: bench.emulator.connections == 0)
        assert not bench.peer.ended  # nobody asked for that

    @pytest.mark.parametrize("fault", ["http.hang", "http.rate_limited"])
    def test_while_reconnecting_is_prompt_and_silent(
        self, fault: str, bench: Bench, run: Callable[[str], Script]
    ) -> None:
        options = {"retry_after": 30} if fault == "http.rate_limited" else {}
        bench.faults.add(fault, on="connect", after=1, **options)
        script = run("session = client.start_session(); ready(); sys.stdin.readline()")
        script.wait_ready()
        bench.peer.drop()
        wait_until(lambda: not bench.faults.pending)
        assert script.process.stdin is not None
        script.process.stdin.write("go\n")
        script.process.stdin.flush()
        assert script.ended(PATIENCE + SLACK) == (0, "", "")

    def test_with_an_exception_shows_that_and_no_more(self, bench: Bench, run: Callable[[str], Script]) -> None:
        script = run("session = client.start_session(); ready(); raise LookupError('mine')")
        script.wait_ready()
        status, out, err = script.ended(PATIENCE + SLACK)
        assert (status, out) == (1, "")
        assert err.count("Traceback") == 1
        assert err.rstrip().endswith("LookupError: mine")

    def test_with_a_slow_hook_does_not_wait_for_ever(self, bench: Bench, run: Callable[[str], Script]) -> None:
        script = run("""
            from polyai_sync import hookimpl

            entered = threading.Event()

            class Stuck:
                name = "stuck"

                @hookimpl
                def on_message(self, message):
                    if message.role == "user":
                        entered.set()
                        threading.Event().wait()

            client = Client("demo-connector-token", "localhost", base_url=sys.argv[1], plugins=[Stuck()])
            session = client.start_session()
            session.send("x", wait=False)
            entered.wait()
            ready()
        """)
        script.wait_ready()
        status, _, err = script.ended(PATIENCE + SLACK)
        assert (status, err) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process")
class TestFork:
    CHILD = """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: it is what this is about

        def in_child(work):
            read, write = os.pipe()
            if (pid := os.fork()) == 0:
                try:
                    os.write(write, str(work()).encode())
                except BaseException as error:
                    os.write(write, repr(error).encode())
                os._exit(0)
            os.close(write)
            with os.fdopen(read) as answer:
                said = answer.read()
            os.waitpid(pid, 0)
            return said
    """

    def said(self, run: Callable[[str], Script], code: str) -> list[str]:
        script = run(textwrap.dedent(self.CHILD) + textwrap.dedent(code))
        status, out, err = script.ended(15)
        assert (status, err) == (0, "")
        return out.splitlines()

    def test_childs_session_is_closed_and_its_state_usable(self, bench: Bench, run: Callable[[str], Script]) -> None:
        lines = self.said(run, """
            session = client.start_session()
            session.ask("first")
            print(in_child(lambda: (session.status.value, len(session.messages))))
            print(in_child(lambda: client.resume_session(session.state).ask("from the child").text))
            print(session.status.value, session.ask("from the parent").text)
            print(session.end())
        """)  # fmt: skip
        assert lines == [
            "('CLOSED', 3)",
            "You said: from the child",
            "OPEN You said: from the parent",
            str(EndReason.USER_END.value),
        ]
        assert bench.peer.connections_total == 2  # the child's own, and the parent's is still its first

    def test_calls_on_the_childs_session_say_that_it_is_closed(
        self, bench: Bench, run: Callable[[str], Script]
    ) -> None:
        lines = self.said(run, """
            session = client.start_session()

            def attempt():
                try:
                    session.ask("hello")
                except Exception as error:
                    return type(error).__name__

            print(in_child(attempt))
            session.close()
        """)  # fmt: skip
        assert lines == ["SessionClosedError"]

    def test_fork_in_the_middle_of_calls_of_other_threads(self, bench: Bench, run: Callable[[str], Script]) -> None:
        lines = self.said(run, """
            session = client.start_session()
            stop = threading.Event()

            def talk():
                while not stop.is_set():
                    session.ask("hello")
                    session.typing()

            talkers = [threading.Thread(target=talk) for _ in range(4)]
            for talker in talkers:
                talker.start()
            for _ in range(10):
                print(in_child(lambda: (session.status.value, bool(session.state.to_json()), session.close())))
            print(in_child(lambda: client.start_session().ask("a session of my own").text))
            stop.set()
            for talker in talkers:
                talker.join()
            print(session.end())
        """)  # fmt: skip
        assert lines == [*["('CLOSED', True, None)"] * 10, "You said: a session of my own", "REASON_USER_END"]

    def test_client_made_before_the_fork_serves_the_children(self, bench: Bench, run: Callable[[str], Script]) -> None:
        lines = self.said(run, """
            print(client.mint_access_token().expires_in)  # the parent has an HTTP connection open
            for number in range(3):
                print(in_child(lambda: client.start_session().ask(f"from child {number}").text))
            print(client.start_session().ask("from the parent").text)
        """)  # fmt: skip
        children = [f"You said: from child {number}" for number in range(3)]
        assert lines == ["86400.0", *children, "You said: from the parent"]

    def test_childs_exit_leaves_the_parents_connection_alone(self, bench: Bench, run: Callable[[str], Script]) -> None:
        lines = self.said(run, """
            session = client.start_session()
            session.next_message()
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                sys.exit(0)  # with all that the end of an interpreter does
            os.waitpid(pid, 0)
            print(session.ask("still there?").text)
        """)  # fmt: skip
        assert lines == ["You said: still there?"]
        assert bench.peer.connections_total == 1

    def test_multiprocessing_pool_just_works(self, bench: Bench, run: Callable[[str], Script]) -> None:
        lines = self.said(run, """
            import multiprocessing
            session = client.start_session()

            def work(number):
                with client.start_session() as own:
                    return own.ask(f"job {number}").text

            with multiprocessing.get_context("fork").Pool(2) as pool:
                print(pool.map(work, range(4)))
            print(session.ask("and I").text)
        """)  # fmt: skip
        assert lines == [str([f"You said: job {number}" for number in range(4)]), "You said: and I"]


class TestExhaustion:
    def test_process_without_descriptors_is_told_so_and_recovers(
        self, bench: Bench, run: Callable[[str], Script]
    ) -> None:
        status, out, err = run("""
            import resource
            from concurrent.futures import ThreadPoolExecutor
            from polyai_sync import PolyAIError
            client = Client("demo-connector-token", "localhost", base_url=sys.argv[1], load_plugins=False)
            client.start_session().close()
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            def open_one(_):
                try:
                    return client.start_session()
                except PolyAIError as error:
                    return error
            with ThreadPoolExecutor(8) as pool:
                results = list(pool.map(open_one, range(60)))
            opened = [one for one in results if not isinstance(one, PolyAIError)]
            for session in opened:
                session.close()
            print(0 < len(opened) < 60)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            print(client.start_session().ask("still here?").text)
        """).ended(60)
        assert (status, err) == (0, "")
        assert out == "True\nYou said: still here?\n"

    @pytest.mark.parametrize("started", [0, 1])
    def test_process_without_threads_is_told_so(
        self, started: int, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = bench.client()
        begin = threading.Thread.start
        count = itertools.count()

        def start(thread: threading.Thread) -> None:
            if thread.name.startswith("polyai-") and next(count) >= started:
                raise RuntimeError("can't start new thread")
            begin(thread)

        monkeypatch.setattr(threading.Thread, "start", start)
        with pytest.raises(ConnectionFailedError, match="out of threads"):
            client.start_session()
        monkeypatch.undo()
        assert client.start_session().ask("hello").text == "You said: hello"
        assert bench.codes.count("client.connect_failed") == 1

    def test_session_goes_on_without_the_last_of_its_threads(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two open it, a third one would serve it."""
        begin = threading.Thread.start
        count = itertools.count()

        def start(thread: threading.Thread) -> None:
            if thread.name.startswith("polyai-") and next(count) >= 2:
                raise RuntimeError("can't start new thread")
            begin(thread)

        client = bench.client()
        monkeypatch.setattr(threading.Thread, "start", start)
        with client.start_session() as session:
            (thread,) = [one for one in threading.enumerate() if one.name == f"polyai-{session.session_id[:8]}"]
            assert session.ask("hello").text == "You said: hello"
        assert not thread.is_alive()
        assert bench.codes.count("client.connect_failed") == 0
