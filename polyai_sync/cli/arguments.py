"""The commands and their options."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any, NoReturn

from polyai_sync._version import __version__

__all__ = ["UsageError", "parse"]

_ENVIRONMENT = """\
Settings come from the environment where an option does not give them:
  POLYAI_CONNECTOR_TOKEN  the connector token (Agent Studio: Messaging, API Configuration)
  POLYAI_HOST             the domain registered for it
  POLYAI_CLUSTER          us-1 (the default), uk-1, euw-1
  POLYAI_BASE_URL         another address, instead of the cluster

Exit status: 0 done, 1 the service said no, 2 usage or configuration, 130 interrupted."""


class UsageError(Exception):
    """The command line makes no sense; the message says why, and quotes nothing that may be a token."""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        # Without abbreviations: --token would be --token-file, and its value shown as a file that does not exist.
        super().__init__(**options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. Try: {self.prog} --help")


class _Refused(argparse.Action):
    """An option that would show the token to everybody on the machine."""

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise UsageError(
            "a token on the command line can be read by everybody on this machine (ps) and stays in the shell's "
            "history: set the environment variable POLYAI_CONNECTOR_TOKEN, or give --token-file FILE"
        )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: It makes no sense.
        SystemExit: ``--help`` or ``--version`` was asked for, and has been printed.
    """
    options, surplus = _parser().parse_known_args(arguments)
    if surplus:
        # Values are left out: one of them may be a token.
        names = [re.split("=", item)[0] for item in surplus if item.startswith("-")]
        what = f"unknown option {', '.join(names)}" if names else "too many arguments"
        raise UsageError(f"{what}. Try: polyai-sync {options.command} --help")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="polyai-sync",
        description="Talk to PolyAI agents from the command line, and find out why it does not work.",
        epilog=f"A conversation without an account: polyai-sync chat --demo\n\n{_ENVIRONMENT}",
    )
    parser.add_argument("--version", action="version", version=f"polyai-sync {__version__}")
    _add_general(parser, default=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, add in _COMMANDS.items():
        command = commands.add_parser(name, help=_HELP[name], description=_HELP[name], epilog=_EPILOGS.get(name))
        _add_general(command, default=argparse.SUPPRESS)
        add(command)
    return parser


def _add_general(parser: argparse.ArgumentParser, *, default: Any) -> None:
    group = parser.add_argument_group("general")
    group.add_argument("--plain", action="store_true", default=default, help="no colours, no moving cursor")
    group.add_argument(
        "--debug", action="store_true", default=default, help="log everything to stderr, and show tracebacks"
    )


def _add_service(parser: argparse.ArgumentParser, timeout: str) -> None:
    group = parser.add_argument_group("service")
    group.add_argument("--host", metavar="DOMAIN", help="the registered domain, origin or app namespace")
    group.add_argument("--cluster", metavar="NAME", help="where the project lives: us-1, uk-1, euw-1")
    group.add_argument("--base-url", metavar="URL", help="another address, instead of the cluster")
    group.add_argument(
        "--token-file", metavar="FILE", help="a file that holds the connector token; - is standard input"
    )
    group.add_argument("--connector-token", "--token", nargs="?", action=_Refused, help=argparse.SUPPRESS)
    group.add_argument("--timeout", metavar="SECONDS", type=_seconds, help=timeout)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError("it must be a number of seconds above 0, at most 86400")
    return seconds


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65_535:
        raise argparse.ArgumentTypeError("it must be a whole number from 0 to 65535; 0 takes any free port")
    return int(text)


def _chat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--demo", action="store_true", help="talk to the emulator's agent; needs no account")
    parser.add_argument("--state", metavar="FILE", help="leave without ending, and keep what a return needs in FILE")
    parser.add_argument("--resume", metavar="FILE", help="return to the conversation kept in FILE")
    _add_service(parser, "how long to wait for a whole reply (90)")


def _ask(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="+", metavar="TEXT", help="the question; - reads it from standard input")
    parser.add_argument("--json", action="store_true", help="the answer as a JSON object")
    parser.add_argument(
        "--settle",
        metavar="SECONDS",
        type=_seconds,
        default=1.0,
        help="how long the agent must be quiet for its answer to be over (1)",
    )
    _add_service(parser, "how long to wait for the whole reply (90)")


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the findings as a JSON object")
    _add_service(parser, "how long one step may take (10 to connect, 30 for an answer, 60 for the agent)")


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text", nargs="*", metavar="TEXT_OR_CODE", help="a server's text, a code, a class, an HTTP status"
    )
    parser.add_argument("--all", action="store_true", help="every entry of the catalogue")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


def _emulator(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=_port, default=0, help="where to listen (any free port)")
    parser.add_argument(
        "--fault",
        metavar="NAME[:TIMES]",
        action="append",
        default=[],
        help="make something go wrong, once or TIMES times (* always); NAME:option=value,… ; repeatable; "
        "'list' prints all there are",
    )
    for name, what in (("thinking", "before a reply"), ("chunk", "between the pieces of a streamed reply")):
        parser.add_argument(
            f"--{name}-delay",
            metavar="SECONDS",
            type=_seconds,
            default=0.0,
            help=f"how long the agent waits {what} (0)",
        )


_COMMANDS = {
    "chat": _chat,
    "ask": _ask,
    "doctor": _doctor,
    "explain": _explain,
    "plugins": _plugins,
    "emulator": _emulator,
}
_HELP = {
    "chat": "Talk to an agent.",
    "ask": "Ask one question; the answer goes to standard output.",
    "doctor": "Try each step of a connection in turn, and explain the first one that fails.",
    "explain": "Explain an error.",
    "plugins": "List the plugins that are loaded, from where, and what they do.",
    "emulator": "Run the emulator of the service on this machine.",
}
_EPILOGS = dict.fromkeys(("chat", "ask", "doctor"), _ENVIRONMENT)
