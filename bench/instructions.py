"""Instructions per event, counted by valgrind: a figure that other work on the machine does not touch."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any

from bench import peers
from bench.table import OURS, Bench, Goal, Variant


def missing() -> str | None:
    """What is missing."""
    return None if shutil.which("valgrind") else "valgrind is not installed (apt-get install valgrind)"


def counted(call: str, url: str, few: int, many: int, **options: Any) -> dict[str, float]:
    """The instructions of ``many`` events less those of ``few``, so that the start does not count."""
    counts = [_count(call, {"url": url, "warm": 50, "events": events, **options}) for events in (few, many)]
    return {"event_instructions": (counts[1] - counts[0]) / (many - few)}


def _count(call: str, options: dict[str, Any]) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    run = subprocess.run(
        [*command, "-m", "bench.worker", call, json.dumps(options)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    found = re.search(r"Collected\s*:\s*(\d+)", run.stderr)
    if found is None:
        raise RuntimeError(f"valgrind said nothing of a count: {run.stderr[-500:]}")
    return int(found.group(1))


HERE = "bench.instructions:counted"
BENCH = Bench(
    name="instructions",
    title="instructions per event (valgrind)",
    group="events",
    variants=(
        Variant(name=OURS, call=HERE, options={"call": "bench.p01_events:ours"}),
        *(
            Variant(name=peer, call=HERE, options={"call": "bench.p01_events:pulled", "peer": peer})
            for peer in peers.PULLED
        ),
    ),
    main="event_instructions",
    options={"few": 300, "many": 2_300},
    quick={"many": 1_300},
    rounds=1,
    limit=600.0,
    unless=missing,
    goals=(
        Goal(
            id="P1",
            what="instructions per event",
            metric="event_instructions",
            against="websockets.sync",
            goal=1.0,
            limit=1.4,
        ),
    ),
)
