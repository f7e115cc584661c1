"""An interrupt at any moment of a call leaves the session in order (``pitfalls.md`` 22, 27).

A signal's handler runs between two steps of the main thread, whichever they are. So a call is interrupted after each of
its steps once, in those files where something is taken and has to be given back.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from fault_kit import Caller

import polyai_sync.engine
import polyai_sync.frame_writer
import polyai_sync.hook_queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from fault_kit import Bench

    from polyai_sync import Session

OURS = {str(module.__file__) for module in (polyai_sync.engine, polyai_sync.frame_writer, polyai_sync.hook_queue)}


class Interrupted(BaseException):
    """What Ctrl-C raises, by another name."""


class InterruptAt:
    """Interrupts this thread at its so-manieth step: after a call, where the interpreter looks for signals."""

    def __init__(self, step: int, files: set[str]) -> None:
        self.left = step
        self.files = files
        self.at = ""

    def __call__(self, frame: Any, event: str, what: object) -> None:
        if event in ("call", "return", "c_return") and frame.f_code.co_filename in self.files:
            self.left -= 1
            if not self.left:
                sys.setprofile(None)
                self.at = f"{event} {what} {frame.f_code.co_filename}:{frame.f_lineno}"
                raise Interrupted


CALLS: dict[str, tuple[Callable[[Session], object], set[str]]] = {
    "send": (lambda session: session.send("hello", wait=False), {*OURS, str(threading.__file__)}),
    "typing": (lambda session: session.typing(), {*OURS, str(threading.__file__)}),
    # The standard library's own wait has a step at which an interrupt becomes a RuntimeError; nothing is held then.
    "wait": (lambda session: session.send("hello"), OURS),
}
"""What is called, and in which files it is interrupted."""


@pytest.mark.parametrize("name", CALLS)
def test_interrupt_at_any_step_leaves_the_session_usable(name: str, bench: Bench) -> None:
    call, files = CALLS[name]
    step, through = 0, False
    while not through:
        step += 1
        with bench.client(plugins=[bench.backoff, bench.reconnect]).start_session() as session:
            session.next_message()
            traced = InterruptAt(step, files)
            sys.setprofile(traced)
            try:
                call(session)
                through = True
            except Interrupted:
                pass
            finally:
                sys.setprofile(None)
            # On another thread, so that a lock which is held for ever is a failure and not a hang.
            asking = Caller(session.ask, "and now?")
            asking.join(6)
            assert not asking.is_alive(), traced.at
            assert asking.result().text.startswith("You said: "), traced.at
            Caller(session.close).result(2)
    assert step > 20
