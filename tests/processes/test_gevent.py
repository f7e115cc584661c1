"""The same code on greenlets, once gevent has patched the standard library (architecture.md, "Threads")."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from programs import APPS, PATIENCE, Program, environment, needs, python
from servers import gunicorn, stop_gunicorn
from tls import Authority

from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from polyai_sync.emulator import Emulator

pytestmark = needs("flask", "gevent", "gunicorn")

GEVENT = ("--worker-class", "gevent", "--workers", "1")
PATCHED_FIRST = ("--preload", "--config", str(APPS / "gevent_first.py"))

PROLOGUE = """
from gevent import monkey
monkey.patch_all()
import gevent, os, sys, threading
from polyai_sync import Client, SessionClosedError

client = Client()
"""


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("options", [(), PATCHED_FIRST], ids=["", "preload"])
def test_requests_of_one_worker_wait_side_by_side(
    options: tuple[str, ...],
    tls: bool,
    run: Callable[..., Program],
    make_emulator: Callable[..., Emulator],
    tmp_path: Path,
) -> None:
    """Eight conversations in one process at once: were one call to block for real, there would be one."""
    ca = Authority(tmp_path)
    emulator = make_emulator(thinking_delay=0.5, tls=ca.server() if tls else None)
    service = gunicorn(run, emulator, *GEVENT, *options, REQUESTS_CA_BUNDLE=str(ca.bundle))
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(service.ask, f"question {number}") for number in range(8)]
        wait_until(lambda: emulator.connections == 8, PATIENCE)
        answers = [one.result() for one in asking]
    assert [one["answer"] for one in answers] == [f"You said: question {number}" for number in range(8)]
    assert len({one["worker"] for one in answers}) == 1
    stop_gunicorn(service)
    wait_until(lambda: emulator.connections == 0)


def test_session_of_a_patched_master_stays_the_masters(
    run: Callable[..., Program], make_emulator: Callable[..., Emulator]
) -> None:
    """A fork copies greenlets, the session's own too; the copy must leave the connection alone, and without a word."""
    emulator = make_emulator(capabilities={"heartbeat_interval_seconds": 1})
    service = gunicorn(run, emulator, *GEVENT, *PATCHED_FIRST, SHOP_EARLY="1")
    early = emulator.session
    assert service.get("early") == {
        "status": "CLOSED",
        "said": ["Hello!", "before the fork", "You said: before the fork"],
        "threads": [],
    }
    assert service.ask("and you?")["answer"] == "You said: and you?"
    beats = len(early.received)
    wait_until(lambda: len(early.received) >= beats + 2)
    assert (early.connections_total, early.connections, early.refused) == (1, 1, ())
    stop_gunicorn(service)


def test_many_greenlets_share_a_client_and_leave_nothing(
    run: Callable[..., Program], make_emulator: Callable[..., Emulator]
) -> None:
    emulator = make_emulator(thinking_delay=0.1)
    program = run(
        python(
            PROLOGUE
            + """
def census():
    kept = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.lexists(entry.path)]
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("polyai-")]
    return [name for name in kept if name.startswith("socket:")], threads

def talk(number):
    with client.start_session() as session:
        assert session.ask(f"number {number}").text == f"You said: number {number}"
        session.typing()
        assert session.end() == "REASON_USER_END"

greenlets = [gevent.spawn(talk, number) for number in range(40)]
gevent.joinall(greenlets, raise_error=True)
client.close()
assert census() == ([], []), census()
"""
        ),
        env=environment(emulator),
    )
    wait_until(lambda: emulator.connections > 20, PATIENCE)
    assert program.ended() == (0, "", "")
    assert all(session.ended and session.refused == () for session in emulator.sessions.values())


def test_greenlet_that_is_given_up_leaves_its_session_usable(run: Callable[..., Program], emulator: Emulator) -> None:
    """`gevent.Timeout`, ``kill()`` and Ctrl-C are raised wherever a greenlet waits."""
    emulator.faults.add("agent.silent", times=2)
    program = run(
        python(
            PROLOGUE
            + """
session = client.start_session()
try:
    with gevent.Timeout(0.2):
        session.ask("too slow")
except gevent.Timeout:
    pass
waiting = gevent.spawn(session.ask, "never mind")
gevent.sleep(0.1)
waiting.kill()
assert session.ask("hello").text == "You said: hello"
assert session.end() == "REASON_USER_END"
"""
        ),
        env=environment(emulator),
    )
    assert program.ended() == (0, "", "")
    assert [text for role, text in emulator.session.transcript if role == "user"] == ["too slow", "never mind", "hello"]


def test_exit_with_open_sessions_is_prompt_and_silent(run: Callable[..., Program], emulator: Emulator) -> None:
    program = run(
        python(
            PROLOGUE
            + """
sessions = [client.start_session() for _ in range(3)]
waiting = gevent.spawn(sessions[0].wait_ended)
gevent.sleep(0)
print("ready", flush=True)
"""
        ),
        env=environment(emulator),
    )
    program.see("^ready$")
    assert program.ended(2) == (0, "ready\n", "")
    wait_until(lambda: emulator.connections == 0)
