"""``polyai-sync chat`` as somebody at a terminal meets it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from cli_terminal import Program

from polyai_sync.emulator import ClientHandoff, Drop, Emulator, Fail, LiveSay, LiveTyping, Pause, Say, Stream
from polyai_sync.emulator import Handoff as HandOver
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary-connector-token-1234567890"


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator that a chat finds in its environment, with a pace that can be watched."""
    with Emulator(connector_token=CANARY, thinking_delay=0.1, chunk_delay=0.02) as emulator:
        point_at(emulator, monkeypatch)
        yield emulator


def point_at(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYAI_BASE_URL", emulator.url)
    monkeypatch.setenv("POLYAI_CONNECTOR_TOKEN", emulator.connector_token)
    monkeypatch.setenv("POLYAI_HOST", emulator.host)


def test_demo_greets_streams_and_ends_on_ctrl_d() -> None:
    with Program("chat", "--demo") as chat:
        chat.see("A demo: .* emulator")
        chat.see(r"Olive: Hello, this is Olive at the Olive Branch")
        chat.see(r"\[2\] See the menu")
        chat.see_after("beans, kale", "soup")
        chat.see("off the bill on Mondays")
        chat.type("\x04")
        chat.see("The conversation has ended: you ended it")
        assert chat.ends() == 0
        assert chat.is_cooked()
        assert "2004" not in str(chat.screen.modes - {"?25"})


def test_text_is_shown_as_it_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    def agent(turn):
        yield "Hello." if turn.greeting else Stream(["The first ", "half", *["…"] * 200, " and the end."])

    with Emulator(agent=agent, chunk_delay=0.05) as emulator:
        point_at(emulator, monkeypatch)
        with Program("chat") as chat:
            chat.see("Hello")
            chat.say("go")
            chat.see("The first half…")
            assert "and the end" not in chat.text
            chat.type("\x04")
            assert chat.ends() == 0


def test_suggestion_is_picked_by_its_number(desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see(r"\[1\] Book a table")
        chat.say("1")
        chat.see(r"(?s)> Book a table\n.*For how many people")
        chat.see(r"\[3\] For three")
        chat.say("9")  # no such suggestion: a text like any other
        chat.see(r"(?s)> 9\n.*On which day")
        chat.see(r"\[3\] Saturday\n\n> ?\Z")  # no status is left over
    assert [text for role, text in desk.session.transcript if role == "user"] == ["Book a table", "9"]


def test_attachments_are_links_with_their_address(desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        chat.see_after("The whole card", "menu")
        chat.see(r"Image: Tonight's menu\n\s+https://olive-branch.example.com/menu-tonight.png")
        chat.see(r"\[2\] Book a table")
        assert "https://olive-branch.example.com/menu" in chat.screen.links
        assert "**" not in chat.text


def test_handoff_is_told_step_by_step_up_to_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    def agent(turn):
        if turn.greeting:
            yield "Hello."
        elif not turn.live:
            yield HandOver("Front desk", positions=(2, 1), wait_seconds=60, step=0.1, agent_name="Sam")
            yield LiveTyping()
            yield Pause(0.5)
            yield LiveSay("Hi, Sam here.")
        elif turn.text == "silence":
            yield Pause(0.0)
        else:
            yield LiveSay("You said it.")

    with Emulator(agent=agent) as emulator:
        point_at(emulator, monkeypatch)
        with Program("chat") as chat:
            chat.see("Hello")
            chat.say("a person, please")
            chat.see("In the queue of Front desk, place 2, about 2 min")
            chat.see("In the queue of Front desk, place 1, about 60 s")
            chat.see("Sam has joined")
            chat.see("Sam is typing")
            chat.see("Sam: Hi, Sam here")
            assert "is typing" not in chat.text
            chat.say("silence")  # an answer is not waited for: the next line goes out at once
            chat.see_after("Sam: You said it", "and more")


def test_live_agents_message_does_not_disturb_what_is_being_typed(desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        chat.say("talk to a person")
        chat.see("Sam: Hi")
        chat.type("half a sen")
        chat.see(r"> half a sen\Z")
        desk.session.act(LiveSay("Are you still there?"))
        chat.see(r"(?s)Sam: Are you still there\?\n\n> half a sen\Z")
        chat.type("tence\r")
        chat.see(r"(?s)> half a sentence\n.*Let me see: “half a sentence”")


def test_client_managed_handoff_says_where_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def agent(turn):
        yield "Hello." if turn.greeting else ClientHandoff("POLICY", "Duty manager", route="https://x.example.com/go")

    with Emulator(agent=agent) as emulator:
        point_at(emulator, monkeypatch)
        with Program("chat") as chat:
            chat.see("Hello")
            chat.say("complaint")
            chat.see(r"go on elsewhere: Duty manager \(POLICY\)")
            chat.see("https://x.example.com/go")
            chat.see("Olive has left")


def test_dropped_connection_is_told_while_it_is_mended_and_loses_nothing(desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        chat.say("drop the line")
        chat.see(r"attempt 1 to reconnect in \d\.\d s")
        chat.see("served with more oil than a doctor would\n +like")
        chat.see(r"was back after \d\.\d s")
        assert len(re.findall("Our soup of the day|Our\n +soup of the day", chat.text)) == 1
        assert "to reconnect" not in chat.text.rpartition("Olive:")[2]


def test_error_is_shown_in_its_own_words_with_a_hint_and_the_talk_goes_on(desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        chat.see_after(
            r"! Sorry, I'm having trouble responding right now\. Please try again\.\n  agent\.no_response: ", "error"
        )
        chat.see_after("For how many", "book a table")
        assert chat.text.count("having trouble") == 1


def test_stream_that_breaks_off_stays_visible(desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        chat.see_after(r"Our soup of the day .*…\n! Sorry, I encountered an error", "half a reply")


def test_overloaded_agent_is_asked_again_and_the_wait_is_told(monkeypatch: pytest.MonkeyPatch, desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        chat.say("high load")
        chat.see(r"high load\. Please try again in a moment")
        chat.see(r"Trying again in \d\.\d s")
        chat.see("the rush is over")
        assert chat.text.count("> high load") == 1


def test_message_of_another_connection_is_shown_as_such(desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        desk.session.emit("USER_MESSAGE", {"message_id": "m-1", "text": "Hello from my telephone"})
        chat.see(r"You \(elsewhere\): Hello from my telephone")


def test_thinking_is_shown_until_the_answer_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def agent(turn):
        if not turn.greeting:
            yield Pause(0.6)
        yield "Here it is."

    with Emulator(agent=agent) as emulator:
        point_at(emulator, monkeypatch)
        with Program("chat") as chat:
            chat.see("Here it is")
            chat.say("think")
            chat.see("Olive is thinking…")
            chat.see(r"(?s)> think\n.*Here it is")
            assert "thinking" not in chat.text


def test_servers_end_leaves_by_itself_with_the_reason(desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        chat.type("a line that is never sent")
        chat.see("never sent")
        desk.session.end("REASON_USER_ABANDONED")
        chat.see(r"The conversation has ended: nothing was heard from you for too long\s+\(REASON_USER_ABANDONED\)")
        assert chat.ends() == 0
        assert chat.is_cooked()
        assert "never sent" not in chat.text


def test_ctrl_c_ends_the_conversation_politely_with_130(desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        chat.interrupt()
        chat.see("The conversation has ended: you ended it")
        assert chat.ends() == 130
        assert chat.is_cooked()
        assert "Traceback" not in chat.raw
    assert desk.session.end_reason == "REASON_USER_END"


def test_second_ctrl_c_leaves_at_once(desk: Emulator) -> None:
    desk.faults.add("end.unanswered")
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        chat.interrupt()
        chat.see("Ending the conversation")
        chat.interrupt()
        assert chat.ends() == 130
        assert chat.is_cooked()
        assert "has ended" not in chat.text
        assert "Traceback" not in chat.raw


def test_ctrl_c_while_connecting_leaves_at_once(desk: Emulator) -> None:
    desk.faults.add("start.no_join")
    with Program("chat") as chat:
        chat.see("Connecting to the service")
        wait_until(lambda: desk.sessions_created)
        chat.interrupt()
        assert chat.ends() == 130
        assert "Traceback" not in chat.raw


@pytest.mark.parametrize("keys", ["\x04", "/quit\r"])
def test_leaving_while_connecting_is_obeyed_at_once(desk: Emulator, keys: str) -> None:
    desk.faults.add("start.no_join")
    with Program("chat") as chat:
        chat.see("Connecting to the service")
        wait_until(lambda: desk.sessions_created)
        chat.type(keys)
        assert chat.ends() == 0


def test_refused_start_is_one_paragraph_and_status_1(desk: Emulator) -> None:
    desk.faults.add("access_token.unknown_connector")
    with Program("chat") as chat:
        chat.see("polyai-sync: Connector token does not exist")
        assert chat.ends() == 1
        assert chat.is_cooked()
        assert "Traceback" not in chat.raw


def test_lost_connection_ends_the_chat_with_status_1(desk: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYAI_SYNC_BLOCK", "reconnect")
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        desk.session.drop(1011)
        chat.see("client.connection_lost")
        assert chat.ends() == 1


def test_leaving_with_a_state_file_keeps_the_conversation(desk: Emulator, tmp_path) -> None:
    kept = tmp_path / "talk.json"
    with Program("chat", "--state", str(kept)) as chat:
        chat.see("Olive: Hello")
        chat.see_after("On which day", "a table for two")
        chat.say("/quit")
        chat.see("Left without ending it")
        assert chat.ends() == 0
    assert kept.stat().st_mode & 0o777 == 0o600
    assert not desk.session.ended
    with Program("chat", "--resume", str(kept)) as chat:
        chat.see_after("At what time", "tomorrow")
        chat.say("/end")
        assert chat.ends() == 0
        assert "On which day" not in chat.text
    assert desk.session.end_reason == "REASON_USER_END"
    with Program("chat", "--resume", str(kept)) as chat:
        chat.see("polyai-sync: session not found")
        assert chat.ends() == 1


def test_commands_of_the_chat(desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        chat.say("/help")
        chat.see(r"/end +ends the conversation")
        chat.say("/dance")
        chat.see("There is no command /dance")
        chat.say("//slash")
        chat.see("(?s)> /slash\n.*Olive:")
        chat.say("/end")
        assert chat.ends() == 0
    assert [text for role, text in desk.session.transcript if role == "user"] == ["/slash"]


def test_pasted_lines_are_one_message(desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        chat.type("\x1b[200~for two\ntomorrow\x1b[201~")
        chat.see("> for two↵tomorrow")
        chat.type("\r")
        chat.see(r"(?s)> for two\n  tomorrow\n.*At what time")
    assert desk.session.transcript[1] == ("user", "for two\ntomorrow")


def test_long_input_is_wrapped_and_taken_back_whole(desk: Emulator) -> None:
    text = "word " * 40
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        chat.type(text)
        chat.see(r"(w\s*o\s*r\s*d\s*){40}")
        desk.session.act(Say("Meanwhile.", stream=False))
        chat.see(r"Meanwhile\.\s*> (w\s*o\s*r\s*d\s*){40}\Z")
        assert "".join(chat.text.split()).count("word") == 40
        chat.type("\x15")  # Ctrl-U
        chat.see(r"\n> ?\Z")
        assert "word" not in "".join(chat.text.split())


def test_services_text_cannot_drive_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def agent(turn):
        yield Say(
            "\x1b[2J\x1b]0;owned\x07evil \x9b31m\u202etext&#27;[5m", stream=False, suggestions=["\x1b[8mpick\rme"]
        )

    with Emulator(agent=agent, agent_name="Ol\x1b[Hive") as emulator:
        point_at(emulator, monkeypatch)
        with Program("chat") as chat:
            chat.see("Olive: evil text")
            chat.see(r"\[1\] pick me")
            assert not {"\x1b[2J", "\x1b]0;", "\x9b", "\u202e", "\x1b[8m", "\x1b[H", "\x1b[5m"} & set(
                re.findall(r"\x1b\[2J|\x1b\]0;|\x9b|\u202e|\x1b\[8m|\x1b\[H|\x1b\[5m", chat.raw)
            )


def test_typing_is_told_to_the_server(desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see("Olive: Hello")
        chat.type("hel")
        wait_until(lambda: any(event["type"] == "EVENT_TYPE_USER_TYPING" for event in desk.session.received))


@pytest.mark.parametrize("how", ["plain", "dumb", "no rich"])
def test_chat_works_without_rich_and_without_a_moving_cursor(desk: Emulator, how: str) -> None:
    code = None
    if how == "no rich":
        code = "import sys; sys.modules['rich'] = None; from polyai_sync.cli import main; sys.exit(main())"
    arguments = ["chat", *(["--plain"] if how == "plain" else [])]
    with Program(*arguments, code=code, TERM="dumb" if how == "dumb" else "xterm") as chat:
        chat.see("Olive: Hello, this is Olive at the Olive Branch")
        chat.say("1")
        chat.see("For how many people")
        chat.type("\x04")
        assert chat.ends() == 0
        sequences = set(re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]", chat.raw))
        assert not {item for item in sequences if item.endswith("m")}
        assert how == "no rich" or not sequences


def test_no_color_is_honoured(desk: Emulator) -> None:
    with Program("chat", NO_COLOR="1") as chat:
        chat.see(r"\[4\] help")
        chat.type("\x04")
        assert chat.ends() == 0
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", chat.raw)


def test_debug_shows_the_log_above_the_prompt_and_no_token(desk: Emulator) -> None:
    with Program("chat", "--debug") as chat:
        chat.see("DEBUG polyai_sync.frames")
        chat.see("(?s)Hello.*help")
        chat.say("error")
        chat.see("having trouble responding", where="raw")
        chat.type("\x04")
        assert chat.ends() == 0
        assert CANARY not in chat.raw
        assert "eyJ" not in chat.raw


def test_several_questions_are_answered_in_turn_while_more_is_typed(desk: Emulator) -> None:
    with Program("chat") as chat:
        chat.see(r"\[1\] Book a table")
        chat.type("for two\rtomorrow\rat 7:30\r")
        chat.see("what name may I put it under")
    users = [text for role, text in desk.session.transcript if role == "user"]
    assert users == ["for two", "tomorrow", "at 7:30"]


def test_half_streamed_message_is_whole_after_drop_and_error() -> None:
    def agent(turn):
        if turn.greeting:
            yield "Hello."
        else:
            yield Say("Before.", stream=False)
            yield Drop()
            yield Fail("agent.no_response")
            yield Say("After.", stream=False)

    with Emulator(agent=agent) as emulator, pytest.MonkeyPatch.context() as patch:
        point_at(emulator, patch)
        with Program("chat") as chat:
            chat.see("Hello")
            chat.say("go")
            chat.see(r"(?s)Before\..*having trouble.*After\.")


def test_doctor_shows_the_step_under_way_and_ctrl_c_leaves_it(desk: Emulator) -> None:
    desk.faults.add("start.no_join")
    with Program("doctor") as doctor:
        doctor.see(r"\n  join …\Z")
        doctor.interrupt()
        assert doctor.ends() == 130
        assert "join …" not in doctor.text
        assert "✓  WebSocket" in doctor.text
        assert "Traceback" not in doctor.raw


def test_tables_and_blocks_fit_the_terminal() -> None:
    for arguments in (("explain", "--all"), ("explain", "connect.session_not_found"), ("plugins",)):
        with Program(*arguments) as command:
            assert command.ends() == 0
            assert max(map(len, command.text.splitlines())) < 80
            assert "\x1b[1m" in command.raw


def test_message_taller_than_the_screen_is_shown_once_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [f"- item {number} of a long list\n" for number in range(60)]

    def agent(turn):
        yield "Hello." if turn.greeting else Stream(["Here:\n", *items, "The end."])

    with Emulator(agent=agent, chunk_delay=0.01) as emulator:
        point_at(emulator, monkeypatch)
        with Program("chat") as chat:
            chat.see("Hello")
            chat.say("list")
            chat.see("item 30 of")
            chat.say("and this is held back")
            chat.see("The end")
            chat.see(r"(?s)The end\.\n\n> and this is held back\n")
            assert [int(number) for number in re.findall(r"• item (\d+) of a long list\n", chat.text)][:60] == [
                *range(60)
            ]
