"""Reading an HTTP refusal: the server's words in its body, ``Retry-After``, and the exception they make.

The documentation gives the texts of errors and not the JSON around them, so every place where a text is likely is
looked at (protocol.md §2, "Error bodies"). Nothing here raises on any input.
"""

from __future__ import annotations

import json
import math
import re
import sys
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from polyai_sync.catalog import is_known_http_text, make_error, match_http
from polyai_sync.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polyai_sync.errors import PolyAIError

__all__ = ["BODY_LIMIT", "MESSAGE_LIMIT", "error_from_response", "error_texts", "parse_retry_after"]

#: Bytes of a body that an error keeps.
BODY_LIMIT: Final = 8192

#: Bytes of it that become the message.
MESSAGE_LIMIT: Final = 512

_FIELDS: Final = ("message", "error", "detail", "error_message")
_DEEPEST: Final = 3
_SECONDS: Final = r"(?a)\+?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_TITLE: Final = r"(?i)<title[^>]{0,200}>([^<]{0,500})</title"


def error_from_response(
    surface: str,
    status: int,
    body_text: str | bytes | None,
    *,
    retry_after: float | None = None,
    request_id: str | None = None,
    redactor: Redactor | None = None,
) -> PolyAIError:
    """The exception for an HTTP answer that is a refusal.

    Args:
        surface: ``access_token``, ``session_create`` or ``connect``.
        status: The HTTP status.
        body_text: The body as far as it was read; at best somewhat more than `BODY_LIMIT`, so that a token at the
            limit is seen whole.
        retry_after: Seconds, from `parse_retry_after`.
        request_id: The server's correlation id.
        redactor: Knows the tokens in use. They are masked in the message, the body and the request id.

    Returns:
        The exception, not raised. Its ``message`` is the server's text on one line; where the body holds none (empty,
        a proxy's HTML page without a title), the catalogue's.
    """
    redactor = redactor or Redactor()
    texts = error_texts(body_text)
    text = next((text for text in texts if is_known_http_text(surface, text)), texts[0] if texts else "")
    return make_error(
        match_http(surface, status, text),
        " ".join(redactor.clip(_readable(text), MESSAGE_LIMIT).split()),
        surface=surface,
        status=status,
        retry_after=retry_after,
        request_id=None if request_id is None else redactor.clip(request_id, MESSAGE_LIMIT),
        body=None if body_text is None else redactor.clip(body_text, BODY_LIMIT),
    )


def error_texts(body: str | bytes | None) -> list[str]:
    """The texts in a body that may be the server's word on the error, the likeliest first.

    Where it is JSON: ``message``, ``error``, ``detail``, ``error_message``, each of which may hold an object with
    such fields again. Where there are none of these, or it is no JSON, the whole body.
    """
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    text = text.lstrip("\ufeff").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    found = list(dict.fromkeys(filter(None, map(str.strip, _texts(value, 0)))))
    return found or ([text] if text else [])


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and depth < _DEEPEST:
        for name in _FIELDS:
            yield from _texts(value.get(name), depth + 1)


def _readable(text: str) -> str:
    """The text, or what a page of HTML calls itself: its markup tells a developer nothing."""
    if not text.startswith("<"):
        return text
    title = re.search(_TITLE, text)
    return title[1] if title else ""


def parse_retry_after(value: object, now: float) -> float | None:
    """Seconds to wait, from a ``Retry-After`` header.

    Args:
        value: Delta-seconds, fractions tolerated, or an HTTP date.
        now: The time of day as ``time.time()`` gives it, for a date.

    Returns:
        A finite number of seconds, 0 or more; ``None`` for what is absent, broken, negative, past or no number. A
        huge number stays one: the policy judges it.
    """
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if not isinstance(value, str):
        return None
    text = value.strip()
    if re.fullmatch(_SECONDS, text):
        return min(float(text), sys.float_info.max)
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:  # "-0000": UTC whose place is not told
            date = date.replace(tzinfo=timezone.utc)
        seconds = date.timestamp() - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None  # "broken counts as absent", protocol.md §2
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
