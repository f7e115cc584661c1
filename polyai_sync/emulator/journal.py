"""What has happened in one session, numbered: the source of every replay (protocol.md §4)."""

from __future__ import annotations

import json
import uuid
from bisect import bisect_right, insort
from datetime import datetime, timezone
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Entry", "Journal", "dump", "envelope", "transcript", "wire_type"]

_PREFIX = "EVENT_TYPE_"
_by_sequence = attrgetter("sequence")

_WHOLE = {
    "EVENT_TYPE_USER_MESSAGE": "user",
    "EVENT_TYPE_POLY_AGENT_MESSAGE": "agent",
    "EVENT_TYPE_LIVE_AGENT_MESSAGE": "live_agent",
}
_CHUNK = "EVENT_TYPE_POLY_AGENT_MESSAGE_CHUNK"


def wire_type(name: str) -> str:
    """The type as it is on the wire, from either spelling."""
    return name if name.startswith(_PREFIX) else _PREFIX + name


def dump(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def envelope(
    type_: str, payload: Mapping[str, Any], metadata: Mapping[str, Any] | None = None, sequence: int | None = None
) -> dict[str, Any]:
    """An event as the server sends it, with an id and a time of its own."""
    event: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "sequence": sequence,
        "timestamp": datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "type": wire_type(type_),
        "payload": dict(payload),
    }
    if metadata:
        event["metadata"] = dict(metadata)
    return event


@frozen
class Entry:
    """An event of the journal, with the very text that is sent."""

    sequence: int
    event: dict[str, Any]
    text: str


@define(eq=False)
class Journal:
    """Events in the order of their numbers, which start from 1: a cursor of 0 asks for all."""

    entries: list[Entry] = field(factory=list)
    next_sequence: int = 1

    def write(self, event: dict[str, Any], sequence: int | None = None) -> Entry:
        """Number an event (with the next number, or with the one given) and keep it."""
        number = self.next_sequence if sequence is None else sequence
        event["sequence"] = number
        entry = Entry(number, event, dump(event))
        if number >= self.next_sequence:
            self.entries.append(entry)
            self.next_sequence = number + 1
        else:
            insort(self.entries, entry, key=_by_sequence)
        return entry

    def skip(self) -> None:
        """Leave a number out for good."""
        self.next_sequence += 1

    def above(self, cursor: int) -> list[Entry]:
        """What a client that has seen everything up to ``cursor`` has not seen."""
        return self.entries[bisect_right(self.entries, cursor, key=_by_sequence) :]

    def events(self) -> tuple[dict[str, Any], ...]:
        """Copies of all events, as a replay would bring them."""
        return tuple(json.loads(entry.text) for entry in tuple(self.entries))


def transcript(events: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Who said what, from a journal: streams put together, in the order in which the messages began.

    A repeated ``chunk_index`` counts once; a whole message replaces the stream that has its id.
    """
    said: dict[str, _Utterance] = {}
    for event in events:
        type_, payload = event["type"], event["payload"]
        if type_ == _CHUNK:
            utterance = said.setdefault(payload["message_id"], _Utterance("agent"))
            utterance.chunks.setdefault(payload["chunk_index"], payload.get("text") or "")
        elif type_ in _WHOLE:
            key = payload.get("message_id") or event["id"]
            utterance = said.setdefault(key, _Utterance(_WHOLE[type_]))
            utterance.whole = payload.get("text") or ""
    return tuple((utterance.role, utterance.text) for utterance in said.values())


@define
class _Utterance:
    role: str
    chunks: dict[int, str] = field(factory=dict)
    whole: str | None = None

    @property
    def text(self) -> str:
        if self.whole is not None:
            return self.whole
        return "".join(text for _, text in sorted(self.chunks.items()))
