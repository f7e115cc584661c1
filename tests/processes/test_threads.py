"""Many sessions of one client, opened and closed by many threads: nothing is mixed up, and nothing stays behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from programs import Program, environment, python
from tls import Authority

from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from polyai_sync.emulator import Emulator

SESSIONS, THREADS = 200, 16

PROGRAM = f"""
import os, sys, threading
from concurrent.futures import ThreadPoolExecutor
from polyai_sync import Client

def census():
    return len(os.listdir("/proc/self/fd")), [one.name for one in threading.enumerate()]

def talk(number):
    with client.start_session() as session:
        assert session.next_message().text == "Hello!"
        reply = session.ask(f"number {{number}}")
        assert reply.text == f"You said: number {{number}}", reply
        if number % 2:
            assert session.end() == "REASON_USER_END"
    return session.status.value

with Client() as client:
    talk(0)  # what is made once
before = census()
with Client() as client, ThreadPoolExecutor({THREADS}) as pool:
    statuses = list(pool.map(talk, range({SESSIONS})))
after = census()
assert statuses == ["CLOSED", "ENDED"] * ({SESSIONS} // 2), statuses
assert after == before, (before, after)
"""


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_two_hundred_sessions_by_sixteen_threads_leave_nothing_behind(
    tls: bool, run: Callable[..., Program], make_emulator: Callable[..., Emulator], tmp_path: Path
) -> None:
    ca = Authority(tmp_path)
    emulator = make_emulator(tls=ca.server() if tls else None, end_retention=600.0)
    program = run(python(PROGRAM), env=environment(emulator, REQUESTS_CA_BUNDLE=str(ca.bundle)))
    assert program.ended() == (0, "", "")
    _, *journals = emulator.sessions.values()
    assert len(journals) == SESSIONS
    said = sorted(journal.transcript for journal in journals)
    assert said == sorted(
        (("agent", "Hello!"), ("user", f"number {number}"), ("agent", f"You said: number {number}"))
        for number in range(SESSIONS)
    )
    assert all((journal.connections_total, journal.refused) == (1, ()) for journal in journals)
    assert sum(journal.ended for journal in journals) == SESSIONS // 2
    wait_until(lambda: emulator.connections == 0)
