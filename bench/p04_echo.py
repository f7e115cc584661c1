"""P4: a whole ``ask`` over a server that answers at once."""

from __future__ import annotations

import json
import threading
import time

from bench import peers
from bench.measure import client, socket_url, spread_of
from bench.table import OURS, Bench, Goal, Variant

HERE = "bench.p04_echo"


def ours(url: str, turns: int) -> dict[str, float]:
    """Question, receipt, answer."""
    delays = []
    with client(f"{url}/echo") as one, one.start_session() as session:
        for turn in range(turns):
            began = time.perf_counter()
            session.ask("A table for two, please")
            if turn > turns // 10:
                delays.append(time.perf_counter() - began)
    return spread_of(delays)


def pulled(url: str, peer: str, turns: int, *, bare: bool = False) -> dict[str, float]:
    """The same frames by hand, all in one thread: encode, send, receive and parse until the answer is there.

    Args:
        bare: One frame there and one back, without the answer.
    """
    connection = peers.connect(peer, socket_url(f"{url}/{'bounce' if bare else 'echo'}"))
    delays, wanted = [], "EVENT_TYPE_USER_MESSAGE" if bare else "EVENT_TYPE_POLY_AGENT_MESSAGE"
    for turn in range(turns):
        began = time.perf_counter()
        connection.send(peers.message("A table for two, please", turn))
        while json.loads(connection.recv())["type"] != wanted:
            pass
        if turn > turns // 10:
            delays.append(time.perf_counter() - began)
    return spread_of(delays)


def pushed(url: str, peer: str, turns: int) -> dict[str, float]:
    """The answer comes in a callback, on another thread."""
    answered = threading.Semaphore(0)

    def on_text(text: str) -> None:
        if json.loads(text)["type"] == "EVENT_TYPE_POLY_AGENT_MESSAGE":
            answered.release()

    connection = peers.PUSHED[peer](on_text)
    connection.start(socket_url(f"{url}/echo"))
    delays = []
    for turn in range(turns):
        began = time.perf_counter()
        connection.send(peers.message("A table for two, please", turn))
        if not answered.acquire(timeout=60):
            raise TimeoutError("no answer came")
        if turn > turns // 10:
            delays.append(time.perf_counter() - began)
    return spread_of(delays)


BENCH = Bench(
    name="p04",
    title="ask over an echoing server",
    group="latency",
    variants=(
        Variant(name=OURS, call=f"{HERE}:ours"),
        *(Variant(name=peer, call=f"{HERE}:pulled", options={"peer": peer}) for peer in peers.PULLED),
        *(Variant(name=peer, call=f"{HERE}:pushed", options={"peer": peer}) for peer in peers.PUSHED),
        Variant(
            name="websockets.sync, bare echo",
            call=f"{HERE}:pulled",
            options={"peer": "websockets.sync", "bare": True},
        ),
    ),
    main="p50_us",
    options={"turns": 2_000},
    quick={"turns": 500},
    goals=(Goal(id="P4", what="ask round trip, p50", metric="p50_us", against="websockets.sync", goal=1.2, limit=1.6),),
    note="The peers send and parse the same frames: a message, its receipt and the answer.",
)
