"""P8: ``start_session`` to the greeting, 50 ms away, over TLS."""

from __future__ import annotations

import json
import time
from statistics import median
from typing import Any

import requests

from bench import peers
from bench.measure import client, socket_url
from bench.table import OURS, Bench, Goal, Variant

HERE = "bench.p08_start"


def ours(slow_url: str, ca: str, sessions: int, **_: Any) -> dict[str, float]:
    """The first session of a process, and later ones, whose HTTP connection is open already."""
    times = []
    with client(f"{slow_url}/greet", ca) as one:
        for _number in range(sessions + 1):
            began = time.perf_counter()
            with one.start_session() as session:
                times.append((time.perf_counter() - began) * 1e3)
                if session.next_message(timeout=0).text != "Welcome.":
                    raise RuntimeError("no greeting")
    return {"cold_ms": times[0], "warm_ms": median(times[1:])}


def by_hand(slow_url: str, ca: str, sessions: int, **_: Any) -> dict[str, float]:
    """One call after the other, with requests and websocket-client."""
    times = []
    http = requests.Session()
    http.verify = ca
    for number in range(sessions + 1):
        began = time.perf_counter()
        token = http.post(f"{slow_url}/greet/api/v1/access-token", json={}).json()["access_token"]
        http.post(f"{slow_url}/greet/api/v1/sessions", json={}, headers={"Authorization": f"Bearer {token}"}).json()
        connection = peers.connect("websocket-client", socket_url(f"{slow_url}/greet"), ca)
        connection.recv()
        connection.send('{"type": "EVENT_TYPE_REQUEST_POLY_AGENT_JOIN", "payload": {}}')
        while json.loads(connection.recv())["type"] != "EVENT_TYPE_POLY_AGENT_MESSAGE":
            pass
        times.append((time.perf_counter() - began) * 1e3)
        connection.shutdown()
        if not number:
            continue
    return {"cold_ms": times[0], "warm_ms": median(times[1:])}


def round_trip(slow_url: str, ca: str, sessions: int, **_: Any) -> dict[str, float]:
    """One request and its answer on an open connection."""
    times = []
    http = requests.Session()
    http.verify = ca
    for _number in range(sessions + 3):
        began = time.perf_counter()
        http.get(f"{slow_url}/ping")
        times.append((time.perf_counter() - began) * 1e3)
    return {"trip_ms": median(times[1:])}


TRIP = "round trip"
BENCH = Bench(
    name="p08",
    title="start_session to the greeting at 50 ms, TLS",
    group="start",
    needs=("slow",),
    variants=(
        Variant(name=OURS, call=f"{HERE}:ours"),
        Variant(name="requests + websocket-client", call=f"{HERE}:by_hand"),
        Variant(name=TRIP, call=f"{HERE}:round_trip"),
    ),
    main="cold_ms",
    options={"sessions": 5},
    quick={"sessions": 3},
    goals=(
        Goal(
            id="P8",
            what="start to greeting, cold",
            metric="cold_ms",
            against=TRIP,
            against_metric="trip_ms",
            times=6,
            goal=1.15,
            limit=1.3,
        ),
        Goal(
            id="P8",
            what="start to greeting, warm",
            metric="warm_ms",
            against=TRIP,
            against_metric="trip_ms",
            times=4,
            goal=1.15,
            limit=1.3,
        ),
    ),
    note="Cold: the first session of a process. A round trip is measured through the same proxy in the same run.",
)
