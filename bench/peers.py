"""What people use instead, as they would write it. Runs inside a worker.

Two kinds: connections to pull texts from (``send``, ``recv``), and those that push each text to a callback.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import ssl
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PULLED", "PUSHED", "Pushed", "connect", "message"]


def message(text: str, number: int = 0) -> str:
    """What a user sends."""
    custom = {"client_event_id": f"bench-{number}"}
    return json.dumps({"type": "EVENT_TYPE_USER_MESSAGE", "payload": {"text": text}, "metadata": {"custom": custom}})


# --- pulled -----------------------------------------------------------------------------------------------------------


def _websockets_sync(url: str, context: ssl.SSLContext | None = None) -> Any:
    from websockets.sync.client import connect as connect_sync

    # No compression: the load offers none. No limits in the way of a flood, no pings of its own.
    return connect_sync(url, ssl=context, compression=None, max_size=None, ping_interval=None)


def _websocket_client(url: str, context: ssl.SSLContext | None = None, *, validate: bool = True) -> Any:
    import websocket

    options: dict[str, Any] = {"sslopt": {"context": context}} if context else {}
    return websocket.create_connection(url, skip_utf8_validation=not validate, **options)


PULLED: dict[str, Callable[..., Any]] = {
    "websockets.sync": _websockets_sync,
    "websocket-client": _websocket_client,
    "websocket-client, no validator": functools.partial(_websocket_client, validate=False),
}


def connect(peer: str, url: str, ca: str | None = None) -> Any:
    """A connection with ``send(text)`` and ``recv() -> text``."""
    return PULLED[peer](url, ssl.create_default_context(cafile=ca) if ca else None)


# --- pushed -----------------------------------------------------------------------------------------------------------


class Pushed:
    """A connection that calls ``on_text`` from a thread of its own."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text

    def start(self, url: str) -> None:
        """Connect, and run the thread."""
        raise NotImplementedError

    def send(self, text: str) -> None:
        """Send a text."""
        raise NotImplementedError

    def _run(self, work: Callable[[], object]) -> None:
        threading.Thread(target=work, daemon=True).start()


class _App(Pushed):
    def start(self, url: str) -> None:
        import websocket

        opened = threading.Event()
        self._app = websocket.WebSocketApp(
            url, on_open=lambda _: opened.set(), on_message=lambda _, text: self._on_text(text)
        )
        self._run(self._app.run_forever)
        if not opened.wait(10):
            raise TimeoutError("WebSocketApp did not open")

    def send(self, text: str) -> None:
        self._app.send(text)


class _Slack(Pushed):
    def start(self, url: str) -> None:
        # Its package's own __init__ would bring the whole SDK along; this is the connection alone.
        module = importlib.import_module("slack_sdk.socket_mode.builtin.connection")
        log = logging.getLogger("bench.slack")
        log.addHandler(logging.NullHandler())
        log.propagate = False
        # Its parser calls itself for each frame, and loses what it holds where that goes too deep: in any flood.
        sys.setrecursionlimit(1_000_000)
        self._connection = module.Connection(url=url, logger=log, on_message_listener=self._on_text)
        self._connection.connect()
        if not self._connection.is_active():
            raise ConnectionError("slack_sdk's connection did not open")
        self._state = module.ConnectionState()
        self._run(lambda: self._connection.run_until_completion(self._state))

    def send(self, text: str) -> None:
        self._connection.send(text)


PUSHED: dict[str, type[Pushed]] = {"WebSocketApp": _App, "slack_sdk": _Slack}
