"""Chunks to messages (`protocol.md` §7, "Streams")."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from polyai_sync.messages import Attachment, CallAction, Message, Suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polyai_sync.events import PolyAgentMessageChunk

__all__ = ["Stream", "Streams"]

GRACE: Final = 2.0
"""Seconds to wait for a missing chunk once the last one is there."""

MAX_OPEN: Final = 64
MAX_FINISHED: Final = 64
"""Finished streams kept, so that a late or repeated chunk still finds its place."""


class Stream:
    """One message while its chunks come in. Owned by `Streams`; others only read it."""

    __slots__ = (
        "_attachments",
        "_call_actions",
        "_first_event",
        "_flowed",
        "_last",
        "_suggestions",
        "_texts",
        "_unnumbered",
        "born",
        "complete",
        "due",
        "finished",
        "message_id",
        "old",
        "replayed",
        "sequence",
    )

    def __init__(self, event: PolyAgentMessageChunk, *, born: int, old: bool) -> None:
        self.message_id = event.message_id
        self.born = born
        self.old = old
        self.replayed = event.replayed
        self.sequence: int | None = None
        self.finished = False
        self.complete = False
        self.due: float | None = None
        self._first_event = event
        self._texts: dict[int, str] = {}
        self._attachments: list[Attachment] = []
        self._suggestions: list[Suggestion] = []
        self._call_actions: list[CallAction] = []
        self._last: int | None = None
        self._flowed: int | None = None
        self._unnumbered = False

    @property
    def text(self) -> str:
        """All that has come, in order."""
        return "".join(self._texts[index] for index in sorted(self._texts))

    @property
    def began(self) -> int | None:
        """The sequence of the first event of it that came."""
        return self._first_event.sequence

    @property
    def flowed(self) -> str:
        """All that `flow` has returned so far."""
        end = self._flowed
        return "" if end is None else "".join(self._texts[index] for index in sorted(self._texts) if index < end)

    @property
    def whole(self) -> bool:
        """Is every chunk there, from the first one seen to the one that says it is the last?"""
        return self._last is not None and len(self._texts) >= self._last - min(self._texts) + 1

    def add(self, event: PolyAgentMessageChunk) -> None:
        """Take in one chunk. A repeated index counts once, under whatever event id it comes."""
        index = event.chunk_index
        if event.sequence is not None:
            self.sequence = max(self.sequence or 0, event.sequence)
        known = self._texts.get(index)
        if known is not None and index == 0 and (self._unnumbered or (known != event.text and len(self._texts) == 1)):
            # A server that leaves the index out (protobuf's JSON omits 0) numbers nothing: order of arrival it is.
            self._unnumbered = True
            index = max(self._texts) + 1
            known = None
        if known is None and (self._last is None or index <= self._last):
            self._texts[index] = event.text
        if event.is_complete and self._last is None:
            self._last = index
        for item in event.attachments:
            if item not in self._attachments:
                self._attachments.append(item)
        for suggestion in event.response_suggestions:
            if suggestion not in self._suggestions:
                self._suggestions.append(suggestion)
        for action in event.chat_call_actions:
            if action not in self._call_actions:
                self._call_actions.append(action)

    def flow(self) -> str:
        """Return the text that can be shown and was not returned before: what follows without a gap.

        A stream begins at 0 or 1. One that is first seen later is held back until its beginning is there or it is
        finished.
        """
        if self._flowed is None:
            first = min(self._texts)
            if first > 1 and not self.finished:
                return ""
            self._flowed = first
        pieces = []
        if self.finished:
            pieces = [self._texts[index] for index in sorted(self._texts) if index >= self._flowed]
            self._flowed = max(self._texts) + 1
        else:
            while self._flowed in self._texts:
                pieces.append(self._texts[self._flowed])
                self._flowed += 1
        return "".join(pieces)

    def begins_late(self) -> bool:
        """Was its beginning never seen?"""
        return min(self._texts) > 1

    def message(self) -> Message:
        """The message as far as it has come."""
        first = self._first_event
        return Message(
            role="agent",
            message_id=self.message_id,
            text=self.text,
            attachments=tuple(self._attachments),
            suggestions=tuple(self._suggestions),
            call_actions=tuple(self._call_actions),
            complete=self.complete,
            sequence=self.sequence,
            timestamp=first.timestamp,
            agent_name=first.agent_name,
            avatar_url=first.avatar_url,
            custom=first.custom,
            replayed=self.replayed,
        )


class Streams:
    """All streams of a session, by message id: those that grow, and the last few that are finished."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Stream] = OrderedDict()
        self._finished: OrderedDict[str, Stream] = OrderedDict()

    def __iter__(self) -> Iterator[Stream]:
        """The streams that still grow, in the order they began."""
        return iter(tuple(self._open.values()))

    def __bool__(self) -> bool:
        return bool(self._open)

    def knows(self, message_id: str) -> bool:
        """Are the chunks of this one still remembered?"""
        return message_id in self._open or message_id in self._finished

    def chunk(self, event: PolyAgentMessageChunk, *, born: int, old: bool, now: float) -> tuple[Stream, bool]:
        """Take in a chunk.

        Returns:
            Its stream, and whether the message changed from not whole to whole with it. A stream that was finished
            without being whole (abandoned, or given up at a gap) can still become whole.
        """
        stream = self._open.get(event.message_id) or self._finished.get(event.message_id)
        if stream is not None and stream.complete and stream.whole and not event.message_id:
            stream = None  # messages without an id follow one another
        if stream is None:
            stream = Stream(event, born=born, old=old)
            self._open[event.message_id] = stream
        stream.add(event)
        if stream.complete:
            return stream, False
        if not stream.whole:
            if stream.finished:
                self._reopen(stream)
            if stream._last is not None and stream.due is None:
                stream.due = now + GRACE
            return stream, False
        if stream.begins_late() and not stream.finished:
            stream.due = stream.due or now + GRACE
            return stream, False
        stream.complete = True
        self._finish(stream)
        return stream, True

    def due(self) -> float | None:
        """When to stop waiting for a missing chunk."""
        times = [stream.due for stream in self._open.values() if stream.due is not None]
        return min(times, default=None)

    def expire(self, now: float) -> list[Stream]:
        """Finish the streams whose missing chunk did not come; one without a gap in it is complete."""
        late = [stream for stream in self._open.values() if stream.due is not None and stream.due <= now]
        for stream in late:
            stream.complete = stream.whole
            self._finish(stream)
        return late

    def abandon(self, *, born_before: int | None = None) -> list[Stream]:
        """Finish the streams that grow (only those that began before ``born_before``), as they are."""
        left = [stream for stream in self._open.values() if born_before is None or stream.born < born_before]
        for stream in left:
            self._finish(stream)
        return left

    def overflow(self) -> list[Stream]:
        """Finish the oldest streams where more are open than any agent would have."""
        left = list(self._open.values())[: max(0, len(self._open) - MAX_OPEN)]
        for stream in left:
            self._finish(stream)
        return left

    def replace(self, message_id: str) -> Stream | None:
        """A whole message with this id came: it stands for the stream from now on, which is returned and forgotten."""
        if not message_id:
            return None
        return self._open.pop(message_id, None) or self._finished.pop(message_id, None)

    def _reopen(self, stream: Stream) -> None:
        stream.finished = False
        self._finished.pop(stream.message_id, None)
        self._open[stream.message_id] = stream

    def _finish(self, stream: Stream) -> None:
        stream.finished = True
        stream.due = None
        self._open.pop(stream.message_id, None)
        self._finished[stream.message_id] = stream
        while len(self._finished) > MAX_FINISHED:
            self._finished.popitem(last=False)
