"""A TCP proxy whose manners a test decides, live: what a network, a load balancer or a dying server does to bytes.

One thread with a selector; every change made through it has been carried out when the call returns, and whatever a
test waits for it waits for by condition. ``up`` is client to server, ``down`` is server to client::

    with FaultProxy(emulator.port) as proxy:
        proxy.set("down", Flow(hole=True))             # a black hole: no bytes, no FIN, no RST
        strike = proxy.strike("down", "POLY_AGENT_MESSAGE", RESET, when="inside")
        proxy.kill(close_with(1012))
"""

from __future__ import annotations

import queue
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

from proxy_pipes import (
    CLOSE,
    CUT_OFF,
    HOLE,
    RESET,
    Connection,
    Death,
    Direction,
    End,
    Flow,
    Strike,
    When,
    answer_with,
    close_with,
    half_close,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

__all__ = [
    "CLOSE",
    "CUT_OFF",
    "HOLE",
    "RESET",
    "Connection",
    "Death",
    "FaultProxy",
    "Flow",
    "Strike",
    "answer_with",
    "close_with",
    "half_close",
]


class FaultProxy:
    """Stands on a port of 127.0.0.1 in front of another one.

    Args:
        target: The port of the server on 127.0.0.1.
        tls: Speak TLS with clients (and clear text with the server), so that `strike` can read what passes. Without
            it TLS passes through, unread.
        framed: Cut the streams into HTTP messages and frames; `strike` needs it. A unit is passed on once it is whole.
    """

    def __init__(self, target: int, *, tls: ssl.SSLContext | None = None, framed: bool = True) -> None:
        self.target = target
        self.tls = tls
        self.framed = framed
        self.accepted = 0
        self.errors: list[BaseException] = []
        self._flows: dict[tuple[str, int | None], Flow] = {}
        self._on_accept: dict[int | None, Death] = {}
        self._strikes: list[Strike] = []
        self._connections: dict[int, Connection] = {}
        self._lingering: set[Connection] = set()
        self._changed = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._fillers: list[socket.socket] = []
        self._listener: socket.socket | None = self._bound(0)
        self._placeholder: socket.socket | None = None
        self.port: int = self._listener.getsockname()[1]
        self._listener.listen(128)
        self._running = False
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    @property
    def url(self) -> str:
        """The base URL for a client; for TLS that passes through, say ``https`` yourself."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Those that are open, by ordinal, from 1."""
        return tuple(self._connections.values())

    # --- what a test decides ---

    def set(self, direction: Direction | Literal["both"], flow: Flow, connection: int | None = None) -> None:
        """Let the bytes of a direction travel so, on every connection, open and to come; or on one of them."""
        directions = ("up", "down") if direction == "both" else (direction,)

        def change() -> None:
            for one in directions:
                self._flows[one, connection] = flow
                if connection is None:
                    for key in [key for key in self._flows if key[0] == one and key[1] is not None]:
                        del self._flows[key]
                for open_one in self.connections:
                    if connection in (None, open_one.ordinal):
                        open_one.lanes[one].set(flow)

        self._do(change)

    def heal(self) -> None:
        """Everything passes again; what waited in a hole goes on its way, and nothing strikes any more."""
        self._do(self._strikes.clear)
        self._do(self._on_accept.clear)
        self.set("both", Flow())

    def kill(self, death: Death, connection: int | None = None) -> None:
        """Let the open connections die; or one of them."""

        def strike() -> None:
            for one in self.connections:
                if connection in (None, one.ordinal):
                    death.strike(one)

        self._do(strike)

    def strike(
        self,
        direction: Direction,
        marker: str | bytes,
        death: Death,
        *,
        when: When = "before",
        skip: int = 0,
        connection: int | None = None,
    ) -> Strike:
        """Let a connection die at a certain HTTP message or frame, once."""
        assert self.framed, "only a proxy that reads can tell one frame from another"
        strike = Strike(
            direction, marker.encode() if isinstance(marker, str) else marker, death, when, skip, connection
        )
        self._do(lambda: self._strikes.append(strike))
        return strike

    def disarm(self, strike: Strike) -> None:
        """Let a strike that has not fired never do."""
        self._do(lambda: self._strikes.remove(strike) if strike in self._strikes else None)

    def on_accept(self, death: Death | None, connection: int | None = None) -> None:
        """Let connections die as soon as they are accepted; or the one of that ordinal. ``None``: let them live."""
        if death is None:
            self._do(lambda: self._on_accept.pop(connection, None))
        else:
            self._do(lambda: self._on_accept.update({connection: death}))

    def refuse(self) -> None:
        """Refuse connections: nobody listens."""

        def close() -> None:
            if self._listener is not None:
                self._placeholder = self._bound(self.port)  # so that nobody else takes the port meanwhile
                self._selector.unregister(self._listener)
                self._listener.close()
                self._listener = None

        self._do(close)

    def unreachable(self) -> None:
        """Let connecting hang: the queue of the port is full, and SYNs are dropped."""
        self.refuse()

        def fill() -> None:
            assert self._placeholder is not None
            self._placeholder.listen(0)
            while True:
                filler = socket.socket()
                filler.settimeout(0.1)
                self._fillers.append(filler)
                try:
                    filler.connect(("127.0.0.1", self.port))
                except TimeoutError:
                    return

        self._do(fill)

    def listen(self) -> None:
        """Accept connections again."""

        def reopen() -> None:
            if self._listener is None:
                for filler in self._fillers:
                    filler.close()
                self._fillers.clear()
                assert self._placeholder is not None
                self._listener, self._placeholder = self._placeholder, None
                self._listener.listen(128)
                self._selector.register(self._listener, selectors.EVENT_READ, None)

        self._do(reopen)

    def inject(self, data: bytes, connection: int | None = None) -> None:
        """Send the client something that the server did not say."""

        def write() -> None:
            for one in self.connections:
                if connection in (None, one.ordinal):
                    one.client.write(data)

        self._do(write)

    # --- what a test waits for ---

    def wait_for(self, condition: Callable[[], Any], timeout: float = 5.0) -> Any:
        """Wait until something holds that the proxy does or counts."""
        with self._changed:
            value = self._changed.wait_for(condition, timeout)
        assert value, f"the proxy did not see it within {timeout} s"
        return value

    def wait_struck(self, strike: Strike, timeout: float = 5.0) -> None:
        """Wait until a strike has fired."""
        self.wait_for(lambda: strike.fired, timeout)

    def wait_connections(self, count: int, timeout: float = 5.0) -> None:
        """Wait until so many connections are open."""
        self.wait_for(lambda: len(self._connections) == count, timeout)

    def wait_accepted(self, count: int, timeout: float = 5.0) -> None:
        """Wait until so many connections have been accepted in all."""
        self.wait_for(lambda: self.accepted >= count, timeout)

    # --- life ---

    def start(self) -> FaultProxy:
        """Start the thread."""
        self._running = True
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close everything, and join the thread; what went wrong in it is raised here."""
        if self._running:
            self._running = False
            self._ringer.send(b"\0")
            self._thread.join(5)
            assert not self._thread.is_alive()
        for sock in (self._bell, self._ringer, self._listener, self._placeholder, *self._fillers):
            if sock is not None:
                sock.close()
        self._selector.close()
        if self.errors:
            raise self.errors[0]

    def __enter__(self) -> FaultProxy:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- the thread ---

    @staticmethod
    def _bound(port: int) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        sock.setblocking(False)
        return sock

    def _do(self, command: Callable[[], Any]) -> None:
        """Have the thread do it, and wait until it has."""
        if threading.current_thread() is self._thread or not self._running:
            command()
            return
        done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def run() -> None:
            try:
                command()
            except BaseException as error:
                done.put(error)
            else:
                done.put(None)

        self._commands.put(run)
        self._ringer.send(b"\0")
        error = done.get(timeout=10)
        if error is not None:
            raise error

    def _run(self) -> None:
        self._selector.register(self._bell, selectors.EVENT_READ)
        if self._listener is not None:
            self._selector.register(self._listener, selectors.EVENT_READ)
        try:
            while self._running:
                self._turn()
        except BaseException as error:  # for `stop` to raise
            self.errors.append(error)
        finally:
            for one in (*self.connections, *self._lingering):
                self._close(one)

    def _turn(self) -> None:
        now = time.monotonic()
        dues = []
        for one in self.connections:
            self._watch(one.client, one, reading=not (one.lanes["up"].over or one.lanes["up"].full))
            self._watch(one.server, one, reading=not (one.lanes["down"].over or one.lanes["down"].full))
            dues += [due for lane in one.lanes.values() if (due := lane.due()) is not None]
        for key, _ in self._selector.select(max(0.0, min(dues) - now) if dues else None):
            if key.data is not None:
                connection, end = key.data
                if not connection.closed or connection.lingering:
                    connection.serve(end, self._strikes, time.monotonic())
            elif key.fileobj is self._bell:
                self._bell.recv(4096)
            else:
                self._accept()
        while not self._commands.empty():
            self._commands.get()()
        for one in self.connections:
            one.pump(time.monotonic())
        with self._changed:
            self._changed.notify_all()

    def _watch(self, end: End, one: Connection, *, reading: bool) -> None:
        """Register what a socket waits for."""
        wanted = selectors.EVENT_WRITE if end.out else 0
        if reading and not end.dead:
            wanted |= selectors.EVENT_READ
        known = self._selector.get_map().get(end.sock)
        if known is not None and known.events != wanted:
            self._selector.unregister(end.sock)
            known = None
        if wanted and known is None:
            self._selector.register(end.sock, wanted, (one, end))

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, peer = self._listener.accept()
        except BlockingIOError:
            return
        ordinal = self.accepted + 1
        server = socket.socket()
        try:
            server.connect(("127.0.0.1", self.target))
        except OSError:  # the server is down, and so are we
            server.close()
            sock.close()
            return
        for one in (sock, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.setblocking(False)
        flows = {
            one: self._flows.get((one, ordinal)) or self._flows.get((one, None)) or Flow() for one in ("up", "down")
        }
        connection = Connection(
            ordinal,
            peer,
            End(sock, self.tls),
            End(server, None),
            flows,
            framed=self.framed,
            left=lambda: self._left(connection),
        )
        self._connections[ordinal] = connection
        self.accepted = ordinal
        death = self._on_accept.get(ordinal) or self._on_accept.get(None)
        if death is not None:
            death.strike(connection)

    def _left(self, one: Connection) -> None:
        """A connection is over, or one more of its sockets is."""
        self._connections.pop(one.ordinal, None)
        if not one.lingering:
            self._close(one)
            return
        self._lingering.add(one)
        for end in (one.client, one.server):
            self._watch(end, one, reading=True)

    def _close(self, one: Connection) -> None:
        self._lingering.discard(one)
        self._connections.pop(one.ordinal, None)
        for end in (one.client, one.server):
            if end.sock.fileno() >= 0 and end.sock in self._selector.get_map():
                self._selector.unregister(end.sock)
            end.sock.close()
