"""What the fuzzers begin with: conversations with the emulator, each through another of its faults.

``python -m tests.fuzz.corpus FOLDER`` writes ``FOLDER/machine/*`` (inputs of `machine`) and ``FOLDER/decoder/*`` (a
frame each).
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import requests
import websocket

from polyai_sync.emulator import (
    ClientHandoff,
    Emulator,
    Faults,
    Handoff,
    HandoffFailed,
    Language,
    LiveLeave,
    LiveSay,
    LiveTyping,
    Notice,
    Say,
    Stream,
    Turn,
    image,
    link,
)
from polyai_sync.emulator.fault_rows import OCCASIONS

from .machine import Run

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["write"]

_LARGEST: Final = 8192
"""Letters of a frame that is worth keeping: what is larger is large, and nothing else."""
_QUIET: Final = 0.03
"""Seconds without a frame after which the user goes on."""
_WIRE: Final = frozenset(OCCASIONS) - {"access_token", "session_create", "connect"}
_SCRIPT: Final = (
    "!ask",
    "!send",
    "!drop 1006",
    "!open",
    "!ask",
    "!type",
    "!send",
    "!resume",
    "!open",
    "!ask",
    "!end 5",
)


def agent(turn: Turn) -> Any:
    """A bit of everything."""
    if turn.greeting:
        yield Stream(["Hel", "lo, ", "there!"])
    elif turn.number == 1:
        yield Say("Look", attachments=[link("Menu", "https://example.com/m"), image("Room", "https://example.com/r")])
        yield Language("de-DE")
    elif turn.number == 2:
        yield Say("Which one?", suggestions=["Red", "Blue"])
        yield HandoffFailed("nobody there")
        yield Notice("One moment")
    elif turn.number == 3:
        yield Handoff("desk")
        yield LiveTyping()
        yield LiveSay("Hi, this is Ann")
        yield LiveLeave()
    else:
        yield Stream(["so ", "be ", "it"])
        yield ClientHandoff("POLICY")


def write(folder: Path, names: Iterable[str] = ()) -> int:
    """Talk through every fault of a session, or some of them; says how many conversations there were."""
    (folder / "machine").mkdir(parents=True, exist_ok=True)
    (folder / "decoder").mkdir(parents=True, exist_ok=True)
    count = 0
    for name in names or ("", *(name for name in Faults.names() if _WIRE & Faults.occasions(_armed(name)).keys())):
        for streaming in (True, False) if not name else (True,):
            lines = _talk(_armed(name), streaming=streaming)
            slug = re.sub(r"\W+", "-", f"{name or 'plain'}-{'chunks' if streaming else 'whole'}")
            (folder / "machine" / slug).write_text("\n".join(lines), encoding="utf-8")
            for line in lines:
                if not line.startswith("!"):
                    shape = re.sub(r"[0-9a-f-]{36}|\d+", "", line)  # one frame of each shape is enough
                    key = hashlib.sha256(shape.encode()).hexdigest()[:16]
                    (folder / "decoder" / key).write_text(line, encoding="utf-8")
            count += 1
    return count


def _armed(name: str) -> str:
    return name.replace("<code>", "1011")


def _talk(fault: str, *, streaming: bool) -> list[str]:
    """One conversation, as an input of `machine`."""
    with Emulator(agent=agent, end_retention=5) as emulator:
        if fault:
            emulator.faults.add(fault, times=None, after=1)
        return _Talk(emulator, streaming=streaming).run()


class _Talk:
    """The state machine over a socket, and a note of everything that happens to it."""

    def __init__(self, emulator: Emulator, *, streaming: bool) -> None:
        self._emulator = emulator
        headers = {"X-Token": emulator.connector_token, "X-Host": emulator.host}
        token = requests.post(f"{emulator.url}/api/v1/access-token", json={}, headers=headers, timeout=5).json()
        self._token = token["access_token"]
        created = requests.post(
            f"{emulator.url}/api/v1/sessions",
            json={"streaming_enabled": streaming},
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=5,
        )
        self._session = created.json()["session_id"]
        self._socket: websocket.WebSocket | None = None
        self._sent = 0
        self._machine = Run()
        self._lines: list[str] = []

    def run(self) -> list[str]:
        """Open, talk, end."""
        self._do("!open")
        for line in _SCRIPT:
            self._do(line)
        self._hang_up()
        return self._lines

    def _do(self, line: str) -> None:
        self._lines.append(line)
        if line == "!open":
            self._dial()
        elif line.startswith(("!drop", "!resume")):
            self._hang_up()
        self._machine.step(line)
        self._exchange()

    def _dial(self) -> None:
        cursor = self._machine.conversation.cursor_to_ask
        query = f"session_id={self._session}&access_token={self._token}&cursor={cursor}"
        with suppress(websocket.WebSocketException, OSError):
            url = f"{self._emulator.url.replace('http', 'ws', 1)}/ws?{query}"
            self._socket = websocket.create_connection(url, timeout=_QUIET)

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.shutdown()
            self._socket = None

    def _exchange(self) -> None:
        """Write what is to be written and read what comes, until it is quiet."""
        for _ in range(100):
            for event in self._machine.written[self._sent :]:
                self._write(event)
            self._sent = len(self._machine.written)
            frame = self._read()
            if frame is None:
                return
            self._lines.append(frame)
            self._machine.step(frame)

    def _write(self, event: Any) -> None:
        if self._socket is not None:
            with suppress(websocket.WebSocketException, OSError):
                self._socket.send(json.dumps(event))

    def _read(self) -> str | None:
        if self._socket is None:
            return None
        try:
            data = self._socket.recv()
        except websocket.WebSocketTimeoutException:
            return None
        except (websocket.WebSocketException, OSError, UnicodeDecodeError):
            data = ""
        if not data:
            self._hang_up()
            self._lines.append("!drop 1006")
            self._machine.step("!drop 1006")
            return None
        text = data if isinstance(data, str) else data.decode("utf-8", "replace")
        return text[:_LARGEST].replace("\n", " ")


if __name__ == "__main__":
    print(f"{write(Path(sys.argv[1]))} conversations")
