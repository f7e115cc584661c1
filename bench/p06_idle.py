"""P6: thousands of open sessions that do nothing but send heartbeats."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, Final

import requests

from bench import peers
from bench.measure import client, raise_descriptors, resident_kib, socket_url
from bench.table import ACCEPTABLE, FAILED, OURS, REACHED, TOO_SLOW, Bench, Rounds, Variant, Verdict

HERE = "bench.p06_idle"
GOAL: Final = 5_000
LEAST: Final = 2_000
CPU_PERCENT: Final = 2.0


def ours(url: str, sessions: int, seconds: float, interval: int, **_: Any) -> dict[str, float]:
    """Sessions of one client, heartbeats every ``interval`` seconds."""
    raise_descriptors()
    threading.stack_size(256 * 1024)  # of address space; what is resident does not change
    base = resident_kib()
    one = client(f"{url}/idle-{interval}")
    began = time.perf_counter()
    with ThreadPoolExecutor(16) as pool:
        kept = list(pool.map(lambda _: one.start_session(), range(sessions)))
    opening = time.perf_counter() - began
    figures = {
        "opening_s": opening,
        "open": float(sum(session.status == "OPEN" for session in kept)),
        "session_kib": (resident_kib() - base) / sessions,
        "threads": float(threading.active_count()),
        "descriptors": float(len(os.listdir("/proc/self/fd"))),
        **_idle(url, sessions, seconds),
    }
    one.close()
    return figures


def _idle(url: str, sessions: int, seconds: float) -> dict[str, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    time.sleep(seconds)
    share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    seen = requests.get(f"{url}/stats", timeout=60).json()
    return {
        "cpu_percent": share * 100,
        "cpu_per_1000_percent": share * 100 / sessions * 1000,
        "alive": seen["open"],
        "beats": seen["beats"],
        "missed": seen["missed"],
        "worst_gap_intervals": seen["worst"],
    }


def bare(
    url: str, sessions: int, seconds: float, peer_sessions: int, peer_seconds: float, **_: Any
) -> dict[str, float]:
    """A thread each that sends a heartbeat once a second and reads the echo."""
    raise_descriptors()
    address = socket_url(f"{url}/idle-1")
    beat = '{"type": "EVENT_TYPE_HEARTBEAT", "payload": {}}'
    ended = threading.Event()

    def run(connection: Any) -> None:
        connection.recv()
        while not ended.wait(1):
            connection.send(beat)
            connection.recv()

    def open_one(_: int) -> Any:
        connection = peers.PULLED["websocket-client"](address)
        threading.Thread(target=run, args=(connection,), daemon=True).start()
        return connection

    with ThreadPoolExecutor(16) as pool:
        kept = list(pool.map(open_one, range(peer_sessions)))
    figures = {"open": float(len(kept)), **_idle(url, peer_sessions, peer_seconds)}
    ended.set()
    for connection in kept:
        connection.shutdown()
    return figures


def judge(rounds: Rounds) -> list[Verdict]:
    """No ratio: so many sessions, so little CPU, no beat missed."""
    mine = rounds.get(OURS, [])
    if not mine:
        word, measured = FAILED, "-"
    else:
        alive = min(figures["alive"] for figures in mine)
        missed = max(figures["missed"] for figures in mine)
        cpu = median(figures["cpu_percent"] for figures in mine)
        measured = f"{alive:,.0f} open, {cpu:.2f} % of a core, {missed:.0f} missed"
        held = alive if not missed else 0
        word = REACHED if held >= GOAL and cpu < CPU_PERCENT else ACCEPTABLE if held >= LEAST else TOO_SLOW
        if held < GOAL and max(figures["asked"] for figures in mine) < GOAL:
            word = f"{word} (asked for {alive:,.0f} only)" if word == ACCEPTABLE else "too few asked for"
    theirs = rounds.get("bare threads, a beat a second", [])
    against = f"bare threads {median(f['cpu_per_1000_percent'] for f in theirs):.1f} % per 1,000" if theirs else "-"
    return [
        Verdict(
            id="P6",
            what="idle sessions in a process",
            measured=measured,
            against=against,
            ratio=None,
            goal=f"{GOAL:,}, <{CPU_PERCENT:g} %",
            limit=f"{LEAST:,}",
            verdict=word,
        )
    ]


def asked(sessions: int, **options: Any) -> dict[str, float]:
    """`ours`, and how many were asked for."""
    return {**ours(sessions=sessions, **options), "asked": float(sessions)}


BENCH = Bench(
    name="p06",
    title="idle sessions with heartbeats every 30 s",
    group="sessions",
    variants=(
        Variant(name=OURS, call=f"{HERE}:asked"),
        Variant(name="bare threads, a beat a second", call=f"{HERE}:bare"),
    ),
    main="cpu_per_1000_percent",
    options={"sessions": GOAL, "seconds": 70.0, "interval": 30, "peer_sessions": 1_000, "peer_seconds": 15.0},
    quick={"sessions": 500, "seconds": 12.0, "interval": 5, "peer_sessions": 300, "peer_seconds": 6.0},
    judge=judge,
    rounds=1,
    limit=600.0,
    note="In a quick run far fewer sessions beat every 5 s: look at the trend alone.",
)
