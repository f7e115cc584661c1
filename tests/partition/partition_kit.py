"""An emulator in one place and a client of it in the other."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from attrs import define, field
from fault_kit import HurriedBackoff, said, short
from lab import SERVER
from tls import trusting

from polyai_sync.emulator import Emulator, Stream, Turn
from polyai_sync.testing import HookRecorder, wait_until
from polyai_sync_plugins import Reconnect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import Place
    from tls import Authority

    from polyai_sync import Client, Session
    from polyai_sync.emulator import EmulatedSession

__all__ = ["HEARTBEAT", "Far", "answer_to", "far"]

HEARTBEAT = 1.0
"""Seconds between heartbeats: the shortest rhythm there is."""


def agent(turn: Turn) -> str | Stream:
    """Answers in eight chunks, and takes its time."""
    return "Hello!" if turn.greeting else Stream([f"piece {number} of {turn.text}; " for number in range(8)])


def answer_to(text: str) -> str:
    """What `agent` answers."""
    return "".join(f"piece {number} of {text}; " for number in range(8))


@define(eq=False)
class Far:
    """A client that is far from its server; whoever made it is where the client is."""

    emulator: Emulator
    client: Client
    recorder: HookRecorder = field(factory=HookRecorder)

    @property
    def peer(self) -> EmulatedSession:
        """The server's side."""
        return self.emulator.session

    def started(self) -> Session:
        """A session whose greeting has been read."""
        session = self.client.start_session()
        assert session.next_message().text == "Hello!"
        return session

    def check_whole(self, session: Session) -> None:
        """Both sides have the same conversation, in the same order, and each message was taken in once."""
        wait_until(lambda: said(session) == self.peer.transcript, timeout=20)
        accepted = [
            event["metadata"]["custom"]["client_event_id"]
            for event in self.peer.received
            if event["type"] == "EVENT_TYPE_USER_MESSAGE"
        ]
        assert len(accepted) == len(set(accepted))
        sequences = [call["event"].sequence for call in self.recorder.calls("on_event")]
        numbered = [sequence for sequence in sequences if sequence is not None]
        assert numbered == sorted(set(numbered))


@contextmanager
def far(server: Place, client: Place, ca: Authority, **options: Any) -> Iterator[Far]:
    """An emulator in one place; this thread, and a client of it, in the other."""
    rules = {"heartbeat_interval_seconds": HEARTBEAT, "max_reconnect_attempts": 0}
    emulator = Emulator(address=SERVER, tls=ca.server(SERVER), agent=agent, capabilities=rules, **options)
    with ExitStack() as stack:
        with server.inside():  # and its thread stays there
            stack.enter_context(emulator)
        stack.enter_context(client.inside())
        recorder = HookRecorder()
        plugins = [recorder, HurriedBackoff(), Reconnect(base=0.1, cap=0.5)]
        limits = short(connect=2, read=10, ready=30, greeting=20, delivery=60, reply=60)
        made = emulator.client(http=trusting(ca), plugins=plugins, timeouts=limits)
        stack.enter_context(made)
        yield Far(emulator, made, recorder)
