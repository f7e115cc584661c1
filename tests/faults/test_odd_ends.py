"""The end in all its forms, and lines that go dead (protocol.md §7.7, pitfalls.md 11 and 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fault_kit import (
    Bench,
    holds,
    raised,
    said,
    started,
    within,
)

from polyai_sync import (
    SessionEndedError,
    SessionStatus,
)
from polyai_sync.messages import EndReason
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable


@holds("end.natural", "end.abandoned")
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("fault", "reason"), [("end.natural", EndReason.NATURAL_END), ("end.abandoned", EndReason.USER_ABANDONED)]
)
def test_end_after_a_reply(fault: str, reason: str, streaming: bool, bench: Bench) -> None:
    session = started(bench, streaming=streaming)
    bench.faults.add(fault)
    assert session.ask("goodbye").text == "You said: goodbye"
    assert session.wait_ended(timeout=2) == reason
    assert bench.ends == [(reason, None)]
    assert bench.errors == []
    assert said(session) == bench.peer.transcript
    assert [call["error"] for call in bench.recorder.wait_for("on_disconnect")] == [None]


@holds("end.natural")
def test_reply_says_that_the_session_ended_with_it(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("end.natural")
    reply = session.ask("goodbye", settle=0.3)
    assert (reply.text, reply.ended, reply.complete) == ("You said: goodbye", True, True)


@pytest.mark.parametrize("moment", ["echo", "turn"])
@pytest.mark.parametrize("method", ["ask", "stream"])
def test_end_before_the_reply_is_raised(moment: str, method: str, bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("end.natural", on=moment)
    result = getattr(session, method)
    error = raised(lambda: list(result("goodbye")) if method == "stream" else result("goodbye"))
    assert isinstance(error, SessionEndedError)
    assert error.reason == EndReason.NATURAL_END
    assert bench.ends == [(EndReason.NATURAL_END, None)]


@holds("end.unanswered")
def test_end_that_the_server_ignores_is_an_end_here(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("end.unanswered")
    with within(1.5):
        assert session.end(timeout=0.2) is None
    assert session.status is SessionStatus.ENDED
    assert session.end_reason == EndReason.UNCONFIRMED
    assert bench.ends == [(EndReason.UNCONFIRMED, None)]
    wait_until(lambda: bench.emulator.connections == 0)
    assert bench.emulator.handshakes == 1  # and nothing brings it back


@holds("end.no_echo", "end.close_1000_only", "end.no_close")
@pytest.mark.parametrize("fault", ["end.no_echo", "end.close_1000_only", "end.no_close"])
def test_own_end_is_confirmed_in_any_form(fault: str, bench: Bench) -> None:
    session = started(bench)
    bench.faults.add(fault)
    with within(1.5):
        assert session.end() == EndReason.USER_END
    assert bench.ends == [(EndReason.USER_END, None)]
    wait_until(lambda: bench.emulator.connections == 0)


@holds("end.close_1000_only")
def test_close_1000_alone_ends_a_waiting_call(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("end.close_1000_only")
    bench.faults.add("end.natural", on="turn")
    error = raised(session.ask, "goodbye")
    assert isinstance(error, SessionEndedError)
    assert error.reason == session.end_reason == EndReason.CLOSED_BY_SERVER


@holds("end.old_word", "end.null_reason")
@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("user_ended", EndReason.USER_END),
        ("agent_ended", EndReason.NATURAL_END),
        ("normal", EndReason.NATURAL_END),
        ("REASON_OF_THE_FUTURE", "REASON_OF_THE_FUTURE"),
        (None, EndReason.UNKNOWN),
    ],
)
def test_older_words_for_the_end_are_understood(word: str | None, reason: str, bench: Bench) -> None:
    session = started(bench)
    if word is None:
        bench.faults.add("end.null_reason")
    else:
        bench.faults.add("end.old_word", reason=word)
    bench.peer.end()
    assert session.wait_ended(timeout=2) == reason
    assert bench.ends == [(reason, None)]


@holds("end.no_close")
def test_socket_that_stays_open_after_the_end_is_closed_here(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("end.no_close")
    bench.peer.end()
    session.wait_ended(timeout=2)
    wait_until(lambda: bench.emulator.connections == 0)
    assert [call["error"] for call in bench.recorder.wait_for("on_disconnect")] == [None]


@holds("connection.silent")
@pytest.mark.parametrize("moment", ["message", "heartbeat"])
def test_dead_line_is_noticed_though_tcp_says_nothing(moment: str, make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(capabilities={"heartbeat_interval_seconds": 1})
    session = started(bench)
    bench.faults.add("connection.silent", on=moment)
    with within(4):
        assert session.ask("hello", timeout=10).text == "You said: hello" if moment == "message" else True
        if moment == "heartbeat":
            bench.recorder.wait_for("on_disconnect", timeout=5)
    assert bench.codes == ["client.connection_dropped"]
    assert "2.5" in str(bench.errors[0])
