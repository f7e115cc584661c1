"""Running a command inside this process."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from polyai_sync.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from polyai_sync.emulator import Emulator

CANARY = "canary-connector-token-1234567890"


class Ran(NamedTuple):
    """What came of it."""

    status: int
    out: str
    err: str

    @property
    def both(self) -> str:
        return self.out + self.err


def runner(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """A function that runs ``polyai-sync`` with arguments, and with ``stdin=`` as its standard input."""

    def run(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        status = main(list(arguments))
        return Ran(status, *capsys.readouterr())

    return run


def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests."""
    for name in os.environ:
        if name.startswith("POLYAI_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def point_at(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment name this emulator."""
    monkeypatch.setenv("POLYAI_BASE_URL", emulator.url)
    monkeypatch.setenv("POLYAI_CONNECTOR_TOKEN", emulator.connector_token)
    monkeypatch.setenv("POLYAI_HOST", emulator.host)
