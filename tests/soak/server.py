"""The other side of the soak, in a process of its own: the emulator, the fault proxy in front of it, and their orders.

Orders come as JSON, a line each, on the standard input; answers go to the standard output. It ends with its input.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))  # the proxy is the fault suites' own

from proxy import CLOSE, CUT_OFF, RESET, Connection, Death, FaultProxy, Strike, close_with, half_close

from polyai_sync.emulator import Emulator, Stream, Turn
from tests.soak.plan import pieces_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tls import Authority

    from polyai_sync.emulator import EmulatedSession, Fault

HEARTBEAT = 1.0
"""Seconds: a black hole is noticed within two and a half of them."""


def agent(turn: Turn) -> str | Stream:
    """Say what can be foretold."""
    if turn.greeting:
        return "Hello!"
    return Stream(pieces_of(turn.text))


@define
class Doomed:
    """What is armed against one session, and the connections it has lost in a black hole."""

    faults: list[Fault] = field(factory=list)
    strikes: list[Strike] = field(factory=list)
    buried: list[Connection] = field(factory=list)


class Server:
    """Carries out the orders."""

    def __init__(self, emulator: Emulator, proxy: FaultProxy) -> None:
        self._emulator = emulator
        self._proxy = proxy
        self._doomed: dict[str, Doomed] = {}
        self._speakers = ThreadPoolExecutor(4)

    def obey(self, order: dict[str, Any]) -> Any:
        """Do what it says, and answer."""
        return getattr(self, f"do_{order.pop('do')}")(**order)

    def _of(self, session: str | None) -> Doomed:
        return self._doomed.setdefault(session or "", Doomed())

    def _session(self, session: str) -> EmulatedSession:
        return self._emulator.sessions[session]

    def do_arm(self, session: str | None, where: str, name: str, options: dict[str, Any]) -> None:
        """Arm a fault or a strike; without a session, one for whoever starts next."""
        doomed = self._of(session)
        if where == "emulator":
            doomed.faults.append(self._emulator.faults.add(name, **options, session_id=session))
        else:
            marker = options.pop("marker")
            direction = options.pop("direction")
            doomed.strikes.append(self._proxy.strike(direction, marker, self._death(name, doomed), **options))

    def _death(self, name: str, doomed: Doomed) -> Death:
        def bury(connection: Connection) -> None:
            connection.vanish()
            doomed.buried.append(connection)

        deaths: dict[str, Callable[[], Death]] = {
            "RST": lambda: RESET,
            "FIN": lambda: CLOSE,
            "cut": lambda: CUT_OFF,
            "hole": lambda: Death("black hole", bury),
            "half-close": lambda: half_close("down"),
        }
        return deaths[name]() if name in deaths else close_with(int(name))

    def do_calm(self, session: str | None, *, for_good: bool = False) -> dict[str, int]:
        """Disarm what has not come, and clear away what has; says how much of either.

        A connection that went into a black hole is left there until its client has given it up.
        """
        doomed = self._doomed.pop(session or "", Doomed())
        fired = sum(fault.fired for fault in doomed.faults) + sum(strike.fired for strike in doomed.strikes)
        for fault in doomed.faults:
            fault.times = 0
        for strike in doomed.strikes:
            self._proxy.disarm(strike)
        for connection in doomed.buried:
            if for_good or connection.lanes["up"].over:
                self._proxy.kill(RESET, connection.ordinal)
            else:
                self._of(session).buried.append(connection)
        return {"fired": fired, "armed": len(doomed.faults) + len(doomed.strikes)}

    def do_drop(self, session: str) -> None:
        """Cut the session's connections."""
        self._session(session).drop()

    def do_say(self, session: str, text: str) -> None:
        """Let the agent say something unasked."""
        self._speakers.submit(self._session(session).act, text)

    def do_end(self, session: str, reason: str) -> None:
        """Let the server end the conversation."""
        self._session(session).end(reason)

    def do_expire(self, session: str) -> None:
        """Let the session be gone."""
        self._session(session).expire()

    def do_audit(self, session: str) -> dict[str, Any]:
        """What the server knows."""
        peer = self._session(session)
        return {
            "transcript": peer.transcript,
            "journal": [(event["sequence"], event["type"]) for event in peer.journal],
            "accepted": [
                event["metadata"]["custom"]["client_event_id"]
                for event in peer.received
                if event["type"] == "EVENT_TYPE_USER_MESSAGE"
            ],
            "joins": sum(event["type"] == "EVENT_TYPE_REQUEST_POLY_AGENT_JOIN" for event in peer.received),
            "refused": peer.refused,
            "errors": [repr(error) for error in peer.agent_errors],
        }

    def do_forget(self, session: str) -> None:
        """Drop a session and the log, which grow without end: no user of the emulator runs for so long."""
        service, thread = self._emulator._service, self._emulator._thread
        assert service is not None

        def forget() -> None:
            forgotten = service.sessions.pop(session)
            forgotten.shut_down()
            service.log.clear()

        thread.call(forget)


def main() -> None:
    """Serve until the input ends; with a folder as argument, over TLS, and its certificates' authority goes there."""
    rules = {"max_reconnect_attempts": 0, "heartbeat_interval_seconds": HEARTBEAT}
    authority = _authority(Path(sys.argv[1])) if len(sys.argv) > 1 else None
    with (
        Emulator(agent=agent, capabilities=rules, end_retention=60, max_connections=1000) as emulator,
        FaultProxy(emulator.port, tls=authority.server() if authority else None) as proxy,
    ):
        server = Server(emulator, proxy)
        client = {"base_url": proxy.url, "connector_token": emulator.connector_token, "host": emulator.host}
        print(json.dumps({"client": client, "bundle": str(authority.bundle) if authority else None}), flush=True)
        for line in sys.stdin:
            try:
                answer = {"answer": server.obey(json.loads(line))}
            except Exception as error:
                answer = {"error": repr(error)}
            print(json.dumps(answer), flush=True)
            if proxy.errors:
                raise proxy.errors[0]


def _authority(folder: Path) -> Authority:
    from tls import Authority

    return Authority(folder)


if __name__ == "__main__":
    main()
