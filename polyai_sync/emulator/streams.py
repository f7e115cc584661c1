"""One message of an agent as the events that carry it, streamed or whole, with what may go wrong in a stream."""

from __future__ import annotations

import itertools
import re
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polyai_sync.emulator.faults import Fault

__all__ = ["stream_events", "whole_event", "words"]

_WORD = re.compile(r"\S+\s*|\s+")
_FEWEST = 4

Event = tuple[str, dict[str, Any]]


def words(text: str) -> list[str]:
    """The text in pieces that give it back when joined: words with the space after them."""
    return _WORD.findall(text)


def whole_event(text: str, message_id: str | None = None, **fields: Any) -> Event:
    """A message in one event."""
    payload: dict[str, Any] = {"message_id": message_id or str(uuid.uuid4()), "text": text}
    return "POLY_AGENT_MESSAGE", {**payload, "attachments": [], "response_suggestions": [], **fields}


def stream_events(
    chunks: Sequence[str],
    attachments: Sequence[Mapping[str, Any]],
    suggestions: Sequence[Mapping[str, Any]],
    taken: Mapping[str, Fault],
) -> list[Event]:
    """A message in chunks counted from 1; attachments and suggestions come with the last (protocol.md §7)."""
    if taken and len(chunks) < _FEWEST:
        chunks = _finer("".join(chunks))
    message_id = str(uuid.uuid4())
    texts: list[str | None] = list(chunks) or [""]
    if "stream.no_final_text" in taken:
        texts.append(None)
    first = 0 if "stream.zero_based" in taken else 1
    events = [_chunk(message_id, text, index) for index, text in enumerate(texts, first)]
    events[-1][1].update(
        is_complete=True, attachments=[dict(one) for one in attachments], response_suggestions=list(suggestions)
    )
    middle = len(events) // 2
    if "stream.abandoned" in taken:
        del events[middle:]
    if "stream.missing_chunk" in taken:
        del events[len(events) // 2]
    if "stream.repeated_chunk" in taken:
        events.insert(1, (events[0][0], dict(events[0][1])))
    if "stream.out_of_order" in taken:
        middle = len(events) // 2
        events[middle - 1 : middle + 1] = events[middle - 1 : middle + 1][::-1]
    if woven := taken.get("stream.interleaved"):
        other = stream_events(words(woven.options["text"]), (), (), {})
        pairs = itertools.zip_longest(events, other)
        events = [event for pair in pairs for event in pair if event is not None]
    if whole := taken.get("stream.replaced_by_whole"):
        text = whole.options["text"] or "".join(chunks) + " (as corrected)"
        events.append(whole_event(text, message_id))
    return events


def _chunk(message_id: str, text: str | None, index: int) -> Event:
    return "POLY_AGENT_MESSAGE_CHUNK", {
        "message_id": message_id,
        "text": text,
        "chunk_index": index,
        "is_complete": False,
        "attachments": [],
        "response_suggestions": [],
    }


def _finer(text: str) -> list[str]:
    """At least four pieces, where the text has as many letters: a shorter stream could not go wrong."""
    step = max(1, len(text) // _FEWEST)
    return [text[start : start + step] for start in range(0, len(text), step)]
