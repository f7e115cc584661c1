"""A bench with a fault proxy between client and emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen
from proxy import HOLE, Connection, Death, FaultProxy, Flow, Strike
from tls import Authority, trusting

from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from fault_kit import Bench

    from polyai_sync import Client, Session

__all__ = ["DEAF", "Line", "at_frame"]

DEAF = Death("nothing comes down any more", lambda one: one.lanes["down"].set(Flow(hole=True)))
"""The client is heard, and hears nothing."""


@frozen
class Line:
    """A bench, and the proxy that its clients go through."""

    bench: Bench
    proxy: FaultProxy
    ca: Authority | None = None

    def client(self, **options: Any) -> Client:
        """As the bench's, through the proxy."""
        if self.ca is not None:
            options.setdefault("http", trusting(self.ca))
        return self.bench.client(**{"base_url": self.proxy.url, **options})

    def bare(self, **options: Any) -> Client:
        """Without any policy."""
        return self.client(**{"plugins": [self.bench.recorder], "load_plugins": False, **options})

    def started(self, **options: Any) -> Session:
        """A session whose greeting has been read."""
        session = self.client(**options).start_session()
        session.next_message()
        return session

    @property
    def socket(self) -> Connection:
        """The latest WebSocket."""
        return [one for one in self.proxy.connections if one.websocket][-1]

    def kill(self, death: Death = HOLE) -> None:
        """Let the WebSocket die."""
        self.proxy.kill(death, connection=self.socket.ordinal)

    def back(self, session: Session, connections: int, timeout: float = 5.0) -> None:
        """Wait until the session is open on its so-manieth socket."""
        wait_until(lambda: self.bench.peer.connections_total == connections and session.status == "OPEN", timeout)


def at_frame(line: Line, direction: Any, marker: str, death: Death, **options: Any) -> Strike:
    """Let the connection die at a frame."""
    return line.proxy.strike(direction, marker, death, **options)
