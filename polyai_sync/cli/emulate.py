"""``polyai-sync emulator``: the service on this machine."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from polyai_sync.cli.failures import DONE, CommandError
from polyai_sync.config import ENVIRONMENT

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from polyai_sync.cli.output import Output
    from polyai_sync.emulator import Emulator

__all__ = ["emulator", "run"]

_TIMES = re.compile(r"(?P<name>[^:]*):(?P<times>[0-9]+|\*)\Z")


def run(options: argparse.Namespace, output: Output) -> int:
    """Run the emulator until Ctrl-C, or list its faults."""
    if "list" in options.fault:
        faults = emulator().faults
        output.table(("FAULT", "WHAT IS SEEN"), list(faults.names().items()))
        return DONE
    server = emulator(port=options.port, thinking_delay=options.thinking_delay, chunk_delay=options.chunk_delay)
    for text in options.fault:
        _arm(server, text)
    server.start()
    output.row(f"# The emulator listens on {server.url} until Ctrl-C. In another shell:")
    settings = {"base_url": server.url, "connector_token": server.connector_token, "host": server.host}
    for name, value in settings.items():
        output.row(f"export {ENVIRONMENT[name]}={shlex.quote(value)}")
    server.run_forever()
    return DONE


def emulator(**options: Any) -> Emulator:
    """An emulator, if it is installed.

    Raises:
        CommandError: It is not.
    """
    try:
        from polyai_sync.emulator import Emulator
    except ImportError as error:
        if error.name not in (None, "aiohttp"):
            raise
        raise CommandError("The emulator needs aiohttp: pip install 'polyai-sync[emulator]'") from error
    return Emulator(**options)


def _arm(server: Emulator, text: str) -> None:
    """``NAME``, ``NAME:3``, ``NAME:*``, or what `Faults.add_text` reads."""
    try:
        if match := _TIMES.match(text.strip()):
            server.faults.add(match["name"], times=None if match["times"] == "*" else int(match["times"]))
        else:
            server.faults.add_text(text)
    except (ValueError, TypeError) as error:
        raise CommandError(f"--fault: {error}. polyai-sync emulator --fault list prints all there are") from error
