"""A shop's web service in Flask: one client for all of it, and a conversation for each visitor."""

from __future__ import annotations

import os
import threading
from typing import Any

from flask import Flask, request

from polyai_sync import Client, SessionState

client = Client()
app = Flask(__name__)

#: With this variable set the module is used as soon as it is imported: under ``--preload`` that is before the fork.
early = client.start_session() if "SHOP_EARLY" in os.environ else None
if early is not None:
    early.ask("before the fork")


@app.post("/ask")
def ask() -> dict[str, Any]:
    """Answer one question, of a new visitor or of one who is known."""
    known = request.json["state"]
    with client.resume_session(SessionState.from_json(known)) if known else client.start_session() as session:
        answer = session.ask(request.json["text"]).text
        return {"answer": answer, "id": session.session_id, "state": session.state.to_json(), "worker": os.getpid()}


@app.get("/early")
def inherited() -> dict[str, Any]:
    """What a worker has of the conversation that the master holds."""
    assert early is not None
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("polyai-")]
    return {"status": early.status.value, "said": [message.text for message in early.messages], "threads": threads}
