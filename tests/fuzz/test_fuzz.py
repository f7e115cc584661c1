"""The fuzzers themselves, without atheris: they see a broken promise, and their inputs keep their sense."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from polyai_sync.protocol import codec, ledger, scene, turns

from . import corpus, decoder, machine, mutate

if TYPE_CHECKING:
    from pathlib import Path


def event(name: str, sequence: int, **payload: Any) -> str:
    return json.dumps({
        "id": f"id-{sequence}", "sequence": sequence, "type": f"EVENT_TYPE_{name}", "payload": payload
    })  # fmt: skip


START = event("SESSION_START", 1, capabilities={})
MESSAGE = event("POLY_AGENT_MESSAGE", 2, message_id="m", text="hello")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A conversation with the emulator, as an input."""
    folder: Path = tmp_path_factory.mktemp("corpus")
    corpus.write(folder, names=("history.full_replay",))
    assert len(list((folder / "decoder").iterdir())) > 20
    (found,) = (folder / "machine").iterdir()
    return found.read_text(encoding="utf-8").split("\n")


def test_recorded_conversation_keeps_its_promises_and_goes_through_everything(recorded: list[str]) -> None:
    run = machine.Run()
    for line in recorded:
        run.step(line)
    assert run.conversation.end_reason == "REASON_USER_END"
    written = {event["type"].removeprefix("EVENT_TYPE_") for event in run.written}
    assert written == {"HEARTBEAT", "REQUEST_POLY_AGENT_JOIN", "USER_MESSAGE", "USER_TYPING", "USER_END_SESSION"}


def test_a_thousand_mutations_break_nothing(recorded: list[str]) -> None:
    chance = random.Random(20260)
    text = "\n".join(recorded)
    for _ in range(150):
        machine.check(mutate.mutate_lines(text, chance).encode("utf-8", "replace"))
    frames = [line for line in recorded if line.startswith("{")]
    for _ in range(850):
        decoder.check(mutate.mutate_frame(chance.choice(frames), chance).encode("utf-8", "replace"))


def test_mutated_frame_is_another_one_and_still_json(recorded: list[str]) -> None:
    frame = next(line for line in recorded if line.startswith("{"))
    mutated = [mutate.mutate_frame(frame, random.Random(seed)) for seed in range(100)]
    assert all(json.loads(one) is not ... for one in mutated)
    assert len(set(mutated)) > 80
    assert mutate.mutate_frame(frame, random.Random(7)) == mutated[7]


def test_event_that_is_published_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = f"!open\n{START}\n{MESSAGE}\n{MESSAGE}"
    machine.check(lines.encode())
    monkeypatch.setattr(ledger.Ledger, "admit", lambda self, event: True)
    with pytest.raises(AssertionError, match="twice"):
        machine.check(lines.encode())


def test_message_that_is_told_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    again = event("POLY_AGENT_MESSAGE", 3, message_id="m", text="hello again")
    lines = f"!open\n{START}\n{MESSAGE}\n{again}"
    machine.check(lines.encode())

    def settle(self: scene.Scene, place: Any, message: Any) -> None:
        self._settled(message, place.born, 0.0, old=False)

    monkeypatch.setattr(scene.Scene, "_replaced", settle)
    with pytest.raises(AssertionError, match="message 'm' twice"):
        machine.check(lines.encode())


def test_message_that_two_calls_return_is_seen(recorded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns.Turn, "give_back", lambda self: list(self._collected.items()))
    with pytest.raises(AssertionError, match="two calls return one message"):
        machine.check("\n".join(recorded).encode())


def test_value_of_the_wrong_type_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = b'{"type": "EVENT_TYPE_SESSION_START", "id": 7, "sequence": 1}'
    decoder.check(frame)

    def careless(text: str, *, replayed: bool = False) -> codec.Decoded:
        decoded = codec.decode(text, replayed=replayed)
        for event in decoded.events:
            object.__setattr__(event, "id", 7)
        return decoded

    monkeypatch.setattr(decoder, "decode", careless)
    with pytest.raises(AssertionError, match=r"SessionStart\.id is 7"):
        decoder.check(frame)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"!open\n!nonsense 7\n!tick soon\n\x00", b"[" * 100_000])
def test_nonsense_is_read_without_complaint(data: bytes) -> None:
    machine.check(b"!open\n" + data)
    decoder.check(data)
