"""Tokens stay out of what a person or a log may see (pitfalls.md 31)."""

from __future__ import annotations

import json
import string
import time
from collections.abc import Mapping
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyai_sync.redaction import MASK, SHORTEST, Redactor, redact_url

TOKEN = 'ct_9f/2a+b"c\\d=e'
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"

# What a token may be made of (config.py), less the mask's own character.
tokens = st.text(alphabet=string.ascii_letters + string.digits + "-._~+/=%\\\"'&#?!:;,<>@", min_size=SHORTEST)
around = st.text(max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def every_byte_encoded(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def every_character_escaped(text: str) -> str:
    return "".join(f"\\u{ord(character):04X}" for character in text)


WRITTEN = {
    "as it is": str,
    "percent-encoded": lambda token: quote(token, safe=""),
    "percent-encoded but for slashes": quote,
    "percent-encoded in lower case": lambda token: "".join(
        quote(character, safe="").lower() if quote(character, safe="") != character else character
        for character in token
    ),
    "form-encoded": quote_plus,
    "percent-encoded twice": lambda token: quote(quote(token, safe=""), safe=""),
    "every byte percent-encoded": every_byte_encoded,
    "JSON-escaped": lambda token: json.dumps(token)[1:-1],
    "JSON-escaped with slashes": lambda token: json.dumps(token)[1:-1].replace("/", "\\/"),
    "JSON in JSON": lambda token: json.dumps(json.dumps(token))[1:-1],
    "every character JSON-escaped": every_character_escaped,
    "JSON-escaped, then percent-encoded": lambda token: quote(json.dumps(token)[1:-1]),
    "percent-encoded, then JSON-escaped": lambda token: json.dumps(quote(token))[1:-1],
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN.keys())
@given(token=tokens, before=around, after=around)
def test_known_token_does_not_survive_however_it_is_written(written, token, before, after):
    quoted = written(token)
    masked = Redactor(token).text(f"{before} {quoted} {after}")
    assert quoted not in masked
    assert token not in masked
    assert token not in unquote(masked)


def test_two_tokens_hidden_in_different_ways_are_both_masked():
    hidden = f"{every_byte_encoded('first-secret')} {every_character_escaped('other-secret')}"
    assert Redactor("first-secret", "other-secret").text(hidden) == f"{MASK} {MASK}"


def test_text_around_a_token_is_kept():
    assert Redactor(TOKEN).text(f"Token {TOKEN} does not exist") == f"Token {MASK} does not exist"


def test_text_without_secrets_comes_back_unchanged():
    for text in ("100% of \\n it", "caf\u00e9 %41", '{"path": "a\\/b"}', "Connector token does not exist", ""):
        assert Redactor(TOKEN).text(text) == text


def test_longer_of_two_overlapping_secrets_goes_first():
    assert Redactor("abcdef", "abcdef-ghijkl").text("abcdef-ghijkl abcdef") == f"{MASK} {MASK}"


def test_values_shorter_than_six_characters_are_not_masked_by_value():
    assert Redactor("abcde").text("the abcdefinition") == "the abcdefinition"
    assert Redactor("abcdef").text("the abcdefinition") == f"the {MASK}inition"


def test_none_and_objects_that_reveal_are_accepted_as_secrets():
    class Holder:
        def reveal(self):
            return "opaque-value"

    redactor = Redactor(None, Holder(), "another-value")
    assert redactor.text("opaque-value, another-value") == f"{MASK}, {MASK}"
    assert repr(redactor) == "Redactor(2 secrets)"


def test_adding_a_secret_gives_a_new_redactor():
    old = Redactor("first-secret")
    new = old.adding("second-secret")
    assert new.text("first-secret second-secret") == f"{MASK} {MASK}"
    assert old.text("first-secret second-secret") == f"{MASK} second-secret"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (
            "GET /ws?session_id=1&access_token=opaque&cursor=3 HTTP/1.1",
            "GET /ws?session_id=1&access_token=***&cursor=3 HTTP/1.1",
        ),
        ("url: /ws?token=opaque", "url: /ws?token=***"),
        ("next=%2Fws%3Faccess_token%3Dopaque%26cursor%3D3", "next=%2Fws%3Faccess_token%3D***%26cursor%3D3"),
        ("Authorization: Bearer opaque-1", "Authorization: Bearer ***"),
        ("authorization: bearer opaque-1, x", "authorization: bearer ***, x"),
        ("Bearer%20opaque-1", "Bearer%20***"),
        ("Proxy-Authorization: Basic dXNlcjpwYXNz", "Proxy-Authorization: Basic ***"),
        ("X-Token: opaque\r\nX-Host: example.com", "X-Token: ***\r\nX-Host: example.com"),
        (r"send: b'X-Token: opaque\r\nX-Host: a'", r"send: b'X-Token: ***\r\nX-Host: a'"),
        ("{'X-Token': 'opaque', 'X-Host': 'a'}", "{'X-Token': '***', 'X-Host': 'a'}"),
        ('{"access_token": "op\\/aque", "expires_in": 3}', '{"access_token": "***", "expires_in": 3}'),
        (r'"{\"accessToken\":\"opaque\",\"a\":1}"', r'"{\"accessToken\":\"***\",\"a\":1}"'),
        (f"token {JWT}.", "token ***."),
        (f"was cut off: {JWT[:30]}", "was cut off: ***"),
        ("proxy http://user:pa@ss@proxy.example:3128/", "proxy http://***@proxy.example:3128/"),
    ],
)
def test_unknown_secrets_are_masked_by_their_shape(text, masked):
    assert Redactor().text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "Authorization header is not in `Bearer <token>` format",
        "Bearer token required",
        "Bearer authentication is required",
        "Invalid access token: expired",
        "Missing authorization header",
        "write to someone@example.com about keyJournal",
    ],
)
def test_sentences_about_tokens_stay_readable(text):
    assert Redactor(TOKEN).text(text) == text


@given(st.binary() | st.text() | st.integers() | json_values | st.characters(categories=["Cs"]))
def test_text_takes_anything(value):
    assert isinstance(Redactor(TOKEN, "\ud800broken").text(value), str)
    assert isinstance(redact_url(value), str)


def test_object_whose_str_fails_is_named_by_its_type():
    class Odd:
        def __str__(self):
            raise RuntimeError(TOKEN)

    assert Redactor().text(Odd()) == "<Odd>"
    assert Redactor().json({"a": Odd()}) == {"a": "<Odd>"}


def test_bytes_are_read_as_utf8():
    assert Redactor("opaque-value").text(b"caf\xc3\xa9 opaque-value \xff") == f"caf\u00e9 {MASK} \ufffd"


def place(token: str, value: object) -> list[object]:
    return [token, {token: value}, {"a": [f"x{token}y", value]}, {"access_token": "opaque"}, token.encode(), (token,)]


@given(tokens, json_values)
def test_no_secret_survives_in_json(token, value):
    text = json.dumps(Redactor(token).json(place(token, value)))
    assert json.dumps(token)[1:-1] not in text
    assert "opaque" not in text


# Without these letters no text and no key looks like a secret.
plain_text = st.text(alphabet=st.characters(exclude_characters="eEtT:"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | plain_text,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain_text, inner, max_size=4),
        max_leaves=20,
    )
)
def test_json_without_secrets_is_equal_and_never_the_same_container(value):
    value = [value]
    copy = Redactor("not-to-be-found-in-there").json(value)
    assert repr(copy) == repr(value)
    assert copy is not value


def test_fields_named_for_a_secret_are_masked_whole():
    given_headers = {"X-Token": "a", "Authorization": "Bearer a", "access_token": "", "token_type": "Bearer", "n": 1}
    assert Redactor().json(given_headers) == {
        "X-Token": MASK,
        "Authorization": MASK,
        "access_token": "",
        "token_type": "Bearer",
        "n": 1,
    }


def test_numbers_that_spell_a_secret_are_masked():
    assert Redactor("12345678").json({"a": 12345678, 12345678: 1.5, "b": 7, "c": True, "d": 10**5000}) == {
        "a": MASK,
        MASK: 1.5,
        "b": 7,
        "c": True,
        "d": MASK,
    }


def test_keys_that_are_not_text_are_kept_or_become_text():
    assert Redactor("opaque-value").json({1: "a", None: "b", b"opaque-value": "c", ("x", 1): "d"}) == {
        1: "a",
        None: "b",
        MASK: "c",
        "('x', 1)": "d",
    }


def test_nesting_and_cycles_do_not_matter():
    deep: list[object] = ["opaque-value"]
    for _ in range(50_000):
        deep = [deep]
    copy = Redactor("opaque-value").json(deep)
    while isinstance(copy[0], list):
        copy = copy[0]
    assert copy == [MASK]

    cycle: dict[str, object] = {"text": "opaque-value"}
    cycle["self"] = [cycle, cycle]
    copied = Redactor("opaque-value").json(cycle)
    assert copied["text"] == MASK
    assert copied["self"][0] is copied


def test_containers_made_while_copying_are_not_mixed_up():
    class Lazy(Mapping):
        def __init__(self, depth):
            self.depth = depth

        def __iter__(self):
            return iter(range(3))

        def __len__(self):
            return 3

        def __getitem__(self, key):
            return [self.depth, key] if self.depth == 3 else Lazy(self.depth + 1)

    def wanted(depth):
        return {key: [3, key] if depth == 3 else wanted(depth + 1) for key in range(3)}

    assert Redactor().json(Lazy(0)) == wanted(0)


@given(tokens, st.integers(min_value=0, max_value=200), st.text(max_size=100))
def test_clip_masks_before_it_cuts(token, limit, before):
    clipped = Redactor(token).clip(before + token, limit)
    assert len(clipped.encode("utf-8", "replace")) <= limit
    assert token not in clipped


def test_token_torn_by_an_earlier_cut_is_masked():
    redactor = Redactor("connector-token-0123456789")
    assert redactor.clip("x" * 20 + "connector-token-01", 38) == "x" * 20 + MASK
    assert redactor.clip("the connector-token-01", 1000) == "the connector-token-01"


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        (f"wss://h/ws?session_id=1&access_token={JWT}&cursor=2", "wss://h/ws?session_id=1&access_token=***&cursor=2"),
        (
            "https://h/?access%5Ftoken=a&Token=b&x-token=c&q=token",
            "https://h/?access%5Ftoken=***&Token=***&x-token=***&q=token",
        ),
        ("https://u:p@h/a?b=c#access_token=d", "https://***@h/a?b=c#access_token=***"),
        ("https://h/a?b=c", "https://h/a?b=c"),
        ("https://[::1/ws?token=a", "https://[::1/ws?token=***"),
        (b"wss://h/ws?access_token=a", "wss://h/ws?access_token=***"),
        ("", ""),
    ],
)
def test_redact_url_masks_tokens_and_passwords_only(url, redacted):
    assert redact_url(url) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "token" + "\\" * 200_000,
        'token":"' + "\\" * 200_000,
        "eyJ" * 70_000,
        "eyJ." + "eyJ" * 70_000,
        "://" * 70_000,
        "bearer " + "+" * 200_000,
        "x-token" + " " * 200_000,
        "%" * 200_000,
        "token=" * 40_000,
    ],
    ids=range(9),
)
def test_hostile_text_takes_linear_time(text):
    redactor = Redactor(TOKEN)
    started = time.process_time()  # other processes' time is not counted
    redactor.text(text)
    assert time.process_time() - started < 2.0
