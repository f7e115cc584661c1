"""What a connection is sent first: the journal above its cursor, as batches (protocol.md §4 and §7)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from polyai_sync.emulator import twists
from polyai_sync.emulator.journal import Entry, dump, envelope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from polyai_sync.emulator.faults import Fault
    from polyai_sync.emulator.session import Session
    from polyai_sync.emulator.sockets import Connection

__all__ = ["send_history"]

_ODD_CAPABILITIES = {
    "streaming": "yes",
    "max_message_size_bytes": "131072",
    "max_reconnect_attempts": None,
    "heartbeat_interval_seconds": [30],
}


def send_history(session: Session, connection: Connection) -> None:
    """Send the history and let the connection take part in what happens from then on.

    Without faults nothing comes in between: what is not in the history follows it live. A cursor that has seen
    everything gets an empty batch.
    """
    taken = session.rules.faults.take_all("history", session.id)
    cursor = 0 if "history.full_replay" in taken else connection.cursor
    entries = session.journal.above(cursor)
    session.connections.append(connection)
    if late := taken.get("history.late"):
        asyncio.get_running_loop().call_later(late.options["delay"], _send, session, connection, entries, taken)
    elif "history.never" not in taken:
        _send(session, connection, entries, taken)


def _send(session: Session, connection: Connection, entries: list[Entry], taken: Mapping[str, Fault]) -> None:
    if not entries and "history.none_on_cursor" in taken:
        return
    texts = [text for entry in entries for text in _texts(entry, taken)]
    if "history.reversed" in taken:
        texts.reverse()
    if "history.unbatched" in taken:
        for text in texts:
            connection.send_text(text)
        return
    if "wire.junk_in_batch" in taken:
        texts = [text if isinstance(text, _Raw) else dump(text) for text in twists.junk_in_batch(map(_Raw, texts))]
    size = taken["history.split"].options["size"] if "history.split" in taken else len(texts)
    for _ in range(2 if "history.duplicate" in taken else 1):
        for batch in _batches(texts, size, session.rules.max_message_size):
            connection.send_text(_batch_text(batch, bare="wire.batch_without_id" in taken))
    if overlap := taken.get("history.overlap_live"):
        for text in texts[-overlap.options["count"] :]:
            connection.send_text(text)


class _Raw(str):
    """JSON that is ready to be sent."""

    __slots__ = ()


def _texts(entry: Entry, taken: Mapping[str, Fault]) -> Iterator[str]:
    type_ = entry.event["type"]
    start = type_ == "EVENT_TYPE_SESSION_START"
    if start and "start.no_session_start" in taken:
        return
    if not taken:
        yield entry.text
        return
    event: dict[str, Any] = twists.twisted(entry.text, taken)
    if start and "start.no_capabilities" in taken:
        event["payload"].pop("capabilities")
    if start and "start.odd_capabilities" in taken:
        event["payload"]["capabilities"] = _ODD_CAPABILITIES
    if "wire.payload_under_type_name" in taken:
        event = twists.payload_under_type_name(event)
    yield dump(event)


def _batches(texts: Sequence[str], count: int, size: int) -> Iterator[Sequence[str]]:
    """Batches of at most ``count`` events, and of less than ``size`` bytes where an event fits at all."""
    batch: list[str] = []
    length = 0
    for text in texts:
        if batch and (len(batch) >= count or length + len(text.encode()) > size - 1024):
            yield batch
            batch, length = [], 0
        batch.append(text)
        length += len(text.encode()) + 1
    if batch or not texts:
        yield batch


def _batch_text(texts: Sequence[str], *, bare: bool) -> str:
    event = envelope("EVENT_BATCH", {"events": []})
    if bare:
        event = {"type": event["type"], "payload": event["payload"]}
    head, _, tail = json.dumps(event, separators=(",", ":")).rpartition("[]")
    return f"{head}[{','.join(texts)}]{tail}"
