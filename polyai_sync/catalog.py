"""Looking errors up: by code, by the server's text, by status; and building the exception that an entry names.

The entries themselves are in `catalog_entries`. Texts are compared without regard to case, surrounding and repeated
white space, a typographic apostrophe or a full stop at the end: a service that rewords no more than that is still
understood.
"""

from __future__ import annotations

from typing import Any, Final

from polyai_sync.catalog_entries import CATALOG, CatalogEntry
from polyai_sync.errors import PolyAIError

__all__ = [
    "CATALOG",
    "CatalogEntry",
    "entry_for_code",
    "explain",
    "is_known_http_text",
    "make_error",
    "match_http",
    "match_system_message",
]

#: What a handshake's status means whatever the text (error-codes.md, "HTTP, by status").
_HANDSHAKE: Final = {
    401: "connect.authentication_failed",
    403: "connect.authentication_failed",
    404: "connect.session_not_found",
}

#: What a status means where the text says nothing more; `_http_by_status` knows the ranges around them.
_HTTP: Final = {
    401: "http.unauthorized",
    403: "http.unauthorized",
    404: "http.not_found",
    429: "http.rate_limited",
}
_HTTP_RANGES: Final = {3: "http.redirected", 4: "http.bad_request", 5: "http.server_error"}

#: A WebSocket close code that says what an HTTP answer to a handshake would have (protocol.md §3).
_CLOSE_CODES: Final = {4001: "connect.session_not_found"}


def _key(text: object) -> str:
    """The form in which texts are compared."""
    if not isinstance(text, str):
        return ""
    return " ".join(text.replace("\u2019", "'").split()).rstrip(".").casefold()


_BY_CODE: Final = {entry.code: entry for entry in CATALOG}
_BY_SURFACE_AND_TEXT: Final = {
    (entry.surface, _key(text)): entry
    for entry in CATALOG
    if entry.text and entry.match == "exact"
    for text in (entry.text, *entry.aliases)
}
_PREFIXES: Final = tuple((_key(entry.text), entry) for entry in CATALOG if entry.text and entry.match == "prefix")

# Without a surface the first row wins: reversed, so that it is the last one written.
_BY_TEXT: Final = {key: entry for (_, key), entry in reversed(_BY_SURFACE_AND_TEXT.items())}
_BEGINNINGS: Final = (*_BY_TEXT.items(), *_PREFIXES)
_BY_CLASS: Final = {entry.exception.__name__.casefold(): entry.exception.default_code for entry in CATALOG}


def entry_for_code(code: str) -> CatalogEntry | None:
    """The entry of a code such as ``"connect.session_not_found"``, or ``None``."""
    return _BY_CODE.get(code)


def match_http(surface: str, status: int, text: str) -> CatalogEntry:
    """The entry for an HTTP answer that is a refusal.

    The text decides before the status, with two exceptions that keep a live conversation from being thrown away
    (pitfalls.md 1): on the handshake the status has the last word, and a 429 or a redirect is always one.

    Args:
        surface: ``access_token``, ``session_create`` or ``connect``.
        status: The HTTP status.
        text: The server's words, as found in the body; may be empty.

    Returns:
        The entry of the text, else that of the status; ``client.protocol`` for a status that refuses nothing.
    """
    if surface == "connect" and status in _HANDSHAKE:
        return _BY_CODE[_HANDSHAKE[status]]
    entry = _BY_SURFACE_AND_TEXT.get((surface, _key(text)))
    if entry is None or (entry.status != status and (surface == "connect" or status == 429 or status < 400)):
        return _http_by_status(status)
    return entry


def is_known_http_text(surface: str, text: str) -> bool:
    """Has the catalogue a row for this text on this surface?"""
    return (surface, _key(text)) in _BY_SURFACE_AND_TEXT


def _http_by_status(status: int) -> CatalogEntry:
    return _BY_CODE[_HTTP.get(status) or _HTTP_RANGES.get(status // 100, "client.protocol")]


def match_system_message(text: str) -> CatalogEntry:
    """The entry for a system message of level error; ``system.unknown`` where no row has its text."""
    key = _key(text)
    if entry := _BY_SURFACE_AND_TEXT.get(("websocket", key)):
        return entry
    return next((entry for prefix, entry in _PREFIXES if key.startswith(prefix)), _BY_CODE["system.unknown"])


def make_error(entry: CatalogEntry | str, message: str = "", **seen: Any) -> PolyAIError:
    """The exception that an entry names, carrying the entry's facts and all that was seen.

    Args:
        entry: An entry, or its code.
        message: The server's text, where it gave one; masked already. It is kept as it is, and where the entry's own
            text is meant for the end user it becomes ``user_text`` too.
        **seen: Attributes of the exception: ``status``, ``surface``, ``retry_after``, ``event`` …; what is ``None``
            counts as not seen.

    Raises:
        LookupError: There is no such code.
    """
    if isinstance(entry, str):
        found = _BY_CODE.get(entry)
        if found is None:
            raise LookupError(f"the catalogue has no code {entry!r}")
        entry = found
    attributes: dict[str, Any] = {
        "code": entry.code,
        "surface": entry.surface,
        "retryable": entry.retryable,
        "resolution": entry.resolution,
        "user_text": message.strip() if message.strip() and entry.user_text == entry.text else entry.user_text,
    }
    attributes.update((name, value) for name, value in seen.items() if value is not None)
    return entry.exception(message, **attributes)


def explain(what: object) -> CatalogEntry | None:
    """The entry for whatever a developer has in hand.

    Args:
        what: An exception, a code (``"agent.overloaded"``), a server's text (also with more behind it, as in a log
            line), the name of an exception class, an HTTP status or the close code 4001 (number or text).

    Returns:
        The entry, or ``None``. A text that stands in two rows gives the first one; the exception knows better.
    """
    if isinstance(what, PolyAIError):
        return entry_for_code(what.code)
    if isinstance(what, type) and issubclass(what, PolyAIError):
        return entry_for_code(what.default_code)
    if isinstance(what, int) and not isinstance(what, bool):
        return _explain_number(what)
    if not isinstance(what, str):
        return None
    key = _key(what)
    if entry := _BY_CODE.get(key) or _BY_TEXT.get(key) or _BY_CODE.get(_BY_CLASS.get(key, "")):
        return entry
    number = key.removeprefix("http").strip()
    if number.isdecimal() and len(number) <= 4:
        return _explain_number(int(number))
    return next((entry for beginning, entry in _BEGINNINGS if key.startswith(beginning)), None)


def _explain_number(number: int) -> CatalogEntry | None:
    if number in _CLOSE_CODES:
        return _BY_CODE[_CLOSE_CODES[number]]
    return _http_by_status(number) if number // 100 in _HTTP_RANGES else None
