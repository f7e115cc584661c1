"""`Client`: settings, plugins and connections that the sessions of a process share."""

from __future__ import annotations

import atexit
import os
import threading
import time
import uuid
import weakref
from typing import TYPE_CHECKING, Any

from polyai_sync.bells import Bells
from polyai_sync.calls import UNSET, Timeout, deadline_of, total
from polyai_sync.config import Secret, Timeouts, resolve_settings
from polyai_sync.engine import Engine, Services
from polyai_sync.errors import ConfigurationError, PolyAIError, SessionClosedError
from polyai_sync.hooks import PluginInfo, RateLimit
from polyai_sync.opening import new_correlation_id, retrying
from polyai_sync.plugin_host import PluginHost
from polyai_sync.protocol.conversation import Conversation
from polyai_sync.redaction import Redactor
from polyai_sync.session import Session
from polyai_sync.session_threads import Openers, exhausted
from polyai_sync.state import SessionState
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.dial import Dialer
from polyai_sync.transport.http import AccessToken, HttpTransport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    import requests

__all__ = ["Client"]

EXIT_PATIENCE = 0.5
"""Seconds that the end of the interpreter waits for the threads of clients which nobody closed."""


class Client:
    """A client of the PolyAI Messaging API. Make one a process; all threads share it.

    The constructor does no I/O and starts no thread, so that a client may be made before a fork.

    Args:
        connector_token: From Messaging → API Configuration in Agent Studio; else ``POLYAI_CONNECTOR_TOKEN``.
        host: The registered domain or app namespace, such as ``https://www.example.com``; else ``POLYAI_HOST``.
        cluster: Where the project lives: ``us-1``, ``uk-1``, ``euw-1`` …; else ``POLYAI_CLUSTER``, else ``us-1``.
        base_url: Another service (an emulator, a proxy), instead of ``cluster``; else ``POLYAI_BASE_URL``.
        streaming: Ask for replies in chunks.
        platform: ``web``, ``ios``, ``android``, ``ios-web``, ``android-web`` or ``custom``.
        device_type: ``mobile``, ``tablet``, ``desktop`` or ``None``.
        timeouts: Seconds for each phase.
        plugins: Plugins to register, first in line. One whose name is a bundled one's replaces that.
        block: Names of plugins not to load; ``POLYAI_SYNC_BLOCK`` adds to them.
        load_plugins: ``False`` loads no entry points, the bundled plugins included: no retry, no reconnect, no log.
        event_window: How many events a session keeps for readers that lag.
        http: A ``requests.Session`` whose proxies, adapters, certificates and headers count, for both legs. It is
            never changed.
        websocket_options: ``sockopt`` and ``header`` for the socket.
        app_info: Appended to the User-Agent, such as ``"shop/1.4"``.

    Raises:
        ConfigurationError: A setting is missing or malformed; the message names it and the fix.
        PluginError: A plugin cannot work; the message names it.
    """

    def __init__(
        self,
        connector_token: str | None = None,
        host: str | None = None,
        *,
        cluster: str | None = None,
        base_url: str | None = None,
        streaming: bool = True,
        platform: str = "custom",
        device_type: str | None = None,
        timeouts: Timeouts | None = None,
        plugins: Iterable[object] = (),
        block: Iterable[str] = (),
        load_plugins: bool = True,
        event_window: int = 10_000,
        http: requests.Session | None = None,
        websocket_options: Mapping[str, Any] | None = None,
        app_info: str | None = None,
    ) -> None:
        settings = resolve_settings(
            connector_token,
            host,
            cluster=cluster,
            base_url=base_url,
            streaming=streaming,
            platform=platform,
            device_type=device_type,
            timeouts=timeouts,
            event_window=event_window,
            app_info=app_info,
        )
        transport = HttpTransport(settings, http=http)
        self._services = Services(
            settings=settings,
            host=PluginHost(
                plugins, block=block, load_plugins=load_plugins, redactor=Redactor(settings.connector_token)
            ),
            http=transport,
            dialer=Dialer(settings, transport, websocket_options=websocket_options),
            openers=Openers(),
            bells=Bells(),
        )
        self._lock = threading.Lock()
        self._engines: set[Engine] = set()
        self._closed = False
        _remember(self)

    def __repr__(self) -> str:
        return f"<Client {self._services.settings.base_url}{' closed' if self._closed else ''}>"

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """The plugins, in the order of their calls."""
        return self._services.host.plugins

    def start_session(
        self,
        *,
        streaming: bool | None = None,
        join: bool = True,
        greeting: bool = True,
        timeout: Timeout = UNSET,
    ) -> Session:
        """Start a conversation: token, session, socket, history, join (`protocol.md` §7).

        The greeting is then the first ``next_message()``, and no ``ask`` takes it for its answer.

        Args:
            streaming: Instead of the client's setting.
            join: Ask the agent to join.
            greeting: Return once the agent has greeted; one that does not come in ``Timeouts.greeting`` is not waited
                for longer. ``False`` returns at the join.
            timeout: Seconds for the whole call, ``None`` for ever; left out, the limits of the phases.

        Raises:
            AuthenticationError: The connector token or the host was not accepted.
            InvalidRequestError: The service did not accept the request.
            RateLimitError: Too many sessions; ``retry_after`` says how long to wait.
            ServerError: The service failed.
            AgentError: The agent could not start.
            ConnectionFailedError: No answer came.
            ReadyTimeoutError: The agent did not join in time; the connection is closed.
            ProtocolError: The service answered what the protocol does not allow.
        """
        if streaming is not None and not isinstance(streaming, bool):
            raise TypeError(f"streaming must be a bool or None, not {type(streaming).__name__}")
        limits = self._services.settings.timeouts
        phases = (limits.read, limits.read, limits.connect, limits.ready, limits.greeting)
        deadline = deadline_of(timeout, total(*phases))
        session = self._session(
            Conversation(
                identity=str(uuid.uuid4()),
                join=join,
                receipt_limit=limits.delivery,
                greeting_limit=limits.greeting,
            ),
            streaming=self._services.settings.streaming if streaming is None else streaming,
            state=None,
        )
        session._open(greeting=join and greeting, deadline=deadline, phases=timeout is UNSET)
        return session

    def resume_session(
        self, state: SessionState, *, join: bool = True, history: bool = False, timeout: Timeout = UNSET
    ) -> Session:
        """Come back to a session, with its own token and cursor. Never mints a token, never creates a session.

        What is at or below the state's cursor counts as handed on already, whatever the server replays.

        Args:
            state: ``session.state``, or ``SessionState.from_json(…)``.
            join: Ask the agent to join where it never did.
            history: Ask for all of it again, to rebuild ``messages`` and ``events(replay=True)``; ``next_message()``
                and hooks get nothing of the old part.
            timeout: Seconds for the whole call, ``None`` for ever; left out, the limits of the phases.

        Raises:
            ConfigurationError: The state is another service's, or no `SessionState`.
            SessionNotFoundError: The session has ended or expired.
            AuthenticationError: Its token has expired, and so has the session.
            ConnectionFailedError: No answer came.
            ReadyTimeoutError: It was not ready in time; the connection is closed.
        """
        if not isinstance(state, SessionState):
            raise ConfigurationError(
                f"state must be a SessionState, not {type(state).__name__}; "
                "read a stored one with SessionState.from_json()"
            )
        base_url = self._services.settings.base_url
        if state.base_url != base_url:
            raise ConfigurationError(
                f"The state belongs to {state.base_url}, and this client talks to {base_url}; "
                "resume it with a client of the same base URL or cluster"
            )
        limits = self._services.settings.timeouts
        deadline = deadline_of(timeout, total(limits.connect, limits.ready))
        session = self._session(
            Conversation(
                identity=str(uuid.uuid4()),
                join=join,
                receipt_limit=limits.delivery,
                greeting_limit=limits.greeting,
                state=state,
                history=history,
            ),
            streaming=state.streaming,
            state=state,
        )
        session._open(greeting=False, deadline=deadline, phases=timeout is UNSET)
        return session

    def mint_access_token(self) -> AccessToken:
        """Exchange the connector token for an access token of a new user, to hand to a front end.

        Raises:
            AuthenticationError: The connector token or the host was not accepted.
            RateLimitError, ServerError, ConnectionFailedError, ProtocolError: As for `start_session`.
        """
        services = self._services
        host = services.host
        correlation_id = new_correlation_id()
        limits = services.settings.timeouts
        deadline = Deadline.after(total(limits.connect, limits.read))

        def report(error: PolyAIError) -> None:
            error.reported = True
            host.on_error(None, error)
            if error.status == 429:
                limit = RateLimit(surface=error.surface, retry_after=error.retry_after, error=error)
                host.on_rate_limit(None, limit)

        return retrying(
            lambda attempt: services.http.mint_access_token(
                deadline=deadline, attempt=attempt, correlation_id=correlation_id, observer=_Observer(host)
            ),
            ask=lambda error, attempt: host.retry_delay(None, "access_token", error, attempt),
            pause=time.sleep,
            deadline=deadline,
            report=report,
        )

    def close(self) -> None:
        """Close every session's connection (this ends no conversation), and join their threads. Idempotent."""
        with self._lock:
            self._closed = True
            engines = list(self._engines)
        self._close_all(engines, self._services.settings.timeouts.close)
        self._services.http.close()
        self._services.bells.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- inside ---

    def _session(self, conversation: Conversation, *, streaming: bool, state: SessionState | None) -> Session:
        with self._lock:
            if self._closed:
                raise SessionClosedError("The client is closed; make another one", surface="client", resolution="")
            try:
                session = Session(
                    self._services,
                    conversation,
                    streaming=streaming,
                    identity=(state.session_id, Secret(state.access_token)) if state else None,
                    created_at=state.created_at if state else None,
                    left=self._forget,
                )
            except OSError as error:
                raise exhausted("descriptors", error) from error
            self._engines.add(session._engine)
        return session

    def _forget(self, engine: Engine) -> None:
        with self._lock:
            self._engines.discard(engine)

    @staticmethod
    def _close_all(engines: Iterable[Engine], patience: float) -> None:
        """Close all first, then wait for all: together they take no longer than the slowest."""
        until = time.monotonic() + patience
        engines = list(engines)
        for engine in engines:
            engine.close(0)
        for engine in engines:
            engine.close(max(0.0, until - time.monotonic()))

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._services.openers.after_fork()
        self._services.bells.after_fork()
        engines, self._engines = self._engines, set()
        for engine in engines:
            engine.after_fork()

    def _at_exit(self) -> None:
        engines = list(self._engines)
        for engine in engines:
            engine.exiting = True
        self._close_all(engines, EXIT_PATIENCE)


class _Observer:
    """Tells plugins of a request that belongs to no session."""

    def __init__(self, host: PluginHost) -> None:
        self._host = host

    def on_request(self, operation: str, attempt: int, method: str, url: str, correlation_id: str) -> None:
        self._host.on_request(None, operation, attempt, method, url, correlation_id)

    def on_response(
        self,
        operation: str,
        attempt: int,
        status: int | None,
        seconds: float,
        correlation_id: str,
        error: PolyAIError | None,
    ) -> None:
        self._host.on_response(None, operation, attempt, status, seconds, correlation_id, error)


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_clients_lock = threading.Lock()
_hooked = False


def _remember(client: Client) -> None:
    """See to it that a fork and the end of the interpreter find ``client``."""
    global _hooked
    with _clients_lock:
        _clients.add(client)
        if not _hooked:
            _hooked = True
            atexit.register(_at_exit)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    global _clients_lock
    _clients_lock = threading.Lock()
    for client in list(_clients):
        client._after_fork()


def _at_exit() -> None:
    for client in list(_clients):
        client._at_exit()
