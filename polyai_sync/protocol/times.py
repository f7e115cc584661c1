"""Moments, in monotonic seconds; ``None`` = never."""

from __future__ import annotations

__all__ = ["earliest"]


def earliest(*times: float | None) -> float | None:
    """The first of ``times``. Asked several times for every frame: half the time of ``min`` with a generator."""
    first = None
    for time in times:
        if time is not None and (first is None or time < first):
            first = time
    return first
