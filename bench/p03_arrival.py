"""P3: from a chunk's arrival until a thread that waits for it runs. Chunks come 2 ms apart and hold the time."""

from __future__ import annotations

import json
import threading
import time

from bench import peers
from bench.measure import client, socket_url, spread_of
from bench.table import OURS, Bench, Goal, Variant

HERE = "bench.p03_arrival"
GAP = 2_000


def stream(url: str, turns: int, chunks: int) -> dict[str, float]:
    """A thread in ``stream``."""
    delays = []
    with client(f"{url}/stamps-{chunks}-{GAP}") as one, one.start_session() as session:
        for _ in range(turns + 1):
            delays += [(time.monotonic_ns() - int(text)) / 1e9 for text in session.stream("go")]
    return spread_of(delays[chunks:])  # the first turn warms up


def ask(url: str, turns: int, chunks: int) -> dict[str, float]:
    """A thread in ``ask``."""
    delays = []
    with client(f"{url}/stamped-{GAP}") as one, one.start_session() as session:
        for turn in range(turns * chunks):
            reply = session.ask("go")
            if turn > 20:
                delays.append((time.monotonic_ns() - int(reply.text)) / 1e9)
    return spread_of(delays)


def pulled(url: str, peer: str, turns: int, chunks: int) -> dict[str, float]:
    """One thread that receives and parses."""
    connection = peers.connect(peer, socket_url(f"{url}/stamps-{chunks}-{GAP}"))
    delays = []
    for turn in range(turns + 1):
        connection.send(peers.message("go", turn))
        complete = False
        while not complete:
            event = json.loads(connection.recv())
            if event["type"] == "EVENT_TYPE_POLY_AGENT_MESSAGE_CHUNK":
                payload = event["payload"]
                complete = payload["is_complete"]
                if turn:
                    delays.append((time.monotonic_ns() - int(payload["text"])) / 1e9)
    return spread_of(delays)


def pulled_whole(url: str, peer: str, turns: int, chunks: int) -> dict[str, float]:
    """As `pulled`, whole messages: what ``ask`` waits for."""
    connection = peers.connect(peer, socket_url(f"{url}/stamped-{GAP}"))
    delays = []
    for turn in range(turns * chunks):
        connection.send(peers.message("go", turn))
        while (event := json.loads(connection.recv()))["type"] != "EVENT_TYPE_POLY_AGENT_MESSAGE":
            pass
        if turn > 20:
            delays.append((time.monotonic_ns() - int(event["payload"]["text"])) / 1e9)
    return spread_of(delays)


def pushed(url: str, peer: str, turns: int, chunks: int) -> dict[str, float]:
    """A callback on the peer's own thread."""
    delays: list[float] = []
    done = threading.Semaphore(0)

    def on_text(text: str) -> None:
        event = json.loads(text)
        if event["type"] == "EVENT_TYPE_POLY_AGENT_MESSAGE_CHUNK":
            delays.append((time.monotonic_ns() - int(event["payload"]["text"])) / 1e9)
            if event["payload"]["is_complete"]:
                done.release()

    connection = peers.PUSHED[peer](on_text)
    connection.start(socket_url(f"{url}/stamps-{chunks}-{GAP}"))
    for turn in range(turns + 1):
        connection.send(peers.message("go", turn))
        if not done.acquire(timeout=60):
            raise TimeoutError("the chunks did not come")
    return spread_of(delays[chunks:])


REFERENCE = "websockets.sync"
WHOLE = "websockets.sync, whole messages"
ASK = f"{OURS}, ask"


def _goal(name: str, metric: str, against: str, mine: str) -> Goal:
    what = f"arrival to {name}, {metric[:3]}"
    return Goal(id="P3", what=what, metric=metric, against=against, ours=mine, goal=1.0, limit=1.2)


BENCH = Bench(
    name="p03",
    title="from arrival to the waiting thread, events 2 ms apart",
    group="latency",
    variants=(
        Variant(name=OURS, call=f"{HERE}:stream"),
        *(Variant(name=peer, call=f"{HERE}:pulled", options={"peer": peer}) for peer in peers.PULLED),
        *(Variant(name=peer, call=f"{HERE}:pushed", options={"peer": peer}) for peer in peers.PUSHED),
        Variant(name=ASK, call=f"{HERE}:ask"),
        Variant(name=WHOLE, call=f"{HERE}:pulled_whole", options={"peer": REFERENCE}),
    ),
    main="p50_us",
    times=2,
    options={"turns": 5, "chunks": 250},
    quick={"turns": 2, "chunks": 150},
    goals=(
        _goal("stream", "p50_us", REFERENCE, OURS),
        _goal("stream", "p99_us", REFERENCE, OURS),
        _goal("ask", "p50_us", WHOLE, ASK),
        _goal("ask", "p99_us", WHOLE, ASK),
    ),
)
