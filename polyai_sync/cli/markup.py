"""Message text (Markdown and a little HTML, `protocol.md` §6) as rows of styled pieces, also while it still grows."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from polyai_sync.cli.text import Span, clean, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Line", "is_web_address", "message_lines"]

_TAGS: Final = (
    (
        re.compile(
            r"<a\b[^<>]*?\bhref\s*=\s*[\"']?([^\"'\s<>]*)[^<>]*>((?:(?!</?a\b).)*)</a\s*>", re.IGNORECASE | re.DOTALL
        ),
        r"[\2](\1)",
    ),
    (re.compile(r"<br\s*/?>|</?(?:ul|ol)\s*>", re.IGNORECASE), "\n"),
    (re.compile(r"<li\b[^<>]*>", re.IGNORECASE), "\n- "),
    (re.compile(r"</p\s*>", re.IGNORECASE), "\n\n"),
    (re.compile(r"</?(?:b|strong)\s*>", re.IGNORECASE), "**"),
    (re.compile(r"</?(?:i|em)\s*>", re.IGNORECASE), "*"),
    (re.compile(r"</?code\s*>", re.IGNORECASE), "`"),
    (re.compile(r"<p\b[^<>]*>|</(?:li|a)\s*>|<a\b[^<>]*>", re.IGNORECASE), ""),
)
_TAG: Final = re.compile(r"</?(?:a|br|b|i|em|strong|p|ul|ol|li|code)\b", re.IGNORECASE)
_CUT_OFF: Final = re.compile(r"(?:</?(?:[a-zA-Z]{1,6}(?:\s[^<>]*)?)?|&[#\w]{0,8})\Z")
"""What may be the beginning of a tag or an entity, at the end of a text that still grows."""

_INLINE: Final = re.compile(
    r"\\(?P<escaped>[\\`*_{}\[\]()#+\-.!~>])"
    r"|`(?P<code>[^`]+)`"
    r"|!?\[(?P<title>[^\[\]]*)\]\((?P<target>[^()\s]*(?:\([^()\s]*\)[^()\s]*)*)(?:\s+\"[^\"]*\")?\)"
    r"|(?P<address>https?://[^\s<>\"'`]*[^\s<>\"'`.,;:!?)\]*_])"
    r"|(?P<two>\*\*|__)(?=\S)(?P<strong>.+?)(?<=\S)(?P=two)(?!\*)"
    r"|(?<![*\w])\*(?=[^\s*])(?P<star>[^*]+?)(?<=\S)\*(?![*\w])"
    r"|(?<![_\w])_(?=[^\s_])(?P<underscore>[^_]+?)(?<=\S)_(?![_\w])"
    r"|~~(?=\S)(?P<struck>.+?)(?<=\S)~~"
)
_LONGEST: Final = 2000
"""Characters of a line that is searched for marks: an unclosed mark is looked for to the end of the line."""

_HEADING: Final = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_ITEM: Final = re.compile(r"(\s*)(?:([-*+])|(\d{1,9}[.)]))[ \t]+")
_QUOTE: Final = re.compile(r" {0,3}>[ \t]?")
_RULE: Final = re.compile(r" {0,3}(?:[-*_][ \t]*){3,}$")
_FENCE: Final = re.compile(r" {0,3}(?:```|~~~)")


class Line(NamedTuple):
    """One line of a message, not wrapped yet.

    Attributes:
        lead: Stands before it (a list's mark); rows that follow are set in by its width.
        spans: Its text.
        whole: Not to be broken by us: an address that is to be copied.
    """

    lead: str
    spans: tuple[Span, ...]
    whole: bool = False


def is_web_address(text: str) -> bool:
    """May a terminal be told to open this?"""
    return bool(re.match(r"(?:https?://|mailto:|tel:)[!-~]+\Z", text))


def message_lines(text: str, *, growing: bool = False, bullet: str = "-") -> list[Line]:
    """The lines of a message; blank ones set paragraphs apart, never two together.

    Args:
        text: As it came.
        growing: More will come: the beginning of a tag at its end is held back.
        bullet: What marks an item of a list.
    """
    text = clean(text)
    if growing:
        text = _CUT_OFF.sub("", text)
    if _TAG.search(text):
        for pattern, replacement in _TAGS:
            text = pattern.sub(replacement, text)
    lines: list[Line] = []
    in_code = False
    for source in clean(html.unescape(text)).strip("\n").split("\n"):
        if _FENCE.match(source):
            in_code = not in_code
        elif in_code:
            lines.append(Line("", (Span(source, "code"),)))
        elif source.strip():
            lines.append(_line(source.rstrip(), bullet))
        elif lines and lines[-1].spans:
            lines.append(Line("", ()))
    while lines and not lines[-1].spans:
        lines.pop()
    return lines


def _line(source: str, bullet: str) -> Line:
    if _RULE.match(source):
        return Line("", (Span("---", "quiet"),))
    if heading := _HEADING.match(source):
        return Line("", tuple(_inline(heading[1], "strong")))
    lead = ""
    if quote := _QUOTE.match(source):
        lead, source = "> ", source[quote.end() :]
    if item := _ITEM.match(source):
        lead += f"{item[1]}{bullet if item[2] else item[3]} "
        source = source[item.end() :]
    return Line(lead, tuple(_inline(source, "")))


def _inline(text: str, style: str) -> Iterator[Span]:
    end = 0
    for match in _INLINE.finditer(text) if len(text) <= _LONGEST else ():
        if match.start() > end:
            yield Span(text[end : match.start()], style)
        end = match.end()
        yield from _piece(match, style)
    if end < len(text):
        yield Span(text[end:], style)


def _piece(match: re.Match[str], style: str) -> Iterator[Span]:
    kind = match.lastgroup
    inner = match[kind] if kind else ""
    if kind == "target":
        title, target = one_line(match["title"]), match["target"]
        link = target if is_web_address(target) else ""
        yield Span(title or target, "link" if link else style, link)
        if title and target and title != target:  # a terminal without links shows where it leads all the same
            yield Span(f" ({target})", "quiet", link)
    elif kind == "address":
        yield Span(inner, "link", inner)
    elif kind == "code":
        yield Span(inner, "code")
    elif kind == "escaped":
        yield Span(inner, style)
    else:
        yield from _inline(inner, _EMPHASIS[str(kind)] or style)


_EMPHASIS: Final = {"strong": "strong", "star": "emphasis", "underscore": "emphasis", "struck": ""}
