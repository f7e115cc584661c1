"""Whether the agent has to be asked to join (`protocol.md` §7.3, `pitfalls.md` 5)."""

from __future__ import annotations

from enum import Enum

__all__ = ["Joining"]


class _Request(Enum):
    NONE = "none"
    WANTED = "wanted"
    QUEUED = "queued"
    UNDER_WAY = "under way"
    IN_DOUBT = "in doubt"
    RECEIVED = "received"


class Joining:
    """One request to join, and what is known of it.

    Args:
        wanted: Ask by itself where nobody has joined.
        joined: The agent had joined when the session was left.
    """

    def __init__(self, *, wanted: bool, joined: bool) -> None:
        self._wanted = wanted
        self._request = _Request.NONE
        self.joined = joined
        self.times = 0
        """How often the agent joined."""

    @property
    def awaited(self) -> bool:
        """Should the agent be there, by our asking?"""
        return self._wanted or self._request is not _Request.NONE

    @property
    def received(self) -> bool:
        """Has the server the last request?"""
        return self._request is _Request.RECEIVED

    def ask_again(self) -> None:
        """Ask, whatever was asked before."""
        self._request = _Request.WANTED

    def due(self) -> bool:
        """The history is known: does it have to be asked now?"""
        if self._request is _Request.WANTED:
            return True
        return self._wanted and not self.joined and self._request in {_Request.NONE, _Request.IN_DOUBT}

    def queue(self) -> None:
        """It will be asked as soon as it can be written."""
        self._request = _Request.QUEUED

    def writing(self) -> None:
        """The request is being written."""
        self._request = _Request.UNDER_WAY

    def echoed(self) -> None:
        """The server has it."""
        if self._request not in {_Request.WANTED, _Request.QUEUED}:
            self._request = _Request.RECEIVED

    def agent_joined(self) -> None:
        """The agent is there."""
        self.joined = True
        self.times += 1

    def dropped(self) -> None:
        """The socket is gone: the replay will show whether the request arrived."""
        if self._request is _Request.UNDER_WAY:
            self._request = _Request.IN_DOUBT
        elif self._request is _Request.QUEUED:
            self._request = _Request.WANTED
