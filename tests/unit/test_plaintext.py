"""A message's text without its marks: what is a mark, what is not, and that no text takes long."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polyai_sync import Message, Reply
from polyai_sync.plaintext import to_plain_text

MEBIBYTE = 2**20

MARKDOWN = [
    ("**bold** and __bold__", "bold and bold"),
    ("*slanted* and _slanted_", "slanted and slanted"),
    ("***both***", "both"),
    ("**bold *slanted* bold**", "bold slanted bold"),
    ("~~gone~~", "gone"),
    ("**two** and **two**", "two and two"),
    ("`code` and ``more code``", "code and more code"),
    ("```python\nprint(1)\n```\nafter", "print(1)\nafter"),
    ("```print(1)```", "print(1)"),
    ("# Opening hours", "Opening hours"),
    ("### Opening hours ###", "Opening hours"),
    ("# Learn C#", "Learn C#"),
    ("> said the guest", "said the guest"),
    ("* one\n+ two\n- three", "- one\n- two\n- three"),
    ("1. one\n2. two", "1. one\n2. two"),
    ("above\n\n---\n\nbelow", "above\n\nbelow"),
    ("[our menu](https://e.example/menu)", "our menu (https://e.example/menu)"),
    ('[our menu](https://e.example/menu "The menu")', "our menu (https://e.example/menu)"),
    ("[Paris](https://e.example/Paris_(Texas))", "Paris (https://e.example/Paris_(Texas))"),
    ("[**our menu**](https://e.example/menu)", "our menu (https://e.example/menu)"),
    ("![a table](https://e.example/t.png)", "a table"),
    ("[![a table](https://e.example/t.png)](https://e.example/t)", "a table (https://e.example/t)"),
    (r"\*not slanted\* and 1\. no list", "*not slanted* and 1. no list"),
]

HTML = [
    ("a<br>b<br/>c<BR />d", "a\nb\nc\nd"),
    ("<b>a</b> <i>b</i> <em>c</em> <strong>d</strong> <code>e</code>", "a b c d e"),
    ("<p>one</p><p>two</p>", "one\n\ntwo"),
    ("<ul><li>one</li><li>two</li></ul>", "- one\n- two"),
    ('<a href="https://e.example/menu">our menu</a>', "our menu (https://e.example/menu)"),
    ("<a class='x' href='https://e.example/menu'>our menu</a>", "our menu (https://e.example/menu)"),
    ("<a href=https://e.example/menu>our menu</a>", "our menu (https://e.example/menu)"),
    ('<a href="https://e.example/?a=1&amp;b=2">look</a>', "look (https://e.example/?a=1&b=2)"),
    ('<a href="https://e.example">https://e.example</a>', "https://e.example"),
    ('<a data-href="https://e.example/no">look</a>', "look"),
    ("<a>nowhere</a>", "nowhere"),
    ('<a href="https://e.example/1">one<a href="https://e.example/2">two</a>',
     "one (https://e.example/1)two (https://e.example/2)"),
    ('<a href="x>y</a> z', "y z"),
    ("salt &amp; pepper &lt;b&gt; &#8364; &#x20AC; &nbsp;x", "salt & pepper <b> € € \xa0x"),
    ("**<b>both</b>**", "both"),
]  # fmt: skip

LEFT_ALONE = [
    "",
    "A table for two?",
    "2 * 3 * 4 = 24",
    "a < b and c > d",
    "<script>alert(1)</script>",
    "<b-tree> and <article>",
    "snake_case_name and a__b__c",
    "file*.txt and *.py",
    "**a ** b",
    "5 ~~ 6",
    "[a] (b) [c]",
    "#hashtag",
    "https://e.example/?a=1&copy=2&lt=3",
    "&#; &unknown-thing; &",
    "a\n\nb",
    "Grüße, 世界 👋",
]

#: What makes a pattern that looks ahead start again and again, and what closes it never.
HOSTILE = ["*", "_", "[", "`", "<a ", "&", "#", "~"]
ALSO_HOSTILE = ["**a ", "*a ", "__a ", "_a ", "~~a ", "![", "[a](", "[a](b(", "``a`", "<", '<a href="x ', "<a href=x>"]
ALSO_HOSTILE += ["<p>", "&#9", "&amp", "# ", "\n# ", "\\", "> ", "- ", " ", "\n", " \n"]

ONCE = {
    "a heading of blanks": ("# " + " " * MEBIBYTE + "x", "x"),
    "a heading of marks": ("# " + "#" * MEBIBYTE + "x", "#" * MEBIBYTE + "x"),
    "a tag of attributes": ("<a" + " x" * 2**19 + ">y", "y"),
    "a number without end": ("&#" + "9" * MEBIBYTE + ";", "&#" + "9" * MEBIBYTE + ";"),
    "links in links": ("<a href=x>" * 2**16 + "y" + "</a>" * 2**16, " (x)" * (2**16 - 1) + "y (x)"),
}


@pytest.mark.parametrize(("text", "plain"), MARKDOWN + HTML)
def test_marks_and_tags_go_and_what_they_say_stays(text: str, plain: str) -> None:
    assert to_plain_text(text) == plain


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_only_looks_like_a_mark_is_left_alone(text: str) -> None:
    assert to_plain_text(text) == text


def test_more_than_one_blank_line_is_one() -> None:
    assert to_plain_text("a\n\n \n\t\n\nb\n\n") == "a\n\nb"


@given(st.text())
@example("&#99999999999;")
@example("&#" + "9" * 5000 + ";")
@example("&#xD800;")
def test_no_text_raises(text: str) -> None:
    assert isinstance(to_plain_text(text), str)


@given(
    st.lists(
        st.sampled_from([*HOSTILE, *ALSO_HOSTILE, "a", ")", "]", ">", '"', ";", "**", "</a>", "://", "(", "\t"])
    ).map("".join)
)
def test_no_mixture_of_marks_raises(text: str) -> None:
    assert isinstance(to_plain_text(text), str)


@given(st.text("abcxyz ,.?äß\n", max_size=60))
def test_text_without_marks_keeps_every_word(text: str) -> None:
    assert to_plain_text(text).split() == text.split()


@given(st.text("abc", min_size=1), st.sampled_from(["*{}*", "**{}**", "_{}_", "__{}__", "~~{}~~", "`{}`", "# {}"]))
def test_a_marked_word_is_the_word(word: str, mark: str) -> None:
    assert to_plain_text(mark.format(word)) == word


@pytest.mark.pitfall(33)
@pytest.mark.parametrize(
    ("mark", "size"), [(mark, MEBIBYTE) for mark in HOSTILE] + [(mark, 2**17) for mark in ALSO_HOSTILE]
)
def test_a_message_of_marks_takes_no_more_than_a_moment(mark: str, size: int) -> None:
    text = (mark * size)[:size]
    begun = time.process_time()
    to_plain_text(text)
    assert time.process_time() - begun < 5.0  # a pattern that looks on from every mark to the end takes minutes


@pytest.mark.pitfall(33)
@pytest.mark.parametrize("name", ONCE)
def test_one_mark_with_a_mebibyte_in_it_takes_no_more_than_a_moment(name: str) -> None:
    text, plain = ONCE[name]
    begun = time.process_time()
    assert to_plain_text(text).endswith(plain[-(MEBIBYTE):].strip()[-1000:])
    assert time.process_time() - begun < 5.0


def test_messages_and_replies_offer_their_plain_text() -> None:
    reply = Reply(messages=(Message(role="agent", text="**One**"), Message(role="agent", text=""),
                            Message(role="agent", text="<b>Two</b>")))  # fmt: skip
    assert [message.plain_text() for message in reply.messages] == ["One", "", "Two"]
    assert reply.plain_text() == "One\n\nTwo"
