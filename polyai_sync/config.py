"""Settings: read, checked and explained before anything is sent.

Whatever is missing or malformed is a `ConfigurationError` whose one sentence names the setting and the fix. No message
quotes a value: settings get swapped, and a token given as ``host`` is still a token.
"""

from __future__ import annotations

import math
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from attrs import field, frozen

from polyai_sync._version import __version__
from polyai_sync.addresses import (
    CLUSTERS,
    DEFAULT_CLUSTER,
    check_base_url,
    check_cluster,
    check_host,
    is_loopback,
    nonblank,
    refuse,
)
from polyai_sync.redaction import MASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrs import Attribute

__all__ = [
    "CLUSTERS",
    "DEFAULT_CLUSTER",
    "DEVICE_TYPES",
    "ENVIRONMENT",
    "LONGEST_TIMEOUT",
    "PLATFORMS",
    "Secret",
    "Settings",
    "Timeouts",
    "is_loopback",
    "resolve_settings",
]

#: protocol.md §2, session creation.
PLATFORMS: Final = ("web", "ios", "android", "ios-web", "android-web", "custom")
DEVICE_TYPES: Final = ("mobile", "tablet", "desktop")

#: Where a setting comes from when it is not given as an argument.
ENVIRONMENT: Final = {
    "connector_token": "POLYAI_CONNECTOR_TOKEN",
    "host": "POLYAI_HOST",
    "cluster": "POLYAI_CLUSTER",
    "base_url": "POLYAI_BASE_URL",
}

#: Seconds (23 days). Sockets count milliseconds in 32 bits and raise OverflowError above.
LONGEST_TIMEOUT: Final = 2_000_000

_LONGEST_APP_INFO: Final = 200

_HEADER_SAFE: Final = "[!-~]+"  # visible ASCII: what an HTTP header carries unharmed
_APP_INFO: Final = "[!-~](?:[ -~]*[!-~])?"

_T = TypeVar("_T")


class Secret:
    """A token that shows itself on demand only.

    ``repr``, ``str`` and formatting give ``***``. Equality and hash are those of the value. It can be pickled, and
    the pickle holds the value.
    """

    __slots__ = ("_value",)

    _value: str

    def __init__(self, value: str) -> None:
        object.__setattr__(self, "_value", value)

    def reveal(self) -> str:
        """The token itself."""
        return self._value

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Secret cannot be changed (attribute {name!r})")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Secret cannot be changed (attribute {name!r})")

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (self._value,)


def _bounded(_: object, attribute: Attribute[Any], value: object) -> None:
    name = f"timeouts.{attribute.name}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        refuse(name, f"must be a number of seconds, not {type(value).__name__}", "give a positive number, such as 30.")
    if isinstance(value, float) and not math.isfinite(value):
        refuse(name, f"must be a finite number of seconds, not {value}", "give a positive number, such as 30.")
    if value <= 0:
        refuse(name, "must be above 0 seconds", "give a positive number, such as 30.")
    if value > LONGEST_TIMEOUT:
        refuse(name, f"must be at most {LONGEST_TIMEOUT} seconds", "give a smaller number.")


def _bounded_or_none(instance: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None:
        _bounded(instance, attribute, value)


@frozen
class Timeouts:
    """How long each phase may take, in seconds.

    ``None`` waits for ever where only the conversation is waited for; the network (``connect``, ``read``) and
    ``close`` always have an end.

    Attributes:
        connect: TCP, TLS and the WebSocket handshake together.
        read: One HTTP answer.
        ready: From the open socket until the agent has joined.
        greeting: From there until it has greeted.
        delivery: Until a message's receipt.
        reply: Until a whole reply.
        close: A polite end.

    Raises:
        ConfigurationError: A field is not a positive number of at most `LONGEST_TIMEOUT` seconds; the message names
            it, such as ``timeouts.connect``.
    """

    connect: float = field(default=10.0, validator=_bounded)
    read: float = field(default=30.0, validator=_bounded)
    ready: float | None = field(default=60.0, validator=_bounded_or_none)
    greeting: float | None = field(default=30.0, validator=_bounded_or_none)
    delivery: float | None = field(default=15.0, validator=_bounded_or_none)
    reply: float | None = field(default=90.0, validator=_bounded_or_none)
    close: float = field(default=5.0, validator=_bounded)


@frozen(kw_only=True)
class Settings:
    """All that a client knows about where and how to connect; checked by `resolve_settings`.

    Attributes:
        connector_token: What the project owner copied from Agent Studio.
        host: The registered domain, origin or app namespace, sent as ``X-Host``.
        base_url: Scheme, host, port where it is not the scheme's own, path prefix; no slash at the end.
        streaming: Ask for replies in chunks.
        platform: One of `PLATFORMS`.
        device_type: One of `DEVICE_TYPES`, or ``None``.
        timeouts: Seconds for each phase.
        event_window: How many events a session keeps for readers that lag.
        user_agent: The ``User-Agent`` header of both legs.
    """

    connector_token: Secret
    host: str
    base_url: str
    streaming: bool = True
    platform: str = "custom"
    device_type: str | None = None
    timeouts: Timeouts = field(factory=Timeouts)
    event_window: int = 10_000
    user_agent: str = f"polyai-sync/{__version__}"

    @property
    def websocket_url(self) -> str:
        """The WebSocket's address without its query: the base URL with ``http`` turned to ``ws``, and ``/ws``."""
        return f"ws{self.base_url.removeprefix('http')}/ws"


def resolve_settings(
    connector_token: str | Secret | None = None,
    host: str | None = None,
    *,
    cluster: str | None = None,
    base_url: str | None = None,
    streaming: bool = True,
    platform: str = "custom",
    device_type: str | None = None,
    timeouts: Timeouts | None = None,
    event_window: int = 10_000,
    app_info: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from the arguments, and from the environment where an argument is ``None``.

    Blanks around a value of the environment are dropped, since shells and ``.env`` files leave them there, and an
    empty one counts as absent. Arguments are taken exactly as given.

    Args:
        connector_token: Else ``POLYAI_CONNECTOR_TOKEN``.
        host: Else ``POLYAI_HOST``.
        cluster: Else ``POLYAI_CLUSTER``, else ``us-1``. A given one beats ``POLYAI_BASE_URL``.
        base_url: Else ``POLYAI_BASE_URL``, which beats ``POLYAI_CLUSTER``.
        streaming: Ask for replies in chunks.
        platform: One of `PLATFORMS`.
        device_type: One of `DEVICE_TYPES`, or ``None``.
        timeouts: Seconds for each phase.
        event_window: How many events a session keeps, 1 or more.
        app_info: Appended to the User-Agent, such as ``shop/1.4``.
        environ: Read instead of ``os.environ``.

    Raises:
        ConfigurationError: A setting is missing or malformed; the message names it and the fix.
    """
    environ = os.environ if environ is None else environ
    return Settings(
        connector_token=_connector_token(*_given_or_environment("connector_token", connector_token, environ)),
        host=check_host(*_given_or_environment("host", host, environ)),
        base_url=_service(cluster, base_url, environ),
        streaming=_flag("streaming", streaming),
        platform=_one_of("platform", platform, PLATFORMS),
        device_type=None if device_type is None else _one_of("device_type", device_type, DEVICE_TYPES),
        timeouts=_timeouts(timeouts),
        event_window=_event_window(event_window),
        user_agent=_user_agent(app_info),
    )


def _given_or_environment(name: str, given: _T | None, environ: Mapping[str, str]) -> tuple[str, _T | str]:
    """How to call the setting in a message, and its value; a `ConfigurationError` where there is none."""
    variable = ENVIRONMENT[name]
    fix = f"pass {name} to Client, or set the environment variable {variable}."
    if given is not None:
        if isinstance(given, str) and not given.strip():
            refuse(name, "is empty", fix)
        return name, given
    value = environ.get(variable, "").strip()
    if not value:
        refuse(name, "is missing", fix)
    return f"{name} (from {variable})", value


def _connector_token(name: str, value: object) -> Secret:
    token = nonblank(name, value.reveal() if isinstance(value, Secret) else value)
    if not re.fullmatch(_HEADER_SAFE, token):
        refuse(
            name,
            "holds white space, a control character or a letter outside ASCII",
            "copy the token again from Agent Studio, with nothing before, in or after it.",
        )
    if token[0] in "\"'" and token[-1] == token[0]:
        refuse(name, "stands in quotation marks", "remove them.")
    return Secret(token)


def _service(cluster: object, base_url: object, environ: Mapping[str, str]) -> str:
    """The base URL: a given one, a given cluster's, the environment's, the environment's cluster's, the default."""
    if base_url is not None and cluster is not None:
        refuse(
            "base_url", "and cluster are both given", "pass only one of them, since each says which host to talk to."
        )
    if base_url is not None:
        return check_base_url("base_url", base_url)
    if cluster is not None:
        return check_cluster("cluster", cluster)
    for name, read in (("base_url", check_base_url), ("cluster", check_cluster)):
        variable = ENVIRONMENT[name]
        if value := environ.get(variable, "").strip():
            return read(f"{name} (from {variable})", value)
    return check_cluster("cluster", DEFAULT_CLUSTER)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        refuse(name, f"must be True or False, not {type(value).__name__}", "give a bool.")
    return value


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        refuse(name, "is not one that the service knows", f"give one of {', '.join(allowed)}.")
    return value


def _timeouts(value: object) -> Timeouts:
    if value is None:
        return Timeouts()
    if not isinstance(value, Timeouts):
        refuse("timeouts", f"must be a Timeouts, not {type(value).__name__}", "write Timeouts(read=30), for instance.")
    return value


def _event_window(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        refuse("event_window", "must be a whole number of events, 1 or more", "give an int, such as 10_000.")
    return value


def _user_agent(app_info: object) -> str:
    own = f"polyai-sync/{__version__} python/{'.'.join(map(str, sys.version_info[:3]))} {sys.platform}"
    if app_info is None:
        return own
    text = nonblank("app_info", app_info)
    if not re.fullmatch(_APP_INFO, text) or len(text) > _LONGEST_APP_INFO:
        refuse(
            "app_info",
            f"must be one line of at most {_LONGEST_APP_INFO} ASCII characters without blanks around it",
            "give a name and a version, such as shop/1.4.",
        )
    return f"{own} {text}"
