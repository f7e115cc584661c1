"""What fuzzing found, each as the few frames that it takes. ``python -m tests.fuzz`` looks for more."""

from __future__ import annotations

from protocol_kit import Server, Talk


def test_users_message_that_comes_under_two_event_ids_is_one_message() -> None:
    server = Server()
    talk = Talk(server).ready()
    said = {"text": "hello", "message_id": "m"}
    talk.receive(server.event("USER_MESSAGE", said), server.event("USER_MESSAGE", said))
    assert [message.text for message in talk.hooks("on_message")] == ["hello"]
    assert [message.text for message in talk.conversation.messages if message.role == "user"] == ["hello"]
