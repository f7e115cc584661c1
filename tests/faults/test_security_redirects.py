"""No leg follows a redirect: a second server proves that nothing is forwarded (``pitfalls.md`` 32)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fault_kit import Bench, raised
from proxy import FaultProxy

from polyai_sync import ConnectionLostError, InvalidRequestError, SessionStatus
from polyai_sync.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

STATUSES = (300, 301, 302, 303, 305, 307, 308)


@pytest.fixture
def elsewhere() -> Iterator[FaultProxy]:
    """Another origin, which knows the same connector token and would take anything."""
    with Emulator() as emulator, FaultProxy(emulator.port, framed=False) as proxy:
        yield proxy


@pytest.mark.parametrize("leg", ["access_token", "session_create", "connect"])
@pytest.mark.parametrize("status", STATUSES)
def test_a_start_ends_at_a_redirect(leg: str, status: int, bench: Bench, elsewhere: FaultProxy) -> None:
    path = {"access_token": "/api/v1/access-token", "session_create": "/api/v1/sessions", "connect": "/ws"}[leg]
    bench.faults.add("http.redirected", on=leg, status=status, location=elsewhere.url + path, times=None)
    error = raised(bench.client().start_session)
    assert isinstance(error, InvalidRequestError)
    assert (error.code, error.status, error.surface) == ("http.redirected", status, leg)
    assert elsewhere.accepted == 0
    assert len([entry for entry in bench.emulator.log if entry.surface == leg]) == 1, "and it is not tried again"


@pytest.mark.parametrize("status", STATUSES)
def test_a_reconnect_ends_at_a_redirect(status: int, bench: Bench, elsewhere: FaultProxy) -> None:
    session = bench.client().start_session()
    bench.faults.add("http.redirected", on="connect", status=status, location=elsewhere.url + "/ws", times=None)
    bench.peer.drop()
    with pytest.raises(ConnectionLostError):
        session.wait_ended(3)
    assert session.status is SessionStatus.FAILED
    assert elsewhere.accepted == 0


def test_a_resume_ends_at_a_redirect(bench: Bench, elsewhere: FaultProxy) -> None:
    state = bench.client().start_session().state
    bench.faults.add("http.redirected", on="connect", location=elsewhere.url + "/ws", times=None)
    assert raised(bench.client().resume_session, state).code == "http.redirected"
    assert elsewhere.accepted == 0


def test_a_minted_token_ends_at_a_redirect(bench: Bench, elsewhere: FaultProxy) -> None:
    bench.faults.add("http.redirected", on="access_token", location=elsewhere.url + "/api/v1/access-token")
    assert raised(bench.client().mint_access_token).code == "http.redirected"
    assert elsewhere.accepted == 0


def test_the_second_server_would_have_been_reached(bench: Bench, elsewhere: FaultProxy) -> None:
    """The proof proves something."""
    with bench.emulator.client(base_url=elsewhere.url) as client:
        assert client.mint_access_token().value
    assert elsewhere.accepted == 1
