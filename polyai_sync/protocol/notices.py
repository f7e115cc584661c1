"""What plugins are to be told, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyai_sync.hooks import RateLimit

if TYPE_CHECKING:
    from polyai_sync.errors import PolyAIError

__all__ = ["Notices", "Occurrence"]

Occurrence = tuple[str, tuple[Any, ...]]
"""A hook's name, and its arguments after the session."""


class Notices:
    """Occurrences not yet handed to plugins, and how many there have been in all."""

    __slots__ = ("position", "unheard", "waiting")

    def __init__(self) -> None:
        self.position = 0
        self.waiting: list[Occurrence] = []
        """Those not taken yet."""
        self.unheard: frozenset[str] = frozenset()
        """Hooks that nobody listens to at the moment: nothing is noted for them."""

    def tell(self, hook: str, *arguments: Any) -> None:
        """Plugins are to be told."""
        if hook not in self.unheard:
            self.insist(hook, *arguments)

    def insist(self, hook: str, *arguments: Any) -> None:
        """Plugins are to be told, whatever they said of listening."""
        self.position += 1
        self.waiting.append((hook, arguments))

    def keep_a_place(self) -> int:
        """Something else is told at this place, not of the conversation's; returns how many there have been with it."""
        self.position += 1
        return self.position

    def report(self, error: PolyAIError) -> None:
        """An error was met; each is told once."""
        if error.reported:
            return
        error.reported = True
        self.tell("on_error", error)
        if error.status == 429:
            limit = RateLimit(surface=error.surface, retry_after=error.retry_after, certain=True, error=error)
            self.tell("on_rate_limit", limit)

    def take(self) -> list[Occurrence]:
        """Those not taken before."""
        waiting, self.waiting = self.waiting, []
        return waiting
