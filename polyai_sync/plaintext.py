"""Message text (Markdown and a little HTML, `protocol.md` §6) as plain text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

__all__ = ["to_plain_text"]

_TAG = re.compile(r"</?(?:a|br|b|i|em|strong|p|ul|ol|li|code)\b[^<>]*>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d+|#x[0-9a-f]+|\w+);", re.IGNORECASE)
_BREAKS = {"br": "\n", "p": "\n\n", "ul": "\n", "ol": "\n", "li": "\n"}

# In this order: what holds other marks comes before the marks it holds.
_MARKDOWN = (
    (re.compile(r"^```[^\n]*\n?", re.MULTILINE), ""),
    (re.compile(r"!\[([^\]\n]*)\]\([^()\s]*(?:\s+\"[^\"\n]*\")?\)"), r"\1"),
    (re.compile(r"\[([^\]\n]+)\]\(([^()\s]+)(?:\s+\"[^\"\n]*\")?\)"), r"\1 (\2)"),
    (re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*$", re.MULTILINE), r"\1"),
    (re.compile(r"^ {0,3}>[ \t]?", re.MULTILINE), ""),
    (re.compile(r"^([ \t]*)[*+][ \t]+", re.MULTILINE), r"\1- "),
    (re.compile(r"^ {0,3}(?:[-*_][ \t]*){3,}$", re.MULTILINE), ""),
    (re.compile(r"(?<!\\)(\*\*\*|\*\*|__)(?=\S)(.+?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<![\\*\w])\*(?=[^\s*])([^*\n]+?)(?<=\S)\*(?![*\w])"), r"\1"),
    (re.compile(r"(?<![\\_\w])_(?=[^\s_])([^_\n]+?)(?<=\S)_(?![_\w])"), r"\1"),
    (re.compile(r"~~(?=\S)(.+?)(?<=\S)~~"), r"\1"),
    (re.compile(r"`([^`\n]+)`"), r"\1"),
    (re.compile(r"\\([\\`*_{}\[\]()#+\-.!~>])"), r"\1"),
)
_BLANK_LINES = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)+")


class _Stripper(HTMLParser):
    """Keeps the text; a link keeps its target, a list item its dash."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._links: list[tuple[str, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._links.append((dict(attrs).get("href") or "", len(self.parts)))
        elif tag == "li":
            self.parts.append("\n- ")
        elif tag in _BREAKS:
            self.parts.append(_BREAKS[tag])

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._links:
            target, start = self._links.pop()
            if target and target != "".join(self.parts[start:]).strip():
                self.parts.append(f" ({target})")
        elif tag in {"p", "ul", "ol"}:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def to_plain_text(text: str) -> str:
    """Return ``text`` without Markdown marks and HTML tags; links keep their target in brackets.

    Only the tags that the protocol names are taken for tags: ``a < b`` stays as it is.
    """
    for pattern, replacement in _MARKDOWN:
        text = pattern.sub(replacement, text)
    if _TAG.search(text) or _ENTITY.search(text):
        # A "<" that opens no tag of ours is text; escaped, the parser leaves it alone.
        pieces: list[str] = []
        end = 0
        for tag in _TAG.finditer(text):
            pieces += [text[end : tag.start()].replace("<", "&lt;"), tag.group()]
            end = tag.end()
        pieces.append(text[end:].replace("<", "&lt;"))
        stripper = _Stripper()
        stripper.feed("".join(pieces))
        stripper.close()
        text = "".join(stripper.parts)
    return _BLANK_LINES.sub("\n\n", text).strip()
