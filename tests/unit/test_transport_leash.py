"""Cutting short what another thread waits for on the network."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from fault_kit import Caller, within
from proxy import FaultProxy

from polyai_sync import ConnectionFailedError
from polyai_sync.config import resolve_settings
from polyai_sync.testing import wait_until
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.http import HttpTransport
from polyai_sync.transport.leash import Leash, holding

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def receive(leash: Leash, sock: socket.socket, begun: threading.Event) -> bytes:
    with leash.on_this_thread(), holding(sock):
        begun.set()
        return sock.recv(1)


def test_pulling_ends_a_wait_at_once(pair: Any) -> None:
    leash, begun = Leash(), threading.Event()
    waiting = Caller(receive, leash, pair[0], begun)
    begun.wait(5)
    with within(1):
        leash.pull()
        assert waiting.result() == b""


def test_pulled_leash_lets_nothing_begin(pair: Any) -> None:
    leash = Leash()
    leash.pull()
    leash.pull()
    with leash.on_this_thread(), pytest.raises(ConnectionAbortedError), holding(pair[0]):
        pass
    pair[1].send(b"x")
    assert pair[0].recv(1) == b"x"  # it was left alone


def test_thread_on_no_leash_is_not_cut(pair: Any) -> None:
    leash = Leash()
    with leash.on_this_thread():
        pass
    with holding(pair[0]):
        leash.pull()
        pair[1].send(b"x")
        assert pair[0].recv(1) == b"x"


def test_leash_of_one_thread_is_not_anothers(pair: Any) -> None:
    mine, begun = Leash(), threading.Event()
    with mine.on_this_thread():
        waiting = Caller(receive, Leash(), pair[0], begun)
        begun.wait(5)
        mine.pull()
        pair[1].send(b"x")
        assert waiting.result() == b"x"


def test_connection_is_cut_although_its_socket_was_wrapped_meanwhile(pair: Any) -> None:
    """TLS takes the descriptor over and leaves the plain socket without one."""
    leash = Leash()
    with leash.on_this_thread(), holding(pair[0]):
        wrapped = socket.socket(fileno=pair[0].detach())
        leash.pull()
        with wrapped:
            assert wrapped.recv(1) == b""


def test_nothing_is_kept_open(pair: Any) -> None:
    leash = Leash()
    before = len(os.listdir("/dev/fd"))
    with leash.on_this_thread():
        for _ in range(5):
            with holding(pair[0]):
                pass
    assert len(os.listdir("/dev/fd")) == before
    with leash.on_this_thread(), holding(pair[0]):
        leash.abandon()
        assert len(os.listdir("/dev/fd")) == before


def test_request_that_is_cut_while_it_connects_has_failed() -> None:
    """Linux resets a connect that is cut, and urllib3 would read an answer then."""
    with FaultProxy(target=9) as proxy:
        proxy.unreachable()
        transport = HttpTransport(resolve_settings("token", "localhost", base_url=proxy.url))
        leash, begun = Leash(), threading.Event()

        def mint() -> None:
            with leash.on_this_thread():
                begun.set()
                transport.mint_access_token(
                    deadline=Deadline.after(10), attempt=1, correlation_id="test", observer=None
                )

        minting = Caller(mint)
        begun.wait(5)
        wait_until(lambda: leash._held)
        with within(1):
            leash.pull()
            with pytest.raises(ConnectionFailedError):
                minting.result()


def test_held_connection_that_broke_is_no_error(pair: Any) -> None:
    leash = Leash()
    with leash.on_this_thread(), holding(pair[0]):
        pair[0].shutdown(socket.SHUT_RDWR)
        pair[1].close()
        leash.pull()
    wait_until(lambda: pair[0].recv(1) == b"")
