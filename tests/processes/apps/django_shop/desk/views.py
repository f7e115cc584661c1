"""A conversation for each visitor."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt

from desk.apps import client
from polyai_sync import SessionState

if TYPE_CHECKING:
    from django.http import HttpRequest

VERSION = 1

kept = []


@csrf_exempt
def ask(request: HttpRequest) -> JsonResponse:
    """Answer one question, of a new visitor or of one who is known."""
    asked = json.loads(request.body)
    known = asked["state"]
    with client.resume_session(SessionState.from_json(known)) if known else client.start_session() as session:
        answer = session.ask(asked["text"]).text
        state = session.state.to_json()
        return JsonResponse(
            {"answer": answer, "id": session.session_id, "state": state, "worker": os.getpid(), "version": VERSION}
        )


def keep(request: HttpRequest) -> JsonResponse:
    """Leave a session open, as a careless site might."""
    kept.append(client.start_session())
    return JsonResponse({"id": kept[-1].session_id, "worker": os.getpid()})
