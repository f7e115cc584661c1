"""Ctrl-C and SIGTERM in every phase of a conversation, against a peer that has fallen silent (``pitfalls.md`` 27).

What a signal does to the other waits, whose peer answers, is held by the unit tests.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from phases import PHASES, Silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from programs import Program
    from proxy import FaultProxy

    from polyai_sync.emulator import Emulator

OBEYED = 1.0
"""Seconds in which a signal has to be obeyed, at the latest."""

GONE = 2.0
"""Seconds in which an interpreter with nothing left to do is gone, on a busy machine."""

SIGNALS = {
    "ctrl-c": (signal.SIGINT, "except KeyboardInterrupt:", ""),
    "sigterm": (signal.SIGTERM, "except SystemExit:", "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))"),
}
"""What is sent, what it raises, and what the program has to do for it."""


@pytest.mark.parametrize("sent", SIGNALS)
@pytest.mark.parametrize("name", PHASES)
def test_signal_is_obeyed_within_a_second(
    name: str, sent: str, run: Callable[..., Program], emulator: Emulator, proxy: FaultProxy
) -> None:
    number, caught, prepare = SIGNALS[sent]
    source = f"""
{prepare}
try:
    {PHASES[name].code}
{caught}
    say("obeyed")
"""
    silence = Silence(name, source, run, emulator, proxy)
    began = time.monotonic()
    silence.program.signal(number)
    silence.program.see("^obeyed$", timeout=OBEYED)
    assert time.monotonic() - began <= OBEYED
    status, out, err = silence.program.ended(GONE)  # its client is still open
    assert (status, out.splitlines()[-1], err) == (0, "obeyed", "")


@pytest.mark.parametrize("name", ["token", "ask", "retry", "back-off", "end"])
def test_sigterm_ends_a_program_that_does_not_care(
    name: str, run: Callable[..., Program], emulator: Emulator, proxy: FaultProxy
) -> None:
    """The default action, which no library may take away."""
    silence = Silence(name, PHASES[name].code, run, emulator, proxy)
    silence.program.signal(signal.SIGTERM)
    status, _, err = silence.program.ended(OBEYED)
    assert (status, err) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("name", PHASES)
def test_sigterm_with_a_handler_of_ones_own_closes_and_exits(
    name: str, run: Callable[..., Program], emulator: Emulator, proxy: FaultProxy
) -> None:
    """As a service does it: ``sys.exit`` in the handler, and blocks that close what they opened."""
    source = f"""
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
with client:
    {PHASES[name].code}
"""
    silence = Silence(name, source, run, emulator, proxy)
    silence.program.signal(signal.SIGTERM)
    status, _, err = silence.program.ended(OBEYED)
    assert (status, err) == (5, "")


@pytest.mark.parametrize("name", [name for name in PHASES if name != "mint"])  # which is no session's
def test_handler_may_close_the_client(
    name: str, run: Callable[..., Program], emulator: Emulator, proxy: FaultProxy
) -> None:
    """On the very thread that waits; it is then told, as any other would be."""
    source = f"""
from polyai_sync import SessionClosedError
signal.signal(signal.SIGTERM, lambda *_: client.close())
try:
    {PHASES[name].code}
except SessionClosedError:
    pass
"""
    silence = Silence(name, source, run, emulator, proxy)
    silence.program.signal(signal.SIGTERM)
    status, _, err = silence.program.ended(OBEYED)
    assert (status, err) == (0, "")


def test_two_ctrl_c_in_a_row_are_no_worse_than_one(
    run: Callable[..., Program], emulator: Emulator, proxy: FaultProxy
) -> None:
    silence = Silence("ask", f"with client:\n    {PHASES['ask'].code}", run, emulator, proxy)
    silence.program.signal(signal.SIGINT)
    silence.program.signal(signal.SIGINT)
    status, _, err = silence.program.ended(GONE)
    assert status == -signal.SIGINT
    assert err.rstrip().splitlines()[-1] == "KeyboardInterrupt"
    assert "Exception ignored" not in err
    assert "Exception in thread" not in err
