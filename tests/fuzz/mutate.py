"""Mutations that keep the sense of an input: JSON stays JSON, a line stays a line.

libFuzzer's own change bytes, and most of what they make is no JSON any more: good for the first line of the decoder,
and for nothing behind it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from polyai_sync.events import EVENT_CLASSES

if TYPE_CHECKING:
    import random

__all__ = ["mutate_frame", "mutate_lines"]

_ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 63, 64, 1.5, 1e308, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30),
    *("", "0", "1", "soon", "\ud800", "\udfff\ud800", "a\u0000b", "ünïcödé", "x" * 300, "True", "mine-1", "mine-2"),
    *("2024-05-01T10:00:00Z", "2024-02-30T25:61:61Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.9-23:59"),
    *([], {}, [[]], [None], {"id": None}),
)
_TYPES: Final = (*EVENT_CLASSES, "EVENT_TYPE_EVENT_BATCH", "EVENT_TYPE_SOMETHING_NEW")
_HAPPENS: Final = (
    *("!open", "!drop 1006", "!drop", "!drop 1000", "!drop 4001", "!refuse", "!giveup", "!resume", "!resume history"),
    *("!tick 0.1", "!tick 1", "!tick 6", "!tick 40"),
    *("!send", "!ask", "!ask 1", "!leave", "!read", "!abandon", "!answer", "!answer no"),
    *("!type", "!type no", "!join", "!end 5", "!burst", "!burst", "!burst"),
)


def mutate_frame(text: str, chance: random.Random) -> str:
    """Change a frame in one to three places."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for _ in range(chance.randint(1, 3)):
        document = _change(document, chance)
    return json.dumps(document, ensure_ascii=chance.random() < 0.9)


def _change(document: Any, chance: random.Random) -> Any:
    """The document with another value, a field more or less, an element twice or elsewhere."""
    places = list(_places(document))
    if not places:
        return chance.choice(_ODD)
    holder, key = chance.choice(places)
    what = chance.random()
    if what < 0.15:
        del holder[key]
    elif what < 0.3 and isinstance(holder, list):
        holder.insert(chance.randint(0, len(holder)), holder[key])
    elif what < 0.4 and isinstance(holder, list):
        chance.shuffle(holder)
    elif what < 0.5 and isinstance(holder, dict):
        holder[chance.choice(places)[1] if chance.random() < 0.5 else "odd"] = holder[key]
        holder.update({str(name): holder.pop(name) for name in list(holder) if not isinstance(name, str)})
    elif what < 0.6:
        other, name = chance.choice(places)
        if not _holds(other[name], holder):
            holder[key] = json.loads(json.dumps(other[name]))
    elif key == "type":
        holder[key] = chance.choice(_TYPES)
    elif isinstance(holder[key], int) and chance.random() < 0.6:
        holder[key] += chance.choice((-2, -1, 1, 2, 1000))
    else:
        holder[key] = json.loads(json.dumps(chance.choice(_ODD)))
    return document


def _places(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from _places(child)


def _holds(value: Any, holder: Any) -> bool:
    return value is holder or any(child is holder for place, key in _places(value) for child in (place[key],))


def mutate_lines(text: str, chance: random.Random) -> str:
    """Change what happens: lines come twice, elsewhere, not at all, new or odd."""
    lines = text.split("\n")
    for _ in range(chance.randint(1, 4)):
        at, what = chance.randrange(len(lines)), chance.random()
        if what < 0.15 and len(lines) > 1:
            del lines[at]
        elif what < 0.3:
            lines.insert(chance.randint(0, len(lines)), lines[at])
        elif what < 0.4:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif what < 0.6:
            lines.insert(at, chance.choice(_HAPPENS))
        else:
            lines[at] = mutate_frame(lines[at], chance)
    return "\n".join(lines)
