"""One session's thread: connect, read, beat, expire deadlines, reconnect (`architecture.md` "Threads").

The thread owns the socket for the session's life.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from polyai_sync.connecting import Connector
from polyai_sync.engine import A_MOMENT, Engine, Stopped
from polyai_sync.errors import (
    ConnectionDroppedError,
    ConnectionFailedError,
    ConnectionLostError,
    PolyAIError,
    ProtocolError,
)
from polyai_sync.messages import EndReason
from polyai_sync.opening import Opening
from polyai_sync.redaction import MASK, SHORTEST
from polyai_sync.sleepers import ring
from polyai_sync.transport.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.config import Secret
    from polyai_sync.protocol.conversation import Conversation
    from polyai_sync.protocol.deliveries import Sent
    from polyai_sync.transport.connection import WebSocketConnection

__all__ = ["Life"]

_log = logging.getLogger("polyai_sync.session")


class Life:
    """What the session's threads do, one after the other.

    Args:
        engine: The session's.
        left: Called when the thread has nothing left to do.
    """

    __slots__ = ("_connector", "_engine", "_left")

    def __init__(self, engine: Engine, left: Callable[[Engine], None]) -> None:
        self._engine = engine
        self._connector = Connector(engine)
        self._left = left

    def live(self, deadline: Deadline) -> None:
        """The work of the thread that opens it, until it is ready. The last act is to start the one that goes on.

        Args:
            deadline: Until when a start or resume may try again.
        """
        self._run(partial(Life._begin, deadline=deadline))

    def serve(self) -> None:
        """The work of the thread that goes on, to the end."""
        self._engine.settle()
        self._run(Life._serve)

    def revive(self) -> None:
        """The work of the thread of a session that was given up: one more try, to end it."""
        self._run(Life._revived)

    def _run(self, work: Callable[[Life], bool]) -> None:
        goes_on = False
        try:
            goes_on = work(self)
        except Stopped:
            pass
        except BaseException as error:
            self._died(error)
            if not isinstance(error, Exception):
                raise
        finally:
            if not goes_on:
                self.leave()
            self._engine.stay_if_copied()

    def _begin(self, deadline: Deadline) -> bool:
        """Open the session; returns whether another thread goes on with it."""
        with Opening(self._engine, self._connector, deadline) as opening:
            try:
                opening.open()
            except PolyAIError as error:
                failure = self._engine.start_error = error
                self._engine.change(lambda conversation, now: conversation.given_up(failure, now))
                return False
            threading.current_thread().name = self._engine.thread_name  # the session has an id now
            if not self._serve(arriving=True):
                return False
            # What a request, a TLS handshake and a history need stays with a thread for as long as it lives, as stack
            # and in the C library's cache: 12 KiB that an idle session can do without (bench p05).
            try:
                return self._engine.start(self.serve)
            except ConnectionFailedError:  # no more threads: then it is this one
                self._engine.services.openers.let_go()
                self._engine.settle()
        return self._serve()

    def _revived(self) -> bool:
        return self._reconnect(ConnectionDroppedError("The connection had been given up")) and self._serve()

    def _died(self, error: BaseException) -> None:
        """Nothing may leave the thread unsaid: whoever waits is told why (`pitfalls.md` 23)."""
        if isinstance(error, Exception):
            _log.exception("The session's thread failed.", extra={"session_id": self._engine.session_id})
        lost = ConnectionLostError("The session's thread failed", surface="client")
        lost.__cause__ = error
        self._engine.start_error = self._engine.start_error or lost
        with self._engine.lock:
            self._engine.conversation.report(lost)
            self._engine.conversation.given_up(lost, time.monotonic())
            self._engine.commit()

    def leave(self) -> None:
        """Let go of everything, at the end of the thread or where it could not be started."""
        with self._engine.lock:
            connection, self._engine.connection = self._engine.connection, None
        if connection is not None:
            connection.close()
            self._engine.queue("on_disconnect", None)
        with self._engine.lock:
            self._engine.commit()
            self._engine.waker.close()
        try:
            self._engine.hooks.drain()
        finally:
            self._left(self._engine)

    # --- serving ---

    def _serve(self, *, arriving: bool = False) -> bool:
        """To the end; or, ``arriving``, until the session is ready. Returns whether it is, and goes on."""
        while True:
            error = self._read(arriving=arriving)
            if error is None:
                with self._engine.lock:
                    return arriving and self._engine.conversation.ready
            while not self._reconnect(error):
                with self._engine.lock:
                    if not self._engine.conversation.ending or self._engine.conversation.over:
                        return False
                    self._engine.given_up = False  # the end was asked for meanwhile: that is worth one more try

    def _read(self, *, arriving: bool) -> ConnectionDroppedError | None:
        """Read until the socket is gone (returns why) or the session is over, or there (returns ``None``)."""
        while True:
            with self._engine.lock:
                connection = self._engine.connection
                if self._engine.stopped or connection is None or self._engine.conversation.over:
                    return None
                if arriving and self._engine.conversation.ready:
                    return None
                self._engine.due_moved = True
                self._begin_wait()
            entered = connection.enter()  # it stays in use from one wait to the next
            try:
                error = self._read_quietly(connection, once=arriving)
            finally:
                if entered:
                    connection.leave()
            self._engine.follow_up()
            if error is not None:
                connection.close()
                return error
            self._ask_about_resending()
            if not arriving:
                self._connector.renew_if_due()

    def _begin_wait(self) -> None:
        """With the lock held: from here on the thread waits, and whoever moves the next deadline forward wakes it."""
        engine = self._engine
        if engine.due_moved:  # else it is the same, or later: then there is nothing to do at it but to look again
            due = engine.conversation.due()
            engine.polling_until = math.inf if due is None else due
            engine.due_moved = False
        engine.polling = True

    def _read_quietly(self, connection: WebSocketConnection, *, once: bool) -> ConnectionDroppedError | None:
        """Read once, or for as long as nothing but reading has to be done; returns why the socket is gone, if it is.

        Whoever waits for what came is woken without the lock, which it wants too, and before all that can be seen to
        later (bench p03); after the hooks, where there are any.
        """
        engine, conversation = self._engine, self._engine.conversation
        hidden = _Mask(engine.services.settings.connector_token, engine.access_token).hide
        receive, waker, renew_at = connection.receive, engine.waker, self._connector.renew_at
        ask_who_listens = engine.services.host.unheard
        now = time.monotonic()
        while True:
            error: ConnectionDroppedError | None = None
            frames: list[str] | None = None
            until = engine.polling_until
            try:
                frames = receive(None if until == math.inf else until - now, waker)
            except ConnectionDroppedError as caught:
                error = caught
            except PolyAIError as caught:  # the server broke the protocol: what follows is a drop like any other
                error = ConnectionDroppedError(f"The connection had to be dropped: {caught.message}")
                error.__cause__ = caught
            if waker.is_set:
                waker.clear()  # before looking what there is to do: a later wake ends the next wait
            engine.polling = False
            if frames:
                frames = hidden(frames)
            unheard = ask_who_listens()  # plugins, and so not under the lock
            with engine.lock:
                now = time.monotonic()
                awaited = bool(engine.sleepers.bells)
                conversation.notices.unheard = unheard
                if frames:
                    engine.due_moved = conversation.receive_all(frames, now) or engine.due_moved
                elif frames is not None:
                    conversation.heard(now)
                if now >= engine.polling_until:
                    engine.due_moved = True
                    conversation.tick(now)
                    if error is None and conversation.is_dead(now):
                        error = ConnectionDroppedError("Nothing was heard from the server for 2.5 heartbeat intervals")
                if error is not None:
                    self._drop(error, now)
                bells = engine.sleepers.take() if engine.conclude(wake=False) else []
            ring(bells)
            if engine.hooks.jobs:
                engine.follow_up()
            with engine.lock:
                now = time.monotonic()
                if once or error is not None or engine.stopped or conversation.busy or now >= renew_at:
                    return error
                if frames and awaited and engine.due_moved:  # when is it due? In a moment
                    engine.polling_until = now + A_MOMENT
                    engine.polling = True
                else:
                    self._begin_wait()

    def _drop(self, error: ConnectionDroppedError, now: float) -> None:
        """With the lock held: the socket is gone, and the conversation learns of it."""
        self._engine.connection = None
        if self._engine.stopped:
            self._engine.queue("on_disconnect", None)
            return
        conversation = self._engine.conversation
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
        engine = self._engine
        while True:
            with engine.lock:
                if not engine.conversation.questions:
                    return
                sent = engine.conversation.questions.pop(0)
            again = engine.ask(partial(engine.services.host.resend, engine.session, sent.message))
            engine.change(partial(_answer, sent, again))

    def _reconnect(self, dropped: ConnectionDroppedError) -> bool:
        """Bring the socket back; ``False`` when the session is over or was given up."""
        error: PolyAIError = dropped
        code = dropped.close_code
        tried_to_end = False
        while True:
            with self._engine.lock:
                self._engine.check_wanted()
                ending = self._engine.conversation.ending
                attempt = self._engine.conversation.attempts.begin()
            if ending:
                if tried_to_end:
                    self._engine.change(lambda conversation, now: conversation.end(EndReason.UNCONFIRMED, now))
                    return False
                tried_to_end = True  # reopened once, whatever the policies say (api.md, end)
            else:
                delay = self._next_delay(error, attempt)
                if delay is None:
                    self._give_up(error, code, attempt - 1)
                    return False
                self._engine.tell_now("on_reconnect", attempt, delay, error)
                self._engine.pause(delay, until_ending=True)
                tried_to_end = self._engine.conversation.ending
            try:
                self._connector.connect(Deadline.after(self._engine.services.settings.timeouts.connect))
            except PolyAIError as caught:
                error = caught
            else:
                return True
            self._engine.report(error)
            self._engine.change(partial(_refuse, error))

    def _next_delay(self, error: PolyAIError, attempt: int) -> float | None:
        host, session = self._engine.services.host, self._engine.session
        return self._engine.ask(lambda: host.reconnect_delay(session, error, attempt))

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

        self._engine.given_up = True
        self._engine.change(give_up)


def _answer(sent: Sent, again: bool, conversation: Conversation, _: float) -> None:
    """Let go of, or keep back, a message that a replay proved not to have been received."""
    if again:
        conversation.resend(sent)
    else:
        conversation.keep_back(sent)


def _refuse(error: PolyAIError, conversation: Conversation, now: float) -> None:
    conversation.refused(error, now)


class _Mask:
    """Hides our tokens in what the server sends: what it quotes would be in events, errors and logs (`error-codes.md`).

    Args:
        secrets: The tokens.
    """

    __slots__ = ("_tokens",)

    def __init__(self, *secrets: Secret | None) -> None:
        tokens = [secret.reveal() for secret in secrets if secret is not None]
        self._tokens = tuple(token for token in tokens if len(token) >= SHORTEST)

    def hide(self, frames: list[str]) -> list[str]:
        """The frames without tokens."""
        everything = frames[0] if len(frames) == 1 else "".join(frames)  # one search for them all
        for token in self._tokens:
            if token in everything:
                frames = [frame.replace(token, MASK) for frame in frames]
        return frames
