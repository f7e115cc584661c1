"""``polyai-sync ask``: one question, one answer."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import attrs

from polyai_sync.cli.failures import DONE, CommandError
from polyai_sync.cli.service import Service
from polyai_sync.cli.text import clean, one_line
from polyai_sync.errors import PolyAIError
from polyai_sync.messages import HandoffStatus

if TYPE_CHECKING:
    import argparse

    from polyai_sync.cli.output import Output
    from polyai_sync.messages import Attachment, Handoff, Message, Reply

__all__ = ["run"]


def run(options: argparse.Namespace, output: Output) -> int:
    """Ask, print the answer, end the session."""
    service = Service.of(options, output)
    service.check()
    text = sys.stdin.read() if options.text == ["-"] else " ".join(options.text)
    if not text.strip():
        raise CommandError("The question is empty: give a text, or - to read it from standard input.")
    limit = {} if options.timeout is None else {"timeout": options.timeout}
    with service.client() as client, client.start_session() as session:
        started = time.monotonic()
        try:
            reply = session.ask(text, settle=options.settle, **limit)
        except PolyAIError:
            with contextlib.suppress(PolyAIError):  # what went wrong first is what is told
                session.end(timeout=1.0)
            raise
        seconds = time.monotonic() - started
        if options.json:
            output.json(_document(reply, session.session_id, seconds))
        else:
            _show(reply, output)
        session.end()
    return DONE


def _show(reply: Reply, output: Output) -> None:
    text = clean(reply.plain_text())
    for line in (*text.splitlines(), *map(_link, reply.attachments)):
        output.row(line)
    if reply.handoff is not None:
        output.complain(f"polyai-sync: {_about_handoff(reply.handoff)}")
    if not reply.complete:
        output.complain("polyai-sync: the answer is not whole; the session ended before its end came")


def _link(attachment: Attachment) -> str:
    title = one_line(attachment.title or attachment.call_to_action_text)
    url = one_line(attachment.content_url or attachment.preview_image_url)
    return f"{title}: {url}" if title and url else title or url


def _about_handoff(handoff: Handoff) -> str:
    queue = f" to {one_line(handoff.queue_name)}" if handoff.queue_name else ""
    if handoff.status == HandoffStatus.CLIENT_REQUIRED:
        route = f", at {one_line(handoff.route)}" if handoff.route else ""
        return f"the agent wants the conversation handed over{queue}{route}"
    return f"the agent hands the conversation over{queue} ({handoff.status}); polyai-sync chat can wait for the person"


def _document(reply: Reply, session_id: str, seconds: float) -> dict[str, Any]:
    return {
        "text": reply.text,
        "plain_text": reply.plain_text(),
        "messages": [_message(message) for message in reply.messages],
        "attachments": [attrs.asdict(item) for item in reply.attachments],
        "suggestions": [attrs.asdict(item) for item in reply.suggestions],
        "handoff": None if reply.handoff is None else attrs.asdict(reply.handoff),
        "ended": reply.ended,
        "complete": reply.complete,
        "session_id": session_id,
        "seconds": round(seconds, 3),
    }


def _message(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "message_id": message.message_id,
        "text": message.text,
        "plain_text": message.plain_text(),
        "agent_name": message.agent_name,
        "attachments": [attrs.asdict(item) for item in message.attachments],
        "suggestions": [attrs.asdict(item) for item in message.suggestions],
        "call_actions": [attrs.asdict(item) for item in message.call_actions],
        "complete": message.complete,
        "sequence": message.sequence,
        "timestamp": None if message.timestamp is None else message.timestamp.isoformat(),
    }
