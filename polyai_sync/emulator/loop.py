"""An asyncio loop in a thread of its own, and the way in from other threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["LoopThread"]

_T = TypeVar("_T")


class LoopThread:
    """Runs one coroutine for as long as it lasts; others may call in meanwhile."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None  # set by the thread

    def start(self, main: Callable[[Callable[[], None]], Coroutine[Any, Any, None]]) -> None:
        """Start the thread and return once ``main`` has called the function it is given: it is ready."""
        ready = threading.Event()

        async def run() -> None:
            loop = asyncio.get_running_loop()

            def set_ready() -> None:
                self._loop = loop
                ready.set()

            try:
                await main(set_ready)
            finally:
                self._loop = None

        def target() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:  # noqa: BLE001 - told to whoever started the thread, or joins it
                self._error = error
            finally:
                ready.set()

        self._error = None
        self._thread = threading.Thread(target=target, name=self._name, daemon=True)
        self._thread.start()
        ready.wait()
        if not self.alive:
            self.join()

    @property
    def alive(self) -> bool:
        """Does the loop run?"""
        return self._loop is not None

    @property
    def here(self) -> bool:
        """Is the calling thread the loop's own?"""
        return threading.current_thread() is self._thread

    def join(self) -> None:
        """Wait for the end of the thread and raise what ended it, if anything did."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def call(self, function: Callable[[], _T]) -> _T:
        """Run a function on the loop's thread and wait for what it returns.

        Raises:
            RuntimeError: The thread does not run.
        """
        if self.here:
            return function()
        outcome: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def run() -> None:
            try:
                outcome.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it belongs to the caller
                outcome.set_exception(error)

        self._running().call_soon_threadsafe(run)
        return outcome.result(timeout=30)

    def wait(self, function: Callable[[], Awaitable[_T]]) -> _T:
        """Run a function on the loop's thread and wait for the end of what it starts.

        Raises:
            RuntimeError: The thread does not run, or is the caller's own.
        """
        if self.here:
            raise RuntimeError("this call waits for the emulator and cannot be made from an agent")

        async def run() -> _T:
            return await function()

        return asyncio.run_coroutine_threadsafe(run(), self._running()).result()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the emulator is not running")
        return self._loop
