"""P1: CPU for one event of a flood, through the whole pipeline; nobody iterates."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

from bench import frames, peers
from bench.measure import Meter, client, socket_url
from bench.table import OURS, Bench, Goal, Variant

if TYPE_CHECKING:
    from polyai_sync import Session

HERE = "bench.p01_events"


def ours(url: str, warm: int, events: int) -> dict[str, float]:
    """Frame, JSON, typed event, deduplication, cursor, stream assembly, publication, bundled plugins."""
    with client(f"{url}/flood-{warm}-{events}") as one, one.start_session() as session:
        flood(session, 0)
        with Meter() as meter:
            flood(session, 1)
    return meter.per(events)


def flood(session: Session, number: int) -> None:
    """Ask for a flood, and wait for its end without looking at the events."""
    session.send("go", wait=False)
    until = time.monotonic() + 120
    while session.language != f"{frames.LAST}-{number}":
        if time.monotonic() > until:
            raise TimeoutError("the flood did not end")
        time.sleep(0.005)


def pulled(url: str, peer: str, warm: int, events: int) -> dict[str, float]:
    """A bare loop: receive, and parse the JSON."""
    connection = peers.connect(peer, socket_url(f"{url}/flood-{warm}-{events}"))
    recv, loads, last = connection.recv, json.loads, "EVENT_TYPE_LANGUAGE_CHANGED"
    connection.send(peers.message("go"))
    while loads(recv())["type"] != last:
        pass
    with Meter() as meter:
        connection.send(peers.message("go"))
        while loads(recv())["type"] != last:
            pass
    connection.close()
    return meter.per(events)


def pushed(url: str, peer: str, warm: int, events: int) -> dict[str, float]:
    """A callback that parses the JSON."""
    done = threading.Semaphore(0)

    def on_text(text: str) -> None:
        if json.loads(text)["type"] == "EVENT_TYPE_LANGUAGE_CHANGED":
            done.release()

    connection = peers.PUSHED[peer](on_text)
    connection.start(socket_url(f"{url}/flood-{warm}-{events}"))
    connection.send(peers.message("go"))
    done.acquire(timeout=120)
    with Meter() as meter:
        connection.send(peers.message("go"))
        if not done.acquire(timeout=120):
            raise TimeoutError("the flood did not end")
    return meter.per(events)


VARIANTS = (
    Variant(name=OURS, call=f"{HERE}:ours"),
    *(Variant(name=peer, call=f"{HERE}:pulled", options={"peer": peer}) for peer in peers.PULLED),
    *(Variant(name=peer, call=f"{HERE}:pushed", options={"peer": peer}) for peer in peers.PUSHED),
)

BENCH = Bench(
    name="p01",
    title="CPU per event of a flood, nobody iterating",
    group="events",
    variants=VARIANTS,
    main="cpu_us",
    options={"warm": 3_000, "events": 30_000},
    quick={"warm": 1_000, "events": 8_000},
    goals=(Goal(id="P1", what="CPU per event", metric="cpu_us", against="websockets.sync", goal=1.0, limit=1.4),),
    note="websockets.sync and the others receive and parse the JSON; they know nothing of the conversation.",
)
