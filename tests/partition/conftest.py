"""Fixtures of the partition tests, and what was measured."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lab import Cable, NotAllowedError, Place, cable, lossy_wire
from tls import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FIGURES = pytest.StashKey[list[dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", type=Path, help="write what the partition tests measured to this file, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    figures = config.stash[_FIGURES]
    for row in figures:
        terminalreporter.write_line("  ".join(f"{name} {value}" for name, value in row.items()))
    if path := config.getoption("--figures", default=None):
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Note what was measured: printed at the end, and written where ``--figures`` says."""
    return lambda **row: request.config.stash[_FIGURES].append(row)


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    """A certificate authority of this test's: clear text is for loopback alone."""
    return Authority(tmp_path)


@pytest.fixture
def wire() -> Iterator[Cable]:
    """A cable between two places."""
    with ExitStack() as stack:
        yield _or_skip(stack, cable())


@pytest.fixture
def make_lossy() -> Iterator[Callable[[float], tuple[Place, Place, str]]]:
    """Two places between which so many percent of the packets are lost: by netem, or by a relay where there is none."""
    with ExitStack() as stack:

        def make(percent: float) -> tuple[Place, Place, str]:
            try:
                made = stack.enter_context(cable())
                made.lose(percent)
            except NotAllowedError:
                server, client, _ = _or_skip(stack, lossy_wire(percent, seed=20260))
                return server, client, "relay"
            return made.server, made.client, "netem"

        yield make


def _or_skip(stack: ExitStack, made: Any) -> Any:
    try:
        return stack.enter_context(made)
    except NotAllowedError as error:
        pytest.skip(f"two network namespaces with a wire between them cannot be made here: {error}")
