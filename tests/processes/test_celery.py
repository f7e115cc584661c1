"""Celery's prefork pool, with a client that the worker has used before it forked (``pitfalls.md`` 26, 38)."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Any

from programs import PATIENCE, Program, environment, needs

from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.emulator import Emulator

pytestmark = needs("celery", "redis", tool="redis-server")

POOL = 4


class Shop:
    """A worker, and what is asked of it."""

    def __init__(self, run: Callable[..., Program], emulator: Emulator, redis: str) -> None:
        self._run = run
        self._env = environment(emulator, SHOP_REDIS=redis)
        options = ["--pool", "prefork", "--concurrency", str(POOL), "--loglevel", "WARNING", "--without-gossip"]
        command = [sys.executable, "-W", "ignore:You're running the worker", "-m", "celery", "--app", "tasks", "worker"]
        self.worker = run(
            [*command, *options, "--without-mingle"], env={**self._env, "SHOP_EARLY": "1", "PYTHONUNBUFFERED": "1"}
        )

    def do(self, *calls: str) -> list[dict[str, Any]]:
        """Have tasks done, and return what came of each."""
        asking = self._run([sys.executable, "-m", "tasks", *calls], env=self._env)
        status, out, err = asking.ended()
        assert (status, err) == (0, ""), self.worker.told
        return [json.loads(line) for line in out.splitlines()]

    def stop(self) -> None:
        """A warm shutdown, with nothing said on standard error."""
        self.worker.signal(signal.SIGTERM)
        status, _, err = self.worker.ended(10)
        assert (status, err) == (0, "")


def test_client_used_before_the_fork_serves_in_every_process(
    run: Callable[..., Program], make_emulator: Callable[..., Emulator], redis: str
) -> None:
    emulator = make_emulator(thinking_delay=0.1, capabilities={"heartbeat_interval_seconds": 1})
    shop = Shop(run, emulator, redis)
    served: set[int] = set()

    def all_have_served() -> bool:
        texts = [f"question {number}" for number in range(16)]
        for text, outcome in zip(texts, shop.do(*(f"ask:{text}" for text in texts)), strict=True):
            assert outcome["answer"] == f"You said: {text}"
            journal = emulator.sessions[outcome["id"]]
            assert journal.transcript == (("agent", "Hello!"), ("user", text), ("agent", f"You said: {text}"))
            assert journal.refused == ()
            served.add(outcome["worker"])
        return len(served) == POOL

    wait_until(all_have_served, PATIENCE)
    early = next(iter(emulator.sessions.values()))
    assert [text for _, text in early.transcript] == ["Hello!", "before the fork", "You said: before the fork"]
    outcomes = shop.do(*["inherited:"] * POOL)
    assert {outcome["status"] for outcome in outcomes} == {"CLOSED"}
    assert {outcome["worker"] for outcome in outcomes} <= served
    beats = len(early.received)
    wait_until(lambda: len(early.received) > beats)
    assert (early.connections_total, early.connections, early.refused) == (1, 1, ())
    shop.stop()
    wait_until(lambda: emulator.connections == 0)
    assert not early.ended


def test_errors_reach_whoever_asked(run: Callable[..., Program], emulator: Emulator, redis: str) -> None:
    shop = Shop(run, emulator, redis)
    shop.do("inherited:")  # the worker's own use is over
    emulator.faults.add("access_token.unknown_connector")
    emulator.faults.add("agent.stream_failed")
    outcomes = shop.do("ask:hello", "ask:hello")
    raised = sorted(outcome["raised"] for outcome in outcomes)
    assert [name for _, name, _ in raised] == ["AgentError", "AuthenticationError"]
    assert {module for module, _, _ in raised} == {"polyai_sync.errors"}
    assert raised[1][2].startswith("Connector token does not exist")
    shop.worker.signal(signal.SIGTERM)
    assert shop.worker.ended(10)[0] == 0
    assert shop.worker.err.count("Traceback (most recent call last)") == 2  # Celery tells of tasks that failed


def test_soft_time_limit_interrupts_an_ask_and_no_more(
    run: Callable[..., Program], emulator: Emulator, redis: str
) -> None:
    shop = Shop(run, emulator, redis)
    shop.do("inherited:")
    emulator.faults.add("agent.silent")
    (outcome,) = shop.do("ask_in_time:hello")
    assert outcome["answer"] == "You said: Are you still there?"
    assert [one["answer"] for one in shop.do(*["ask:and now?"] * POOL)] == ["You said: and now?"] * POOL
    shop.worker.signal(signal.SIGTERM)
    assert shop.worker.ended(10)[0] == 0
    assert "Traceback" not in shop.worker.err


def test_warm_shutdown_waits_for_a_task(
    run: Callable[..., Program], make_emulator: Callable[..., Emulator], redis: str
) -> None:
    emulator = make_emulator(thinking_delay=0.5)
    shop = Shop(run, emulator, redis)
    asking = run([sys.executable, "-m", "tasks", "ask:one last thing"], env=shop._env)
    wait_until(lambda: len(emulator.sessions) == 2 and len(emulator.session.transcript) == 2, PATIENCE)
    shop.stop()
    assert json.loads(asking.ended()[1])["answer"] == "You said: one last thing"
