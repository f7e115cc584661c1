"""What happens in a session, as a line of news that one thread reads: an observer plugin, and a worker that asks."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from polyai_sync.errors import PolyAIError
from polyai_sync.events import PolyAgentMessageChunk, UserMessage
from polyai_sync.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from polyai_sync import Session
    from polyai_sync.events import Event
    from polyai_sync.hooks import ClientEvent, RateLimit
    from polyai_sync.messages import Handoff, Message

__all__ = ["Mailbox", "News", "Watcher", "Worker"]

News = tuple[Any, ...]
"""A kind of news, and what belongs to it."""


class Mailbox:
    """Any thread puts news in, one takes them out in order."""

    def __init__(self) -> None:
        self._news: SimpleQueue[News] = SimpleQueue()

    def put(self, kind: str, *about: Any) -> None:
        """Tell."""
        self._news.put((kind, *about))

    def take(self, timeout: float | None) -> News | None:
        """The next news; ``None`` when none came within ``timeout`` seconds."""
        try:
            return self._news.get(timeout=timeout) if timeout != 0 else self._news.get_nowait()
        except Empty:
            return None


class Watcher:
    """A plugin that tells what happens, and decides nothing."""

    name = "polyai-sync-chat"

    def __init__(self, mailbox: Mailbox) -> None:
        self._put = mailbox.put

    @hookimpl
    def on_session_start(self, session: Session) -> None:
        """Tell that there is a session, long before its start is done."""
        self._put("began", session)

    @hookimpl
    def on_event(self, session: Session, event: Event) -> None:
        """Tell of the event; of a piece of a message, as far as the message has grown."""
        if not isinstance(event, PolyAgentMessageChunk):
            self._put("event", event)
            return
        for message in reversed(session.messages):
            if message.message_id == event.message_id and message.role == "agent":
                self._put("grown", message)
                return

    @hookimpl
    def on_message(self, message: Message) -> None:
        """Tell of a complete message."""
        self._put("message", message)

    @hookimpl
    def on_send(self, event: ClientEvent) -> None:
        """Tell which messages are ours."""
        if event.type == UserMessage.wire_type:
            self._put("sent", event.custom.get("client_event_id", ""))

    @hookimpl
    def on_handoff(self, handoff: Handoff) -> None:
        """Tell of the handoff's next step."""
        self._put("handoff", handoff)

    @hookimpl
    def on_reconnect(self, attempt: int, delay: float, error: PolyAIError) -> None:
        """Tell of the coming attempt."""
        self._put("reconnecting", attempt, delay, error)

    @hookimpl
    def on_connect(self) -> None:
        """Tell that the socket is open."""
        self._put("connected")

    @hookimpl
    def on_rate_limit(self, limit: RateLimit) -> None:
        """Tell of what seems to be a limit."""
        self._put("limited", limit)

    @hookimpl
    def on_error(self, error: PolyAIError) -> None:
        """Tell of an error."""
        self._put("error", error)

    @hookimpl(wrapper=True, tryfirst=True)
    def retry_delay(self, operation: str, error: PolyAIError) -> Generator[None, float | None, float | None]:
        """Tell what the policies have decided; change nothing."""
        delay = yield
        if delay is not None:
            self._put("retrying", operation, error, delay)
        return delay

    @hookimpl
    def on_session_end(self, reason: str, error: PolyAIError | None) -> None:
        """Tell that it is over."""
        self._put("ended", reason, error)


class Worker(threading.Thread):
    """Makes the calls that wait, one after the other, and tells what came of each.

    Args:
        mailbox: Where it tells: ``started``, ``answered``, ``refused`` (a `PolyAIError`), ``crashed`` (anything else).
        start: Makes the session.
    """

    def __init__(self, mailbox: Mailbox, start: Callable[[], Session]) -> None:
        super().__init__(name="polyai-chat-worker", daemon=True)
        self._put = mailbox.put
        self._start_session = start
        self._jobs: SimpleQueue[Callable[[Session], object] | None] = SimpleQueue()

    def do(self, call: Callable[[Session], object]) -> None:
        """Make this call, after those that wait already."""
        self._jobs.put(call)

    def stop(self) -> None:
        """Make no further call."""
        self._jobs.put(None)

    def run(self) -> None:
        """Start the session, then make the calls."""
        try:
            session = self._start_session()
        except PolyAIError as error:
            self._put("failed", error)
            return
        except Exception as error:  # noqa: BLE001 - raised again where somebody sees it
            self._put("crashed", error)
            return
        self._put("started", session)
        while (call := self._jobs.get()) is not None:
            self._put(*self._outcome(call, session))

    @staticmethod
    def _outcome(call: Callable[[Session], object], session: Session) -> News:
        try:
            call(session)
        except PolyAIError as error:
            return "refused", error
        except Exception as error:  # noqa: BLE001 - raised again where somebody sees it
            return "crashed", error
        return ("answered",)
