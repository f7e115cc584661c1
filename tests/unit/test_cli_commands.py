"""``explain``, ``plugins``, ``emulator``, ``ask``, the options, and how each command ends."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli_run import CANARY, Ran, clean_environment, point_at, runner

from polyai_sync import CATALOG, Client, __version__
from polyai_sync.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    clean_environment(monkeypatch)
    return runner(capsys, monkeypatch)


@pytest.fixture
def desk(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator that the environment names."""
    with Emulator(connector_token=CANARY) as emulator:
        point_at(emulator, monkeypatch)
        yield emulator


def one_paragraph(text: str) -> bool:
    return text.startswith("polyai-sync: ") and text.count("\n") == 1 and "Traceback" not in text


# --- explain ---


def test_explain_shows_an_entry_whole(run) -> None:
    status, out, err = run("explain", "Connector", "token", "does", "not", "exist")
    entry = next(entry for entry in CATALOG if entry.code == "access_token.unknown_connector")
    assert (status, err) == (0, "")
    for said in (entry.code, "AuthenticationError", "HTTP 401", entry.cause, entry.resolution, entry.user_text):
        assert said in out


@pytest.mark.parametrize("what", [entry.code for entry in CATALOG])
def test_explain_knows_every_code(run, what: str) -> None:
    status, out, _ = run("explain", what)
    assert status == 0
    assert out.startswith(what + " ")


def test_explain_names_other_errors_of_the_same_words(run) -> None:
    out = run("explain", "Missing authentication headers").out
    assert "session_create.malformed_authorization" in out


def test_explain_of_an_unknown_text_offers_the_nearest(run) -> None:
    status, out, err = run("explain", "sesion.not_fond")
    assert (status, out) == (1, "")
    assert one_paragraph(err)
    assert "session.not_found" in err
    assert run("explain", "qqqq").status == 1
    assert "--all" in run("explain", "qqqq").err


def test_explain_all_lists_the_catalogue(run) -> None:
    lines = run("explain", "--all").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [entry.code for entry in CATALOG]


def test_explain_as_json(run) -> None:
    entry = json.loads(run("explain", "--json", "429").out)
    assert (entry["code"], entry["status"], entry["retryable"]) == ("http.rate_limited", 429, True)
    assert [item["code"] for item in json.loads(run("explain", "--all", "--json").out)] == [e.code for e in CATALOG]


@pytest.mark.parametrize("arguments", [(), ("--all", "session.not_found"), ("",)])
def test_explain_needs_a_text_or_all(run, arguments: tuple[str, ...]) -> None:
    status, _, err = run("explain", *arguments)
    assert status == 2
    assert one_paragraph(err)


# --- plugins ---


def test_plugins_are_listed_without_any_setting(run) -> None:
    status, out, err = run("plugins")
    assert (status, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert {"NAME", "backoff", "logging", "reconnect"} <= set(rows)
    assert re.search(rf"bundled +polyai-sync +{re.escape(__version__)} +retry_delay", rows["backoff"])


def test_plugins_as_json_are_those_of_a_client(run) -> None:
    listed = json.loads(run("plugins", "--json").out)
    with Client("t" * 10, "https://x.example") as client:
        assert [(item["name"], item["hooks"]) for item in listed] == [(p.name, list(p.hooks)) for p in client.plugins]


def test_blocked_plugins_are_not_listed(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYAI_SYNC_BLOCK", "logging")
    assert "logging" not in run("plugins").out


# --- emulator ---


def test_fault_list_is_the_table_of_faults(run) -> None:
    out = run("emulator", "--fault", "list").out
    names = Emulator().faults.names()
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(names)
    assert all(does in out for does in names.values())


@pytest.mark.parametrize("fault", ["no.such", "connection.drop:nonsense", "connection.drop:on=lunch", "stream.slow:0"])
def test_unknown_fault_is_refused(run, fault: str) -> None:
    status, out, err = run("emulator", "--fault", fault)
    assert (status, out) == (2, "")
    assert one_paragraph(err)
    assert "--fault list" in err


def test_faults_are_armed_as_often_as_told(run, monkeypatch: pytest.MonkeyPatch) -> None:
    armed: list[tuple[str, int | None, int]] = []

    def look(emulator: Emulator) -> None:
        armed.extend((fault.name, fault.times, fault.after) for fault in emulator.faults.pending)
        emulator.stop()

    monkeypatch.setattr(Emulator, "run_forever", look)
    faults = ("agent.slow", "agent.silent:3", "http.slow:*", "connection.drop:after=2,times=4", "close.1011:2")
    assert run("emulator", *(part for fault in faults for part in ("--fault", fault))).status == 0
    assert armed == [
        ("agent.slow", 1, 0),
        ("agent.silent", 3, 0),
        ("http.slow", None, 0),
        ("connection.drop", 4, 2),
        ("close.1011", 2, 0),
    ]


def test_taken_port_is_refused(run, desk: Emulator) -> None:
    status, _, err = run("emulator", "--port", str(desk.port))
    assert status == 2
    assert one_paragraph(err)


def test_emulator_serves_with_its_faults_until_ctrl_c() -> None:
    command = [sys.executable, "-m", "polyai_sync", "emulator", "--fault", "access_token.creation_failed:2"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        exports = dict(re.findall(r"^export (\w+)=(\S+)$", "".join(lines), re.MULTILINE))
        asked = subprocess.run(
            [sys.executable, "-m", "polyai_sync", "doctor", "--json"],
            env={**os.environ, **exports},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert json.loads(asked.stdout)["error"]["code"] == "access_token.creation_failed"
    assert (process.returncode, err) == (130, "")


# --- ask ---


def test_ask_prints_the_whole_answer_as_plain_text(run, desk: Emulator) -> None:
    status, out, err = run("ask", "what", "is", "the", "soup?", "--settle", "0.2")
    assert (status, err) == (0, "")
    assert out.startswith("Our soup of the day is ribollita: beans")
    assert out.endswith("And it is off the bill on Mondays.\n")
    assert desk.session.transcript[1] == ("user", "what is the soup?")
    assert desk.session.end_reason == "REASON_USER_END"


def test_ask_prints_attachments_as_addresses(run, desk: Emulator) -> None:
    out = run("ask", "menu", "--settle", "0.1").out
    assert "The whole card: https://olive-branch.example.com/menu\n" in out


def test_ask_as_json(run, desk: Emulator) -> None:
    status, out, _ = run("ask", "--json", "menu", "--settle", "0.1")
    answer = json.loads(out)
    assert status == 0
    assert answer["text"] == "This is what we cook tonight."
    assert [item["text"] for item in answer["messages"]] == ["This is what we cook tonight."]
    assert [item["title"] for item in answer["attachments"]] == ["Tonight's menu", "The whole card"]
    assert [item["message_text"] for item in answer["suggestions"]] == ["What is the soup?", "Book a table"]
    assert answer["handoff"] is None
    assert answer["session_id"] == desk.session.session_id
    assert 0 < answer["seconds"] < 30


def test_ask_tells_a_handoff(run, desk: Emulator) -> None:
    status, out, err = run("ask", "--json", "manager", "--settle", "0.2")
    handoff = json.loads(out)["handoff"]
    assert status == 0
    assert (handoff["status"], handoff["queue_name"]) == ("CLIENT_REQUIRED", "Duty manager")
    _, _, err = run("ask", "manager", "--settle", "0.2")
    assert "Duty manager, at https://olive-branch.example.com/manager" in err


def test_ask_reads_the_question_from_standard_input(run, desk: Emulator) -> None:
    assert "Saturday" not in run("ask", "-", "--settle", "0.1", stdin="for two\ntomorrow\n").out
    assert desk.session.transcript[1] == ("user", "for two\ntomorrow\n")


@pytest.mark.parametrize("stdin", ["", " \n"])
def test_blank_question_is_refused(run, desk: Emulator, stdin: str) -> None:
    status, _, err = run("ask", "-", stdin=stdin)
    assert status == 2
    assert one_paragraph(err)
    assert not desk.log


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("access_token.unknown_connector", "access_token.unknown_connector"),
        ("session_create.malformed_body", "session_create.malformed_body"),
        ("connect.session_not_found", "connect.session_not_found"),
        ("agent.no_response", "agent.no_response"),
        ("session.not_found", "session.not_found"),
    ],
)
def test_refusal_of_the_service_is_status_1_and_one_paragraph(run, desk: Emulator, fault: str, said: str) -> None:
    desk.faults.add(fault)
    status, out, err = run("ask", "hello")
    assert (status, out) == (1, "")
    assert one_paragraph(err)
    entry = next(entry for entry in CATALOG if entry.code == said)
    assert f"[{said}" in err
    assert " ".join(entry.resolution.split()) in err


def test_answer_that_does_not_come_in_time_is_status_1(run, desk: Emulator) -> None:
    desk.faults.add("agent.silent")
    status, _, err = run("ask", "hello", "--timeout", "0.3", "--settle", "0.1")
    assert status == 1
    assert "client.reply_timeout" in err
    assert desk.session.end_reason == "REASON_USER_END"


def test_unreachable_service_is_status_1(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYAI_SYNC_BLOCK", "backoff")
    monkeypatch.setenv("POLYAI_CONNECTOR_TOKEN", CANARY)
    status, _, err = run("ask", "hello", "--base-url", "http://127.0.0.1:1", "--host", "x.example")
    assert status == 1
    assert "refused" in err
    assert one_paragraph(err)


def test_too_large_a_question_is_status_2(run, desk: Emulator) -> None:
    status, _, err = run("ask", "-", stdin="x" * 200_000)
    assert status == 2
    assert "client.message_too_large" in err


# --- settings ---


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "connector_token is missing"),
        (("--token-file", "TOKEN"), "host is missing"),
        (("--token-file", "TOKEN", "--host", "not a host"), "host"),
        (("--token-file", "TOKEN", "--host", "x.example", "--cluster", "US_1"), "did you mean us-1"),
        (("--token-file", "TOKEN", "--host", "x.example", "--base-url", "http://x.example"), "base_url"),
        (("--token-file", "TOKEN", "--host", "x.example", "--cluster", "us-1", "--base-url", "https://x"), "base_url"),
        (("--token-file", "EMPTY"), "--token-file is empty"),
        (("--token-file", "missing-file"), "--token-file cannot be read"),
        (("--token-file", "BINARY"), "--token-file cannot be read"),
    ],
)
@pytest.mark.parametrize("command", [("ask", "hello"), ("chat",), ("doctor",)])
def test_wrong_settings_are_status_2_and_named(
    run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    arguments: tuple[str, ...],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TOKEN").write_text(f" {CANARY}\n")
    (tmp_path / "EMPTY").write_text("\n")
    (tmp_path / "BINARY").write_bytes(b"\xff\xfe\x00")
    ran = run(*command, *arguments)
    assert ran.status == 2
    assert named in " ".join(ran.both.split())
    assert CANARY not in ran.both
    assert command == ("doctor",) or one_paragraph(ran.err)


def test_token_comes_from_a_file_or_standard_input(run, desk: Emulator, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("POLYAI_CONNECTOR_TOKEN")
    file = tmp_path / "token"
    file.write_text(f"{CANARY}\n")
    assert run("ask", "menu", "--settle", "0.1", "--token-file", str(file)).status == 0
    assert run("ask", "menu", "--settle", "0.1", "--token-file", "-", stdin=f"{CANARY}\n").status == 0


@pytest.mark.parametrize("option", ["--connector-token", "--token"])
def test_token_on_the_command_line_is_refused_and_not_repeated(run, option: str) -> None:
    for arguments in ((option, CANARY), (f"{option}={CANARY}",)):
        status, out, err = run("ask", "hello", *arguments)
        assert (status, out) == (2, "")
        assert "POLYAI_CONNECTOR_TOKEN" in err
        assert CANARY not in err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dance",),
        ("ask",),
        ("ask", "hello", "--tok", CANARY),
        ("ask", "hello", f"--secret={CANARY}"),
        ("plugins", CANARY),
        ("plugins", "--js"),
        ("ask", "hello", "--timeout", "soon"),
        ("ask", "hello", "--timeout", "-1"),
        ("ask", "hello", "--timeout", "nan"),
        ("emulator", "--port", "99999"),
        ("chat", "--demo", "--cluster", "us-1"),
        ("chat", "--demo", "--state", "x"),
        ("chat", "--resume", "no-such-file"),
        ("chat", "--state", "/no/such/folder/x"),
    ],
)
def test_wrong_usage_is_status_2_and_one_paragraph(run, arguments: tuple[str, ...]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert one_paragraph(err)
    assert CANARY not in err


def test_version_and_help(run) -> None:
    assert run("--version") == (0, f"polyai-sync {__version__}\n", "")
    assert "chat --demo" in run("--help").out
    for command in ("chat", "ask", "doctor", "explain", "plugins", "emulator"):
        status, out, _ = run(command, "--help")
        assert status == 0
        assert "--debug" in out
        assert "--plain" in out


def test_damaged_state_is_status_2(run, desk: Emulator, tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_text("{}")
    status, _, err = run("chat", "--resume", str(file))
    assert status == 2
    assert one_paragraph(err)


# --- what nobody should see ---


@pytest.mark.parametrize("fault", [None, "access_token.unknown_connector", "http.server_error", "agent.no_response"])
@pytest.mark.parametrize("command", [("ask", "hello", "--settle", "0.1"), ("doctor",), ("chat",)])
def test_no_token_is_shown_even_with_debug(run, desk: Emulator, command: tuple[str, ...], fault: str | None) -> None:
    if fault == "access_token.unknown_connector":
        desk.faults.add(fault, text=f"the token {CANARY} is wrong")
    elif fault is not None:
        desk.faults.add(fault, times=2)
    ran = run(*command, "--debug", stdin="hello\n")
    assert "DEBUG" in ran.err or ran.status
    assert CANARY not in ran.both
    assert not re.search(r"eyJ[\w-]{10,}", ran.both)


def test_debug_shows_the_traceback_and_the_log(run, desk: Emulator) -> None:
    desk.faults.add("connect.session_not_found")
    status, _, err = run("--debug", "ask", "hello")
    assert status == 1
    assert "Traceback" in err
    assert "SessionNotFoundError" in err
    assert "ERROR polyai_sync.session" in err
    assert err.rstrip().splitlines()[-1].startswith("polyai-sync: session not found")


@pytest.mark.parametrize("arguments", [("plugins",), ("plugins", "--debug")])
def test_logging_is_as_it_was_after_a_command(run, arguments: tuple[str, ...]) -> None:
    loggers = [logging.getLogger(name) for name in ("polyai_sync", "polyai_sync.plugins")]
    run(*arguments)
    before = [(logger.setLevel(logging.ERROR), logger.level, list(logger.handlers)) for logger in loggers]
    run(*arguments)
    after = [(None, logger.level, list(logger.handlers)) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.NOTSET)
    assert after == before


def test_unexpected_error_is_one_paragraph_without_debug(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> int:
        raise RuntimeError(f"boom {CANARY}")

    monkeypatch.setenv("POLYAI_CONNECTOR_TOKEN", CANARY)
    monkeypatch.setattr("polyai_sync.cli.plugins.run", explode)
    status, _, err = run("plugins")
    assert status == 1
    assert one_paragraph(err)
    assert "RuntimeError: boom ***" in err
    err = run("plugins", "--debug").err
    assert "Traceback" in err
    assert CANARY not in err


def test_interrupted_command_is_status_130(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("polyai_sync.cli.plugins.run", interrupt)
    assert run("plugins") == (130, "", "")


# --- as a program ---


def program(*arguments: str, code: str | None = None, **options: object) -> subprocess.CompletedProcess[str]:
    command = ["-c", code] if code else ["-m", "polyai_sync"]
    return subprocess.run(
        [sys.executable, *command, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_program_ends_with_the_commands_status() -> None:
    assert program("explain", "404").returncode == 0
    assert program("explain", "nonsense-nobody-knows").returncode == 1
    assert program("dance").returncode == 2


def test_explaining_imports_neither_rich_nor_aiohttp_nor_the_emulator() -> None:
    code = (
        "import sys; from polyai_sync.cli import main; main(['explain', '404']); "
        "print(sorted({'rich', 'aiohttp', 'polyai_sync.emulator', 'asyncio'} & set(sys.modules)))"
    )
    assert program(code=code).stdout.endswith("[]\n")


def test_without_aiohttp_the_emulator_says_what_to_install() -> None:
    code = "import sys; sys.modules['aiohttp'] = None; from polyai_sync.cli import main; sys.exit(main())"
    for arguments in (("emulator",), ("chat", "--demo"), ("emulator", "--fault", "list")):
        ran = program(*arguments, code=code)
        assert ran.returncode == 2
        assert ran.stderr == "polyai-sync: The emulator needs aiohttp: pip install 'polyai-sync[emulator]'\n"
    assert program("explain", "404", code=code).returncode == 0


def test_reader_that_has_seen_enough_is_no_error() -> None:
    ran = subprocess.run(
        f"{sys.executable} -m polyai_sync explain --all | true",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""


def test_output_in_a_poor_encoding_is_still_output() -> None:
    ran = program("explain", "--all", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (ran.returncode, ran.stderr) == (0, "")
