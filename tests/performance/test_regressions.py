"""What the client may cost at most: far more than the goals admit, since other tests run beside it."""

from __future__ import annotations

from bench import p01_events, scale
from bench.run import Run, quick_ratio
from bench.services import Services

MOST = 2.0
"""Times the CPU that ``websockets.sync`` and ``json.loads`` take for an event. The goal is half of it."""


def test_an_event_costs_no_more_than_twice_a_bare_loop() -> None:
    assert quick_ratio(p01_events.BENCH) <= MOST


def test_sessions_survive_drops_without_losing_a_message() -> None:
    told: list[str] = []
    with Services() as services:
        changed = {"sessions": 6, "minutes": 0.1, "pause": 2, "life": 2, "every": 1}
        run = Run(services, rounds=1, quick=True, progress=told.append, changed=changed)
        taken = run.measure(scale.BENCH)
    assert run.failures == []
    (figures,) = taken["polyai_sync"]
    assert figures["drops"] > 0
    assert figures["events_per_second"] > 0
    assert (figures["alive"], figures["unsettled"], figures["failed"], figures["missed"]) == (6, 0, 0, 0)
    assert len(figures["series"]) >= 5
    assert any("6 sessions are open" in line for line in told)
