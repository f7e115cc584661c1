"""What the server leaves out, sends late or sends twice (protocol.md §4 and §7)."""

from __future__ import annotations

import pytest
from fault_kit import (
    Bench,
    Caller,
    check_nothing_doubled,
    come_back,
    holds,
    raised,
    said,
    short,
    started,
    within,
)

from polyai_sync import (
    DeliveryError,
    ReadyTimeoutError,
    ReplyTimeoutError,
)
from polyai_sync.messages import Delivery
from polyai_sync.testing import wait_until


@holds("start.no_session_start", "history.never", "start.no_join")
@pytest.mark.parametrize("fault", ["start.no_session_start", "history.never", "start.no_join"])
def test_start_that_never_gets_ready_ends_at_its_deadline(fault: str, bench: Bench) -> None:
    bench.faults.add(fault)
    with within(1.5):
        error = raised(bench.client(timeouts=short(ready=0.4)).start_session)
    assert isinstance(error, ReadyTimeoutError)
    wait_until(lambda: bench.emulator.connections == 0)


@holds("http.hang")
@pytest.mark.parametrize("leg", ["access_token", "session_create", "connect"])
def test_request_without_an_answer_is_made_again(leg: str, bench: Bench) -> None:
    bench.faults.add("http.hang", on=leg)
    with within(3), bench.client(timeouts=short(connect=0.5, read=0.5)).start_session() as session:
        assert session.ask("hello").text == "You said: hello"
    assert bench.codes == ["client.connect_failed"]


@holds("token.missing", "token.not_json", "session_create.no_id", "session_create.not_json", "connect.answered_200")
@pytest.mark.parametrize(
    "fault",
    ["token.missing", "token.not_json", "session_create.no_id", "session_create.not_json", "connect.answered_200"],
)
def test_success_that_is_none_is_a_protocol_error(fault: str, bench: Bench) -> None:
    bench.faults.add(fault)
    assert raised(bench.client().start_session).code == "client.protocol"


@holds("start.no_greeting")
def test_missing_greeting_is_waited_for_no_longer_than_its_limit(bench: Bench) -> None:
    bench.faults.add("start.no_greeting")
    with within(1.5), bench.client(timeouts=short(greeting=0.2)).start_session() as session:
        assert session.ask("hello").text == "You said: hello"
        assert said(session) == bench.peer.transcript
    assert bench.errors == []


@holds("message.dropped")
def test_message_dropped_without_a_word_has_an_unknown_fate(bench: Bench) -> None:
    session = started(bench, timeouts=short(delivery=0.5))
    bench.faults.add("message.dropped")
    error = raised(session.ask, "lost")
    assert isinstance(error, DeliveryError)
    assert error.outcome == "unknown"
    assert session.ask("hello").text == "You said: hello"
    delivered = [message for message in session.messages if message.delivery is Delivery.DELIVERED]
    assert tuple((message.role, message.text) for message in delivered) == bench.peer.transcript


@holds("message.echo_lost")
def test_lost_echo_is_found_in_the_replay(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("message.echo_lost")
    asking = Caller(session.ask, "hello")
    wait_until(lambda: len(bench.peer.transcript) == 3)  # answered, and the client knows of no receipt
    come_back(bench, session)
    assert asking.result().text == "You said: hello"
    assert said(session) == bench.peer.transcript
    check_nothing_doubled(bench)


@holds("message.echo_delayed")
def test_answer_that_overtakes_its_receipt_is_not_lost(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("message.echo_delayed", reply_first=True, delay=0.05)
    assert session.ask("hello").text == "You said: hello"
    wait_until(lambda: said(session) == bench.peer.transcript)
    check_nothing_doubled(bench)


@holds("message.doubled")
def test_message_that_the_server_took_twice_is_one_message(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("message.doubled")
    assert session.ask("hello").text == "You said: hello"
    assert session.next_message().text == "You said: hello"
    assert [text for role, text in said(session) if role == "user"] == ["hello"]
    assert len(bench.recorder.calls("on_delivery")) == 1
    come_back(bench, session)
    assert [text for role, text in said(session) if role == "user"] == ["hello"]


@holds("agent.silent")
def test_silent_agent_ends_the_wait_at_its_deadline(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("agent.silent")
    with within(2):
        assert isinstance(raised(session.ask, "hello", timeout=0.1), ReplyTimeoutError)
    assert session.ask("again").text == "You said: again"


@holds("sequence.hole")
@pytest.mark.parametrize("count", [1, 3])
def test_lost_events_are_asked_for_again_at_the_next_connect(count: int, bench: Bench) -> None:
    session = started(bench, streaming=False)
    bench.faults.add("sequence.hole", event="POLY_AGENT_MESSAGE", times=count)
    for number in range(count):
        bench.peer.act(f"lost {number}")
    cursor = session.state.cursor
    assert session.ask("hello").text == "You said: hello"
    assert session.state.cursor == cursor  # it stays below the hole
    come_back(bench, session)
    wait_until(lambda: said(session) == bench.peer.transcript)
    assert [session.next_message().text for _ in range(count)] == [f"lost {number}" for number in range(count)]
    assert session.state.cursor == bench.peer.journal[-1]["sequence"]
    check_nothing_doubled(bench)


@holds("sequence.permanent_hole")
def test_hole_that_a_replay_does_not_fill_is_accepted(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("sequence.permanent_hole", event="POLY_AGENT_THINKING")
    session.ask("hello")
    below = session.state.cursor
    assert below < bench.peer.journal[-1]["sequence"]
    come_back(bench, session)
    wait_until(lambda: session.state.cursor == bench.peer.journal[-1]["sequence"])
    come_back(bench, session)
    last = [entry for entry in bench.emulator.log if entry.surface == "connect"][-1]
    assert int(last.query["cursor"]) > below  # the hole is not asked for for ever


@holds("history.never")
def test_connection_without_a_history_loses_nothing_in_the_end(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("history.never")
    bench.peer.emit("POLY_AGENT_MESSAGE", {"message_id": "m", "text": "Are you there?"}, live=False)
    come_back(bench, session)
    assert session.ask("hello").text == "You said: hello"
    come_back(bench, session)
    wait_until(lambda: said(session) == bench.peer.transcript)
    assert session.next_message().text == "Are you there?"
    check_nothing_doubled(bench)


@holds("history.late")
def test_events_that_overtake_their_history_are_put_in_their_place(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("history.late", delay=0.15)
    bench.peer.emit("POLY_AGENT_MESSAGE", {"message_id": "m", "text": "Are you there?"}, live=False)
    come_back(bench, session)
    assert session.ask("hello").text == "You said: hello"
    assert session.next_message().text == "Are you there?"
    assert said(session) == bench.peer.transcript
    check_nothing_doubled(bench)


@holds("stream.missing_chunk")
def test_reply_with_a_missing_chunk_ends_all_the_same_and_says_that_it_is_incomplete(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("stream.missing_chunk")
    reply = session.ask("one two three four")
    assert not reply.complete
    assert said(session) == bench.peer.transcript
    assert (("agent", reply.text)) == bench.peer.transcript[-1]
    assert session.ask("again").text == "You said: again"


@holds("sequence.hole")
def test_chunk_lost_on_the_way_is_mended_by_the_replay(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("sequence.hole", event="POLY_AGENT_MESSAGE_CHUNK", after=1)
    asking = Caller(session.ask, "one two three four")
    wait_until(lambda: bench.peer.transcript[-1] == ("agent", "You said: one two three four"))
    come_back(bench, session)
    reply = asking.result()
    assert (reply.text, reply.complete) == ("You said: one two three four", True)
    assert said(session) == bench.peer.transcript


@holds("stream.interleaved")
def test_interleaved_streams_do_not_cut_each_other(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("stream.interleaved", text="One moment.")
    reply = session.ask("one two three four", settle=0.2)
    assert sorted(message.text for message in reply.messages) == ["One moment.", "You said: one two three four"]
    assert said(session) == bench.peer.transcript
    check_nothing_doubled(bench)


@holds("stream.abandoned")
def test_abandoned_stream_is_finished_by_the_next_message(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("stream.abandoned")
    assert isinstance(raised(session.ask, "one two three four", timeout=0.2), ReplyTimeoutError)
    growing = session.messages[-1]
    assert not growing.complete
    assert session.ask("again").text == "You said: again"  # nothing of it leaks (pitfalls.md 9)
    (cut,) = [message for message in session.messages if message.message_id == growing.message_id]
    assert not cut.complete
    assert said(session) == bench.peer.transcript


@holds("stream.abandoned")
@pytest.mark.parametrize("how", ["end", "close 1000"])
def test_abandoned_stream_is_finished_by_the_end(how: str, bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("stream.abandoned")
    asking = Caller(session.ask, "one two three four")
    wait_until(lambda: not session.messages[-1].complete)
    if how == "end":
        bench.peer.end()
    else:
        bench.peer.drop(1000)
    reply = asking.result()
    assert reply.ended
    assert not reply.complete
    assert said(session) == bench.peer.transcript


@holds("stream.replaced_by_whole")
def test_whole_message_replaces_the_stream_of_its_id(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("stream.replaced_by_whole", text="Corrected.")
    reply = session.ask("one two three four", settle=0.2)
    assert reply.text == "Corrected."
    assert said(session) == bench.peer.transcript
    assert len(session.messages) == 3
    check_nothing_doubled(bench)
