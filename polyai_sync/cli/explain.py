"""``polyai-sync explain``: the catalogue."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

from polyai_sync.catalog import CATALOG, CatalogEntry, explain
from polyai_sync.cli.failures import DONE, REFUSED, CommandError
from polyai_sync.cli.text import Span

if TYPE_CHECKING:
    import argparse

    from polyai_sync.cli.output import Output

__all__ = ["run"]

_WHERE: Final = {
    "http": "any HTTP answer",
    "access_token": "POST /api/v1/access-token",
    "session_create": "POST /api/v1/sessions",
    "connect": "the WebSocket handshake",
    "websocket": "a system message in the conversation",
    "client": "this library",
}
_RANGES: Final = {300: "3xx", 400: "4xx", 500: "5xx"}


def run(options: argparse.Namespace, output: Output) -> int:
    """Explain one error, or list all."""
    text = " ".join(options.text).strip()
    if options.all == bool(text):
        raise CommandError("explain needs a text or a code, or --all. Try: polyai-sync explain agent.overloaded")
    if options.all:
        _list(options, output)
        return DONE
    entry = explain(text)
    if entry is None:
        near = _near(text)
        hint = f"The nearest are: {'; '.join(near)}." if near else "polyai-sync explain --all lists all there are."
        raise CommandError(f"No entry of the catalogue is meant by this. {hint}", REFUSED)
    if options.json:
        output.json(_document(entry))
    else:
        _show(entry, output)
    return DONE


def _document(entry: CatalogEntry) -> dict[str, Any]:
    """The entry as JSON has it."""
    return {
        "code": entry.code,
        "surface": entry.surface,
        "status": entry.status,
        "text": entry.text,
        "aliases": list(entry.aliases),
        "match": entry.match,
        "exception": entry.exception.__name__,
        "retryable": entry.retryable,
        "cause": entry.cause,
        "resolution": entry.resolution,
        "user_text": entry.user_text,
    }


def _status(entry: CatalogEntry) -> str:
    if entry.status is None:
        return "-"
    return _RANGES.get(entry.status, str(entry.status)) if entry.match == "status" else str(entry.status)


def _retryable(entry: CatalogEntry) -> str:
    return "yes, by a program" if entry.retryable else "no, not by a program"


def _list(options: argparse.Namespace, output: Output) -> None:
    if options.json:
        output.json([_document(entry) for entry in CATALOG])
        return
    output.table(
        ("CODE", "STATUS", "RETRY", "WHAT HAPPENED"),
        [(entry.code, _status(entry), "yes" if entry.retryable else "no", entry.cause) for entry in CATALOG],
    )


def _show(entry: CatalogEntry, output: Output) -> None:
    output.row(Span(entry.code, "strong"), Span(f"  {entry.exception.__name__}"))
    status = f", HTTP {_status(entry)}" if entry.status is not None else ""
    output.paragraph("Where", f"{_WHERE[entry.surface]}{status}")
    if entry.text:
        output.paragraph("Says", " / ".join((entry.text, *entry.aliases)) + (" …" if entry.match == "prefix" else ""))
    output.paragraph("Cause", entry.cause)
    output.paragraph("What to do", entry.resolution)
    output.paragraph("Try again", _retryable(entry))
    output.paragraph("For users", entry.user_text)
    if others := [other.code for other in CATALOG if other is not entry and entry.text and other.text == entry.text]:
        output.paragraph("See also", f"{', '.join(others)}: the same words, from somewhere else")


def _near(text: str) -> list[str]:
    names = {name.casefold(): entry for entry in CATALOG for name in (entry.code, entry.text, *entry.aliases) if name}
    names |= {entry.code.partition(".")[2]: entry for entry in CATALOG}
    found = difflib.get_close_matches(text.casefold(), names, n=3, cutoff=0.5)
    return list(dict.fromkeys(names[name].code for name in found))
