"""Every phase of a session, every way a connection can die, cell by cell over real sockets (``docs/_data``).

A proxy that reads along kills the connection at the very frame that makes the phase; statuses come from the emulator.
What is expected is the specification's, in `matrix`.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, field
from fault_kit import Caller, said
from matrix import CELLS, DEATHS, MARKDOWN, OUTCOMES, PHASES, Cell, render
from proxy import CLOSE, CUT_OFF, HOLE, RESET, Connection, Death, FaultProxy, close_with
from proxy_units import frame
from tls import authority, trusting

from polyai_sync import (
    Client,
    DeliveryError,
    PolyAIError,
    Session,
    SessionClosedError,
    SessionStatus,
    Timeouts,
    hookimpl,
)
from polyai_sync.emulator import Emulator, Handoff, LiveSay, ScriptedAgent
from polyai_sync.messages import Delivery
from polyai_sync.testing import HookRecorder, wait_until
from polyai_sync_plugins import Backoff, Reconnect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTERVAL = 1.0
NOTICED = 2.5 * INTERVAL
RETRY_AFTER = 0.3
SLACK = 0.5
"""Seconds for the machine, where a test says "within"."""

LIMITS = {"connect": 1, "read": 1, "ready": 8, "greeting": 3, "delivery": 8, "reply": 8, "close": 1.5}

HTTP_PHASES = ("token", "session", "handshake")
STARTING = (*HTTP_PHASES, "history", "join lost", "join")
REPLY = "one two three four five six"

SURFACES = {"token": "access_token", "session": "session_create"}
REFUSALS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "access_token": {
        "400": ("http.bad_request", {}),
        "401": ("access_token.unknown_connector", {}),
        "404": ("http.not_found", {}),
        "429": ("http.rate_limited", {"retry_after": RETRY_AFTER}),
        "500": ("access_token.creation_failed", {}),
        "503": ("http.server_error", {"status": 503}),
    },
    "session_create": {
        "400": ("session_create.malformed_body", {}),
        "401": ("session_create.invalid_token", {}),
        "404": ("http.not_found", {}),
        "429": ("http.rate_limited", {"retry_after": RETRY_AFTER}),
        "500": ("session_create.failed", {}),
        "503": ("http.server_error", {"status": 503}),
    },
    "connect": {
        "400": ("connect.invalid_parameters", {}),
        "401": ("connect.authentication_failed", {}),
        "404": ("connect.session_not_found", {}),
        "429": ("connect.too_many_connections", {"retry_after": RETRY_AFTER}),
        "500": ("http.server_error", {"status": 500}),
        "503": ("http.server_error", {"status": 503}),
    },
}
"""What the service says to whom: the rows of the catalogue."""

SOCKET_DEATHS = {
    "rst": RESET,
    "fin": CLOSE,
    "bare": CLOSE,
    "hole": HOLE,
    "cut": Death("half a frame, then FIN", lambda one: one.finish(frame("never whole")[:7], politely=False)),
    **{code: close_with(int(code)) for code in DEATHS if code.isdigit() and int(code) >= 1000 and code != "1005"},
    "1005": close_with(None),
}
ENDING_CODES = {"1000": None, "4001": "connect.session_not_found"}
"""Close codes that are the end: the error that ended the session."""


class Noticing:
    """A plugin that notes when a connection was given up for dead."""

    name = "noticing"

    def __init__(self) -> None:
        self.times: list[float] = []

    @hookimpl
    def on_disconnect(self) -> None:
        self.times.append(time.monotonic())


@define
class Stage:
    """An emulator, a proxy in front of it, a client behind it, and one cell."""

    cell: Cell
    emulator: Emulator
    proxy: FaultProxy
    client: Client
    recorder: HookRecorder
    dropped: list[float]
    struck: list[float] = field(factory=list)
    session: Session | None = None

    # --- the deaths ---

    @property
    def death(self) -> Death:
        """What kills the open socket, with the time noted."""
        death = SOCKET_DEATHS.get(self.cell.death, CLOSE)

        def strike(connection: Connection) -> None:
            self.struck.append(time.monotonic())
            death.strike(connection)

        return Death(death.name, strike)

    def arm(self) -> None:
        """Have the service refuse, where the cell says so."""
        phase, death = self.cell.phase, self.cell.death
        surface = SURFACES.get(phase, "connect")
        if (refusal := REFUSALS[surface].get(death)) is not None:
            name, options = refusal
            more = {**options} if name.startswith(surface) else {"on": surface, **options}
            self.emulator.faults.add(name, after=0 if phase in HTTP_PHASES else 1, **more)
        elif phase in HTTP_PHASES:
            marker = {"token": b'"access_token"', "session": b'"session_id"', "handshake": b"HTTP/1.1 101"}[phase]
            if death == "cut":
                self.proxy.strike("down", marker, CUT_OFF, when="inside")
            else:
                self.proxy.strike("down", marker, self.death)

    def die_at(self, direction: Any, marker: str, **options: Any) -> None:
        self.proxy.strike(direction, marker, self.death, **options)

    # --- the phases ---

    def start(self) -> Session:
        self.session = self.client.start_session()
        assert self.session.next_message().text == "Hello!"
        return self.session

    def run(self) -> Any:
        """Play the phase, and return what its call returned."""
        self.arm()
        return PHASE[self.cell.phase](self)


def _starting(stage: Stage) -> Any:
    marker = {"history": ("down", "SESSION_START"), "join lost": ("up", JOIN), "join": ("down", JOIN)}
    if stage.cell.phase in marker:
        stage.die_at(*marker[stage.cell.phase])
    stage.start()
    return stage.session.ask("still there?").text  # type: ignore[union-attr]


def _idle(stage: Stage) -> Any:
    session = stage.start()
    (socket,) = (one for one in stage.proxy.connections if one.websocket)
    stage.proxy.kill(stage.death, connection=socket.ordinal)
    stage.recorder.wait_for("on_disconnect", timeout=NOTICED + 2)
    wait_until(lambda: len(stage.recorder.calls("on_connect")) == 2 or session.error or session.end_reason)
    return session.ask("still there?").text


def _asking(direction: Any, marker: str) -> Callable[[Stage], Any]:
    def ask(stage: Stage) -> Any:
        session = stage.start()
        stage.die_at(direction, marker)
        return session.ask("still there?").text

    return ask


def _streaming(stage: Stage) -> Any:
    session = stage.start()
    stage.die_at("down", "POLY_AGENT_MESSAGE_CHUNK", skip=2)
    with session.stream("still there?") as stream:
        pieces = list(stream)
    assert stream.reply is not None
    assert "".join(pieces) == stream.reply.text
    if stage.cell.says("partial"):
        assert stream.reply.ended
        assert not stream.reply.complete
        assert stream.reply.text == "one two "
    return stream.reply.text


def _handing_off(stage: Stage) -> Any:
    session = stage.start()
    stage.die_at("down", "HANDOFF_QUEUE_STATUS", skip=1)
    assert session.ask("a person, please").text == "One moment."
    wait_until(lambda: session.live_agent or session.error or session.end_reason, timeout=NOTICED + 2)
    reply = session.ask("still there?")
    assert reply.messages[0].role == "live_agent"
    assert session.handoff.status == "LIVE"
    assert session.live_agent is not None
    assert session.live_agent.name == "Sam"
    return reply.text


def _ending(direction: Any) -> Callable[[Stage], Any]:
    def end(stage: Stage) -> Any:
        session = stage.start()
        stage.die_at(direction, "USER_END_SESSION")
        return session.end()

    return end


JOIN, MESSAGE, THINKING = "REQUEST_POLY_AGENT_JOIN", "EVENT_TYPE_USER_MESSAGE", "POLY_AGENT_THINKING"
PHASE: dict[str, Callable[[Stage], Any]] = {
    **dict.fromkeys(STARTING, _starting),
    "idle": _idle,
    "before receipt, lost": _asking("up", MESSAGE),
    "before receipt": _asking("down", MESSAGE),
    "after receipt": _asking("down", THINKING),
    "stream": _streaming,
    "handoff": _handing_off,
    "ending, lost": _ending("up"),
    "ending": _ending("down"),
}


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    closing: list[Callable[[], None]] = []

    def make(cell: Cell, *, tls: bool = False, **limits: float) -> Stage:
        replies = [["One moment.", Handoff()], LiveSay(REPLY)] if cell.phase == "handoff" else [REPLY]
        ca = authority(tmp_path) if tls else None
        script = ScriptedAgent(*replies)
        emulator = Emulator(
            agent=script,
            capabilities={"heartbeat_interval_seconds": INTERVAL},
            end_retention=60.0,
        )
        closing.append(emulator.start().stop)
        proxy = FaultProxy(emulator.port, tls=ca.server() if ca else None)
        closing.append(proxy.start().stop)
        recorder, noticing = HookRecorder(), Noticing()
        policies = [] if cell.death == "bare" else [Backoff(base=0.02, cap=0.05), Reconnect(base=0.02, cap=0.05)]
        unready = cell.phase == "history" and cell.death == "hole"
        client = emulator.client(
            base_url=proxy.url,
            plugins=[recorder, noticing, *policies],
            load_plugins=bool(policies),
            http=trusting(ca) if ca else None,
            timeouts=Timeouts(**{**LIMITS, **({"ready": 1} if unready else {}), **limits}),
        )
        closing.append(client.close)
        return Stage(
            cell=cell, emulator=emulator, proxy=proxy, client=client, recorder=recorder, dropped=noticing.times
        )

    yield make
    for close in reversed(closing):
        close()


# --- what is asserted ---


def check(stage: Stage) -> None:
    """Play a cell, and hold everything that it says."""
    cell = stage.cell
    began = time.monotonic()
    error: PolyAIError | None = None
    result: Any = None
    try:
        result = stage.run()
    except PolyAIError as caught:
        error = caught
    took = time.monotonic() - began
    assert (error.code if error else None) == cell.raises, f"{error!r} {result!r}"
    if error is None:
        expected = (
            cell.says("returns") if "returns" in OUTCOMES[cell.outcome] else None if cell.says("partial") else REPLY
        )
        assert cell.says("partial") or result == expected
    elif cell.says("outcome"):
        assert isinstance(error, DeliveryError)
        assert error.outcome == cell.says("outcome")
    check_session(stage)
    check_server(stage)
    check_told(stage, error)
    if cell.death == "hole":
        check_noticed(stage, took)


def check_session(stage: Stage) -> None:
    cell, session = stage.cell, stage.session
    if session is None:
        return
    if cell.says("status") == "OPEN":
        wait_until(lambda: session.status is SessionStatus.OPEN)
        assert said(session) == stage.emulator.session.transcript
        assert all(message.delivery is Delivery.DELIVERED and message.complete for message in session.messages)
    assert session.status.value == cell.says("status")
    assert session.end_reason == cell.says("reason")
    if cell.phase.startswith("before receipt") and cell.says("status") != "OPEN":
        assert session.messages[-1].delivery is Delivery.FAILED


def check_server(stage: Stage) -> None:
    cell, emulator = stage.cell, stage.emulator
    assert emulator.handshakes == cell.handshakes
    assert emulator.tokens_minted == cell.tokens
    assert emulator.sessions_created == cell.sessions
    if cell.outcome != "goes on":
        return
    types = [event["type"] for event in emulator.session.journal]
    assert types.count("EVENT_TYPE_POLY_AGENT_JOINED") == 1
    assert types.count("EVENT_TYPE_" + JOIN) == 1
    spoken = [text for role, text in emulator.session.transcript if role == "user"]
    assert spoken == (["a person, please"] if cell.phase == "handoff" else []) + ["still there?"]
    assert emulator.session.refused == ()


def check_told(stage: Stage, error: PolyAIError | None) -> None:
    """Plugins have heard of each error once, in order, and of the end once."""
    cell, recorder = stage.cell, stage.recorder
    met: list[str] = []
    if cell.phase in HTTP_PHASES:
        refusal = REFUSALS[SURFACES.get(cell.phase, "connect")].get(cell.death)
        met.append(refusal[0] if refusal else "client.connect_failed")
    elif cell.death in ENDING_CODES:
        met += filter(None, [ENDING_CODES[cell.death]])
    elif cell.outcome not in ("not ready", "unconfirmed") or cell.death != "hole":
        met.append("client.connection_dropped")
        if cell.death in REFUSALS["connect"]:
            met.append(REFUSALS["connect"][cell.death][0])
    if cell.says("status") == "FAILED":
        met.append("client.connection_lost")
    if cell.raises and cell.raises not in met:
        met.append(cell.raises)
    recorder.wait_for("on_error", len(met))  # what is looked at may be there before the hooks are through
    assert [call["error"].code for call in recorder.calls("on_error")] == met
    if cell.says("reason") is not None:
        recorder.wait_for("on_session_end")
        assert [call["reason"] for call in recorder.calls("on_session_end")] == [cell.says("reason")]
    elif cell.phase != "handshake":
        assert recorder.calls("on_session_end") == []
    limits = recorder.calls("on_rate_limit")
    assert [limit["limit"].retry_after for limit in limits] == ([RETRY_AFTER] if cell.death == "429" else [])
    if cell.death == "429" and cell.outcome == "goes on":
        heard = [call for call in recorder.calls("on_reconnect") if call["error"].status == 429]
        assert all(call["delay"] >= RETRY_AFTER for call in heard)
        assert heard or cell.phase in HTTP_PHASES
    dropped = [
        call["error"] for call in recorder.calls("on_error") if call["error"].code == "client.connection_dropped"
    ]
    if cell.death.isdigit() and int(cell.death) >= 1000 and dropped:
        assert [one.close_code for one in dropped] == [int(cell.death)]
    if error is not None and cell.says("cause"):
        assert error.__cause__ is not None
        assert error.__cause__.code == cell.says("cause")  # type: ignore[attr-defined]


def check_noticed(stage: Stage, took: float) -> None:
    """A black hole is noticed within 2.5 heartbeat intervals, or costs no more than the time-out that applies to it."""
    (struck,) = stage.struck
    if stage.cell.phase in HTTP_PHASES:
        assert took <= LIMITS["read"] + SLACK
    elif stage.cell.outcome == "not ready":
        assert took <= 1 + SLACK
    elif stage.cell.outcome == "unconfirmed":
        assert took <= LIMITS["close"] + SLACK
    else:
        assert stage.dropped[0] - struck <= NOTICED + 0.25


@pytest.mark.parametrize(("phase", "death"), [pytest.param(*key, id="-".join(key).replace(" ", "_")) for key in CELLS])
def test_cell(phase: str, death: str, make_stage: Callable[..., Stage]) -> None:
    check(make_stage(CELLS[phase, death]))


OVER_TLS = [
    (phase, death)
    for phase in ("session", "handshake", "join lost", "idle", "before receipt, lost", "stream", "ending, lost")
    for death in ("rst", "cut", "1012", "503")
    if (phase, death) in CELLS
] + [("before receipt", "hole"), ("stream", "4001")]


@pytest.mark.parametrize(
    ("phase", "death"), [pytest.param(*key, id="-".join(key).replace(" ", "_")) for key in OVER_TLS]
)
def test_cell_over_tls(phase: str, death: str, make_stage: Callable[..., Stage]) -> None:
    check(make_stage(CELLS[phase, death], tls=True))


def test_an_end_that_has_time_outlives_a_black_hole(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(CELLS["ending, lost", "hole"], close=6)
    assert stage.run() == "REASON_USER_END"
    assert stage.dropped[0] - stage.struck[0] <= NOTICED + 0.25
    assert stage.emulator.handshakes == 2


# --- a silent peer, and a user who closes ---


@pytest.mark.parametrize("phase", PHASES)
def test_close_returns_within_its_time_out_against_a_silent_peer(phase: str, make_stage: Callable[..., Stage]) -> None:
    """And whoever waits is told at once."""
    limit = 0.8
    stage = make_stage(CELLS[phase, "hole"], connect=30, read=30, close=limit)
    calling = Caller(stage.run if phase not in WAITING else lambda: WAITING[phase](stage))
    wait_until(lambda: stage.struck)
    closer = Caller(stage.client.close)
    closer.result(limit + SLACK)
    assert closer.took <= limit + SLACK
    calling.join(SLACK)
    assert isinstance(calling.error, SessionClosedError)
    assert [call["error"].code for call in stage.recorder.calls("on_error")] == ["client.session_closed"]
    wait_until(
        lambda: (
            not [
                one for one in threading.enumerate() if one.name.startswith("polyai-") and one.name != "polyai-emulator"
            ]
        ),
        SLACK,
    )


def _silent_when_idle(stage: Stage) -> Any:
    session = stage.start()
    stage.proxy.kill(stage.death)
    return session.next_message()


def _silent_when_handing_off(stage: Stage) -> Any:
    session = stage.start()
    stage.die_at("down", "HANDOFF_QUEUE_STATUS", skip=1)
    session.ask("a person, please")
    return session.next_message()


WAITING = {"idle": _silent_when_idle, "handoff": _silent_when_handing_off}
"""Phases in which no call waits by itself."""


def test_close_returns_within_its_time_out_where_nothing_can_be_reached(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(CELLS["token", "hole"], connect=30, close=0.8)
    stage.proxy.unreachable()
    calling = Caller(stage.client.start_session)
    stage.recorder.wait_for("on_request")
    closer = Caller(stage.client.close)
    closer.result(0.8 + SLACK)
    calling.join(SLACK)
    assert isinstance(calling.error, SessionClosedError)
    stage.proxy.listen()


# --- the table itself ---


def test_every_cell_that_can_be_is_there() -> None:
    closing = {death for death in DEATHS if death.isdigit() and int(death) >= 1000}
    for phase in PHASES:
        deaths = {death for of, death in CELLS if of == phase}
        assert deaths == set(DEATHS) - (closing if phase in HTTP_PHASES else set())


def test_every_outcome_is_used_and_known() -> None:
    assert {cell.outcome for cell in CELLS.values()} == set(OUTCOMES)


def test_docs_show_this_table() -> None:
    assert MARKDOWN.read_text(encoding="utf-8") == render(), f"run {Path(__file__).with_name('matrix.py').name}"
