"""Starting, stopping, and what is left behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
import trustme
from emulator_wire import Peer, kind

from polyai_sync.emulator import EchoAgent, Emulator, RestaurantDesk
from polyai_sync.emulator.loop import LoopThread
from polyai_sync.errors import ConfigurationError
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

PROC = Path("/proc/self/fd")


def descriptors() -> int:
    return len(list(PROC.iterdir()))


@pytest.mark.skipif(not PROC.exists(), reason="descriptors are counted in /proc")
def test_twenty_rounds_leave_no_thread_and_no_descriptor() -> None:
    def round_of_calls() -> None:
        with Emulator(agent=EchoAgent()) as emulator:
            peer = Peer(emulator)
            line = peer.joined()
            line.say("hi")
            line.reply()
            emulator.faults.add("connection.silent", on="heartbeat")
            line.send("HEARTBEAT")
            peer.again().next()
            assert emulator.session.connections == 2
            wait_until(lambda: not emulator.faults.pending)
        peer.close()

    round_of_calls()
    gc.collect()
    threads, files = threading.active_count(), descriptors()
    for _ in range(20):
        round_of_calls()
    gc.collect()
    assert threading.active_count() == threads
    assert descriptors() <= files


def test_starting_is_quick() -> None:
    with Emulator():
        pass
    started = time.perf_counter()
    with Emulator() as emulator:
        assert emulator.running
        assert time.perf_counter() - started < 0.25
    assert not emulator.running


def test_a_taken_port_is_named() -> None:
    with Emulator() as first, pytest.raises(ConfigurationError, match=f"port {first.port}") as caught:
        Emulator(port=first.port).start()
    assert isinstance(caught.value.__cause__, OSError)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1 port 0"):
        Emulator(address="192.0.2.1").start()


def test_what_fails_in_the_thread_is_raised_where_it_is_waited_for() -> None:
    async def fails_at_once(_: object) -> None:
        raise OSError("no loop today")

    async def fails_later(ready: Callable[[], None]) -> None:
        ready()
        while not told.is_set():
            await asyncio.sleep(0.001)
        raise OSError("gone")

    threads = threading.active_count()
    told = threading.Event()
    thread = LoopThread("failing")
    with pytest.raises(OSError, match="no loop today"):
        thread.start(fails_at_once)
    thread.start(fails_later)
    assert thread.alive
    told.set()
    with pytest.raises(OSError, match="gone"):
        thread.join()
    assert threading.active_count() == threads
    assert not thread.alive


def test_starting_twice_is_refused_and_changes_nothing() -> None:
    with Emulator() as emulator:
        with pytest.raises(RuntimeError, match="runs already"):
            emulator.start()
        assert Peer(emulator).token().status_code == 200


def test_stopping_twice_or_before_a_start_is_harmless() -> None:
    emulator = Emulator()
    emulator.stop()
    emulator.start()
    emulator.stop()
    emulator.stop()
    with pytest.raises(requests.ConnectionError):
        Peer(emulator).token()


def test_a_second_start_forgets_the_first() -> None:
    emulator = Emulator(agent=EchoAgent())
    with emulator:
        peer = Peer(emulator)
        peer.joined()
        assert emulator.sessions_created == 1
    peer.close()
    assert len(emulator.session.journal) > 1
    with emulator:
        assert (emulator.sessions_created, emulator.tokens_minted, emulator.log) == (0, 0, ())
        with pytest.raises(LookupError):
            _ = emulator.session


def test_stopping_closes_open_sockets_politely_and_at_once() -> None:
    emulator = Emulator(agent=EchoAgent()).start()
    peer = Peer(emulator)
    line = peer.joined()
    emulator.faults.add("http.hang")
    outcomes: list[object] = []

    def ask() -> None:
        try:
            outcomes.append(peer.token())
        except requests.ConnectionError as error:
            outcomes.append(type(error))

    hung = threading.Thread(target=ask)
    hung.start()
    wait_until(lambda: not emulator.faults.pending)
    started = time.monotonic()
    emulator.stop()
    assert time.monotonic() - started < 1
    assert line.gone() == 1001
    hung.join(5)
    assert outcomes == [requests.ConnectionError]
    peer.close()


def test_stopping_does_not_wait_for_a_peer_that_does_not_read() -> None:
    emulator = Emulator(agent=EchoAgent()).start()
    peer = Peer(emulator)
    session_id, token = peer.fresh()
    with socket.create_connection(("127.0.0.1", emulator.port)) as raw:
        lines = [
            f"GET /ws?session_id={session_id}&access_token={token} HTTP/1.1",
            "Host: x",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ]
        raw.sendall("\r\n".join([*lines, "", ""]).encode())
        wait_until(lambda: emulator.session.connections == 1)
        for _ in range(100):
            emulator.session.emit("LANGUAGE_CHANGED", {"language_code": "x" * 100_000})
        started = time.monotonic()
        emulator.stop()
        assert time.monotonic() - started < 2


def test_commands_after_the_stop_say_so_and_views_stay() -> None:
    with Emulator(agent=EchoAgent()) as emulator:
        peer = Peer(emulator)
        peer.joined()
    session = emulator.session
    assert session.transcript == (("agent", "Hello!"),)
    with pytest.raises(RuntimeError, match="not running"):
        session.drop()
    peer.close()


def test_run_forever_ends_with_a_stop_from_elsewhere() -> None:
    emulator = Emulator()
    thread = threading.Thread(target=emulator.run_forever)
    thread.start()
    wait_until(lambda: emulator.running)
    assert Peer(emulator).token().status_code == 200
    emulator.stop()
    thread.join(5)
    assert not thread.is_alive()


def test_an_interrupt_ends_run_forever_and_passes_through() -> None:
    script = (
        "import os, signal, sys, threading\n"
        "from polyai_sync.emulator import Emulator\n"
        "before = signal.getsignal(signal.SIGINT)\n"
        "emulator = Emulator().start()\n"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    emulator.run_forever()\n"
        "except KeyboardInterrupt:\n"
        "    assert not emulator.running and signal.getsignal(signal.SIGINT) is before\n"
        "    print('interrupted')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted\n", "", 0)


def test_an_emulator_left_running_does_not_hold_up_the_exit() -> None:
    script = "from polyai_sync.emulator import Emulator\nEmulator().start()\nprint('left')\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == ("left\n", 0)


def test_several_run_side_by_side() -> None:
    emulators = [Emulator(agent=EchoAgent(greeting=f"I am {number}")).start() for number in range(4)]
    try:
        peers = [Peer(emulator) for emulator in emulators]
        for peer in peers:
            peer.joined()
        assert [emulator.session.transcript for emulator in emulators] == [
            (("agent", f"I am {number}"),) for number in range(4)
        ]
    finally:
        for emulator, peer in zip(emulators, peers, strict=True):
            emulator.stop()
            peer.close()


def test_tls_serves_https_and_wss() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with Emulator(agent=EchoAgent(), tls=context) as emulator, authority.cert_pem.tempfile() as bundle:
        assert emulator.url.startswith("https://127.0.0.1:")
        answer = requests.post(
            f"{emulator.url}/api/v1/access-token",
            headers={"X-Token": emulator.connector_token, "X-Host": emulator.host},
            verify=bundle,
            timeout=5,
        )
        token = answer.json()["access_token"]
        answer = requests.post(
            f"{emulator.url}/api/v1/sessions", headers={"Authorization": f"Bearer {token}"}, verify=bundle, timeout=5
        )
        peer = Peer(emulator, tls=trust)
        line = peer.line(answer.json()["session_id"], token)
        assert kind(line.next()) == "EVENT_BATCH"
        emulator.session.drop()
        assert line.gone() is None
        peer.close()


def test_ipv6_loopback_is_an_address() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Emulator(address="::1") as emulator:
        assert emulator.url.startswith("http://[::1]:")
        assert Peer(emulator).token().status_code == 200


def test_an_agent_that_would_wait_for_its_own_emulator_is_told() -> None:
    def agent(turn):
        if turn.greeting:
            return ["Hello!"]
        with pytest.raises(RuntimeError, match="own emulator"):
            emulator.stop()
        with pytest.raises(RuntimeError, match="from an agent"):
            turn.session.act("more")
        turn.session.emit("LANGUAGE_CHANGED", {"language_code": "de"})
        return ["Still here."]

    with Emulator(agent=agent) as emulator:
        peer = Peer(emulator)
        line = peer.joined(streaming=False)
        line.say("go")
        line.until("LANGUAGE_CHANGED")
        line.until("POLY_AGENT_MESSAGE", text="Still here.")
        assert emulator.session.agent_errors == ()
        peer.close()


def test_a_missing_aiohttp_is_one_sentence() -> None:
    script = (
        "import sys\n"
        "sys.modules['aiohttp'] = None\n"
        "try:\n"
        "    import polyai_sync.emulator\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "The emulator needs aiohttp: pip install 'polyai-sync[emulator]'\n"


def test_the_default_agent_is_the_restaurant() -> None:
    with Emulator() as emulator:
        assert emulator._rules.agent is RestaurantDesk
