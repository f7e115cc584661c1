"""Chunks to messages (`protocol.md` §7, "Streams")."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from polyai_sync.events import PolyAgentMessageChunk
from polyai_sync.messages import Attachment, CallAction, Message, Suggestion
from polyai_sync.state import OpenStream, Piece

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_T = TypeVar("_T")

__all__ = ["Growth", "Stream", "Streams"]

GRACE: Final = 2.0
"""Seconds to wait for a missing chunk once the last one is there."""

MAX_OPEN: Final = 64
MAX_FINISHED: Final = 16
"""Finished streams kept, so that a late or repeated chunk still finds its place."""

MAX_KEPT: Final = 16
"""Streams that a session's state carries, and the pieces and characters of one that it may hold."""
MAX_KEPT_PIECES: Final = 64
MAX_KEPT_TEXT: Final = 256 * 1024


_NONE: Final[Mapping[int, int]] = MappingProxyType({})


class Growth(Enum):
    """What a chunk did to its message."""

    NONE = "nothing"
    """It was known, or came after the end."""
    GREW = "grew"
    """It may have been finished as it was, and goes on after all."""
    WHOLE = "whole"
    """The message is complete with it."""
    MENDED = "mended"
    """The message was complete, and has another text now."""


class Stream:
    """One message while its chunks come in. Owned by `Streams`; others only read it.

    Attributes:
        message_id: Its id; may be empty.
        born: The number of the event that it began with.
        old: Does all that is known of it belong to what an earlier client handed on?
        sequence: The lowest sequence of its chunks: its place in the conversation.
        replayed: Did all of it come in the history?
        complete: Did it come whole?
        finished: Is no more expected? It may be finished without being complete.
        replaced: Did a whole message come in its place? At which sequence; -1 where that has none.
        due: When it stops waiting for a missing chunk.
    """

    __slots__ = (
        "_attachments",
        "_call_actions",
        "_count",
        "_first",
        "_flowed",
        "_high",
        "_last",
        "_low",
        "_places",
        "_spans",
        "_suggestions",
        "_texts",
        "_unnumbered",
        "born",
        "complete",
        "due",
        "finished",
        "message_id",
        "old",
        "replaced",
        "replayed",
        "sequence",
    )

    def __init__(self, first: PolyAgentMessageChunk, *, born: int, old: bool = True) -> None:
        self.message_id = first.message_id
        self.born = born
        self.old = old
        self.replayed = True
        self.sequence: int | None = None
        self.complete = False
        self.finished = False
        self.replaced: int | None = None
        self.due: float | None = None
        self._first = first
        self._texts: dict[int, str] = {}
        self._places: dict[int, int] = {}  # the sequences of the chunks that have one
        self._spans: Mapping[int, int] = _NONE  # runs of chunks, first to last, whose text stands with the first
        self._count = 0
        self._low = self._high = first.chunk_index
        self._last: int | None = None
        self._flowed: int | None = None
        self._unnumbered = False
        # Dictionaries for their keys: each one once, in order. Few messages have any, and an empty one takes its room.
        self._attachments: dict[Attachment, None] | None = None
        self._suggestions: dict[Suggestion, None] | None = None
        self._call_actions: dict[CallAction, None] | None = None

    @property
    def text(self) -> str:
        """All that has come, in order."""
        return "".join(self._texts[index] for index in sorted(self._texts))

    @property
    def ended(self) -> bool:
        """Has the chunk come that says it is the last?"""
        return self._last is not None

    @property
    def whole(self) -> bool:
        """Is every chunk there, from the first one seen to the one that says it is the last?"""
        return self._last is not None and self._count > self._last - self._low

    @property
    def begins_late(self) -> bool:
        """Was its beginning not seen? Chunks are counted from 0 or from 1."""
        return self._low > 1

    def add(self, event: PolyAgentMessageChunk, *, old: bool) -> bool:
        """Take in one chunk; did it bring a text? A repeated index counts once, under whatever event id it comes."""
        self.old = self.old and old
        self.replayed = self.replayed and event.replayed
        if event.sequence is not None and (self.sequence is None or event.sequence < self.sequence):
            self.sequence = event.sequence
        index = self._index(event)
        new = not self._has(index) and (self._last is None or index <= self._last)
        if new:
            self._texts[index] = event.text
            if event.sequence is not None:
                self._places[index] = event.sequence
            self._count += 1
            if index <= self._low:
                self._low, self._first = index, event
            if index > self._high:
                self._high = index
        if event.is_complete and self._last is None:
            self._last = self._high
        if event.attachments or event.response_suggestions or event.chat_call_actions:
            self._attachments = _with(self._attachments, event.attachments)
            self._suggestions = _with(self._suggestions, event.response_suggestions)
            self._call_actions = _with(self._call_actions, event.chat_call_actions)
        return new

    def _has(self, index: int) -> bool:
        if index in self._texts:
            return True
        return bool(self._spans) and any(first <= index <= last for first, last in self._spans.items())

    def _index(self, event: PolyAgentMessageChunk) -> int:
        """A server that leaves the index out (protobuf's JSON omits 0) numbers nothing: order of arrival it is."""
        if event.chunk_index == 0 and 0 in self._texts and not self.complete:
            self._unnumbered = self._unnumbered or (self._count == 1 and self._texts[0] != event.text)
            if self._unnumbered:
                return self._high + 1
        return event.chunk_index

    def flow(self) -> str:
        """Return the text that can be shown and was not returned before: what follows without a gap.

        A stream begins at 0 or 1. One that is first seen later is held back until its beginning is there or it is
        finished.
        """
        if self._flowed == self._high and (text := self._texts.get(self._high)) is not None:  # nearly always
            self._flowed += 1
            return text
        if self._flowed is None:
            if self.begins_late and not self.finished:
                return ""
            self._flowed = self._low
        pieces = []
        if self.finished:
            pieces = [self._texts[index] for index in sorted(self._texts) if index >= self._flowed]
            self._flowed = self._high + 1
        while self._flowed in self._texts:
            pieces.append(self._texts[self._flowed])
            self._flowed = self._spans.get(self._flowed, self._flowed) + 1
        return "".join(pieces)

    def message(self) -> Message:
        """The message as far as it has come."""
        first = self._first
        return Message(
            role="agent",
            message_id=self.message_id,
            text=self.text,
            attachments=tuple(self._attachments or ()),
            suggestions=tuple(self._suggestions or ()),
            call_actions=tuple(self._call_actions or ()),
            complete=self.complete,
            sequence=self.sequence,
            timestamp=first.timestamp,
            agent_name=first.agent_name,
            avatar_url=first.avatar_url,
            custom=first.custom,
            replayed=self.replayed,
        )

    # --- from one client to the next ---

    def keep(self, cursor: int) -> OpenStream | None:
        """What it held when everything up to ``cursor`` had come, for a session's state; the rest will come again.

        Returns:
            ``None`` where nothing has to be kept: it was complete by then, or had not begun.
        """
        known = sorted(index for index in self._texts if self._places.get(index, -1) <= cursor)
        if not known or (self.complete and len(known) == len(self._texts) and (self.replaced or -1) <= cursor):
            return None
        pieces: list[Piece] = []
        texts: list[str] = []
        begin = end = known[0]
        for index in known:
            if index > end + 1:
                pieces.append(Piece(first=begin, last=end, text="".join(texts)))
                begin, texts = index, []
            end = self._spans.get(index, index)
            texts.append(self._texts[index])
        pieces.append(Piece(first=begin, last=end, text="".join(texts)))
        first = self._first
        return OpenStream(
            message_id=self.message_id,
            pieces=tuple(pieces),
            final=self._last if end == self._last else None,
            numbered=not self._unnumbered,
            cut_short=self.finished and not self.complete,
            attachments=tuple(self._attachments or ()),
            suggestions=tuple(self._suggestions or ()),
            call_actions=tuple(self._call_actions or ()),
            sequence=self.sequence,
            timestamp=first.timestamp,
            agent_name=first.agent_name,
            avatar_url=first.avatar_url,
        )

    @classmethod
    def kept(cls, state: OpenStream, *, born: int) -> Stream:
        """Go on where ``state`` stopped."""
        stream: Stream | None = None
        for piece in state.pieces:
            chunk = PolyAgentMessageChunk(
                message_id=state.message_id,
                text=piece.text,
                attachments=state.attachments,
                response_suggestions=state.suggestions,
                chat_call_actions=state.call_actions,
                agent_name=state.agent_name,
                avatar_url=state.avatar_url,
                chunk_index=piece.first,
                sequence=state.sequence,
                timestamp=state.timestamp,
                replayed=True,
            )
            stream = stream or cls(chunk, born=born)
            stream.add(chunk, old=True)
            stream._spans = {**stream._spans, piece.first: piece.last}
            stream._count += piece.last - piece.first
            stream._high = piece.last
        assert stream is not None  # noqa: S101 - a state holds no stream without a piece
        stream._last = state.final
        stream._unnumbered = not state.numbered
        stream.finished = state.cut_short
        return stream


class Streams:
    """All streams of a session, by message id: those that grow, and the last few that are finished.

    Args:
        kept: What an earlier client held of messages that were growing.

    Attributes:
        growing: Those that grow, in the order they began.
        finished: The last few that are finished.
    """

    __slots__ = ("finished", "growing")

    def __init__(self, kept: Sequence[OpenStream] = ()) -> None:
        self.growing: dict[str, Stream] = {}
        self.finished: dict[str, Stream] = {}
        for number, state in enumerate(kept, start=-len(kept)):
            stream = Stream.kept(state, born=number)  # before everything that this client meets
            (self.finished if stream.finished else self.growing)[stream.message_id] = stream

    def __iter__(self) -> Iterator[Stream]:
        """The streams that still grow, in the order they began."""
        return iter(tuple(self.growing.values()))

    def __bool__(self) -> bool:
        return bool(self.growing)

    def knows(self, message_id: str) -> bool:
        """Are the chunks of this one still remembered?"""
        return message_id in self.growing or message_id in self.finished

    def keep(self, cursor: int) -> tuple[OpenStream, ...]:
        """What they held when everything up to ``cursor`` had come, for a session's state; within bounds."""
        kept = (stream.keep(cursor) for stream in (*self.finished.values(), *self.growing.values()))
        return tuple(state for state in kept if state is not None and _small(state))[-MAX_KEPT:]

    def follow(self, event: PolyAgentMessageChunk, *, old: bool) -> Stream | None:
        """Take in a chunk that is just the next one of a message that grows; returns its stream if it was that.

        Nearly every chunk is: 0.5 µs instead of 2 (bench p01). It leaves the stream as `Stream.add` would.
        """
        stream = self.growing.get(event.message_id)
        if stream is None or event.is_complete:
            return None
        index, sequence, place = event.chunk_index, event.sequence, stream.sequence
        if index != stream._high + 1 or stream._last is not None:
            return None
        if sequence is None or place is None or sequence < place:
            return None
        if event.attachments or event.response_suggestions or event.chat_call_actions:
            return None
        stream._texts[index] = event.text
        stream._places[index] = sequence
        stream._count += 1
        stream._high = index
        if not old:
            stream.old = False
        if not event.replayed:
            stream.replayed = False
        return stream

    def chunk(self, event: PolyAgentMessageChunk, *, born: int, old: bool, now: float) -> tuple[Stream, Growth]:
        """Take in a chunk; returns its stream, and what became of the message."""
        stream = self._find(event)
        if stream is None:
            stream = self.growing[event.message_id] = Stream(event, born=born)
        if stream.replaced is not None:
            return stream, Growth.NONE
        new = stream.add(event, old=old)
        if stream.complete:
            return stream, Growth.MENDED if new else Growth.NONE
        if stream.whole and (stream.finished or not stream.begins_late):
            stream.complete = True
            self._finish(stream)
            return stream, Growth.WHOLE
        if not new and not event.is_complete:
            return stream, Growth.NONE
        if stream.ended and stream.due is None:
            stream.due = now + GRACE
        if stream.finished:
            stream.finished = False
            self.finished.pop(stream.message_id, None)
            self.growing[stream.message_id] = stream
        return stream, Growth.GREW

    def due(self) -> float | None:
        """When to stop waiting for a missing chunk."""
        if not self.growing:
            return None
        return min((stream.due for stream in self.growing.values() if stream.due is not None), default=None)

    def expire(self, now: float) -> list[Stream]:
        """Finish the streams whose missing chunk did not come; one without a gap in it is complete."""
        if not self.growing:
            return []
        late = [stream for stream in self.growing.values() if stream.due is not None and stream.due <= now]
        for stream in late:
            stream.complete = stream.whole
            self._finish(stream)
        return late

    def abandon(self, *, born_before: int | None = None, placed_before: int | None = None) -> list[Stream]:
        """Finish the streams that grow, as they are.

        Args:
            born_before: Only those that began before this event.
            placed_before: Only those whose place in the conversation is before this sequence.
        """
        if not self.growing:
            return []
        left = [
            stream
            for stream in self.growing.values()
            if (born_before is None or stream.born < born_before)
            and (placed_before is None or stream.sequence is None or stream.sequence < placed_before)
        ]
        for stream in left:
            self._finish(stream)
        return left

    def overflow(self) -> list[Stream]:
        """Finish the oldest streams where more are open than any agent would have."""
        if len(self.growing) <= MAX_OPEN:
            return []
        left = list(self.growing.values())[: len(self.growing) - MAX_OPEN]
        for stream in left:
            self._finish(stream)
        return left

    def replace(self, message_id: str, sequence: int | None) -> Stream | None:
        """A whole message with this id came: it stands for the stream from now on, which is returned."""
        if not message_id:
            return None
        stream = self.growing.get(message_id) or self.finished.get(message_id)
        if stream is not None:
            stream.complete = True
            stream.replaced = -1 if sequence is None else sequence
            self._finish(stream)
        return stream

    def _find(self, event: PolyAgentMessageChunk) -> Stream | None:
        if not event.message_id:
            return self.growing.get("")  # messages without an id follow one another
        return self.growing.get(event.message_id) or self.finished.get(event.message_id)

    def _finish(self, stream: Stream) -> None:
        stream.finished = True
        stream.due = None
        self.growing.pop(stream.message_id, None)
        self.finished[stream.message_id] = stream
        while len(self.finished) > MAX_FINISHED:
            del self.finished[next(iter(self.finished))]


def _with(known: dict[_T, None] | None, more: Iterable[_T]) -> dict[_T, None] | None:
    """``known`` with ``more``, each once."""
    found = dict.fromkeys(more)
    if known is None:
        return found or None
    known.update(found)
    return known


def _small(state: OpenStream) -> bool:
    return len(state.pieces) <= MAX_KEPT_PIECES and sum(len(piece.text) for piece in state.pieces) <= MAX_KEPT_TEXT
