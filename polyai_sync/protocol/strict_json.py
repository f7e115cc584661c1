"""JSON as the wire may hold it: strict where JSON is, bounded where a server could do harm (`protocol.md` §4)."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_DEPTH", "brief", "encodable", "mended", "parse", "scan", "too_deep", "torn"]

MAX_DEPTH: Final = 64
"""JSON nested deeper than this is no message of the protocol, whose own events need six levels."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


_JSON = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)

scan: Callable[[str, int], tuple[Any, int]] = _JSON.scan_once  # type: ignore[attr-defined] # not in typeshed
"""Parses the value that begins at a place of a text; returns where it ends, too. Raises what `parse` does, and
``StopIteration`` where nothing begins. Two thirds of the time of ``decode``, which looks for blanks around."""


def parse(text: str) -> Any:
    """Parse a text.

    Raises:
        ValueError: It is no JSON.
        RecursionError: It is nested thousands of levels deep.
    """
    try:
        document, end = scan(text, 0)
    except StopIteration:
        end = -1
    return document if end == len(text) else _JSON.decode(text)


def brief(error: ValueError) -> str:
    """What was wrong, in a few words."""
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)[:120]


def too_deep(document: dict[str, Any]) -> bool:
    """Does ``document`` nest deeper than ``MAX_DEPTH``? Level by level, so that depth costs no stack."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def torn(text: str) -> bool:
    """May it hold half of a surrogate pair? An escape is the only way for one to get into decoded UTF-8."""
    return "\\" in text and ("\\ud" in text or "\\uD" in text)


def mended(value: Any, levels: int = 2 * MAX_DEPTH) -> Any:
    """``value`` without halves of surrogate pairs, which break whoever prints or stores them.

    What is deeper than any event of a batch may be is left as it is.
    """
    if isinstance(value, str):
        return value if encodable(value) else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list) and levels:
        return [mended(element, levels - 1) for element in value]
    if isinstance(value, dict) and levels:
        return {mended(key): mended(element, levels - 1) for key, element in value.items()}
    return value


def encodable(text: str) -> bool:
    """Is there no half of a surrogate pair in it, which no UTF-8 can carry?"""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
