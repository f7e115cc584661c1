"""The plugin in real conversations with the emulator. The fixtures come with `polyai-sync[emulator]`."""

from __future__ import annotations

import json

import pytest
from polyai_sync_transcript import FOLDER_VARIABLE, Transcript


@pytest.fixture
def transcript(tmp_path):
    return Transcript(tmp_path / "transcripts")


@pytest.fixture
def polyai_client_options(transcript):
    """What every `polyai_client` of this file is made with: the plugin, given, takes the place of the installed one."""
    return {"plugins": [transcript]}


def lines(transcript, session):
    text = transcript.file_of(session.session_id).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_everything_that_was_said_is_written_in_order(polyai_client, transcript):
    with polyai_client.start_session() as session:
        session.ask("A table for two, please")
        session.end()
    written = [line for line in lines(transcript, session) if line["kind"] == "message"]
    assert [(line["role"], line["text"]) for line in written] == [
        (message.role, message.plain_text()) for message in session.messages
    ]
    assert [line["role"] for line in written[:2]] == ["agent", "user"], "the greeting comes first"
    assert lines(transcript, session)[-1] == {"kind": "end", "reason": "REASON_USER_END"}


def test_sessions_do_not_share_a_file(polyai_client, transcript):
    with polyai_client.start_session() as one, polyai_client.start_session() as other:
        one.ask("Hello from the one")
        other.ask("Hello from the other")
    assert "the other" not in json.dumps(lines(transcript, one))
    assert "the other" in json.dumps(lines(transcript, other))


def test_a_folder_that_cannot_be_written_does_not_disturb_the_conversation(polyai_emulator, tmp_path, caplog):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with (
        polyai_emulator.client(plugins=[Transcript(in_the_way)]) as client,
        client.start_session() as session,
    ):
        assert session.ask("A table for two, please").text
    assert "'transcript'" in caplog.text


def test_no_session_id_leads_out_of_the_folder(transcript):
    assert transcript.file_of("../../etc/passwd").parent == transcript.folder


def test_the_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert Transcript().folder == tmp_path


def test_installing_it_is_enough(polyai_emulator, monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with polyai_emulator.client() as client:
        (found,) = [plugin for plugin in client.plugins if plugin.name == "transcript"]
        with client.start_session() as session:
            session.end()
    assert (found.origin, found.distribution) == ("entry point", "polyai-sync-transcript")
    assert (tmp_path / f"{session.session_id}.jsonl").exists()
