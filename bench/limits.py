"""What gives first when there are more sessions, or more to say, than in `scale`."""

from __future__ import annotations

import os
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import requests

from bench.measure import client, progress, raise_descriptors, resident_kib, spread_of
from bench.p07_burst import Told
from bench.table import FAILED, OURS, TOLD, Bench, Curves, Rounds, Variant, Verdict, shown
from polyai_sync import PolyAIError

HERE = "bench.limits"

_LATE: Final = 0.1
"""Seconds of p99 at which a process counts as full."""

_AT_ONCE: Final = 16


def full(url: str, descriptors: int, **_: Any) -> dict[str, Any]:
    """Open sessions until the system refuses one more: what it refused, and what each one had taken."""
    raise_descriptors(descriptors)
    threading.stack_size(256 * 1024)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    base = resident_kib()
    before, threads = _descriptors(), threading.active_count()
    one = client(f"{url}/idle-300", load_plugins=False)
    kept: list[Any] = []
    refused: list[BaseException] = []

    def open_some(_: int) -> None:
        try:
            while not refused and len(kept) < allowed:
                kept.append(one.start_session(timeout=60))
        except (PolyAIError, OSError, RuntimeError) as error:
            refused.append(error)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(open_some, range(_AT_ONCE)))
    count = len(kept)
    progress(f"{count} sessions, then {refused[0] if refused else 'no more asked for'}")
    # The pool's own connections to the service are kept open beside those of the sessions.
    figures = {
        "open": float(count),
        "refused": _innermost(refused[0]) if refused else "",
        "descriptors_allowed": float(allowed),
        "descriptors_per_session": (_descriptors() - before - _AT_ONCE) / count,
        "threads_per_session": (threading.active_count() - threads) / count,
        "threads_allowed": _threads_allowed(),
        "session_kib": (resident_kib() - base) / count,
    }
    one.close()
    return figures


def _innermost(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _threads_allowed() -> float:
    """What the system lets a process have: each thread takes two mappings, its stack and the guard before it."""
    threads = int(Path("/proc/sys/kernel/threads-max").read_text())
    mappings = int(Path("/proc/sys/vm/max_map_count").read_text())
    return float(min(threads, mappings // 2))


def flow(url: str, flow_sessions: int, first: int, flow_seconds: float, **_: Any) -> dict[str, Any]:
    """More and more events a second, one at a time to one session after the other, until the process is full."""
    raise_descriptors()
    seen: list[tuple[int, int]] = []
    one = client(f"{url}/idle-300", plugins=[Told(seen)])
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        kept = list(pool.map(lambda _: one.start_session(), range(flow_sessions)))
    series: list[dict[str, float]] = []
    rate = float(first)
    while True:
        seen.clear()
        cpu, began = time.process_time(), time.monotonic()
        paced = requests.post(f"{url}/paced-{rate}-{flow_seconds}", timeout=60 + flow_seconds).json()
        while len(seen) < paced["written"] and time.monotonic() < began + 60 + flow_seconds:
            time.sleep(0.01)
        cpu, wall = time.process_time() - cpu, time.monotonic() - began
        if len(seen) < paced["written"]:
            raise RuntimeError(f"{len(seen)} of {paced['written']} events came")
        spread = spread_of([(told - written) / 1e9 for written, told in seen])
        series.append(
            {
                "events_per_second": paced["written"] / paced["seconds"],
                "cpu_percent": cpu / wall * 100,
                "event_cpu_us": cpu / paced["written"] * 1e6,
                "p50_ms": spread["p50_us"] / 1e3,
                "p99_ms": spread["p99_us"] / 1e3,
            }
        )
        progress(", ".join(f"{name} {shown(name, value)}" for name, value in series[-1].items()))
        late, behind = spread["p99_us"] / 1e6 > _LATE, paced["written"] / paced["seconds"] < 0.9 * rate
        if late or behind or rate > 100_000:
            break
        rate *= 2
    held = [one for one in series if one["p99_ms"] <= _LATE * 1e3]
    figures = {**(held[-1] if held else series[0]), "sessions": float(len(kept)), "series": series}
    one.close()
    return figures


IDLE: Final = tuple(
    Variant(name=f"{OURS}, {share} of `sessions`, idle", call=f"{HERE}:idle", options={"share": share})
    for share in (0.25, 0.5, 1.0)
)
FULL: Final = f"{OURS}, as many as there can be"
FLOW: Final = f"{OURS}, more and more events"


def idle(url: str, sessions: int, share: float, seconds: float, interval: int, **_: Any) -> dict[str, float]:
    """As P6, with other numbers."""
    from bench.p06_idle import ours

    return ours(url, int(sessions * share), seconds, interval)


def judge(rounds: Rounds) -> list[Verdict]:
    """Nothing is asked for: what was found."""
    found = []
    for name, what, text in (
        (
            IDLE[-1].name,
            "idle sessions, the most that were kept",
            "{open:,.0f} open, {cpu_percent:.1f} % of a core, {missed:.0f} beats missed",
        ),
        (FULL, "sessions until one is refused", "{open:,.0f}, then: {refused}"),
        (
            FLOW,
            "events a second until p99 is over 100 ms",
            "{events_per_second:,.0f} at {sessions:,.0f} sessions, {cpu_percent:.0f} % of a core",
        ),
    ):
        mine = rounds.get(name, [])
        found.append(
            Verdict(
                id="limits",
                what=what,
                measured=text.format_map(mine[0]) if mine else "-",
                against="-",
                ratio=None,
                goal="-",
                limit="-",
                verdict=TOLD if mine else FAILED,
            )
        )
    return found


BENCH = Bench(
    name="limits",
    title="what gives first",
    group="limits",
    variants=(*IDLE, Variant(name=FULL, call=f"{HERE}:full"), Variant(name=FLOW, call=f"{HERE}:flow")),
    main="open",
    options={
        "sessions": 8_000,
        "seconds": 45.0,
        "interval": 30,
        "flow_sessions": 1_000,
        "first": 1_000,
        "flow_seconds": 10.0,
        "descriptors": 0,
    },
    quick={
        "sessions": 800,
        "seconds": 12.0,
        "interval": 5,
        "flow_sessions": 200,
        "flow_seconds": 5.0,
        "descriptors": 2_000,
    },
    judge=judge,
    rounds=1,
    limit=900.0,
    curves=Curves(
        x="events_per_second", label="events a second", panels=(("p50_ms", "p99_ms"), ("cpu_percent",)), log=True
    ),
)
