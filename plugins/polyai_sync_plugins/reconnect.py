"""Whether, and when, to open a dropped connection again."""

from __future__ import annotations

from random import Random, SystemRandom
from typing import TYPE_CHECKING, ClassVar, Final

from attrs import field, frozen

from polyai_sync.hooks import hookimpl
from polyai_sync_plugins._settings import check_count, check_random, check_seconds

if TYPE_CHECKING:
    from polyai_sync.errors import PolyAIError
    from polyai_sync.session import Session

__all__ = ["Reconnect"]

_ATTEMPTS_WITHOUT_A_HINT: Final = 10
_HIGHEST_DOUBLING: Final = 60  # beyond any cap, and far from a float's end


@frozen(kw_only=True, eq=False)
class Reconnect:
    """Brings a dropped connection back, from ``base`` to ``cap`` seconds, doubling (protocol.md §7 "Reconnecting").

    Of each pause the upper half is drawn at random, after the cap: a crowd dropped together does not come back
    together, not even at the cap, and nobody comes back at once (pitfalls.md 15). ``Retry-After`` is waited for as it
    stands; one shorter than ``base`` does not make the pause shorter. An error that is not ``retryable`` (the session
    or its token is gone, or the request is wrong) ends the attempts.

    It keeps no state: one instance serves all clients and threads.

    Args:
        max_attempts: Handshakes after a drop; 0 = no limit. ``None``: what the server said in ``SESSION_START``
            (there, too, 0 = no limit), and 10 where it said nothing.
        base: Seconds: the longest pause before the first attempt.
        cap: Seconds: the longest pause ever drawn.
        max_retry_after: Seconds: with a longer ``Retry-After`` the connection is given up. By default ten minutes,
            the time after which the server ends a session that it hears nothing from.
        random: Draws the pauses.

    Raises:
        ConfigurationError: An argument is out of its range.
    """

    name: ClassVar[str] = "reconnect"

    max_attempts: int | None = field(default=None, validator=check_count(0))
    base: float = field(default=1.0, validator=check_seconds)
    cap: float = field(default=30.0, validator=check_seconds)
    max_retry_after: float = field(default=600.0, validator=check_seconds)
    random: Random = field(factory=SystemRandom, repr=False, validator=check_random)

    @hookimpl
    def reconnect_delay(self, session: Session, error: PolyAIError, attempt: int) -> float | None:
        """Answer the seconds to wait before attempt ``attempt``, or ``None`` to give up."""
        limit = self._limit(session)
        if not error.retryable or (limit and attempt > limit):
            return None
        longest = min(self.cap, self.base * 2 ** min(attempt - 1, _HIGHEST_DOUBLING))
        pause = self.random.uniform(longest / 2, longest)
        if error.retry_after is None or not error.retry_after >= 0:
            return pause
        if error.retry_after > self.max_retry_after:
            return None
        return error.retry_after if error.retry_after >= self.base else max(error.retry_after, pause)

    def _limit(self, session: Session) -> int:
        if self.max_attempts is not None:
            return self.max_attempts
        hint = session.capabilities.max_reconnect_attempts if session.capabilities else None
        return _ATTEMPTS_WITHOUT_A_HINT if hint is None or hint < 0 else hint
