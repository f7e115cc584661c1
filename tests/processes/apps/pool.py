"""A conversation that is handed from process to process: ``python -m pool METHOD``."""

from __future__ import annotations

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from polyai_sync import Client, PolyAIError, SessionState

client = Client()


def go_on(kept: str, text: str) -> tuple[str, str, int]:
    """Ask one more question: the answer, what to keep, and who asked."""
    with client.resume_session(SessionState.from_json(kept)) as session:
        return session.ask(text).text, session.state.to_json(), os.getpid()


def begin() -> None:
    """Start a conversation that the service does not want."""
    client.start_session()


def main() -> None:
    """Begin here, go on elsewhere, and finish here."""
    session = client.start_session()
    session.ask("here")
    kept = session.state.to_json()
    context = multiprocessing.get_context(sys.argv[1])
    for number in range(3):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            said, kept, process = pool.submit(go_on, kept, f"elsewhere {number}").result()
            assert (said, process != os.getpid()) == (f"You said: elsewhere {number}", True)
    assert session.ask("here again").text == "You said: here again"
    print("now refuse", flush=True)
    sys.stdin.readline()
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        error = pool.submit(begin).exception()
    assert isinstance(error, PolyAIError)
    print(error.code, error.status, len(error.resolution) > 0)
    assert session.end() == "REASON_USER_END"


if __name__ == "__main__":
    main()
