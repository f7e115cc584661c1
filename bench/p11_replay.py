"""P11: the replay of a long history, until the session is ready."""

from __future__ import annotations

import json
import time
from typing import Any

from bench import frames
from bench.measure import Meter, client
from bench.table import OURS, Bench, Goal, Variant
from polyai_sync import Capabilities, Client, SessionState

HERE = "bench.p11_replay"
A_BATCH = 500


def ours(url: str, events: int) -> dict[str, float]:
    """``resume_session`` of a session of which nothing is known but its id, until the last of its history is in."""
    with client(f"{url}/history-{events // 10}-{A_BATCH}") as one:
        _resume(one, f"{url}/history-{events // 10}-{A_BATCH}", events // 10)  # warms up
    base_url = f"{url}/history-{events}-{A_BATCH}"
    with client(base_url) as one:
        # A first one has the server encode what it is going to write.
        _resume(one, base_url, events)
        with Meter() as meter:
            _resume(one, base_url, events)
    return {"cpu_ms": meter.cpu * 1e3, "wall_ms": meter.wall * 1e3}


def _resume(one: Client, base_url: str, events: int) -> None:
    state = SessionState(
        session_id="bench", access_token="bench", base_url=base_url, cursor=0, capabilities=Capabilities(), joined=True
    )
    until = time.monotonic() + 60
    with one.resume_session(state) as session:
        # Ready is what it may be before that: at the first batch.
        while session.state.cursor < events:
            if time.monotonic() > until:
                raise TimeoutError(f"only {session.state.cursor} of {events} events came")
            time.sleep(0.002)


def parsed(events: int, **_: Any) -> dict[str, float]:
    """``json.loads`` of the same texts, and nothing else."""
    rows = [frames.chunk(3 + index, index) for index in range(events)]
    texts = [frames.batch(rows[at : at + A_BATCH]) for at in range(0, len(rows), A_BATCH)]
    for text in texts[:2]:
        json.loads(text)
    with Meter() as meter:
        for text in texts:
            json.loads(text)
    return {"cpu_ms": meter.cpu * 1e3, "wall_ms": meter.wall * 1e3}


BENCH = Bench(
    name="p11",
    title="replay of a long history, until all of it is in",
    group="events",
    variants=(Variant(name=OURS, call=f"{HERE}:ours"), Variant(name="json.loads", call=f"{HERE}:parsed")),
    main="cpu_ms",
    options={"events": 10_000},
    quick={"events": 4_000},
    goals=(Goal(id="P11", what="replay of 10,000 events", metric="cpu_ms", against="json.loads", goal=4, limit=7),),
)
