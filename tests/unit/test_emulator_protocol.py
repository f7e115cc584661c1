"""The emulator keeps the protocol, as seen by clients that share no code with ours."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
from emulator_wire import Peer, kind, kinds, text_of
from websockets.exceptions import ConnectionClosed, InvalidStatus

from polyai_sync.emulator import EchoAgent, Emulator
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTORS = {"other": "shop.example.com", "no-domain": None}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(agent=EchoAgent(), tokens=CONNECTORS) as running:
        yield running


@pytest.fixture
def peer(emulator: Emulator) -> Iterator[Peer]:
    peer = Peer(emulator)
    yield peer
    peer.close()


# --- access tokens ------------------------------------------------------------------------------------------------


def test_each_token_is_a_jwt_of_its_own(peer: Peer) -> None:
    first, second = peer.token().json(), peer.token().json()
    assert first["expires_in"] == 86400
    assert first["token_type"] == "Bearer"
    assert first["access_token"].count(".") == 2
    assert first["access_token"] != second["access_token"]
    assert peer.emulator.tokens_minted == 2


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"X-Token": None}, "Missing authentication headers"),
        ({"X-Host": None}, "Missing authentication headers"),
        ({"X-Token": "unknown"}, "Connector token does not exist"),
        ({"X-Host": "elsewhere.example.org"}, "Failed to validate connector"),
        ({"X-Token": "other", "X-Host": "notshop.example.com"}, "Failed to validate connector"),
        ({"X-Token": "no-domain"}, "Connector missing host domain"),
    ],
)
def test_a_wrong_connector_is_refused_with_its_row(peer: Peer, headers: dict[str, str], text: str) -> None:
    answer = peer.token(**headers)
    assert (answer.status_code, answer.json()) == (401, {"error": text})


@pytest.mark.parametrize(
    "host", ["shop.example.com", "eu.shop.example.com", "https://www.shop.example.com", "SHOP.example.com:8443"]
)
def test_the_registered_domain_and_its_subdomains_match(peer: Peer, host: str) -> None:
    assert peer.token(**{"X-Token": "other", "X-Host": host}).status_code == 200


def test_the_correlation_id_comes_back(peer: Peer) -> None:
    answer = peer.token(**{"X-Polyai-Correlation-Id": "abc"})
    assert answer.headers["x-polyai-correlation-id"] == "abc"
    assert peer.emulator.log[-1].correlation_id == "abc"
    assert peer.token(**{"X-Token": "unknown", "X-Polyai-Correlation-Id": "def"}).headers[
        "x-polyai-correlation-id"
    ] == "def"  # fmt: skip


def test_a_wrong_path_or_method_is_refused(peer: Peer) -> None:
    assert requests.get(f"{peer.emulator.url}/api/v2/nothing", timeout=5).status_code == 404
    assert peer.token(method="GET").status_code == 405


# --- sessions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "status", "text"),
    [
        (None, 400, "Missing access token"),
        ("Token abc", 401, "Missing authentication headers"),
        ("Bearer", 401, "Missing authentication headers"),
        ("Bearer abc", 401, "Invalid access token"),
    ],
)
def test_a_wrong_authorization_is_refused_with_its_row(
    peer: Peer, authorization: str | None, status: int, text: str
) -> None:
    answer = peer.session(authorization)
    assert (answer.status_code, answer.json()) == (status, {"error": text})


@pytest.mark.parametrize("body", ["{", "[]", "7", '{"streaming_enabled": "yes"}', '{"platform": 3}'])
def test_a_malformed_body_is_refused(peer: Peer, body: str) -> None:
    token = peer.token().json()["access_token"]
    answer = peer.session(f"Bearer {token}", body)
    assert (answer.status_code, answer.json()) == (400, {"error": "Error parsing request"})
    assert peer.emulator.sessions_created == 0


@pytest.mark.parametrize("body", [None, "", "{}", '{"streaming_enabled": true, "platform": "ios"}'])
def test_the_body_of_a_session_is_optional(peer: Peer, body: str | None) -> None:
    token = peer.token().json()["access_token"]
    session_id = peer.session(f"Bearer {token}", body).json()["session_id"]
    assert str(uuid.UUID(session_id)) == session_id
    assert list(peer.emulator.sessions) == [session_id]


def test_an_expired_token_makes_no_session() -> None:
    with Emulator(token_lifetime=-1) as emulator:
        peer = Peer(emulator)
        answer = peer.session(f"Bearer {peer.token().json()['access_token']}")
    assert (answer.status_code, answer.json()["error"]) == (401, "Invalid access token")


# --- the handshake ------------------------------------------------------------------------------------------------


def refused(peer: Peer, **query: object) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        peer.line(**query)
    return caught.value.response.status_code, json.loads(caught.value.response.body)["error"]


def test_handshakes_are_refused_in_order_parameters_token_session(peer: Peer) -> None:
    session_id, token = peer.fresh()
    _, another = peer.fresh()
    assert refused(peer, session_id="", token=token) == (400, "invalid connection parameters")
    assert refused(peer, session_id=session_id, token="") == (400, "invalid connection parameters")
    assert refused(peer, session_id="unknown", token="unknown") == (401, "authentication failed")
    assert refused(peer, session_id="unknown", token=token) == (404, "session not found")
    assert refused(peer, session_id=session_id, token=another) == (401, "authentication failed")
    assert [entry.status for entry in peer.emulator.log if entry.surface == "connect"] == [400, 400, 401, 404, 401]


def test_the_eleventh_connection_is_refused_until_one_leaves(peer: Peer) -> None:
    session_id, token = peer.fresh()
    lines = [peer.line(session_id, token) for _ in range(10)]
    with pytest.raises(InvalidStatus) as caught:
        peer.line(session_id, token)
    assert caught.value.response.status_code == 429
    assert caught.value.response.headers["Retry-After"] == "1"
    assert peer.emulator.session.connections == 10
    lines[0].close()
    wait_until(lambda: peer.emulator.session.connections == 9)
    peer.line(session_id, token).next()
    assert peer.emulator.handshakes == 12


def test_a_revoked_token_takes_its_session_along(peer: Peer) -> None:
    session_id, token = peer.fresh()
    peer.emulator.revoke_tokens()
    assert refused(peer, session_id=session_id, token=token) == (401, "authentication failed")


def test_a_plain_request_for_the_socket_is_no_handshake(peer: Peer) -> None:
    session_id, token = peer.fresh()
    url = peer.socket_url(session_id=session_id, access_token=token).replace("ws", "http", 1)
    assert requests.get(url, timeout=5).status_code == 426


def test_no_secret_is_in_the_log(peer: Peer) -> None:
    session_id, token = peer.fresh()
    peer.line(session_id, token)
    text = repr(peer.emulator.log)
    assert len(peer.emulator.log) == 3
    assert token not in text
    assert peer.emulator.connector_token not in text


# --- history, cursor, sequences -----------------------------------------------------------------------------------


def test_the_history_of_a_new_session_is_its_start(peer: Peer) -> None:
    batch = peer.line(*peer.fresh()).next()
    assert kind(batch) == "EVENT_BATCH"
    assert batch["sequence"] is None
    (start,) = batch["payload"]["events"]
    assert kind(start) == "SESSION_START"
    assert start["sequence"] == 1
    assert start["payload"]["capabilities"] == {
        "streaming": True,
        "max_message_size_bytes": 131_072,
        "max_reconnect_attempts": 5,
        "heartbeat_interval_seconds": 30,
    }


def test_capabilities_can_be_changed_and_left_out() -> None:
    wanted = {"max_reconnect_attempts": 0, "heartbeat_interval_seconds": None, "beta": True}
    with Emulator(agent=EchoAgent(), capabilities=wanted) as emulator:
        peer = Peer(emulator)
        (start,) = peer.line(*peer.fresh(streaming=False)).next()["payload"]["events"]
        peer.close()
    assert start["payload"]["capabilities"] == {
        "streaming": False,
        "max_message_size_bytes": 131_072,
        "max_reconnect_attempts": 0,
        "beta": True,
    }


def test_a_replay_brings_what_is_above_the_cursor_as_it_was(peer: Peer) -> None:
    line = peer.joined()
    line.say("one")
    line.reply()
    journal = list(peer.emulator.session.journal)
    assert [event["sequence"] for event in journal] == list(range(1, len(journal) + 1))
    assert [event for event in line.seen if event["sequence"]] == journal[1:]
    for cursor in (0, 1, 4, len(journal)):
        assert peer.again(cursor).next()["payload"]["events"] == journal[cursor:]


@pytest.mark.parametrize("cursor", ["soon", "-3", "1.5", "99999999999999999999999", ""])
def test_an_invalid_cursor_replays_everything(peer: Peer, cursor: str) -> None:
    peer.joined()
    assert peer.again(cursor).next()["payload"]["events"] == list(peer.emulator.session.journal)


def test_the_older_spelling_of_a_cursor_counts(peer: Peer) -> None:
    peer.joined()
    assert peer.again("seq:3").next()["payload"]["events"] == list(peer.emulator.session.journal)[3:]


def test_a_long_history_comes_in_batches_below_the_message_limit(peer: Peer) -> None:
    line = peer.joined(streaming=False)
    session = peer.emulator.session
    for number in range(60):
        session.emit("POLY_AGENT_MESSAGE", {"message_id": str(number), "text": "x" * 5000})
    fresh = peer.again()
    events, batches = [], 0
    while len(events) < len(session.journal):
        text = fresh.raw()
        assert len(text.encode()) <= 131_072
        events += json.loads(text)["payload"]["events"]
        batches += 1
    assert events == list(session.journal)
    assert batches == 3
    assert line.until("POLY_AGENT_MESSAGE", message_id="59")


# --- a conversation -----------------------------------------------------------------------------------------------


def test_a_join_is_echoed_then_the_agent_joins_thinks_and_greets(peer: Peer) -> None:
    line = peer.line(*peer.fresh(streaming=False))
    line.next()
    line.send("REQUEST_POLY_AGENT_JOIN", client_event_id="j")
    events = line.reply()
    assert kinds(events) == [
        "REQUEST_POLY_AGENT_JOIN", "POLY_AGENT_JOINED", "POLY_AGENT_THINKING", "POLY_AGENT_MESSAGE"
    ]  # fmt: skip
    assert events[0]["metadata"] == {"custom": {"client_event_id": "j"}}
    assert events[1]["payload"] == {"agent_name": "Olive", "agent_avatar_url": "https://cdn.example.com/olive.png"}
    assert events[3]["payload"]["text"] == "Hello!"


def test_a_message_is_echoed_with_metadata_and_answered(peer: Peer) -> None:
    line = peer.joined(streaming=False)
    line.send("USER_MESSAGE", {"text": "One."}, client_event_id="1", shade="grün")
    echo, thinking, reply = line.reply()
    assert kind(echo) == "USER_MESSAGE"
    assert echo["payload"]["text"] == "One."
    assert uuid.UUID(echo["payload"]["message_id"])
    assert echo["metadata"] == {"custom": {"client_event_id": "1", "shade": "grün"}}
    assert kind(thinking) == "POLY_AGENT_THINKING"
    assert reply["payload"]["text"] == "You said: One."
    assert [echo["sequence"], thinking["sequence"], reply["sequence"]] == [6, 7, 8]
    assert peer.emulator.session.transcript == (("agent", "Hello!"), ("user", "One."), ("agent", "You said: One."))


def test_a_streaming_session_gets_chunks_counted_from_one(peer: Peer) -> None:
    line = peer.joined()
    line.say("a b  c\nd")
    chunks = [event["payload"] for event in line.reply() if kind(event) == "POLY_AGENT_MESSAGE_CHUNK"]
    assert [chunk["chunk_index"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert [chunk["is_complete"] for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert len({chunk["message_id"] for chunk in chunks}) == 1
    assert "".join(chunk["text"] for chunk in chunks) == "You said: a b  c\nd"


def test_the_same_client_event_id_twice_is_two_messages(peer: Peer) -> None:
    line = peer.joined(streaming=False)
    for _ in range(2):
        line.send("USER_MESSAGE", {"text": "again"}, client_event_id="same")
        line.reply()
    assert [text for role, text in peer.emulator.session.transcript if role == "user"] == ["again", "again"]


def test_a_message_before_the_join_finds_no_conversation(peer: Peer) -> None:
    line = peer.line(*peer.fresh())
    line.next()
    line.say("Hello?", tag="7")
    echo, error = line.reply()
    assert kind(echo) == "USER_MESSAGE"
    assert error["payload"] == {"level": "SYSTEM_MESSAGE_LEVEL_ERROR", "message": "Error: Conversation not found"}
    assert error["metadata"]["custom"]["tag"] == "7"
    assert error["sequence"] == echo["sequence"] + 1


def test_a_heartbeat_is_echoed_to_its_sender_in_passing(peer: Peer) -> None:
    line = peer.joined()
    other = peer.again()
    other.next()
    line.send("HEARTBEAT", n="1")
    echo = line.next()
    assert kind(echo) == "HEARTBEAT"
    assert echo["sequence"] is None
    assert echo["metadata"] == {"custom": {"n": "1"}}
    assert other.settled() == []
    assert "EVENT_TYPE_HEARTBEAT" not in [event["type"] for event in peer.emulator.session.journal]


def test_typing_is_taken_without_an_echo(peer: Peer) -> None:
    line = peer.joined()
    line.send("USER_TYPING", {"state": "TYPING_STATE_STARTED"})
    line.send("USER_TYPING", {"state": "TYPING_STATE_STOPPED"})
    assert line.settled() == []
    received = [event["payload"].get("state") for event in peer.emulator.session.received if "TYPING" in event["type"]]
    assert received == ["TYPING_STATE_STARTED", "TYPING_STATE_STOPPED"]


def test_both_connections_see_the_same_and_a_third_its_replay(peer: Peer) -> None:
    one = peer.joined()
    two = peer.again()
    two.next()
    one.say("from one")
    two.say("from two")
    for line in (one, two):
        line.until("POLY_AGENT_MESSAGE_CHUNK", is_complete=True)
        line.until("POLY_AGENT_MESSAGE_CHUNK", is_complete=True)
    live = [event for event in two.seen if event["sequence"]]
    assert live == [event for event in one.seen if event["sequence"]][-len(live) :]
    assert peer.again().next()["payload"]["events"][-len(live) :] == live
    assert {"from one", "from two"} <= {text for role, text in peer.emulator.session.transcript if role == "user"}


def test_a_turn_goes_on_while_nobody_is_connected(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("connection.drop")
    line.say("still there?")
    assert line.gone() is None
    wait_until(lambda: peer.emulator.session.transcript[-1] == ("agent", "You said: still there?"))
    replayed = peer.again(4).next()["payload"]["events"]
    assert text_of(replayed).endswith("You said: still there?")


# --- what is refused ----------------------------------------------------------------------------------------------

UNKNOWN = "Unknown event type or invalid message format"
NOT_ALLOWED = "Event type not allowed: EVENT_TYPE_"


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        ("{", UNKNOWN),
        ("[]", UNKNOWN),
        ("[" * 100_000, UNKNOWN),
        ('"text"', UNKNOWN),
        (b"\x00\x01", UNKNOWN),
        ('{"payload": {}}', UNKNOWN),
        ('{"type": 7, "payload": {}}', UNKNOWN),
        ('{"type": "EVENT_TYPE_NONSENSE", "payload": {}}', UNKNOWN),
        ('{"type": "USER_MESSAGE", "payload": {"text": "no prefix"}}', UNKNOWN),
        ('{"type": "EVENT_TYPE_HEARTBEAT"}', UNKNOWN),
        ('{"type": "EVENT_TYPE_USER_MESSAGE", "payload": {}}', UNKNOWN),
        ('{"type": "EVENT_TYPE_USER_MESSAGE", "payload": {"text": null}}', UNKNOWN),
        ('{"type": "EVENT_TYPE_USER_MESSAGE", "payload": {"text": "x"}, "id": "mine"}', UNKNOWN),
        ('{"type": "EVENT_TYPE_USER_TYPING", "payload": {"state": "HUMMING"}}', UNKNOWN),
        ('{"type": "EVENT_TYPE_USER_TYPING", "payload": {"state": ["TYPING_STATE_STARTED"]}}', UNKNOWN),
        ('{"type": "EVENT_TYPE_REQUEST_POLY_AGENT_JOIN", "payload": {"now": true}}', UNKNOWN),
        ('{"type": "EVENT_TYPE_POLY_AGENT_MESSAGE", "payload": {}}', f"{NOT_ALLOWED}POLY_AGENT_MESSAGE"),
        ('{"type": "EVENT_TYPE_SESSION_END", "payload": {}}', f"{NOT_ALLOWED}SESSION_END"),
    ],
)  # fmt: skip
def test_an_invalid_event_is_answered_and_the_connection_stays(peer: Peer, frame: str | bytes, text: str) -> None:
    line = peer.joined()
    before = peer.emulator.session.journal
    line.socket.send(frame)
    error = line.next()
    assert kind(error) == "SYSTEM_MESSAGE"
    assert error["payload"] == {"level": "SYSTEM_MESSAGE_LEVEL_ERROR", "message": text}
    assert error["sequence"] is None
    assert line.settled() == []
    assert peer.emulator.session.journal == before
    assert len(peer.emulator.session.refused) == 1


def test_the_error_brings_the_metadata_back(peer: Peer) -> None:
    line = peer.joined()
    line.send("SESSION_END", client_event_id="e1")
    assert line.next()["metadata"] == {"custom": {"client_event_id": "e1"}}


def test_one_value_that_is_no_string_loses_the_whole_map(peer: Peer) -> None:
    line = peer.joined()
    event = {"type": "EVENT_TYPE_USER_MESSAGE", "payload": {"text": "x"}, "metadata": {"custom": {"a": "b", "n": 1}}}
    line.socket.send(json.dumps(event))
    assert "metadata" not in line.until("USER_MESSAGE")


def message_of(size: int) -> str:
    frame = json.dumps({"type": "EVENT_TYPE_USER_MESSAGE", "payload": {"text": "é"}}, ensure_ascii=False)
    return frame.replace("é", "é" + "x" * (size - len(frame.encode())))


def test_a_message_may_have_128_kib_in_utf8_and_no_more(peer: Peer) -> None:
    line = peer.joined()
    line.socket.send(message_of(131_072))
    line.until("USER_MESSAGE")
    line.socket.send(message_of(131_073))
    assert line.gone() == 1009
    assert not peer.emulator.session.ended


def test_a_message_far_too_long_closes_as_well(peer: Peer) -> None:
    line = peer.joined()
    with contextlib.suppress(ConnectionClosed):  # before all of it was written, perhaps
        line.socket.send("x" * 1_000_000)
    assert line.gone() == 1009


# --- the end ------------------------------------------------------------------------------------------------------


def test_an_end_is_echoed_confirmed_and_closed_for_all(peer: Peer) -> None:
    one = peer.joined()
    two = peer.again()
    two.next()
    one.send("USER_END_SESSION", client_event_id="bye")
    for line in (one, two):
        assert line.gone() == 1000
        echo, end = line.seen[-2:]
        assert kind(echo) == "USER_END_SESSION"
        assert echo["metadata"] == {"custom": {"client_event_id": "bye"}}
        assert end["payload"] == {"reason": "REASON_USER_END"}
    session = peer.emulator.session
    assert (session.ended, session.end_reason, session.connections) == (True, "REASON_USER_END", 0)


def test_an_ended_session_is_not_found(peer: Peer) -> None:
    line = peer.joined()
    line.send("USER_END_SESSION")
    line.gone()
    with pytest.raises(InvalidStatus) as caught:
        peer.again()
    assert caught.value.response.status_code == 404


def test_an_ended_session_can_be_kept_for_its_last_events() -> None:
    with Emulator(agent=EchoAgent(), end_retention=0.3) as emulator:
        peer = Peer(emulator)
        line = peer.joined()
        emulator.session.drop()
        assert line.gone() is None
        emulator.session.end()
        late = peer.again()
        assert kind(late.next()["payload"]["events"][-1]) == "SESSION_END"
        assert late.gone() == 1000

        def forgotten() -> bool:
            try:
                peer.again().gone()
            except InvalidStatus as error:
                return error.response.status_code == 404
            return False

        wait_until(forgotten, interval=0.05)
        peer.close()


def test_an_idle_socket_closes_and_later_the_session_ends() -> None:
    with Emulator(agent=EchoAgent(), idle_timeout=0.2, session_timeout=1.0) as emulator:
        peer = Peer(emulator)
        line = peer.line(*peer.fresh())
        opened = time.monotonic()
        assert line.gone() == 1001
        assert 0.1 < time.monotonic() - opened < 0.9
        session = emulator.session
        assert not session.ended
        wait_until(lambda: session.ended)
        assert session.end_reason == "REASON_USER_ABANDONED"
        with pytest.raises(InvalidStatus):
            peer.again()


def test_heartbeats_keep_a_session_alive() -> None:
    with Emulator(agent=EchoAgent(), idle_timeout=0.5, session_timeout=0.6) as emulator:
        peer = Peer(emulator)
        line = peer.joined()
        deadline = time.monotonic() + 0.9
        while time.monotonic() < deadline:
            line.settled()
            time.sleep(0.02)
        assert not emulator.session.ended
        assert emulator.session.connections == 1
        peer.close()


def test_an_expired_session_closes_with_4001_and_is_not_found(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.session.expire()
    assert line.gone() == 4001
    with pytest.raises(InvalidStatus) as caught:
        peer.again()
    assert caught.value.response.status_code == 404


# --- what a test can do to a session ------------------------------------------------------------------------------


def test_a_test_can_emit_events_of_every_kind(peer: Peer) -> None:
    line = peer.joined()
    session = peer.emulator.session
    last = session.journal[-1]["sequence"]
    kept = session.emit("LANGUAGE_CHANGED", {"language_code": "de"}, {"custom": {"a": "b"}})
    passing = session.emit("EVENT_TYPE_LIVE_AGENT_TYPING", sequence=None)
    jumped = session.emit("LANGUAGE_CHANGED", {"language_code": "fr"}, sequence=last + 10)
    hidden = session.emit("LANGUAGE_CHANGED", {"language_code": "es"}, live=False)
    assert line.settled() == [kept, passing, jumped]
    assert (kept["sequence"], passing["sequence"], hidden["sequence"]) == (last + 1, None, last + 11)
    assert list(session.journal[-3:]) == [kept, jumped, hidden]
    assert kept["metadata"] == {"custom": {"a": "b"}}


def test_a_test_can_send_raw_text_and_bytes(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.session.send_raw("{not json")
    peer.emulator.session.send_bytes(b"\x82\x01\x07")
    assert line.raw() == "{not json"
    assert line.raw() == b"\x07"


def test_a_test_can_drop_with_and_without_a_code(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.session.drop()
    assert line.gone() is None
    line = peer.again()
    line.next()
    peer.emulator.session.drop(1012, "restart")
    assert line.gone() == 1012
    assert peer.emulator.session.connections == 0
    assert peer.emulator.session.connections_total == 2
    assert not peer.emulator.session.ended


def test_a_number_from_the_past_is_replayed_in_its_place(peer: Peer) -> None:
    peer.joined()
    session = peer.emulator.session
    last = session.journal[-1]["sequence"]
    after = session.emit("LANGUAGE_CHANGED", {"language_code": "fr"}, sequence=last + 5)
    before = session.emit("LANGUAGE_CHANGED", {"language_code": "de"}, sequence=last + 2)
    assert peer.again(last).next()["payload"]["events"] == [before, after]
    assert session.emit("LANGUAGE_CHANGED", {"language_code": "es"})["sequence"] == last + 6


def test_a_slip_of_the_test_is_raised_in_the_test(peer: Peer) -> None:
    line = peer.joined()
    before = peer.emulator.session.journal
    with pytest.raises(TypeError, match="not JSON serializable"):
        peer.emulator.session.emit("LANGUAGE_CHANGED", {"language_code": object()})
    assert peer.emulator.session.journal == before
    assert line.settled() == []


def test_an_end_cuts_a_turn_off_and_lets_go_of_who_waits_for_one(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("stream.slow", delay=0.2)
    line.say("never finished")
    line.until("POLY_AGENT_MESSAGE_CHUNK")
    waiter = threading.Thread(target=peer.emulator.session.act, args=("never said",))
    waiter.start()
    peer.emulator.session.end()
    waiter.join(5)
    assert not waiter.is_alive()
    assert line.gone() == 1000
    assert kind(line.seen[-1]) == "SESSION_END"
    assert kind(peer.emulator.session.journal[-1]) == "SESSION_END"
    peer.emulator.session.act("still nothing")
    assert kind(peer.emulator.session.journal[-1]) == "SESSION_END"


def test_what_comes_after_the_end_is_not_looked_at(peer: Peer) -> None:
    line = peer.joined()
    peer.emulator.faults.add("end.no_close")
    peer.emulator.session.end()
    line.say("too late")
    line.send("HEARTBEAT")
    line.until("SESSION_END")
    assert line.silent()
    assert kind(peer.emulator.session.journal[-1]) == "SESSION_END"


def test_two_views_of_one_session_are_equal(peer: Peer) -> None:
    peer.joined()
    one = peer.emulator.session
    assert {one, peer.emulator.sessions[one.session_id]} == {one}
    peer.joined()
    assert peer.emulator.session != one
    assert one.session_id in repr(one)
    assert "running" in repr(peer.emulator)


def test_a_journal_cannot_be_changed_from_outside(peer: Peer) -> None:
    peer.joined()
    session = peer.emulator.session
    session.journal[0]["payload"].clear()
    assert session.journal[0]["payload"]["capabilities"]


# --- sizes --------------------------------------------------------------------------------------------------------


def test_two_hundred_streamed_turns_take_a_few_seconds(peer: Peer) -> None:
    line = peer.joined()
    started = time.monotonic()
    for number in range(200):
        line.say(f"{number} " + "word " * 20)
        line.reply()
    assert time.monotonic() - started < 8
    assert len(peer.emulator.session.transcript) == 401


def test_two_hundred_sessions_at_once(peer: Peer) -> None:
    lines = [peer.line(*peer.fresh(streaming=False)) for _ in range(200)]
    for line in lines:
        line.next()
        line.send("REQUEST_POLY_AGENT_JOIN")
    for number, line in enumerate(lines):
        line.reply()
        line.say(f"I am {number}")
    assert [text_of(line.reply()) for line in lines] == [f"You said: I am {number}" for number in range(200)]
    assert peer.emulator.connections == 200
    closers = [threading.Thread(target=line.close) for line in lines]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join()
    wait_until(lambda: peer.emulator.connections == 0)


def test_a_base_path_is_part_of_every_address() -> None:
    with Emulator(agent=EchoAgent(), base_path="/poly/ai/") as emulator:
        assert urlsplit(emulator.url).path == "/poly/ai"
        peer = Peer(emulator)
        peer.joined()
        bare = emulator.url.removesuffix("/poly/ai")
        assert requests.post(f"{bare}/api/v1/access-token", timeout=5).status_code == 404
        peer.close()
