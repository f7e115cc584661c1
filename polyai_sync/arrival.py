"""Waiting for an agent that was asked to join, and asking again where it could not start."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from polyai_sync.engine import Engine, Stopped
from polyai_sync.errors import ReadyTimeoutError, SessionEndedError
from polyai_sync.protocol.turns import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.protocol.conversation import Conversation
    from polyai_sync.session import Session
    from polyai_sync.transport.deadline import Deadline

__all__ = ["Arrival"]


class Arrival:
    """A call that waits for the session to be ready. Errors of the server meanwhile are its business."""

    def __init__(self, session: Session, engine: Engine) -> None:
        self._session = session
        self._engine = engine
        self._tries = 0
        self._waiter = waiter = Waiter(time.monotonic())
        engine.change(lambda conversation, _: conversation.lines.wait(waiter))

    def wait(self, deadline: Deadline, there: Callable[[Conversation], bool]) -> None:
        """Wait until ``there`` holds; a failed join is asked for again where the policies say so.

        Raises:
            ReadyTimeoutError: It did not in time.
            PolyAIError: The start failed, the session is over, or the server sent an error that nobody recovers.
        """
        engine, waiter = self._engine, self._waiter

        def settled() -> bool:
            conversation = engine.conversation
            over = engine.start_error is not None or waiter.error is not None or conversation.over
            return (over or there(conversation)) and engine.told

        while True:
            engine.wait(settled, deadline)
            with engine.lock:
                if engine.start_error is not None:
                    raise engine.start_error
                error, waiter.error = waiter.error, None
                if error is None:
                    if there(engine.conversation):
                        return
                    raise engine.conversation.outcome() or ReadyTimeoutError(
                        "The session was not ready in time", surface="client"
                    )
            self._tries += 1
            delay = engine.ask(partial(engine.services.host.retry_delay, self._session, "join", error, self._tries))
            remaining = deadline.remaining()
            if delay is None or (remaining is not None and delay >= remaining):
                raise error
            try:
                engine.pause(delay, until_ending=True)
            except Stopped:
                raise error from None
            engine.change(lambda conversation, now: conversation.ask_to_join(now))

    def wait_for_greeting(self, deadline: Deadline) -> None:
        """Wait for the first message; one that does not come in time is not worth failing for."""
        try:
            self.wait(deadline, lambda conversation: bool(conversation.scene.inbox))
        except (ReadyTimeoutError, SessionEndedError):
            return  # late, or the session ended right after the join: the next call says so

    def leave(self) -> None:
        """Wait no longer."""
        waiter = self._waiter
        self._engine.change(lambda conversation, _: conversation.lines.stop_waiting(waiter))
