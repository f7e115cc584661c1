"""A client of the emulator made of `requests` and `websockets`: it shares no code with ours."""

from __future__ import annotations

import json
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

NEVER = 0.15
"""Seconds within which nothing must come."""


class Line:
    """One WebSocket, read as JSON."""

    def __init__(self, socket: ClientConnection, peer: Peer) -> None:
        self.socket = socket
        self.peer = peer
        self.seen: list[dict] = []

    def send(self, type_: str, payload: dict | None = None, **custom: str) -> None:
        event = {"type": f"EVENT_TYPE_{type_}", "payload": payload or {}}
        if custom:
            event["metadata"] = {"custom": custom}
        self.socket.send(json.dumps(event))

    def say(self, text: str, **custom: str) -> None:
        self.send("USER_MESSAGE", {"text": text}, client_event_id=str(uuid.uuid4()), **custom)

    def raw(self, timeout: float = 5) -> str | bytes:
        return self.socket.recv(timeout=timeout)

    def next(self, timeout: float = 5) -> dict:
        event = json.loads(self.raw(timeout))
        self.seen.append(event)
        return event

    def until(self, type_: str, **fields: object) -> dict:
        """Read up to an event of that type whose payload has these fields."""
        while True:
            event = self.next()
            if kind(event) == type_ and all(event["payload"].get(key) == value for key, value in fields.items()):
                return event

    def settled(self) -> list[dict]:
        """What comes up to the echo of a heartbeat sent now; an agent's turn may still be under way."""
        nonce = str(uuid.uuid4())
        self.send("HEARTBEAT", nonce=nonce)
        events = []
        while True:
            event = self.next()
            if event.get("metadata", {}).get("custom", {}).get("nonce") == nonce:
                return events
            events.append(event)

    def reply(self) -> list[dict]:
        """The events of the agent's answer up to its complete message."""
        events = []
        while True:
            events.append(self.next())
            whole = kind(events[-1]) in ("POLY_AGENT_MESSAGE", "LIVE_AGENT_MESSAGE", "SYSTEM_MESSAGE")
            if whole or events[-1]["payload"].get("is_complete"):
                return events

    def silent(self, timeout: float = NEVER) -> bool:
        try:
            self.socket.recv(timeout=timeout)
        except TimeoutError:
            return True
        return False

    def gone(self) -> int | None:
        """Read to the end; the close code, or ``None`` where there was no close frame."""
        try:
            while True:
                self.next()
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd else None

    def close(self) -> None:
        self.socket.close()


def kind(event: dict) -> str:
    return event["type"].removeprefix("EVENT_TYPE_")


def kinds(events: list[dict]) -> list[str]:
    return [kind(event) for event in events]


def seconds_between(earlier: dict, later: dict) -> float:
    """By the server's own times, which no busy client can blur; they have milliseconds."""
    first, second = (datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")) for event in (earlier, later))
    return (second - first).total_seconds() + 0.002


def text_of(events: list[dict]) -> str:
    return "".join(
        event["payload"].get("text") or ""
        for event in events
        if kind(event) in ("POLY_AGENT_MESSAGE", "POLY_AGENT_MESSAGE_CHUNK", "LIVE_AGENT_MESSAGE")
    )


@dataclass
class Peer:
    """Tokens, sessions and sockets of one emulator."""

    emulator: Any
    tls: Any = None
    _lines: ExitStack = field(default_factory=ExitStack)

    def token(self, *, method: str = "POST", **headers: str | None) -> requests.Response:
        given = {"X-Token": self.emulator.connector_token, "X-Host": self.emulator.host, **headers}
        url = f"{self.emulator.url}/api/v1/access-token"
        kept = {key: value for key, value in given.items() if value is not None}
        return requests.request(method, url, json={}, headers=kept, timeout=5, allow_redirects=False)

    def session(self, authorization: str | None = None, data: object = "{}") -> requests.Response:
        headers = {"Authorization": authorization} if authorization is not None else {}
        url = f"{self.emulator.url}/api/v1/sessions"
        return requests.post(url, data=data, headers=headers, timeout=5, allow_redirects=False)

    def fresh(self, *, streaming: bool = True) -> tuple[str, str]:
        """A new session's id and token."""
        token = self.token().json()["access_token"]
        answer = self.session(f"Bearer {token}", json.dumps({"streaming_enabled": streaming}))
        return answer.json()["session_id"], token

    def socket_url(self, **query: object) -> str:
        base = self.emulator.url.replace("http", "ws", 1)
        return f"{base}/ws?" + "&".join(f"{key}={value}" for key, value in query.items() if value is not None)

    def line(self, session_id: str, token: str, cursor: object = None) -> Line:
        url = self.socket_url(session_id=session_id, access_token=token, cursor=cursor)
        opening = connect(url, open_timeout=5, close_timeout=1, max_size=None, compression=None, ssl=self.tls)
        return Line(self._lines.enter_context(opening), self)

    def joined(self, *, streaming: bool = True) -> Line:
        """A line of a new session whose agent has greeted; its history and greeting are read."""
        line = self.line(*self.fresh(streaming=streaming))
        line.next()
        line.send("REQUEST_POLY_AGENT_JOIN")
        line.reply()
        return line

    def again(self, cursor: object = None) -> Line:
        """Another line of the latest session."""
        session = self.emulator.session._session
        return self.line(session.id, session.access_token, cursor)

    def close(self) -> None:
        self._lines.close()
