"""The frames of one session on their way out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from polyai_sync.errors import PolyAIError
from polyai_sync.transport.deadline import Deadline

if TYPE_CHECKING:
    from polyai_sync.engine import Engine

__all__ = ["FrameWriter"]


class FrameWriter:
    """Writes them in order and one at a time, on whichever thread has something to send.

    Attributes:
        busy: Some thread writes, or keeps back what waits. Guarded by the engine's lock.
    """

    __slots__ = ("_engine", "busy")

    def __init__(self, engine: Engine) -> None:
        self.busy = False
        self._engine = engine

    def flush(self) -> None:
        """Write the frames that wait, unless another thread is at it."""
        engine = self._engine
        while engine.conversation.busy:
            connection = told = None
            mine = written = False
            try:  # from here on: an interrupt anywhere must not leave `busy` set, nor a frame in nobody's hands
                with engine.lock:
                    connection = engine.connection
                    if connection is None or self.busy:
                        return
                    mine = self.busy = True
                    taken = engine.conversation.take_frame(time.monotonic())
                    if taken is None:
                        mine = self.busy = False
                        return
                    event, frame = taken
                    told = engine.queue_in_place(
                        "on_send", event
                    )  # before what answers it, which may be read before we go on
                connection.write(frame, Deadline.after(engine.services.settings.timeouts.connect))
                written = True
            except PolyAIError:
                pass  # the session's thread meets the drop, and tells of it
            finally:
                if mine:
                    if not written and told is not None:
                        engine.hooks.take_back(told)
                    if not written and connection is not None:
                        connection.close()
                    with engine.lock:
                        self.busy = False
