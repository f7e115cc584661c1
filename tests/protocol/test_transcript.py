"""The transcript finds each message by its id, however many there are."""

from __future__ import annotations

import pytest

from polyai_sync.messages import Message
from polyai_sync.protocol.transcript import FEW, Transcript


def message(role: str, message_id: str, sequence: int | None, text: str = "") -> Message:
    return Message(role=role, message_id=message_id, text=text, sequence=sequence)  # type: ignore[arg-type] # a role


def texts(transcript: Transcript) -> list[str]:
    return [one.text for one in transcript.view((), ())]


@pytest.mark.parametrize("count", [1, FEW - 1, FEW, FEW + 1, 3 * FEW])
def test_message_is_found_by_its_role_and_id(count: int) -> None:
    transcript = Transcript()
    for number in range(count):
        place = transcript.put(message("agent", f"id {number}", number, f"agent {number}"), number)
        assert transcript.find("agent", f"id {number}") is place
        assert transcript.find("user", f"id {number}") is None
    for number in range(count):
        place = transcript.put(message("user", f"id {number}", count + number, f"user {number}"), count + number)
        assert transcript.find("user", f"id {number}") is place
    for number in range(count):
        known = transcript.find("agent", f"id {number}")
        assert known is not None
        assert known.message.text == f"agent {number}"
        assert transcript.put(message("agent", f"id {number}", number, f"again {number}"), 99) is known
    assert texts(transcript) == [f"again {n}" for n in range(count)] + [f"user {n}" for n in range(count)]


@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 3 * FEW])
def test_message_that_was_removed_is_not_found(count: int) -> None:
    transcript = Transcript()
    places = [transcript.put(message("agent", f"id {n}", n, f"{n}"), n) for n in range(count)]
    transcript.remove(places[0])
    assert transcript.find("agent", "id 0") is None
    assert texts(transcript) == [str(n) for n in range(1, count)]
    assert transcript.put(message("agent", "id 0", 0, "new"), 99) is not places[0]
    assert texts(transcript) == ["new", *[str(n) for n in range(1, count)]]


def test_messages_without_an_id_are_never_the_same() -> None:
    transcript = Transcript()
    for number in range(3 * FEW):
        transcript.put(message("agent", "", number, f"{number}"), number)
        assert transcript.find("agent", "") is None
    assert texts(transcript) == [str(n) for n in range(3 * FEW)]
