"""A shop's background work: one client for the worker, a conversation for each task.

Run as a program, this asks for the work: each argument is a call, ``TASK:TEXT``, and each line printed its outcome.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from polyai_sync import Client

client = Client()
app = Celery("shop", broker=os.environ["SHOP_REDIS"], backend=os.environ["SHOP_REDIS"])
app.conf.update(accept_content=["json"], worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)

#: With this variable set the module is used as soon as it is imported: in the worker that is before the fork.
early = client.start_session() if "SHOP_EARLY" in os.environ else None
if early is not None:
    early.ask("before the fork")


@app.task
def ask(text: str) -> dict[str, Any]:
    """One question of one conversation."""
    with client.start_session() as session:
        return {"answer": session.ask(text).text, "id": session.session_id, "worker": os.getpid()}


@app.task(soft_time_limit=1)
def ask_in_time(text: str) -> dict[str, Any]:
    """The same, and Celery interrupts it after a second."""
    with client.start_session() as session:
        try:
            return {"answer": session.ask(text, timeout=None).text, "worker": os.getpid()}
        except SoftTimeLimitExceeded:
            return {"answer": session.ask("Are you still there?").text, "worker": os.getpid()}


@app.task
def inherited(_: str) -> dict[str, Any]:
    """What a pool's process has of the conversation that the worker holds."""
    assert early is not None
    return {"status": early.status.value, "worker": os.getpid()}


def main() -> None:
    """Ask for the work, all of it at once."""
    calls = [call.partition(":") for call in sys.argv[1:]]
    results = [app.send_task(f"tasks.{task}", [text]) for task, _, text in calls]
    for result in results:
        try:
            outcome = result.get(timeout=30)
        except Exception as error:  # to be shown as it came across
            outcome = {"raised": [type(error).__module__, type(error).__name__, str(error)]}
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
