"""What a command says when it fails, and with which status it ends."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

from polyai_sync.cli.logs import logging_to
from polyai_sync.cli.output import Output
from polyai_sync.errors import ConfigurationError, MessageTooLargeError, PluginError, PolyAIError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ["DONE", "INTERRUPTED", "REFUSED", "USAGE", "CommandError", "guarded", "status_of", "told"]

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

_OWN_FAULT: Final = (ConfigurationError, PluginError, MessageTooLargeError)


class CommandError(Exception):
    """A command cannot go on for a reason that is no `PolyAIError`; the message is a sentence for the user."""

    def __init__(self, message: str, status: int = USAGE) -> None:
        super().__init__(message)
        self.status = status


def status_of(error: BaseException) -> int:
    """The exit status that an error stands for."""
    if isinstance(error, CommandError):
        return error.status
    return USAGE if isinstance(error, _OWN_FAULT) else REFUSED


def told(error: BaseException) -> str:
    """What happened and what to do, in one paragraph."""
    if isinstance(error, PolyAIError):
        request = f", request id {error.request_id}" if error.request_id else ""
        return f"{error} [{error.code}{request}]"
    if isinstance(error, CommandError):
        return str(error)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"Something unexpected went wrong ({what}). --debug shows the details."


def guarded(run: Callable[[argparse.Namespace, Output], int], options: argparse.Namespace) -> int:
    """Run a command; whatever goes wrong becomes one paragraph on standard error, and an exit status.

    Raises:
        BrokenPipeError: Nobody reads the output any longer.
    """
    output = Output(is_plain=options.plain)
    with logging_to(output.log, debug=options.debug):
        try:
            return run(options, output)
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost frame: told to the user, never a traceback
            if options.debug:
                output.log("".join(traceback.format_exception(error)).rstrip("\n"))
            output.complain(f"polyai-sync: {told(error)}")
            return status_of(error)
