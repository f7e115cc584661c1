"""P10: how long the import holds up a script."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Final

from bench.table import OURS, Bench, Goal, Variant

HERE = "bench.p10_import"

_TIMED: Final = (
    "import time; w = time.perf_counter(); c = time.process_time()\n{}\n"
    "print(time.process_time() - c, time.perf_counter() - w)"
)


def timed(statement: str) -> dict[str, float]:
    """Milliseconds of a statement in an interpreter that has done nothing else; the better of two.

    With bytecode, as an installed package has it: some shells forbid Python to write it.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    best = {"cpu_ms": float("inf"), "wall_ms": float("inf")}
    with tempfile.TemporaryDirectory(prefix="polyai-bench-") as folder:  # where no checkout is in the way
        for _ in range(2):
            out = subprocess.run(
                [sys.executable, "-c", _TIMED.format(statement)],
                capture_output=True,
                text=True,
                check=True,
                env=environment,
                cwd=folder,
            ).stdout
            cpu, wall = map(float, out.split())
            best = {"cpu_ms": min(best["cpu_ms"], cpu * 1e3), "wall_ms": min(best["wall_ms"], wall * 1e3)}
    return best


LIBRARIES: Final = "requests, websocket, pluggy, attr"
CLIENT: Final = f"{OURS}, Client"


def _goal(what: str, ours: str, *, judged: bool) -> Goal:
    return Goal(id="P10", what=what, metric="cpu_ms", ours=ours, against=LIBRARIES, goal=1.05, limit=1.2, judged=judged)


BENCH = Bench(
    name="p10",
    title="import",
    group="start",
    needs=(),
    variants=(
        Variant(name=OURS, call=f"{HERE}:timed", options={"statement": "import polyai_sync"}),
        Variant(name=CLIENT, call=f"{HERE}:timed", options={"statement": "from polyai_sync import Client"}),
        Variant(name=LIBRARIES, call=f"{HERE}:timed", options={"statement": f"import {LIBRARIES}"}),
        Variant(
            name="websockets.sync", call=f"{HERE}:timed", options={"statement": "import websockets.sync.client, json"}
        ),
        Variant(name="slack_sdk", call=f"{HERE}:timed", options={"statement": "import slack_sdk.socket_mode"}),
    ),
    main="cpu_ms",
    goals=(_goal("import polyai_sync", OURS, judged=True), _goal("… and its Client", CLIENT, judged=False)),
    note="The second is what a script pays before it can make a Client: these libraries, and all our own modules.",
)
