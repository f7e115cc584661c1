"""The wire's and the machine's part of what has gone wrong before (``pitfalls.md`` 31 to 40)."""

from __future__ import annotations

import copy
import json
import logging
import multiprocessing
import pickle
import traceback
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from fault_kit import IMPATIENT, Bench, raised, said, within
from proxy import CLOSE, HOLE, RESET, FaultProxy
from tls import Authority, trusting

from polyai_sync import (
    Client,
    ConnectionFailedError,
    InvalidRequestError,
    PolyAIError,
    RateLimitError,
    ServerError,
    SessionStatus,
    hookimpl,
)
from polyai_sync.emulator import EchoAgent, Emulator
from polyai_sync.testing import HookRecorder, wait_until
from polyai_sync_plugins import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from line_kit import Line

CANARY = "canary-connector-token-4711"
LEGS = ("access_token", "session_create", "connect")


@pytest.mark.pitfall(31)
@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("fault", ["http.server_error", "http.no_answer", "http.redirected"])
def test_pitfall_31_no_token_is_in_an_error_a_record_or_a_hook(
    leg: str, fault: str, make_line: Callable[..., Line], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    line = make_line(connector_token=CANARY)
    line.bench.faults.add(fault, on=leg)
    error = raised(line.bare().start_session)
    told = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args) + repr(vars(error))
    told += "".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    told += repr([call for _, call in line.bench.recorder.all_calls])
    assert CANARY not in told
    assert "eyJ" not in told, "an access token begins like this"


@pytest.mark.pitfall(32)
@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_pitfall_32_a_redirect_carries_nothing_to_another_origin(leg: str, status: int, line: Line) -> None:
    with FaultProxy(line.bench.emulator.port) as elsewhere:
        location = f"{elsewhere.url}/api/v1/access-token"
        line.bench.faults.add("http.redirected", on=leg, status=status, location=location, times=None)
        error = raised(line.client().start_session)
        assert isinstance(error, InvalidRequestError)
        assert error.code == "http.redirected"
        assert elsewhere.accepted == 0


@pytest.mark.pitfall(33)
@pytest.mark.parametrize("claim", [10_000_000_000, 2**62])
def test_pitfall_33_a_frame_that_claims_gigabytes_is_not_believed(claim: int, bench: Bench) -> None:
    session = bench.client().start_session()
    session.next_message()
    bench.faults.add("wire.oversize_frame", claim=claim, event="POLY_AGENT_THINKING")
    with within(1):
        assert session.ask("still there?").text == "You said: still there?"
    assert bench.codes == ["client.protocol", "client.connection_dropped"]


@pytest.mark.pitfall(33)
def test_pitfall_33_a_message_nested_ten_thousand_deep_is_skipped(line: Line) -> None:
    session = line.started()
    line.bench.faults.add("wire.deep_json", depth=10_000, event="POLY_AGENT_THINKING")
    assert session.ask("still there?").text == "You said: still there?"
    assert line.bench.codes == ["client.protocol"]
    assert line.bench.peer.connections_total == 1


SOON = "the date in two hours"  # made by the test itself, which may run long after this line


@pytest.mark.pitfall(34)
@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize(
    ("value", "figure"),
    [("1e9", 1e9), (SOON, 7200), ("-5", None), ("NaN", None), ("inf", None), ("soon", None), ("0.05", 0.05)],
    ids=["huge", "date", "negative", "NaN", "infinite", "a word", "fraction"],  # workers compare names: no time in them
)
def test_pitfall_34_every_retry_after_has_an_answer(leg: str, value: str, figure: float | None, line: Line) -> None:
    if value == SOON:
        value = format_datetime(datetime.now(timezone.utc) + timedelta(hours=2), usegmt=True)
    line.bench.faults.add("http.rate_limited", on=leg, retry_after=value)
    client = line.client(plugins=[line.bench.recorder, Backoff(base=0.01)])
    with within(3):
        if figure is not None and figure > 60:
            error = raised(client.start_session)
            assert isinstance(error, RateLimitError)
            assert error.retry_after == pytest.approx(figure, rel=0.01)
        else:
            assert client.start_session().next_message().text == "Hello!"
    (limit,) = line.bench.recorder.calls("on_rate_limit")
    assert limit["limit"].retry_after == (pytest.approx(figure, rel=0.01) if figure else None)


@pytest.mark.pitfall(35)
def test_pitfall_35_a_connection_with_half_a_frame_on_it_is_not_used_again(line: Line) -> None:
    session = line.started(timeouts=evolve(IMPATIENT, connect=0.5, delivery=20), streaming=False)
    line.kill(HOLE)
    texts = [f"{number} " + "x" * 100_000 for number in range(80)]
    for text in texts:
        session.send(text, wait=False)
    line.bench.recorder.wait_for("on_disconnect", timeout=4)
    wait_until(lambda: len(line.bench.peer.transcript) == 1 + 2 * len(texts), timeout=20)
    assert [text for role, text in line.bench.peer.transcript if role == "user"] == texts
    assert line.bench.peer.refused == ()
    wait_until(lambda: said(session) == line.bench.peer.transcript, timeout=10)


@pytest.mark.pitfall(36)
def test_pitfall_36_ca_and_client_certificate_serve_both_legs(ca: Authority) -> None:
    tls = ca.server(client_certificate=True)
    with Emulator(agent=EchoAgent(), tls=tls) as emulator:
        known = trusting(ca, cert=ca.client_certificate())
        with emulator.client(http=known, timeouts=IMPATIENT) as client, client.start_session() as session:
            assert session.ask("who am I?").text == "You said: who am I?"
        with emulator.client(http=trusting(ca), timeouts=IMPATIENT, load_plugins=False) as client:
            assert isinstance(raised(client.start_session), ConnectionFailedError)
        assert emulator.sessions_created == 1


ODD_PAYLOADS: tuple[Any, ...] = (
    None,
    [],
    7,
    "text",
    {"events": 7},
    {"agent": [], "agent_name": {}, "message": [], "level": 3},
)
ODD_FRAMES = [
    *("null", "[]", "7", '"text"', "{}", '{"type": null}', '{"type": {"a": []}}', "NaN", "1e999", "[" * 50),
    *(
        json.dumps({"type": f"EVENT_TYPE_{name}", "id": [], "sequence": "soon", "timestamp": {}, "payload": payload})
        for name in ("SESSION_START", "POLY_AGENT_JOINED", "LIVE_AGENT_JOINED", "SYSTEM_MESSAGE", "EVENT_BATCH", "NEW")
        for payload in ODD_PAYLOADS
    ),
    *(
        json.dumps({"type": "EVENT_TYPE_HANDOFF_QUEUE_STATUS", "sequence": sequence, "payload": {"position": "first"}})
        for sequence in (-1, 1.5, True, "7", 10**400)
    ),
]


@pytest.mark.pitfall(37)
def test_pitfall_37_a_decoder_raises_on_no_json(line: Line) -> None:
    session = line.started()
    for text in ODD_FRAMES:
        line.bench.peer.send_raw(text)
    assert session.ask("still there?").text == "You said: still there?"
    assert session.status is SessionStatus.OPEN
    assert line.bench.peer.connections_total == 1
    assert set(line.bench.codes) == {"client.protocol"}


def _fails(url: str) -> None:
    """For another process: raises what a service's refusal is."""
    with Client(CANARY, "localhost", base_url=url, load_plugins=False) as client:
        client.start_session()


@pytest.mark.pitfall(38)
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("session_create.failed", ServerError),
        ("connect.too_many_connections", RateLimitError),
        ("http.no_answer", ConnectionFailedError),
    ],
)
def test_pitfall_38_an_error_comes_out_of_a_worker_process_as_it_was(fault: str, kind: type) -> None:
    with Emulator(connector_token=CANARY) as emulator:
        emulator.faults.add(fault, times=None)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            error = pool.submit(_fails, emulator.url).exception(30)
    assert isinstance(error, kind)
    assert isinstance(error, PolyAIError)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert (twin.code, twin.message, twin.status, twin.retry_after, str(twin)) == (
            error.code,
            error.message,
            error.status,
            error.retry_after,
            str(error),
        )


@pytest.mark.pitfall(39)
@pytest.mark.parametrize("death", [CLOSE, RESET], ids=str)
def test_pitfall_39_every_attempt_is_the_policys(death: Any, line: Line) -> None:
    for _ in range(2):
        line.proxy.strike("up", "POST /api/v1/access-token", death)
    line.started()
    attempts = [
        call["attempt"] for call in line.bench.recorder.calls("on_request") if call["operation"] == "access_token"
    ]
    assert attempts == [1, 2, 3]
    assert [call["attempt"] for call in line.bench.recorder.calls("retry_delay")] == [1, 2]


@pytest.mark.pitfall(39)
def test_pitfall_39_without_a_policy_there_is_one_attempt(line: Line) -> None:
    strike = line.proxy.strike("up", "POST /api/v1/access-token", RESET)
    line.proxy.strike("up", "POST /api/v1/access-token", RESET)
    assert isinstance(raised(line.bare().start_session), ConnectionFailedError)
    assert strike.fired == 1
    assert line.bench.emulator.tokens_minted == 0
    assert len(line.bench.recorder.calls("on_request")) == 1


@pytest.mark.pitfall(40)
def test_pitfall_40_a_plugin_that_raises_stops_neither_the_others_nor_the_client(line: Line) -> None:
    broken = HookRecorder(name="broken", retry_delay=_raise, reconnect_delay=_raise, resend=_raise)
    after = HookRecorder(name="after")
    session = line.started(plugins=[_Angry(), broken, after, line.bench.backoff, line.bench.reconnect])
    line.kill(RESET)
    line.bench.faults.add("http.server_error", on="connect")
    assert session.ask("still there?").text == "You said: still there?"
    assert set(after.names) >= {
        "on_request",
        "on_connect",
        "on_event",
        "on_send",
        "on_message",
        "on_error",
        "on_reconnect",
    }


def _raise(**_: Any) -> None:
    raise RuntimeError("no opinion, and no manners")


class _Angry:
    """Raises in every observer that a conversation calls."""

    name = "angry"

    @hookimpl
    def on_event(self) -> None:
        raise RuntimeError("on_event")

    @hookimpl
    def on_error(self) -> None:
        raise RuntimeError("on_error")

    @hookimpl
    def on_request(self) -> None:
        raise RuntimeError("on_request")

    @hookimpl
    def on_connect(self) -> None:
        raise RuntimeError("on_connect")

    @hookimpl
    def on_send(self) -> None:
        raise RuntimeError("on_send")

    @hookimpl
    def on_message(self) -> None:
        raise RuntimeError("on_message")

    @hookimpl
    def on_reconnect(self) -> None:
        raise RuntimeError("on_reconnect")
