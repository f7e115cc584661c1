"""Programs whose peer falls silent in a certain phase of a conversation.

A proxy lets the connection hang at the very message that makes the phase: no bytes, no FIN, no RST.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen
from programs import PATIENCE, Program, environment, python
from proxy import HOLE, RESET, FaultProxy, Strike

from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.emulator import Emulator

__all__ = ["PHASES", "Phase", "Silence"]

PROLOGUE = """
import signal, sys
from polyai_sync import Client

def say(text):
    print(text, flush=True)

def start():
    say("starting")
    return client.start_session()

def begin():
    session = client.start_session()
    session.next_message()
    say("begun")
    sys.stdin.readline()
    return session

client = Client()
"""


@frozen
class Phase:
    """When the peer falls silent.

    Attributes:
        code: What the program does.
        at: Direction and mark of the message that does not get through any more; ``None``: the test sees to it.
        skip: How many such messages get through.
    """

    code: str
    at: tuple[str, str] | None = None
    skip: int = 0


START = "start()"
PHASES = {
    "unreachable": Phase(START),
    "token": Phase(START, ("down", '"access_token"')),
    "session": Phase(START, ("down", '"session_id"')),
    "handshake": Phase(START, ("down", "HTTP/1.1 101")),
    "history": Phase(START, ("down", "SESSION_START")),
    "join": Phase(START, ("up", "REQUEST_POLY_AGENT_JOIN")),
    "greeting": Phase(START, ("down", "POLY_AGENT_THINKING")),
    "mint": Phase("client.mint_access_token()", ("down", '"access_token"')),
    "resume": Phase("client.resume_session(begin().state)", ("down", "HTTP/1.1 101"), skip=1),
    "idle": Phase("begin().next_message()"),
    "events": Phase("list(begin().events())"),
    "send": Phase('begin().send("hello")', ("up", "USER_MESSAGE")),
    "ask": Phase('begin().ask("hello")', ("down", "POLY_AGENT_THINKING"), skip=1),
    "stream": Phase('list(begin().stream("one two three"))', ("down", "POLY_AGENT_MESSAGE_CHUNK"), skip=3),
    "retry": Phase(START),
    "reconnect": Phase("begin().wait_ended()"),
    "back-off": Phase("begin().wait_ended()"),
    "end": Phase("begin().end()", ("up", "USER_END_SESSION")),
}


class Silence:
    """A program in one of the phases, whose peer says nothing any more."""

    def __init__(
        self,
        name: str,
        source: str,
        run: Callable[..., Program],
        emulator: Emulator,
        proxy: FaultProxy,
        **variables: str,
    ) -> None:
        self.phase = PHASES[name]
        self._emulator = emulator
        self._proxy = proxy
        strike: Strike | None = None
        if self.phase.at is not None:
            direction: Any
            direction, marker = self.phase.at
            strike = proxy.strike(direction, marker, HOLE, skip=self.phase.skip)
        if name == "unreachable":
            proxy.unreachable()
        if name == "retry":
            emulator.faults.add("http.rate_limited", on="session_create", retry_after=30)
        if name == "back-off":
            emulator.faults.add("http.rate_limited", on="connect", after=1, retry_after=30)
        self.program = run(
            python(PROLOGUE + source), env=environment(emulator, **{"POLYAI_BASE_URL": proxy.url, **variables})
        )
        if self.phase.code == START:
            self.program.see("^starting$")
        if "begin()" in self.phase.code:
            self.program.see("^begun$")
            self.program.say("go on")
        if strike is not None:
            proxy.wait_struck(strike, PATIENCE)
        elif name in ("idle", "events"):
            proxy.kill(HOLE)
        elif name == "reconnect":
            accepted = proxy.accepted
            proxy.on_accept(HOLE)
            proxy.kill(RESET)
            proxy.wait_accepted(accepted + 1)
        elif name == "back-off":
            proxy.kill(RESET)
        wait_until(lambda: not emulator.faults.pending, PATIENCE)
        self._settle()

    def _settle(self) -> None:
        """Until the main thread waits: it sleeps, with no time on the processor between two looks."""

        def sleeps() -> bool:
            before = self._ticks()
            time.sleep(0.03)
            return self._ticks() == before

        wait_until(sleeps, PATIENCE)

    def _ticks(self) -> tuple[str, ...]:
        return tuple(Path(f"/proc/{self.program.pid}/task/{self.program.pid}/schedstat").read_text().split())
