"""One session's thread: connect, read, beat, expire deadlines, reconnect (`architecture.md` "Threads").

The thread owns the socket for the session's life. Callers change the conversation under the lock, write what it wants
written, and wait on the condition; they never read. No lock is held while a frame is written or a hook runs.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import frozen

from polyai_sync.config import Secret, Settings
from polyai_sync.errors import (
    AuthenticationError,
    ConnectionDroppedError,
    ConnectionLostError,
    PolyAIError,
    ProtocolError,
    ReentrantCallError,
)
from polyai_sync.event_log import EventLog
from polyai_sync.hook_queue import HookQueue
from polyai_sync.messages import EndReason
from polyai_sync.opening import Predial, new_correlation_id, retrying
from polyai_sync.redaction import MASK, SHORTEST
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.waker import Waker
from polyai_sync.transport.websocket import WebSocketConnection, open_websocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.plugin_host import PluginHost
    from polyai_sync.protocol.conversation import Conversation
    from polyai_sync.session import Session
    from polyai_sync.transport.dial import Dialer, Dialled
    from polyai_sync.transport.http import HttpTransport

__all__ = ["Engine", "Services", "Stopped"]

RENEW_AFTER: Final = 110 * 60.0
"""Seconds after which a socket is renewed at a quiet moment; the server closes it at about two hours."""

RENEW_AGAIN: Final = 60.0
"""Seconds between two attempts to renew."""

T = TypeVar("T")

_log = logging.getLogger("polyai_sync.session")


class Stopped(Exception):  # noqa: N818 - it only leads out of a wait
    """The session is not wanted any longer."""


@frozen(kw_only=True)
class Services:
    """What the sessions of one client share."""

    settings: Settings
    host: PluginHost
    http: HttpTransport
    dialer: Dialer


class Engine:
    """A session's lock, thread, socket and log.

    Args:
        services: The client's.
        conversation: The state machine; everything it decides is decided there.
        session: The public object, for the hooks.
        streaming: Of a session to be created: ask for chunks.
        identity: Session id and access token of a session to be resumed; ``None`` = create one.
        deadline: Until when a start or resume may try again.
        left: Called when the thread has ended.
    """

    def __init__(
        self,
        services: Services,
        conversation: Conversation,
        session: Session,
        *,
        streaming: bool,
        identity: tuple[str, Secret] | None,
        deadline: Deadline,
        left: Callable[[Engine], None],
    ) -> None:
        self.services = services
        self.conversation = conversation
        self.log = EventLog(services.settings.event_window)
        self.streaming = streaming
        self.start_error: PolyAIError | None = None
        self.published = 0
        """The number of occurrences of which the hooks have been told."""
        self._session = session
        self._identity = identity
        self._start_deadline = deadline
        self._left = left
        self._changed = threading.Condition(threading.Lock())
        self._hooks = HookQueue(self._wake)
        self._waker = Waker()
        self._connection: WebSocketConnection | None = None
        self._connected_at = 0.0
        self._renew_at = 0.0
        self._generation = 0
        self._dialled: Dialled | None = None
        self._handshakes = 0
        self._writing = False
        self._polling = False
        self._polling_until = math.inf
        self._stop = False
        self._given_up = False
        self._thread = self._new_thread()

    # --- for the callers ---

    @property
    def session_id(self) -> str | None:
        """The session's id, once there is one."""
        return self._identity[0] if self._identity else None

    @property
    def access_token(self) -> Secret | None:
        """The token that the session belongs to."""
        return self._identity[1] if self._identity else None

    @property
    def lock(self) -> threading.Condition:
        """Guards the conversation and the log; notified at each change."""
        return self._changed

    @property
    def connected(self) -> bool:
        """Has there ever been a socket?"""
        return self._generation > 0

    @property
    def is_mine(self) -> bool:
        """Is this the session's own thread, or one inside a hook of the session? Waiting here would never end."""
        return self._hooks.is_mine or self._thread.ident == threading.get_ident()

    def check_may_block(self, call: str) -> None:
        """A wait on the very thread that it waits for would never end.

        Raises:
            ReentrantCallError: This is that thread.
        """
        if self.is_mine:
            raise ReentrantCallError(
                f"{call} would wait for the session whose thread it is called on, inside a hook for instance",
                surface="client",
            )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def change(self, action: Callable[[Conversation, float], T]) -> T:
        """Change the conversation, and see to what follows from it."""
        try:
            with self._changed:
                result = action(self.conversation, time.monotonic())
                self._commit()
        finally:
            self._follow_up()
        return result

    def wait(self, predicate: Callable[[], bool], deadline: Deadline) -> bool:
        """Wait until ``predicate`` (called under the lock) holds; ``False`` when the time is up first.

        Deadlines that the conversation knows are met here as well, should the session's thread be busy.
        """
        while True:
            with self._changed:
                while not predicate():
                    if deadline.expired():
                        break
                    self._changed.wait(deadline.remaining())
                else:
                    return True
            self.change(lambda conversation, now: conversation.tick(now))
            with self._changed:
                return predicate()

    def ask(self, question: Callable[[], T]) -> T:
        """Put a question to the policies, in its turn among the hooks."""
        return self._hooks.call(question)

    def report(self, error: PolyAIError) -> None:
        """An error was met: plugins are told of it, once."""
        if not error.reported:
            self.change(lambda conversation, _: conversation.report(error))

    def pause(self, seconds: float, *, until_ending: bool = False) -> None:
        """Wait; ended at once when the session is closed or over.

        Raises:
            Stopped: It was.
        """
        deadline = Deadline.after(seconds)
        while not deadline.expired():
            with self._changed:
                self._check_wanted()
                if until_ending and self.conversation.ending:
                    return
                due = self.conversation.due()
                wait = deadline.clip(None if due is None else max(0.0, due - time.monotonic()))
                self._changed.wait(wait)
                overdue = due is not None and time.monotonic() >= due
            self._hooks.drain()
            if overdue:
                self.change(lambda conversation, now: conversation.tick(now))

    def close(self, timeout: float) -> None:
        """Close the connection and join the thread (not from the session's own thread, which cannot wait for itself).

        Returns within ``timeout`` seconds; a thread that is stuck in somebody's hook ends when that returns.
        """
        with self._changed:
            self._stop = True
            self.conversation.close(time.monotonic())
            connection, dialled = self._connection, self._dialled
            self._commit()
            self._changed.notify_all()
        self._wake()
        if dialled is not None and connection is None:
            dialled.cut()
        if connection is not None:
            connection.close()
        self._follow_up()
        if not self.is_mine and self._thread.ident is not None:
            self._thread.join(timeout)

    def revive(self) -> None:
        """Let the thread of a session that was given up try once more, to end it."""
        if self.is_mine:
            return  # the thread itself sees that there is something left to do
        with self._changed:
            if self._stop or not self._given_up:
                return
            self._given_up = False
            leaving = self._thread
        leaving.join()  # it has nothing left to wait for
        with self._changed:
            self._waker = Waker()
            self._thread = self._new_thread(self._revived)
        self._thread.start()

    def after_fork(self) -> None:
        """In the child: there is no thread, nobody lets go of a lock that was held, and the socket is the parent's."""
        self._changed = threading.Condition(threading.Lock())
        self._hooks = HookQueue(self._wake)
        self._stop = True
        self._writing = False
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
        self._waker.abandon()
        self.conversation.close(time.monotonic())
        self.conversation.notices.take()
        self.published = self.conversation.notices.position

    # --- what follows from a change ---

    def _commit(self) -> None:
        """With the lock held: hand over events, and queue what plugins are to be told."""
        conversation, host = self.conversation, self.services.host
        if events := conversation.take_events():
            self.log.extend(events)
        for hook, arguments in conversation.notices.take():
            if host.has(hook):
                self._hooks.put(partial(self._tell, hook, arguments))
        position = conversation.notices.position
        if self._polling:
            due = conversation.due()
            if conversation.over or (due is not None and due < self._polling_until):
                self._waker.wake()  # only where the thread would wait too long: a wake costs a switch of threads
        if self._hooks.idle:
            self._publish(position)
        else:
            self._hooks.put(partial(self._publish_later, position))

    def _publish(self, position: int) -> None:
        self.published = max(self.published, position)
        self._changed.notify_all()

    def _publish_later(self, position: int) -> None:
        with self._changed:
            self._publish(position)

    def _tell(self, hook: str, arguments: tuple[Any, ...]) -> None:
        getattr(self.services.host, hook)(self._session if self._identity else None, *arguments)

    def _tell_now(self, hook: str, *arguments: Any) -> None:
        if self.services.host.has(hook):
            self._hooks.put(partial(self._tell, hook, arguments))
            self._hooks.drain()

    def _follow_up(self) -> None:
        """Without the lock: write what is to be written, run the hooks."""
        self._flush()
        self._hooks.drain()

    def _flush(self) -> None:
        """Write the frames that wait, unless another thread is at it."""
        while True:
            with self._changed:
                connection = self._connection
                if connection is None or self._writing:
                    return
                taken = self.conversation.take_frame(time.monotonic())
                if taken is None:
                    return
                self._writing = True
            event, frame = taken
            written = False
            try:
                connection.write(frame, Deadline.after(self.services.settings.timeouts.connect))
                written = True
            except PolyAIError:
                connection.close()  # the session's thread meets the drop, and tells of it
            finally:
                with self._changed:
                    self._writing = False
                    if written and self.services.host.has("on_send"):
                        self._hooks.put(partial(self._tell, "on_send", (event,)))

    def _wake(self) -> None:
        """Have the session's thread look again, whatever it waits for."""
        self._waker.wake()
        with self._changed:
            self._changed.notify_all()

    def _check_wanted(self) -> None:
        if self._stop or self.conversation.over:
            raise Stopped

    # --- the thread ---

    def _new_thread(self, work: Callable[[], None] | None = None) -> threading.Thread:
        name = f"polyai-{(self.session_id or 'connecting')[:8]}"
        return threading.Thread(target=self._run, args=(work or self._life,), name=name, daemon=True)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Stopped:
            pass
        except BaseException as error:
            self._died(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._leave()

    def _life(self) -> None:
        try:
            self._open_first()
        except PolyAIError as error:
            failure = self.start_error = error
            self.change(lambda conversation, now: conversation.given_up(failure, now))
            return
        self._serve()

    def _revived(self) -> None:
        if self._reconnect(ConnectionDroppedError("The connection had been given up")):
            self._serve()

    def _died(self, error: BaseException) -> None:
        """Nothing may leave the thread unsaid: whoever waits is told why (`pitfalls.md` 23)."""
        if isinstance(error, Exception):
            _log.exception("The session's thread failed.", extra={"session_id": self.session_id})
        lost = ConnectionLostError("The session's thread failed", surface="client")
        lost.__cause__ = error
        self.start_error = self.start_error or lost
        with self._changed:
            self.conversation.report(lost)
            self.conversation.given_up(lost, time.monotonic())
            self._commit()

    def _leave(self) -> None:
        with self._changed:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._hooks.put(partial(self._tell, "on_disconnect", (None,)))
        with self._changed:
            self._commit()
            self._waker.close()
        try:
            self._hooks.drain()
        finally:
            self._left(self)

    # --- opening ---

    def _open_first(self) -> None:
        if self._identity is not None:
            self._retrying("connect", partial(self._first_connect, None))
            return
        predial = Predial(self.services.dialer, self._start_deadline.within(self.services.settings.timeouts.connect))
        try:
            self._create()
            self._retrying("connect", partial(self._first_connect, predial))
        finally:
            predial.cancel()

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
                return self.services.http.create_session(
                    token,
                    streaming=self.streaming,
                    deadline=self._start_deadline,
                    attempt=attempt,
                    correlation_id=correlation_id,
                    observer=self,
                )
            except AuthenticationError:
                refused = True
                raise

        session_id = self._retrying("session_create", create)
        with self._changed:
            self._check_wanted()
            self._identity = (session_id, token)
        threading.current_thread().name = f"polyai-{session_id[:8]}"

    def _mint(self) -> Secret:
        correlation_id = new_correlation_id()

        def mint(attempt: int) -> Secret:
            token = self.services.http.mint_access_token(
                deadline=self._start_deadline, attempt=attempt, correlation_id=correlation_id, observer=self
            )
            return Secret(token.value)

        return self._retrying("access_token", mint)

    def _retrying(self, operation: str, call: Callable[[int], T]) -> T:
        host = self.services.host

        def ask(error: PolyAIError, attempt: int) -> float | None:
            with self._changed:
                self._check_wanted_unless_ended_by(error)
            session = self._session if self._identity else None
            return self.ask(lambda: host.retry_delay(session, operation, error, attempt))

        return retrying(call, ask=ask, pause=self.pause, deadline=self._start_deadline, report=self.report)

    def _check_wanted_unless_ended_by(self, error: PolyAIError) -> None:
        """A refusal that ended the session is raised as it is."""
        if self.conversation.end_error is error:
            raise error
        self._check_wanted()

    def _first_connect(self, predial: Predial | None, _: int) -> None:
        deadline = self._start_deadline.within(self.services.settings.timeouts.connect)
        try:
            dialled = predial.take(deadline) if predial is not None else None
            self._connect(deadline, dialled)
        except PolyAIError as error:
            refusal = error
            self.report(refusal)
            self.change(lambda conversation, now: conversation.refused(refusal, now))
            raise

    def _connect(self, deadline: Deadline, dialled: Dialled | None = None) -> None:
        """Open the socket, and make it the session's."""
        started = time.monotonic()
        connection, cursor = self._handshake(deadline, dialled)
        with self._changed:
            if self._stop or self.conversation.over:
                connection.close()
                raise Stopped
            handshakes = self._handshakes
            self._adopt(connection)
            self._hooks.put(partial(self._tell, "on_connect", (handshakes, cursor, time.monotonic() - started)))
            self._commit()
        self._follow_up()

    def _handshake(self, deadline: Deadline, dialled: Dialled | None) -> tuple[WebSocketConnection, int]:
        if dialled is None:
            dialled = self.services.dialer.dial(deadline)
        with self._changed:
            if self._stop:
                dialled.close()
                raise Stopped
            self._dialled = dialled  # so that close() can cut the handshake short
            self._handshakes += 1
            cursor = self.conversation.cursor_to_ask
        assert self._identity is not None  # noqa: S101 - there is no handshake before there is a session
        session_id, token = self._identity
        try:
            connection = open_websocket(
                dialled,
                settings=self.services.settings,
                session_id=session_id,
                access_token=token,
                cursor=cursor,
                deadline=deadline,
                headers=self.services.dialer.headers,
            )
        except PolyAIError:
            if self._stop:
                raise Stopped from None  # cut short by close(): no failure to tell of
            raise
        finally:
            self._dialled = None
        return connection, cursor

    def _adopt(self, connection: WebSocketConnection) -> None:
        now = time.monotonic()
        self._handshakes = 0
        self._generation += 1
        connection.generation = self._generation
        self._connection = connection
        self._connected_at = now
        self._renew_at = now + RENEW_AFTER
        self.conversation.opened(now)

    # --- serving ---

    def _serve(self) -> None:
        while True:
            error = self._read()
            if error is None:
                return
            while not self._reconnect(error):
                with self._changed:
                    if not self.conversation.ending or self.conversation.over:
                        return
                    self._given_up = False  # the end was asked for meanwhile: that is worth one more try

    def _read(self) -> ConnectionDroppedError | None:
        """Read until the socket is gone (returns why) or the session is over (returns ``None``)."""
        while True:
            with self._changed:
                connection = self._connection
                if self._stop or connection is None or self.conversation.over:
                    return None
                due = self.conversation.due()
                self._polling = True
                self._polling_until = math.inf if due is None else due
            timeout = None if due is None else max(0.0, due - time.monotonic())
            readable = connection.wait(timeout, self._waker)
            self._waker.clear()  # before looking what there is to do: a later wake ends the next wait
            self._polling = False
            error: ConnectionDroppedError | None = None
            frames: list[str] = []
            if readable:
                try:
                    frames = connection.read()
                except ConnectionDroppedError as caught:
                    error = caught
                except PolyAIError as caught:  # the server broke the protocol: what follows is a drop like any other
                    error = ConnectionDroppedError(f"The connection had to be dropped: {caught.message}")
                    error.__cause__ = caught
            with self._changed:
                now = time.monotonic()
                conversation = self.conversation
                if readable and error is None:
                    conversation.heard(now)
                for frame in frames:
                    conversation.receive(self._masked(frame), now)
                conversation.tick(now)
                if error is None and conversation.is_dead(now):
                    error = ConnectionDroppedError("Nothing was heard from the server for 2.5 heartbeat intervals")
                if error is not None:
                    self._drop(error, now)
                self._commit()
            self._follow_up()
            if error is not None:
                connection.close()
                return error
            self._ask_about_resending()
            if now >= self._renew_at:
                self._renew()

    def _masked(self, frame: str) -> str:
        """Without our tokens: what the server quotes would be in events, errors and logs (`error-codes.md`)."""
        for secret in (self.services.settings.connector_token, self.access_token):
            token = secret.reveal() if secret is not None else ""
            if len(token) >= SHORTEST and token in frame:
                frame = frame.replace(token, MASK)
        return frame

    def _drop(self, error: ConnectionDroppedError, now: float) -> None:
        """With the lock held: the socket is gone, and the conversation learns of it."""
        self._connection = None
        if self._stop:
            self._hooks.put(partial(self._tell, "on_disconnect", (None,)))
            return
        conversation = self.conversation
        was_over = conversation.over
        conversation.dropped(now, error.close_code)
        cause: PolyAIError | None = None if was_over else conversation.end_error  # close 1000 has none: it is the end
        if not conversation.over:
            if isinstance(error.__cause__, ProtocolError):
                conversation.report(error.__cause__)
            conversation.report(error)
            cause = error
        conversation.notices.tell("on_disconnect", cause)

    def _ask_about_resending(self) -> None:
        while True:
            with self._changed:
                if not self.conversation.questions:
                    return
                sent = self.conversation.questions.popleft()
            message = sent.message
            again = self.ask(lambda message=message: self.services.host.resend(self._session, message))  # type: ignore[misc]
            if again:
                self.change(lambda conversation, _, sent=sent: conversation.resend(sent))  # type: ignore[misc]
            else:
                self.change(lambda conversation, _, sent=sent: conversation.keep_back(sent))  # type: ignore[misc]

    def _reconnect(self, dropped: ConnectionDroppedError) -> bool:
        """Bring the socket back; ``False`` when the session is over or was given up."""
        error: PolyAIError = dropped
        code = dropped.close_code
        tried_to_end = False
        while True:
            with self._changed:
                self._check_wanted()
                ending = self.conversation.ending
                attempt = self.conversation.attempts.begin()
            if ending:
                if tried_to_end:
                    self.change(lambda conversation, now: conversation.end(EndReason.UNCONFIRMED, now))
                    return False
                tried_to_end = True  # reopened once, whatever the policies say (api.md, end)
            else:
                delay = self._next_delay(error, attempt)
                if delay is None:
                    self._give_up(error, code, attempt - 1)
                    return False
                self._tell_now("on_reconnect", attempt, delay, error)
                self.pause(delay, until_ending=True)
                tried_to_end = self.conversation.ending
            try:
                self._connect(Deadline.after(self.services.settings.timeouts.connect))
            except PolyAIError as caught:
                error = caught
            else:
                return True
            self.report(error)
            self.change(lambda conversation, now, error=error: conversation.refused(error, now))  # type: ignore[misc]

    def _next_delay(self, error: PolyAIError, attempt: int) -> float | None:
        return self.ask(lambda: self.services.host.reconnect_delay(self._session, error, attempt))

    def _give_up(self, error: PolyAIError, code: int | None, attempts: int) -> None:
        tries = f"{attempts} attempt{'s' * (attempts != 1)} to reconnect failed" if attempts else "it was not reopened"
        lost = ConnectionLostError(
            f"The connection dropped and {tries}: {error.message}",
            close_code=code,
            attempts=attempts,
            surface="connect",
        )
        lost.__cause__ = error

        def give_up(conversation: Conversation, now: float) -> None:
            conversation.report(lost)
            conversation.given_up(lost, now)

        self._given_up = True
        self.change(give_up)

    def _renew(self) -> None:
        """Replace a socket that nears the end of its life by a new one, at a quiet moment (`protocol.md` §3)."""
        with self._changed:
            if not self.conversation.quiet:
                return
            self._renew_at = time.monotonic() + RENEW_AGAIN
        started = time.monotonic()
        try:
            connection, cursor = self._handshake(Deadline.after(self.services.settings.timeouts.connect), None)
        except PolyAIError as error:
            self.report(error)  # the old socket still works; it is tried again
            return
        with self._changed:
            old = self._connection
            now = time.monotonic()
            self.conversation.dropped(now)
            self._adopt(connection)
            self._hooks.put(partial(self._tell, "on_connect", (1, cursor, now - started)))
            self._hooks.put(partial(self._tell, "on_disconnect", (None,)))
            self._commit()
        if old is not None:
            old.close()
        self._follow_up()

    # --- the observer of the REST calls ---

    def on_request(self, operation: str, attempt: int, method: str, url: str, correlation_id: str) -> None:
        """Told by the transport before each attempt."""
        self._tell_now("on_request", operation, attempt, method, url, correlation_id)

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
        self._tell_now("on_response", operation, attempt, status, seconds, correlation_id, error)
