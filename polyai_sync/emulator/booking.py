"""What the booking desk understands of a wish, and what it asks next."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

__all__ = ["next_question", "note_wishes"]

_NUMBERS: Mapping[str, int] = {
    word: number
    for number, word in enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), 1)
}
_COUNT = rf"(\d{{1,2}}|{'|'.join(_NUMBERS)})"
_PARTY = re.compile(rf"\bfor {_COUNT}\b(?! ?(?:am|pm|o'clock|:))|\b{_COUNT} (?:people|persons|guests|of us)\b")
_DAY = re.compile(r"\b(today|tonight|tomorrow|monday|tuesday|wednesday|thursday|friday|saturday|sunday)\b")
_TIME = re.compile(rf"\bat {_COUNT}(?:[:.](\d\d))?\b|\b(\d{{1,2}})[:.](\d\d)\b|\b{_COUNT} ?(?:pm|o'clock)")
_WISH = re.compile(r"\b(window|terrace|outside|inside|quiet|high chair|corner)\b")
_NAME = re.compile(r"\b(?:name is|for|i am|i'm|it's|under) ([A-Z][\w'\u2019-]*(?: [A-Z][\w'\u2019-]*)*)")
_BOOK = re.compile(r"\b(book|booking|reserve|reservation|table|dinner|lunch)\b")

Question = tuple[str, tuple[str, ...]]

_QUESTIONS: Mapping[str, Question] = {
    "party": ("For how many people?", ("For one", "For two", "For three")),
    "day": ("On which day?", ("Today", "Tomorrow", "Saturday")),
    "time": ("At what time? We serve from 18:00 to 22:00.", ("At 18:30", "At 19:30", "At 21:00")),
    "name": ("And what name may I put it under?", ()),
}


def note_wishes(booking: MutableMapping[str, Any], text: str) -> bool:
    """Write down what the text says about a booking. Says whether it said anything."""
    low = text.lower()
    asked = booking.pop("asked", None)
    found: dict[str, Any] = {}
    if match := _PARTY.search(low):
        found["party"] = _people(match[1] or match[2])
    if match := _DAY.search(low):
        found["day"] = match[1].capitalize()
    if match := _TIME.search(low):
        hour, minute = match[1] or match[3] or match[5], match[2] or match[4] or "00"
        found["time"] = _clock(_number(hour), int(minute))
    if match := _WISH.search(low):
        found["wish is new"] = True
        found["wish"] = {"window": "by the window", "high chair": "with a high chair"}.get(match[1], match[1])
    if match := _NAME.search(text):
        found["name"] = match[1]
    if not found and asked == "party" and (match := re.search(rf"\b{_COUNT}\b", low)):
        found["party"] = _people(match[1])
    if not found and asked == "name" and text.strip():
        found["name"] = text.strip().rstrip(".")[:60]
    booking.update(found)
    if not found and _BOOK.search(low):
        booking.setdefault("wanted", True)
        return True
    return bool(found)


def next_question(booking: MutableMapping[str, Any]) -> Question | None:
    """What is still to be asked, with answers to choose from; ``None`` once nothing is."""
    for key, (words, suggestions) in _QUESTIONS.items():
        if key not in booking:
            booking["asked"] = key
            noted = f"I have noted: {booking['wish']}. " if booking.pop("wish is new", False) else ""
            return noted + words, suggestions
    return None


def _number(word: str) -> int:
    return _NUMBERS[word] if word in _NUMBERS else int(word)


def _people(word: str) -> str:
    number = _number(word)
    return f"{number} {'person' if number == 1 else 'people'}"


def _clock(hour: int, minute: int) -> str:
    """A restaurant's evening: 7 is 19:00."""
    return f"{hour + 12 if hour < 12 else hour:02}:{minute:02}"
