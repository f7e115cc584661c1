"""``polyai-sync chat``: talk to an agent in the terminal."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from typing import TYPE_CHECKING, Any

from polyai_sync.cli.editor import LineEditor
from polyai_sync.cli.failures import CommandError
from polyai_sync.cli.reader import stdin_fd
from polyai_sync.cli.service import Service
from polyai_sync.cli.stage import LineStage, Stage
from polyai_sync.cli.story import Story
from polyai_sync.cli.talk import Talk
from polyai_sync.cli.terminal import Terminal, can_type
from polyai_sync.cli.watcher import Mailbox, Watcher, Worker
from polyai_sync.state import SessionState

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from polyai_sync import Client, Session
    from polyai_sync.cli.output import Output
    from polyai_sync.emulator import Emulator

__all__ = ["run"]

_LOCAL_SETTLE = 0.2
_SETTLE = 1.0


def run(options: argparse.Namespace, output: Output) -> int:
    """Talk until the conversation is over."""
    fd = stdin_fd()
    typed = fd is not None and os.isatty(fd)
    _check(options)
    state = None if options.resume is None else _load(options.resume, output)
    with contextlib.ExitStack() as stack:
        mailbox = Mailbox()
        client, emulator = _client(options, output, stack, Watcher(mailbox), someone_looks=typed and output.is_terminal)
        editor: LineEditor | None = None
        stage: Stage = LineStage(output)
        if fd is not None and typed and output.can_move and can_type(fd):
            editor = LineEditor()
            stage = stack.enter_context(Terminal(output, editor, fd))
            if output.stderr.isatty():  # a log between the prompt's rows would be painted over
                output.divert = lambda text: mailbox.put("log", text)
                stack.callback(setattr, output, "divert", None)
        story = Story(stage, output.symbols)
        if emulator is not None:
            story.note(
                "A demo: this talks to an emulator on this machine, and nothing leaves it. "
                "Say help to see what can be tried."
            )
        if typed:
            story.note("/help lists the commands; Ctrl-D ends the conversation.")
        story.waiting(f"Connecting to {emulator.url if emulator else 'the service'}")

        def start() -> Session:
            return client.start_session() if state is None else client.resume_session(state)

        talk = Talk(
            mailbox=mailbox,
            worker=Worker(mailbox, start),
            story=story,
            stage=stage,
            output=output,
            editor=editor,
            is_script=not typed,
            settle=_SETTLE if emulator is None else _LOCAL_SETTLE,
            limit=options.timeout,
            keep=_keeper(options.state, story) if options.state is not None else None,
        )
        return talk.run(fd)


def _check(options: argparse.Namespace) -> None:
    if options.demo:
        given = ("host", "cluster", "base_url", "token_file", "state", "resume")
        odd = [f"--{name.replace('_', '-')}" for name in given if getattr(options, name) is not None]
        if odd:
            raise CommandError(f"--demo brings its own service, which ends with it: leave out {', '.join(odd)}")
    if options.state is not None:
        folder = os.path.dirname(os.path.abspath(options.state))
        if not os.access(folder, os.W_OK) or os.path.isdir(options.state):
            raise CommandError("--state: no file can be written there; name a file in a folder of yours")


def _client(
    options: argparse.Namespace,
    output: Output,
    stack: contextlib.ExitStack,
    watcher: Watcher,
    *,
    someone_looks: bool,
) -> tuple[Client, Emulator | None]:
    if not options.demo:
        service = Service.of(options, output)
        return stack.enter_context(service.client(plugins=[watcher])), None
    import requests

    from polyai_sync.cli.emulate import emulator

    pace: dict[str, Any] = {}
    if someone_looks:
        from polyai_sync.emulator import RestaurantDesk

        pace = {"thinking_delay": 0.6, "chunk_delay": 0.04, "agent": RestaurantDesk(pace=1.2)}
    server = stack.enter_context(emulator(**pace))
    http = stack.enter_context(requests.Session())
    http.trust_env = False  # a proxy of this machine's has no business between the two
    return stack.enter_context(server.client(plugins=[watcher], http=http)), server


def _load(path: str, output: Output) -> SessionState:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not a text file"
        raise CommandError(f"--resume: the file cannot be read ({why}); name one that --state has written") from None
    state = SessionState.from_json(text)
    output.keep_secret(state.access_token)
    return state


def _keeper(path: str, story: Story) -> Callable[[Session], None]:
    def keep(session: Session) -> None:
        """Write the state where only its owner can read it, all of it or nothing."""
        try:
            handle, draft = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), prefix=".polyai-")
            with open(handle, "w", encoding="utf-8") as file:
                file.write(session.state.to_json())
            os.replace(draft, path)
        except OSError as error:
            raise CommandError(f"--state: the file could not be written ({error.strerror})") from None
        story.note(
            f"Left without ending it. Within ten minutes you can return: polyai-sync chat --resume {shlex.quote(path)}"
        )

    return keep
