"""The library's log records on standard error: warnings about plugins always, everything with ``--debug``."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["logging_to"]


class _Handler(logging.Handler):
    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record))


@contextmanager
def logging_to(write: Callable[[str], None], *, debug: bool) -> Iterator[None]:
    """Hand the library's records to ``write``, a line each (a traceback makes it more), for a while.

    Args:
        write: Called on whatever thread logs.
        debug: Everything; else only that a plugin was skipped or has failed.
    """
    handler = _Handler(write)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s" if debug else "%(message)s")
    )
    logger = logging.getLogger("polyai_sync" if debug else "polyai_sync.plugins")
    level = logger.level
    logger.addHandler(handler)
    if debug:
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
