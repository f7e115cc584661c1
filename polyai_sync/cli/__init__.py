"""The command line, ``polyai-sync``.

Each command is a module of its own, imported when it is run: explaining an error needs neither aiohttp nor rich.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_MODULES: Final = {
    "chat": "polyai_sync.cli.chat",
    "ask": "polyai_sync.cli.ask",
    "doctor": "polyai_sync.cli.doctor",
    "explain": "polyai_sync.cli.explain",
    "plugins": "polyai_sync.cli.plugins",
    "emulator": "polyai_sync.cli.emulate",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Instead of ``sys.argv[1:]``.

    Returns:
        The exit status: 0 done, 1 the service said no, 2 usage or configuration, 130 interrupted.
    """
    from polyai_sync.cli.arguments import UsageError, parse
    from polyai_sync.cli.failures import DONE, USAGE, guarded

    try:
        options = parse(None if arguments is None else list(arguments))
    except UsageError as error:
        sys.stderr.write(f"polyai-sync: {error}\n")
        return USAGE
    except SystemExit as leaving:  # --help and --version, printed by argparse
        return int(leaving.code or DONE)
    try:
        return guarded(importlib.import_module(_MODULES[options.command]).run, options)
    except BrokenPipeError:
        # Whoever read the output has seen enough. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
