"""Thousands of conversations in one process, for minutes: heartbeats, questions and answers, dropped connections."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import requests

from bench.measure import client, percentile, progress, raise_descriptors, resident_kib
from bench.table import FAILED, OURS, TOLD, TOO_SLOW, Bench, Curves, Rounds, Variant, Verdict
from polyai_sync import Session, hookimpl
from polyai_sync.events import PolyAgentMessageChunk
from polyai_sync.messages import Delivery

HERE = "bench.scale"

_PAGE: Final = os.sysconf("SC_PAGE_SIZE") / 1024


class Watch:
    """A plugin that notes how late each chunk is at the hook, and what becomes of connections and messages."""

    name = "watch"

    def __init__(self) -> None:
        self.delays: list[float] = []
        self.gaps: list[float] = []
        self.dropped = self.reopened = self.settled = self.failed = 0
        self._since: dict[int, float] = {}
        self._lock = threading.Lock()

    @hookimpl
    def on_event(self, event: Any) -> None:
        if isinstance(event, PolyAgentMessageChunk) and not event.replayed and (written := int(event.text)):
            self.delays.append((time.monotonic_ns() - written) / 1e9)

    @hookimpl
    def on_disconnect(self, session: Session, error: Exception | None) -> None:
        if error is not None:
            with self._lock:
                self.dropped += 1
                self._since[id(session)] = time.monotonic()

    @hookimpl
    def on_connect(self, session: Session) -> None:
        with self._lock:
            since = self._since.pop(id(session), None)
            if since is not None:
                self.reopened += 1
                self.gaps.append(time.monotonic() - since)

    @hookimpl
    def on_delivery(self, message: Any) -> None:
        with self._lock:
            self.settled += 1
            self.failed += message.delivery is Delivery.FAILED

    def taken(self) -> list[float]:
        """The delays since the last time."""
        taken, self.delays = self.delays, []
        return taken


class Talk:
    """One thread that says something in one session or another, at a steady rate."""

    def __init__(self, sessions: list[Session], pause: float) -> None:
        self.said = 0
        self._sessions = sessions
        self._interval = pause / len(sessions)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        chance = random.Random(7)
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due += self._interval
            chance.choice(self._sessions).send("Tell me more", wait=False)
            self.said += 1

    def end(self) -> None:
        """Say no more."""
        self._ended.set()
        self._thread.join()


def sample(watch: Watch, sessions: list[Session], before: dict[str, float]) -> dict[str, float]:
    """What goes on: as it is now, and since the sample before."""
    now, cpu, delays = time.monotonic(), time.process_time(), watch.taken()
    seconds = now - before["now"]
    return {
        "now": now,
        "cpu": cpu,
        "minute": before.get("minute", 0.0) + seconds / 60,
        "cpu_percent": (cpu - before["cpu"]) / seconds * 100,
        "resident_mib": resident_now_mib(),
        "threads": float(threading.active_count()),
        "descriptors": float(len(os.listdir("/proc/self/fd"))),
        "open": float(sum(session.status == "OPEN" for session in sessions)),
        "drops": float(watch.dropped),
        "drops_per_second": (watch.dropped - before.get("drops", 0)) / seconds,
        "events_per_second": len(delays) / seconds,
        "p50_ms": percentile(delays, 0.5) * 1e3 if delays else 0.0,
        "p99_ms": percentile(delays, 0.99) * 1e3 if delays else 0.0,
    }


def resident_now_mib() -> float:
    """Memory, without the collection that would hold all threads up."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1024


def ours(url: str, sessions: int, minutes: float, pause: float, life: int, window: int, every: float) -> dict[str, Any]:
    """Each session says something every ``pause`` seconds, and its connections live ``life`` seconds."""
    raise_descriptors()
    threading.stack_size(256 * 1024)  # of address space; what is resident does not change
    requests.post(f"{url}/forget", timeout=60)
    watch, base = Watch(), resident_kib()
    one = client(f"{url}/steady-30-{life}-10-50", plugins=[watch], event_window=window)
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        kept = list(pool.map(lambda _: one.start_session(), range(sessions)))
    opening = time.monotonic() - began
    progress(f"{sessions} sessions are open after {opening:.0f} s")
    gc.collect()
    talk = Talk(kept, pause)
    series = _watched(watch, kept, minutes, every)
    talk.end()
    until = time.monotonic() + 30
    while watch.settled < talk.said and time.monotonic() < until:
        time.sleep(0.1)
    seen = requests.get(f"{url}/stats", timeout=60).json()
    settling = series[min(len(series) - 1, len(series) // 5)]
    figures = {
        "sessions": float(sessions),
        "alive": float(sum(session.status in {"OPEN", "RECONNECTING"} for session in kept)),
        "minutes": minutes,
        "opening_s": opening,
        "cpu_percent": sum(one["cpu_percent"] for one in series) / len(series),
        "events_per_second": sum(one["events_per_second"] for one in series) / len(series),
        "p50_ms": percentile([one["p50_ms"] for one in series], 0.5),
        "p99_ms": percentile([one["p99_ms"] for one in series], 0.5),
        "worst_p99_ms": max(one["p99_ms"] for one in series),
        "session_kib": (series[-1]["resident_mib"] * 1024 - base) / sessions,
        "settled_mib": settling["resident_mib"],
        "end_mib": series[-1]["resident_mib"],
        "threads": series[-1]["threads"],
        "descriptors": series[-1]["descriptors"],
        "said": float(talk.said),
        "unsettled": float(talk.said - watch.settled),
        "failed": float(watch.failed),
        "drops": float(watch.dropped),
        "reopened": float(watch.reopened),
        "reopen_p50_s": percentile(watch.gaps, 0.5) if watch.gaps else 0.0,
        "beats": seen["beats"],
        "missed": seen["missed"],
        "worst_gap_intervals": seen["worst"],
        "series": series,
    }
    one.close()
    return figures


def _watched(watch: Watch, kept: list[Session], minutes: float, every: float) -> list[dict[str, float]]:
    watch.taken()
    series: list[dict[str, float]] = []
    last: dict[str, float] = {"now": time.monotonic(), "cpu": time.process_time(), "drops": watch.dropped}
    until = last["now"] + minutes * 60
    told = 0.0
    while last["now"] < until:
        time.sleep(min(every, max(0.1, until - last["now"])))
        last = sample(watch, kept, last)
        series.append({name: round(value, 4) for name, value in last.items() if name not in {"now", "cpu"}})
        if last["minute"] >= told:
            told = last["minute"] + 0.5
            shown = ("open", "cpu_percent", "resident_mib", "threads", "descriptors", "p50_ms", "p99_ms", "drops")
            progress(f"minute {last['minute']:.1f}: " + ", ".join(f"{name} {last[name]:,.1f}" for name in shown))
    return series


def judge(rounds: Rounds) -> list[Verdict]:
    """No ratio: all sessions alive in the end, no heartbeat missed, no message without an outcome."""
    mine = rounds.get(OURS, [])
    word, measured, what = FAILED, "-", "many sessions for minutes"
    if mine:
        one = mine[0]
        what = f"{one['sessions']:,.0f} sessions for {one['minutes']:g} minutes"
        measured = (
            f"{one['cpu_percent']:.0f} % of a core, p99 {one['p99_ms']:.1f} ms, {one['drops']:,.0f} drops, "
            f"{one['missed']:.0f} beats missed, {one['failed'] + one['unsettled']:.0f} messages failed"
        )
        held = one["alive"] == one["sessions"] and not one["missed"] and not one["failed"] and not one["unsettled"]
        word = TOLD if held else TOO_SLOW
    return [
        Verdict(id="scale", what=what, measured=measured, against="-", ratio=None, goal="-", limit="-", verdict=word)
    ]


BENCH = Bench(
    name="scale",
    title="conversations in one process, with drops",
    group="steady",
    variants=(Variant(name=OURS, call=f"{HERE}:ours"),),
    main="cpu_percent",
    options={"sessions": 2_000, "minutes": 10.0, "pause": 20.0, "life": 600, "window": 100, "every": 5.0},
    quick={"sessions": 200, "minutes": 1.0, "life": 60, "every": 2.0},
    judge=judge,
    rounds=1,
    limit=3_600.0,
    curves=Curves(
        x="minute",
        label="minutes",
        panels=(
            ("cpu_percent",),
            ("resident_mib",),
            ("p50_ms", "p99_ms"),
            ("threads", "descriptors"),
            ("drops_per_second",),
        ),
    ),
    note="Each session says something every 20 s and is answered in ten chunks, 50 ms apart; 100 events are kept.",
)
