"""`Session.events`, `next_message`, `messages`, `wait_ended` (api.md, "receiving")."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import pytest
from fault_kit import Bench, Caller, come_back, raised, said, short, started, within

from polyai_sync import ConnectionLostError, LaggedError, SessionClosedError, SessionEndedError, WaitTimeoutError
from polyai_sync.emulator import ScriptedAgent
from polyai_sync.events import EventBatch, Heartbeat, PolyAgentMessage, PolyAgentMessageChunk, SessionEnd, UserMessage
from polyai_sync.messages import Delivery, EndReason
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polyai_sync.events import Event


def types(events: list[Event]) -> list[str]:
    return [event.type.removeprefix("EVENT_TYPE_") for event in events]


def up_to(event_type: type[Event], events: Iterator[Event]) -> list[Event]:
    """All events up to the first of this type."""
    found: list[Event] = []
    for event in events:
        found.append(event)
        if isinstance(event, event_type):
            break
    return found


class TestEvents:
    def test_every_event_comes_once_in_order(self, bench: Bench) -> None:
        session = started(bench, streaming=False)
        events = session.events()
        session.ask("hello")
        assert types(up_to(PolyAgentMessage, events)) == ["USER_MESSAGE", "POLY_AGENT_THINKING", "POLY_AGENT_MESSAGE"]

    def test_they_count_from_the_call(self, bench: Bench) -> None:
        session = started(bench, streaming=False)
        session.ask("before")
        events = session.events(timeout=2)
        session.ask("after")
        first = next(events)
        assert isinstance(first, UserMessage)
        assert first.text == "after"

    def test_replay_begins_with_the_first_one_known(self, bench: Bench) -> None:
        session = started(bench)
        session.ask("hello")
        events = session.events(replay=True)
        read = list(itertools.islice(events, len(bench.peer.journal)))
        assert [event.id for event in read] == [event["id"] for event in bench.peer.journal]
        session.send("more")
        assert isinstance(next(events), UserMessage)  # and goes on live

    def test_any_number_of_readers_get_all_of_them(self, bench: Bench) -> None:
        session = started(bench)
        readers = [Caller(list, session.events()) for _ in range(5)]
        late = session.events(replay=True)
        for text in ("one two", "three four"):
            session.ask(text)
        session.end()
        read = [reader.result() for reader in readers]
        assert all(types(events) == types(read[0]) for events in read)
        assert isinstance(read[0][-1], SessionEnd)
        assert [event.id for event in late] == [event["id"] for event in bench.peer.journal]

    def test_batches_are_flattened_and_heartbeats_left_out(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(capabilities={"heartbeat_interval_seconds": 1})
        session = started(bench)
        events = session.events(replay=True)
        wait_until(lambda: sum(event["type"].endswith("HEARTBEAT") for event in bench.peer.received) >= 2)
        come_back(bench, session)
        session.end()
        read = list(events)
        assert not any(isinstance(event, (EventBatch, Heartbeat)) for event in read)

    def test_replayed_events_say_so(self, bench: Bench) -> None:
        session = started(bench, streaming=False)
        events = session.events()
        bench.peer.emit("POLY_AGENT_MESSAGE", {"message_id": "m", "text": "News"}, live=False)
        come_back(bench, session)
        event = next(events)
        assert isinstance(event, PolyAgentMessage)
        assert event.replayed
        assert event.timestamp is not None  # the server's
        session.ask("hello")
        assert not next(events).replayed

    def test_they_end_with_the_session(self, bench: Bench) -> None:
        session = started(bench)
        events = session.events()
        bench.peer.end()
        read = list(events)
        assert types(read) == ["SESSION_END"]
        assert list(events) == []
        assert types(list(session.events(replay=True)))[-1] == "SESSION_END"

    def test_they_end_when_the_session_is_closed(self, bench: Bench) -> None:
        session = started(bench)
        reader = Caller(list, session.events())
        wait_until(reader.is_alive)
        session.close()
        assert reader.result(2) == []

    def test_lost_connection_is_raised(self, bench: Bench) -> None:
        session = bench.bare().start_session()
        reader = Caller(list, session.events())
        bench.peer.drop()
        assert isinstance(raised(reader.result), ConnectionLostError)

    def test_time_limit_is_per_event(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent("One two three four five."), chunk_delay=0.4)
        session = started(bench)
        events = session.events(timeout=1.5)
        session.send("count", wait=False)
        chunks = [event for event in itertools.islice(events, 7) if isinstance(event, PolyAgentMessageChunk)]
        assert len(chunks) == 5  # so long for each, not for all
        assert isinstance(raised(next, events), WaitTimeoutError)

    @pytest.mark.parametrize("timeout", [-1, float("nan")])
    def test_time_limit_must_be_one(self, timeout: float, bench: Bench) -> None:
        with pytest.raises(ValueError, match="timeout"):
            started(bench).events(timeout=timeout)

    def test_nothing_is_dropped_by_a_reader_that_never_reads(self, bench: Bench) -> None:
        session = started(bench)
        session.events()
        for _ in range(20):
            session.ask("hello")
        assert said(session) == bench.peer.transcript


class TestLag:
    def test_reader_behind_the_window_is_told_once(self, bench: Bench) -> None:
        session = started(bench, event_window=5)
        slow, fast = session.events(), session.events(timeout=2)
        for _ in range(3):
            session.ask("hello there")
        error = raised(next, slow)
        assert isinstance(error, LaggedError)
        assert error.missed == 3 * 6 - 5  # echo, thinking and four chunks each; five are kept
        with pytest.raises(StopIteration):
            next(slow)
        assert isinstance(raised(next, fast), LaggedError)
        assert types(list(itertools.islice(session.events(replay=True), 5)))[-1] == "POLY_AGENT_MESSAGE_CHUNK"

    def test_reader_that_keeps_up_misses_nothing(self, bench: Bench) -> None:
        session = started(bench, event_window=40)
        events = session.events()
        read: list[Event] = []
        for _ in range(30):
            session.ask("hello")
            read += itertools.islice(events, 5)
        turn = ["USER_MESSAGE", "POLY_AGENT_THINKING", *["POLY_AGENT_MESSAGE_CHUNK"] * 3]
        assert types(read) == turn * 30

    def test_transcript_does_not_depend_on_the_window(self, bench: Bench) -> None:
        session = started(bench, event_window=1)
        for _ in range(5):
            session.ask("hello")
        assert said(session) == bench.peer.transcript


class TestNextMessage:
    def test_gives_each_message_once(self, bench: Bench) -> None:
        session = bench.client().start_session()
        for text in ("one", "two", "three"):
            bench.peer.act(text)
        assert [session.next_message().text for _ in range(4)] == ["Hello!", "one", "two", "three"]

    def test_does_not_give_what_an_ask_returned(self, bench: Bench) -> None:
        session = started(bench)
        session.ask("hello")
        assert isinstance(raised(session.next_message, timeout=0.05), WaitTimeoutError)

    def test_does_not_give_the_users_own(self, bench: Bench) -> None:
        session = started(bench)
        bench.faults.add("agent.silent")
        session.send("hello")
        assert isinstance(raised(session.next_message, timeout=0.05), WaitTimeoutError)

    def test_gives_only_whole_ones(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent(), chunk_delay=0.05)
        session = started(bench)
        waiting = Caller(session.next_message)
        bench.peer.act("One two three four.")
        message = waiting.result()
        assert (message.text, message.complete) == ("One two three four.", True)

    def test_waiting_threads_share_the_messages(self, bench: Bench) -> None:
        session = started(bench)
        waiting = [Caller(session.next_message) for _ in range(4)]
        for number in range(4):
            bench.peer.act(f"news {number}")
        assert sorted(caller.result().text for caller in waiting) == [f"news {number}" for number in range(4)]

    def test_is_raised_out_of_by_the_end(self, bench: Bench) -> None:
        session = started(bench)
        waiting = Caller(session.next_message)
        wait_until(waiting.is_alive)
        bench.peer.end()
        error = raised(waiting.result)
        assert isinstance(error, SessionEndedError)
        assert error.reason == EndReason.NATURAL_END

    def test_message_and_end_at_once_give_the_message_first(self, bench: Bench) -> None:
        session = started(bench)
        waiting = Caller(session.next_message)
        bench.peer.act("Goodbye.")
        bench.peer.end()
        assert waiting.result().text == "Goodbye."
        assert isinstance(raised(session.next_message), SessionEndedError)

    def test_default_limit_is_the_replys(self, bench: Bench) -> None:
        session = started(bench, timeouts=short(reply=0.1))
        with within(1.5):
            assert raised(session.next_message).code == "client.reply_timeout"


class TestMessages:
    def test_hold_the_transcript_then_what_is_pending(self, bench: Bench) -> None:
        session = started(bench)
        session.ask("first")
        bench.faults.add("message.dropped")
        pending = session.send("lost", wait=False)
        assert [(message.role, message.text) for message in session.messages] == [
            ("agent", "Hello!"),
            ("user", "first"),
            ("agent", "You said: first"),
            ("user", "lost"),
        ]
        assert session.messages[-1] == pending
        assert pending.delivery is Delivery.PENDING

    def test_are_a_snapshot(self, bench: Bench) -> None:
        session = started(bench)
        before = session.messages
        session.ask("hello")
        assert len(before) == 1
        assert len(session.messages) == 3

    def test_stay_after_the_end(self, bench: Bench) -> None:
        session = started(bench)
        session.ask("hello")
        session.end()
        assert said(session) == bench.peer.transcript


class TestWaitEnded:
    def test_returns_the_reason(self, bench: Bench) -> None:
        session = started(bench)
        waiting = [Caller(session.wait_ended) for _ in range(3)]
        bench.peer.end("REASON_USER_ABANDONED")
        assert [caller.result() for caller in waiting] == [EndReason.USER_ABANDONED] * 3
        assert session.wait_ended(timeout=0) == EndReason.USER_ABANDONED

    def test_times_out(self, bench: Bench) -> None:
        session = started(bench)
        assert type(raised(session.wait_ended, timeout=0.05)) is WaitTimeoutError
        assert session.ask("hello").text == "You said: hello"

    def test_is_raised_out_of_by_close(self, bench: Bench) -> None:
        session = started(bench)
        waiting = Caller(session.wait_ended)
        wait_until(waiting.is_alive)
        session.close()
        assert isinstance(raised(waiting.result), SessionClosedError)

    def test_is_raised_out_of_by_a_lost_connection(self, bench: Bench) -> None:
        session = bench.bare().start_session()
        waiting = Caller(session.wait_ended)
        bench.peer.drop()
        assert isinstance(raised(waiting.result), ConnectionLostError)


def test_iterators_can_be_read_by_the_thread_that_did_not_make_them(bench: Bench) -> None:
    session = started(bench)
    events = session.events()
    read: list[Event] = []
    reader = threading.Thread(target=lambda: read.extend(events), daemon=True)
    reader.start()
    session.ask("hello")
    session.end()
    reader.join(2)
    assert isinstance(read[-1], SessionEnd)
