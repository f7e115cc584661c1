"""A server that means harm: bounded memory and time, and an error that says what (``architecture.md`` Secrets)."""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import time
import zlib
from contextlib import ExitStack
from typing import Any

import pytest
from hostile import CANARY, TOKEN, Hostile, Peer, Seen, answer, event, play, play_all
from proxy_units import frame

LEGS = ("token", "session", "socket")
MEMORY = 24.0
"""MiB that no attack may cost; a client that only connects costs 5 to 10."""

SLACK = 1.0


def endless(peer: Peer, start: bytes, piece: bytes, end: float = 20) -> None:
    """Send a start, and then a piece again and again, as fast as it is taken."""
    peer.send(start)
    until = time.monotonic() + end
    while time.monotonic() < until:
        peer.send(piece)


def dribble(peer: Peer, data: bytes, pause: float = 0.05) -> None:
    """Slow loris: a byte now and then."""
    for byte in itertools.chain(data, itertools.repeat(ord("a"))):
        peer.send(bytes([byte]))
        time.sleep(pause)


BOMB = gzip.compress(b" " * 100_000_000)
BOMB_IN_A_BOMB = gzip.compress(BOMB)
OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS: dict[str, tuple[Any, set[str]]] = {
    "endless headers": (
        lambda peer: endless(peer, OK, b"X-Pad: " + b"a" * 1000 + b"\r\n"),
        {"client.protocol", "client.connect_failed"},
    ),
    "one endless header": (lambda peer: endless(peer, OK + b"X-Pad: ", b"a" * 65536), {"client.protocol"}),
    "an endless status line": (lambda peer: endless(peer, b"HTTP/1.1 200 ", b"O" * 65536), {"client.protocol"}),
    "endless interim answers": (
        lambda peer: endless(peer, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        {"client.protocol", "client.connect_failed"},
    ),
    "an endless body": (lambda peer: endless(peer, OK + b"\r\n", b" " * 65536), {"client.protocol"}),
    "an endless refusal": (
        lambda peer: endless(peer, b"HTTP/1.1 500 No\r\n\r\n", b"no " * 20000),
        {"http.server_error"},
    ),
    "an endless chunk": (
        lambda peer: endless(peer, OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", b"a" * 65536),
        {"client.protocol"},
    ),
    "an endless chunk length": (
        lambda peer: endless(peer, OK + b"Transfer-Encoding: chunked\r\n\r\n", b"f" * 65536),
        {"client.protocol", "client.connect_failed"},
    ),
    "a body of 10 GB": (
        lambda peer: (peer.send(OK + b"Content-Length: 10000000000\r\n\r\n{"), peer.linger()),
        {"client.connect_failed", "client.protocol"},
    ),
    "a gzip bomb": (
        lambda peer: peer.answer(BOMB, Content_Encoding="gzip"),
        {"client.protocol"},
    ),
    "a bomb in a bomb": (
        lambda peer: peer.answer(BOMB_IN_A_BOMB, Content_Encoding="gzip, gzip, gzip, gzip"),
        {"client.protocol", "client.connect_failed"},
    ),
    "10,000-deep JSON": (lambda peer: peer.answer(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), {"client.protocol"}),
    "a number of 60,000 digits": (
        lambda peer: peer.answer(b'{"access_token": "x", "expires_in": ' + b"9" * 60_000 + b"}"),
        {"client.protocol"},
    ),
    "garbage": (lambda peer: peer.send(bytes(range(256)) * 100), {"client.protocol"}),
    "nothing that HTTP has": (lambda peer: peer.send(b"\r\n\r\n\r\n"), {"client.protocol", "client.connect_failed"}),
    "a slow loris": (lambda peer: dribble(peer, OK), {"client.connect_failed"}),
    "a slow loris in the body": (
        lambda peer: dribble(peer, OK + b"Content-Length: 1000\r\n\r\n"),
        {"client.connect_failed"},
    ),
    "two answers at once": (lambda peer: peer.answer({"error": "no"}, 500) or peer.answer({}), {"http.server_error"}),
}
"""What a server answers, and the errors that may come of it."""

SLOW = {"a slow loris", "a slow loris in the body", "endless headers", "endless interim answers", "a body of 10 GB"}


@functools.cache
def met(leg: str) -> dict[str, Seen]:
    """What came of each answer on one leg."""
    with ExitStack() as stack:
        servers = [stack.enter_context(Hostile(**{leg: attack})) for attack, _ in ANSWERS.values()]
        return dict(zip(ANSWERS, play_all(servers, level="WARNING"), strict=True))


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_costs_little_and_is_told(leg: str, what: str) -> None:
    seen, codes = met(leg)[what], ANSWERS[what][1]
    assert seen.grown < MEMORY
    assert seen.seconds < (1 if what in SLOW else 0) + SLACK
    assert seen.code in codes | ({"client.protocol"} if leg == "socket" and what not in SLOW else set())


@pytest.mark.parametrize("leg", LEGS)
def test_all_answers_together_cost_little(leg: str) -> None:
    assert sum(seen.grown for seen in met(leg).values()) < MEMORY


RETRY_AFTER = ["1e9", "1e400", "9" * 5_000, "-1e9", "Fri, 31 Dec 9999 23:59:59 GMT", "\x00"]


@pytest.mark.parametrize("leg", LEGS)
def test_a_retry_after_without_measure_is_neither_waited_for_nor_a_crash(leg: str) -> None:
    def refusing(value: str) -> Hostile:
        return Hostile(**{leg: lambda peer: peer.answer({"error": "later"}, 429, Retry_After=value)})

    with ExitStack() as stack:
        seen = play_all([stack.enter_context(refusing(value)) for value in RETRY_AFTER])
    assert {one.code for one in seen} <= {"http.rate_limited", "client.protocol"}
    assert max(one.seconds for one in seen) < SLACK


def test_an_honest_http_1_0_server_is_understood() -> None:
    def token(peer: Peer) -> None:
        peer.send(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps({"access_token": TOKEN}).encode())
        raise EOFError

    with Hostile(token=token) as server:
        assert play(server).text == "Still here."


@pytest.mark.parametrize("leg", LEGS)
def test_tokens_that_are_quoted_are_masked_everywhere(leg: str) -> None:
    def quoting(status: int) -> Hostile:
        def quote(peer: Peer) -> None:
            body = {"error": f"bad token {CANARY} or {TOKEN} in {peer.head}", "message": {"message": CANARY[::-1]}}
            peer.answer(body, status, X_PolyAI_Correlation_Id=CANARY, Retry_After=CANARY)

        return Hostile(**{leg: quote})

    with ExitStack() as stack:
        seen = play_all([stack.enter_context(quoting(status)) for status in (200, 302, 400, 401, 404, 429, 500)])
    for one in seen:
        assert one.code is not None
        assert CANARY not in one.output
        assert TOKEN not in one.output


TOKENS: list[Any] = ["a\r\nX-Evil: 1", "a b", "ä", "\x00", "", 7, None, ["x"], {"x": 1}, "x" * 100_000]


def test_a_token_that_cannot_be_sent_is_not_sent() -> None:
    def giving(token: Any) -> Hostile:
        return Hostile(token=lambda peer: peer.answer({"access_token": token}))

    with ExitStack() as stack:
        servers = [stack.enter_context(giving(token)) for token in TOKENS]
        seen = play_all(servers)
        assert [one.code for one in seen] == ["client.protocol"] * len(TOKENS)
        assert not [head for server in servers for head in server.requests if "/sessions" in head]


def test_a_session_id_stays_inside_its_parameter() -> None:
    with Hostile(session=lambda peer: peer.answer({"session_id": "x&access_token=mine#/../.."})) as server:
        play(server)
        (handshake,) = [head for head in server.requests if head.startswith("GET")]
    assert handshake.count("access_token=") == 1
    assert "session_id=x%26access_token%3Dmine%23%2F..%2F.." in handshake


HANDSHAKES: dict[str, Any] = {
    "a wrong Sec-WebSocket-Accept": lambda peer: peer.accept(key="bm90IHRoZSByaWdodCBvbmU="),
    "no Sec-WebSocket-Accept": lambda peer: peer.send(
        "HTTP/1.1 101 Well\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    ),
    "no upgrade": lambda peer: peer.send("HTTP/1.1 101 Well\r\n\r\n"),
    "HTTP/1.0": lambda peer: peer.send("HTTP/1.0 200 OK\r\n\r\nwelcome"),
    "endless headers in a 101": lambda peer: endless(peer, b"HTTP/1.1 101 Well\r\n", b"X-Pad: " + b"a" * 900 + b"\r\n"),
    "a 101 and garbage": lambda peer: (peer.accept(), peer.send(bytes(range(255, 0, -1)))),
    "a masked frame of garbage": lambda peer: (peer.accept(), peer.send(b"\x81\xff" + b"\xff" * 500)),
}


@pytest.mark.parametrize("what", HANDSHAKES)
def test_a_handshake_that_is_none_is_told(what: str) -> None:
    with Hostile(socket=HANDSHAKES[what]) as server:
        seen = play(server)
    assert "client.protocol" in seen.errors
    assert seen.seconds < SLACK
    assert seen.grown < MEMORY


@pytest.mark.parametrize("how", ["deflated", "deflated bomb"])
def test_compression_that_nobody_asked_for_is_not_unpacked(how: str) -> None:
    text = event("SESSION_START", {"capabilities": {}}, id="s", sequence=1)
    packer = zlib.compressobj(wbits=-15)
    clear = text.encode() if how == "deflated" else b" " * 200_000_000
    data = packer.compress(clear) + packer.flush(zlib.Z_SYNC_FLUSH)
    packed = bytearray(frame(data[:-4]))
    packed[0] |= 0x40  # RSV1

    def compress(peer: Peer) -> None:
        peer.accept("Sec-WebSocket-Extensions: permessage-deflate\r\n")
        peer.send(bytes(packed))
        peer.linger()

    with Hostile(socket=compress) as server:
        seen = play(server)
    assert "client.protocol" in seen.errors
    assert seen.grown < MEMORY
    assert seen.seconds < 2 + SLACK


def gigantic(peer: Peer) -> None:
    peer.send(frame(b"{", length=10_000_000_000))
    endless(peer, b"", b"a" * 65536)


def fragments(peer: Peer) -> None:
    endless(peer, frame(b"{", fin=False), frame(b"a" * 1000, 0x0, fin=False) * 50)


def control_frames(peer: Peer) -> None:
    endless(peer, b"", frame(b"x" * 200, 0x9))


BREAKING = {"a frame of 10 GB": gigantic, "endless fragments": fragments, "a long control frame": control_frames}


@pytest.mark.parametrize("what", BREAKING)
def test_a_frame_without_measure_costs_the_connection_and_not_the_memory(what: str) -> None:
    def attack(peer: Peer) -> None:
        peer.start()
        if "cursor=" in peer.head:  # the second socket is honest
            answer(peer, peer.hear("USER_MESSAGE"))
            peer.linger()
        peer.hear("USER_MESSAGE")
        BREAKING[what](peer)

    with Hostile(socket=attack) as server:
        seen = play(server, reconnect=True, limits={"reply": 5, "delivery": 5})
    assert seen.errors[:2] == ["client.protocol", "client.connection_dropped"]
    assert seen.text == "Still here."
    assert seen.grown < MEMORY


DEEP = frame('{"a":' * 10_000 + "1" + "}" * 10_000)
FLOODS: dict[str, tuple[bytes, int]] = {
    "200,000 empty batches": (frame(event("EVENT_BATCH", {"events": []})) * 200, 1000),
    "50,000 batches of nothing": (frame(event("EVENT_BATCH")) * 200, 250),
    "100,000 pings": (frame(b"x", 0x9) * 200, 500),
    "50,000 heartbeats": (frame(event("HEARTBEAT")) * 200, 250),
    "400 frames nested 10,000 deep": (DEEP, 400),
    "20,000 frames that are no event": (frame("[]") * 50, 400),
    "50,000 transient events": (frame(event("POLY_AGENT_THINKING", id="t")) * 200, 250),
    "200,000 empty fragments": (frame(b"", 0x0, fin=False) * 200, 1000),
}
"""A piece, and how often it is sent."""


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_costs_time_in_proportion_and_no_memory(what: str) -> None:
    piece, times = FLOODS[what]

    def flood(peer: Peer) -> None:
        peer.start()
        heard = peer.hear("USER_MESSAGE")
        if "fragments" in what:
            peer.send(frame(event("UNKNOWN")[:5], fin=False))
        for _ in range(times):
            peer.send(piece)
        if "fragments" in what:
            peer.send(frame(event("UNKNOWN")[5:], 0x0))
        answer(peer, heard)
        peer.linger()

    with Hostile(socket=flood) as server:
        seen = play(server, limits={"delivery": 40, "reply": 40}, level="CRITICAL")
    assert seen.text == "Still here."
    assert seen.grown < MEMORY
    assert seen.cpu < 25


NUMBERED: dict[str, Any] = {
    "40,000 unknown events": lambda n: event("NEWS", id=f"e{n}", sequence=5 + n),
    "40,000 events far apart": lambda n: event("NEWS", id=f"e{n}", sequence=5 + n * 1_000_003),
    "40,000 events in falling order": lambda n: event("NEWS", id=f"e{n}", sequence=9_000_000 - n),
    "40,000 streams that never end": lambda n: event(
        "POLY_AGENT_MESSAGE_CHUNK", {"message_id": f"m{n}", "text": "a", "chunk_index": 1}, id=f"e{n}", sequence=5 + n
    ),
    "40,000 absurd chunk numbers": lambda n: event(
        "POLY_AGENT_MESSAGE_CHUNK", {"message_id": "m", "text": "", "chunk_index": 10**15 * n}, id=f"e{n}"
    ),
}


@pytest.mark.parametrize("what", NUMBERED)
def test_a_flood_of_numbered_events_is_kept_in_bounds(what: str) -> None:
    make, count = NUMBERED[what], 40_000

    def flood(peer: Peer) -> None:
        peer.start()
        heard = peer.hear("USER_MESSAGE")
        for start in range(1, count, 500):
            peer.send(b"".join(frame(make(number)) for number in range(start, start + 500)))
        answer(peer, heard, sequence=10**15)
        peer.linger()

    with Hostile(socket=flood) as server:
        seen = play(server, limits={"delivery": 40, "reply": 40}, level="CRITICAL")
    assert seen.text is not None
    assert seen.text.endswith("Still here.")
    assert seen.grown < 3 * MEMORY
    assert seen.cpu < 25


def test_a_flood_does_not_hold_up_a_deadline() -> None:
    """Fragments without end or content: the line is never silent, and nothing ever comes."""

    def flood(peer: Peer) -> None:
        peer.start()
        peer.hear("USER_MESSAGE")
        endless(peer, frame(b"{", fin=False), frame(b"", 0x0, fin=False) * 1000)

    with Hostile(socket=flood) as server:
        seen = play(server, limits={"delivery": 1, "reply": 1})
    assert seen.code in ("client.not_delivered", "client.reply_timeout")
    assert seen.seconds < 2 + 1 + SLACK
    assert seen.grown < MEMORY


@pytest.mark.parametrize(
    "capabilities",
    [
        {"heartbeat_interval_seconds": 1e-9},
        {"heartbeat_interval_seconds": 1e308},
        {"heartbeat_interval_seconds": -5},
        {"heartbeat_interval_seconds": "NaN", "max_message_size_bytes": -1},
        {"max_message_size_bytes": 10**30, "max_reconnect_attempts": 10**30},
        {"max_message_size_bytes": None, "max_reconnect_attempts": -7, "streaming": []},
    ],
    ids=repr,
)
def test_capabilities_without_measure_change_nothing(capabilities: dict[str, Any]) -> None:
    def odd(peer: Peer) -> None:
        peer.start(**capabilities)
        answer(peer, peer.hear("USER_MESSAGE"))
        peer.linger()

    with Hostile(socket=odd) as server:
        seen = play(server)
    assert seen.text == "Still here."
    assert seen.cpu < 1.5


@pytest.mark.parametrize(
    ("payload", "ends"),
    [(b"\x03", False), (b"\xff\xff", False), (b"\x00\x00bye", False), (b"\x03\xe8\xff\xfe", True)],
    ids=repr,
)
def test_a_close_frame_that_is_odd_is_a_drop_unless_its_code_is_the_end(payload: bytes, ends: bool) -> None:
    def odd(peer: Peer) -> None:
        peer.start()
        if "cursor=" in peer.head:
            answer(peer, peer.hear("USER_MESSAGE"))
            peer.linger()
        peer.hear("USER_MESSAGE")
        peer.send(frame(payload, 0x8))
        peer.linger()

    with Hostile(socket=odd) as server:
        seen = play(server, reconnect=True, limits={"reply": 5, "delivery": 5})
    assert (seen.text, seen.code) == ((None, "client.session_ended") if ends else ("Still here.", None))
    assert ("client.connection_dropped" in seen.errors) is not ends
