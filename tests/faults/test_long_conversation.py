"""Two hundred streamed turns through fifty drops: the journal is the transcript, and each message was taken once."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from fault_kit import Bench, check_nothing_doubled, said, short, within

from polyai_sync.emulator import ScriptedAgent, Stream, Turn
from polyai_sync.messages import EndReason
from polyai_sync.testing import wait_until
from polyai_sync_plugins import Reconnect

if TYPE_CHECKING:
    from collections.abc import Callable

TURNS, DROPS = 200, 50
BREAKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("connection.drop", {"on": "chunk", "after": 2}),  # in the middle of a stream
    ("message.dropped_then_drop", {}),  # before the message is taken
    ("message.echo_lost_then_drop", {}),  # taken, and no receipt
    ("connection.drop", {"on": "echo"}),
    ("close.1011", {"on": "chunk"}),
    ("connection.drop", {"on": "message"}),
    ("close.1001", {"on": "turn"}),
    ("connection.drop", {"on": "reply"}),  # between two turns
    ("close.4000", {"on": "message"}),
    ("close.1012", {"on": "echo"}),
    ("connection.drop", {"on": "chunk", "after": 4}),
    ("close.1006", {"on": "chunk", "after": 3}),
    ("close.3000", {"on": "reply"}),
)
RETURNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("history.split", {}),
    ("accept_then_drop", {}),
    ("history.duplicate", {}),
    ("http.server_error", {"on": "connect"}),
    ("history.full_replay", {}),
    ("history.overlap_live", {}),
    ("connection.drop", {"on": "opened"}),
    ("history.unbatched", {}),
    ("http.rate_limited", {"on": "connect", "retry_after": 0.01}),
    ("history.reversed", {}),
)
"""What the way back may meet on top of it."""


def agent(turn: Turn) -> object:
    if turn.greeting:
        return "Hello!"
    return Stream([f"Answer {turn.number}: ", "you ", "said ", "", f"»{turn.text}« ", "and ", "that ", "was it."])


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])
def test_conversation_through_fifty_drops_is_the_journal(streaming: bool, make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(agent=agent, capabilities={"max_reconnect_attempts": 0})
    chance = random.Random(20260)
    broken = sorted(chance.sample(range(TURNS), DROPS))
    breaks, returns = itertools.cycle(BREAKS), itertools.cycle(RETURNS)
    plugins = [bench.recorder, Reconnect(base=0.005, cap=0.01)]
    texts = [f"question {number} ünïcödé" if number % 3 else "yes" for number in range(TURNS)]
    client = bench.client(streaming=streaming, plugins=plugins, timeouts=short(reply=10, delivery=10))
    with within(60), client.start_session() as session:
        session.next_message()
        for number, text in enumerate(texts):
            if number in broken:
                fault, options = next(breaks)
                if not streaming and options.get("on") == "chunk":
                    options = {"on": "turn"}
                bench.faults.add(fault, **options)
                if number % 2:
                    fault, options = next(returns)
                    bench.faults.add(fault, **options, after=0)
            pieces: list[str] = []
            with session.stream(text) as stream:
                pieces.extend(stream)
            assert stream.reply is not None
            assert "".join(pieces) == stream.reply.text == f"Answer {number + 1}: you said »{text}« and that was it."
        wait_until(lambda: session.status == "OPEN")
        journal = bench.peer.transcript
        assert said(session) == journal
        assert len(journal) == 1 + 2 * TURNS
        drops = bench.codes.count("client.connection_dropped")
        assert drops >= DROPS
        assert bench.peer.connections_total == 1 + drops
        accepted = [event for event in bench.peer.received if event["type"] == "EVENT_TYPE_USER_MESSAGE"]
        assert [event["payload"]["text"] for event in accepted] == texts
        ids = Counter(event["metadata"]["custom"]["client_event_id"] for event in accepted)
        assert set(ids.values()) == {1}
        check_nothing_doubled(bench)
        sequences = [call["event"].sequence for call in bench.recorder.calls("on_event") if call["event"].sequence]
        assert sequences == sorted(sequences)
        assert sequences == [event["sequence"] for event in bench.peer.journal]
        assert session.end() == EndReason.USER_END
    assert bench.emulator.sessions_created == bench.emulator.tokens_minted == 1
    assert set(bench.codes) <= {
        "client.connection_dropped",
        "client.protocol",
        "http.server_error",
        "http.rate_limited",
    }


def test_unasked_messages_survive_drops_too(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(agent=ScriptedAgent())
    client = bench.client(plugins=[bench.recorder, Reconnect(base=0.005, cap=0.01, max_attempts=0)])
    with within(20), client.start_session() as session:
        expected = ["Hello!"]
        for number in range(60):
            expected.append(f"News {number}")
            bench.peer.act(expected[-1])
            if number % 4 == 0:
                bench.peer.drop(None if number % 8 else 1011)
        assert [session.next_message().text for _ in expected] == expected
        assert said(session) == bench.peer.transcript
        check_nothing_doubled(bench)
