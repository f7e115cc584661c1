"""The end of a session: the words for it, and the request for it (`protocol.md` §6, §7.7)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

from polyai_sync.errors import AuthenticationError, PolyAIError, SessionEndedError, SessionNotFoundError
from polyai_sync.messages import EndReason

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EndRequest", "ended_error", "fresh", "reason_of"]

_WORDS: Final[Mapping[str | None, EndReason]] = {
    None: EndReason.UNKNOWN,
    "": EndReason.UNKNOWN,
    "user_ended": EndReason.USER_END,
    "agent_ended": EndReason.NATURAL_END,
    "normal": EndReason.NATURAL_END,
    **{reason.value: reason for reason in EndReason},
}


def reason_of(word: str | None) -> str:
    """What a word of ``SESSION_END`` means: the documented ones and the older ones; others stay as they came."""
    return _WORDS.get(word) or str(word)


class EndRequest:
    """The user's request to end the conversation.

    Attributes:
        made: Was it made?
        deadline: When the session is over here, confirmed or not.
        written: Was it written to the socket that is open?
    """

    __slots__ = ("_received", "deadline", "made", "written")

    def __init__(self) -> None:
        self.made = False
        self.deadline: float | None = None
        self.written = False
        self._received = False

    def make(self, deadline: float | None) -> None:
        """The user wants it."""
        self.made = True
        self.deadline = deadline

    def writing(self) -> None:
        """The request is being written."""
        self.written = True

    def echoed(self) -> None:
        """The server has the request, of whatever connection."""
        self._received = True

    def dropped(self) -> None:
        """The socket is gone, and perhaps the request with it."""
        self.written = False

    @property
    def reason_for_1000(self) -> EndReason:
        """What close code 1000 means without a ``SESSION_END``: the user's end where that has its echo."""
        return EndReason.USER_END if self._received else EndReason.CLOSED_BY_SERVER


def fresh(error: PolyAIError) -> PolyAIError:
    """A copy to raise: one exception shared by threads would gather the tracebacks of all of them."""
    twin = copy.copy(error)
    twin.__cause__ = error.__cause__
    return twin


def ended_error(reason: str, cause: PolyAIError | None) -> PolyAIError:
    """What a call on an ended session raises: the cause where the token or the session was refused."""
    if isinstance(cause, (SessionNotFoundError, AuthenticationError)):
        return fresh(cause)
    return SessionEndedError(f"The session has ended ({reason})", reason=reason, surface="client")
