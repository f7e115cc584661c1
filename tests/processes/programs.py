"""Programs in processes of their own, what they print, and the servers that they are."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import requests

from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polyai_sync.emulator import Emulator

__all__ = ["APPS", "Program", "Service", "environment", "free_port", "needs", "python"]

APPS = Path(__file__).with_name("apps")

PATIENCE = 30.0
"""Seconds within which a program has to do what is waited for."""


def needs(*modules: str, tool: str | None = None) -> pytest.MarkDecorator:
    """Skip where something is not installed, but not in CI: there it would be missed by nobody."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    missing += [tool] if tool and shutil.which(tool) is None else []
    return pytest.mark.skipif(
        bool(missing) and "CI" not in os.environ, reason=f"not installed: {', '.join(missing)} (`tox -e processes`)"
    )


def python(source: str, *arguments: str) -> list[str]:
    """The command that runs a script, with every warning an error."""
    return [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(source), *arguments]


def environment(emulator: Emulator, **more: str) -> dict[str, str]:
    """The variables of a program that uses an emulator."""
    settings = {
        "POLYAI_BASE_URL": emulator.url,
        "POLYAI_CONNECTOR_TOKEN": emulator.connector_token,
        "POLYAI_HOST": emulator.host,
    }
    return {**os.environ, **settings, "PYTHONPATH": str(APPS), "PYTHONDONTWRITEBYTECODE": "1", **more}


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Program:
    """A program in a process group of its own. It prints to files, so it never waits for a reader."""

    def __init__(
        self, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self._files = {"out": folder / "stdout", "err": folder / "stderr"}
        with self._files["out"].open("w") as out, self._files["err"].open("w") as err:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=env, cwd=cwd, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self.process.pid

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._files["out"].read_text(errors="replace")

    @property
    def err(self) -> str:
        """What it has said on standard error so far."""
        return self._files["err"].read_text(errors="replace")

    def see(self, pattern: str, where: Literal["out", "err"] = "out", timeout: float = PATIENCE) -> re.Match[str]:
        """Wait until it has printed something."""

        def seen() -> re.Match[str] | None:
            gone = self.process.poll() is not None
            found = re.search(pattern, self._files[where].read_text(errors="replace"), re.MULTILINE)
            assert found or not gone, f"it ended with {self.process.returncode} and without {pattern}: {self.told}"
            return found

        try:
            found = wait_until(seen, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.told}") from None
        assert found is not None
        return found

    @property
    def told(self) -> str:
        """All that it has printed, for a failure's message."""
        return f"stdout: {self.out!r} stderr: {self.err!r}"

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    def ended(self, within: float = PATIENCE) -> tuple[int, str, str]:
        """Exit status and everything it printed; it has to be gone in so many seconds."""
        began = time.monotonic()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end; {self.told}") from None
        took = time.monotonic() - began
        assert took <= within, f"it took {took:.2f} s to end, and {within} s were allowed; {self.told}"
        return self.process.returncode, self.out, self.err

    def kill(self) -> None:
        """Leave nothing behind: the whole group, whoever is still in it."""
        with contextlib.suppress(ProcessLookupError):  # as it should be
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        if self.process.stdin is not None:
            self.process.stdin.close()


class Service:
    """A web server that is a program, and its visitors."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self.url = f"http://127.0.0.1:{port}"
        wait_until(self.listens, PATIENCE)

    def listens(self) -> bool:
        """Does it accept connections?"""
        assert self.program.process.poll() is None, self.program.told
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", int(self.url.rpartition(":")[2]))) == 0

    def ask(self, text: str, state: str = "") -> dict[str, Any]:
        """Ask as a visitor: a new one, or the one whose state was returned."""
        answer = requests.post(f"{self.url}/ask", json={"text": text, "state": state}, timeout=PATIENCE)
        assert answer.status_code == 200, self.program.told
        value: dict[str, Any] = answer.json()
        return value

    def get(self, path: str) -> dict[str, Any]:
        """Look at something."""
        answer = requests.get(f"{self.url}/{path}", timeout=PATIENCE)
        assert answer.status_code == 200, self.program.told
        value: dict[str, Any] = json.loads(answer.content)
        return value
