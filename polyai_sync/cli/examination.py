"""The steps of a connection, each by itself: what `polyai_sync.Client` does in one go when a session starts."""

from __future__ import annotations

import base64
import binascii
import contextlib
import difflib
import json
import time
import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from polyai_sync.cli.reach import Way
from polyai_sync.cli.service import Service
from polyai_sync.cli.text import one_line
from polyai_sync.config import CLUSTERS, Secret, Settings, Timeouts, resolve_settings
from polyai_sync.errors import (
    ConnectionFailedError,
    PolyAIError,
    ReadyTimeoutError,
    ReplyTimeoutError,
    WaitTimeoutError,
)
from polyai_sync.events import RequestPolyAgentJoin
from polyai_sync.hooks import hookimpl
from polyai_sync.state import SessionState
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.http import HttpTransport

if TYPE_CHECKING:
    import argparse
    from types import TracebackType

    from polyai_sync import Client, Session
    from polyai_sync.cli.output import Output
    from polyai_sync.events import Event
    from polyai_sync.hooks import ClientEvent

__all__ = ["STEPS", "Examination", "NotNeeded", "token_expiry"]


class NotNeeded(Exception):  # noqa: N818 - a step that there is no use for is no error
    """The step has nothing to try; the message says why."""


class _Observer:
    """Notes when things happen on the socket."""

    name = "polyai-sync-doctor"

    def __init__(self) -> None:
        self.handshake: float | None = None
        self.started_at: float | None = None
        self.join_sent: float | None = None
        self.join_echoed: float | None = None

    @hookimpl
    def on_connect(self, seconds: float) -> None:
        """The socket is open."""
        self.handshake = seconds

    @hookimpl
    def on_session_start(self) -> None:
        """The history has begun."""
        self.started_at = time.monotonic()

    @hookimpl
    def on_send(self, event: ClientEvent) -> None:
        """Something was written."""
        if event.type == RequestPolyAgentJoin.wire_type:
            self.join_sent = time.monotonic()

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Something came."""
        if isinstance(event, RequestPolyAgentJoin):
            self.join_echoed = time.monotonic()


class Examination:
    """Goes through `STEPS`; a step counts on those before it. Nothing is retried, and no plugin is loaded.

    Attributes:
        settings_found: Each setting and where it came from, for people; no token.
    """

    def __init__(self, options: argparse.Namespace, output: Output) -> None:
        self.settings_found: dict[str, str] = {}
        self._options = options
        self._output = output
        self._observer = _Observer()
        self._service: Service
        self._settings: Settings
        self._http: HttpTransport
        self._way: Way
        self._token: Secret
        self._client: Client | None = None
        self._session: Session | None = None
        self._session_id = ""
        self._began = 0.0
        self._took: float | None = None
        self._connected_at = 0.0
        self._late_error: PolyAIError | None = None

    def run(self, name: str) -> str:
        """Try a step; `seconds` is then how long it took, also where it failed.

        Returns:
            What was found.

        Raises:
            NotNeeded: There is nothing to try.
            PolyAIError: It failed.
        """
        self._began, self._took = time.monotonic(), None
        detail: str = STEPS[name](self)
        return detail

    @property
    def seconds(self) -> float:
        """How long the last step took, or has taken so far."""
        return time.monotonic() - self._began if self._took is None else self._took

    def __enter__(self) -> Examination:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None and kind is None:
            # After a failure; the server ends the session by itself where this does not.
            with contextlib.suppress(PolyAIError):
                self._session.end(timeout=1.0)
        if self._client is not None:
            self._client.close()

    # --- where to, and as whom ---

    def _read_settings(self) -> str:
        service = self._service = Service.of(self._options, self._output)
        service.check()
        limit = self._options.timeout
        timeouts = Timeouts(ready=60, greeting=60)
        if limit is not None:
            timeouts = Timeouts(connect=limit, read=limit, ready=limit, greeting=limit, close=min(limit, 5.0))
        settings = self._settings = resolve_settings(**service.settings, timeouts=timeouts)
        self._client = service.client(timeouts=timeouts, plugins=self._plugins(), load_plugins=False)
        self._http = HttpTransport(settings)
        self._way = Way(settings, self._http)
        origins = service.origins
        cluster = f"cluster {service.cluster}, " if service.cluster else ""
        self.settings_found = {
            "token": f"kept secret (from {origins['connector_token']})",
            "host": f"{self._shown(settings.host)} (from {origins['host']})",
            "base URL": f"{settings.base_url} ({cluster}from {origins['base_url']})",
            "proxy": self._way.proxy or "none",
        }
        if self._way.bundle:
            self.settings_found["CA bundle"] = self._way.bundle
        return "complete and well-formed"

    def _plugins(self) -> list[object]:
        if not self._options.debug:
            return [self._observer]
        from polyai_sync_plugins import Logging

        return [self._observer, Logging()]

    def _shown(self, host: str) -> str:
        """The host, unless it looks like a token that was given in its place."""
        is_plain_name = "." in host or "://" in host or host == "localhost"
        return self._output.hide(host) if is_plain_name else f"{host[:2]}{'*' * (len(host) - 2)}"

    def _resolve(self) -> str:
        try:
            return self._way.resolve()
        except ConnectionFailedError as error:
            cluster = self._service.cluster
            if cluster is None or cluster in CLUSTERS:
                raise
            near = difflib.get_close_matches(cluster, CLUSTERS, n=1, cutoff=0.5)
            meant = f"did you mean {near[0]}? " if near else ""
            raise ConnectionFailedError(
                f"{urlsplit(self._settings.base_url).hostname} has no address, and {cluster} is no known cluster",
                resolution=f"Check the cluster: {meant}Known clusters are {', '.join(CLUSTERS)}.",
                surface="connect",
            ) from error

    def _connect(self) -> str:
        return self._way.connect()

    def _secure(self) -> str:
        if not self._way.is_secure:
            raise NotNeeded("not used: http, on this machine only")
        return self._way.secure()

    # --- the two calls ---

    def _mint(self) -> str:
        timeouts = self._settings.timeouts
        token = self._http.mint_access_token(
            deadline=Deadline.after(timeouts.connect + timeouts.read),
            attempt=1,
            correlation_id=str(uuid.uuid4()),
            observer=None,
        )
        self._token = Secret(token.value)
        self._output.keep_secret(token.value)
        expiry = token_expiry(token.value)
        until = "its own text gives no expiry" if expiry is None else f"good until {expiry:%Y-%m-%d %H:%M:%S} UTC"
        return f"access token for {token.expires_in:g} s, {until}"

    def _create(self) -> str:
        timeouts = self._settings.timeouts
        self._session_id = self._http.create_session(
            self._token,
            streaming=True,
            deadline=Deadline.after(timeouts.connect + timeouts.read),
            attempt=1,
            correlation_id=str(uuid.uuid4()),
            observer=None,
        )
        return f"session {one_line(self._session_id)}"

    # --- the socket ---

    def _open(self) -> str:
        """Open the socket. The client goes on to the end of the history at once: what fails there is the next step."""
        assert self._client is not None  # noqa: S101 - the first step made it
        state = SessionState(
            session_id=self._session_id, access_token=self._token.reveal(), base_url=self._settings.base_url
        )
        try:
            self._session = self._client.resume_session(state, join=False)
        except PolyAIError as error:
            if self._observer.handshake is None:
                raise
            self._late_error = error
        self._took = self._observer.handshake or 0.0
        self._connected_at = self._began + self._took
        return f"{self._settings.websocket_url} is open"

    def _history(self) -> str:
        self._began = self._connected_at
        if isinstance(self._late_error, ReadyTimeoutError) and self._observer.started_at is None:
            raise ReadyTimeoutError(f"No SESSION_START came within {self._settings.timeouts.ready:g} s")
        if self._late_error is not None:
            raise self._late_error
        told = self._opened().capabilities
        beat = (
            "30 s by default" if told.heartbeat_interval_seconds is None else f"{told.heartbeat_interval_seconds:g} s"
        )
        return f"heartbeat {beat}, at most {told.max_message_size_bytes} bytes a message"

    def _join(self) -> str:
        session = self._opened()
        session.join(timeout=self._settings.timeouts.ready)
        name = session.agent.name if session.agent is not None else None
        return f"{one_line(name) or 'the agent'} has joined"

    def _round_trip(self) -> str:
        sent, echoed = self._observer.join_sent, self._observer.join_echoed
        if sent is None or echoed is None:
            raise NotNeeded("no echo of the join came to measure it by")
        self._took = max(0.0, echoed - sent)
        return "from the request to join to its echo"

    def _greeting(self) -> str:
        limit = self._settings.timeouts.greeting
        try:
            message = self._opened().next_message(timeout=limit)
        except ReplyTimeoutError:
            raise NotNeeded(f"none came within {limit:g} s; an agent may wait for the user") from None
        text = one_line(message.plain_text())
        return text if len(text) <= 60 else f"{text[:59]}{self._output.symbols.more}"

    def _end(self) -> str:
        session, self._session = self._opened(), None
        reason = session.end()
        if reason is None:
            raise WaitTimeoutError(
                f"The end was not confirmed within {self._settings.timeouts.close:g} s",
                resolution="Nothing has to be done: the server ends the session by itself after ten idle minutes.",
                surface="websocket",
            )
        return one_line(reason)

    def _opened(self) -> Session:
        assert self._session is not None  # noqa: S101 - the step before made it
        return self._session


STEPS: Final[dict[str, Any]] = {
    "settings": Examination._read_settings,
    "name resolution": Examination._resolve,
    "TCP": Examination._connect,
    "TLS": Examination._secure,
    "access token": Examination._mint,
    "session": Examination._create,
    "WebSocket": Examination._open,
    "history": Examination._history,
    "join": Examination._join,
    "round trip": Examination._round_trip,
    "greeting": Examination._greeting,
    "end": Examination._end,
}
"""The steps in order, and what tries each."""


def token_expiry(token: str) -> datetime | None:
    """When a JWT says that it expires; ``None`` where it does not say, or is no JWT. The signature is not checked."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expiry = payload.get("exp") if isinstance(payload, dict) else None
        if isinstance(expiry, bool) or not isinstance(expiry, (int, float)):
            return None
        return datetime.fromtimestamp(expiry, timezone.utc)
    except (ValueError, binascii.Error, RecursionError, OverflowError, OSError):
        return None
