"""gunicorn with ``--preload`` and a client that the master has used already (``pitfalls.md`` 26)."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from programs import PATIENCE, Program, Service, needs
from servers import gunicorn, stop_gunicorn

from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.emulator import Emulator

pytestmark = needs("flask", "gunicorn")

THREADED = ["--worker-class", "gthread", "--threads", "4"]


def visit(service: Service, name: str, turns: int) -> tuple[str, list[tuple[str, str]], set[int]]:
    """One visitor's conversation: its session, what was said, and which workers served it."""
    state, said, workers = "", [("agent", "Hello!")], set()
    session_id = ""
    for turn in range(turns):
        answer: dict[str, Any] = service.ask(f"{name}, question {turn}", state)
        assert session_id in ("", answer["id"])
        said += [("user", f"{name}, question {turn}"), ("agent", answer["answer"])]
        session_id, state = answer["id"], answer["state"]
        workers.add(answer["worker"])
    return session_id, said, workers


def visits(service: Service, count: int, turns: int = 3) -> list[tuple[str, list[tuple[str, str]], set[int]]]:
    """Many visitors at once."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda number: visit(service, f"visitor {number}", turns), range(count)))


@pytest.mark.parametrize("options", [[], THREADED], ids=["sync", "gthread"])
def test_client_used_in_the_master_serves_in_every_worker(
    options: list[str], run: Callable[..., Program], make_emulator: Callable[..., Emulator]
) -> None:
    emulator = make_emulator(thinking_delay=0.05, capabilities={"heartbeat_interval_seconds": 1})
    service = gunicorn(run, emulator, "--preload", "--workers", "4", *options, SHOP_EARLY="1")
    early = emulator.session
    served: set[int] = set()
    crossing = 0

    def all_have_served() -> bool:
        nonlocal crossing
        for session_id, said, workers in visits(service, 16):
            journal = emulator.sessions[session_id]
            assert list(journal.transcript) == said
            assert [text for role, text in said if role == "agent"][1:] == [
                f"You said: {text}" for role, text in said if role == "user"
            ]
            assert journal.refused == ()
            served.update(workers)
            crossing += len(workers) > 1
        return len(served) == 4

    wait_until(all_have_served, PATIENCE)
    assert service.program.pid not in served
    assert crossing, "a conversation begun in one worker goes on in another"
    for _ in range(8):
        assert service.get("early") == {
            "status": "CLOSED",
            "said": ["Hello!", "before the fork", "You said: before the fork"],
            "threads": [],
        }
    beats = len(early.received)
    wait_until(lambda: len(early.received) > beats)  # the master's own connection is as it was
    assert (early.connections_total, early.connections, early.refused) == (1, 1, ())
    stop_gunicorn(service)
    wait_until(lambda: emulator.connections == 0)
    assert not early.ended


def test_requests_of_one_worker_share_its_client(
    run: Callable[..., Program], make_emulator: Callable[..., Emulator]
) -> None:
    emulator = make_emulator(thinking_delay=0.5)
    service = gunicorn(run, emulator, "--workers", "1", "--worker-class", "gthread", "--threads", "8")
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(service.ask, f"question {number}") for number in range(8)]
        wait_until(lambda: emulator.connections == 8, PATIENCE)
        answers = [one.result() for one in asking]
    assert [one["answer"] for one in answers] == [f"You said: question {number}" for number in range(8)]
    assert len({one["worker"] for one in answers}) == 1
    stop_gunicorn(service)


@pytest.mark.parametrize("options", [[], THREADED], ids=["sync", "gthread"])
def test_graceful_stop_lets_an_ask_have_its_answer(
    options: list[str], run: Callable[..., Program], make_emulator: Callable[..., Emulator]
) -> None:
    emulator = make_emulator(thinking_delay=0.5)
    service = gunicorn(run, emulator, "--preload", "--workers", "2", *options)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(service.ask, "one last thing")
        wait_until(lambda: emulator.sessions and len(emulator.session.transcript) == 2, PATIENCE)
        stop_gunicorn(service)
        assert asking.result()["answer"] == "You said: one last thing"


def test_worker_that_is_killed_costs_no_conversation(run: Callable[..., Program], emulator: Emulator) -> None:
    service = gunicorn(run, emulator, "--preload", "--workers", "1")
    first = service.ask("before")
    os.kill(first["worker"], signal.SIGKILL)  # as the kernel does where memory runs out
    service.program.see("Booting worker(.|\n)*Booting worker", "err")
    second = service.ask("after", first["state"])
    assert second["worker"] != first["worker"]
    assert second["id"] == first["id"]
    assert [text for _, text in emulator.session.transcript] == [
        "Hello!",
        "before",
        "You said: before",
        "after",
        "You said: after",
    ]
