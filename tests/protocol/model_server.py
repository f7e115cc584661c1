"""A server that keeps the protocol, as far as one may count on it, and nothing more: the model of the property test."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from attrs import define, field

if TYPE_CHECKING:
    import random

PREFIX = "EVENT_TYPE_"


@define
class Habits:
    """What differs from server to server, and is fixed for one run."""

    tags: bool = True  # heartbeat echoes keep their metadata
    echoes: bool = True  # heartbeats are echoed at all
    journals_beats: bool = False  # heartbeat echoes have a sequence and are replayed
    echo_ids: bool = True  # message echoes keep their metadata
    first_chunk: int = 1
    first_sequence: int = 1
    empty_batch: bool = True  # a cursor that has seen everything gets an empty batch, or none at all
    numbered_batches: bool = False  # batches use up a sequence of their own


_SAID = {"USER_MESSAGE": "user", "POLY_AGENT_MESSAGE": "agent", "POLY_AGENT_MESSAGE_CHUNK": "agent"}


@define
class Utterance:
    """One message as the journal has it."""

    role: str
    chunks: dict[int, str] = field(factory=dict)
    complete: bool = False
    ends: int = -1  # the sequence of its last event

    @property
    def text(self) -> str:
        return "".join(text for _, text in sorted(self.chunks.items()))


@define
class ModelServer:
    """The journal, and one connection of the client under test; the other connections are only heard of."""

    habits: Habits
    chance: random.Random
    journal: list[dict[str, Any]] = field(factory=list)
    down: deque[str] = field(factory=deque)  # frames on their way to the client
    up: deque[dict[str, Any]] = field(factory=deque)  # frames on their way to the server
    connected: bool = False
    joined: bool = False
    ended: bool = False
    dropped_silently: bool = False
    streams: dict[str, int] = field(factory=dict)  # the next chunk of each open stream
    _next: int = -1
    _ids: int = 0

    def __attrs_post_init__(self) -> None:
        self._next = self.habits.first_sequence
        self.publish("SESSION_START", {"capabilities": {"streaming": True, "heartbeat_interval_seconds": 30}})

    # --- out ---

    def publish(
        self,
        type_: str,
        payload: dict[str, Any],
        custom: dict[str, str] | None = None,
        *,
        lost: bool = False,
        bare: bool = False,
    ) -> dict[str, Any]:
        """Journal an event and send it live, unless that frame is lost (and only a replay holds it)."""
        event = self._event(type_, payload, custom, sequence=self._next, bare=bare)
        self._next += 1
        self.journal.append(event)
        if self.connected and not lost:
            self.down.append(json.dumps(event))
        return event

    def pass_by(self, type_: str, payload: dict[str, Any], custom: dict[str, str] | None = None) -> None:
        """Send a transient event."""
        if self.connected:
            self.down.append(json.dumps(self._event(type_, payload, custom, sequence=None)))

    def skip(self) -> None:
        """Leave a number out for good."""
        self._next += 1

    def repeat(self) -> None:
        """Send the last frame again."""
        if self.down:
            self.down.append(self.down[-1])

    def swap(self) -> None:
        """Let the last two frames change places."""
        if len(self.down) > 1:
            self.down[-1], self.down[-2] = self.down[-2], self.down[-1]

    # --- the line ---

    def connect(self, cursor: int, *, plain: bool) -> None:
        """A socket is accepted: history first, the echo of whatever the client writes after it.

        Args:
            cursor: The client's.
            plain: Nothing odd about it.
        """
        assert not self.up
        self.down.clear()
        self.connected = True
        odd = 0.0 if plain else 1.0
        chance = self.chance
        asked_for = 0 if chance.random() < 0.2 * odd else cursor
        events = [event for event in self.journal if event["sequence"] > asked_for or asked_for == 0]
        if not events:
            if self.habits.empty_batch:
                self._batch([])
            return
        parts = 1 + int(chance.random() * 4 * odd)
        size = max(1, -(-len(events) // parts))
        batches = [events[start : start + size] for start in range(0, len(events), size)]
        for batch in batches:
            shuffled = list(batch)
            if chance.random() < 0.5 * odd:
                chance.shuffle(shuffled)
            self._batch(shuffled)
            if chance.random() < 0.2 * odd:
                self._batch(shuffled)
        if chance.random() < 0.3 * odd:  # the end of the history comes again, live
            for event in events[-3:]:
                self.down.append(json.dumps(event))

    def cut(self, processed: int) -> None:
        """The socket dies: the server had read so many of the client's frames; what it said to them is lost."""
        self.connected = False
        for _ in range(min(processed, len(self.up))):
            self.read_one(accept=True)
        self.up.clear()
        self.down.clear()

    def read_one(self, *, accept: bool, lost: bool = False) -> None:
        """Take the client's next frame in.

        Args:
            accept: Or drop it without a word, as a rate limit does.
            lost: The live frame of its echo is lost.
        """
        frame = self.up.popleft()
        if self.ended:
            return
        name = frame["type"].removeprefix(PREFIX)
        custom = frame.get("metadata", {}).get("custom")
        if name == "HEARTBEAT":
            self._answer_heartbeat(custom, accept=accept)
        elif name == "REQUEST_POLY_AGENT_JOIN":
            self.publish(name, {}, custom, lost=lost)
            self.joined = True
            self.publish("POLY_AGENT_JOINED", {"agent_name": "Olive"}, lost=lost)
        elif name == "USER_MESSAGE" and accept:
            payload = {"text": frame["payload"]["text"], "message_id": self._id("m")}
            echoed = custom if self.habits.echo_ids else None
            event = self.publish(name, payload, echoed, lost=lost)
            event["accepted"] = custom["client_event_id"]  # for the model's eyes; no client reads it
        elif name == "USER_MESSAGE":
            self.dropped_silently = True
        elif name == "USER_END_SESSION":
            self.publish(name, {}, custom)
            self.ended = True
            self.publish("SESSION_END", {"reason": "REASON_USER_END"})

    # --- the agent ---

    def speak(self, text: str, *, lost: bool = False) -> None:
        self.publish("POLY_AGENT_MESSAGE", {"message_id": self._id("m"), "text": text}, lost=lost)

    def stream(self, text: str, *, message_id: str | None = None, last: bool = False, lost: bool = False) -> None:
        """Begin a stream, or go on with one."""
        if message_id is None:
            message_id = self._id("s")
            self.streams[message_id] = self.habits.first_chunk
        index = self.streams[message_id]
        self.streams[message_id] += 1
        payload = {"message_id": message_id, "text": text, "chunk_index": index, "is_complete": last}
        self.publish("POLY_AGENT_MESSAGE_CHUNK", payload, lost=lost)
        if last:
            del self.streams[message_id]

    def replace(self, message_id: str, text: str) -> None:
        """Send a streamed message whole."""
        self.streams.pop(message_id, None)
        self.publish("POLY_AGENT_MESSAGE", {"message_id": message_id, "text": text})

    # --- what a client should know in the end ---

    def accepted(self) -> dict[str, int]:
        """How often each message of the client was taken in, in the order of the first time."""
        counts: dict[str, int] = {}
        for event in self.journal:
            if "accepted" in event:
                counts[event["accepted"]] = counts.get(event["accepted"], 0) + 1
        return counts

    def transcript(self) -> tuple[list[tuple[str, str]], dict[str, str]]:
        """The complete messages (role and text) in order, and the text of each that is not complete, by id."""
        utterances = self.utterances()
        whole = [(said.role, said.text) for said in utterances.values() if said.complete]
        return whole, {key: said.text for key, said in utterances.items() if not said.complete}

    def utterances(self) -> dict[str, Utterance]:
        """What was said, by message id, in the order in which it began."""
        found: dict[str, Utterance] = {}
        for event in self.journal:
            type_, payload = event["type"].removeprefix(PREFIX), event["payload"]
            if type_ not in _SAID:
                continue
            said = found.setdefault(payload["message_id"], Utterance(_SAID[type_]))
            said.ends = event["sequence"]
            if type_ == "POLY_AGENT_MESSAGE_CHUNK":
                said.chunks.setdefault(payload["chunk_index"], payload["text"])
                said.complete = said.complete or payload["is_complete"]
            else:
                said.chunks, said.complete = {0: payload["text"]}, True
        return found

    # --- inside ---

    def _answer_heartbeat(self, custom: dict[str, str] | None, *, accept: bool) -> None:
        if not self.habits.echoes or not accept:
            return
        echoed = custom if self.habits.tags else None
        if self.habits.journals_beats:
            self.publish("HEARTBEAT", {}, echoed)
        else:
            self.pass_by("HEARTBEAT", {}, echoed)

    def _batch(self, events: list[dict[str, Any]]) -> None:
        sequence = None
        if self.habits.numbered_batches:
            sequence = self._next
            self._next += 1
        self.down.append(json.dumps(self._event("EVENT_BATCH", {"events": events}, None, sequence=sequence)))

    def _event(
        self,
        type_: str,
        payload: dict[str, Any],
        custom: dict[str, str] | None,
        *,
        sequence: int | None,
        bare: bool = False,
    ) -> dict[str, Any]:
        event: dict[str, Any] = {
            "id": "" if bare else self._id("e"),
            "sequence": sequence,
            "timestamp": "2024-05-01T10:00:00Z",
            "type": PREFIX + type_,
            "payload": payload,
        }
        if custom is not None:
            event["metadata"] = {"custom": custom}
        return event

    def _id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}{self._ids}"
