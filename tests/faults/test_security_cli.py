"""Canary tokens, hunted in everything that a command prints, as a program of its own, whatever goes wrong."""

from __future__ import annotations

import base64
import html
import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from proxy import HOLE, FaultProxy

from polyai_sync.emulator import Emulator
from polyai_sync.emulator.tokens import TokenMint
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from polyai_sync.emulator import Turn

CONNECTOR = "canary+connector/token=4711-omega"
ACCESS = {
    "jwt": f"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.{'c4n4ry' * 6}",
    "opaque": "canary:access/token+word~0815",
}
DEMO = "demo-connector-token"
PATIENCE = 30.0


def quotes(secret: str) -> set[str]:
    """How a server may quote a token that it was sent: as it is, as in a URL, as in JSON of some languages."""
    return {secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1].replace("/", "\\/")}


def forms(secret: str) -> set[str]:
    """How a token may be written, or enough of it."""
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {*quotes(secret), html.escape(secret), encoded, secret.rpartition(".")[2], secret[:20]}


@pytest.fixture
def access(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The one access token that the emulator hands out, so that a server can quote it.

    One of no known shape, unless a test says otherwise: it must be known by its value.
    """
    token = ACCESS[getattr(request, "param", "opaque")]

    def mint(self: TokenMint, oddities: Any = ()) -> str:
        self._expires_at[token] = None
        self.minted += 1
        return token

    monkeypatch.setattr(TokenMint, "mint", mint)
    return token


@pytest.fixture
def emulator(access: str) -> Iterator[Emulator]:
    """Its agent echoes, and betrays whom it is asked about."""

    def answer(turn: Turn) -> str:
        if turn.greeting:
            return "Hello!"
        return f"It is {CONNECTOR} and {access}" if "my token" in (turn.text or "") else f"You said: {turn.text}"

    with Emulator(agent=answer, connector_token=CONNECTOR) as emulator:
        yield emulator


class Cli:
    """``polyai-sync`` with the canary in its environment, and the hunt."""

    def __init__(self, emulator: Emulator, access: str, folder: Path) -> None:
        self.emulator = emulator
        self.folder = folder
        self.tokens = (CONNECTOR, access)
        self.env = {
            **os.environ,
            "POLYAI_BASE_URL": emulator.url,
            "POLYAI_CONNECTOR_TOKEN": CONNECTOR,
            "POLYAI_HOST": emulator.host,
        }

    def check(self, text: str) -> None:
        for token in self.tokens:
            for form in forms(token):
                assert form not in text, f"a token in {text}"

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "polyai_sync", *arguments],
            env={**self.env, **options.pop("env", {})},
            cwd=self.folder,
            text=True,
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def finish(self, process: subprocess.Popen[str], stdin: str = "") -> tuple[int, str, str]:
        try:
            out, err = process.communicate(stdin, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        self.check(out)
        self.check(err)
        assert not re.search(r"eyJ[\w-]{8,}\.[\w-]{8,}", out + err)  # nothing that looks like one either
        return process.returncode, out, err

    def run(self, *arguments: str, stdin: str = "", **env: str) -> tuple[int, str, str]:
        return self.finish(self.start(*arguments, env=env), stdin)


@pytest.fixture
def cli(emulator: Emulator, access: str, tmp_path: Path) -> Cli:
    return Cli(emulator, access, tmp_path)


ONCE = {"POLYAI_SYNC_BLOCK": "backoff"}
"""Try nothing twice: what would be printed again takes its time."""

TALKING = {
    "chat": ("chat",),
    "ask": ("ask", "hello", "--settle", "0.1"),
    "ask as JSON": ("ask", "hello", "--settle", "0.1", "--json"),
    "doctor": ("doctor",),
    "doctor as JSON": ("doctor", "--json"),
}
LOCAL = {
    "explain": ("explain", "session not found"),
    "explain all": ("explain", "--all", "--json"),
    "plugins": ("plugins",),
    "plugins as JSON": ("plugins", "--json"),
    "emulator's faults": ("emulator", "--fault", "list"),
}


@pytest.mark.parametrize("access", ACCESS, indirect=True)
@pytest.mark.parametrize("options", [(), ("--debug",)], ids=["", "debug"])
@pytest.mark.parametrize("name", TALKING)
def test_conversation_shows_no_token(name: str, options: tuple[str, ...], cli: Cli) -> None:
    status, out, err = cli.run(*options, *TALKING[name], stdin="hello\nand again\n")
    assert status == 0, err
    assert out
    assert cli.emulator.tokens_minted == 1
    assert bool(options) == ("DEBUG" in err)


@pytest.mark.parametrize("name", LOCAL)
def test_command_that_needs_no_token_shows_none(name: str, cli: Cli) -> None:
    status, out, _ = cli.run("--debug", *LOCAL[name])
    assert status == 0
    assert out
    assert cli.emulator.tokens_minted == 0


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "token": ("access_token.unknown_connector", {}),
    "token, tried again": ("http.server_error", {"on": "access_token"}),
    "session": ("session_create.invalid_token", {}),
    "session, in no row": ("http.bad_request", {"on": "session_create"}),
    "session, elsewhere": ("http.redirected", {"on": "session_create"}),
    "handshake": ("connect.authentication_failed", {}),
    "handshake, over": ("connect.session_not_found", {}),
}
"""Where the service says no: the fault and its options."""


@pytest.mark.parametrize("command", ["chat", "ask", "doctor as JSON"])
@pytest.mark.parametrize("name", REFUSED)
def test_refusal_that_quotes_the_tokens_shows_none(name: str, command: str, cli: Cli) -> None:
    fault, options = REFUSED[name]
    sent = cli.tokens[:1] if name.startswith("token") else cli.tokens  # what the server has seen by then
    quoted = [f"{form}, Bearer {form}, access_token={form}" for token in sent for form in sorted(quotes(token))]
    answer: dict[str, Any]
    if fault == "http.redirected":
        answer = {"location": f"http://127.0.0.1:9/?access_token={quote(sent[-1], safe='')}"}
    else:
        answer = {"body": json.dumps({"error": " ".join(quoted), "seen": {"X-Token": sent[0]}}).replace("/", "\\/")}
    headers = {"X-PolyAI-Correlation-Id": sent[-1], "Retry-After": "0"}
    armed = cli.emulator.faults.add(fault, times=None, headers=headers, **answer, **options)
    status, out, err = cli.run("--debug", *TALKING[command], stdin="hello\n")
    assert status == 1
    assert armed.fired
    assert "***" in out + err or fault == "http.redirected"
    assert "Traceback" in err or command.startswith("doctor")


@pytest.mark.parametrize("command", ["chat", "ask", "doctor"])
def test_error_on_the_socket_that_quotes_the_tokens_shows_none(command: str, cli: Cli) -> None:
    text = f"you are {cli.tokens[0]}, and {cli.tokens[1]}, or ?access_token={quote(cli.tokens[1], safe='')}"
    cli.emulator.faults.add("system.unknown", times=None, text=text, on="join" if command == "doctor" else "turn")
    _, out, err = cli.run("--debug", *TALKING[command], "--timeout", "2", stdin="hello\n")
    assert "you are" in out + err
    assert "***" in out + err


@pytest.mark.parametrize("command", ["chat", "ask"])
def test_agent_that_repeats_the_tokens_shows_none(command: str, cli: Cli) -> None:
    """Nobody who looks over a shoulder learns them from an agent that was talked into it."""
    asked = "what is my token?"
    arguments = [asked if word == "hello" else word for word in TALKING[command]]
    status, out, _ = cli.run("--debug", *arguments, stdin=f"{asked}\n")
    assert status == 0
    assert re.search(r"It is \*+ and \*+", out)  # as text, or shown as Markdown


@pytest.mark.parametrize("command", ["chat", "ask", "doctor"])
def test_service_that_cannot_be_reached_is_told_without_a_token(command: str, cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    status, out, err = cli.run("--debug", *TALKING[command], "--base-url", base, stdin="hello\n", **ONCE)
    assert status == 1
    assert f"127.0.0.1:{port}" in out + err


@pytest.mark.parametrize("command", ["chat", "ask", "doctor"])
def test_password_of_a_proxy_is_not_shown(command: str, cli: Cli) -> None:
    cli.tokens = (*cli.tokens, "canary-pass/word")  # type: ignore[assignment]
    proxy = f"http://shop:{quote('canary-pass/word', safe='')}@127.0.0.1:9"
    status, out, err = cli.run("--debug", *TALKING[command], stdin="hello\n", HTTP_PROXY=proxy, **ONCE)
    assert status == 1
    assert "127.0.0.1:9" in out + err


@pytest.mark.parametrize("command", ["chat", "ask", "doctor"])
def test_ctrl_c_in_the_middle_shows_no_token(command: str, cli: Cli) -> None:
    with FaultProxy(cli.emulator.port) as proxy:
        strike = proxy.strike("down", "HTTP/1.1 101", HOLE)
        process = cli.start("--debug", *TALKING[command], env={"POLYAI_BASE_URL": proxy.url})
        proxy.wait_struck(strike, PATIENCE)
        time.sleep(0.1)  # until it waits; nothing outside shows that it does
        process.send_signal(signal.SIGINT)
        status, _, err = cli.finish(process, "hello\n")
    assert status == 130
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("ask", "hello"), {"POLYAI_CONNECTOR_TOKEN": f"{CONNECTOR}\nX-Evil: 1"}),
        (("ask", "hello"), {"POLYAI_CONNECTOR_TOKEN": "", "POLYAI_HOST": CONNECTOR}),
        (("ask", "hello"), {"POLYAI_HOST": f"https://{CONNECTOR}@example.com"}),
        (("ask", "hello"), {"POLYAI_BASE_URL": f"http://{quote(CONNECTOR, safe='')}@example.com"}),
        (("ask", "hello", "--cluster", CONNECTOR), {}),
        (("ask", "hello", "--connector-token", CONNECTOR), {}),
        (("doctor", f"--token={CONNECTOR}"), {}),
        (("chat", f"--connector_token={CONNECTOR}"), {}),
        (("chat", CONNECTOR), {}),
        (("doctor", "--token-file", "absent"), {}),
    ],
    ids=lambda value: " ".join(value).replace(CONNECTOR, "TOKEN"),
)
def test_wrong_settings_are_told_without_their_values(
    arguments: tuple[str, ...], env: dict[str, str], cli: Cli
) -> None:
    status, out, err = cli.run("--debug", *arguments, **env)
    assert status == 2, err
    assert "polyai-sync: " in err or "✗" in out
    assert cli.emulator.tokens_minted == 0


def test_token_from_a_file_or_standard_input_is_no_better_known(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{CONNECTOR}\n")
    for arguments, stdin in ((("token",), ""), (("-",), f"{CONNECTOR}\n")):
        status, out, _ = cli.run(
            "--debug", *TALKING["ask"], "--token-file", *arguments, stdin=stdin, POLYAI_CONNECTOR_TOKEN=""
        )
        assert (status, out) == (0, "You said: hello\n")


def test_kept_conversation_is_in_a_file_for_its_owner_alone(cli: Cli, tmp_path: Path) -> None:
    status, _, _ = cli.run("--debug", "chat", "--state", "kept", stdin="hello\n")
    assert status == 0
    kept = tmp_path / "kept"
    assert cli.tokens[1] in kept.read_text()  # it has to
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    status, out, _ = cli.run("--debug", "chat", "--resume", "kept", stdin="once more\n")
    assert status == 0
    assert "You said: once more" in out
    kept.write_text(kept.read_text()[:-5])
    status, _, err = cli.run("--debug", "chat", "--resume", "kept")
    assert status == 2
    assert "polyai-sync: " in err


@pytest.mark.parametrize("name", ["chat", "doctor"])
def test_terminal_sees_no_token(name: str, cli: Cli) -> None:
    main, side = pty.openpty()
    process = cli.start("--debug", *TALKING[name], stdin=side, stdout=side, stderr=side, env={"TERM": "xterm-256color"})
    os.close(side)
    seen = bytearray()

    def reads() -> bool:
        try:
            seen.extend(os.read(main, 65_536))
        except OSError:  # EIO: the other side is closed
            return False
        return True

    told = False
    while reads():
        if name == "chat" and not told and b"Hello!" in seen:
            told = True
            os.write(main, b"hello\r\x04")
    os.close(main)
    process.wait(PATIENCE)
    cli.check(seen.decode(errors="replace"))
    assert b"DEBUG" in seen
    assert process.returncode == 0


def test_emulator_shows_its_own_demo_token_and_no_other(cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as file:
        process = cli.start("--debug", "emulator", stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        url = wait_until(lambda: re.search(r"listens on (\S+)", log.read_text()), PATIENCE)[1]  # type: ignore[index]
        settings = {
            "POLYAI_BASE_URL": url,
            "POLYAI_HOST": "localhost",
            "POLYAI_CONNECTOR_TOKEN": "demo-connector-token",
        }
        assert cli.run("--debug", *TALKING["ask"], **settings)[0] == 0
        kept = cli.run("chat", "--state", "kept", stdin="hello\n", **settings)
        assert kept[0] == 0
        assert cli.run(*TALKING["doctor"], **{**settings, "POLYAI_CONNECTOR_TOKEN": CONNECTOR})[0] == 1
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    said = log.read_text()
    cli.check(said)
    minted = json.loads((tmp_path / "kept").read_text())["access_token"]
    assert minted not in said
    assert minted.rpartition(".")[2] not in said
    assert DEMO in said
