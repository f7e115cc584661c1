"""The loop of a chat: what is typed goes to the session, what happens is told."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from polyai_sync.cli.editor import EndOfInput, LineEditor
from polyai_sync.cli.failures import DONE, INTERRUPTED, REFUSED
from polyai_sync.cli.reader import Reader
from polyai_sync.cli.text import clean
from polyai_sync.errors import ConnectionLostError, PolyAIError, SessionClosedError, SessionEndedError
from polyai_sync.messages import HandoffStatus, SessionStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync import Session
    from polyai_sync.cli.output import Output
    from polyai_sync.cli.stage import Stage
    from polyai_sync.cli.story import Story
    from polyai_sync.cli.watcher import Mailbox, News, Worker

__all__ = ["HELP", "Talk"]

HELP: Final = (
    ("a number", "picks the suggestion of that number"),
    ("/end", "ends the conversation and leaves"),
    ("/quit", "leaves; with --state the conversation goes on without you"),
    ("//text", "sends a text that begins with a slash"),
    ("Ctrl-D", "as /quit; Ctrl-C as well, and twice leaves at once"),
)

_WITH_A_PERSON: Final = frozenset(
    {HandoffStatus.TRIGGERED, HandoffStatus.ACCEPTED, HandoffStatus.QUEUED, HandoffStatus.LIVE}
)
_PATIENCE: Final = 90.0
"""Seconds that a script waits for a person to take over."""

_GREETING_PATIENCE: Final = 10.0
"""Seconds that a script waits for the first words of a person who has joined."""


class Talk:
    """One chat, from its start to its end.

    Args:
        mailbox: Where the watcher tells.
        worker: Makes the session, and the calls that wait.
        story: Tells the person.
        stage: What the story plays on.
        output: For what the story does not tell.
        editor: What keys are typed into; ``None`` where whole lines come.
        is_script: Lines are read as the conversation is ready for them, and shown.
        settle: Seconds of quiet after which an answer is over, for a script.
        limit: Seconds for a whole reply, and for a person to take over; ``None``: the client's own.
        keep: Leaves without ending, given the session; ``None`` ends it.
    """

    def __init__(
        self,
        *,
        mailbox: Mailbox,
        worker: Worker,
        story: Story,
        stage: Stage,
        output: Output,
        editor: LineEditor | None,
        is_script: bool,
        settle: float,
        limit: float | None,
        keep: Callable[[Session], None] | None,
    ) -> None:
        self._mailbox = mailbox
        self._worker = worker
        self._story = story
        self._stage = stage
        self._output = output
        self._editor = editor
        self._is_script = is_script
        self._settle = settle
        self._limit: dict[str, Any] = {} if limit is None else {"timeout": limit}
        self._patience = _PATIENCE if limit is None else limit
        self._keep = keep
        self._session: Session | None = None
        self._is_ready = False
        self._lines: deque[str] = deque()
        self._busy = 1  # the start
        self._no_more = False
        self._leaving = False
        self._wants_end = False
        self._ended = False
        self._status = DONE
        self._failure: Exception | None = None
        self._person_until: float | None = None

    def run(self, fd: int | None) -> int:
        """Talk until it is over.

        Args:
            fd: Standard input's descriptor.

        Returns:
            The exit status.

        Raises:
            PolyAIError: The session could not be started.
        """
        self._worker.start()
        Reader(self._mailbox, fd, by_key=self._editor is not None).start()
        try:
            self._loop()
        except KeyboardInterrupt:
            self._status = INTERRUPTED
        try:
            self._leave()
        except KeyboardInterrupt:
            self._status = INTERRUPTED
        self._worker.stop()
        if self._failure is not None and self._status != INTERRUPTED:
            raise self._failure
        if self._is_script and self._lines and self._status != INTERRUPTED:
            left = len(self._lines)
            self._output.complain(f"polyai-sync: {left} line{'s' * (left != 1)} of the script came after the end")
        return self._status

    # --- the loop ---

    def _loop(self) -> None:
        while not self._over:
            self._story.show()
            self._handle(self._mailbox.take(self._wait()))
            self._drain()
            while self._lines and not self._over and self._may_take(self._lines[0]):
                self._line(self._lines.popleft())
            if self._no_more and (not self._is_script or (not self._lines and self._may_speak())):
                self._leaving = True

    @property
    def _over(self) -> bool:
        # An end before the start is done is a refusal, and the worker has yet to say which.
        return self._leaving or (self._ended and self._is_ready) or self._failure is not None

    def _wait(self) -> float | None:
        waits = [self._story.tick()]
        if self._person_until is not None:
            waits.append(max(0.01, self._person_until - time.monotonic()))
        return min((wait for wait in waits if wait is not None), default=None)

    def _drain(self) -> None:
        while (news := self._mailbox.take(0)) is not None:
            self._handle(news)

    def _handle(self, news: News | None) -> None:
        if news is None:
            return
        kind, *about = news
        own = _OWN.get(kind)
        if own is not None:
            own(self, *about)
        else:
            self._story.tell(kind, *about)

    def _may_take(self, line: str) -> bool:
        is_command = line.lstrip().startswith("/") and not line.lstrip().startswith("//")
        return self._may_speak() or (is_command and not self._is_script)

    def _may_speak(self) -> bool:
        """May the next line be taken? A person's at any time; a script's when the last one has been answered."""
        if not self._is_ready:
            return False
        if not self._is_script:
            return True
        if self._busy:
            return False
        handoff = self._story.handoff
        waits = handoff in _WITH_A_PERSON and not (handoff == HandoffStatus.LIVE and self._story.live_spoke)
        if not waits:
            self._person_until = None
            return True
        if self._person_until is None:
            self._person_until = time.monotonic() + self._patience
        if handoff == HandoffStatus.LIVE:
            self._person_until = min(self._person_until, time.monotonic() + _GREETING_PATIENCE)
        return time.monotonic() >= self._person_until

    # --- news of our own threads ---

    def _began(self, session: Session) -> None:
        self._session = session

    def _started(self, session: Session) -> None:
        self._session = session
        self._is_ready = True
        self._busy -= 1
        self._story.waiting("")
        self._story.meet(session.agent, session.live_agent)

    def _failed(self, error: Exception) -> None:
        if not (self._leaving and isinstance(error, (SessionEndedError, SessionClosedError))):
            self._failure = error

    def _answered(self) -> None:
        self._busy -= 1

    def _refused(self, error: PolyAIError) -> None:
        self._busy -= 1
        if not isinstance(error, (SessionEndedError, SessionClosedError, ConnectionLostError)):
            self._story.refused(error)

    def _error(self, error: PolyAIError) -> None:
        self._story.tell("error", error)
        if isinstance(error, ConnectionLostError) and self._is_ready:
            self._story.refused(error)
            self._status = REFUSED
            self._leaving = True

    def _ending(self, reason: str, error: PolyAIError | None) -> None:
        self._story.tell("ended", reason, error)
        self._ended = True
        if error is not None:
            self._status = REFUSED

    def _keys(self, keys: str) -> None:
        assert self._editor is not None  # noqa: S101 - keys are read for an editor
        before = self._editor.text
        try:
            self._lines.extend(self._editor.feed(keys))
        except EndOfInput:
            self._no_more = True
        if self._editor.text and self._editor.text != before and not self._editor.text.startswith("/"):
            self._type()

    def _type(self) -> None:
        session = self._session
        if session is None or session.status != SessionStatus.OPEN:
            return
        try:
            session.typing()
        except PolyAIError:
            return  # it has just ended, which is told by itself

    def _typed(self, line: str) -> None:
        self._lines.append(line)

    def _end_of_input(self) -> None:
        self._no_more = True

    def _logged(self, text: str) -> None:
        for line in text.split("\n"):
            self._story.note(line)

    # --- what is said ---

    def _line(self, line: str) -> None:
        text = line.strip()
        if not text:
            return
        if text.startswith("//"):
            text = text[1:]
        elif text.startswith("/"):
            self._command(text[1:].lower())
            return
        text = self._picked(text)
        if self._editor is not None or self._is_script:
            self._story.said(text)
        self._busy += 1
        self._worker.do(self._call(text))

    def _picked(self, text: str) -> str:
        """The suggestion that is meant by a number."""
        suggestions = self._story.suggestions
        if any(item.message_text.strip() == text for item in suggestions):
            return text
        number = int(text) if text.isdecimal() and len(text) < 4 else 0
        return suggestions[number - 1].message_text if 1 <= number <= len(suggestions) else text

    def _call(self, text: str) -> Callable[[Session], object]:
        def call(session: Session) -> object:
            if not self._is_script and session.handoff.status in _WITH_A_PERSON:
                return session.send(text)  # a person answers when they answer
            return session.ask(text, settle=self._settle if self._is_script else 0.0, **self._limit)

        return call

    def _command(self, name: str) -> None:
        if name in ("quit", "end"):
            self._leaving = True
            self._wants_end = name == "end"
        elif name == "help":
            for what, does in HELP:
                self._story.note(f"{what:9} {does}")
        else:
            self._story.note(f"There is no command /{clean(name)}. /help lists those there are.")

    # --- leaving ---

    def _leave(self) -> None:
        """End the conversation politely, or leave it to itself."""
        session = self._session
        if session is None or self._ended or self._failure is not None:
            self._drain()
            self._story.show()
            return
        if session.status == SessionStatus.FAILED or (self._keep is not None and not self._wants_end):
            if self._keep is not None:
                self._keep(session)
        else:
            self._story.waiting("Ending the conversation")
            self._story.show()
            with contextlib.suppress(SessionClosedError):  # then there is nothing left to end
                session.end()
        self._drain()
        self._story.show()


_OWN: Final[dict[str, Callable[..., None]]] = {
    "began": Talk._began,
    "started": Talk._started,
    "failed": Talk._failed,
    "crashed": Talk._failed,
    "answered": Talk._answered,
    "refused": Talk._refused,
    "error": Talk._error,
    "ended": Talk._ending,
    "keys": Talk._keys,
    "line": Talk._typed,
    "eof": Talk._end_of_input,
    "log": Talk._logged,
}
