"""The way to an open session: token, session, first socket, each with its retries (`protocol.md` §7.1).

The socket's connection is dialled while the REST calls are still under way.
"""

from __future__ import annotations

import logging
import threading
import uuid
from typing import TYPE_CHECKING, TypeVar

from polyai_sync.config import Secret
from polyai_sync.errors import AuthenticationError, ConnectionFailedError, PolyAIError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.connecting import Connector
    from polyai_sync.engine import Engine
    from polyai_sync.protocol.conversation import Conversation
    from polyai_sync.transport.deadline import Deadline
    from polyai_sync.transport.dial import Dialled

__all__ = ["Opening", "new_correlation_id", "retrying"]

T = TypeVar("T")

_log = logging.getLogger("polyai_sync.session")


def new_correlation_id() -> str:
    """One a logical call; its retries share it (`protocol.md` §2)."""
    return str(uuid.uuid4())


def retrying(
    call: Callable[[int], T],
    *,
    ask: Callable[[PolyAIError, int], float | None],
    pause: Callable[[float], None],
    deadline: Deadline,
    report: Callable[[PolyAIError], None],
) -> T:
    """Make ``call`` until it succeeds or the policy has had enough.

    Args:
        call: Takes the number of the try, from 1.
        ask: The policy: the error and the tries made so far; answers with seconds to wait, or ``None``.
        pause: Waits; raises where the wait is not wanted any longer.
        deadline: A wait that would pass it is not begun.
        report: Told of each error before it is raised or recovered.
    """
    attempt = 1
    while True:
        try:
            return call(attempt)
        except PolyAIError as caught:
            error = caught  # dealt with out here: what is raised meanwhile, Ctrl-C for one, is no consequence of it
        report(error)
        delay = ask(error, attempt)
        remaining = deadline.remaining()
        if delay is None or (remaining is not None and delay >= remaining):
            raise error
        pause(delay)
        attempt += 1


class _Predial:
    """Dials the socket's connection while the REST calls are under way. Nothing secret is sent on it."""

    def __init__(self, engine: Engine, deadline: Deadline) -> None:
        self._engine = engine
        self._deadline = deadline
        self._lock = threading.Lock()
        self._dialled: Dialled | None = None
        self._error: PolyAIError | None = None
        self._unwanted = False
        self._task = engine.services.openers.submit(self._dial, "polyai-dial")

    def take(self, deadline: Deadline) -> Dialled | None:
        """The connection, or ``None`` where it has gone stale meanwhile.

        Raises:
            ConnectionFailedError: It could not be opened, or not in time.
        """
        done = self._task.join(deadline.remaining())
        with self._lock:
            dialled, self._dialled = self._dialled, None
            error, self._error = self._error, None
        if error is not None:
            raise error
        if not done:
            raise ConnectionFailedError("The connection could not be opened in time", surface="connect")
        if dialled is not None and not dialled.fresh():
            dialled.close()
            return None
        return dialled

    def dismiss(self) -> None:
        """Nobody will take it."""
        with self._lock:
            self._unwanted = True
            dialled, self._dialled = self._dialled, None
        if dialled is not None:
            dialled.close()

    def _dial(self) -> None:
        try:
            with self._engine.leash.on_this_thread():
                dialled = self._engine.services.dialer.dial(self._deadline)
        except PolyAIError as error:
            with self._lock:
                self._error = error
            return
        except Exception as error:  # noqa: BLE001 - none that is known; the session's thread dials again, and would raise it
            _log.warning("The dial beside the requests failed (%s); dialling again.", type(error).__name__)
            return
        with self._lock:
            if not self._unwanted:
                self._dialled = dialled
                return
        dialled.close()


class Opening:
    """Opens a session the first time: creates it unless it is resumed, and connects. On the session's own thread.

    As a context manager: a connection that nobody took is closed at the end of the block.

    Args:
        engine: The session's.
        connector: Opens its sockets.
        deadline: Until when something may be tried again.
    """

    def __init__(self, engine: Engine, connector: Connector, deadline: Deadline) -> None:
        self._engine = engine
        self._connector = connector
        self._deadline = deadline
        self._predial: _Predial | None = None

    def __enter__(self) -> Opening:
        return self

    def __exit__(self, *_: object) -> None:
        if self._predial is not None:
            self._predial.dismiss()

    def open(self) -> None:
        """Do all of it.

        Raises:
            PolyAIError: It failed for good.
            Stopped: The session is not wanted any longer.
        """
        if self._engine.identity is None:
            limit = self._engine.services.settings.timeouts.connect
            self._predial = _Predial(self._engine, self._deadline.within(limit))
            self._create()
        self._connect_first()

    def _create(self) -> None:
        token = self._mint()
        refused = False
        correlation_id = new_correlation_id()

        def create(attempt: int) -> str:
            nonlocal token, refused
            if refused:  # a token that was refused once is refused again
                token = self._mint()
                refused = False
            try:
                return self._engine.services.http.create_session(
                    token,
                    streaming=self._engine.streaming,
                    deadline=self._deadline,
                    attempt=attempt,
                    correlation_id=correlation_id,
                    observer=self,
                )
            except AuthenticationError:
                refused = True
                raise

        session_id = self._retrying("session_create", create)
        with self._engine.lock:
            self._engine.check_wanted()
            self._engine.identity = (session_id, token)

    def _mint(self) -> Secret:
        correlation_id = new_correlation_id()

        def mint(attempt: int) -> Secret:
            token = self._engine.services.http.mint_access_token(
                deadline=self._deadline, attempt=attempt, correlation_id=correlation_id, observer=self
            )
            return Secret(token.value)

        return self._retrying("access_token", mint)

    def _retrying(
        self, operation: str, call: Callable[[int], T], report: Callable[[PolyAIError], None] | None = None
    ) -> T:
        host = self._engine.services.host

        def wanted(attempt: int) -> T:
            with self._engine.unless_stopped():
                return call(attempt)

        def ask(error: PolyAIError, attempt: int) -> float | None:
            with self._engine.lock:
                self._check_wanted_unless_ended_by(error)
            session = self._engine.session if self._engine.identity else None
            return self._engine.ask(lambda: host.retry_delay(session, operation, error, attempt))

        return retrying(
            wanted,
            ask=ask,
            pause=self._engine.pause,
            deadline=self._deadline,
            report=report or self._engine.report,
        )

    def _check_wanted_unless_ended_by(self, error: PolyAIError) -> None:
        """A refusal that ended the session is raised as it is."""
        if self._engine.conversation.end_error is error:
            raise error
        self._engine.check_wanted()

    def _connect_first(self) -> None:
        predial = self._predial

        def connect(_: int) -> None:
            deadline = self._deadline.within(self._engine.services.settings.timeouts.connect)
            dialled = predial.take(deadline) if predial is not None else None
            self._connector.connect(deadline, dialled)

        def refused(error: PolyAIError) -> None:
            def refuse(conversation: Conversation, now: float) -> None:
                conversation.refused(error, now)
                if conversation.over:
                    self._engine.start_error = error  # whoever waits for the start is told at once, and told this

            self._engine.report(error)
            self._engine.change(refuse)

        self._retrying("connect", connect, refused)

    # --- the observer of the REST calls ---

    def on_request(self, operation: str, attempt: int, method: str, url: str, correlation_id: str) -> None:
        """Told by the transport before each attempt."""
        self._engine.tell_now("on_request", operation, attempt, method, url, correlation_id)

    def on_response(
        self,
        operation: str,
        attempt: int,
        status: int | None,
        seconds: float,
        correlation_id: str,
        error: PolyAIError | None,
    ) -> None:
        """Told by the transport after it."""
        self._engine.tell_now("on_response", operation, attempt, status, seconds, correlation_id, error)
