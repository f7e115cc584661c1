"""``close()`` against a silent peer: at once, in each phase, and nothing stays behind (``pitfalls.md`` 21, 24).

The matrix of the fault suites holds that it keeps to its time-out and tells every waiter.
"""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest
from phases import PHASES, Silence
from programs import environment, python
from proxy import FaultProxy
from tls import Authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from programs import Program

    from polyai_sync.emulator import Emulator

AT_ONCE = 0.5
"""Seconds; the time-out of a polite end is ten times as long, and no phase needs it."""

#: What the program does: the phase on another thread, and `close` when it is told to.
SOURCE = """
import json, os, threading, time
from polyai_sync import SessionClosedError

def sockets():
    kept = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.lexists(entry.path)]
    return [name for name in kept if name.startswith("socket:")]

def phase():
    try:
        {code}
    except SessionClosedError:
        pass

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
thread = threading.Thread(target=phase)
thread.start()
signal.sigwait([signal.SIGUSR1])
began = time.monotonic()
client.close()
took = time.monotonic() - began
thread.join({at_once})
while len(threading.enumerate()) > 1 and time.monotonic() < began + {at_once}:
    time.sleep(0.01)
print(json.dumps([took, [one.name for one in threading.enumerate()], sockets()]))
"""


@pytest.mark.parametrize("name", [name for name in PHASES if name != "mint"])  # which is no session's
def test_close_is_immediate_and_leaves_nothing(
    name: str, run: Callable[..., Program], emulator: Emulator, proxy: FaultProxy
) -> None:
    close_in(name, run, emulator, proxy)


@pytest.mark.parametrize("name", ["token", "session", "handshake", "ask"])
def test_close_is_immediate_over_tls_too(
    name: str, run: Callable[..., Program], emulator: Emulator, tmp_path: Path
) -> None:
    ca = Authority(tmp_path)
    with FaultProxy(emulator.port, tls=ca.server()) as proxy:
        close_in(name, run, emulator, proxy, REQUESTS_CA_BUNDLE=str(ca.bundle))


def test_close_is_immediate_in_the_handshake_of_tls(
    run: Callable[..., Program], make_emulator: Callable[..., Emulator], tmp_path: Path
) -> None:
    """Where a reconnect hangs whose greeting is answered by nobody."""
    ca = Authority(tmp_path)
    emulator = make_emulator(tls=ca.server())
    with FaultProxy(emulator.port, framed=False) as proxy:
        address = proxy.url.replace("http:", "https:")
        close_in("reconnect", run, emulator, proxy, REQUESTS_CA_BUNDLE=str(ca.bundle), POLYAI_BASE_URL=address)


def close_in(name: str, run: Callable[..., Program], emulator: Emulator, proxy: FaultProxy, **variables: str) -> None:
    """Close in a phase, and look at what is left."""
    source = SOURCE.format(code=PHASES[name].code, at_once=AT_ONCE)
    silence = Silence(name, source, run, emulator, proxy, **variables)
    silence.program.signal(signal.SIGUSR1)
    status, out, err = silence.program.ended(5)
    assert (status, err) == (0, "")
    took, threads, sockets = json.loads(out.splitlines()[-1])
    assert took <= AT_ONCE
    assert threads == ["MainThread"]
    assert sockets == []


def test_close_gives_a_running_hook_its_time_and_no_more(run: Callable[..., Program], emulator: Emulator) -> None:
    source = """
    import threading, time
    from polyai_sync import Client, Timeouts, hookimpl

    entered, release = threading.Event(), threading.Event()

    class Stuck:
        name = "stuck"

        @hookimpl
        def on_message(self, message):
            if message.role == "user":
                entered.set()
                release.wait()

    client = Client(plugins=[Stuck()], timeouts=Timeouts(close=0.5), block=["logging"])
    session = client.start_session()
    session.send("hello", wait=False)
    entered.wait()
    began = time.monotonic()
    client.close()
    took = time.monotonic() - began
    assert 0.4 < took < 1.0, took
    release.set()
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(1)
    assert threading.enumerate() == [threading.main_thread()]
    """
    assert run(python(source), env=environment(emulator)).ended() == (0, "", "")
