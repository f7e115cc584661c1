"""P2: CPU for one event of a flood, with one thread that iterates ``events()``."""

from __future__ import annotations

from bench.measure import Meter, client
from bench.table import OURS, Bench, Goal, Variant
from polyai_sync.events import LanguageChanged


def ours(url: str, warm: int, events: int) -> dict[str, float]:
    """The whole pipeline, and an iterator that takes each event."""
    with client(f"{url}/flood-{warm}-{events}") as one, one.start_session() as session:
        iterator = session.events(timeout=60)
        session.send("go", wait=False)
        for event in iterator:
            if isinstance(event, LanguageChanged):
                break
        with Meter() as meter:
            session.send("go", wait=False)
            for event in iterator:
                if isinstance(event, LanguageChanged):
                    break
    return meter.per(events)


BENCH = Bench(
    name="p02",
    title="CPU per event of a flood, one thread iterating events()",
    group="events",
    variants=(
        Variant(name=OURS, call="bench.p02_iterating:ours"),
        Variant(name="websockets.sync", call="bench.p01_events:pulled", options={"peer": "websockets.sync"}),
    ),
    main="cpu_us",
    # No more than the window keeps: the reader must not fall out of it.
    options={"warm": 2_000, "events": 9_000},
    quick={"warm": 1_000, "events": 8_000},
    goals=(
        Goal(id="P2", what="CPU per event, iterating", metric="cpu_us", against="websockets.sync", goal=1.6, limit=2.2),
    ),
)
