"""A conversation as it is told to the person at the terminal: news in, blocks out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from polyai_sync import events
from polyai_sync.cli.markup import Line, is_web_address, message_lines
from polyai_sync.cli.stage import Block
from polyai_sync.cli.text import Row, Span, cells, clean, one_line
from polyai_sync.messages import EndReason, HandoffStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.cli.output import Symbols
    from polyai_sync.cli.stage import Stage
    from polyai_sync.errors import PolyAIError
    from polyai_sync.hooks import RateLimit
    from polyai_sync.messages import Attachment, CallAction, Handoff, Message, Participant, Suggestion

__all__ = ["Story"]

TYPING_FADES: Final = 10.0
"""Seconds after which a person who "types" and says nothing is not shown as typing any longer."""

_REASONS: Final[dict[str, str]] = {
    EndReason.USER_END: "you ended it",
    EndReason.NATURAL_END: "it came to its end",
    EndReason.USER_ABANDONED: "nothing was heard from you for too long",
    EndReason.CLOSED_BY_SERVER: "the server closed it without a word",
    EndReason.SESSION_NOT_FOUND: "the server does not know it any longer",
    EndReason.AUTHENTICATION_FAILED: "its access token is not accepted any longer",
    EndReason.UNCONFIRMED: "you ended it; the server has not confirmed",
    EndReason.UNKNOWN: "the server gave no reason",
}


class Story:
    """Tells news on a stage.

    Args:
        stage: Where.
        symbols: Signs that its encoding has.

    Attributes:
        suggestions: Those of the last message, until the user says something.
        handoff: Where a handoff stands.
        live_spoke: Has the person who took over said something yet?
    """

    def __init__(self, stage: Stage, symbols: Symbols) -> None:
        self.suggestions: tuple[Suggestion, ...] = ()
        self.handoff = HandoffStatus.NONE
        self.live_spoke = False
        self._stage = stage
        self._symbols = symbols
        self._agent = "Agent"
        self._person = "Agent"
        self._growing: dict[str, Message] = {}
        self._cut: dict[str, str] = {}
        self._held: list[Block] = []
        self._ours: set[str] = set()
        self._told: dict[int, events.Event] = {}
        """Events of errors that were shown, by ``id``: the exceptions of one error are several, its event is one."""
        self._thinking = False
        self._typing_until: float | None = None
        self._sending: set[str] = set()
        self._waiting = ""
        self._connecting = ""
        self._dropped_at: float | None = None

    # --- what the program itself says ---

    def note(self, text: str, *more: Line) -> None:
        """Something to know, told in passing."""
        self._say(Block((Span(f"{self._symbols.dot} ", "notice"),), (Line("", (Span(text, "notice"),)), *more)))

    def meet(self, agent: Participant | None, live_agent: Participant | None) -> None:
        """Who takes part already."""
        self._agent = one_line(agent.name if agent else "") or self._agent
        self._person = one_line(live_agent.name if live_agent else "") or self._person

    def said(self, text: str) -> None:
        """The user said something."""
        self.suggestions = ()
        lines = [Line("", (Span(line, "user"),)) for line in clean(text).split("\n")]
        self._say(Block((Span("> ", "number"),), tuple(lines), gap=True))

    def waiting(self, text: str) -> None:
        """What is waited for before there is a conversation; empty: nothing any longer."""
        self._waiting = text

    def refused(self, error: PolyAIError) -> None:
        """A call failed."""
        self._sending.clear()
        self._thinking = False
        if error.event is None or id(error.event) not in self._told:
            self._complain(error)

    # --- news ---

    def tell(self, kind: str, *about: Any) -> None:
        """Tell news of a `Watcher`; what is nothing to a person is passed over."""
        teller = _TELLERS.get(kind)
        if teller is not None:
            teller(self, *about)

    def tick(self) -> float | None:
        """Let time pass; returns in how many seconds there is something to do."""
        if self._typing_until is None:
            return None
        left = self._typing_until - time.monotonic()
        if left <= 0:
            self._typing_until = None
            return None
        return left

    def show(self) -> None:
        """Bring the stage up to date."""
        self._stage.status(self._status())
        self._stage.flush()

    def _status(self) -> str:
        more = self._symbols.more
        if self._waiting or self._connecting:
            return f"{self._waiting or self._connecting}{more}"
        if self._typing_until is not None:
            return f"{self._person} is typing{more}"
        if self._thinking and not self._growing:
            return f"{self._agent} is thinking{more}"
        return f"Sending{more}" if self._sending else ""

    # --- messages ---

    def _grown(self, message: Message) -> None:
        if message.complete:
            return  # it is told whole, right after this
        self._waiting, self._thinking = "", False
        self._growing[message.message_id] = message
        self._show_growing()

    def _show_growing(self) -> None:
        first = next(iter(self._growing.values()), None)
        if first is not None:
            self._stage.grow(self._message_block(first, growing=True), self._held)
            return
        self._stage.grow(None)
        held, self._held = self._held, []
        for block in held:
            self._stage.write(block)

    def _message(self, message: Message) -> None:
        if message.role == "user":
            self._user_message(message)
            return
        self._waiting, self._thinking = "", False
        if message.role == "live_agent":
            self._typing_until = None
            self.live_spoke = True
        for earlier in tuple(self._growing):
            if earlier == message.message_id:
                break
            self._cut_off(earlier)
        self._growing.pop(message.message_id, None)
        self.suggestions = message.suggestions
        self._stage.settle(self._message_block(message))
        self._show_growing()

    def _cut_off(self, message_id: str) -> None:
        """What follows does not belong to this message: it stays as it is."""
        message = self._growing.pop(message_id)
        block = self._message_block(message)
        self._cut[message_id] = message.text
        self._stage.settle(block._replace(lines=(*block.lines, Line("", (Span(self._symbols.more, "quiet"),)))))

    def _cut_all(self) -> None:
        for message_id in tuple(self._growing):
            self._cut_off(message_id)
        self._show_growing()

    def _user_message(self, message: Message) -> None:
        self._sending.discard(message.client_event_id or "")
        if message.client_event_id in self._ours:
            return
        where = "" if message.replayed else " (elsewhere)"
        lines = message_lines(message.text, bullet=self._symbols.bullet)
        self._say(Block((Span(f"You{where}: ", "user"),), tuple(lines), gap=True))

    def _sent(self, client_event_id: str) -> None:
        self._sending.add(client_event_id)
        self._ours.add(client_event_id)

    def _message_block(self, message: Message, *, growing: bool = False) -> Block:
        name = one_line(message.agent_name) or (self._person if message.role == "live_agent" else self._agent)
        text = message.text
        if (shown := self._cut.get(message.message_id)) and text.startswith(shown):
            text = text[len(shown) :].lstrip()
        lines = message_lines(text, growing=growing, bullet=self._symbols.bullet)
        if not growing:
            lines += [line for item in message.attachments for line in self._attachment(item)]
            lines += [self._call(item) for item in message.call_actions]
            lines += self._suggestions(message.suggestions, indent=cells(name) + 2)
        style = "person" if message.role == "live_agent" else "agent"
        return Block((Span(f"{name}: ", style),), tuple(lines) or (Line("", ()),), gap=True)

    def _attachment(self, item: Attachment) -> list[Line]:
        url = one_line(item.content_url or item.preview_image_url)
        link = url if is_web_address(url) else ""
        kind = "Image: " if item.is_image else ""
        title = one_line(item.title)
        action = one_line(item.call_to_action_text)
        shown = kind + title + (f" ({action})" if title and action and action != title else "" if title else action)
        lead = f"{self._symbols.arrow} "
        if not shown or not url:
            return [Line(lead, (Span(shown or url, "link" if link else "", link),), whole=True)]
        return [
            Line(lead, (Span(shown, "link" if link else "", link),)),
            Line(" " * cells(lead), (Span(url, "quiet", link),), whole=True),
        ]

    def _call(self, item: CallAction) -> Line:
        number = one_line(item.contact_number)
        link = f"tel:{''.join(sign for sign in number if sign in '+0123456789')}" if number else ""
        title = one_line(item.title)
        return Line(f"{self._symbols.arrow} ", (Span(f"{title}: " if title else ""), Span(number, "link", link)))

    def _suggestions(self, suggestions: tuple[Suggestion, ...], indent: int) -> list[Line]:
        """By number, side by side where there is room."""
        items: list[Row] = [
            (Span(f"[{number}]", "number"), Span(f" {one_line(item.message_text)}"))
            for number, item in enumerate(suggestions, 1)
        ]
        beside = tuple(span for item in items for span in (*item, Span("   ")))[:-1]
        room = (self._stage.width or 120) - indent
        if sum(cells(span.text) for span in beside) <= room:
            return [Line("", beside)] if beside else []
        return [Line("", item) for item in items]

    # --- events ---

    def _event(self, event: events.Event) -> None:
        if teller := _EVENTS.get(type(event)):
            teller(self, event)

    def _joined(self, event: events.PolyAgentJoined) -> None:
        self._agent = one_line(event.agent_name) or self._agent
        if self._waiting:
            self._waiting = f"{self._agent} has joined"

    def _thinks(self, _: events.Event) -> None:
        self._waiting, self._thinking = "", True

    def _agent_left(self, _: events.Event) -> None:
        self._thinking = False
        self.note(f"{self._agent} has left.")

    def _types(self, event: events.LiveAgentTyping) -> None:
        self._person = one_line(event.agent_name) or self._person
        starts = event.state == events.TypingState.STARTED
        self._typing_until = time.monotonic() + TYPING_FADES if starts else None

    def _system(self, event: events.SystemMessage) -> None:
        if event.level == events.SystemMessageLevel.ERROR:
            return  # it comes as an error
        mark = "!" if event.level == events.SystemMessageLevel.WARNING else "i"
        lines = message_lines(event.message, bullet=self._symbols.bullet)
        self._say(Block((Span(f"{mark} ", "warning"),), tuple(lines)))

    def _language(self, event: events.LanguageChanged) -> None:
        self.note(f"The language is now {one_line(event.language_code)}.")

    def _unknown(self, event: events.UnknownEvent) -> None:
        self.note(f"An event of a type that is not known: {one_line(event.type)}")

    # --- the handoff ---

    def _handed(self, handoff: Handoff) -> None:
        self.handoff = handoff.status
        self._thinking = False
        if handoff.status == HandoffStatus.LIVE:
            self.live_spoke = False
            self._person = one_line(handoff.agent.name if handoff.agent else "") or "A person"
        queue, reason = one_line(handoff.queue_name), one_line(handoff.reason)
        why = f" ({reason})" if reason else ""
        told = {
            HandoffStatus.TRIGGERED: "You are being handed over to a person.",
            HandoffStatus.ACCEPTED: f"The handover was accepted{f' by {queue}' if queue else ''}.",
            HandoffStatus.QUEUED: self._queue(handoff, queue),
            HandoffStatus.LIVE: f"{self._person} has joined.",
            HandoffStatus.CLIENT_REQUIRED: f"This has to go on elsewhere{f': {queue}' if queue else ''}{why}.",
            HandoffStatus.FAILED: f"The handover failed{why}. The conversation goes on.",
            HandoffStatus.TIMED_OUT: f"Nobody took the handover in time{why}. The conversation goes on.",
            HandoffStatus.ENDED: f"{self._person} has left.",
        }
        more: list[Line] = []
        if handoff.status == HandoffStatus.CLIENT_REQUIRED and handoff.route:
            route = one_line(handoff.route)
            link = route if is_web_address(route) else ""
            more.append(Line("", (Span(route, "link", link),), whole=True))
        if text := told.get(handoff.status):
            self.note(text, *more)

    @staticmethod
    def _queue(handoff: Handoff, queue: str) -> str:
        parts = [f"In the queue{f' of {queue}' if queue else ''}"]
        if handoff.position is not None:
            parts.append(f"place {handoff.position}")
        if (wait := handoff.estimated_wait_seconds) is not None:
            parts.append(f"about {wait:.0f} s" if wait < 90 else f"about {wait / 60:.0f} min")
        shown = one_line(handoff.display_message)
        return ", ".join(parts) + "." + (f" {shown}" if shown else "")

    # --- the line, and errors ---

    def _reconnecting(self, attempt: int, delay: float, error: PolyAIError) -> None:
        if self._dropped_at is None:
            self._dropped_at = time.monotonic()
        self._connecting = f"The connection dropped; attempt {attempt} to reconnect in {delay:.1f} s"
        if not self._stage.takes_back:
            self.note(f"{self._connecting} ({one_line(error.message).rstrip('.')}).")

    def _connected(self) -> None:
        self._connecting = ""
        if self._dropped_at is not None:
            self.note(f"The connection dropped, and was back after {time.monotonic() - self._dropped_at:.1f} s.")
            self._dropped_at = None

    def _retrying(self, _: str, error: PolyAIError, delay: float) -> None:
        again = f"Trying again in {delay:.1f} s." if delay else "Trying again."
        told = error.event is not None and id(error.event) in self._told
        self.note(again if told else f"{one_line(error.message).rstrip('.')} [{error.code}]. {again}")
        self._thinking = False

    def _limited(self, limit: RateLimit) -> None:
        if not limit.certain:
            self.note("No receipt for your message yet: the service may have dropped it (rate limit).")

    def _error(self, error: PolyAIError) -> None:
        """A system message; whatever else is an error is told by the call that fails, or mended in silence."""
        if error.event is not None and id(error.event) not in self._told:
            self._told[id(error.event)] = error.event
            self._thinking = False
            self._complain(error)

    def _complain(self, error: PolyAIError) -> None:
        self._cut_all()
        hint = one_line(error.resolution)
        shown = one_line(error.user_text) or one_line(error.message)
        lines = [Line("", (Span(shown, "bad"),))]
        lines.append(Line("", (Span(f"{error.code}: {hint or one_line(error.message)}", "quiet"),)))
        self._say(Block((Span("! ", "bad"),), tuple(lines)))

    def _ended(self, reason: str, _: PolyAIError | None) -> None:
        self._waiting = self._connecting = ""
        self._thinking, self._typing_until = False, None
        self._sending.clear()
        self._cut_all()
        why = _REASONS.get(reason, "")
        word = one_line(str(reason))
        self._stage.write(Block((), (Line("", ()),)))
        self.note(f"The conversation has ended: {why} ({word})." if why else f"The conversation has ended ({word}).")

    # --- inside ---

    def _say(self, block: Block) -> None:
        """At once, or after the message that is growing."""
        if self._growing and self._stage.takes_back:
            self._held.append(block)
            self._show_growing()
        else:
            self._stage.write(block)


_TELLERS: Final[dict[str, Callable[..., None]]] = {
    "event": Story._event,
    "grown": Story._grown,
    "message": Story._message,
    "sent": Story._sent,
    "handoff": Story._handed,
    "reconnecting": Story._reconnecting,
    "connected": Story._connected,
    "retrying": Story._retrying,
    "limited": Story._limited,
    "error": Story._error,
    "ended": Story._ended,
}

_EVENTS: Final[dict[type[events.Event], Callable[..., None]]] = {
    events.PolyAgentJoined: Story._joined,
    events.PolyAgentThinking: Story._thinks,
    events.PolyAgentLeft: Story._agent_left,
    events.LiveAgentTyping: Story._types,
    events.SystemMessage: Story._system,
    events.LanguageChanged: Story._language,
    events.UnknownEvent: Story._unknown,
}
