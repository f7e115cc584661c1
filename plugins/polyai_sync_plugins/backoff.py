"""Whether, and when, to try again what has failed."""

from __future__ import annotations

from random import Random, SystemRandom
from typing import TYPE_CHECKING, ClassVar, Final

from attrs import field, frozen

from polyai_sync.hooks import hookimpl
from polyai_sync_plugins._settings import check_count, check_random, check_seconds

if TYPE_CHECKING:
    from polyai_sync.errors import PolyAIError

__all__ = ["Backoff"]

_HIGHEST_DOUBLING: Final = 60  # beyond any cap, and far from a float's end


@frozen(kw_only=True)
class _Rule:
    """An error with a rhythm of its own: at most ``times`` more tries, ``lowest`` to ``highest`` seconds apart."""

    times: int
    lowest: float
    highest: float


_ONCE_AT_ONCE: Final = _Rule(times=1, lowest=0.0, highest=0.0)

# error-codes.md, column "retryable". A dead access token is replaced by the core before the call is repeated, and a
# conversation that is not there is begun by the join that the core sends first: both can help once only.
_RULES: Final[dict[str, _Rule]] = {
    "agent.overloaded": _Rule(times=2, lowest=2.0, highest=5.0),
    "session_create.invalid_token": _ONCE_AT_ONCE,
    "session.conversation_not_found": _ONCE_AT_ONCE,
    "session.conversation_uninitialised": _ONCE_AT_ONCE,
}


@frozen(kw_only=True, eq=False)
class Backoff:
    """Tries again what may be tried again, with growing pauses.

    Only errors whose ``retryable`` is true. ``Retry-After`` is honoured as it stands; else the pause is drawn evenly
    from 0 to ``base``, twice that, four times that … (full jitter), so that a crowd that failed together does not come
    back together. An overloaded agent is asked again twice, after 2 to 5 seconds; a refused access token and a missing
    conversation are mended once, at once.

    It keeps no state: one instance serves all clients and threads.

    Args:
        max_attempts: Tries in all, the first included; 1 = never again.
        base: Seconds: the longest pause after the first try.
        cap: Seconds: the longest pause ever drawn.
        max_retry_after: Seconds: a longer ``Retry-After`` is not waited for; the error, which holds it, is raised.
        random: Draws the pauses.

    Raises:
        ConfigurationError: An argument is out of its range.
    """

    name: ClassVar[str] = "backoff"

    max_attempts: int = field(default=4, validator=check_count(1))
    base: float = field(default=1.0, validator=check_seconds)
    cap: float = field(default=30.0, validator=check_seconds)
    max_retry_after: float = field(default=60.0, validator=check_seconds)
    random: Random = field(factory=SystemRandom, repr=False, validator=check_random)

    @hookimpl
    def retry_delay(self, error: PolyAIError, attempt: int) -> float | None:
        """Answer the seconds to wait, or ``None`` to let the error be raised."""
        rule = _RULES.get(error.code)
        tries = self.max_attempts if rule is None else min(self.max_attempts, rule.times + 1)
        if not error.retryable or attempt >= tries:
            return None
        if error.retry_after is not None and error.retry_after >= 0:
            return error.retry_after if error.retry_after <= self.max_retry_after else None
        if rule is not None:
            return self.random.uniform(rule.lowest, rule.highest)
        return self.random.uniform(0, min(self.cap, self.base * 2 ** min(attempt - 1, _HIGHEST_DOUBLING)))
