"""Whether the agent has to be asked to join, and whether it has yet to greet (`protocol.md` §7.3, `pitfalls.md` 5)."""

from __future__ import annotations

import math
from enum import Enum

__all__ = ["Joining"]


class _Request(Enum):
    NONE = "none"
    WANTED = "wanted"  # asked for by the user or a policy, whatever the history holds
    QUEUED = "queued"
    UNDER_WAY = "under way"
    IN_DOUBT = "in doubt"  # its socket died before the echo: the replay will tell
    RECEIVED = "received"


class Joining:
    """One request to join, and what is known of it.

    Args:
        wanted: Ask by itself where nobody has joined.
        joined: The agent had joined when the session was left.
        greeting_limit: Seconds from the join to the greeting, after which none is expected; ``None`` = for ever.
    """

    __slots__ = (
        "_greeting_limit",
        "_joined_since",
        "_queued_for",
        "_request",
        "_wanted",
        "greeting_until",
        "joined",
        "times",
    )

    def __init__(self, *, wanted: bool, joined: bool, greeting_limit: float | None) -> None:
        self._wanted = wanted
        self._request = _Request.NONE
        self._queued_for = _Request.NONE
        self.joined = joined
        self.times = 0
        """How often the agent joined."""
        self._greeting_limit = math.inf if greeting_limit is None else greeting_limit
        self.greeting_until: float | None = None
        """Until when an agent that we asked to join may take to greet; ``None``: it has, or will not."""
        self._joined_since = False

    @property
    def awaited(self) -> bool:
        """Should the agent be there, by our asking?"""
        return self._wanted or self._request is not _Request.NONE

    @property
    def received(self) -> bool:
        """Has the server the last request?"""
        return self._request is _Request.RECEIVED

    @property
    def greeting_expected(self) -> bool:
        """Has an agent that we asked to join yet to greet? A question would take the greeting for its answer."""
        return self.greeting_until is not None

    def ask_again(self) -> None:
        """Ask, whatever was asked before; a request that is not written yet is the one."""
        if self._request is not _Request.QUEUED:
            self._request = _Request.WANTED

    def to_be_asked(self) -> bool:
        """The history is known: does it have to be asked now?"""
        if self._request is _Request.NONE:
            return self._wanted and not self.joined
        return self._request is _Request.WANTED or self._request is _Request.IN_DOUBT

    def queue(self, now: float) -> None:
        """It will be asked as soon as it can be written; the first that the agent then says is its greeting."""
        self._queued_for = self._request
        self._request = _Request.QUEUED
        self.greeting_until = now + self._greeting_limit
        self._joined_since = False

    def writing(self) -> None:
        """The request is being written."""
        self._request = _Request.UNDER_WAY

    def dropped(self) -> None:
        """The socket is gone: the replay will show whether a written request arrived."""
        if self._request is _Request.UNDER_WAY:
            self._request = _Request.IN_DOUBT
        elif self._request is _Request.QUEUED:
            self._request = self._queued_for

    def echoed(self) -> None:
        """The server has it (or has had one before, as the history tells)."""
        if self._request not in {_Request.WANTED, _Request.QUEUED}:
            self._request = _Request.RECEIVED

    def agent_joined(self, now: float) -> None:
        """The agent is there; a request whose echo is missing did arrive."""
        self.joined = True
        self.times += 1
        if self._request in {_Request.UNDER_WAY, _Request.IN_DOUBT}:
            self._request = _Request.RECEIVED
        if self.greeting_until is not None:
            self.greeting_until = now + self._greeting_limit
            self._joined_since = True

    def failed(self, *, before_us: bool) -> None:
        """The agent could not start: there will be no greeting.

        Args:
            before_us: It failed before this client came back to the session; it is asked afresh, once.
        """
        self.greeting_until = None
        if before_us and self._request is _Request.RECEIVED:
            self._request = _Request.NONE

    def spoke(self) -> None:
        """The agent says something."""
        if self._joined_since:
            self.greeting_until = None

    def due(self) -> float | None:
        """When `tick` will have something to do."""
        return None if self.greeting_until == math.inf else self.greeting_until

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self.greeting_until is not None and now >= self.greeting_until:
            self.greeting_until = None
