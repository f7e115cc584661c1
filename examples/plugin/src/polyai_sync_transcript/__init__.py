"""A transcript of every conversation: one file per session, one JSON object per line."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from polyai_sync import hookimpl

if TYPE_CHECKING:
    from polyai_sync import Handoff, Message, Session

__all__ = ["FOLDER_VARIABLE", "Transcript"]

FOLDER_VARIABLE = "POLYAI_TRANSCRIPT_FOLDER"


class Transcript:
    """Writes what was said, each step of a handoff, and the end.

    The hooks of one session run one at a time and in order, and every session has a file of its own. So there is no
    lock here. Whatever goes wrong while writing is logged by the client and does not disturb the conversation.

    Args:
        folder: Where the files go; made when the first line is written. Left out, as when the plugin is loaded by its
            entry point: the environment variable ``POLYAI_TRANSCRIPT_FOLDER``, else ``transcripts``.
    """

    name: ClassVar[str] = "transcript"

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder or os.environ.get(FOLDER_VARIABLE) or "transcripts")

    @hookimpl
    def on_message(self, session: Session, message: Message) -> None:
        self._write(
            session,
            kind="message",
            role=message.role,
            name=message.agent_name,
            text=message.plain_text(),
            links=[attachment.content_url for attachment in message.attachments],
            at=None if message.timestamp is None else message.timestamp.isoformat(),
        )

    @hookimpl
    def on_handoff(self, session: Session, handoff: Handoff) -> None:
        self._write(session, kind="handoff", status=str(handoff.status), queue=handoff.queue_name)

    @hookimpl
    def on_session_end(self, session: Session, reason: str) -> None:  # any subset of the hook's arguments will do
        self._write(session, kind="end", reason=str(reason))

    def file_of(self, session_id: str) -> Path:
        """The file of a session. The id comes from the server, so nothing in it may lead out of the folder."""
        return self.folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', session_id)}.jsonl"

    def _write(self, session: Session, **line: object) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.file_of(session.session_id).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
