"""Fixtures: emulators in this process, programs in theirs."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fault_kit import bench as bench
from fault_kit import make_bench as make_bench
from programs import PATIENCE, Program
from proxy import FaultProxy

from polyai_sync.emulator import EchoAgent, Emulator
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


@pytest.fixture
def redis(run: Callable[..., Program]) -> Iterator[str]:
    """The address of a Redis of this test's own, on a socket of the file system."""
    folder = Path(tempfile.mkdtemp(prefix="redis-"))  # a short path: the name of a socket has little room
    socket = folder / "s"
    quiet = ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
    program = run(["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), *quiet])
    wait_until(lambda: socket.exists() or program.process.poll() is not None, PATIENCE)
    assert program.process.poll() is None, program.told
    yield f"redis+socket://{socket}"
    shutil.rmtree(folder)
