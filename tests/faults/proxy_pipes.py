"""One connection through the fault proxy: how its bytes travel, and how it dies."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections import deque
from typing import TYPE_CHECKING, Literal

from attrs import define, evolve, field, frozen
from proxy_units import Unit, Units, close_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "CHUNK",
    "CLOSE",
    "CUT_OFF",
    "HOLE",
    "RESET",
    "Connection",
    "Death",
    "Direction",
    "End",
    "Flow",
    "Strike",
    "When",
    "answer_with",
    "close_with",
    "half_close",
]

Direction = Literal["up", "down"]
When = Literal["before", "inside", "after"]

CHUNK = 65536
_FULL = 256 * 1024
"""Bytes that wait in one direction before its sender is not read any more."""


@frozen(kw_only=True)
class Flow:
    """How the bytes of one direction travel.

    Attributes:
        hole: Nothing passes, neither bytes nor the end; what comes waits, as in a network that has gone away.
        delay: Seconds on the way.
        rate: Bytes a second.
        split: Bytes of one write; 1 = every byte by itself.
        cut_at: After so many more bytes the connection dies ...
        death: ... like this.
    """

    hole: bool = False
    delay: float = 0.0
    rate: float | None = None
    split: int | None = None
    cut_at: int | None = None
    death: Death | None = None


@frozen
class Death:
    """A way for a connection to die."""

    name: str
    strike: Callable[[Connection], None]

    def __str__(self) -> str:
        return self.name


@define(eq=False)
class Strike:
    """A death that waits for its moment.

    Attributes:
        marker: What the HTTP message or frame must contain.
        death: What happens then.
        when: ``before`` the unit passes (it is lost), ``inside`` (half of it has passed), ``after`` it has.
        skip: How many such units pass first.
        fired: How often it has struck.
    """

    direction: Direction
    marker: bytes
    death: Death
    when: When
    skip: int
    connection: int | None
    fired: int = field(default=0, init=False)

    def wants(self, direction: Direction, ordinal: int, unit: Unit) -> bool:
        """Is this its moment?"""
        if direction != self.direction or self.connection not in (None, ordinal) or self.marker not in unit.text:
            return False
        if self.skip:
            self.skip -= 1
            return False
        return True


class End:
    """One socket, its bytes on their way out, and TLS where the proxy is the one who speaks it."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        self.sock = sock
        self.out = bytearray()
        self.dead = False
        self.ended = False  # nothing more will be written
        self._finished = False
        self._tls: ssl.SSLObject | None = None
        if tls is not None:
            self._inward, self._outward = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = tls.wrap_bio(self._inward, self._outward, server_side=True)
            self._greeted = False
            self._early = bytearray()

    def read(self) -> bytes | None:
        """What has come; empty at the end, ``None`` where there is nothing to tell yet."""
        data = self.sock.recv(CHUNK)
        if self._tls is None or not data:
            return data
        self._inward.write(data)
        clear = b""
        try:
            if not self._greeted:
                self._tls.do_handshake()
                self._greeted = True
                if self._early:
                    self._tls.write(self._early)
            while piece := self._tls.read(CHUNK):
                clear += piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            return clear
        except ssl.SSLError:
            self.out += self._outward.read()  # the alert
            return b""
        self.out += self._outward.read()
        return clear or None

    def write(self, data: bytes) -> None:
        """Put bytes on their way."""
        if self._tls is None:
            self.out += data
        elif not self._greeted:
            self._early += data
        else:
            self._tls.write(data)
            self.out += self._outward.read()

    def say_goodbye(self) -> None:
        """End TLS politely."""
        if self._tls is not None and self._greeted:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self.out += self._outward.read()

    def flush(self) -> None:
        """Write what goes now; an end that is waited for comes behind the last byte."""
        try:
            while self.out:
                del self.out[: self.sock.send(self.out)]
            if self.ended and not self._finished:
                self._finished = True
                self.sock.shutdown(socket.SHUT_WR)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:  # the peer has gone; the reader meets it
            self.out.clear()
            self._finished = True

    def end(self) -> None:
        """FIN, behind what is still on its way out."""
        self.ended = True
        self.flush()

    def arm_reset(self) -> None:
        """Let the coming close be a reset."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Lane:
    """One direction of one connection."""

    def __init__(self, source: End, sink: End, flow: Flow, units: Units | None) -> None:
        self.source = source
        self.sink = sink
        self.units = units
        self.seen = 0
        self.passed = 0
        self.over = False  # the source has ended
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self.set(flow)

    @property
    def full(self) -> bool:
        """Does so much wait that its sender is not to be read?"""
        return self._size >= _FULL

    def set(self, flow: Flow) -> None:
        """Let bytes travel like this from now on."""
        self.flow = flow
        self._since = self.passed
        self._next_at = 0.0

    def put(self, data: bytes, now: float) -> None:
        """Bytes have come."""
        self._waiting.append((now + self.flow.delay, data))
        self._size += len(data)

    def due(self) -> float | None:
        """When something may pass; ``None`` where nothing is known to."""
        if self.flow.hole or not self._waiting or self.sink.out:
            return None
        return max(self._waiting[0][0], self._next_at)

    def pump(self, now: float) -> Death | None:
        """Let pass what is due. The death that this brought on, if it did."""
        while (due := self.due()) is not None and due <= now:
            ready_at, data = self._waiting.popleft()
            flow, size = self.flow, len(data)
            if flow.cut_at is not None:
                size = min(size, flow.cut_at - (self.passed - self._since))
            if flow.split is not None:
                size = min(size, flow.split)
            if flow.rate is not None:
                size = min(size, max(1, int(flow.rate / 50)))
                self._next_at = now + size / flow.rate
            if size < len(data):
                self._waiting.appendleft((ready_at, data[size:]))
            self._pass(data[:size])
            if flow.cut_at is not None and self.passed - self._since >= flow.cut_at:
                self.flow = evolve(flow, cut_at=None)
                return flow.death or RESET
        if self.over and not (self._waiting or self.flow.hole or self.sink.ended or self.sink.out):
            if self.units is not None and self.units.rest:
                self._pass(self.units.rest)
            self.end()
        return None

    def rush(self) -> None:
        """Let pass at once what waits, whatever the delay."""
        while self._waiting and not self.flow.hole:
            self._pass(self._waiting.popleft()[1])

    def lose(self) -> None:
        """Throw away what waits."""
        self._waiting.clear()
        self._size = 0

    def end(self) -> None:
        """FIN for the receiver."""
        self.sink.say_goodbye()
        self.sink.end()

    def _pass(self, data: bytes) -> None:
        self._size = max(0, self._size - len(data))
        self.passed += len(data)
        if not self.sink.ended:
            self.sink.write(data)
            self.sink.flush()


class Connection:
    """One connection through the proxy. Its methods are the deaths; they run on the proxy's thread.

    Attributes:
        ordinal: Which one it is, from 1.
        peer: The client's address.
        closed: Is it over?
        lingering: Has it been finished, and its peers have not gone yet?
    """

    def __init__(
        self,
        ordinal: int,
        peer: tuple[str, int],
        client: End,
        server: End,
        flows: Mapping[str, Flow],
        *,
        framed: bool,
        left: Callable[[], None],
    ) -> None:
        self.ordinal = ordinal
        self.peer = peer
        self.client = client
        self.server = server
        self.closed = False
        self.lingering = False
        self.lanes = {
            "up": Lane(client, server, flows["up"], Units() if framed else None),
            "down": Lane(server, client, flows["down"], Units() if framed else None),
        }
        self._left = left

    @property
    def websocket(self) -> bool:
        """Has it been upgraded? Known to a proxy that reads."""
        units = self.lanes["down"].units
        return units is not None and units.frames

    @property
    def up(self) -> int:
        """Bytes that have passed from the client to the server."""
        return self.lanes["up"].passed

    @property
    def down(self) -> int:
        """Bytes that have passed from the server to the client."""
        return self.lanes["down"].passed

    @property
    def sent_by_client(self) -> int:
        """Bytes that the client has sent, whether or not they have passed."""
        return self.lanes["up"].seen

    @property
    def sent_by_server(self) -> int:
        """Bytes that the server has sent, whether or not they have passed."""
        return self.lanes["down"].seen

    # --- deaths ---

    def reset(self) -> None:
        """RST to both sides."""
        for end in (self.client, self.server):
            end.arm_reset()
        self.closed = True
        self._left()

    def finish(self, last_words: bytes = b"", *, politely: bool = True) -> None:
        """FIN to both sides, after what was on its way to the client, and some last words."""
        if last_words:
            self.client.write(last_words)
        if politely:
            self.client.say_goodbye()
        for end in (self.client, self.server):
            end.end()
        # Not closed yet: with bytes unread the close would be a reset, and the last words would be lost on the way.
        self.closed = self.lingering = True
        self._left()

    def vanish(self) -> None:
        """A black hole in both directions from now on; what was on its way is in it."""
        for lane in self.lanes.values():
            lane.set(Flow(hole=True))
            lane.lose()

    def half_close(self, direction: Direction) -> None:
        """FIN in one direction; the other one goes on."""
        lane = self.lanes[direction]
        lane.over = True
        lane.lose()
        lane.end()

    # --- the proxy's thread ---

    def serve(self, end: End, strikes: list[Strike], now: float) -> None:
        """One of the two sockets can be read or written."""
        end.flush()
        direction: Direction = "up" if end is self.client else "down"
        lane = self.lanes[direction]
        if self.lingering:
            self._drain(end)
            return
        if lane.over or lane.full:
            return
        try:
            data = end.read()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # the peer is gone; in a hole nobody learns of it
            end.dead = lane.over = True
            if not lane.flow.hole:
                self.reset()
            return
        if data is None:
            return
        lane.over = not data
        lane.seen += len(data)
        if lane.units is None:
            lane.put(data, now)
            return
        for unit in lane.units.feed(data):
            waiting = () if lane.flow.hole else strikes
            strike = next((one for one in waiting if one.wants(direction, self.ordinal, unit)), None)
            if strike is None:
                lane.put(unit.raw, now)
            else:
                strikes.remove(strike)
                self._struck(lane, unit, strike, now)
                if self.closed:
                    return

    def pump(self, now: float) -> None:
        """Let pass what is due, and end where both sides have."""
        for lane in self.lanes.values():
            death = lane.pump(now)
            if death is not None:
                death.strike(self)
            if self.closed:
                return
        if all(lane.over and lane.sink.ended for lane in self.lanes.values()) and not (
            self.client.out or self.server.out
        ):
            self.closed = True
            self._left()

    def _struck(self, lane: Lane, unit: Unit, strike: Strike, now: float) -> None:
        part = {"before": 0, "inside": max(1, len(unit.raw) // 2), "after": len(unit.raw)}[strike.when]
        if part:
            lane.put(unit.raw[:part], now)
        lane.rush()  # what is in front of it is there first, whatever the delay
        strike.fired += 1  # first: the client may be told of its death before this thread goes on
        strike.death.strike(self)

    def _drain(self, end: End) -> None:
        """Read what a finished connection's peer still says, until it has gone too."""
        try:
            if end.sock.recv(CHUNK):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        end.dead = True
        if self.client.dead and self.server.dead:
            self.lingering = False
        self._left()


RESET = Death("RST", Connection.reset)
CLOSE = Death("FIN", Connection.finish)
CUT_OFF = Death("FIN without a word of TLS", lambda connection: connection.finish(politely=False))
HOLE = Death("black hole", Connection.vanish)


def close_with(code: int | None, reason: str = "") -> Death:
    """A WebSocket close frame to the client, then FIN; without a code for ``None``."""
    return Death(f"close {code}", lambda connection: connection.finish(close_frame(code, reason)))


def answer_with(data: bytes) -> Death:
    """Some bytes to the client instead of the server's, then FIN."""
    return Death("answer", lambda connection: connection.finish(data))


def half_close(direction: Direction) -> Death:
    """FIN in one direction."""
    return Death(f"half close {direction}", lambda connection: connection.half_close(direction))
