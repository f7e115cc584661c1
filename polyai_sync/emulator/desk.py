"""A small restaurant's booking desk: an agent worth talking to without an account.

What it knows is one table, which also answers ``help``: pleasant things first, then the ways in which a line and a
service can fail, so that a person at a terminal can see each of them happen.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

from attrs import frozen

from polyai_sync.emulator.agent import (
    Action,
    Arm,
    ClientHandoff,
    Drop,
    Emit,
    End,
    Fail,
    Handoff,
    HandoffFailed,
    HandoffTimedOut,
    Language,
    LiveLeave,
    LiveSay,
    LiveTyping,
    Notice,
    Pause,
    Say,
    Stream,
    Turn,
    image,
    link,
)
from polyai_sync.emulator.booking import next_question, note_wishes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["RestaurantDesk"]

_SITE = "https://olive-branch.example.com"
_FIRST = ("Book a table", "See the menu", "Talk to a person", "help")
_SOUP = (
    "Our soup of the day is *ribollita*: beans, kale and yesterday's bread, "
    "simmered since the morning and served with more oil than a doctor would like."
)

_GREETINGS: Mapping[str, tuple[str, str, str]] = {
    "spanish": ("es-ES", "español", "Con mucho gusto. ¿Para cuántas personas es la mesa?"),
    "german": ("de-DE", "deutsch", "Sehr gern. Für wie viele Personen darf ich reservieren?"),
    "french": ("fr-FR", "français", "Avec plaisir. Pour combien de personnes ?"),
    "english": ("en-GB", "inglés|englisch|anglais", "Back to English, then. For how many people?"),
}


@frozen(kw_only=True)
class _Skill:
    """Something the desk can do when it hears a word."""

    words: str
    shown: str
    does: str
    act: Callable[[RestaurantDesk, Turn], Iterator[Action | str]]


class RestaurantDesk:
    """Takes bookings for the Olive Branch, and shows whatever else a conversation can bring. Ask it for ``help``.

    Args:
        pace: Seconds that people take: a step in the queue, a live agent's typing. 0 in tests.
        restaurant: The restaurant's name.
    """

    def __init__(self, pace: float = 0.0, restaurant: str = "the Olive Branch") -> None:
        self.pace = pace
        self.restaurant = restaurant

    def __call__(self, turn: Turn) -> Iterator[Action | str]:
        """Greet, or answer."""
        if turn.greeting:
            return self._greet(turn)
        return self._live(turn) if turn.live else self._answer(turn)

    def _greet(self, turn: Turn) -> Iterator[Action | str]:
        if "greeted" in turn.memory:
            yield Say("Here I am again. Where were we?", suggestions=_FIRST)
            return
        turn.memory["greeted"] = True
        yield Say(
            f"Hello, this is Olive at **{self.restaurant}**. I can book you a table, show you the menu or fetch a "
            "colleague. How can I help?",
            suggestions=_FIRST,
        )

    def _answer(self, turn: Turn) -> Iterator[Action | str]:
        text = turn.text.lower()
        for skill in _SKILLS:
            if re.search(rf"\b(?:{skill.words})\b", text):
                yield from skill.act(self, turn)
                return
        yield from self._book(turn)

    # --- bookings -------------------------------------------------------------------------------------------------

    def _book(self, turn: Turn) -> Iterator[Action | str]:
        booking: dict[str, Any] = turn.memory.setdefault("booking", {})
        understood = note_wishes(booking, turn.text)
        if not understood and not booking:
            yield Say("I am only a small desk and did not get that. You might try one of these.", suggestions=_FIRST)
            return
        question = next_question(booking)
        if question is not None:
            words, suggestions = question
            yield Say(words if understood else f"Sorry, I did not get that. {words}", suggestions=suggestions)
            return
        turn.memory["booking"] = {}
        reference = f"OB-{random.Random(turn.session.session_id).randrange(1000, 9999)}"  # noqa: S311 - a reference
        wish = f", {booking['wish']}" if "wish" in booking else ""
        yield Say(
            f"Booked: **{booking['party']}** on **{booking['day']}** at **{booking['time']}**{wish}, "
            f"for {booking['name']}. Your reference is `{reference}`."
        )
        yield Say(
            "Here is the way to us. See you then!",
            attachments=[
                link("Directions", f"{_SITE}/directions", preview=f"{_SITE}/map.png", call_to_action="Show the way")
            ],
            suggestions=["See the menu", "Bye"],
        )

    # --- pleasant things ------------------------------------------------------------------------------------------

    def _help(self, turn: Turn) -> Iterator[Action | str]:
        lines = [f"- `{skill.shown}`: {skill.does}" for skill in _SKILLS]
        yield Say("I take bookings in plain words. You can also say:\n\n" + "\n".join(lines))

    def _menu(self, turn: Turn) -> Iterator[Action | str]:
        yield Say(
            "This is what we cook tonight.",
            attachments=[
                image("Tonight's menu", f"{_SITE}/menu-tonight.png"),
                link("The whole card", f"{_SITE}/menu", call_to_action="Read"),
            ],
            suggestions=["What is the soup?", "Book a table"],
        )

    def _soup(self, turn: Turn) -> Iterator[Action | str]:
        yield _SOUP
        yield Say("And it is off the bill on Mondays.", suggestions=["Book a table for Monday"])

    def _phone(self, turn: Turn) -> Iterator[Action | str]:
        number = {"title": f"Call {self.restaurant}", "contact_number": "+442079460123"}
        yield Say("You can ring us from five in the afternoon.", call_actions=[number])

    def _speak(self, turn: Turn) -> Iterator[Action | str]:
        text = turn.text.lower()
        for name, (code, own, words) in _GREETINGS.items():
            if re.search(rf"{name}|{own}", text):
                yield Language(code)
                yield Say(words)

    def _notice(self, turn: Turn) -> Iterator[Action | str]:
        yield Notice("The kitchen closes in half an hour.")
        yield "I thought you would like to know."

    def _wait(self, turn: Turn) -> Iterator[Action | str]:
        yield Pause(max(self.pace * 4, 0.05))
        yield "Sorry, I had to look under the counter. It is fish."

    def _bye(self, turn: Turn) -> Iterator[Action | str]:
        yield Say("Goodbye, and enjoy your evening!")
        yield End()

    # --- people ---------------------------------------------------------------------------------------------------

    def _person(self, turn: Turn) -> Iterator[Action | str]:
        yield "Of course, I will fetch somebody."
        yield Handoff(
            "Front desk",
            positions=(3, 2, 1),
            wait_seconds=20,
            step=self.pace,
            agent_name="Sam",
            avatar_url=f"{_SITE}/sam.png",
        )
        yield from self._typed("Hi, Sam from the front desk here. What can I do for you?")

    def _live(self, turn: Turn) -> Iterator[Action | str]:
        if re.search(r"\b(bye|thanks?|thank you|cheers)\b", turn.text.lower()):
            yield from self._typed("You are welcome. Take care!")
            yield LiveLeave()
            yield End()
        elif re.search(r"\b(olive|robot|back)\b", turn.text.lower()):
            yield from self._typed("I will hand you back to Olive.")
            yield LiveLeave("HANDED_BACK")
            yield "It is me again, Olive."
        else:
            yield from self._typed(f"Let me see: “{turn.text}”. I will take care of that. Anything else?")

    def _typed(self, text: str) -> Iterator[Action | str]:
        yield LiveTyping()
        yield Pause(self.pace)
        yield LiveTyping(active=False)
        yield LiveSay(text)

    def _manager(self, turn: Turn) -> Iterator[Action | str]:
        yield "That is for the manager. I am passing you on."
        yield ClientHandoff("POLICY", "Duty manager", route=f"{_SITE}/manager")

    def _nobody(self, turn: Turn) -> Iterator[Action | str]:
        yield HandoffFailed("NO_AGENTS")
        yield "Nobody is at the front desk just now. I can help you myself."

    def _too_long(self, turn: Turn) -> Iterator[Action | str]:
        yield HandoffTimedOut()
        yield "That took too long. Let us go on without them."

    # --- mishaps --------------------------------------------------------------------------------------------------

    def _error(self, turn: Turn) -> Iterator[Action | str]:
        yield Fail("agent.no_response")

    def _high_load(self, turn: Turn) -> Iterator[Action | str]:
        if turn.memory.pop("overloaded", False):
            yield "There we are: the rush is over, and nobody had to ask twice."
            return
        turn.memory["overloaded"] = True
        yield Fail("agent.overloaded")

    def _half(self, turn: Turn) -> Iterator[Action | str]:
        yield Arm("agent.stream_failed", options={"on": ("stream", "turn")})
        yield _SOUP

    def _drop(self, turn: Turn) -> Iterator[Action | str]:
        streaming = turn.session.streaming
        yield Arm("connection.drop", options={"on": "chunk" if streaming else "reply"}, after=3 if streaming else 0)
        yield f"The line drops in the middle of this, and nothing of it is lost. {_SOUP}"

    def _restart(self, turn: Turn) -> Iterator[Action | str]:
        yield "The server restarts now, and tells you so."
        yield Drop(1012, "service restart")

    def _lost_echo(self, turn: Turn) -> Iterator[Action | str]:
        yield Arm("message.echo_lost_then_drop")
        yield "Your next message reaches me, but the line dies before its receipt."

    def _lost_message(self, turn: Turn) -> Iterator[Action | str]:
        yield Arm("message.dropped_then_drop")
        yield "Your next message is lost with the line, and has to be sent again."

    def _busy(self, turn: Turn) -> Iterator[Action | str]:
        yield Arm("message.dropped")
        yield "Your next message is dropped without a word, as happens over the rate limit."

    def _garbled(self, turn: Turn) -> Iterator[Action | str]:
        for name in ("stream.out_of_order", "stream.repeated_chunk", "stream.zero_based"):
            yield Arm(name)
        yield Stream(["These ", "words ", "come ", "twice ", "and ", "in ", "the ", "wrong ", "order."])

    def _strange(self, turn: Turn) -> Iterator[Action | str]:
        yield Emit("WAITER_DROPPED_A_TRAY", {"plates": 7})
        yield "Did you hear that? It was an event nobody has heard of."

    def _vanish(self, turn: Turn) -> Iterator[Action | str]:
        yield Arm("end.close_1000_only")
        yield "I hang up now, without a goodbye."
        yield End()


def _skill(words: str, does: str, act: Callable[[RestaurantDesk, Turn], Iterator[Action | str]]) -> _Skill:
    return _Skill(words=words, shown=words.partition("|")[0], does=does, act=act)


_SKILLS = (
    _skill("help|what can you do", "this list", RestaurantDesk._help),
    _skill("drop the line|drop the connection", "the line drops inside a reply", RestaurantDesk._drop),
    _skill("restart", "the server closes the line and is back at once", RestaurantDesk._restart),
    _skill("lose the receipt", "your next message arrives, its receipt does not", RestaurantDesk._lost_echo),
    _skill("lose my message", "your next message is lost with the line", RestaurantDesk._lost_message),
    _skill("rate limit", "your next message is dropped without a word", RestaurantDesk._busy),
    _skill("high load|overload", "the agent is overloaded for a moment", RestaurantDesk._high_load),
    _skill("half a reply|stream error", "the reply stops half-way with an error", RestaurantDesk._half),
    _skill("error", "the agent cannot answer", RestaurantDesk._error),
    _skill("garbled", "a reply comes twice and out of order", RestaurantDesk._garbled),
    _skill("strange event", "an event of an unknown type", RestaurantDesk._strange),
    _skill("hang up", "the server ends it without a word", RestaurantDesk._vanish),
    _skill("nobody home", "a handoff that fails", RestaurantDesk._nobody),
    _skill("long queue", "a handoff that nobody takes in time", RestaurantDesk._too_long),
    _skill("talk to a person|person|human|colleague|somebody", "a live agent, after a queue", RestaurantDesk._person),
    _skill("manager|complaint|complain", "a handoff that your application must carry out", RestaurantDesk._manager),
    _skill("menu|card", "an image and a link", RestaurantDesk._menu),
    _skill("soup", "several messages in one turn", RestaurantDesk._soup),
    _skill("phone|call you|ring", "a number to call", RestaurantDesk._phone),
    _skill(
        "speak spanish|spanish|español|german|deutsch|french|français|english|inglés|englisch|anglais",
        "another language (german, french, english)",
        RestaurantDesk._speak,
    ),
    _skill("closing time", "a notice", RestaurantDesk._notice),
    _skill("wait", "a slow answer", RestaurantDesk._wait),
    _skill("bye|goodbye|that is all", "the conversation's natural end", RestaurantDesk._bye),
)
