"""What the blocking calls share: time-outs, checks of arguments, and how an error reaches the plugins."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, cast

from polyai_sync.errors import PolyAIError
from polyai_sync.transport.deadline import Deadline

if TYPE_CHECKING:
    from polyai_sync.engine import Engine

__all__ = ["UNSET", "Timeout", "deadline_of", "reported", "total", "valid_custom", "valid_seconds", "valid_text"]

P = ParamSpec("P")
R = TypeVar("R")


class _Unset(Enum):
    """A time-out that was not given: the sum of the limits of the call's phases."""

    UNSET = "the limits of the call's phases"

    def __repr__(self) -> str:
        return "…"


UNSET: Final = _Unset.UNSET
Timeout = float | None | _Unset
"""Seconds for the whole call; ``None`` waits for ever; left out, the sum of the limits of the call's phases."""


def total(*limits: float | None) -> float | None:
    """The sum of phases' limits; one without an end makes a sum without an end."""
    seconds = 0.0
    for limit in limits:
        if limit is None:
            return None
        seconds += limit
    return seconds


def deadline_of(timeout: Timeout, default: float | None) -> Deadline:
    """The deadline of a call that begins now.

    Raises:
        TypeError: ``timeout`` is no number.
        ValueError: It is negative or not a number.
    """
    if timeout is UNSET:
        return Deadline.after(default)
    return Deadline.after(None if timeout is None else valid_seconds("timeout", timeout, " or None"))


def valid_seconds(name: str, value: object, otherwise: str = "") -> float:
    """``value`` as it was given, if it is a number of seconds."""
    if type(value) is float and value >= 0.0:  # the common case
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds{otherwise}, not {type(value).__name__}")
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name} must be 0 or more seconds, not {value}")
    return value


def valid_text(text: object) -> str:
    """``text`` as it was given, if it can be sent."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}")
    if not text.strip():
        raise ValueError("text is blank; give the message something to say")
    return text


def valid_custom(custom: object) -> dict[str, str]:
    """The metadata to send along, copied."""
    if custom is None:
        return {}
    if not isinstance(custom, Mapping):
        raise TypeError(f"custom must be a mapping of str to str, not {type(custom).__name__}")
    for key, value in custom.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"custom must map str to str, but {key!r} maps to {type(value).__name__}")
    if custom.get("client_event_id") == "":
        raise ValueError("the client_event_id in custom is empty; leave it out to have one made")
    return dict(custom)


def reported(call: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Make sure that plugins hear of an error that ``call`` raises, once, before its caller does."""

    @functools.wraps(call)
    def wrapper(self: Any, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(self, *args, **kwargs)
        except PolyAIError as error:
            cast("Engine", self._engine).report(error)
            raise

    return cast("Callable[Concatenate[Any, P], R]", wrapper)
