"""A point in time by which something must be done, on a clock that nobody can set (``pitfalls.md`` 30)."""

from __future__ import annotations

import math
from time import monotonic

__all__ = ["Deadline"]


class Deadline:
    """A point on the monotonic clock, or never.

    One deadline is made where a call begins, and handed down: whatever the call does on its way, all of it shares the
    same time.

    Attributes:
        at: A reading of ``time.monotonic()``; ``None`` = never.
    """

    __slots__ = ("at",)

    def __init__(self, at: float | None) -> None:
        self.at = at

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The deadline so many seconds from now. ``None`` and infinity are never, nought and less are now."""
        if seconds is None or seconds == math.inf:
            return cls(None)
        return cls(monotonic() + seconds)

    def remaining(self) -> float | None:
        """Seconds left, never below 0; ``None`` where there is no end."""
        return None if self.at is None else max(0.0, self.at - monotonic())

    def expired(self) -> bool:
        """Is the time up?"""
        return self.at is not None and monotonic() >= self.at

    def clip(self, seconds: float | None) -> float | None:
        """The smaller of ``seconds`` and what remains; ``None`` in either is no limit."""
        remaining = self.remaining()
        if remaining is None or seconds is None:
            return seconds if remaining is None else remaining
        return min(seconds, remaining)

    def within(self, seconds: float | None) -> Deadline:
        """This deadline, or the one so many seconds from now, whichever comes first."""
        other = Deadline.after(seconds)
        if self.at is None or (other.at is not None and other.at < self.at):
            return other
        return self

    def __repr__(self) -> str:
        remaining = self.remaining()
        return "Deadline(never)" if remaining is None else f"Deadline(in {remaining:.3f} s)"
