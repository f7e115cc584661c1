"""P5: memory of an idle open session."""

from __future__ import annotations

import json
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import peers
from bench.measure import client, raise_descriptors, resident_kib, socket_url
from bench.table import OURS, Bench, Goal, Variant

HERE = "bench.p05_memory"
WARM = 30


def _per_session(open_one: Any, sessions: int) -> dict[str, float]:
    """Open some to warm up, then count what the others take."""
    raise_descriptors()
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(open_one, range(WARM)))
        before = resident_kib()
        kept += pool.map(open_one, range(sessions))
        return {"session_kib": (resident_kib() - before) / sessions, "threads": float(threading.active_count())}


def ours(sessions: int, url: str = "", tls_url: str = "", ca: str | None = None, *, tls: bool = False) -> Any:
    """Sessions of one client."""
    one = client(f"{tls_url if tls else url}/idle-300", ca if tls else None)
    figures = _per_session(lambda _: one.start_session(), sessions)
    one.close()
    return figures


def bare(
    peer: str, sessions: int, url: str = "", tls_url: str = "", ca: str | None = None, *, tls: bool = False
) -> Any:
    """A thread each that blocks in ``recv``; over TLS they share one context."""
    address = socket_url(f"{tls_url if tls else url}/idle-300")
    context = ssl.create_default_context(cafile=ca) if tls else None

    def open_one(_: int) -> Any:
        connection = peers.PULLED[peer](address, context)
        ready = threading.Event()

        def read() -> None:
            while True:
                json.loads(connection.recv())
                ready.set()

        threading.Thread(target=read, daemon=True).start()
        ready.wait(30)  # the history is in, as it is for a session
        return connection

    return _per_session(open_one, sessions)


def app(sessions: int, url: str, **_: Any) -> Any:
    """A WebSocketApp each."""
    address = socket_url(f"{url}/idle-300")

    def open_one(_: int) -> Any:
        ready = threading.Event()

        def on_text(text: str) -> None:
            json.loads(text)
            ready.set()

        connection = peers.PUSHED["WebSocketApp"](on_text)
        connection.start(address)
        ready.wait(30)
        return connection

    return _per_session(open_one, sessions)


TLS = {"tls": True}
BENCH = Bench(
    name="p05",
    title="memory of an idle open session",
    group="sessions",
    needs=("load", "tls"),
    variants=(
        Variant(name=OURS, call=f"{HERE}:ours"),
        Variant(name="websocket-client", call=f"{HERE}:bare", options={"peer": "websocket-client"}),
        Variant(name="websockets.sync", call=f"{HERE}:bare", options={"peer": "websockets.sync"}),
        Variant(name="WebSocketApp", call=f"{HERE}:app"),
        Variant(name=f"{OURS}, TLS", call=f"{HERE}:ours", options=TLS),
        Variant(name="websocket-client, TLS", call=f"{HERE}:bare", options={"peer": "websocket-client", **TLS}),
    ),
    main="session_kib",
    options={"sessions": 300},
    quick={"sessions": 150},
    rounds=5,
    goals=(
        Goal(
            id="P5", what="idle session, clear", metric="session_kib", against="websocket-client", goal=1.5, limit=2.0
        ),
        Goal(
            id="P5",
            what="idle session, TLS",
            metric="session_kib",
            ours=f"{OURS}, TLS",
            against="websocket-client, TLS",
            goal=1.5,
            limit=2.0,
        ),
    ),
    note="The peers: a thread each that blocks in recv(), one shared SSLContext.",
)
