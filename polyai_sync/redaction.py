"""Keeping tokens out of whatever a person or a log may see.

Two nets, because each has holes. *By value*: a token that is known is masked wherever it stands, also inside a
server's own sentence, percent-encoded or JSON-escaped. *By shape*: a token that is not known is masked where it
looks like one: the value of a ``…token`` field, what follows ``Bearer``, a JWT, the user part of a URL.

A known value shorter than `SHORTEST` characters is not masked by value: it would tear holes into ordinary text, and a
secret that short is none. Masking by shape does not look at the length.

Everything here is pure, and takes anything without raising (``architecture.md`` "Secrets", ``pitfalls.md`` 31).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

if TYPE_CHECKING:
    from polyai_sync.config import Secret

__all__ = ["MASK", "SHORTEST", "Redactor", "redact_url"]

MASK: Final = "***"
SHORTEST: Final = 6

#: A decoded text may hold another encoding (a URL in a JSON body in a log line): how many are undone.
_DECODING_ROUNDS: Final = 3

#: Beyond this an ``int`` has more digits than Python turns into text, and `Redactor.json` masks it unseen.
_LARGEST_INT_BITS: Final = 4096

#: Fields whose whole value is a secret; so is every field whose name ends with ``token``.
_SECRET_FIELDS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "jwt"})

# A word that stands in the lower-cased text wherever the pattern can match, the pattern, its replacement. The word
# spares nearly every text the pattern. None of the patterns backtracks over more than one field. They are text, not
# compiled: `re` compiles and keeps them at their first use, and importing this costs half as much.
_SHAPES: Final = (
    # access_token=… and token=… in a query, percent-encoded as a whole or not
    ("token", r"(?i)(token(?:=|%3D))(?:(?!%26)[^&\s\"'<>#,;\\])+", rf"\1{MASK}"),
    # "access_token": "…", also with escaped quotes, and Python's repr of a dict
    ("token", r"(?i)(token\\*[\"']\s*:\s*b?\\*[\"'])(?:[^\"'\\]|\\(?!\\{0,8}[\"']))+", rf"\1{MASK}"),
    # X-Token: …
    ("x-token", r"(?i)(x-token\s*[:=]\s*)(?!\*{3})[^\s\"',;\\]+", rf"\1{MASK}"),
    # Authorization: Basic …, Proxy-Authorization: Digest …
    (
        "authorization",
        r"(?i)(authorization\\*[\"']?\s*:\s*\\*[\"']?(?:Basic|Digest|Negotiate|NTLM)\s+)[^\s\"',\\]+",
        rf"\1{MASK}",
    ),
    # Bearer …, unless the next word only speaks of one ("Bearer token required")
    (
        "bearer",
        (
            r"(?i)(bearer(?:\s|%20|\+)+)"
            r"(?!(?:tokens?|auth|authentication|authorization|scheme|format|headers?|realm|error|is|or|and)(?![\w.~+/-]))"
            r"[^\s\"'`<>,;\\]+"
        ),
        rf"\1{MASK}",
    ),
    # a JWT, also one that was cut off
    ("eyj", r"(?a)eyJ[\w-]*\.[\w-]+\.[\w-]*|eyJ[\w-]{16,}(?:\.[\w-]*)?", MASK),
    # scheme://user:password@host
    ("://", r"(://)[^/?#\s\"'<>]*@", rf"\1{MASK}@"),
)

_ENCODED_BYTE: Final = "%[0-9A-F]{2}"
_JSON_ESCAPE: Final = r"\\(?:u([0-9a-fA-F]{4})|([\"\\/]))"


class Redactor:
    """Masks known secrets by value, and unknown ones by shape.

    Args:
        *secrets: Tokens, as text or as a ``Secret``. ``None`` and values shorter than `SHORTEST` are passed over.
    """

    __slots__ = ("_numeric", "_secrets", "_variants")

    def __init__(self, *secrets: str | Secret | None) -> None:
        values = {
            value
            for secret in secrets
            if secret is not None and len(value := secret if isinstance(secret, str) else secret.reveal()) >= SHORTEST
        }
        self._secrets: tuple[str, ...] = tuple(values)
        # The longest first: a secret may be part of another.
        self._variants: tuple[str, ...] = tuple(sorted({v for s in values for v in _written(s)}, key=_by_length))
        self._numeric: bool = any(not value.strip("0123456789.-+eE") for value in values)

    def adding(self, *secrets: str | Secret | None) -> Redactor:
        """A new redactor that knows these secrets too, such as an access token just minted."""
        return Redactor(*self._secrets, *secrets)

    def text(self, value: object) -> str:
        """The text without its secrets.

        Args:
            value: Text; bytes are read as UTF-8, anything else through ``str()``.

        Returns:
            The text with `MASK` for each secret. Where a known secret was hidden under an unusual encoding, the text
            comes back decoded: better another spelling than the secret.
        """
        if isinstance(value, str):
            text = value
        elif isinstance(value, (bytes, bytearray, memoryview)):
            text = bytes(value).decode("utf-8", "replace")
        else:
            text = _str(value)
        text = self._by_value(text)
        if self._secrets and ("%" in text or "\\" in text):
            text = self._decoded(text)
        lowered = text.lower()
        for word, pattern, replacement in _SHAPES:
            if word in lowered:
                text = re.sub(pattern, replacement, text)
        return text

    def clip(self, value: object, limit: int) -> str:
        """The text without its secrets, at most ``limit`` bytes long as UTF-8.

        Masks first and cuts then, so that no cut lays half a token bare; a token that whoever read the text has
        already cut off at its end is masked too.
        """
        text = self.text(value)
        size = len(value) if isinstance(value, (str, bytes, bytearray, memoryview)) else len(text)
        if size >= limit:
            text = self._without_torn_end(text)
        return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")

    def json(self, value: Any) -> Any:
        """A copy of a JSON value without its secrets, in keys and values, however deep.

        The text under a key that names a secret (``access_token``, ``X-Token``, ``Authorization``) is masked whole.
        Tuples and sets become lists, bytes and objects foreign to JSON become text, a container met twice is copied
        once.
        """
        result: list[Any] = []
        copies: dict[int, Any] = {}
        # A loop, not a recursion: depth is in the hands of whoever sent it. `held` keeps what was met alive, so that
        # ids stay unique.
        held: list[Any] = []
        todo: list[tuple[Any, Any]] = [([value], result)]
        while todo:
            source, target = todo.pop()
            if isinstance(target, dict):
                for key, item in source.items():
                    name = (
                        key if key is None else self._number(key) if isinstance(key, (int, float)) else self.text(key)
                    )
                    if isinstance(item, (str, bytes)) and _names_secret(key):
                        target[name] = MASK if item else item
                    else:
                        target[name] = self._copy(item, copies, todo, held)
            else:
                target.extend(self._copy(item, copies, todo, held) for item in source)
        return result[0]

    def _copy(self, item: Any, copies: dict[int, Any], todo: list[tuple[Any, Any]], held: list[Any]) -> Any:
        """What stands for ``item`` in the copy: itself masked, or an empty container that ``todo`` will fill."""
        if item is None:
            return item
        if isinstance(item, (int, float)):
            return self._number(item)
        if not isinstance(item, (Mapping, list, tuple, set, frozenset)):
            return self.text(item)
        if id(item) not in copies:
            held.append(item)
            copies[id(item)] = {} if isinstance(item, Mapping) else []
            todo.append((item, copies[id(item)]))
        return copies[id(item)]

    def _number(self, number: float) -> Any:
        if not self._numeric or isinstance(number, bool):
            return number
        if isinstance(number, int) and number.bit_length() > _LARGEST_INT_BITS:
            return MASK
        text = str(number)
        masked = self.text(text)
        return number if masked == text else masked

    def _decoded(self, text: str) -> str:
        """``text`` as it is, or decoded and masked where an encoding hid a secret."""
        while (reading := self._revealing(text)) is not None:  # ends: masking makes the text shorter
            text = self._by_value(reading)
        return text

    def _revealing(self, text: str) -> str | None:
        """A decoding of ``text`` in which a secret can be read, or ``None``."""
        readings = [text]
        for _ in range(_DECODING_ROUNDS):
            # In every order: a secret that holds a percent sign or a backslash itself is spoiled by the wrong one.
            decoded = (decode(reading) for reading in readings for decode in _DECODERS)
            readings = list(dict.fromkeys((*readings, *decoded)))
            for reading in readings:
                if any(secret in reading for secret in self._secrets):
                    return reading
        return None

    def _by_value(self, text: str) -> str:
        for variant in self._variants:
            if variant in text:
                text = text.replace(variant, MASK)
        return text

    def _without_torn_end(self, text: str) -> str:
        for secret in self._secrets:
            start = max(0, len(text) - len(secret))
            while (start := text.find(secret[:SHORTEST], start)) >= 0:
                if secret.startswith(text[start:]):
                    return text[:start] + MASK
                start += 1
        return text

    def __repr__(self) -> str:
        return f"Redactor({len(self._secrets)} secrets)"


def redact_url(url: object) -> str:
    """The URL without tokens and passwords; path, host and harmless parameters stay.

    Args:
        url: A URL, well-formed or not.

    Returns:
        The URL with `MASK` for the value of every parameter whose name ends with ``token``, for the user part, and
        for whatever else looks like a token.
    """
    text = url.decode("utf-8", "replace") if isinstance(url, bytes) else _str(url)
    head, mark, rest = text.partition("?")
    query, hash_mark, fragment = rest.partition("#")
    text = head + mark + _redact_query(query) + hash_mark + _redact_query(fragment)
    return _BY_SHAPE.text(text)


def _redact_query(query: str) -> str:
    pairs = query.split("&")
    for index, pair in enumerate(pairs):
        name, equals, value = pair.partition("=")
        if value and _names_secret(unquote(name)):
            pairs[index] = name + equals + MASK
    return "&".join(pairs)


def _names_secret(key: object) -> bool:
    if not isinstance(key, str):
        return False
    name = key.strip().lower()
    return name.endswith("token") or name in _SECRET_FIELDS


def _written(secret: str) -> set[str]:
    """How a secret is usually written down; `Redactor._decoded` catches the rest."""
    encoded = quote(secret, safe="", errors="surrogatepass")
    return {
        secret,
        json.dumps(secret)[1:-1],
        encoded,
        re.sub(_ENCODED_BYTE, lambda byte: byte[0].lower(), encoded),
        quote(secret, errors="surrogatepass"),
        quote_plus(secret, errors="surrogatepass"),
    }


def _by_length(value: str) -> tuple[int, str]:
    return -len(value), value


def _unescape(match: re.Match[str]) -> str:
    code, plain = match.groups()
    return chr(int(code, 16)) if code else plain


def _unescaped(text: str) -> str:
    return re.sub(_JSON_ESCAPE, _unescape, text) if "\\" in text else text


_DECODERS: Final = (unquote, unquote_plus, _unescaped)


def _str(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - another's __str__ may raise anything, and its error would quote the value
        return f"<{type(value).__name__}>"


_BY_SHAPE: Final = Redactor()
