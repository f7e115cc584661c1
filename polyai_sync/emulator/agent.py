"""How an agent of the emulator is written: a generator of actions, one turn at a time.

An agent is a callable that is given a `Turn` and returns (or yields) what to do: strings, which are said, and the
actions below. It needs no asyncio and must not sleep (`Pause` waits)::

    def agent(turn):
        if turn.greeting:
            yield "Hello!"
        elif "bill" in turn.text:
            yield Say("Card or cash?", suggestions=["Card", "Cash"])
        else:
            yield "Goodbye."
            yield End()

    Emulator(agent=agent)

A function or an object serves all sessions and keeps what it must remember in ``turn.memory``, which belongs to the
session; a class is instantiated once for each session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import field, frozen

if TYPE_CHECKING:
    from polyai_sync.emulator.view import EmulatedSession

__all__ = [
    "Action",
    "Agent",
    "Arm",
    "ClientHandoff",
    "Drop",
    "EchoAgent",
    "Emit",
    "End",
    "Fail",
    "Handoff",
    "HandoffFailed",
    "HandoffTimedOut",
    "Language",
    "LiveLeave",
    "LiveSay",
    "LiveTyping",
    "Notice",
    "Pause",
    "Say",
    "ScriptedAgent",
    "Stream",
    "Think",
    "Turn",
    "image",
    "link",
]


@frozen(kw_only=True)
class Turn:
    """What the agent is asked to react to.

    Attributes:
        number: 0 for the greeting; then 1 for the first user message.
        text: The user's words; empty for the greeting.
        greeting: The agent has just joined and should greet.
        live: A live agent has the conversation: strings are said by that person.
        custom: The message's ``metadata.custom``.
        memory: A mapping of the session's own, for what the agent must remember.
        session: The session, as a test sees it.
    """

    number: int
    text: str
    greeting: bool
    live: bool
    custom: Mapping[str, Any]
    memory: MutableMapping[str, Any]
    session: EmulatedSession


def link(title: str, url: str, *, preview: str = "", call_to_action: str = "Open") -> dict[str, str]:
    """An attachment that is a link."""
    return _attachment("URL", title, url, preview, call_to_action)


def image(title: str, url: str, *, preview: str = "", call_to_action: str = "") -> dict[str, str]:
    """An attachment that is an image."""
    return _attachment("IMAGE", title, url, preview or url, call_to_action)


def _attachment(kind: str, title: str, url: str, preview: str, call_to_action: str) -> dict[str, str]:
    return {
        "title": title,
        "preview_image_url": preview,
        "content_url": url,
        "content_type": f"ATTACHMENT_CONTENT_TYPE_{kind}",
        "call_to_action_text": call_to_action,
    }


Suggestion: TypeAlias = "str | Mapping[str, Any]"
"""A suggestion's text, or the whole of it as on the wire."""


def _suggestions(value: Iterable[Suggestion]) -> tuple[dict[str, Any], ...]:
    return tuple({"message_text": item} if isinstance(item, str) else dict(item) for item in value)


def _texts(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)


def _places(value: Iterable[int]) -> tuple[int, ...]:
    return tuple(value)


def _dicts(value: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple(dict(item) for item in value)


@frozen
class Say:
    """An agent's message: streamed by words where the session streams (unless ``stream=False``), else whole.

    Suggestions are texts, or mappings as on the wire; attachments come from `link` and `image`; ``call_actions`` are
    mappings with ``title`` and ``contact_number``.
    """

    text: str
    attachments: Sequence[Mapping[str, Any]] = field(default=(), kw_only=True, converter=_dicts)
    suggestions: Sequence[Any] = field(default=(), kw_only=True, converter=_suggestions)
    call_actions: Sequence[Mapping[str, Any]] = field(default=(), kw_only=True, converter=_dicts)
    stream: bool = field(default=True, kw_only=True)
    end_conversation: bool = field(default=False, kw_only=True)


@frozen
class Stream:
    """An agent's message in the very chunks given; joined to a whole message where the session does not stream."""

    chunks: Sequence[str] = field(converter=_texts)
    attachments: Sequence[Mapping[str, Any]] = field(default=(), kw_only=True, converter=_dicts)
    suggestions: Sequence[Any] = field(default=(), kw_only=True, converter=_suggestions)


@frozen
class Think:
    """One more sign that the agent is thinking (one comes by itself before each reply)."""


@frozen
class Pause:
    """Nothing, for ``seconds``."""

    seconds: float


@frozen
class Emit:
    """Any event at all. A transient one has no sequence and is not in the replay."""

    type: str
    payload: Mapping[str, Any] = field(factory=dict)
    metadata: Mapping[str, Any] | None = field(default=None, kw_only=True)
    transient: bool = field(default=False, kw_only=True)


@frozen
class Language:
    """The conversation's language changes (BCP 47)."""

    code: str


@frozen
class Notice:
    """A system message that is no error; ``level`` is ``INFO`` or ``WARNING``."""

    text: str
    level: str = "INFO"


@frozen
class Fail:
    """An error of the catalogue that arrives as a system message, such as ``agent.overloaded``."""

    code: str
    text: str | None = None


@frozen
class Handoff:
    """A handoff that the server manages, up to the live agent's arrival; turns are ``live`` from then on.

    ``positions`` are the places in the queue that are told, ``step`` the seconds between them.
    """

    queue_name: str = "Front desk"
    positions: Sequence[int] = field(default=(2, 1), converter=_places, kw_only=True)
    wait_seconds: int = field(default=60, kw_only=True)
    step: float = field(default=0.0, kw_only=True)
    agent_id: str = field(default="live-1", kw_only=True)
    agent_name: str = field(default="Sam", kw_only=True)
    avatar_url: str = field(default="", kw_only=True)


@frozen
class HandoffFailed:
    """The handoff that was triggered failed; the conversation goes on."""

    reason: str | None = None


@frozen
class HandoffTimedOut:
    """Nobody took the handoff that was triggered; the conversation goes on."""

    reason: str | None = None


@frozen
class ClientHandoff:
    """A handoff that the embedding application must carry out; the agent leaves."""

    reason: str = "COMPLEX_QUERY"
    queue_name: str | None = None
    route: str | None = field(default=None, kw_only=True)


@frozen
class LiveTyping:
    """The live agent starts or stops typing."""

    active: bool = True


@frozen
class LiveSay:
    """The live agent says something."""

    text: str
    attachments: Sequence[Mapping[str, Any]] = field(default=(), kw_only=True, converter=_dicts)
    suggestions: Sequence[Any] = field(default=(), kw_only=True, converter=_suggestions)


@frozen
class LiveLeave:
    """The live agent leaves; not by itself the end."""

    reason: str | None = None


@frozen
class End:
    """The conversation ends: ``SESSION_END``, then close 1000."""

    reason: str | None = "REASON_NATURAL_END"


@frozen
class Drop:
    """Every connection of the session is cut (``code=None``) or closed with a code."""

    code: int | None = None
    reason: str = ""


@frozen
class Arm:
    """Arms a fault, for this session only."""

    name: str
    times: int | None = field(default=1, kw_only=True)
    after: int = field(default=0, kw_only=True)
    options: Mapping[str, Any] = field(factory=dict, kw_only=True)


Action: TypeAlias = (
    Say
    | Stream
    | Think
    | Pause
    | Emit
    | Language
    | Notice
    | Fail
    | Handoff
    | HandoffFailed
    | HandoffTimedOut
    | ClientHandoff
    | LiveTyping
    | LiveSay
    | LiveLeave
    | End
    | Drop
    | Arm
)
"""Everything an agent may yield beside strings."""

Agent: TypeAlias = Callable[[Turn], "Iterable[Action | str] | Action | str | None"]
"""What an agent is: called once a turn."""


class EchoAgent:
    """Says back what it is told: the shortest agent for tests.

    Args:
        greeting: Its first words; empty for none.
        prefix: Put before the user's text.
    """

    def __init__(self, greeting: str = "Hello!", prefix: str = "You said: ") -> None:
        self.greeting = greeting
        self.prefix = prefix

    def __call__(self, turn: Turn) -> Iterable[Action | str]:
        """Greet, then echo."""
        if not turn.greeting:
            yield f"{self.prefix}{turn.text}"
        elif self.greeting:
            yield self.greeting


class ScriptedAgent:
    """Answers the first user message with the first reply, the second with the second, and so on.

    A reply is a string, an action, a list of both, or a callable given the turn. After the last one it starts again
    (``repeat=True``) or keeps silent::

        Emulator(agent=ScriptedAgent("Certainly.", ["One moment.", Handoff()], greeting="Hello!"))
    """

    def __init__(
        self,
        *replies: Agent | Iterable[Action | str] | Action | str,
        greeting: Iterable[Action | str] | Action | str | None = "Hello!",
        repeat: bool = False,
    ) -> None:
        self.replies = replies
        self.greeting = greeting
        self.repeat = repeat

    def __call__(self, turn: Turn) -> Iterable[Action | str] | Action | str | None:
        """The reply that is due."""
        if turn.greeting:
            return self.greeting
        index = turn.number - 1
        if self.repeat and self.replies:
            index %= len(self.replies)
        if index >= len(self.replies):
            return None
        reply = self.replies[index]
        return reply(turn) if callable(reply) else reply
