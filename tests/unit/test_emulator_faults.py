"""Every fault of the table changes what is seen as its sentence says, and nothing after it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from emulator_wire import Line, Peer, kind, kinds, seconds_between, text_of
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from polyai_sync.emulator import EchoAgent, Emulator, Faults, Handoff, Say, image
from polyai_sync.emulator.fault_rows import OCCASIONS, SYSTEM_TEXTS
from polyai_sync.emulator.fault_table import FAULT_TABLE
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECKS: dict[str, Callable[[Peer], None]] = {}
SURFACES = ("access_token", "session_create", "connect")


class Agent(EchoAgent):
    """An echo with a picture, suggestions, and a handoff when asked for one."""

    def __call__(self, turn):
        if "person" in turn.text:
            yield Handoff()
        elif turn.greeting or turn.live:
            yield self.greeting
        else:
            yield Say(f"You said: {turn.text}", attachments=[image("A", "https://a.example")], suggestions=["More"])


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Emulator(agent=Agent()) as emulator:
        peer = Peer(emulator)
        yield peer
        peer.close()


def sees(*names: str) -> Callable[[Callable[[Peer], None]], Callable[[Peer], None]]:
    def keep(check: Callable[[Peer], None]) -> Callable[[Peer], None]:
        CHECKS.update(dict.fromkeys(names, check))
        return check

    return keep


@pytest.mark.parametrize("name", FAULT_TABLE)
def test_each_fault_is_seen_as_its_sentence_says(peer: Peer, name: str) -> None:
    if name in CHECKS:
        CHECKS[name](peer)
    elif FAULT_TABLE[name].status is not None:
        check_refusal(peer, name)
    else:
        check_system_message(peer, name)
    assert not peer.emulator.faults.pending


def test_every_check_is_of_a_fault() -> None:
    assert set(CHECKS) <= set(FAULT_TABLE)
    assert set(Faults.names()) == set(FAULT_TABLE)
    assert all(sentence.endswith(".") for sentence in Faults.names().values())


def test_every_row_of_the_catalogue_that_a_server_can_cause_is_a_fault() -> None:
    rows = json.loads((Path(__file__).parents[1] / "data" / "error-codes.json").read_text())
    served = [row for row in rows if not row["code"].startswith("client.")]
    assert {row["code"] for row in served} <= set(FAULT_TABLE)
    for row in served:
        fault = FAULT_TABLE[row["code"]]
        if row["text"] and row["code"] != "event.not_allowed":  # there the type follows
            assert fault.text == row["text"]
        if row["surface"] not in ("http", "websocket"):
            assert (fault.on, fault.status) == ((row["surface"],), row["status"])


def test_every_occasion_is_one_that_comes() -> None:
    named = {occasion for row in FAULT_TABLE.values() for occasion in (*row.on, *row.also)}
    assert named == set(OCCASIONS)


# --- refusals -----------------------------------------------------------------------------------------------------


def ask(peer: Peer, surface: str) -> requests.Response:
    """One request of that surface that would succeed."""
    if surface == "access_token":
        return peer.token()
    token = peer.token().json()["access_token"]
    answer = peer.session(f"Bearer {token}")
    if surface == "session_create":
        return answer
    url = peer.socket_url(session_id=answer.json()["session_id"], access_token=token).replace("ws", "http", 1)
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    return requests.get(url, headers={**upgrade, **key}, timeout=5, allow_redirects=False, stream=True)


GOOD = {"access_token": 200, "session_create": 200, "connect": 101}


def check_refusal(peer: Peer, name: str) -> None:
    row = FAULT_TABLE[name]
    for surface in row.on:
        peer.emulator.faults.add(name, on=surface)
        answer = ask(peer, surface)
        assert (answer.status_code, answer.json()["error"]) == (row.status, row.text)
        assert peer.emulator.log[-1].status == row.status
        answer.close()
        answer = ask(peer, surface)
        assert answer.status_code == GOOD[surface]
        answer.close()


@pytest.mark.parametrize("shape", ["message", "detail", "error_message", "nested", "text"])
def test_the_text_of_a_refusal_can_be_anywhere(peer: Peer, shape: str) -> None:
    peer.emulator.faults.add("access_token.unknown_connector", shape=shape)
    answer = peer.token()
    text = "Connector token does not exist"
    seen = {"nested": {"error": {"message": text, "code": 7}}, "text": None}.get(shape, {shape: text})
    assert answer.text == text if seen is None else answer.json() == seen


def test_a_refusal_takes_status_text_body_headers_and_retry_after(peer: Peer) -> None:
    add = peer.emulator.faults.add
    add("http.server_error", status=500, text="Error creating session", retry_after="Wed, 21 Oct 2065 07:28:00 GMT")
    add("http.server_error", body="<h1>No</h1>", headers={"Content-Type": "text/html", "X-Note": "n"})
    add("http.server_error", body=b"\xff\xfe", retry_after=-5)
    add("http.server_error", body={"odd": [1]})
    answer = peer.token()
    assert (answer.status_code, answer.json()["error"]) == (500, "Error creating session")
    assert answer.headers["Retry-After"] == "Wed, 21 Oct 2065 07:28:00 GMT"
    answer = peer.token()
    assert (answer.text, answer.headers["X-Note"]) == ("<h1>No</h1>", "n")
    assert answer.headers["Content-Type"].startswith("text/html")
    answer = peer.token()
    assert (answer.content, answer.headers["Retry-After"]) == (b"\xff\xfe", "-5")
    assert peer.token().json() == {"odd": [1]}


@sees("http.redirected")
def _(peer: Peer) -> None:
    for surface in SURFACES:
        peer.emulator.faults.add("http.redirected", on=surface)
        answer = ask(peer, surface)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/elsewhere")
    peer.emulator.faults.add("http.redirected", status=307, location="https://evil.example/")
    answer = peer.token()
    assert (answer.status_code, answer.headers["Location"]) == (307, "https://evil.example/")


@sees("http.rate_limited")
def _(peer: Peer) -> None:
    for surface in SURFACES:
        peer.emulator.faults.add("http.rate_limited", on=surface, retry_after=0.25)
        answer = ask(peer, surface)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "0.25")


@sees("http.no_answer")
def _(peer: Peer) -> None:
    for surface in SURFACES:
        peer.emulator.faults.add("http.no_answer", on=surface)
        with pytest.raises(requests.ConnectionError):
            ask(peer, surface)
        assert peer.emulator.log[-1].status is None


@sees("http.hang")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("http.hang")
    with pytest.raises(requests.Timeout):
        requests.post(f"{peer.emulator.url}/api/v1/access-token", timeout=0.2)
    assert peer.token().status_code == 200


@sees("http.slow")
def _(peer: Peer) -> None:
    for surface in SURFACES:
        peer.emulator.faults.add("http.slow", on=surface, delay=0.1)
        started = time.monotonic()
        answer = ask(peer, surface)
        assert answer.status_code == GOOD[surface]
        assert time.monotonic() - started > 0.09
        answer.close()


@sees("http.huge_body")
def _(peer: Peer) -> None:
    for surface in SURFACES:
        peer.emulator.faults.add("http.huge_body", on=surface, size=3_000_000)
        answer = ask(peer, surface)
        assert (answer.status_code, len(answer.content)) == (503, 3_000_000)


@sees("connect.answered_200")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("connect.answered_200")
    with pytest.raises(InvalidStatus) as caught:
        peer.line(*peer.fresh())
    assert caught.value.response.status_code == 200


# --- answers ------------------------------------------------------------------------------------------------------


def claims(token: str) -> dict:
    import base64

    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@sees("token.camel_case")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("token.camel_case")
    assert peer.token().json().keys() == {"accessToken", "expiresIn", "token_type"}


@sees("token.no_lifetime")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("token.no_lifetime")
    assert peer.token().json().keys() == {"access_token", "token_type"}


@sees("token.missing")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("token.missing")
    answer = peer.token()
    assert (answer.status_code, answer.json()) == (200, {"token_type": "Bearer"})


@sees("token.not_json", "session_create.not_json")
def _(peer: Peer) -> None:
    token = peer.token().json()["access_token"]
    peer.emulator.faults.add("token.not_json")
    peer.emulator.faults.add("session_create.not_json")
    for answer in (peer.token(), peer.session(f"Bearer {token}")):
        assert answer.status_code == 200
        with pytest.raises(ValueError):
            answer.json()


@sees("token.not_jwt", "token.no_exp", "token.float_exp")
def _(peer: Peer) -> None:
    for name in ("token.not_jwt", "token.no_exp", "token.float_exp"):
        peer.emulator.faults.add(name)
    mixed = peer.token().json()["access_token"]
    assert "." not in mixed
    assert peer.session(f"Bearer {mixed}").status_code == 200
    peer.emulator.faults.add("token.no_exp")
    token = peer.token().json()["access_token"]
    assert claims(token).keys() == {"sub", "iat"}
    assert peer.session(f"Bearer {token}").status_code == 200
    peer.emulator.faults.add("token.float_exp")
    assert isinstance(claims(peer.token().json()["access_token"])["exp"], float)


@sees("token.expired")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("token.expired")
    token = peer.token().json()["access_token"]
    assert claims(token)["exp"] < time.time()
    assert peer.session(f"Bearer {token}").json()["error"] == "Invalid access token"


@sees("session_create.camel_case", "session_create.id_only", "session_create.no_id")
def _(peer: Peer) -> None:
    for name, keys in (("camel_case", {"sessionId"}), ("id_only", {"id"}), ("no_id", set())):
        peer.emulator.faults.add(f"session_create.{name}")
        token = peer.token().json()["access_token"]
        answer = peer.session(f"Bearer {token}")
        assert (answer.status_code, answer.json().keys()) == (200, keys)
    assert peer.emulator.sessions_created == 2


# --- errors as system messages ------------------------------------------------------------------------------------


def check_system_message(peer: Peer, name: str) -> None:
    line = peer.joined()
    peer.emulator.faults.add(name)
    line.send("USER_MESSAGE", {"text": "one two three four"}, client_event_id="m1")
    events = line.reply()
    while kind(events[-1]) != "SYSTEM_MESSAGE":
        events += line.reply()
    error = events[-1]
    text = SYSTEM_TEXTS[name]
    assert error["payload"] == {"level": "SYSTEM_MESSAGE_LEVEL_ERROR", "message": text}
    assert error["metadata"] == {"custom": {"client_event_id": "m1"}}
    assert kind(events[0]) == "USER_MESSAGE"
    assert error["sequence"]
    assert text_of(events) == ("You said: one " if name == "agent.stream_failed" else "")
    assert not any(event["payload"].get("is_complete") for event in events)
    line.say("again")
    assert text_of(line.reply()) == "You said: again"


@sees("event.unknown", "event.not_allowed")
def _(peer: Peer) -> None:
    line = peer.joined()
    for name in ("event.unknown", "event.not_allowed"):
        peer.emulator.faults.add(name)
        line.send("USER_MESSAGE", {"text": "refused"}, client_event_id="m1")
        error = line.next()
        assert error["payload"]["message"] == SYSTEM_TEXTS[name]
        assert error["metadata"]["custom"] == {"client_event_id": "m1"}
        assert error["sequence"] is None
    assert line.settled() == []
    assert ("user", "refused") not in peer.emulator.session.transcript


def started(peer: Peer) -> Line:
    """A line whose join is sent."""
    line = peer.line(*peer.fresh())
    line.next()
    line.send("REQUEST_POLY_AGENT_JOIN", client_event_id="j1")
    return line


@sees("agent.start_failed")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("agent.start_failed")
    line = started(peer)
    echo, error = line.reply()
    assert kind(echo) == "REQUEST_POLY_AGENT_JOIN"
    assert error["payload"]["message"] == SYSTEM_TEXTS["agent.start_failed"]
    assert not peer.emulator.session.joined
    line.send("REQUEST_POLY_AGENT_JOIN")
    assert "POLY_AGENT_JOINED" in kinds(line.reply())


def test_an_error_can_meet_the_join_the_handoff_or_be_tied_to_nothing(peer: Peer) -> None:
    peer.emulator.faults.add("session.unavailable", on="join")
    line = started(peer)
    assert line.reply()[-1]["payload"]["message"] == SYSTEM_TEXTS["session.unavailable"]
    line.send("REQUEST_POLY_AGENT_JOIN")
    line.reply()
    peer.emulator.faults.add("handoff.no_live_agent", on="handoff", metadata=False, text="Nobody.", delay=0.05)
    line.say("a person, please")
    events = line.reply()
    assert kinds(events)[-2:] == ["POLY_AGENT_TRIGGERED_HANDOFF", "SYSTEM_MESSAGE"]
    assert events[-1]["payload"]["message"] == "Nobody."
    assert "metadata" not in events[-1]


def test_an_error_can_be_followed_by_the_end(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("session.not_found", then_end=True)
    line.say("hello?")
    assert line.gone() == 1000
    assert kinds(line.seen)[-2:] == ["SYSTEM_MESSAGE", "SESSION_END"]


@sees("handoff.message_not_forwarded")
def _(peer: Peer) -> None:
    line = peer.joined()
    line.say("a person, please")
    line.until("LIVE_AGENT_JOINED")
    peer.emulator.faults.add("handoff.message_not_forwarded")
    line.say("hello?")
    assert kinds(line.reply()) == ["USER_MESSAGE", "SYSTEM_MESSAGE"]
    line.say("hello?")
    assert kinds(line.reply()) == ["USER_MESSAGE", "LIVE_AGENT_MESSAGE"]


@sees("system.info", "system.warning", "system.odd_level")
def _(peer: Peer) -> None:
    line = peer.joined()
    for name, level in (("info", "INFO"), ("warning", "WARNING"), ("odd_level", "GOSSIP")):
        peer.emulator.faults.add(f"system.{name}", text="Note.")
        line.say("x")
        notice = line.until("SYSTEM_MESSAGE")
        assert notice["payload"] == {"level": f"SYSTEM_MESSAGE_LEVEL_{level}", "message": "Note."}
        assert text_of(line.reply()) == "You said: x"


@sees("agent.silent")
def _(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("agent.silent")
    line.say("x")
    assert kind(line.next()) == "USER_MESSAGE"
    assert line.silent()


@sees("agent.slow")
def _(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("agent.slow", delay=0.15)
    line.say("x")
    echo, thinking = line.next(), line.next()
    assert kinds([echo, thinking]) == ["USER_MESSAGE", "POLY_AGENT_THINKING"]
    assert seconds_between(echo, thinking) >= 0.15


# --- the start ----------------------------------------------------------------------------------------------------


@sees("start.no_session_start", "start.no_capabilities", "start.odd_capabilities")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("start.no_session_start")
    assert peer.line(*peer.fresh()).next()["payload"]["events"] == []
    peer.emulator.faults.add("start.no_capabilities")
    assert peer.line(*peer.fresh()).next()["payload"]["events"][0]["payload"] == {}
    peer.emulator.faults.add("start.odd_capabilities")
    odd = peer.line(*peer.fresh()).next()["payload"]["events"][0]["payload"]["capabilities"]
    assert odd["heartbeat_interval_seconds"] == [30]


@sees("start.no_join_echo")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("start.no_join_echo")
    assert kind(started(peer).next()) == "POLY_AGENT_JOINED"


@sees("start.no_join")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("start.no_join")
    line = started(peer)
    assert kind(line.next()) == "REQUEST_POLY_AGENT_JOIN"
    assert line.silent()
    assert not peer.emulator.session.joined


@sees("start.no_greeting")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("start.no_greeting")
    line = started(peer)
    assert kinds([line.next(), line.next()]) == ["REQUEST_POLY_AGENT_JOIN", "POLY_AGENT_JOINED"]
    assert line.silent()


@sees("start.slow_greeting")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("start.slow_greeting", delay=0.15)
    line = started(peer)
    joined = line.until("POLY_AGENT_JOINED")
    assert seconds_between(joined, line.next()) >= 0.15


@sees("start.join_lost")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("start.join_lost")
    line = started(peer)
    assert line.gone() is None
    assert len(line.seen) == 1
    assert len(peer.emulator.session.journal) == 1
    peer.emulator.faults.add("start.join_lost", accepted=True)
    line = started(peer)
    assert line.gone() is None
    assert len(line.seen) == 1
    wait_until(lambda: len(peer.emulator.session.journal) > 4)
    assert kinds(peer.again(1).next()["payload"]["events"])[:2] == ["REQUEST_POLY_AGENT_JOIN", "POLY_AGENT_JOINED"]


# --- the history --------------------------------------------------------------------------------------------------


def history(line: Line) -> list[dict]:
    """All that comes before the echo of a first heartbeat."""
    return line.settled()


@sees("history.split")
def _(peer: Peer) -> None:
    peer.joined()
    journal = list(peer.emulator.session.journal)
    for size in (1, 2):
        peer.emulator.faults.add("history.split", size=size)
        batches = [batch["payload"]["events"] for batch in history(peer.again())]
        assert batches == [journal[start : start + size] for start in range(0, len(journal), size)]


@sees("history.unbatched")
def _(peer: Peer) -> None:
    peer.joined()
    peer.emulator.faults.add("history.unbatched")
    assert history(peer.again(2)) == list(peer.emulator.session.journal)[2:]


@sees("history.reversed")
def _(peer: Peer) -> None:
    peer.joined()
    peer.emulator.faults.add("history.reversed")
    (batch,) = history(peer.again())
    assert batch["payload"]["events"] == list(peer.emulator.session.journal)[::-1]


@sees("history.duplicate")
def _(peer: Peer) -> None:
    peer.joined()
    peer.emulator.faults.add("history.duplicate")
    first, second = history(peer.again())
    assert first["payload"] == second["payload"] == {"events": list(peer.emulator.session.journal)}


@sees("history.overlap_live")
def _(peer: Peer) -> None:
    peer.joined()
    peer.emulator.faults.add("history.overlap_live", count=2)
    batch, *live = history(peer.again())
    assert live == batch["payload"]["events"][-2:] == list(peer.emulator.session.journal)[-2:]


@sees("history.full_replay")
def _(peer: Peer) -> None:
    peer.joined()
    peer.emulator.faults.add("history.full_replay")
    (batch,) = history(peer.again(4))
    assert batch["payload"]["events"] == list(peer.emulator.session.journal)


@sees("history.none_on_cursor")
def _(peer: Peer) -> None:
    peer.joined()
    last = len(peer.emulator.session.journal)
    assert [batch["payload"] for batch in history(peer.again(last))] == [{"events": []}]
    peer.emulator.faults.add("history.none_on_cursor")
    assert history(peer.again(last)) == []


@sees("history.late")
def _(peer: Peer) -> None:
    peer.joined()
    before = list(peer.emulator.session.journal)
    peer.emulator.faults.add("history.late", delay=0.15)
    line = peer.again()
    assert history(line) == []
    live = peer.emulator.session.emit("LANGUAGE_CHANGED", {"language_code": "de"})
    assert line.next() == live
    assert line.next()["payload"]["events"] == before


@sees("history.never")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("history.never")
    line = peer.line(*peer.fresh())
    assert history(line) == []
    assert line.silent()


@sees("sequence.hole")
def _(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("sequence.hole", event="POLY_AGENT_THINKING")
    line.say("x")
    live = [event["sequence"] for event in line.reply()]
    hidden = [event["sequence"] for event in peer.emulator.session.journal if event["sequence"] not in live][-1]
    assert live[0] + 1 == hidden == live[1] - 1
    assert kind(peer.again(live[0]).next()["payload"]["events"][0]) == "POLY_AGENT_THINKING"


@sees("sequence.permanent_hole")
def _(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("sequence.permanent_hole")
    last = peer.emulator.session.journal[-1]["sequence"]
    line.say("x")
    assert line.next()["sequence"] == last + 2
    assert peer.again(last).next()["payload"]["events"][0]["sequence"] == last + 2


@sees("sequence.duplicate")
def _(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("sequence.duplicate")
    line.say("x")
    echo = line.next()
    assert kind(echo) == "USER_MESSAGE"
    assert line.next() == echo


# --- messages -----------------------------------------------------------------------------------------------------


@sees("message.dropped")
def _(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("message.dropped")
    line.say("lost")
    assert line.settled() == []
    line.say("kept")
    line.reply()
    assert [text for role, text in peer.emulator.session.transcript if role == "user"] == ["kept"]


@sees("message.dropped_then_drop")
def _(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("message.dropped_then_drop")
    before = peer.emulator.session.journal
    line.say("lost")
    assert line.gone() is None
    assert peer.emulator.session.journal == before


@sees("message.echo_lost_then_drop")
def _(peer: Peer) -> None:
    line = peer.joined()
    seen = len(line.seen)
    peer.emulator.faults.add("message.echo_lost_then_drop")
    line.say("kept")
    assert line.gone() is None
    assert len(line.seen) == seen
    wait_until(lambda: peer.emulator.session.transcript[-2:] == (("user", "kept"), ("agent", "You said: kept")))


@sees("message.echo_delayed")
def _(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("message.echo_delayed", delay=0.15)
    line.say("late")
    assert line.settled() == []
    assert peer.emulator.session.transcript[-1] == ("user", "late")
    assert kinds(line.reply())[:2] == ["USER_MESSAGE", "POLY_AGENT_THINKING"]
    peer.emulator.faults.add("message.echo_delayed", delay=0.0, reply_first=True)
    line.say("later")
    assert text_of(line.reply()) == "You said: later"
    echo = line.next()
    assert (kind(echo), echo["payload"]["text"]) == ("USER_MESSAGE", "later")


@sees("message.echo_lost")
def _(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("message.echo_lost")
    line.say("kept")
    assert kind(line.next()) == "POLY_AGENT_THINKING"
    assert ("user", "kept") in peer.emulator.session.transcript


@sees("message.doubled")
def _(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("message.doubled")
    line.say("twice")
    first, second = line.next(), line.next()
    assert kinds([first, second]) == ["USER_MESSAGE"] * 2
    assert first["id"] != second["id"]
    assert text_of(line.reply()) == text_of(line.reply()) == "You said: twice"


@sees("heartbeat.dropped", "wire.heartbeat_echo_bare", "wire.heartbeat_sequenced")
def _(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("heartbeat.dropped")
    line.send("HEARTBEAT")
    assert line.settled() == []
    peer.emulator.faults.add("wire.heartbeat_echo_bare")
    line.send("HEARTBEAT")
    assert line.next() == {"type": "EVENT_TYPE_HEARTBEAT", "payload": {}}
    peer.emulator.faults.add("wire.heartbeat_sequenced")
    line.send("HEARTBEAT")
    echo = line.next()
    assert echo == peer.emulator.session.journal[-1]
    assert kind(echo) == "HEARTBEAT"


# --- streams ------------------------------------------------------------------------------------------------------

TEXT = "one two three four five"
WHOLE = f"You said: {TEXT}"


def streamed(peer: Peer, name: str, **options: object) -> list[dict]:
    """The payloads of a streamed reply under a fault, up to the echo of a heartbeat sent after it."""
    line = peer.joined()
    peer.emulator.faults.add(name, **options)
    line.say(TEXT)
    line.until("POLY_AGENT_THINKING")
    mark = len(line.seen)
    wait_until(lambda: not peer.emulator.faults.pending)
    peer.emulator.session.act()
    line.settled()
    return [event["payload"] for event in line.seen[mark:] if "AGENT_MESSAGE" in event["type"]]


def indices(payloads: list[dict]) -> list[int]:
    return [payload["chunk_index"] for payload in payloads if "chunk_index" in payload]


@sees("stream.zero_based")
def _(peer: Peer) -> None:
    assert indices(streamed(peer, "stream.zero_based")) == [0, 1, 2, 3, 4, 5, 6]


@sees("stream.repeated_chunk")
def _(peer: Peer) -> None:
    assert indices(streamed(peer, "stream.repeated_chunk")) == [1, 1, 2, 3, 4, 5, 6, 7]
    assert peer.emulator.session.transcript[-1] == ("agent", WHOLE)


@sees("stream.out_of_order")
def _(peer: Peer) -> None:
    assert indices(streamed(peer, "stream.out_of_order")) == [1, 2, 4, 3, 5, 6, 7]
    assert peer.emulator.session.transcript[-1] == ("agent", WHOLE)


@sees("stream.missing_chunk")
def _(peer: Peer) -> None:
    payloads = streamed(peer, "stream.missing_chunk")
    assert indices(payloads) == [1, 2, 3, 5, 6, 7]
    assert payloads[-1]["is_complete"]


@sees("stream.interleaved")
def _(peer: Peer) -> None:
    payloads = streamed(peer, "stream.interleaved", text="And a word")
    ids = [payload["message_id"] for payload in payloads]
    assert ids[0] == ids[2] == ids[4]
    assert ids[1] == ids[3] == ids[5] != ids[0]
    assert peer.emulator.session.transcript[-2:] == (("agent", WHOLE), ("agent", "And a word"))


@sees("stream.abandoned")
def _(peer: Peer) -> None:
    payloads = streamed(peer, "stream.abandoned")
    assert indices(payloads) == [1, 2, 3]
    assert not any(payload["is_complete"] for payload in payloads)


@sees("stream.replaced_by_whole")
def _(peer: Peer) -> None:
    *chunks, whole = streamed(peer, "stream.replaced_by_whole", text="Better.")
    assert indices(chunks) == [1, 2, 3, 4, 5, 6, 7]
    assert (whole["message_id"], whole["text"]) == (chunks[0]["message_id"], "Better.")
    assert peer.emulator.session.transcript[-1] == ("agent", "Better.")


@sees("stream.no_final_text")
def _(peer: Peer) -> None:
    payloads = streamed(peer, "stream.no_final_text")
    assert payloads[-1]["text"] is None
    assert [payload["is_complete"] for payload in payloads] == [False] * 7 + [True]
    assert payloads[-1]["response_suggestions"] == [{"message_text": "More"}]


@sees("stream.slow")
def _(peer: Peer) -> None:
    started = time.monotonic()
    assert len(streamed(peer, "stream.slow", delay=0.02)) == 7
    assert time.monotonic() - started > 0.1


def test_a_short_text_is_cut_finer_so_that_it_can_go_wrong(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("stream.out_of_order")
    peer.emulator.session.act("Hello")
    chunks = [event["payload"] for event in line.settled()]
    assert sorted(indices(chunks)) != indices(chunks)
    assert peer.emulator.session.transcript[-1] == ("agent", "Hello")


# --- the end ------------------------------------------------------------------------------------------------------


def ending(peer: Peer, *names: str, **options: object) -> Line:
    line = peer.joined()
    for name in names:
        peer.emulator.faults.add(name, **options)
    line.send("USER_END_SESSION")
    return line


@sees("end.natural", "end.abandoned")
def _(peer: Peer) -> None:
    for name, reason in (("natural", "REASON_NATURAL_END"), ("abandoned", "REASON_USER_ABANDONED")):
        line = peer.joined()
        peer.emulator.faults.add(f"end.{name}")
        line.say("x")
        assert line.gone() == 1000
        assert line.seen[-2]["payload"]["is_complete"]
        assert line.seen[-1]["payload"] == {"reason": reason}


def test_the_end_can_come_before_the_reply(peer: Peer) -> None:
    for occasion in ("echo", "turn"):
        line = peer.joined()
        peer.emulator.faults.add("end.natural", on=occasion)
        line.say("x")
        assert line.gone() == 1000
        assert kinds(line.seen)[-2:] == ["USER_MESSAGE", "SESSION_END"]
    peer.emulator.faults.add("end.natural", on="opened")
    line = peer.line(*peer.fresh())
    assert line.gone() == 1000
    assert kinds(line.seen) == ["EVENT_BATCH", "SESSION_END"]


@sees("end.unanswered")
def _(peer: Peer) -> None:
    line = ending(peer, "end.unanswered")
    assert line.settled() == []
    assert not peer.emulator.session.ended


@sees("end.no_echo")
def _(peer: Peer) -> None:
    line = ending(peer, "end.no_echo")
    assert line.gone() == 1000
    assert "USER_END_SESSION" not in kinds(line.seen)
    assert line.seen[-1]["payload"] == {"reason": "REASON_USER_END"}


@sees("end.close_1000_only")
def _(peer: Peer) -> None:
    line = ending(peer, "end.close_1000_only")
    assert line.gone() == 1000
    assert kinds(line.seen)[-1] == "USER_END_SESSION"
    assert peer.emulator.session.ended


@sees("end.old_word", "end.null_reason")
def _(peer: Peer) -> None:
    line = ending(peer, "end.old_word")
    line.gone()
    assert line.seen[-1]["payload"] == {"reason": "user_ended"}
    line = ending(peer, "end.null_reason")
    line.gone()
    assert line.seen[-1]["payload"] == {"reason": None}


@sees("end.no_close")
def _(peer: Peer) -> None:
    line = ending(peer, "end.no_close")
    line.until("SESSION_END")
    assert line.silent()


# --- the line -----------------------------------------------------------------------------------------------------

MOMENTS = {
    "open": [],
    "opened": ["EVENT_BATCH"],
    "join": ["EVENT_BATCH"],
    "message": ["EVENT_BATCH"],
    "echo": ["EVENT_BATCH", "USER_MESSAGE"],
    "turn": ["EVENT_BATCH", "USER_MESSAGE"],
    "chunk": ["EVENT_BATCH", "USER_MESSAGE", "POLY_AGENT_THINKING", "POLY_AGENT_MESSAGE_CHUNK"],
    "heartbeat": ["EVENT_BATCH"],
}


def struck(peer: Peer, name: str, occasion: str) -> Line:
    """A line of a running session on which a fault strikes at that moment."""
    peer.joined()
    peer.emulator.session.drop()
    peer.emulator.faults.add(name, on=occasion)
    line = peer.again(len(peer.emulator.session.journal))
    try:
        if occasion == "join":
            line.send("REQUEST_POLY_AGENT_JOIN")
        elif occasion == "heartbeat":
            line.send("HEARTBEAT")
        elif occasion not in ("open", "opened"):
            line.say("x")
    except ConnectionClosed:
        assert occasion in ("open", "opened")
    return line


@sees("connection.drop")
def _(peer: Peer) -> None:
    for occasion, seen in MOMENTS.items():
        line = struck(peer, "connection.drop", occasion)
        assert line.gone() is None
        assert kinds(line.seen) == seen, occasion
        assert not peer.emulator.session.ended


@sees("close.<code>")
def _(peer: Peer) -> None:
    for code, (occasion, seen) in zip((4001, 1001, 1011, 1012, 1013, 4000, 3000, 1000), MOMENTS.items(), strict=True):
        line = struck(peer, f"close.{code}", occasion)
        assert line.gone() == code
        assert kinds(line.seen) == seen, occasion
    peer.emulator.faults.add("close.1011", on="reply", reason="out of order")
    line = peer.joined()
    line.say("x")
    line.reply()
    with pytest.raises(ConnectionClosed) as caught:
        line.next()
    assert caught.value.rcvd.reason == "out of order"


@sees("connection.silent")
def _(peer: Peer) -> None:
    for occasion, seen in MOMENTS.items():
        line = struck(peer, "connection.silent", occasion)
        for _ in seen:
            line.next()
        assert kinds(line.seen) == seen, occasion
        line.send("HEARTBEAT")
        assert line.silent(), occasion
        peer.emulator.session.drop()
        assert line.gone() is None


@sees("accept_then_drop")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("accept_then_drop", times=3)
    session = peer.fresh()
    for _ in range(3):
        line = peer.line(*session)
        assert line.gone() is None
        assert line.seen == []
    assert kind(peer.line(*session).next()) == "EVENT_BATCH"


# --- odd frames and odd events ------------------------------------------------------------------------------------


def before_the_echo(peer: Peer, name: str, **options: object) -> Line:
    line = peer.joined()
    peer.emulator.faults.add(name, **options)
    line.say("x")
    return line


@sees("wire.binary_frame")
def _(peer: Peer) -> None:
    line = before_the_echo(peer, "wire.binary_frame")
    assert line.raw() == b"\x00\x01\x02\x03"
    assert kind(line.next()) == "USER_MESSAGE"


@sees("wire.oversize_frame")
def _(peer: Peer) -> None:
    line = before_the_echo(peer, "wire.oversize_frame", size=3_000_000)
    assert len(line.raw()) == 3_000_000
    line.reply()
    peer.emulator.faults.add("wire.oversize_frame", claim=10_000_000_000)
    line.socket.protocol.max_message_size = 1 << 20
    line.say("x")
    with pytest.raises(ConnectionClosed) as caught:
        line.raw()
    assert caught.value.sent.code == 1009


@sees("wire.broken_json", "wire.deep_json", "wire.absurd_numbers")
def _(peer: Peer) -> None:
    for name in ("broken_json", "deep_json", "absurd_numbers"):
        line = before_the_echo(peer, f"wire.{name}")
        with pytest.raises((ValueError, RecursionError)):
            json.loads(line.raw())
        assert kind(line.next()) == "USER_MESSAGE"


@sees("wire.not_object")
def _(peer: Peer) -> None:
    line = before_the_echo(peer, "wire.not_object")
    assert [json.loads(line.raw()) for _ in range(4)] == [[1, 2], 3, "text", None]
    assert kind(line.next()) == "USER_MESSAGE"


@sees("wire.invalid_utf8")
def _(peer: Peer) -> None:
    line = before_the_echo(peer, "wire.invalid_utf8")
    with pytest.raises((WebSocketException, UnicodeDecodeError)):
        line.raw()


@sees("wire.ping")
def _(peer: Peer) -> None:
    line = before_the_echo(peer, "wire.ping")
    line.reply()
    assert line.settled() == []


@sees("wire.fragmented")
def _(peer: Peer) -> None:
    line = before_the_echo(peer, "wire.fragmented")
    parts = list(line.socket.recv_streaming())
    assert len(parts) > 3
    assert json.loads("".join(parts)) in peer.emulator.session.journal


@sees("wire.unknown_event")
def _(peer: Peer) -> None:
    line = before_the_echo(peer, "wire.unknown_event", event="POLY_AGENT_THINKING")
    stranger = line.until("SOMETHING_NEW")
    assert stranger in peer.emulator.session.journal
    assert line.next()["sequence"] == stranger["sequence"] + 1


@sees("wire.no_echo_metadata", "wire.odd_metadata", "wire.no_id", "wire.extra_fields")
def _(peer: Peer) -> None:
    assert "metadata" not in before_the_echo(peer, "wire.no_echo_metadata").until("USER_MESSAGE")
    custom = before_the_echo(peer, "wire.odd_metadata").next()["metadata"]["custom"]
    assert custom["client_event_id"]
    assert custom["number"] == 1
    assert before_the_echo(peer, "wire.no_id").next()["id"] == ""
    odd = before_the_echo(peer, "wire.extra_fields").next()
    assert odd["shard"] == 7
    assert odd["payload"]["mood"]
    assert all("shard" not in event for event in peer.emulator.session.journal)


@sees("wire.no_timestamp", "wire.whole_seconds")
def _(peer: Peer) -> None:
    assert "timestamp" not in before_the_echo(peer, "wire.no_timestamp", on="event").next()
    assert "." not in before_the_echo(peer, "wire.whole_seconds", on="event").next()["timestamp"]
    peer.emulator.faults.add("wire.no_timestamp", on="history")
    (batch,) = history(peer.again())
    assert len(batch["payload"]["events"]) > 4
    assert not any("timestamp" in event for event in batch["payload"]["events"])


@sees("wire.default_fields_omitted")
def _(peer: Peer) -> None:
    line = before_the_echo(peer, "wire.default_fields_omitted", event="POLY_AGENT_MESSAGE_CHUNK")
    assert line.until("POLY_AGENT_MESSAGE_CHUNK")["payload"].keys() == {"message_id", "text", "chunk_index"}
    line.reply()
    peer.emulator.faults.add("wire.default_fields_omitted", on="history")
    (batch,) = history(peer.again())
    chunks = [event["payload"] for event in batch["payload"]["events"] if "CHUNK" in event["type"]]
    assert [payload.get("is_complete") for payload in chunks] == [True, None, None, True]


@sees("wire.old_field_names")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("wire.old_field_names", times=None, on="event")
    line = started(peer)
    assert line.until("POLY_AGENT_JOINED")["payload"].keys() == {"agent_name", "avatar_url"}
    line.say("a person, please")
    assert line.until("HANDOFF_QUEUE_STATUS")["payload"]["position"] == 2
    assert line.until("LIVE_AGENT_JOINED")["payload"].keys() == {"agent_id", "agent_name", "avatar_url"}
    peer.emulator.faults.clear()


@sees("wire.wrong_types")
def _(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("wire.wrong_types", event="POLY_AGENT_MESSAGE_CHUNK")
    line.say("x")
    payload = line.until("POLY_AGENT_MESSAGE_CHUNK")["payload"]
    assert (payload["text"], payload["chunk_index"], payload["is_complete"]) == (["not", "text"], "soon", "perhaps")


@sees("wire.junk_in_lists")
def _(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("wire.junk_in_lists", times=None, on="event")
    line.say("x")
    payload = line.until("POLY_AGENT_MESSAGE_CHUNK", is_complete=True)["payload"]
    assert {"message_text": "More"} in payload["response_suggestions"]
    assert len(payload["response_suggestions"]) == len(payload["attachments"]) == 6
    peer.emulator.faults.clear()


@sees("wire.junk_in_batch")
def _(peer: Peer) -> None:
    peer.joined()
    peer.emulator.faults.add("wire.junk_in_batch")
    (batch,) = history(peer.again())
    events = batch["payload"]["events"]
    journal = list(peer.emulator.session.journal)
    assert [event for event in events if isinstance(event, dict) and "type" in event] == journal
    assert len(events) > 2 * len(journal)


@sees("wire.payload_under_type_name")
def _(peer: Peer) -> None:
    peer.joined()
    peer.emulator.faults.add("wire.payload_under_type_name")
    (batch,) = history(peer.again())
    for event, plain in zip(batch["payload"]["events"], peer.emulator.session.journal, strict=True):
        assert "payload" not in event
        assert event[kind(event).lower()] == plain["payload"]


@sees("wire.batch_without_id")
def _(peer: Peer) -> None:
    peer.emulator.faults.add("wire.batch_without_id")
    assert peer.line(*peer.fresh()).next().keys() == {"type", "payload"}


# --- the registry -------------------------------------------------------------------------------------------------


def test_a_fault_fires_so_often_after_so_many(peer: Peer) -> None:
    fault = peer.emulator.faults.add("http.server_error", on="access_token", times=2, after=1)
    assert [peer.token().status_code for _ in range(4)] == [200, 503, 503, 200]
    assert (fault.fired, fault.done) == (2, True)


def test_faults_of_one_occasion_fire_in_the_order_armed(peer: Peer) -> None:
    add = peer.emulator.faults.add
    add("http.server_error", status=502, on="access_token")
    add("access_token.unknown_connector")
    add("http.bad_request", times=None)
    assert [peer.token().status_code for _ in range(4)] == [502, 401, 400, 400]
    assert [fault.name for fault in peer.emulator.faults.pending] == ["http.bad_request"]
    peer.emulator.faults.clear()
    assert peer.token().status_code == 200


def test_a_fault_may_be_for_one_session(peer: Peer) -> None:
    one, other = peer.joined(), peer.joined()
    first, second = peer.emulator.sessions.values()
    peer.emulator.faults.add("message.dropped", session_id=second.session_id)
    peer.emulator.faults.add("connect.session_not_found", session_id=first.session_id)
    one.say("x")
    one.reply()
    other.say("x")
    assert other.settled() == []
    peer.again().next()
    with pytest.raises(InvalidStatus):
        peer.line(first.session_id, first._session.access_token)


@pytest.mark.parametrize(
    ("text", "name", "times", "options"),
    [
        ("message.dropped", "message.dropped", 1, {}),
        ("connection.drop:on=chunk,after=3,times=none", "connection.drop", None, {}),
        ("close.1012:reason=restart", "close.1012", 1, {"reason": "restart"}),
        ("http.rate_limited:retry_after=0.5,status=429", "http.rate_limited", 1, {"retry_after": 0.5, "status": 429}),
        ("start.join_lost:accepted=true", "start.join_lost", 1, {"accepted": True}),
    ],
)
def test_a_fault_can_be_written_as_text(text: str, name: str, times: int | None, options: dict) -> None:
    faults = Faults()
    fault = faults.add_text(text)
    assert (fault.name, fault.times) == (name, times)
    assert options.items() <= fault.options.items()


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("connect.session_not_fund", {}, "did you mean connect.session_not_found"),
        ("close.<code>", {}, "no fault 'close.<code>'"),
        ("close.12", {}, "no fault"),
        ("message.dropped", {"size": 3}, "no option 'size'"),
        ("message.dropped", {"on": "chunk"}, "cannot fire on chunk"),
        ("message.dropped", {"times": 0}, "at least once"),
        ("message.dropped", {"after": -1}, "fewer than no"),
    ],
)
def test_a_slip_in_arming_is_named(name: str, options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Faults().add(name, **options)


def test_a_slip_in_the_text_is_named() -> None:
    with pytest.raises(ValueError, match="'oops' is not option=value"):
        Faults().add_text("message.dropped:oops")


def test_options_are_listed_with_their_defaults() -> None:
    assert Faults.options("history.split") == {"on": "history", "size": 1}
    assert Faults.options("close.1011") == {"on": "echo", "reason": ""}


def test_occasions_are_listed_with_what_they_are() -> None:
    occasions = Faults.occasions("connection.drop")
    assert next(iter(occasions)) == "echo"
    assert occasions["chunk"] == "a chunk of a stream has been sent"
    assert "end" not in occasions
