"""`Session.stream` and `ReplyStream` (api.md)."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
from fault_kit import Bench, Caller, come_back, raised, said, started, within

from polyai_sync import AgentError, ConnectionLostError, ReplyTimeoutError, SessionClosedError, SessionEndedError
from polyai_sync.emulator import ClientHandoff, Emit, End, LiveSay, Pause, ScriptedAgent, Stream
from polyai_sync.messages import HandoffStatus
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = Stream(["One ", "two ", "three ", "four."])


def scripted(make_bench: Callable[..., Bench], *replies: Any, **options: object) -> Bench:
    return make_bench(agent=ScriptedAgent(*replies), **options)


def test_yields_text_as_it_is_generated(make_bench: Callable[..., Bench]) -> None:
    bench = scripted(make_bench, COUNT)
    stream = started(bench).stream("count")
    before = stream.reply
    assert list(stream) == ["One ", "two ", "three ", "four."]
    assert before is None
    assert stream.reply is not None
    assert stream.reply.text == "One two three four."
    assert stream.reply.complete
    assert list(stream) == []


def test_first_piece_does_not_wait_for_the_last(make_bench: Callable[..., Bench]) -> None:
    bench = scripted(make_bench, COUNT, chunk_delay=1)
    with within(2):
        stream = started(bench).stream("count")
        assert next(stream) == "One "
        assert stream.reply is None


def test_text_without_streaming_comes_in_one_piece(bench: Bench) -> None:
    stream = started(bench, streaming=False).stream("hello")
    assert list(stream) == ["You said: hello"]
    assert stream.reply is not None


def test_empty_pieces_are_not_yielded(make_bench: Callable[..., Bench]) -> None:
    bench = scripted(make_bench, Stream(["", "One", "", " two", ""]))
    assert list(started(bench).stream("count")) == ["One", " two"]


def test_several_messages_are_set_apart_by_a_blank_line(make_bench: Callable[..., Bench]) -> None:
    bench = scripted(make_bench, COUNT)
    session = started(bench)
    bench.faults.add("stream.interleaved", text="By the way.")
    stream = session.stream("count")
    text = "".join(stream)
    assert stream.reply is not None
    assert text == stream.reply.text
    assert text.startswith("One two ")
    assert text.endswith("\n\nBy the way.")


def test_corrected_text_is_not_yielded_twice(bench: Bench) -> None:
    session = started(bench)
    bench.faults.add("stream.replaced_by_whole", text="You said: hello, dear.")
    stream = session.stream("hello")
    text = "".join(stream)
    assert text == "You said: hello"
    wait_until(lambda: session.messages[-1].text == "You said: hello, dear.")
    assert said(session) == bench.peer.transcript


def test_whole_message_in_place_of_the_rest_is_yielded_once(make_bench: Callable[..., Bench]) -> None:
    chunk = {"message_id": "m", "text": "One ", "chunk_index": 1, "is_complete": False}
    whole = {"message_id": "m", "text": "One two three."}
    bench = scripted(make_bench, [Emit("POLY_AGENT_MESSAGE_CHUNK", chunk), Emit("POLY_AGENT_MESSAGE", whole)])
    stream = started(bench).stream("count")
    assert "".join(stream) == "One two three."
    assert stream.reply is not None
    assert stream.reply.text == "One two three."
    assert len(stream.reply.messages) == 1


def test_goes_on_across_a_drop_without_repeating_itself(make_bench: Callable[..., Bench]) -> None:
    bench = scripted(make_bench, COUNT, chunk_delay=0.01)
    session = started(bench)
    bench.faults.add("connection.drop", on="chunk", after=1)
    assert list(session.stream("count")) == ["One ", "two ", "three ", "four."]
    assert said(session) == bench.peer.transcript


def test_live_agent_can_be_streamed(make_bench: Callable[..., Bench]) -> None:
    bench = scripted(make_bench, LiveSay("Sam here."))
    assert list(started(bench).stream("anybody?")) == ["Sam here."]


def test_handoff_without_a_message_ends_it(make_bench: Callable[..., Bench]) -> None:
    bench = scripted(make_bench, ClientHandoff())
    stream = started(bench).stream("a person, please")
    assert list(stream) == []
    assert stream.reply is not None
    assert stream.reply.handoff is not None
    assert stream.reply.handoff.status is HandoffStatus.CLIENT_REQUIRED


class TestLeftEarly:
    def test_closing_leaves_the_session_usable(self, make_bench: Callable[..., Bench]) -> None:
        bench = scripted(make_bench, COUNT, "Then.", chunk_delay=0.02)
        session = started(bench)
        with session.stream("count") as stream:
            assert next(stream) == "One "
        assert stream.reply is None
        assert list(stream) == []
        stream.close()
        assert session.next_message().text == "One two three four."  # nothing is lost
        assert session.ask("and?").text == "Then."
        assert said(session) == bench.peer.transcript

    def test_question_behind_a_closed_stream_gets_its_own_answer(self, make_bench: Callable[..., Bench]) -> None:
        bench = scripted(make_bench, COUNT, "Then.", chunk_delay=0.05)
        session = started(bench)
        with session.stream("count") as stream:
            next(stream)
        assert session.ask("and?").text == "Then."
        assert session.next_message().text == "One two three four."

    def test_left_behind_it_gives_its_turn_up_once_complete(self, make_bench: Callable[..., Bench]) -> None:
        bench = scripted(make_bench, COUNT, "Then.", chunk_delay=0.02)
        session = started(bench)
        stream = session.stream("count")
        assert next(stream) == "One "
        with within(2):
            assert session.ask("and?").text == "Then."  # though nobody closed or read the first one
        assert list(stream) == ["two ", "three ", "four."]
        assert stream.reply is not None
        assert stream.reply.text == "One two three four."

    def test_never_read_it_holds_nobody_up(self, make_bench: Callable[..., Bench]) -> None:
        bench = scripted(make_bench, COUNT, "Then.")
        session = started(bench)
        session.stream("count")
        gc.collect()
        with within(2):
            assert session.ask("and?").text == "Then."

    def test_left_behind_without_an_answer_it_holds_nobody_up_past_its_time(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.silent")
        stream = session.stream("silence", timeout=0.2)
        with within(2):
            assert session.ask("hello").text == "You said: hello"
        assert isinstance(raised(next, stream), ReplyTimeoutError)


class TestError:
    def test_error_before_any_text_is_tried_again(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.overloaded", times=2)
        assert "".join(session.stream("hello")) == "You said: hello"
        assert bench.tries == [("ask", "agent.overloaded", 1), ("ask", "agent.overloaded", 2)]

    def test_error_after_some_text_is_raised(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.stream_failed")
        stream = session.stream("one two three four")
        pieces: list[str] = []
        error = raised(lambda: pieces.extend(stream))
        assert isinstance(error, AgentError)
        assert pieces
        assert stream.reply is None
        assert bench.codes == ["agent.stream_failed"]
        with pytest.raises(StopIteration):
            next(stream)
        assert session.ask("hello").text == "You said: hello"

    def test_end_of_the_session_in_the_middle_gives_what_there_is(self, make_bench: Callable[..., Bench]) -> None:
        chunk = {"message_id": "m", "text": "One ", "chunk_index": 1, "is_complete": False}
        bench = scripted(make_bench, [Emit("POLY_AGENT_MESSAGE_CHUNK", chunk), End()])
        stream = started(bench).stream("count")
        assert list(stream) == ["One "]
        assert stream.reply is not None
        assert stream.reply.ended
        assert not stream.reply.complete

    def test_end_before_any_text_is_raised(self, make_bench: Callable[..., Bench]) -> None:
        bench = scripted(make_bench, End())
        assert isinstance(raised(list, started(bench).stream("count")), SessionEndedError)

    def test_closed_session_is_raised(self, make_bench: Callable[..., Bench]) -> None:
        bench = scripted(make_bench, [COUNT, Pause(5)], chunk_delay=0.1)
        session = started(bench)
        stream = session.stream("count")
        next(stream)
        session.close()
        assert isinstance(raised(list, stream), SessionClosedError)

    def test_lost_connection_is_raised(self, make_bench: Callable[..., Bench]) -> None:
        bench = scripted(make_bench, COUNT, chunk_delay=0.1)
        session = bench.bare().start_session()
        session.next_message()
        stream = session.stream("count")
        next(stream)
        bench.peer.drop()
        assert isinstance(raised(list, stream), ConnectionLostError)

    def test_time_limit_is_for_the_whole_stream(self, make_bench: Callable[..., Bench]) -> None:
        bench = scripted(make_bench, COUNT, "Then.", chunk_delay=0.15)
        session = started(bench)
        stream = session.stream("count", timeout=0.25)
        assert isinstance(raised(list, stream), ReplyTimeoutError)
        assert session.ask("and?").text == "Then."
        assert session.next_message().text == "One two three four."


def test_streams_of_several_threads_do_not_mix(bench: Bench) -> None:
    session = started(bench)

    def talk(name: str) -> list[str]:
        return ["".join(session.stream(f"{name} {turn}")) for turn in range(8)]

    callers = {name: Caller(talk, name) for name in ("ada", "bob", "cy")}
    for name, caller in callers.items():
        assert caller.result(20) == [f"You said: {name} {turn}" for turn in range(8)]


def test_growing_message_is_in_the_transcript(make_bench: Callable[..., Bench]) -> None:
    bench = scripted(make_bench, COUNT, chunk_delay=0.1)
    session = started(bench)
    stream = session.stream("count")
    next(stream)
    growing = session.messages[-1]
    assert (growing.role, growing.complete) == ("agent", False)
    assert "One two three four.".startswith(growing.text)
    "".join(stream)
    assert session.messages[-1].complete


def test_drop_in_the_middle_shows_in_the_status_only(make_bench: Callable[..., Bench]) -> None:
    bench = scripted(make_bench, COUNT, chunk_delay=0.05)
    session = started(bench)
    stream = session.stream("count")
    pieces = [next(stream)]
    come_back(bench, session)
    pieces += stream
    assert "".join(pieces) == "One two three four."
