"""A small restaurant's booking desk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyai_sync.emulator.agent import Action, Say, Turn

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RestaurantDesk"]


class RestaurantDesk:
    """Placeholder."""

    def __call__(self, turn: Turn) -> Iterable[Action | str]:
        """Greet, then echo."""
        if turn.greeting:
            yield Say("Welcome to the Olive Branch! How can I help?", suggestions=["Book a table", "Help"])
        else:
            yield f"You said: {turn.text}"
