"""Message text (Markdown and a little HTML, `protocol.md` §6) as plain text.

A message may be a mebibyte of whatever a server likes to send, so every pattern here stops at the next mark of its own
kind: the time grows with the text, never with its square.
"""

from __future__ import annotations

import re
from html import unescape

__all__ = ["to_plain_text"]

_TAG = re.compile(r"<(/?)(a|br|b|i|em|strong|p|ul|ol|li|code)(?=[\s/>])([^<>]*)>", re.IGNORECASE)
_TARGET = re.compile(r"""(?:^|\s)href\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE)
_OPENING = {"br": "\n", "p": "\n\n", "ul": "\n", "ol": "\n", "li": "\n- "}
_CLOSING = {"p": "\n", "ul": "\n", "ol": "\n"}


def _heading(match: re.Match[str]) -> str:
    """The heading without the marks that may close it, which a blank sets apart: "C#" keeps its own."""
    heading = match[1].strip(" \t")
    bare = heading.rstrip("#")
    return bare.rstrip(" \t") if not bare or bare[-1] in " \t" else heading


_TITLE = r"(?:\s+\"[^\"\n]*\")?"
_URL = r"[^()\s]*(?:\([^()\s]*\)[^()\s]*)?"

# In this order: what holds other marks comes before the marks it holds.
_MARKDOWN = (
    (re.compile(r"^[ \t]*```[^`\n]*(?:\n|\Z)", re.MULTILINE), ""),
    (re.compile(rf"!\[([^\[\]\n]*)\]\({_URL}{_TITLE}\)"), r"\1"),
    (re.compile(rf"\[([^\[\]\n]+)\]\((?=[^()\s])({_URL}){_TITLE}\)"), r"\1 (\2)"),
    (re.compile(r"^ {0,3}#{1,6}[ \t]+(.*)$", re.MULTILINE), _heading),
    (re.compile(r"^ {0,3}>[ \t]?", re.MULTILINE), ""),
    (re.compile(r"^([ \t]*)[*+][ \t]+", re.MULTILINE), r"\1- "),
    (re.compile(r"^ {0,3}(?:[-*_][ \t]*){3,}$", re.MULTILINE), ""),
    (re.compile(r"(?<!\\)\*\*(?=[^\s*])((?:[^*\n]|\*(?!\*))+?)(?<=\S)\*\*"), r"\1"),
    (re.compile(r"(?<![\\\w])__(?=[^\s_])((?:[^_\n]|_(?!_))+?)(?<=\S)__(?!\w)"), r"\1"),
    (re.compile(r"(?<![\\*\w])\*(?=[^\s*])([^*\n]+?)(?<=\S)\*(?![*\w])"), r"\1"),
    (re.compile(r"(?<![\\_\w])_(?=[^\s_])([^_\n]+?)(?<=\S)_(?![_\w])"), r"\1"),
    (re.compile(r"~~(?=[^\s~])((?:[^~\n]|~(?!~))+?)(?<=\S)~~"), r"\1"),
    (re.compile(r"(?<!`)(`+)([^`\n]+)\1(?!`)"), r"\2"),
    (re.compile(r"\\([\\`*_{}\[\]()#+\-.!~>])"), r"\1"),
)
_BLANK_LINES = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)+")


def to_plain_text(text: str) -> str:
    """Return ``text`` without Markdown marks and HTML tags; links keep their target in brackets.

    Only the tags that the protocol names are taken for tags: ``a < b`` stays as it is.
    """
    for pattern, replacement in _MARKDOWN:
        text = pattern.sub(replacement, text)
    return _BLANK_LINES.sub("\n\n", _without_tags(text)).strip()


def _without_tags(text: str) -> str:
    parts: list[str] = []
    target, label, end = "", 0, 0  # of the link that is open: where it leads, and where its label starts
    for tag in _TAG.finditer(text):
        parts.append(_unescaped(text[end : tag.start()]))
        end = tag.end()
        closing, name, attributes = tag[1], tag[2].lower(), tag[3]
        if name == "a":  # a link cannot hold another: the next one ends it too
            if target and target != "".join(parts[label:]).strip():
                parts.append(f" ({target})")
            found = None if closing else _TARGET.search(attributes)
            target = _unescaped(found[found.lastindex or 0]) if found else ""
            label = len(parts)
        else:
            parts.append((_CLOSING if closing else _OPENING).get(name, ""))
    parts.append(_unescaped(text[end:]))
    return "".join(parts)


def _unescaped(text: str) -> str:
    return _ENTITY.sub(lambda entity: unescape(entity[0]), text)
