"""What a session's thread and its callers share: the lock, the conversation, the log, the socket, the hooks.

Callers change the conversation under the lock, write what it wants written, and wait on the condition; they never
read. No lock is held while a frame is written or a hook runs.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import frozen

from polyai_sync.errors import PolyAIError, ReentrantCallError
from polyai_sync.event_log import EventLog
from polyai_sync.frame_writer import FrameWriter
from polyai_sync.hook_queue import HookQueue
from polyai_sync.session_threads import SessionThread, exhausted
from polyai_sync.sleepers import Sleeper, Sleepers
from polyai_sync.transport.deadline import Deadline
from polyai_sync.transport.leash import Leash
from polyai_sync.transport.waker import Waker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polyai_sync.bells import Bells
    from polyai_sync.config import Secret, Settings
    from polyai_sync.plugin_host import PluginHost
    from polyai_sync.protocol.conversation import Conversation
    from polyai_sync.session import Session
    from polyai_sync.session_threads import Openers, Task
    from polyai_sync.transport.dial import Dialer, Dialled
    from polyai_sync.transport.http import HttpTransport
    from polyai_sync.transport.websocket import WebSocketConnection

__all__ = ["A_MOMENT", "Engine", "Services", "Stopped"]

T = TypeVar("T")

A_MOMENT: Final = 0.01
"""Seconds by which a deadline may be met late, where working it out would keep a thread from what it waits for."""

TELLING: Final = 0.1
"""Seconds to wait for the hooks before a call raises. They take microseconds; a slow one shall not hold it up."""


class Stopped(Exception):  # noqa: N818 - it only leads out of a wait
    """The session is not wanted any longer."""


@frozen(kw_only=True)
class Services:
    """What the sessions of one client share."""

    settings: Settings
    host: PluginHost
    http: HttpTransport
    dialer: Dialer
    openers: Openers
    bells: Bells


class Engine:
    """A session's lock, thread, socket and log.

    Args:
        services: The client's.
        conversation: The state machine; everything it decides is decided there.
        session: The public object, for the hooks.
        streaming: Of a session to be created: ask for chunks.
        identity: Session id and access token of a session to be resumed; ``None`` = create one.

    Attributes:
        start_error: What a start or resume failed with.
        published: The number of occurrences of which the hooks have been told.
        lock: Guards the conversation and the log.
        sleepers: Threads that wait for a change of what the lock guards.
        connection: The socket, while there is one.
        settled: The thread that opened the session has ended, after the session got ready.
        generation: How many sockets there have been.
        dialled: A connection whose handshake is under way, so that `close` can cut it short.
        leash: Holds the connections that are being opened and the requests under way, likewise.
        writer: Writes the frames that wait.
        polling: The session's thread waits on its socket, at most until ``polling_until``.
        due_moved: May the conversation have something to do before that? Then this thread has yet to look.
        stopped: The connection was closed on this side.
        given_up: No more attempts are made to reconnect.
        exiting: The interpreter is at its end.
        forked: This is the copy in a process that was forked off.
    """

    __slots__ = (
        "_running",
        "_thread",
        "connection",
        "conversation",
        "dialled",
        "due_moved",
        "exiting",
        "forked",
        "generation",
        "given_up",
        "hooks",
        "identity",
        "leash",
        "lock",
        "log",
        "polling",
        "polling_until",
        "published",
        "services",
        "session",
        "settled",
        "sleepers",
        "start_error",
        "stopped",
        "streaming",
        "waker",
        "writer",
    )

    def __init__(
        self,
        services: Services,
        conversation: Conversation,
        session: Session,
        *,
        streaming: bool,
        identity: tuple[str, Secret] | None,
    ) -> None:
        self.services = services
        self.conversation = conversation
        self.log = EventLog(services.settings.event_window)
        self.streaming = streaming
        self.start_error: PolyAIError | None = None
        self.published = 0
        self.session = session
        self.identity = identity
        self.lock = threading.Lock()
        self.sleepers = Sleepers()
        self.hooks = HookQueue(self)
        self.waker = Waker()
        self.connection: WebSocketConnection | None = None
        self.settled = False
        self.generation = 0
        self.dialled: Dialled | None = None
        self.leash = Leash()
        self.writer = FrameWriter(self)
        self.polling = False
        self.polling_until = math.inf
        self.due_moved = True
        self.stopped = False
        self.given_up = False
        self.exiting = False
        self.forked = False
        self._thread: Task | SessionThread | None = None
        self._running: int | None = None

    # --- for the callers ---

    @property
    def session_id(self) -> str | None:
        """The session's id, once there is one."""
        return self.identity[0] if self.identity else None

    @property
    def access_token(self) -> Secret | None:
        """The token that the session belongs to."""
        return self.identity[1] if self.identity else None

    @property
    def connected(self) -> bool:
        """Has there ever been a socket?"""
        return self.generation > 0

    @property
    def thread_name(self) -> str:
        """What the session's thread is called."""
        return f"polyai-{(self.session_id or 'connecting')[:8]}"

    @property
    def told(self) -> bool:
        """With the lock held: have the hooks been told of all that happened?"""
        return self.published >= self.conversation.notices.position

    @property
    def is_mine(self) -> bool:
        """Is this the session's own thread, or one inside a hook of the session? Waiting here would never end."""
        me = threading.get_ident()
        return me == self._running or me == self.hooks.drainer

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

    def open(self, work: Callable[[], None]) -> bool:
        """Have a thread open the session, unless it was closed meanwhile.

        Returns:
            Does one?

        Raises:
            ConnectionFailedError: There are no more threads.
        """
        with self.lock:
            if self.stopped:
                return False
            self._thread = self.services.openers.submit(partial(self.run, work), self.thread_name)
        return True

    def start(self, work: Callable[[], None]) -> bool:
        """Start the session's thread, unless the session was closed meanwhile.

        What opened it may do so as the last thing it does: the thread begins once that has ended.

        Returns:
            Was it started?

        Raises:
            ConnectionFailedError: There are no more threads.
        """
        with self.lock:
            if self.stopped:
                return False
            former = self._thread if self._running == threading.get_ident() else None
            thread = SessionThread(self, work, former)
            try:
                thread.start()
            except RuntimeError as error:
                raise exhausted("threads", error) from error
            self._thread = thread  # once it runs: Ctrl-C may come in between, and nobody can join what never began
        return True

    def settle(self) -> None:
        """The session is in the hands of the thread that it keeps."""
        with self.lock:
            self.settled = True
            self.sleepers.wake()

    def run(self, work: Callable[[], None]) -> None:
        """Do the work of the session's thread. On that thread."""
        self._running = threading.get_ident()
        try:
            with self.leash.on_this_thread():
                work()
        finally:
            self._running = None  # the next thread may have the same number

    def change(self, action: Callable[[Conversation, float], T], *, waits: bool = False) -> T:
        """Change the conversation, and see to what follows from it.

        Args:
            action: The change.
            waits: The caller goes on to `wait`, and keeps the deadlines itself that this sets: to wake the session's
                thread for them would cost two switches of threads (bench p04).
        """
        try:
            with self.lock:
                self.due_moved = True
                result = action(self.conversation, time.monotonic())
                self.commit(wake=not waits)
        finally:
            self.follow_up()
        return result

    def wait(self, predicate: Callable[[], bool], deadline: Deadline, *, lasting: bool = False) -> bool:
        """Wait until ``predicate`` (called under the lock) holds; ``False`` when the time is up first.

        Deadlines that the conversation knows are met here as well, should the session's thread be busy.

        Args:
            predicate: What to wait for.
            deadline: Until when.
            lasting: Once ``predicate`` holds it always will. It is called without the lock too, by a thread that was
                woken: the one that woke it may still hold the lock.
        """
        woken = True
        sleeper = Sleeper(self.sleepers, self.lock, self.services.bells)
        try:
            while True:
                with self.lock:
                    if predicate():
                        return True
                    seconds = deadline.remaining()
                    if seconds != 0.0 and self.due_moved:  # by a change for which the session's thread was not woken
                        until = A_MOMENT if woken else self._until_due()
                        if until is not None and (seconds is None or until < seconds):
                            seconds = until
                    bell = None if seconds == 0.0 else sleeper.listen()
                if bell is not None:
                    woken = bell.sleep(seconds)
                    if lasting and predicate():
                        return True
                    continue
                self.change(lambda conversation, now: conversation.tick(now))
                with self.lock:
                    if predicate():
                        return True
                    if deadline.expired():
                        return False
        finally:
            sleeper.leave()
            if self.exiting:
                self._stay_asleep()

    def _until_due(self) -> float | None:
        """With the lock held: seconds to what the session's thread will not see to in time."""
        due, now = self.conversation.due(), time.monotonic()
        if due is None or now < self.polling_until <= due:  # by then that thread looks; if it should have, it is busy
            return None
        return max(0.0, due - now)

    def ask(self, question: Callable[[], T]) -> T:
        """Put a question to the policies, in its turn among the hooks."""
        return self.hooks.call(question)

    def report(self, error: PolyAIError) -> None:
        """An error was met: plugins are told of it, once; by another thread perhaps, which is at the hooks."""
        if not error.reported:
            self.change(lambda conversation, _: conversation.report(error))
            if not self.is_mine:
                self.wait(lambda: self.told, Deadline.after(TELLING))

    def pause(self, seconds: float, *, until_ending: bool = False) -> None:
        """Wait; ended at once when the session is closed or over.

        Raises:
            Stopped: It was.
        """
        try:
            self._pause(seconds, until_ending=until_ending)
        finally:
            if self.exiting:
                self._stay_asleep()

    def _stay_asleep(self) -> None:
        """At the end of the interpreter: what a wait of a daemon thread raised would be printed (`pitfalls.md` 25)."""
        thread = threading.current_thread()
        if thread.daemon and thread.ident != self._running:
            threading.Event().wait()

    def stay_if_copied(self) -> None:
        """A fork copies gevent's greenlets, the session's own too; ``threading`` knows no such thread: none may end."""
        if self.forked:
            threading.Event().wait()

    def _pause(self, seconds: float, *, until_ending: bool) -> None:
        deadline = Deadline.after(seconds)
        sleeper = Sleeper(self.sleepers, self.lock)
        try:
            while not deadline.expired():
                with self.lock:
                    self.check_wanted()
                    if until_ending and self.conversation.ending:
                        return
                    due = self.conversation.due()
                    bell = sleeper.listen()
                bell.sleep(deadline.clip(None if due is None else max(0.0, due - time.monotonic())))
                self.hooks.drain()
                if due is not None and time.monotonic() >= due:
                    self.change(lambda conversation, now: conversation.tick(now))
        finally:
            sleeper.leave()

    def close(self, timeout: float) -> None:
        """Close the connection and join the thread (not from the session's own thread, which cannot wait for itself).

        Returns within ``timeout`` seconds; a thread that is stuck in somebody's hook ends when that returns.
        """
        with self.lock:
            self.stopped = True
            self.conversation.close(time.monotonic())
            connection, dialled = self.connection, self.dialled
            self.commit()
            self.sleepers.wake()
        self.wake()
        self.leash.pull()
        if dialled is not None and connection is None:
            dialled.cut()
        if connection is not None:
            connection.close()
        self.follow_up()
        if not self.is_mine and self._thread is not None:
            self._thread.join(timeout)

    def revive(self, work: Callable[[], None]) -> None:
        """Start a thread again for a session that was given up."""
        if self.is_mine:
            return  # the thread itself sees that there is something left to do
        with self.lock:
            if self.stopped or not self.given_up or self._thread is None:
                return
            self.given_up = False
            leaving = self._thread
        leaving.join()  # it has nothing left to wait for
        self.waker = Waker()
        self.start(work)

    def after_fork(self) -> None:
        """In the child: there is no thread, nobody lets go of a lock that was held, and the socket is the parent's."""
        self.lock = threading.Lock()
        self.sleepers = Sleepers()
        self.hooks = HookQueue(self)
        self.forked = self.stopped = True
        self._thread = None
        self.writer = FrameWriter(self)
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abandon()
        self.leash.abandon()
        self.waker.abandon()
        self.conversation.close(time.monotonic())
        self.conversation.notices.take()
        self.published = self.conversation.notices.position

    # --- what follows from a change ---

    def commit(self, *, wake: bool = True) -> None:
        """With the lock held: hand over events, queue what plugins are to be told, wake who waits.

        Args:
            wake: Wake the session's thread too, where it would wait too long.
        """
        if self.conclude(wake=wake):
            self.sleepers.wake()

    def conclude(self, *, wake: bool) -> bool:
        """As `commit`, but that nobody is woken who waits; is that to be done? Not before the hooks were told."""
        conversation = self.conversation
        if conversation.events:
            self.log.extend(conversation.take_events())
        notices = conversation.notices
        if notices.waiting:
            for hook, arguments in notices.take():
                self.queue(hook, *arguments)
        position = notices.position
        if self.polling and (wake or conversation.over):
            due = conversation.due()
            if conversation.over or (due is not None and due < self.polling_until):
                self.waker.wake()  # only where the thread would wait too long: a wake costs a switch of threads
        hooks = self.hooks
        if not hooks.jobs and hooks.drainer is None:  # all was told
            self.published = position
            return True
        hooks.put(partial(self._publish, position))
        return False

    def wake_if_told(self) -> None:
        """With the lock held, in the midst of a change: wake who waits, unless plugins have to be told before.

        What is read of the session from then on waits for the lock, and so for the rest of the change.
        """
        if self.told:
            self.sleepers.wake_early()

    def _publish(self, position: int) -> None:
        with self.lock:
            self.published = max(self.published, position)
            self.sleepers.wake()

    def _tell(self, hook: str, arguments: tuple[Any, ...]) -> None:
        getattr(self.services.host, hook)(self.session if self.identity else None, *arguments)

    def queue(self, hook: str, *arguments: Any) -> Callable[[], None] | None:
        """Have plugins told of something in its turn.

        Returns:
            The job, for `HookQueue.take_back`; ``None`` where no plugin wants to know.
        """
        if not self.services.host.has(hook):
            return None
        job = partial(self._tell, hook, arguments)
        self.hooks.put(job)
        return job

    def queue_in_place(self, hook: str, *arguments: Any) -> Callable[[], None] | None:
        """With the lock held: as `queue`, and whoever waits for the hooks waits for this one too."""
        job = self.queue(hook, *arguments)
        if job is not None:
            self.hooks.put(partial(self._publish, self.conversation.notices.keep_a_place()))
        return job

    def tell_now(self, hook: str, *arguments: Any) -> None:
        """Tell plugins of something."""
        self.queue(hook, *arguments)
        self.hooks.drain()

    def follow_up(self) -> None:
        """Without the lock: write what is to be written, run the hooks."""
        self.writer.flush()
        self.hooks.drain()

    def wake(self) -> None:
        """Have the session's thread look again, whatever it waits for."""
        self.waker.wake()
        with self.lock:
            self.sleepers.wake()

    @contextmanager
    def unless_stopped(self) -> Iterator[None]:
        """What fails because `close` has cut it short is no failure to tell of.

        Raises:
            Stopped: It has.
        """
        try:
            yield
        except PolyAIError:
            if self.stopped:
                raise Stopped from None
            raise

    def check_wanted(self) -> None:
        """With the lock held: go no further in a session that was closed or is over.

        Raises:
            Stopped: It was.
        """
        if self.stopped or self.conversation.over:
            raise Stopped
