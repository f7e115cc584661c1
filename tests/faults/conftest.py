"""Fixtures of the fault suites."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from fault_kit import bench as bench
from fault_kit import make_bench as make_bench
from line_kit import Line
from proxy import FaultProxy
from tls import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fault_kit import Bench


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    """A certificate authority of this test's."""
    return Authority(tmp_path)


@pytest.fixture
def make_line(make_bench: Callable[..., Bench]) -> Iterator[Callable[..., Line]]:
    """Benches with a fault proxy in front; ``tls`` is an authority in whose name the proxy speaks TLS."""
    with ExitStack() as stack:

        def make(*, tls: Authority | None = None, **options: Any) -> Line:
            bench = make_bench(**options)
            proxy = stack.enter_context(FaultProxy(bench.emulator.port, tls=tls.server() if tls else None))
            stack.callback(bench.close)
            return Line(bench, proxy, tls)

        yield make


@pytest.fixture
def line(make_line: Callable[..., Line]) -> Line:
    """A bench behind a proxy; heartbeats every second, so that a dead line is noticed in 2.5."""
    return make_line(capabilities={"heartbeat_interval_seconds": 1})
