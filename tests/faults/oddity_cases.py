"""Every oddity that the emulator can make happen, as data: when it is armed, and what the client must make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["CASES", "Oddity"]

PROTOCOL = "client.protocol"
DROPPED = "client.connection_dropped"


@frozen(kw_only=True)
class Oddity:
    """One oddity in one scene.

    Attributes:
        fault: What is armed.
        scene: ``start`` (before the session is started), ``turn`` (before a question) or ``return`` (before the
            connection drops while something new is in the journal).
        options: The fault's options; ``times`` and ``after`` too.
        codes: What ``on_error`` must be told on account of it, in order.
        streaming: Does the session stream?
        connections: Sockets that the oddity costs.
        capabilities: Of the server.
    """

    fault: str
    scene: str
    options: Mapping[str, Any] = field(factory=dict)
    codes: tuple[str, ...] = ()
    streaming: bool = True
    connections: int = 0
    capabilities: Mapping[str, Any] = field(factory=dict)

    @property
    def id(self) -> str:
        """Its name in the test report."""
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.scene}-{self.fault}{f':{options}' if options else ''}{'' if self.streaming else '-whole'}"


def _start(fault: str, *codes: str, connections: int = 0, **options: Any) -> Oddity:
    return Oddity(fault=fault, scene="start", codes=codes, connections=connections, options=options)


def _turn(fault: str, *codes: str, connections: int = 0, streaming: bool = True, **options: Any) -> Oddity:
    return Oddity(fault=fault, scene="turn", codes=codes, connections=connections, streaming=streaming, options=options)


def _return(fault: str, *codes: str, connections: int = 0, **options: Any) -> Oddity:
    return Oddity(fault=fault, scene="return", codes=codes, connections=connections, options=options)


def _answers() -> Iterator[Oddity]:
    for leg in ("access_token", "session_create", "connect"):
        yield _start("http.slow", on=leg, delay=0.05)
        yield _start("http.no_answer", "client.connect_failed", on=leg)
        yield _start("http.huge_body", "http.server_error", on=leg)
    for name in ("token.camel_case", "token.no_lifetime", "token.not_jwt", "token.no_exp", "token.float_exp"):
        yield _start(name)
    yield _start("token.expired", "session_create.invalid_token")
    yield _start("session_create.camel_case")
    yield _start("session_create.id_only")


def _starts() -> Iterator[Oddity]:
    yield _start("start.no_join_echo")
    yield _start("start.slow_greeting", delay=0.1)
    yield _start("start.no_capabilities")
    yield _start("start.odd_capabilities", PROTOCOL)
    yield _start("start.join_lost", DROPPED, connections=1)
    yield _start("start.join_lost", DROPPED, connections=1, accepted=True)
    yield _start("accept_then_drop", DROPPED, connections=1)
    yield _start("accept_then_drop", *[DROPPED] * 3, connections=3, times=3)


def _histories() -> Iterator[Oddity]:
    """Odd histories, at the start and after a drop."""
    for make in (_start, _return):
        yield make("history.split")
        yield make("history.split", size=2)
        yield make("history.unbatched")
        yield make("history.reversed")
        yield make("history.duplicate")
        yield make("history.overlap_live")
        yield make("history.full_replay")
        yield make("history.none_on_cursor")
        yield make("history.late", delay=0.05)
        yield make("wire.junk_in_batch", PROTOCOL)
        yield make("wire.payload_under_type_name")
        yield make("wire.batch_without_id")
        for twist in ("no_timestamp", "whole_seconds", "default_fields_omitted", "old_field_names", "extra_fields"):
            yield make(f"wire.{twist}", on="history")
    yield _return("wire.junk_in_lists", PROTOCOL, on="history")
    yield _return("accept_then_drop", *[DROPPED] * 2, connections=2, times=2)
    yield _return("heartbeat.dropped")
    yield _return("wire.heartbeat_echo_bare")
    yield _return("wire.heartbeat_sequenced")


def _messages() -> Iterator[Oddity]:
    yield _turn("message.dropped_then_drop", DROPPED, connections=1)
    yield _turn("message.echo_lost_then_drop", DROPPED, connections=1)
    yield _turn("message.echo_delayed", delay=0.05)
    yield _turn("agent.slow", delay=0.05)
    yield _turn("system.info")
    yield _turn("system.warning")
    yield _turn("system.odd_level")
    yield _turn("sequence.permanent_hole")
    yield _turn("sequence.permanent_hole", times=5)
    yield _turn("sequence.duplicate", times=None)
    yield _turn("sequence.hole", event="POLY_AGENT_THINKING")


def _streams() -> Iterator[Oddity]:
    for name in ("zero_based", "repeated_chunk", "out_of_order", "replaced_by_whole", "no_final_text"):
        yield _turn(f"stream.{name}", times=None)
    yield _turn("stream.slow", delay=0.01)
    yield _turn("stream.repeated_chunk", times=None, streaming=False)  # nothing is streamed: nothing happens


def _line() -> Iterator[Oddity]:
    moments = ("message", "echo", "turn", "chunk", "reply")
    for moment in moments:
        yield _turn("connection.drop", DROPPED, connections=1, on=moment)
        for code in (1001, 1006, 1011, 4000):
            codes = (PROTOCOL, DROPPED) if code == 1006 else (DROPPED,)
            yield _turn(f"close.{code}", *codes, connections=1, on=moment)
    for moment in ("open", "opened", "join"):
        yield _start("connection.drop", DROPPED, connections=1, on=moment)
        yield _start("close.1011", DROPPED, connections=1, on=moment)
        yield _start("connection.drop", *[DROPPED] * 3, connections=3, on=moment, times=3)
    for after in range(1, 5):
        yield _turn("connection.drop", DROPPED, connections=1, on="chunk", after=after)


def _wires() -> Iterator[Oddity]:
    """Odd frames: before each kind of event of a turn, and in place of it."""
    own = ("USER_MESSAGE", "POLY_AGENT_THINKING")
    kinds = ((True, (*own, "POLY_AGENT_MESSAGE_CHUNK")), (False, (*own, "POLY_AGENT_MESSAGE")))
    for streaming, events in kinds:
        for event in events:
            for name in ("ping", "fragmented", "unknown_event", "odd_metadata", "extra_fields", "no_timestamp",
                         "whole_seconds", "default_fields_omitted", "old_field_names", "no_echo_metadata"):  # fmt: skip
                yield _turn(f"wire.{name}", event=event, times=None, streaming=streaming)
            yield _turn("wire.no_id", event=event, streaming=streaming)
            yield _turn("wire.broken_json", PROTOCOL, event=event, streaming=streaming)
            yield _turn("wire.deep_json", PROTOCOL, event=event, streaming=streaming)
            yield _turn("wire.absurd_numbers", PROTOCOL, event=event, streaming=streaming)
            yield _turn("wire.not_object", *[PROTOCOL] * 4, event=event, streaming=streaming)
            for fatal in ("binary_frame", "oversize_frame", "invalid_utf8"):
                yield _turn(f"wire.{fatal}", PROTOCOL, DROPPED, connections=1, event=event, streaming=streaming)
        said = events[-1]
        yield _turn("wire.junk_in_lists", PROTOCOL, event=said, streaming=streaming)
    for claim in (1 << 21, 10_000_000_000, (1 << 63) - 1):
        yield _turn("wire.oversize_frame", PROTOCOL, DROPPED, connections=1, event="POLY_AGENT_THINKING", claim=claim)
    yield _turn("wire.heartbeat_echo_bare")
    yield _turn("wire.heartbeat_sequenced")


CASES = tuple(
    {
        case.id: case for make in (_answers, _starts, _histories, _messages, _streams, _line, _wires) for case in make()
    }.values()
)
