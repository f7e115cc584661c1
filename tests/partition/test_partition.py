"""A network that goes away: no FIN, no RST, no bytes, between two real network stacks."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from fault_kit import Caller
from partition_kit import HEARTBEAT, answer_to, far

from polyai_sync import SessionStatus
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab import Cable, Place
    from partition_kit import Far
    from tls import Authority

    from polyai_sync import Session

DEADLINE = 2.5 * HEARTBEAT
"""Seconds without a byte after which a connection is dead."""
SLACK = 0.35
"""Seconds for a busy machine."""

pytestmark = pytest.mark.timeout(200)


class Outage:
    """The link goes down, and what the client notices of it."""

    def __init__(self, far: Far, wire: Cable, session: Session, end: str) -> None:
        self._far, self._wire, self._session, self._end = far, wire, session, end
        self._drops = len(far.recorder.calls("on_disconnect"))
        wire.pull(end)
        self._went = time.monotonic()

    def noticed(self) -> float:
        """Wait until the client knows; seconds since."""
        self._far.recorder.wait_for("on_disconnect", self._drops + 1, timeout=DEADLINE + 5)
        return time.monotonic() - self._went

    def over(self) -> float:
        """The link is up again; seconds until the session is open."""
        self._wire.plug(self._end)
        came = time.monotonic()
        wait_until(lambda: self._session.status is SessionStatus.OPEN, timeout=15)
        return time.monotonic() - came


@pytest.mark.parametrize("end", ["server", "client"])
@pytest.mark.parametrize("doing", ["idle", "asking", "streaming"])
def test_partition_is_noticed_and_mended(
    end: str, doing: str, wire: Cable, ca: Authority, measured: Callable[..., None]
) -> None:
    with far(wire.server, wire.client, ca, chunk_delay=0.05) as line:
        session = line.started()
        assert session.ask("before").text == answer_to("before")
        calls: list[Caller] = []
        if doing == "streaming":
            begun = threading.Event()
            calls.append(Caller(_read, session, "a long one", begun))
            assert begun.wait(5)
        outage = Outage(line, wire, session, end)
        if doing == "asking":
            calls.append(Caller(session.ask, "is anybody there?"))
        noticed = outage.noticed()
        assert noticed <= DEADLINE + SLACK
        wait_until(lambda: line.recorder.calls("on_reconnect"))  # it tries meanwhile, in vain
        assert session.status is SessionStatus.RECONNECTING
        mended = outage.over()
        if doing == "asking":
            assert calls[0].result(20).text == answer_to("is anybody there?")
        elif doing == "streaming":
            assert calls[0].result(20) == answer_to("a long one")
        assert session.ask("after").text == answer_to("after")
        line.check_whole(session)
        measured(link=f"down at the {end}", doing=doing, noticed=round(noticed, 2), mended=round(mended, 2))


def _read(session: Session, text: str, begun: threading.Event) -> str:
    pieces = []
    with session.stream(text) as stream:
        for piece in stream:
            pieces.append(piece)
            begun.set()
    return "".join(pieces)


def test_gap_that_is_shorter_than_patience_is_no_drop(wire: Cable, ca: Authority) -> None:
    with far(wire.server, wire.client, ca) as line:
        session = line.started()
        wire.pull("server")
        asked = Caller(session.ask, "still there?")
        threading.Event().wait(0.3)  # the gap: TCP sends again on its own
        wire.plug("server")
        assert asked.result(10).text == answer_to("still there?")
        assert line.recorder.calls("on_disconnect") == []
        line.check_whole(session)


@pytest.mark.parametrize("noticed", [False, True], ids=["before-it-is-noticed", "while-it-reconnects"])
def test_close_returns_though_nobody_answers(noticed: bool, wire: Cable, ca: Authority) -> None:
    with far(wire.server, wire.client, ca) as line:
        session = line.started()
        outage = Outage(line, wire, session, "server")
        if noticed:
            outage.noticed()
        began = time.monotonic()
        session.close()
        assert time.monotonic() - began <= 2 + SLACK  # Timeouts.close
        assert session.status is SessionStatus.CLOSED


def test_end_across_a_partition_is_unconfirmed_in_time(wire: Cable, ca: Authority) -> None:
    with far(wire.server, wire.client, ca) as line:
        session = line.started()
        wire.pull("client")
        began = time.monotonic()
        assert session.end(timeout=1.0) is None
        assert time.monotonic() - began <= 1.0 + SLACK
        assert session.end_reason == "UNCONFIRMED"


def test_start_into_a_partition_fails_in_time_and_later_succeeds(wire: Cable, ca: Authority) -> None:
    with far(wire.server, wire.client, ca) as line:
        wire.pull("server")
        started = Caller(line.client.start_session)
        line.recorder.wait_for("retry_delay", 1, timeout=10)
        wire.plug("server")
        session = started.result(30)
        assert session.ask("hello").text == answer_to("hello")
        assert line.emulator.sessions_created == 1


@pytest.mark.parametrize("percent", [5, 10, 20])
def test_conversation_over_a_lossy_wire_is_whole(
    percent: int,
    make_lossy: Callable[[float], tuple[Place, Place, str]],
    ca: Authority,
    measured: Callable[..., None],
) -> None:
    server, client, by = make_lossy(percent)
    turns = 20
    with far(server, client, ca, chunk_delay=0.01) as line:
        began = time.monotonic()
        session = line.started()
        for number in range(turns):
            text = f"question {number}"
            if number % 2:
                assert session.ask(text).text == answer_to(text)
            else:
                with session.stream(text) as stream:
                    assert "".join(stream) == answer_to(text)
        took = time.monotonic() - began
        line.check_whole(session)
        assert [text for role, text in line.peer.transcript if role == "user"] == [
            f"question {n}" for n in range(turns)
        ]
        drops = len(line.recorder.calls("on_disconnect"))
        measured(lost=f"{percent} %", by=by, turns=turns, seconds=round(took, 1), drops=drops)
