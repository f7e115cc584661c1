"""Fixtures of the fault suites."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from fault_kit import Bench

from polyai_sync.emulator import EchoAgent, Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    """Benches with an emulator as asked for; it echoes unless told otherwise."""
    with ExitStack() as stack:

        def make(**options: Any) -> Bench:
            emulator = stack.enter_context(Emulator(**{"agent": EchoAgent(), **options}))
            bench = Bench(emulator)
            stack.callback(bench.close)
            return bench

        yield make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """A bench whose agent greets with "Hello!" and echoes."""
    return make_bench()
