"""Keeping tokens out of the records of websocket-client.

With ``websocket.enableTrace(True)`` that library logs the whole handshake, and with it the URL that holds the access
token. The least that helps is a filter on its one logger, ``websocket``: it changes no level and no handler, masks by
shape what looks like a token, and by value those of the handshakes under way. It is put there when the first
connection is opened, stays, and does nothing to records without a token.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from polyai_sync.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["masked_records"]


class _MaskTokens(logging.Filter):
    """Rewrites records; lets all of them through."""

    def __init__(self) -> None:
        super().__init__()
        # Written without a lock, which a fork could leave held: single operations on a dict are atomic.
        self.active: dict[int, Redactor] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - another's record; logging would print it, arguments and all, to stderr
            text = "(a record that cannot be formatted)"
        for redactor in (*self.active.values(), _BY_SHAPE):
            text = redactor.text(text)
        record.msg, record.args = text, ()
        return True


_BY_SHAPE = Redactor()
_filter = _MaskTokens()


@contextmanager
def masked_records(redactor: Redactor) -> Iterator[None]:
    """Mask what ``redactor`` knows in the records of websocket-client for a while."""
    logging.getLogger("websocket").addFilter(_filter)  # once: logging knows it already the next time
    _filter.active[id(redactor)] = redactor
    try:
        yield
    finally:
        _filter.active.pop(id(redactor), None)
