"""Canary tokens, hunted wherever a token might show: logs at DEBUG, errors, tracebacks, pickles, ``repr``, hooks."""

from __future__ import annotations

import base64
import logging
import pickle
import sys
import traceback
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

import pytest
import websocket
from fault_kit import Caller
from proxy import CLOSE, HOLE, RESET, close_with

from polyai_sync import PolyAIError
from polyai_sync.testing import wait_until
from polyai_sync_plugins import Logging

if TYPE_CHECKING:
    from collections.abc import Callable

    from line_kit import Line

    from polyai_sync import Session

Start: TypeAlias = "Callable[[], Session]"

CANARY = "canary+connector/token=4711"


def _faulty(fault: str, **options: Any) -> Callable[[Line, Start], object]:
    def live(line: Line, start: Start) -> object:
        line.bench.faults.add(fault, **options)
        return start().ask("hello")

    return live


def _unreachable(line: Line, start: Start) -> None:
    line.proxy.refuse()
    start()


def _dropped(line: Line, start: Start) -> None:
    session = start()
    for death in (RESET, CLOSE, close_with(1011, "because"), HOLE):
        line.kill(death)
        session.ask("still there?")


def _dead(line: Line, start: Start) -> None:
    session = start()
    line.bench.emulator.revoke_tokens()
    line.kill(RESET)
    session.wait_ended(3)


LIVES: dict[str, Callable[[Line, Start], object]] = {
    "honest": lambda _, start: start().ask("hello"),
    "ended": lambda _, start: start().end(),
    "no token": _faulty("access_token.unknown_connector"),
    "no session": _faulty("session_create.failed", times=None),
    "no handshake": _faulty("connect.invalid_parameters"),
    "redirected": _faulty("http.redirected", on="connect"),
    "limited": _faulty("connect.too_many_connections", retry_after=0.01),
    "unreachable": _unreachable,
    "dropped": _dropped,
    "token dead": _dead,
    "an odd frame": _faulty("wire.binary_frame"),
    "an error": _faulty("agent.no_response"),
}


def forms(secret: str) -> set[str]:
    """How a token may be written."""
    return {secret, quote(secret, safe=""), quote(secret), base64.b64encode(secret.encode()).decode(), secret[:24]}


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("traced", [False, True], ids=["", "traced"])
def test_no_token_shows_anywhere(
    life: str, traced: bool, make_line: Callable[..., Line], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    line = make_line(connector_token=CANARY, capabilities={"heartbeat_interval_seconds": 1})
    plugins = [line.bench.recorder, line.bench.backoff, line.bench.reconnect, Logging()]
    client = line.client(plugins=plugins)
    raised: list[PolyAIError] = []
    websocket.enableTrace(traced, handler=logging.NullHandler())
    try:
        LIVES[life](line, client.start_session)
    except PolyAIError as error:
        raised.append(error)
    finally:
        websocket.enableTrace(False, handler=logging.NullHandler())
        client.close()
    raised += [call["error"] for call in line.bench.recorder.calls("on_error")]
    told = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    told += [repr(call) for call in line.bench.recorder.all_calls]
    told += [repr(client), repr(line.bench.recorder.calls("on_connect"))]
    for one in raised:
        told += traceback.format_exception(one)
        told += [repr(one), str(one), repr(vars(one)), repr(one.args), repr(pickle.dumps(one))]
    tokens = {CANARY, *_access_tokens(line)}
    assert len(tokens) > 1 or life in ("no token", "no session", "unreachable")
    for text in told:
        for form in {form for token in tokens for form in forms(token)}:
            assert form not in text
    assert told


def _access_tokens(line: Line) -> list[str]:
    return [session._session.access_token for session in line.bench.emulator.sessions.values()]


def test_a_hung_call_shows_no_token_to_who_looks_at_its_stack(make_line: Callable[..., Line]) -> None:
    """``repr`` of the locals on every frame, as crash reporters take it."""
    line = make_line(connector_token=CANARY)
    line.bench.faults.add("agent.silent")
    session = line.started()
    asking = Caller(session.ask, "hello")
    wait_until(lambda: len(line.bench.peer.transcript) == 2)
    tokens = {CANARY, *_access_tokens(line)}
    for frame in sys._current_frames().values():
        at: Any = frame
        while at is not None:
            if "polyai_sync" in at.f_code.co_filename and "emulator" not in at.f_code.co_filename:
                seen = repr({name: repr(value) for name, value in at.f_locals.items()})
                assert not [token for token in tokens if token in seen], at.f_code
            at = at.f_back
    session.close()
    asking.join(2)
