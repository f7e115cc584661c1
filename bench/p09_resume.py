"""P9: ``resume_session`` until it is ready, 50 ms away, over TLS."""

from __future__ import annotations

import json
import time
from statistics import median
from typing import Any

from bench import peers
from bench.measure import client, socket_url
from bench.table import OURS, Bench, Goal, Variant

HERE = "bench.p09_resume"


def ours(slow_url: str, ca: str, sessions: int, **_: Any) -> dict[str, float]:
    """A session that was left, in a process that has talked to the service before."""
    times = []
    with client(f"{slow_url}/greet", ca) as one:
        with one.start_session() as session:
            state = session.state
        for _number in range(sessions):
            began = time.perf_counter()
            with one.resume_session(state):
                times.append((time.perf_counter() - began) * 1e3)
    return {"ready_ms": median(times)}


def by_hand(slow_url: str, ca: str, sessions: int, **_: Any) -> dict[str, float]:
    """Connect, and take the first frame."""
    times = []
    for _number in range(sessions):
        began = time.perf_counter()
        connection = peers.connect("websocket-client", socket_url(f"{slow_url}/greet"), ca)
        json.loads(connection.recv())
        times.append((time.perf_counter() - began) * 1e3)
        connection.shutdown()
    return {"ready_ms": median(times)}


TRIP = "round trip"
BENCH = Bench(
    name="p09",
    title="resume_session until ready at 50 ms, TLS",
    group="start",
    needs=("slow",),
    variants=(
        Variant(name=OURS, call=f"{HERE}:ours"),
        Variant(name="websocket-client, first frame", call=f"{HERE}:by_hand"),
        Variant(name=TRIP, call="bench.p08_start:round_trip"),
    ),
    main="ready_ms",
    options={"sessions": 5},
    quick={"sessions": 3},
    goals=(
        Goal(
            id="P9",
            what="resume to ready",
            metric="ready_ms",
            against=TRIP,
            against_metric="trip_ms",
            times=3,
            goal=1.15,
            limit=1.3,
        ),
    ),
    note="TCP, TLS and the upgrade are three; where the history is over only at a heartbeat's echo, that is a fourth.",
)
