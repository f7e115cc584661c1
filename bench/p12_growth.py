"""P12: what an event costs late in a long session, and what a kept one weighs."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Final

from bench.measure import Meter, client, resident_kib
from bench.p01_events import flood
from bench.table import OURS, Bench, Goal, Variant

HERE = "bench.p12_growth"

DEFAULT_WINDOW: Final = 10_000
"""Of a `Client` that is given no ``event_window``."""


def ours(url: str, early: int, late: int, events: int, **_: int) -> dict[str, float]:
    """The same flood after ``early`` events of a session, and after ``late`` ones."""
    rest = late - early - events
    base_url = f"{url}/flood-{early}-{events}-{rest}-{events}"
    with client(base_url) as one, one.start_session() as session:
        flood(session, 0)
        with Meter() as first:
            flood(session, 1)
        before = resident_kib()
        flood(session, 2)
        between = resident_kib()
        with Meter() as second:
            flood(session, 3)
    return {
        "early_cpu_us": first.per(events)["cpu_us"],
        "late_cpu_us": second.per(events)["cpu_us"],
        "grown_per_1000_events_kib": (between - before) / rest * 1000,
    }


def kept(url: str, window: int, events: int, **_: int) -> dict[str, float]:
    """What the events that are kept for readers weigh: a full window, and one of a hundredth, after the same flood."""
    traced = {size: _traced(f"{url}/flood-{events}", size) for size in (window, window // 100)}
    one = (traced[window] - traced[window // 100]) / (window - window // 100)
    return {"kept_bytes": one, "default_window_mib": one * DEFAULT_WINDOW / 1024**2}


def _traced(base_url: str, window: int) -> float:
    with client(base_url, event_window=window) as one, one.start_session() as session:
        tracemalloc.start()
        flood(session, 0)
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return size


def flat(url: str, kind: str, full: int, late: int, **_: int) -> dict[str, float]:
    """The memory of one session with a full window, and many events later."""
    with client(f"{url}/{kind}-{1_000}-{full - 1_000}-{late - full}") as one, one.start_session() as session:
        flood(session, 0)
        first = resident_kib()
        flood(session, 1)
        middle = resident_kib()
        flood(session, 2)
        last = resident_kib()
    return {
        "first_mib": first / 1024,
        "full_mib": middle / 1024,
        "late_mib": last / 1024,
        "grown_per_event_bytes": (last - middle) * 1024 / (late - full),
    }


def _flat(name: str, what: str, *, judged: bool) -> Goal:
    return Goal(
        id="P12",
        what=what,
        metric="late_mib",
        ours=name,
        against=name,
        against_metric="full_mib",
        named="after 20,000",
        goal=1.05,
        limit=1.1,
        judged=judged,
    )


SILENT: Final = "events of no message"
SAYING: Final = "20 chunks a message"
BENCH = Bench(
    name="p12",
    title="cost of an event late in a session",
    group="events",
    variants=(
        Variant(name=OURS, call=f"{HERE}:ours"),
        Variant(name="kept event", call=f"{HERE}:kept", options={"window": 4_000}),
        Variant(name=SILENT, call=f"{HERE}:flat", options={"kind": "thoughts"}),
        Variant(name=SAYING, call=f"{HERE}:flat", options={"kind": "flood"}),
    ),
    main="late_cpu_us",
    options={"early": 1_000, "full": 20_000, "late": 100_000, "events": 8_000},
    quick={"full": 15_000, "late": 30_000, "events": 5_000},
    goals=(
        Goal(
            id="P12",
            what="CPU of event 100,000",
            metric="late_cpu_us",
            against=OURS,
            against_metric="early_cpu_us",
            named="event 1,000",
            goal=1.0,
            limit=1.1,
        ),
        _flat(SILENT, "memory after 100,000 events", judged=True),
        _flat(SAYING, "… with their 4,000 messages in the transcript", judged=False),
    ),
    note="kept event: what one event weighs in the window that is kept for readers (tracemalloc, its JSON included).",
)
