"""``polyai-sync chat`` with a script, and the parts of it that need no terminal."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli_run import CANARY, Ran, clean_environment, point_at, runner

from polyai_sync import errors, events
from polyai_sync.catalog import make_error
from polyai_sync.cli.output import Output
from polyai_sync.cli.reader import Reader
from polyai_sync.cli.stage import LineStage
from polyai_sync.cli.story import Story
from polyai_sync.cli.watcher import Mailbox
from polyai_sync.emulator import Emulator, Pause, Say
from polyai_sync.emulator import Handoff as HandOver
from polyai_sync.hooks import RateLimit
from polyai_sync.messages import CallAction, EndReason, Handoff, HandoffStatus, Message, Participant, Suggestion
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    clean_environment(monkeypatch)
    return runner(capsys, monkeypatch)


@pytest.fixture
def desk(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator that the environment names."""
    with Emulator(connector_token=CANARY) as emulator:
        point_at(emulator, monkeypatch)
        yield emulator


# --- scripts ---


def test_script_becomes_a_clean_transcript_and_ends_by_itself() -> None:
    script = "a table for two\n2\nat 7:30\n\nMrs Bird\n"
    ran = subprocess.run(
        [sys.executable, "-m", "polyai_sync", "chat", "--demo"],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1", "NO_PROXY": ""},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\x1b" not in ran.stdout
    told = [line for line in ran.stdout.splitlines() if line.startswith(("> ", "Olive: "))]
    assert told[1:-1] == [
        "> a table for two",
        "Olive: On which day?",
        "> Tomorrow",
        "Olive: At what time? We serve from 18:00 to 22:00.",
        "> at 7:30",
        "Olive: And what name may I put it under?",
        "> Mrs Bird",
        next(line for line in told if line.startswith("Olive: Booked: 2 people on Tomorrow at 19:30")),
    ]
    assert ran.stdout.endswith("The conversation has ended: you ended it (REASON_USER_END).\n")


def test_script_waits_for_the_person_to_take_over_and_for_their_answers(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def agent(turn):
        if turn.greeting:
            yield "Hello."
        elif turn.live:
            yield Pause(0.15)
            yield f"Live answer to {turn.text}."
        else:
            yield "One moment."
            yield HandOver(positions=(2, 1), step=0.2, agent_name="Sam")
            yield Pause(1.4)  # longer than the quiet that ends an answer
            yield "Sam here."

    with Emulator(agent=agent) as emulator:
        point_at(emulator, monkeypatch)
        status, out, _ = run("chat", stdin="help me\none\ntwo\n")
    assert status == 0
    places = [out.index(text) for text in ("> help me", "Sam here", "> one", "answer to one", "> two", "answer to two")]
    assert places == sorted(places)


def test_script_waits_no_longer_than_its_patience_for_a_person(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def agent(turn):
        yield "Hello." if turn.greeting else HandOver(positions=(5,), step=60)

    with Emulator(agent=agent) as emulator:
        point_at(emulator, monkeypatch)
        status, out, _ = run("chat", "--timeout", "1.5", stdin="a person\n")
    assert status == 0
    assert "place 5" in out
    assert "you ended it" in out


def test_conversation_that_ends_before_the_script_says_so(run, desk: Emulator) -> None:
    status, out, err = run("chat", stdin="bye\none\ntwo\n")
    assert status == 0
    assert "Goodbye" in out
    assert "it came to its end (REASON_NATURAL_END)" in out
    assert err == "polyai-sync: 2 lines of the script came after the end\n"
    assert [text for role, text in desk.session.transcript if role == "user"] == ["bye"]


def test_errors_in_a_script_are_told_and_it_goes_on(run, desk: Emulator) -> None:
    status, out, err = run("chat", stdin="error\nmenu\n")
    assert (status, err) == (0, "")
    assert "! Sorry, I'm having trouble responding right now. Please try again.\n  agent.no_response: " in out
    assert "This is what we cook tonight" in out


def test_answer_that_does_not_come_is_told_and_the_script_goes_on(run, desk: Emulator) -> None:
    desk.faults.add("agent.silent")
    status, out, _ = run("chat", "--timeout", "0.3", stdin="hello\n")
    assert status == 0
    assert "client.reply_timeout" in out or "client.not_delivered" in out


def test_drops_are_told_in_lines(run, desk: Emulator) -> None:
    status, out, _ = run("chat", stdin="drop the line\n")
    assert status == 0
    assert re.search(r"The connection dropped; attempt 1 to reconnect in \d\.\d s \(.+\)\.", out)
    assert re.search(r"The connection dropped, and was back after \d\.\d s\.", out)
    assert out.count("Our soup of the day") == 1


def test_session_that_dies_of_an_error_is_status_1(run, desk: Emulator) -> None:
    desk.faults.add("session.not_found")
    status, out, _ = run("chat", stdin="hello\n")
    assert status == 1
    assert "the server does not know it any longer (SESSION_NOT_FOUND)" in out


def test_script_with_commands(run, desk: Emulator) -> None:
    status, out, _ = run("chat", stdin="/help\nmenu\n/end\nnever\n")
    assert status == 0
    assert "picks the suggestion" in out
    assert [text for role, text in desk.session.transcript if role == "user"] == ["menu"]


def test_script_without_a_line_end_is_read_to_its_end(desk: Emulator) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "polyai_sync", "chat"],
        input="menu\nfür zwei".encode(),
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert ran.returncode == 0
    assert [text for role, text in desk.session.transcript if role == "user"] == ["menu", "für zwei"]


def test_slow_greeting_comes_before_the_first_line(run, desk: Emulator) -> None:
    desk.faults.add("start.slow_greeting")
    out = run("chat", stdin="menu\n").out
    assert out.index("Hello, this is Olive") < out.index("> menu")


def test_suggestion_that_is_itself_a_number_is_not_a_choice(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def agent(turn):
        yield Say("How many?", suggestions=["4", "1", "2"]) if turn.greeting else f"You said {turn.text}."

    with Emulator(agent=agent) as emulator:
        point_at(emulator, monkeypatch)
        assert "You said 2." in run("chat", stdin="2\n").out


# --- the story, news by news ---


class Told:
    """A story on a stage of lines."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        output = Output(is_plain=True, stdout=self.stream, stderr=self.stream)
        self.story = Story(LineStage(output), output.symbols)

    def after(self, *news: tuple[object, ...]) -> str:
        for kind, *about in news:
            self.story.tell(str(kind), *about)
        return self.stream.getvalue()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.mark.parametrize(
    ("handoff", "line"),
    [
        (Handoff(status=HandoffStatus.TRIGGERED), "You are being handed over to a person."),
        (Handoff(status=HandoffStatus.ACCEPTED, queue_name="Desk"), "The handover was accepted by Desk."),
        (Handoff(status=HandoffStatus.ACCEPTED), "The handover was accepted."),
        (Handoff(status=HandoffStatus.QUEUED), "In the queue."),
        (
            Handoff(status=HandoffStatus.QUEUED, queue_name="Desk", position=3, estimated_wait_seconds=200.0),
            "In the queue of Desk, place 3, about 3 min.",
        ),
        (
            Handoff(status=HandoffStatus.QUEUED, estimated_wait_seconds=30, display_message="Hold\non."),
            "In the queue, about 30 s. Hold on.",
        ),
        (Handoff(status=HandoffStatus.LIVE, agent=Participant(name="Sam")), "Sam has joined."),
        (Handoff(status=HandoffStatus.LIVE), "A person has joined."),
        (Handoff(status=HandoffStatus.CLIENT_REQUIRED, reason="POLICY"), "This has to go on elsewhere (POLICY)."),
        (Handoff(status=HandoffStatus.FAILED), "The handover failed. The conversation goes on."),
        (
            Handoff(status=HandoffStatus.TIMED_OUT, reason="BUSY"),
            "Nobody took the handover in time (BUSY). The conversation goes on.",
        ),
    ],
)
def test_each_step_of_a_handoff(told: Told, handoff: Handoff, line: str) -> None:
    assert told.after(("handoff", handoff)) == f"· {line}\n"


@pytest.mark.parametrize("reason", list(EndReason))
def test_each_reason_for_the_end_is_in_words(told: Told, reason: EndReason) -> None:
    assert re.search(
        rf"The conversation has ended: [a-z].* \({reason.value}\)\.\n", told.after(("ended", reason, None))
    )


def test_reason_nobody_knows_is_told_as_it_came(told: Told) -> None:
    assert "The conversation has ended (gone_fishing).\n" in told.after(("ended", "gone_fishing", None))


def test_one_error_is_shown_once_however_often_it_is_met(told: Told) -> None:
    event = events.SystemMessage(id="e1", message="Sorry, handoff could not be initiated.")
    first = make_error("handoff.not_initiated", event.message, event=event)
    second = make_error("handoff.not_initiated", event.message, event=event)
    told.after(("error", first), ("error", second))
    told.story.refused(second)
    assert told.stream.getvalue().count("could not be initiated") == 1


def test_error_without_an_event_is_shown_when_a_call_fails_by_it(told: Told) -> None:
    error = errors.DeliveryError("No receipt came", outcome="unknown")
    assert told.after(("error", error)) == ""
    told.story.refused(error)
    assert "client.not_delivered" in told.stream.getvalue()


def test_retry_before_the_conversation_names_what_failed(told: Told) -> None:
    error = make_error("access_token.creation_failed", "Failed to create access token", status=500)
    out = told.after(("retrying", "access_token", error, 1.25))
    assert "Failed to create access token [access_token.creation_failed]. Trying again in 1.2 s." in out


def test_message_that_seems_dropped_is_told(told: Told) -> None:
    assert "rate limit" in told.after(("limited", RateLimit(surface="websocket", certain=False)))
    assert Told().after(("limited", RateLimit(surface="connect", retry_after=1.0))) == ""


def test_information_and_warnings_of_the_system(told: Told) -> None:
    level = events.SystemMessageLevel
    out = told.after(
        ("event", events.SystemMessage(level=level.INFO, message="We close at ten.")),
        ("event", events.SystemMessage(level=level.WARNING, message="Almost full.")),
        ("event", events.SystemMessage(level=level.ERROR, message="This comes as an error.")),
    )
    assert out == "i We close at ten.\n! Almost full.\n"


def test_language_and_strangers_are_told(told: Told) -> None:
    out = told.after(
        ("event", events.LanguageChanged(language_code="de-DE")), ("event", events.UnknownEvent(type="EVENT_TYPE_NEW"))
    )
    assert out == "· The language is now de-DE.\n· An event of a type that is not known: EVENT_TYPE_NEW\n"


def test_own_message_is_not_told_a_second_time(told: Told) -> None:
    mine = Message(role="user", text="mine", client_event_id="c1")
    other = Message(role="user", text="other")
    old = Message(role="user", text="old", replayed=True)
    out = told.after(("sent", "c1"), ("message", mine), ("message", other), ("message", old))
    assert out == "\nYou (elsewhere): other\n\nYou: old\n"


def test_telephone_numbers_are_offered(told: Told) -> None:
    action = CallAction(title="Call us", contact_number="+44 20 7946 0123")
    out = told.after(("message", Message(role="agent", text="Ring us.", agent_name="Olive", call_actions=(action,))))
    assert out == "\nOlive: Ring us.\n       ▸ Call us: +44 20 7946 0123\n"


def test_message_without_text_still_has_its_suggestions(told: Told) -> None:
    message = Message(role="agent", agent_name="O", suggestions=(Suggestion(message_text="Yes"),))
    assert told.after(("message", message)) == "\nO: [1] Yes\n"
    assert told.story.suggestions == message.suggestions
    told.story.said("Yes")
    assert told.story.suggestions == ()


def test_stream_that_another_message_cut_off_is_shown_before_it(told: Told) -> None:
    half = Message(role="agent", message_id="m1", text="Half of", complete=False, agent_name="Olive")
    whole = Message(role="agent", message_id="m2", text="Another.", agent_name="Olive")
    late = Message(role="agent", message_id="m1", text="Half of it.", agent_name="Olive")
    out = told.after(("grown", half), ("message", whole), ("message", late))
    assert out == "\nOlive: Half of\n       …\n\nOlive: Another.\n\nOlive: it.\n"


def test_streams_that_interleave_are_both_told_whole(told: Told) -> None:
    def grown(name: str, text: str, complete: bool = False) -> tuple[str, Message]:
        message = Message(role="agent", message_id=name, text=text, complete=complete, agent_name="O")
        return ("message" if complete else "grown", message)

    out = told.after(
        grown("a", "One"), grown("b", "Two"), grown("a", "One.", True), grown("b", "Two."), grown("b", "Two.", True)
    )
    assert out == "\nO: One.\n\nO: Two.\n"


def test_signs_fit_the_outputs_encoding() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    output = Output(is_plain=True, stdout=stream, stderr=stream)
    story = Story(LineStage(output), output.symbols)
    story.tell("message", Message(role="agent", agent_name="Zoë", text="- Grüße 日本"))
    story.note("Noted.")
    assert raw.getvalue() == b"\nZo?: - Gr??e ??\n* Noted.\n"


# --- reading ---


def test_reader_gives_lines_as_they_are_finished_and_the_end() -> None:
    read, write = os.pipe()
    mailbox = Mailbox()
    Reader(mailbox, read, by_key=False).start()
    os.write(write, b"one\r\ntw")
    assert mailbox.take(5) == ("line", "one")
    os.write(write, b"o\nlast \xc3")
    assert mailbox.take(5) == ("line", "two")
    os.write(write, b"\xbc \xff")
    os.close(write)
    assert mailbox.take(5) == ("line", "last ü \ufffd")
    assert mailbox.take(5) == ("eof",)
    os.close(read)


def test_chats_threads_are_gone_afterwards(run, desk: Emulator) -> None:
    import threading

    before = set(threading.enumerate())
    run("chat", stdin="menu\n")
    wait_until(lambda: set(threading.enumerate()) <= before)
