"""Fixtures: emulators in this process, programs in theirs."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from programs import Program
from proxy import FaultProxy

from polyai_sync.emulator import EchoAgent, Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def make_emulator() -> Iterator[Callable[..., Emulator]]:
    """Emulators as asked for; they echo unless told otherwise."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Emulator(**{"agent": EchoAgent(), **options}))


@pytest.fixture
def emulator(make_emulator: Callable[..., Emulator]) -> Emulator:
    """One that greets with "Hello!" and echoes."""
    return make_emulator()


@pytest.fixture
def proxy(emulator: Emulator) -> Iterator[FaultProxy]:
    """Between it and a program."""
    with FaultProxy(emulator.port) as proxy:
        yield proxy


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Programs, which are gone after the test."""
    programs: list[Program] = []

    def start(command: list[str], **options: Any) -> Program:
        folder = tmp_path / f"program-{len(programs)}"
        folder.mkdir()
        programs.append(Program(command, folder, **options))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()
