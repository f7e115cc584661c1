"""Checks of the plugins' arguments."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from polyai_sync.errors import ConfigurationError

if TYPE_CHECKING:
    from attrs import Attribute

__all__ = ["check_count", "check_random", "check_seconds"]


def check_seconds(plugin: Any, setting: Attribute[Any], value: Any) -> None:
    """Demand a finite number of seconds from 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ConfigurationError(
            f"{type(plugin).__name__}: {setting.name} has to be a finite number of seconds from 0, not {value!r:.80}"
        )


def check_count(lowest: int) -> Any:
    """Make a check which demands a whole number from ``lowest``; ``None`` only where it is the default."""

    def check(plugin: Any, setting: Attribute[Any], value: Any) -> None:
        if value is None and setting.default is None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise ConfigurationError(
                f"{type(plugin).__name__}: {setting.name} has to be a whole number from {lowest}, not {value!r:.80}"
            )

    return check


def check_random(plugin: Any, setting: Attribute[Any], value: Any) -> None:
    """Demand a source of random numbers."""
    if not callable(getattr(value, "uniform", None)):
        raise ConfigurationError(
            f"{type(plugin).__name__}: {setting.name} has to be a random.Random, not {value!r:.80}"
        )
