"""P7: a thousand sessions, an event each at once."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from bench import peers
from bench.measure import client, raise_descriptors, socket_url, spread_of
from bench.table import OURS, Bench, Goal, Variant
from polyai_sync import hookimpl
from polyai_sync.events import PolyAgentMessage

HERE = "bench.p07_burst"


class Told:
    """A plugin that notes when it was told of a message, and when that was written."""

    name = "told"

    def __init__(self, seen: list[tuple[int, int]]) -> None:
        self._seen = seen

    @hookimpl
    def on_event(self, event: Any) -> None:
        if isinstance(event, PolyAgentMessage) and event.text != "Welcome.":
            self._seen.append((int(event.text), time.monotonic_ns()))


def _bursts(url: str, sessions: int, bursts: int, seen: list[tuple[int, int]]) -> dict[str, float]:
    """Have the load write to all at once, some times; the first time warms up."""
    delays, ends = [], []
    for number in range(bursts + 1):
        time.sleep(0.3)
        seen.clear()
        burst = requests.post(f"{url}/burst", timeout=60).json()
        until = time.monotonic() + 30
        while len(seen) < sessions and time.monotonic() < until:
            time.sleep(0.02)
        if len(seen) != sessions:
            raise RuntimeError(f"{len(seen)} of {sessions} events came")
        if number:
            delays += [(told - written) / 1e9 for written, told in seen]
            ends.append((max(told for _, told in seen) - burst["began_ns"]) / 1e6)
    return {**spread_of(delays), "until_all_ms": sum(ends) / len(ends)}


def ours(url: str, sessions: int, bursts: int) -> dict[str, float]:
    """To the hook ``on_event``."""
    raise_descriptors()
    seen: list[tuple[int, int]] = []
    one = client(f"{url}/idle-300", plugins=[Told(seen)])
    with ThreadPoolExecutor(16) as pool:
        kept = list(pool.map(lambda _: one.start_session(), range(sessions)))
    figures = _bursts(url, len(kept), bursts, seen)
    one.close()
    return figures


def bare(url: str, peer: str, sessions: int, bursts: int) -> dict[str, float]:
    """To the line behind ``json.loads(recv())``, a thread each."""
    raise_descriptors()
    seen: list[tuple[int, int]] = []
    ended = threading.Event()

    def run(connection: Any) -> None:
        while not ended.is_set():
            event = json.loads(connection.recv())
            if event["type"] == "EVENT_TYPE_POLY_AGENT_MESSAGE":
                seen.append((int(event["payload"]["text"]), time.monotonic_ns()))

    def open_one(_: int) -> Any:
        connection = peers.connect(peer, socket_url(f"{url}/idle-300"))
        threading.Thread(target=run, args=(connection,), daemon=True).start()
        return connection

    with ThreadPoolExecutor(16) as pool:
        kept = list(pool.map(open_one, range(sessions)))
    return _bursts(url, len(kept), bursts, seen)


BENCH = Bench(
    name="p07",
    title="an event each for many sessions at once, until the hook",
    group="latency",
    variants=(
        Variant(name=OURS, call=f"{HERE}:ours"),
        Variant(name="websocket-client", call=f"{HERE}:bare", options={"peer": "websocket-client"}),
        Variant(
            name="websocket-client, no validator",
            call=f"{HERE}:bare",
            options={"peer": "websocket-client, no validator"},
        ),
    ),
    main="p99_us",
    options={"sessions": 1_000, "bursts": 10},
    quick={"sessions": 300, "bursts": 5},
    rounds=5,
    goals=(Goal(id="P7", what="burst to hook, p99", metric="p99_us", against="websocket-client", goal=1.3, limit=2.0),),
)
