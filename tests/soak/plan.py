"""What a life of the soak does and suffers: drawn from the run's seed and the life's number, and from nothing else.

A life is one session from its start to its end, with dozens of steps. What goes wrong in it is armed for that session
alone, so lives do not disturb each other, and one can be lived again by itself.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ENDINGS", "Life", "Step", "Trouble", "answer_to", "pieces_of", "plan"]

Options = dict[str, Any]


@frozen(kw_only=True)
class Trouble:
    """Something that goes wrong: a fault of the emulator's, or a stroke at the connection by the proxy.

    Attributes:
        where: ``emulator`` or ``proxy``.
        name: The fault, or the death.
        options: As the emulator or the proxy take them.
    """

    where: str
    name: str
    options: Options = field(factory=dict)


@frozen(kw_only=True)
class Step:
    """One thing that a user does.

    Attributes:
        kind: A method of `life.Walk`.
        text: What is said; no text occurs twice in a run.
        troubles: What is armed just before.
        pause: Seconds to think afterwards.
    """

    kind: str
    text: str = ""
    troubles: tuple[Trouble, ...] = ()
    pause: float = 0.0


@frozen(kw_only=True)
class Life:
    """One session: how it starts, its steps, how it ends.

    Attributes:
        watched: An iterator of ``events()`` runs along with it.
        overtaking: Events come behind later ones: their order is not the journal's, that of the messages is.
    """

    number: int
    streaming: bool
    watched: bool
    start: tuple[Trouble, ...]
    steps: tuple[Step, ...]
    ending: str
    overtaking: bool


# --- the agent -----------------------------------------------------------------------------------------------------


def pieces_of(text: str) -> list[str]:
    """What the agent answers, in the chunks of a stream, three of which name what they answer."""
    return [f"On {text}: ", "well, ", f"as to {text}, ", "", f"»ünïcödé« {text} ", "and that ", "was it."]


def answer_to(text: str) -> str:
    """The whole answer."""
    return "".join(pieces_of(text))


# --- what goes wrong -----------------------------------------------------------------------------------------------


def _emulator(name: str, **options: Any) -> Trouble:
    return Trouble(where="emulator", name=name, options=options)


def _proxy(death: str, **options: Any) -> Trouble:
    return Trouble(where="proxy", name=death, options=options)


_DEATHS: Final = ("RST", "FIN", "cut", "hole", "half-close", "1001", "1006", "1011", "1012", "1013", "3000", "4000")
_MOMENTS: Final = ("message", "echo", "turn", "reply")
_CODES: Final = ("close.1001", "close.1002", "close.1009", "close.1011", "close.1012", "close.3000", "close.4000")

_STARTS: Final = (
    (_emulator("access_token.creation_failed"),),
    (_emulator("session_create.failed"),),
    (_emulator("session_create.invalid_token"),),
    (_emulator("http.server_error", on="access_token", status=500),),
    (_emulator("http.server_error", on="session_create", status=503),),
    (_emulator("http.server_error", on="connect", status=502),),
    (_emulator("http.rate_limited", on="access_token", retry_after=0.1),),
    (_emulator("http.rate_limited", on="session_create", retry_after=0.2),),
    (_emulator("http.no_answer", on="session_create"),),
    (_emulator("http.no_answer", on="connect"),),
    (_emulator("http.slow", on="session_create", delay=0.3),),
    (_emulator("start.slow_greeting", delay=0.2),),
    (_emulator("start.join_lost"),),
    (_emulator("start.join_lost", accepted=True),),
    (_emulator("start.no_join_echo"),),
    (_emulator("accept_then_drop"),),
    (_emulator("connection.drop", on="opened"),),
    (_emulator("token.camel_case"), _emulator("session_create.camel_case")),
)
_RETURNS: Final = (
    (_emulator("history.split", size=3),),
    (_emulator("history.duplicate"),),
    (_emulator("history.overlap_live"),),
    (_emulator("history.full_replay"),),
    (_emulator("history.full_replay"), _emulator("history.reversed")),
    (_emulator("history.full_replay"), _emulator("history.split", size=7), _emulator("history.duplicate")),
    (_emulator("history.unbatched"),),
    (_emulator("history.reversed"),),
    (_emulator("history.late", delay=0.2),),
    (_emulator("history.none_on_cursor"),),
    (_emulator("wire.payload_under_type_name"),),
    (_emulator("wire.junk_in_batch"),),
    (_emulator("wire.batch_without_id"),),
    (_emulator("accept_then_drop"),),
    (_emulator("connection.drop", on="opened"),),
    (_emulator("http.server_error", on="connect", status=500),),
    (_emulator("http.server_error", on="connect", status=503, retry_after=0.2),),
    (_emulator("http.rate_limited", on="connect", retry_after=0.3),),
    (_emulator("connect.too_many_connections", retry_after=0.2),),
    (_emulator("http.no_answer", on="connect"),),
    (_emulator("http.slow", on="connect", delay=0.3),),
    (_emulator("http.server_error", on="connect", status=502, times=3),),
)
"""What the way back may meet on top."""

_ODDITIES: Final = (
    (_emulator("sequence.duplicate"),),
    (_emulator("sequence.duplicate", times=6),),
    (_emulator("sequence.permanent_hole"),),
    (_emulator("message.echo_delayed", delay=0.2),),
    (_emulator("message.echo_delayed", delay=0.1, reply_first=True),),
    (_emulator("agent.slow", delay=0.4),),
    (_emulator("heartbeat.dropped"),),
    (_emulator("wire.fragmented"),),
    (_emulator("wire.fragmented", times=4),),
    (_emulator("wire.ping"),),
    (_emulator("wire.unknown_event"),),
    (_emulator("wire.no_timestamp"),),
    (_emulator("wire.whole_seconds"),),
    (_emulator("wire.extra_fields"),),
    (_emulator("wire.broken_json"),),
    (_emulator("wire.not_object"),),
    (_emulator("wire.deep_json"),),
    (_emulator("wire.invalid_utf8"),),
    (_emulator("wire.odd_metadata"),),
    (_emulator("wire.no_echo_metadata"),),
    (_emulator("wire.default_fields_omitted"),),
    (_emulator("wire.heartbeat_echo_bare"),),
    (_emulator("wire.heartbeat_sequenced"),),
)
_STREAM_ODDITIES: Final = (
    (_emulator("stream.zero_based"),),
    (_emulator("stream.repeated_chunk"),),
    (_emulator("stream.out_of_order"),),
    (_emulator("stream.no_final_text"),),
    (_emulator("stream.slow", delay=0.05),),
)
_OVERTAKING: Final = frozenset({"message.echo_delayed", "message.echo_lost", "start.no_join_echo", "history.late"})
_HOLES: Final = ("POLY_AGENT_THINKING", "CONTENT", "USER_MESSAGE")

_KINDS: Final = ("ask", "ask", "ask", "stream", "stream", "stream", "send", "send", "burst", "news", "offline")
_SELDOM: Final = ("dropped", "typing", "resume", "resume_with_history", "resume_in_stream", "resume_after_send")
ENDINGS: Final = ("end", "end", "close", "natural", "abandoned", "gone", "unauthorized", "expired", "only_1000")


def plan(seed: int, number: int, steps: int) -> Life:
    """The life of that number."""
    chance = random.Random(f"{seed}/{number}")
    streaming = chance.random() < 0.6
    overtaking = chance.random() < 0.4
    return Life(
        number=number,
        streaming=streaming,
        watched=chance.random() < 0.3,
        start=_one_of(chance, _STARTS, overtaking) if chance.random() < 0.4 else (),
        steps=tuple(
            _step(chance, number, turn, streaming, overtaking) for turn in range(chance.randint(steps // 2, steps))
        ),
        ending=chance.choice(ENDINGS),
        overtaking=overtaking,
    )


def _one_of(chance: random.Random, table: Sequence[tuple[Trouble, ...]], overtaking: bool) -> tuple[Trouble, ...]:
    fitting = [row for row in table if overtaking or _OVERTAKING.isdisjoint(trouble.name for trouble in row)]
    return chance.choice(fitting)


def _step(chance: random.Random, number: int, turn: int, streaming: bool, overtaking: bool) -> Step:
    kind = chance.choice(_SELDOM if chance.random() < 0.1 else _KINDS)
    text = f"<{number}.{turn}>"
    troubles: tuple[Trouble, ...] = ()
    if kind not in ("dropped", "typing", "offline") and not kind.startswith("resume"):
        fate = chance.random()
        if fate < 0.35:
            troubles = _break(chance, text, streaming, kind, overtaking)
            if chance.random() < 0.5:
                troubles += _one_of(chance, _RETURNS, overtaking)
        elif fate < 0.6:
            odd = _one_of(chance, _STREAM_ODDITIES if streaming and chance.random() < 0.4 else _ODDITIES, overtaking)
            troubles = odd if kind != "news" or odd[0].name.startswith(("wire", "sequence")) else ()
        elif overtaking and fate < 0.7 and kind != "news":
            troubles = _hole(chance, streaming)
    if kind == "offline":
        troubles = _one_of(chance, _RETURNS, overtaking) if chance.random() < 0.6 else ()
    # People think; a machine does not, and the tenth of the steps in a hurry is where things overlap.
    pause = 0.0 if chance.random() < 0.1 else chance.uniform(0.3, 2.0)
    return Step(kind=kind, text=text, troubles=troubles, pause=pause)


def _break(chance: random.Random, text: str, streaming: bool, kind: str, overtaking: bool) -> tuple[Trouble, ...]:
    """One way for the connection to die, at one moment of the turn."""
    if chance.random() < 0.5:
        # Frames that name the turn: the message up; down its echo, and three chunks of the answer or all of it.
        death = chance.choice(_DEATHS)
        if kind == "news":
            return (_proxy(death, direction="down", marker=text, when=_when(chance), skip=0),)
        if chance.random() < 0.35 and death in ("RST", "FIN", "cut", "hole"):
            return (_proxy(death, direction="up", marker=text, when=_when(chance), skip=0),)
        skip = chance.randint(0, 3 if streaming else 1)
        return (_proxy(death, direction="down", marker=text, when=_when(chance), skip=skip),)
    if kind == "news":
        return (_emulator(chance.choice(_CODES), on="heartbeat"),)
    found = chance.random()
    if found < 0.1:
        return (_emulator("message.dropped_then_drop"),)
    if found < 0.2:
        return (_emulator("message.echo_lost_then_drop"),)
    if found < 0.25:
        return (_emulator("wire.binary_frame"),)
    if found < 0.3:
        return (_emulator("wire.oversize_frame"),)
    if found < 0.35 and overtaking:
        return (_emulator("message.echo_lost"), _emulator("connection.drop", on="reply"))
    on, after = chance.choice(_MOMENTS), 0
    if streaming and chance.random() < 0.5:
        on, after = "chunk", chance.randint(0, 5)
    return (_emulator(chance.choice(("connection.drop", *_CODES)), on=on, after=after),)


def _when(chance: random.Random) -> str:
    return chance.choice(("before", "inside", "after"))


def _hole(chance: random.Random, streaming: bool) -> tuple[Trouble, ...]:
    """An event that only a replay holds; where somebody waits for it, a replay comes."""
    event = chance.choice(_HOLES)
    if event == "CONTENT":
        event = "POLY_AGENT_MESSAGE_CHUNK" if streaming else "POLY_AGENT_MESSAGE"
    lost = _emulator("sequence.hole", event=event)
    return (lost,) if event == "POLY_AGENT_THINKING" else (lost, _emulator("connection.drop", on="reply"))
