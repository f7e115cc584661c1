"""`Emulator`: the whole service on loopback, in a thread of this process."""

from __future__ import annotations

import socket
import threading
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from polyai_sync.emulator.desk import RestaurantDesk
from polyai_sync.emulator.faults import Faults
from polyai_sync.emulator.loop import LoopThread
from polyai_sync.emulator.service import Service
from polyai_sync.emulator.session import Rules, Session
from polyai_sync.emulator.view import EmulatedSession
from polyai_sync.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from typing_extensions import Self

    from polyai_sync import Client
    from polyai_sync.emulator.agent import Agent
    from polyai_sync.emulator.rest import LoggedRequest

__all__ = ["Emulator"]


class Emulator:
    """The PolyAI Messaging API on one port of this machine, for demos and tests.

    ::

        with Emulator() as emulator, emulator.client() as client:
            with client.start_session() as session:
                print(session.ask("A table for two").text)

    It may be started again after `stop`; it then has forgotten its tokens and sessions. Any number may run in a
    process.

    Args:
        connector_token: A connector token it accepts.
        host: The domain registered for that connector; its subdomains match too.
        tokens: Further connector tokens and their domains; ``None`` = a connector without a host domain.
        address: Where to listen: an address of this machine.
        port: Where to listen; 0 = any free port.
        base_path: A path prefix, as behind a proxy: ``/polyai``.
        tls: Serve ``https`` and ``wss`` with this context.
        agent: Who answers: a class (one instance a session), or any callable given a turn. See `Turn`.
        agent_name: The name in ``POLY_AGENT_JOINED``.
        agent_avatar_url: The picture there.
        capabilities: Replace or add fields of ``SESSION_START``; ``None`` as a value leaves the field out.
        idle_timeout: Seconds without a frame from a client after which its socket is closed.
        session_timeout: Seconds without one after which the session ends; by default a tenth more than that.
        end_retention: Seconds for which an ended session can still be connected to, to fetch its last events. 0: it
            is "session not found" from its end on.
        token_lifetime: Seconds an access token is good for.
        max_connections: Sockets a session may have.
        max_message_size: Bytes a client's message may have.
        thinking_delay: Seconds the agent thinks before a reply.
        chunk_delay: Seconds between the chunks of a stream.
    """

    def __init__(
        self,
        *,
        connector_token: str = "demo-connector-token",  # noqa: S107 - opens nothing but this emulator
        host: str = "localhost",
        tokens: Mapping[str, str | None] | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
        base_path: str = "",
        tls: ssl.SSLContext | None = None,
        agent: type[Callable[..., Any]] | Agent = RestaurantDesk,
        agent_name: str = "Olive",
        agent_avatar_url: str = "https://cdn.example.com/olive.png",
        capabilities: Mapping[str, Any] | None = None,
        idle_timeout: float = 600.0,
        session_timeout: float | None = None,
        end_retention: float = 0.0,
        token_lifetime: float = 86400,
        max_connections: int = 10,
        max_message_size: int = 131_072,
        thinking_delay: float = 0.0,
        chunk_delay: float = 0.0,
    ) -> None:
        self.connector_token = connector_token
        self.host = host
        self.faults = Faults()
        self._address = address
        self._wanted_port = port
        self._base_path = base_path.rstrip("/")
        self._tls = tls
        self._connectors = {connector_token: host, **(tokens or {})}
        self._token_lifetime = token_lifetime
        self._thread = LoopThread("polyai-emulator")
        self._service: Service | None = None
        self._port = 0
        self._stopped = threading.Event()
        self._life = threading.Lock()  # a start and a stop take turns
        fields = {
            "max_message_size_bytes": max_message_size,
            "max_reconnect_attempts": 5,
            "heartbeat_interval_seconds": 30,
            **(capabilities or {}),
        }
        self._rules = Rules(
            faults=self.faults,
            agent=agent if isinstance(agent, type) else lambda: agent,
            agent_name=agent_name,
            agent_avatar_url=agent_avatar_url,
            capabilities={name: value for name, value in fields.items() if value is not None},
            idle_timeout=idle_timeout,
            session_timeout=idle_timeout * 1.1 if session_timeout is None else session_timeout,
            end_retention=end_retention,
            max_connections=max_connections,
            max_message_size=max_message_size,
            thinking_delay=thinking_delay,
            chunk_delay=chunk_delay,
            view=self._view,
        )

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen and serve from a daemon thread; returns when connections are accepted.

        Raises:
            ConfigurationError: The port is taken, or the address is not this machine's.
            RuntimeError: It runs already.
        """
        with self._life:
            self._start()
        return self

    def _start(self) -> None:
        if self.running:
            raise RuntimeError("this emulator runs already")
        listener = self._listen()
        self._port = listener.getsockname()[1]
        self._stopped.clear()

        async def main(ready: Callable[[], None]) -> None:
            service = Service(self._rules, self._connectors, self._token_lifetime, self._base_path)
            self._service = service
            try:
                await service.run(listener, self._tls, ready)
            finally:
                self._stopped.set()

        try:
            self._thread.start(main)
        except BaseException:
            listener.close()
            raise

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        try:
            return socket.create_server((self._address, self._wanted_port), family=family, backlog=512)
        except OSError as error:
            where = f"{self._address} port {self._wanted_port}"
            raise ConfigurationError(
                f"The emulator cannot listen on {where} ({error.strerror}): choose another port, or 0 for any free one"
            ) from error

    def stop(self) -> None:
        """Close every socket and end the thread. Its sessions can still be looked at. Idempotent."""
        if self._thread.here:
            raise RuntimeError("an agent cannot stop its own emulator")
        with self._life:
            service = self._service
            if service is not None and self.running:
                self._thread.call(service.stop)
            self._thread.join()

    def run_forever(self) -> None:
        """Serve until `stop` is called from another thread, or Ctrl-C; then stop. Starts it if it does not run.

        No signal handler is installed: ``KeyboardInterrupt`` passes through once everything is closed.
        """
        if not self.running:
            self.start()
        try:
            self._stopped.wait()
        finally:
            self.stop()

    @property
    def running(self) -> bool:
        """Does it serve?"""
        return self._thread.alive

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- where ----------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port it listens on (the last one, when it is stopped)."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL for a client."""
        scheme = "https" if self._tls else "http"
        address = f"[{self._address}]" if ":" in self._address else self._address
        return f"{scheme}://{address}:{self._port}{self._base_path}"

    def client(self, **overrides: Any) -> Client:
        """A `polyai_sync.Client` for this emulator; arguments as for that class."""
        from polyai_sync import Client  # the emulator serves any client, ours is a convenience

        settings = {"connector_token": self.connector_token, "host": self.host, "base_url": self.url}
        return Client(**{**settings, **overrides})

    # --- looking --------------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> Mapping[str, EmulatedSession]:
        """All sessions so far by id, ended ones too, in the order in which they were made: a snapshot."""
        service = self._service
        sessions = dict(service.sessions) if service else {}
        return MappingProxyType({key: self._view(session) for key, session in sessions.items()})

    @property
    def session(self) -> EmulatedSession:
        """The latest session.

        Raises:
            LookupError: There has been none.
        """
        views = tuple(self.sessions.values())
        if not views:
            raise LookupError("no session has been created yet")
        return views[-1]

    @property
    def log(self) -> tuple[LoggedRequest, ...]:
        """Every HTTP request and handshake so far, secrets masked."""
        return tuple(self._service.log) if self._service else ()

    @property
    def tokens_minted(self) -> int:
        """How many access tokens were made."""
        return self._service.mint.minted if self._service else 0

    @property
    def sessions_created(self) -> int:
        """How many sessions were made."""
        return len(self._service.sessions) if self._service else 0

    @property
    def handshakes(self) -> int:
        """How many handshakes arrived, refused ones too."""
        return sum(entry.surface == "connect" for entry in self.log)

    @property
    def connections(self) -> int:
        """How many sockets are open."""
        return sum(session.connections for session in self.sessions.values())

    def revoke_tokens(self) -> None:
        """Let every access token made so far be as good as expired."""
        if self._service is not None:
            self._thread.call(self._service.mint.revoke_all)

    def _view(self, session: Session) -> EmulatedSession:
        return EmulatedSession(session, self._thread)

    def __repr__(self) -> str:
        return f"<Emulator {self.url} {'running' if self.running else 'stopped'}>"
