"""A proxy that makes loopback as slow as a network. ``python -m bench.delay --to PORT --rtt 0.05`` prints its port.

What comes is passed on half a round trip later, in both directions. Loopback opens a connection in no time, and a
network in one round trip: the first bytes of each connection wait that much longer. It ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import threading
from collections import deque


class Pipe:
    """One direction of a connection: bytes in the order in which they came, each so much later."""

    def __init__(self, writer: asyncio.StreamWriter, delay: float, *, after: float = 0.0) -> None:
        self._writer = writer
        self._delay = delay
        self._under_way: deque[bytes] = deque()
        self._loop = asyncio.get_running_loop()
        self._open_at = self._loop.time() + after

    async def carry(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                data = await reader.read(65_536)
            except OSError:
                data = b""
            self._under_way.append(data)
            self._loop.call_at(max(self._loop.time(), self._open_at) + self._delay, self._arrive)
            if not data:
                await asyncio.sleep(self._delay)
                return

    def _arrive(self) -> None:
        data = self._under_way.popleft()
        if self._writer.is_closing():
            return
        if data:
            self._writer.write(data)
        else:
            self._writer.close()


async def _serve(to: int, rtt: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to)
        except OSError:
            writer.close()
            return
        for one in (writer, far_writer):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there = Pipe(far_writer, rtt / 2, after=rtt).carry(reader)
        back = Pipe(writer, rtt / 2).carry(far_reader)
        await asyncio.gather(there, back)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.delay", description=__doc__)
    parser.add_argument("--to", type=int, required=True, help="the port to pass on to")
    parser.add_argument("--rtt", type=float, required=True, help="seconds of a round trip")
    options = parser.parse_args()
    threading.Thread(target=_end_with_input, daemon=True).start()
    asyncio.run(_serve(options.to, options.rtt))


if __name__ == "__main__":
    main()
