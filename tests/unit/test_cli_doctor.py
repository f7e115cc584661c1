"""``polyai-sync doctor``: which step fails, why, and what to do."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
import trustme
from cli_run import CANARY, Ran, clean_environment, point_at, runner

from polyai_sync import CATALOG
from polyai_sync.cli.examination import STEPS, token_expiry
from polyai_sync.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ALL = list(STEPS)
OK_OVER_HTTP = ["ok", "ok", "ok", "skipped", *["ok"] * 8]


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


def findings(out: str) -> dict[str, str]:
    return {step["name"]: step["status"] for step in json.loads(out)["steps"]}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_healthy_service_passes_every_step(run, desk: Emulator) -> None:
    status, out, err = run("doctor")
    assert (status, err) == (0, "")
    marks = [line for line in out.splitlines() if re.match(r"[✓·✗]", line)]
    assert [line[3:20].strip() for line in marks] == ALL
    assert all(re.search(r"\d ms  ", line) for line in marks if line.startswith("✓"))
    assert "Everything works." in out
    assert desk.session.end_reason == "REASON_USER_END"
    assert not any(event["type"] == "EVENT_TYPE_USER_MESSAGE" for event in desk.session.received)


def test_settings_are_shown_with_their_origin_and_without_the_token(run, desk: Emulator) -> None:
    out = run("doctor", "--host", "app.localhost").out
    assert "kept secret (from POLYAI_CONNECTOR_TOKEN)" in out
    assert "app.localhost (from --host)" in out
    assert f"{desk.url} (from POLYAI_BASE_URL)" in out
    assert re.search("proxy +none", out)
    assert CANARY not in out


def test_expiry_of_the_access_token_is_shown(run, desk: Emulator) -> None:
    out = run("doctor").out
    assert re.search(r"access token for 86400 s, good until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", out)
    desk.faults.add("token.not_jwt")
    assert "its own text gives no expiry" in run("doctor").out


def test_findings_as_json(run, desk: Emulator) -> None:
    status, out, _ = run("doctor", "--json")
    report = json.loads(out)
    assert status == 0
    assert report["ok"] is True
    assert report["error"] is None
    assert list(findings(out).values()) == OK_OVER_HTTP
    assert all(step["milliseconds"] >= 0 for step in report["steps"] if step["status"] == "ok")
    assert report["settings"]["base URL"].startswith(desk.url)


@pytest.mark.parametrize(
    ("fault", "options", "step", "code"),
    [
        ("access_token.unknown_connector", {}, "access token", "access_token.unknown_connector"),
        ("access_token.host_mismatch", {}, "access token", "access_token.host_mismatch"),
        ("http.rate_limited", {"on": "access_token"}, "access token", "http.rate_limited"),
        ("token.missing", {}, "access token", "client.protocol"),
        ("http.redirected", {"on": "access_token"}, "access token", "http.redirected"),
        ("session_create.invalid_token", {}, "session", "session_create.invalid_token"),
        ("session_create.failed", {}, "session", "session_create.failed"),
        ("http.no_answer", {"on": "session_create"}, "session", "client.connect_failed"),
        ("connect.authentication_failed", {}, "WebSocket", "connect.authentication_failed"),
        ("connect.too_many_connections", {}, "WebSocket", "connect.too_many_connections"),
        ("connect.answered_200", {}, "WebSocket", "client.protocol"),
        ("accept_then_drop", {}, "history", "client.connection_lost"),
        ("start.no_session_start", {}, "history", "client.ready_timeout"),
        ("start.no_join", {}, "join", "client.ready_timeout"),
        ("agent.start_failed", {}, "join", "agent.start_failed"),
        ("session.connector_not_found", {"on": "join"}, "join", "session.connector_not_found"),
        ("end.unanswered", {}, "end", "client.wait_timeout"),
    ],
)
def test_first_failure_is_explained_and_the_rest_not_tried(
    run, desk: Emulator, fault: str, options: dict[str, str], step: str, code: str
) -> None:
    desk.faults.add(fault, **options)
    status, out, err = run("doctor", "--timeout", "1.5")
    assert (status, err) == (1, "")
    marks = {line[3:20].strip(): line for line in out.splitlines() if re.match(r"[✓·✗]", line)}
    assert [name for name, line in marks.items() if line.startswith("✗")] == [step]
    assert all(line.endswith("not tried") for name, line in marks.items() if ALL.index(name) > ALL.index(step))
    assert not any(line.endswith("not tried") for name, line in marks.items() if ALL.index(name) < ALL.index(step))
    entry = next(entry for entry in CATALOG if entry.code == code)
    explained = out.partition(f"\n{code}  ")[2]
    assert f"Step        {step}" in explained
    assert "What to do  " in explained
    assert entry.resolution in out or code in ("client.protocol", "client.connect_failed", "client.wait_timeout")
    assert CANARY not in out
    assert not re.search(r"eyJ[\w-]{10,}", out)


def test_step_that_waits_in_vain_says_for_how_long(run, desk: Emulator) -> None:
    desk.faults.add("history.never")
    steps = {step["name"]: step for step in json.loads(run("doctor", "--json", "--timeout", "0.7").out)["steps"]}
    assert steps["WebSocket"]["milliseconds"] < 500 <= steps["history"]["milliseconds"] < 5000
    assert "No SESSION_START came within 0.7 s" in steps["history"]["detail"]


def test_failure_as_json_holds_the_catalogues_entry(run, desk: Emulator) -> None:
    desk.faults.add("connect.too_many_connections", retry_after=7)
    status, out, _ = run("doctor", "--json")
    report = json.loads(out)
    assert status == 1
    assert report["ok"] is False
    assert list(findings(out).values())[6:] == ["failed", *["not tried"] * 5]
    error = report["error"]
    assert (error["code"], error["status"], error["retry_after"]) == ("connect.too_many_connections", 429, 7.0)
    assert error["retryable"] is True
    assert error["request_id"]


def test_session_is_not_left_behind_after_a_failure(run, desk: Emulator) -> None:
    desk.faults.add("agent.start_failed")
    assert run("doctor").status == 1
    assert desk.session.end_reason == "REASON_USER_END"


def test_agent_that_does_not_greet_is_no_failure(run, desk: Emulator) -> None:
    desk.faults.add("start.no_greeting")
    status, out, _ = run("doctor", "--json", "--timeout", "0.4")
    assert status == 0
    assert findings(out)["greeting"] == "skipped"


def test_nothing_is_tried_twice(run, desk: Emulator) -> None:
    desk.faults.add("http.server_error", on="access_token")
    assert run("doctor").status == 1
    assert [entry.surface for entry in desk.log] == ["access_token"]


def test_wrong_token_is_told_apart_from_a_wrong_host(run, desk: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "access_token.host_mismatch" in run("doctor", "--host", "https://other.example").out
    monkeypatch.setenv("POLYAI_CONNECTOR_TOKEN", "somebody-elses-token")
    out = run("doctor").out
    assert "access_token.unknown_connector" in out
    assert "somebody-elses-token" not in out


def test_refused_port_fails_at_tcp(run, desk: Emulator) -> None:
    status, out, _ = run("doctor", "--base-url", f"http://127.0.0.1:{free_port()}")
    assert status == 1
    assert re.search(r"✓  name resolution", out)
    assert re.search(r"✗  TCP .*refused", out)
    assert "check host and port" in out


def test_name_that_does_not_resolve_fails_at_name_resolution(run, desk: Emulator) -> None:
    status, out, _ = run("doctor", "--base-url", "https://no-such-host.invalid", "--timeout", "10")
    assert status == 1
    assert re.search(r"✗  name resolution .*no-such-host.invalid", out)
    assert "not tried" in out


def test_cluster_that_is_misspelt_is_told_the_likely_one(run, desk: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    status, out, _ = run("doctor", "--cluster", "EUW1")
    assert status == 2
    assert "did you mean euw-1" in out
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    status, out, _ = run("doctor", "--cluster", "euw-11")
    assert status == 1
    assert "messaging.euw-11.poly.ai has no address" in out
    assert "did you mean euw-1?" in out
    assert "us-1, uk-1, euw-1" in out
    out = run("doctor", "--cluster", "us-1").out
    assert "did you mean" not in out
    assert "Could not resolve" in out


def test_missing_settings_are_status_2_and_nothing_is_tried(run) -> None:
    status, out, _ = run("doctor", "--json")
    assert status == 2
    assert list(findings(out).values()) == ["failed", *["not tried"] * 11]
    assert "POLYAI_CONNECTOR_TOKEN" in json.loads(out)["error"]["message"]


def test_proxy_is_named_and_tried_in_place_of_the_service(run, desk: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{CANARY}@127.0.0.1:{port}")
    status, out, _ = run("doctor", "--cluster", "us-1")
    assert status == 1
    assert re.search(rf"proxy +127\.0\.0\.1:{port}\n", out)
    assert re.search(rf"✗  TCP .*refused by the proxy 127\.0\.0\.1:{port}", out)
    assert CANARY not in out


def test_token_given_as_host_is_not_shown(run, desk: Emulator) -> None:
    for host in (CANARY, "another-token-entirely"):
        out = run("doctor", "--host", host).out
        assert host not in out


def test_server_that_speaks_no_tls_fails_at_tls(run, desk: Emulator) -> None:
    status, out, _ = run("doctor", "--base-url", desk.url.replace("http:", "https:"), "--timeout", "3")
    assert status == 1
    assert re.search("✗  TLS ", out)
    assert desk.tokens_minted == 0


def test_certificate_is_shown(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", common_name="localhost").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with Emulator(tls=context) as emulator:
        point_at(emulator, monkeypatch)
        url = emulator.url.replace("127.0.0.1", "localhost")
        status, out, _ = run("doctor", "--base-url", url, "--timeout", "5")
        assert status == 1
        assert re.search("✗  TLS .*not trusted", out)
        assert "REQUESTS_CA_BUNDLE" in out
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        status, out, _ = run("doctor", "--base-url", url)
    assert status == 0, out
    assert re.search(r"✓  TLS .*TLSv1\.\d, certificate of localhost from trustme.*, valid until .* GMT", out)
    assert f"CA bundle   {bundle}" in out


@pytest.mark.parametrize(
    ("payload", "expiry"),
    [
        ({"exp": 1_900_000_000}, datetime(2030, 3, 17, 17, 46, 40, tzinfo=timezone.utc)),
        ({"exp": 1_900_000_000.5}, datetime(2030, 3, 17, 17, 46, 40, 500_000, tzinfo=timezone.utc)),
        ({}, None),
        ({"exp": "soon"}, None),
        ({"exp": True}, None),
        ({"exp": 1e300}, None),
        ({"exp": float("nan")}, None),
        ([], None),
    ],
)
def test_expiry_is_read_from_the_token(payload: object, expiry: datetime | None) -> None:
    middle = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    assert token_expiry(f"eyJhbGciOiJIUzI1NiJ9.{middle}.c2ln") == expiry


@pytest.mark.parametrize("token", ["", "opaque", "a.b.c", "a.!!!.c", "a.YQ.c.d", "é.é.é"])
def test_token_that_is_no_jwt_has_no_expiry(token: str) -> None:
    assert token_expiry(token) is None
