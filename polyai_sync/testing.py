"""Helpers for tests, and a pytest plugin that brings them as fixtures.

Installed by an entry point, so a test just names them::

    def test_greets(polyai_emulator, polyai_client):
        with polyai_client.start_session() as session:
            assert session.next_message().text
        assert polyai_emulator.session.connections_total == 1

`polyai_emulator` is started with what the marker ``polyai_emulator(**options)`` says, or the fixture
`polyai_emulator_options`; `polyai_client` likewise (``polyai_client(**options)``, `polyai_client_options`). Both need
the extra ``emulator``. `HookRecorder`, `ManualClock` and `wait_until` need nothing.

This module is imported by every pytest run in an environment that has this package: it imports nothing heavy.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polyai_sync import Client
    from polyai_sync.emulator import Emulator

__all__ = [
    "HookRecorder",
    "ManualClock",
    "polyai_client",
    "polyai_client_options",
    "polyai_emulator",
    "polyai_emulator_options",
    "wait_until",
]

_T = TypeVar("_T")


def wait_until(predicate: Callable[[], _T], timeout: float = 5.0, *, interval: float = 0.002) -> _T:
    """Ask again and again until the answer is true, and return it.

    Args:
        predicate: Asked every ``interval`` seconds.
        timeout: Seconds after which it is given up.
        interval: Seconds between two askings.

    Raises:
        AssertionError: It was not true in time.
    """
    deadline = time.monotonic() + timeout
    while not (answer := predicate()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"not true within {timeout} s: {getattr(predicate, '__name__', predicate)}")
        time.sleep(interval)
    return answer


class ManualClock:
    """A clock that stands still until it is told otherwise: call it for the time."""

    def __init__(self, start: float = 1_000.0) -> None:
        self._lock = threading.Lock()
        self._now = start

    def __call__(self) -> float:
        """The time in seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Let time pass and return the new time."""
        if seconds < 0:
            raise ValueError("time does not go back")
        with self._lock:
            self._now += seconds
            return self._now


class HookRecorder:
    """A plugin that writes down every call of every hook, and decides nothing unless told to.

    ::

        recorder = HookRecorder(retry_delay=0.0)
        with emulator.client(plugins=[recorder]) as client:
            ...
        assert [call["attempt"] for call in recorder.calls("retry_delay")] == [1]

    Args:
        name: The plugin's name.
        **answers: What a policy answers: a value, or a function of the hook's arguments. Left out: ``None``.
    """

    def __init__(self, name: str = "hook-recorder", **answers: Any) -> None:
        from polyai_sync.hooks import OBSERVERS, POLICIES, hookimpl

        if unknown := answers.keys() - set(POLICIES):
            raise ValueError(f"no policy is called {', '.join(sorted(unknown))}; there are {', '.join(POLICIES)}")
        self.name = name
        self._answers = answers
        self._calls: list[tuple[str, dict[str, Any]]] = []
        self._changed = threading.Condition()
        for hook in (*OBSERVERS, *POLICIES):  # made from the specification, so none can be missing
            setattr(self, hook, hookimpl(self._recording(hook)))

    def _recording(self, hook: str) -> Callable[..., Any]:
        def record(**arguments: Any) -> Any:
            with self._changed:
                self._calls.append((hook, arguments))
                self._changed.notify_all()
            answer = self._answers.get(hook)
            return answer(**arguments) if callable(answer) else answer

        record.__name__ = record.__qualname__ = hook
        return record

    @property
    def all_calls(self) -> list[tuple[str, dict[str, Any]]]:
        """``(hook, arguments)`` of every call so far, in order."""
        with self._changed:
            return list(self._calls)

    @property
    def names(self) -> list[str]:
        """The hooks called so far, in order, as often as they were."""
        return [hook for hook, _ in self.all_calls]

    def calls(self, name: str) -> list[dict[str, Any]]:
        """The arguments of every call of one hook so far."""
        return [arguments for hook, arguments in self.all_calls if hook == name]

    def wait_for(self, name: str, count: int = 1, timeout: float = 5.0) -> list[dict[str, Any]]:
        """Wait until a hook has been called so often, and return its calls.

        Raises:
            AssertionError: It was not, in time.
        """
        with self._changed:
            if self._changed.wait_for(lambda: sum(hook == name for hook, _ in self._calls) >= count, timeout):
                return self.calls(name)
        seen = ", ".join(self.names) or "nothing"
        raise AssertionError(f"{name} was not called {count} times within {timeout} s; called were {seen}")

    def clear(self) -> None:
        """Forget the calls so far."""
        with self._changed:
            self._calls.clear()


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    config.addinivalue_line("markers", "polyai_emulator(**options): start the polyai_emulator fixture with these")
    config.addinivalue_line("markers", "polyai_client(**options): make the polyai_client fixture with these")


def _marked(request: pytest.FixtureRequest, marker: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers(marker))):  # the closest one has the last word
        options.update(mark.kwargs)
    return options


@pytest.fixture
def polyai_emulator_options() -> dict[str, Any]:
    """What every `polyai_emulator` is started with; override it in a ``conftest.py``."""
    return {}


@pytest.fixture
def polyai_emulator(request: pytest.FixtureRequest, polyai_emulator_options: dict[str, Any]) -> Iterator[Emulator]:
    """A running `polyai_sync.emulator.Emulator`, stopped after the test."""
    from polyai_sync.emulator import Emulator

    with Emulator(**{**polyai_emulator_options, **_marked(request, "polyai_emulator")}) as emulator:
        yield emulator


@pytest.fixture
def polyai_client_options() -> dict[str, Any]:
    """What every `polyai_client` is made with; override it in a ``conftest.py``."""
    return {}


@pytest.fixture
def polyai_client(
    request: pytest.FixtureRequest, polyai_emulator: Emulator, polyai_client_options: dict[str, Any]
) -> Iterator[Client]:
    """A `polyai_sync.Client` of that emulator, closed after the test."""
    options = {**polyai_client_options, **_marked(request, "polyai_client")}
    with polyai_emulator.client(**options) as client:
        yield client
