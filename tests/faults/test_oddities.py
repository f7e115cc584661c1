"""Every oddity of protocol.md in front of a real client: nothing lost or doubled, no hang, all told as it should."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import pytest
import test_odd_answers
import test_odd_ends
import test_odd_frames
from catalogue_cases import HTTP_CASES, SYSTEM_CASES
from fault_kit import (
    SCENES,
    Bench,
    check_nothing_doubled,
    come_back,
    said,
    within,
)
from oddity_cases import CASES, Oddity

from polyai_sync import (
    Session,
    SessionStatus,
)
from polyai_sync.emulator import (
    Say,
    Turn,
    image,
    link,
)
from polyai_sync.emulator.fault_table import FAULT_TABLE
from polyai_sync.messages import EndReason
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable


def rich(turn: Turn) -> object:
    """An agent whose answers hold all that a message can hold."""
    if turn.greeting:
        return "Hello!"
    links = [link("Menu", "https://example.com/menu"), image("Map", "https://example.com/map.png")]
    return Say(f"You said: {turn.text}", attachments=links, suggestions=["Yes, please", "No, thanks"])


class Scene:
    """A conversation in which something odd happens once."""

    def __init__(self, case: Oddity, bench: Bench) -> None:
        self.case = case
        self.bench = bench
        self.codes = list(case.codes)
        self.connections = 1 + case.connections

    def arm(self) -> None:
        self.fault = self.bench.faults.add(self.case.fault, **self.case.options)

    def play(self) -> None:
        case, bench = self.case, self.bench
        if case.scene == "start":
            self.arm()
        with within(3), bench.client(streaming=case.streaming).start_session() as session:
            assert session.next_message().text == "Hello!"
            if case.scene == "return":
                self.news_while_away(session)
            if case.scene == "turn":
                self.arm()
            for text in ("one two three four", "again, please"):
                assert session.ask(text).text.startswith(f"You said: {text}")
            bench.faults.clear()
            if case.fault == "stream.replaced_by_whole":  # right behind the answers
                wait_until(lambda: str(bench.peer.transcript).count("(as corrected)") == self.fault.fired)
                wait_until(lambda: said(session) == bench.peer.transcript)
            if case.scene != "start" or case.connections == 0:
                assert self.fault.fired or case.fault.startswith(("history.none", "wire.heartbeat", "stream.repeated"))
            assert bench.codes == self.codes
            assert bench.peer.connections_total == self.connections
            assert said(session) == bench.peer.transcript
            check_nothing_doubled(bench)
            self.check_replay(session)
            assert session.end() == EndReason.USER_END
        wait_until(lambda: bench.peer.end_reason == "REASON_USER_END")
        assert bench.ends == [(EndReason.USER_END, None)]

    def news_while_away(self, session: Session) -> None:
        """What is in the journal and was not sent comes with the replay."""
        for text in ("Are you there?", "One moment.", "Still with you."):
            payload = {"message_id": text, "text": text, "attachments": [link("Menu", "https://example.com/menu")]}
            self.bench.peer.emit("POLY_AGENT_MESSAGE", payload, live=False)
        self.arm()
        self.bench.peer.drop()
        self.codes.insert(0, "client.connection_dropped")
        self.connections += 1
        for text in ("Are you there?", "One moment.", "Still with you."):
            message = session.next_message()
            assert message.text == text
            assert message.attachments[0].title == "Menu"
        wait_until(lambda: session.status is SessionStatus.OPEN)

    def check_replay(self, session: Session) -> None:
        """A reconnect afterwards asks for no more than is missing, and brings nothing twice."""
        before = self.bench.peer.transcript
        come_back(self.bench, session)
        assert session.ask("and now?").text.startswith("You said: and now?")
        assert said(session) == self.bench.peer.transcript
        assert self.bench.peer.transcript[: len(before)] == before
        assert session.state.cursor == self.bench.peer.journal[-1]["sequence"]
        assert self.bench.codes == [*self.codes, "client.connection_dropped"]
        check_nothing_doubled(self.bench)


@pytest.mark.parametrize("case", CASES, ids=attrgetter("id"))
def test_conversation_goes_on_as_if_nothing_had_been(case: Oddity, make_bench: Callable[..., Bench]) -> None:
    Scene(case, make_bench(agent=rich, capabilities=dict(case.capabilities))).play()


def test_every_fault_has_a_case() -> None:
    assert {test_odd_answers, test_odd_ends, test_odd_frames}  # which note what they hold when they are imported
    walked = (
        {case.fault for case in HTTP_CASES}
        | {case.fault for case in CASES}
        | {case.code for case in SYSTEM_CASES}
        | set(SCENES)
    )
    walked = {"close.<code>" if fault.startswith("close.") else fault for fault in walked}
    assert walked == set(FAULT_TABLE)
