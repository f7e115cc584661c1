"""Connections of the load that are watched together: they say little, and there are thousands of them."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from bench import frames
from bench.wire import GoneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.wire import Wire

__all__ = ["CONTROLS", "idling", "steady"]

_TOLERATED: Final = 1.5
"""Intervals after which a heartbeat counts as missed."""

_KEPT: Final = 64
"""Events that a session's next connection may be given again."""

_open: set[Wire] = set()
_totals: dict[str, float] = {"beats": 0, "missed": 0, "dropped": 0, "opened": 0, "worst": 0.0}
_lock = threading.Lock()


# --- what a connection can be asked for -------------------------------------------------------------------------------


def idling(wire: Wire, sizes: list[int]) -> None:
    """Nothing but heartbeats, every so many seconds; `CONTROLS` reach these connections."""
    wire.interval = float(sizes[0]) if sizes else 30.0
    wire.open()
    _open.add(wire)
    try:
        for event in wire.events():
            wire.send(wire.echo(event))
    finally:
        _open.discard(wire)


def steady(wire: Wire, sizes: list[int]) -> None:
    """A conversation: each message is answered in chunks whose text is the time they were written.

    The numbers: seconds between heartbeats, mean seconds until the connection is dropped, chunks of an answer,
    milliseconds between two of them.
    """
    interval, life, count, gap = sizes
    wire.interval = float(interval)
    with _lock:
        journal, busy = _sessions.setdefault(wire.session, (deque(maxlen=_KEPT), threading.Lock()))
    with busy:  # an answer that goes on over a dropped connection ends before the next one begins
        wire.journal = journal
        if journal:
            wire.sequence = journal[-1][0]
            wire.send(frames.batch([text for sequence, text in journal if sequence > wire.cursor]))
        else:
            wire.open()
    with _lock:
        _totals["opened"] += 1
    _open.add(wire)
    _drop_later(wire, life)
    try:
        for event in wire.events():
            with busy:
                _answer(wire, event, count, gap / 1e3)
    finally:
        _left(wire)


def _answer(wire: Wire, event: dict[str, Any], count: int, gap: float) -> None:
    payload = {**event["payload"], "message_id": str(uuid.uuid4())}
    receipt = wire.numbered("USER_MESSAGE", payload, event.get("metadata"))
    gone = not _written(wire, frames.frame(receipt))
    for index in range(count):
        text = wire.kept(frames.chunk(wire.next(), index, frames.PLACE, of=count))
        if not gone:  # else it is for the next connection's history
            time.sleep(gap if index else 0)
            gone = not _written(wire, frames.stamped(frames.frame(text), time.monotonic_ns()))
    if gone:
        raise GoneError


def _written(wire: Wire, data: bytes) -> bool:
    try:
        wire.write(data)
    except GoneError:
        return False
    return True


_sessions: dict[str, tuple[deque[tuple[int, str]], threading.Lock]] = {}


def _left(wire: Wire) -> None:
    _open.discard(wire)
    beats, missed, worst = _judged(wire)
    with _lock:
        _totals["beats"] += beats
        _totals["missed"] += missed
        _totals["worst"] = max(_totals["worst"], worst)


def _judged(wire: Wire) -> tuple[int, bool, float]:
    """A connection's heartbeats: how many, whether one was missed, the longest gap in intervals."""
    times = [wire.opened_at, *wire.beats, time.monotonic()]
    longest = max(after - before for before, after in itertools.pairwise(times)) / wire.interval
    return len(wire.beats), longest > _TOLERATED, longest


# --- drops ------------------------------------------------------------------------------------------------------------

_ends: list[tuple[float, int, Wire]] = []
_numbers = itertools.count()
_chance = random.Random(5)


def _drop_later(wire: Wire, life: int) -> None:
    with _lock:
        number = next(_numbers)
        heapq.heappush(_ends, (time.monotonic() + _chance.expovariate(1 / life), number, wire))
        if number == 0:
            threading.Thread(target=_drop_for_ever, daemon=True).start()


def _drop_for_ever() -> None:
    while True:
        time.sleep(0.02)
        with _lock:
            due = []
            while _ends and _ends[0][0] <= time.monotonic():
                due.append(heapq.heappop(_ends)[2])
        for wire in due:
            if wire in _open:
                _totals["dropped"] += 1
                wire.drop()


# --- what a request can ask for ---------------------------------------------------------------------------------------


def _burst() -> dict[str, Any]:
    """Write one event, whose text is the time it was written, to every connection, as fast as can be."""
    ready = [(wire, frames.frame(frames.whole(wire.next(), frames.PLACE))) for wire in list(_open)]
    began = time.monotonic_ns()
    for wire, one in ready:
        wire.write(frames.stamped(one, time.monotonic_ns()))
    return {"written": len(ready), "began_ns": began, "ended_ns": time.monotonic_ns()}


def _paced(rate: float, seconds: float) -> dict[str, Any]:
    """Write such an event to one connection after the other, ``rate`` a second in all."""
    wires = list(_open)
    began, written = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        while written < now * rate:
            wire = wires[written % len(wires)]
            ready = frames.frame(frames.whole(wire.next(), frames.PLACE))
            wire.write(frames.stamped(ready, time.monotonic_ns()))
            written += 1
        time.sleep(0.001)
    return {"written": written, "seconds": time.monotonic() - began}


def _stats() -> dict[str, Any]:
    """How the heartbeats came, of those that are open and those that were: how many, and how late the latest was."""
    judged = [_judged(wire) for wire in list(_open)]
    with _lock:
        told = dict(_totals)
    return {
        **told,
        "open": len(judged),
        "beats": told["beats"] + sum(beats for beats, _, _ in judged),
        "missed": told["missed"] + sum(missed for _, missed, _ in judged),
        "worst": max([told["worst"], *(worst for _, _, worst in judged)]),
    }


def _forget() -> dict[str, Any]:
    """Begin to count anew: another process measures."""
    with _lock:
        _totals.update(dict.fromkeys(_totals, 0))
        _ends.clear()
    _sessions.clear()
    return {}


CONTROLS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "burst": _burst,
    "paced": _paced,
    "stats": _stats,
    "forget": _forget,
}
