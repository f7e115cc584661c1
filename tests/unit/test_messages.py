"""What a conversation is made of: plain values with the fields and defaults that callers rely on."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import datetime, timezone
from typing import Any

import attrs
import pytest
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

import polyai_sync
from polyai_sync import messages
from polyai_sync.messages import (
    Attachment,
    CallAction,
    Capabilities,
    Delivery,
    EndReason,
    Handoff,
    HandoffStatus,
    Message,
    Participant,
    Reply,
    SessionStatus,
    Suggestion,
)

WHEN = datetime(2026, 3, 1, 9, 30, tzinfo=timezone.utc)
MENU = Attachment(
    title="Menu",
    preview_image_url="https://e.example/p.png",
    content_url="https://e.example/menu",
    content_type="ATTACHMENT_CONTENT_TYPE_URL",
    call_to_action_text="Look",
)
PICTURE = Attachment(content_type="ATTACHMENT_CONTENT_TYPE_IMAGE")
YES = Suggestion(message_text="Yes", payload={"choice": [1]})
NO = Suggestion(message_text="No")
DESK = CallAction(title="Desk", contact_number="+44 20")
ZOE = Participant(id="l-1", name="Zoë", avatar_url="https://e.example/z.png")
QUEUED = Handoff(
    status=HandoffStatus.QUEUED,
    queue_name="Desk",
    position=2,
    estimated_wait_seconds=90.0,
    display_message="Hold on",
    reason="POLICY",
    route="https://e.example/desk",
    agent=ZOE,
)
GREETING = Message(
    role="agent",
    message_id="m-1",
    text="Hello",
    attachments=(MENU, PICTURE),
    suggestions=(YES,),
    call_actions=(DESK,),
    complete=False,
    sequence=3,
    timestamp=WHEN,
    agent_name="Marta",
    avatar_url="https://e.example/m.png",
    custom={"order": "12"},
    client_event_id="c-1",
    delivery=Delivery.PENDING,
    replayed=True,
)
OFFER = Message(role="live_agent", text="A table?", suggestions=(NO,), attachments=(MENU,))
LIMITS = Capabilities(
    streaming=True, max_message_size_bytes=4096, max_reconnect_attempts=0, heartbeat_interval_seconds=12.5
)
ANSWER = Reply(messages=(GREETING, OFFER), handoff=QUEUED, ended=True)
VALUES = [MENU, YES, DESK, ZOE, QUEUED, GREETING, LIMITS, ANSWER]

#: The public contract: each value's fields in order, and what each is where nothing is said of it.
DEFAULTS: dict[type[Any], dict[str, Any]] = {
    Participant: {"id": None, "name": None, "avatar_url": None},
    Capabilities: {
        "streaming": False,
        "max_message_size_bytes": 128 * 1024,
        "max_reconnect_attempts": None,
        "heartbeat_interval_seconds": None,
    },
    Attachment: dict.fromkeys(["title", "preview_image_url", "content_url", "content_type", "call_to_action_text"], ""),
    Suggestion: {"message_text": attrs.NOTHING, "payload": None},
    CallAction: {"title": "", "contact_number": ""},
    Handoff: {
        "status": HandoffStatus.NONE,
        "queue_name": None,
        "position": None,
        "estimated_wait_seconds": None,
        "display_message": None,
        "reason": None,
        "route": None,
        "agent": None,
    },
    Message: {
        "role": attrs.NOTHING,
        "message_id": "",
        "text": "",
        "attachments": (),
        "suggestions": (),
        "call_actions": (),
        "complete": True,
        "sequence": None,
        "timestamp": None,
        "agent_name": None,
        "avatar_url": None,
        "custom": {},
        "client_event_id": None,
        "delivery": Delivery.DELIVERED,
        "replayed": False,
    },
    Reply: {"messages": (), "handoff": None, "ended": False},
}

#: The public words (api.md), written down apart from the code.
WORDS: dict[Any, dict[str, str]] = {
    SessionStatus: {name: name for name in ("CONNECTING", "OPEN", "RECONNECTING", "CLOSED", "ENDED", "FAILED")},
    Delivery: {name: name for name in ("PENDING", "DELIVERED", "FAILED")},
    EndReason: {
        "USER_END": "REASON_USER_END",
        "USER_ABANDONED": "REASON_USER_ABANDONED",
        "NATURAL_END": "REASON_NATURAL_END",
        "UNKNOWN": "REASON_UNKNOWN",
        "CLOSED_BY_SERVER": "CLOSED_BY_SERVER",
        "SESSION_NOT_FOUND": "SESSION_NOT_FOUND",
        "AUTHENTICATION_FAILED": "AUTHENTICATION_FAILED",
        "UNCONFIRMED": "UNCONFIRMED",
    },
    HandoffStatus: {
        name: name
        for name in (
            "NONE", "TRIGGERED", "ACCEPTED", "QUEUED", "LIVE", "CLIENT_REQUIRED", "FAILED", "TIMED_OUT", "ENDED",
        )
    },
}  # fmt: skip

every_value = pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
every_enum = pytest.mark.parametrize("enum", WORDS, ids=lambda enum: enum.__name__)


@pytest.mark.parametrize("cls", DEFAULTS, ids=lambda cls: cls.__name__)
def test_a_value_has_these_fields_and_these_defaults(cls: type[Any]) -> None:
    required = {name: "x" for name, default in DEFAULTS[cls].items() if default is attrs.NOTHING}
    value = cls(**required)
    fields = {field.name: getattr(value, field.name) for field in attrs.fields(cls)}
    assert fields == DEFAULTS[cls] | required
    assert list(fields) == list(DEFAULTS[cls])
    for name in required:
        with pytest.raises(TypeError, match=name):
            cls(**{other: text for other, text in required.items() if other != name})


def test_every_public_value_is_tried_here() -> None:
    assert {cls.__name__ for cls in [*DEFAULTS, *WORDS]} == set(messages.__all__) - {"Role"}
    assert [name for name in messages.__all__ if name != "Role" and not hasattr(polyai_sync, name)] == []


@every_value
def test_a_value_cannot_be_changed(value: Any) -> None:
    name = attrs.fields(type(value))[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, None)
    with pytest.raises(AttributeError):
        value.mood = "good"
    with pytest.raises(TypeError):
        type(value)("by place")
    assert not hasattr(value, "__dict__")


@pytest.mark.pitfall(38)
@every_value
def test_a_value_survives_copies_and_pickle_and_serves_as_a_key(value: Any) -> None:
    for twin in (copy.copy(value), copy.deepcopy(value), *(pickle.loads(pickle.dumps(value, n)) for n in range(2, 6))):
        assert twin == value
        assert type(twin) is type(value)
        assert {value: 1}[twin] == 1


@every_value
def test_values_that_differ_in_a_field_are_different(value: Any) -> None:
    for field in attrs.fields(type(value)):
        assert attrs.evolve(value, **{field.name: "something else"}) != value, field.name


def test_two_messages_never_share_their_metadata() -> None:
    assert Message(role="user").custom is not Message(role="user").custom


@pytest.mark.parametrize(("attachment", "image"), [(MENU, False), (PICTURE, True), (Attachment(), False)])
def test_an_attachment_says_whether_it_is_an_image(attachment: Attachment, image: bool) -> None:
    assert attachment.is_image is image


# --- replies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        ([], ""),
        ([""], ""),
        (["One"], "One"),
        (["One", "Two\nlines", "Three"], "One\n\nTwo\nlines\n\nThree"),
        (["One", "", "Three"], "One\n\nThree"),  # a message of attachments alone leaves no gap
        ([" One ", "Two"], " One \n\nTwo"),
    ],
)
def test_a_replys_text_is_its_messages_texts_joined_by_blank_lines(texts: list[str], text: str) -> None:
    assert Reply(messages=tuple(Message(role="agent", text=text) for text in texts)).text == text


@given(st.lists(st.text("ab <*", min_size=1)))
def test_nothing_of_a_messages_text_is_lost_in_the_replys(texts: list[str]) -> None:
    assert Reply(messages=tuple(Message(role="agent", text=text) for text in texts)).text.split("\n\n") == (
        texts or [""]
    )


def test_a_reply_gathers_attachments_and_suggestions_in_order() -> None:
    assert ANSWER.attachments == (MENU, PICTURE, MENU)
    assert ANSWER.suggestions == (YES, NO)
    assert (Reply().attachments, Reply().suggestions) == ((), ())


@pytest.mark.parametrize("complete", [(), (True,), (True, True), (False,), (True, False), (False, True)])
def test_a_reply_is_complete_when_every_message_is(complete: tuple[bool, ...]) -> None:
    reply = Reply(messages=tuple(Message(role="agent", complete=whole) for whole in complete))
    assert reply.complete is (False not in complete)


def test_the_plain_text_of_a_reply_leaves_out_what_is_only_marks() -> None:
    said = Reply(
        messages=tuple(Message(role="agent", text=text) for text in ("**One**", "<br>", "[Two](https://e.example)"))
    )
    assert said.plain_text() == "One\n\nTwo (https://e.example)"


# --- words ------------------------------------------------------------------------------------------------------------


@every_enum
def test_an_enum_has_these_words(enum: Any) -> None:
    assert {word.name: word.value for word in enum} == WORDS[enum]


@every_enum
def test_a_word_is_equal_to_its_string_and_prints_as_such(enum: Any) -> None:
    for name, value in WORDS[enum].items():
        word = getattr(enum, name)
        assert word == value
        assert {value: 1}[word] == 1
        assert (str(word), f"{word}", f"{word:>30}", "{}".format(word), "%s" % word) == (  # noqa: UP031, UP032 - each way
            value, value, f"{value:>30}", value, value,
        )  # fmt: skip
        assert json.dumps({"word": word}) == f'{{"word": "{value}"}}'
        assert enum(value) is word
        assert pickle.loads(pickle.dumps(word)) is word is copy.deepcopy(word)
        assert (word != "another") is True
