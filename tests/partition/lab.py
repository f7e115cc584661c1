"""Two machines and the wire between them: network namespaces of this process, and a cable that can be pulled.

A namespace is held by a descriptor and by nothing else: nothing is named, nothing is left behind, whatever way the
process ends. A thread goes into one with `Place.inside`; threads and processes that it starts there stay there.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import select
import shutil
import struct
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from attrs import define, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CLIENT", "SERVER", "Cable", "NotAllowedError", "Place", "cable", "lossy_wire"]

SERVER: Final = "10.203.77.1"
CLIENT: Final = "10.203.77.2"

_NEW_NET: Final = 0x40000000  # CLONE_NEWNET
_OWN: Final = "/proc/thread-self/ns/net"
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class NotAllowedError(Exception):
    """The kernel, or who runs this, does not allow it; the text says what was refused."""


def _refusal(what: str, error: OSError) -> NotAllowedError:
    hint = "" if os.geteuid() == 0 else "; try: unshare --map-root-user --net tox -e partition"
    return NotAllowedError(f"{what}: {error.strerror}{hint}")


@frozen
class Place:
    """A network namespace, with the loopback device up."""

    descriptor: int

    @classmethod
    @contextmanager
    def made(cls) -> Iterator[Place]:
        """A new one, as long as it is needed."""
        home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _LIBC.unshare(_NEW_NET):
                number = ctypes.get_errno()
                raise _refusal("unshare(CLONE_NEWNET)", OSError(number, os.strerror(number)))
            descriptor = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
            _enter(home)
        finally:
            os.close(home)
        try:
            place = cls(descriptor)
            place.run("ip", "link", "set", "lo", "up")
            yield place
        finally:
            os.close(descriptor)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is there, with whatever it starts."""
        with _kept():
            _enter(self.descriptor)
            yield

    def run(self, *command: str) -> None:
        """Run a program there.

        Raises:
            NotAllowedError: It is not installed, or failed.
        """
        if shutil.which(command[0]) is None:
            raise NotAllowedError(f"`{command[0]}` is not installed (package iproute2)")
        with self.inside():
            ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise NotAllowedError(f"`{' '.join(command)}`: {ran.stderr.strip()}")

    @property
    def path(self) -> str:
        """A name by which another program finds it."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"


@contextmanager
def _kept() -> Iterator[None]:
    """Bring this thread back afterwards."""
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _enter(home)
        os.close(home)


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _NEW_NET):
        number = ctypes.get_errno()
        raise _refusal("setns", OSError(number, os.strerror(number)))


# --- a cable -------------------------------------------------------------------------------------------------------


@frozen
class Cable:
    """A pair of virtual network cards, one in each place."""

    server: Place
    client: Place

    def _end(self, name: str) -> tuple[Place, str]:
        return (self.server, "polyai-s") if name == "server" else (self.client, "polyai-c")

    def pull(self, end: str) -> None:
        """Take the link down at one end: ``server`` or ``client``."""
        place, card = self._end(end)
        place.run("ip", "link", "set", card, "down")

    def plug(self, end: str) -> None:
        """Bring it up again."""
        place, card = self._end(end)
        place.run("ip", "link", "set", card, "up")

    def lose(self, percent: float) -> None:
        """Let so many of the packets be lost, in both directions.

        Raises:
            NotAllowedError: The kernel has no netem.
        """
        for place, card in (self._end("server"), self._end("client")):
            place.run("tc", "qdisc", "add", "dev", card, "root", "netem", "loss", f"{percent}%")


@contextmanager
def cable() -> Iterator[Cable]:
    """Two places and a cable between them.

    Raises:
        NotAllowedError: Namespaces or virtual cards are not allowed here.
    """
    with Place.made() as server, Place.made() as client:
        made = Cable(server, client)
        peer = ("peer", "name", "polyai-c", "netns", client.path)
        server.run("ip", "link", "add", "polyai-s", "type", "veth", *peer)
        server.run("ip", "address", "add", f"{SERVER}/24", "dev", "polyai-s")
        client.run("ip", "address", "add", f"{CLIENT}/24", "dev", "polyai-c")
        made.plug("server")
        made.plug("client")
        yield made


# --- a wire that loses packets -------------------------------------------------------------------------------------

_TUNSETIFF: Final = 0x400454CA
_PACKETS: Final = 0x0001 | 0x1000  # IFF_TUN, IFF_NO_PI


@define(eq=False)
class _Relay:
    """Carries packets between two cards and loses some: what netem does, where the kernel has none."""

    ends: tuple[int, int]
    share: float
    chance: random.Random
    lost: int = 0
    passed: int = 0

    def run(self, bell: int) -> None:
        """Until the bell rings."""
        others = dict(zip(self.ends, reversed(self.ends), strict=True))
        while True:
            ready, _, _ = select.select([*self.ends, bell], [], [])
            if bell in ready:
                return
            for end in ready:
                packet = os.read(end, 65536)
                if self.chance.random() < self.share:
                    self.lost += 1
                else:
                    self.passed += 1
                    os.write(others[end], packet)


def _card(place: Place, own: str, other: str) -> int:
    """A card whose packets this process reads and writes."""
    with place.inside():
        try:
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", b"polyai-t", _PACKETS))
        except OSError as error:
            raise _refusal("/dev/net/tun", error) from error
    place.run("ip", "address", "add", own, "peer", other, "dev", "polyai-t")
    place.run("ip", "link", "set", "polyai-t", "up")
    return descriptor


@contextmanager
def lossy_wire(percent: float, seed: int) -> Iterator[tuple[Place, Place, _Relay]]:
    """Two places and a wire that loses so many packets, in both directions.

    Raises:
        NotAllowedError: Namespaces or cards of a program's own are not allowed here.
    """
    with ExitStack() as stack:
        server, client = stack.enter_context(Place.made()), stack.enter_context(Place.made())
        ends = (_card(server, SERVER, CLIENT), _card(client, CLIENT, SERVER))
        for end in ends:
            stack.callback(os.close, end)
        bell, ringer = os.pipe()
        stack.callback(os.close, bell)
        stack.callback(os.close, ringer)
        relay = _Relay(ends, percent / 100, random.Random(seed))
        thread = threading.Thread(target=relay.run, args=(bell,), name="lossy-wire", daemon=True)
        thread.start()
        stack.callback(thread.join, 5)
        stack.callback(os.write, ringer, b"\0")
        yield server, client, relay
