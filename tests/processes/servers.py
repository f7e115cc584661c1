"""The web servers that the tests start, as a deployment does."""

from __future__ import annotations

import re
import signal
import sys
from typing import TYPE_CHECKING, Final

from programs import Program, Service, environment, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.emulator import Emulator

__all__ = ["gunicorn", "stop_gunicorn"]

_OWN_LINE: Final = re.compile(r"\[[^]]+\] \[\d+\] \[INFO\] ")
"""What gunicorn says by itself."""


def gunicorn(run: Callable[..., Program], emulator: Emulator, *options: str, **variables: str) -> Service:
    """The shop under gunicorn."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--no-control-socket", *options]
    return Service(run([*command, "shop:app"], env=environment(emulator, **variables)), port)


def stop_gunicorn(service: Service) -> None:
    """Stop it gracefully: status 0, and never a word but gunicorn's own."""
    service.program.signal(signal.SIGTERM)
    status, out, err = service.program.ended(10)
    assert (status, out) == (0, ""), err
    strange = [line for line in err.splitlines() if not _OWN_LINE.match(line)]
    assert not strange, strange
