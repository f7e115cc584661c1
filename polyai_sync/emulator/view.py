"""A session as tests see it, from any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from polyai_sync.emulator.journal import transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import EllipsisType

    from polyai_sync.emulator.agent import Action
    from polyai_sync.emulator.loop import LoopThread
    from polyai_sync.emulator.session import Session

__all__ = ["EmulatedSession"]

_T = TypeVar("_T")


class EmulatedSession:
    """The server's side of one session: what it holds, and what a test may do to it.

    Properties are snapshots. Methods return once the emulator has done what they say.
    """

    def __init__(self, session: Session, loop: LoopThread) -> None:
        self._session = session
        self._loop = loop

    @property
    def session_id(self) -> str:
        """Its id."""
        return self._session.id

    @property
    def settings(self) -> dict[str, Any]:
        """The body it was created with."""
        return dict(self._session.settings)

    @property
    def streaming(self) -> bool:
        """Does the agent's text come in chunks?"""
        return self._session.streaming

    @property
    def journal(self) -> tuple[dict[str, Any], ...]:
        """Every event that a full replay would bring, with ids and sequences."""
        return self._session.journal.events()

    @property
    def transcript(self) -> tuple[tuple[str, str], ...]:
        """``(role, text)`` of all messages, in the order in which they began; roles as in ``polyai_sync.Message``."""
        return transcript(self.journal)

    @property
    def received(self) -> tuple[dict[str, Any], ...]:
        """The clients' events that were accepted, in order, heartbeats and typing included."""
        return tuple(self._session.received)

    @property
    def refused(self) -> tuple[str, ...]:
        """The clients' frames that were not accepted, as they came."""
        return tuple(self._session.refused)

    @property
    def connections(self) -> int:
        """How many sockets are open."""
        return len(self._session.connections)

    @property
    def connections_total(self) -> int:
        """How many sockets were ever accepted."""
        return self._session.connections_total

    @property
    def joined(self) -> bool:
        """Has the agent joined?"""
        return self._session.joined

    @property
    def ended(self) -> bool:
        """Is the conversation over?"""
        return self._session.ended

    @property
    def end_reason(self) -> str | None:
        """The reason in its ``SESSION_END``."""
        return self._session.end_reason

    @property
    def agent_errors(self) -> tuple[Exception, ...]:
        """What the agent's code raised; the client saw ``agent.no_response``."""
        return tuple(self._session.turns.errors)

    def drop(self, code: int | None = None, reason: str = "") -> None:
        """Cut every connection (``code=None``: no close frame), or close it with a code."""
        self._do(lambda: self._session.drop(code, reason))

    def emit(
        self,
        type: str,  # noqa: A002 - the wire's own word
        payload: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        sequence: int | EllipsisType | None = ...,
        *,
        live: bool = True,
    ) -> dict[str, Any]:
        """Send an event to all connections and write it to the journal.

        Args:
            type: With or without ``EVENT_TYPE_``.
            payload: Its payload; ``{}`` if left out.
            metadata: Its metadata.
            sequence: Left out: the next number. ``None``: transient, not in the journal. A number: that one.
            live: ``False``: to the journal alone, as if the event had been lost on the way.

        Returns:
            The event as sent.
        """
        return dict(self._do(lambda: self._session.publish(type, payload or {}, metadata, sequence, live=live)))

    def act(self, *actions: Action | str) -> None:
        """Let the agent do something unasked, after the turns that are due; returns when it is done."""
        self._loop.wait(lambda: self._session.turns.act(actions))

    def send_raw(self, text: str) -> None:
        """Send a text frame to all connections as it is."""
        self._do(lambda: self._session.send_to_all(text))

    def send_bytes(self, data: bytes) -> None:
        """Write bytes to all sockets, past the framing."""

        def write() -> None:
            for connection in tuple(self._session.connections):
                connection.send(data)

        self._do(write)

    def end(self, reason: str | None = "REASON_NATURAL_END") -> None:
        """End the conversation: ``SESSION_END``, close 1000."""
        self._do(lambda: self._session.end(reason))

    def expire(self) -> None:
        """Let the session be gone, as after ten idle minutes: 4001 now, 404 from now on."""
        self._do(self._session.expire)

    def _do(self, call: Callable[[], _T]) -> _T:
        return self._loop.call(call)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EmulatedSession) and other._session is self._session

    def __hash__(self) -> int:
        return hash(self.session_id)

    def __repr__(self) -> str:
        return f"<EmulatedSession {self.session_id} {len(self._session.journal.entries)} events>"
