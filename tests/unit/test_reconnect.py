"""The bundled reconnect policy."""

from __future__ import annotations

import random

import pytest

from polyai_sync.catalog import CATALOG, make_error
from polyai_sync.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionDroppedError,
    ConnectionFailedError,
    ConnectionLimitError,
    InvalidRequestError,
    RateLimitError,
    ServerError,
    SessionNotFoundError,
)
from polyai_sync.messages import Capabilities
from polyai_sync.plugin_host import PluginHost
from polyai_sync_plugins import Reconnect

DROP = ConnectionDroppedError("gone", close_code=1006)


class Session:
    """What the policy looks at."""

    session_id = "session-1"

    def __init__(self, attempts=None):
        self.capabilities = Capabilities(max_reconnect_attempts=attempts)


class Extreme(random.Random):
    """Draws one end of every range."""

    def __init__(self, end):
        super().__init__(0)
        self.end = end

    def uniform(self, a, b):
        return (a, b)[self.end]


def ask(reconnect, error=DROP, attempt=1, session=None):
    """Ask the policy itself: the pause before this attempt."""
    return reconnect.reconnect_delay(session=session or Session(), error=error, attempt=attempt)


def attempts(reconnect, session, up_to=200):
    """How many attempts the policy grants in a row."""
    granted = 0
    while granted < up_to and ask(reconnect, attempt=granted + 1, session=session) is not None:
        granted += 1
    return granted


# --- pauses ---


def test_pauses_double_from_one_second_to_thirty():
    reconnect = Reconnect(random=Extreme(1))
    assert [ask(reconnect, attempt=n) for n in range(1, 9)] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_jitter_keeps_half_of_every_pause():
    # pitfalls.md 15: nobody comes back at once
    reconnect = Reconnect(random=Extreme(0))
    assert [ask(reconnect, attempt=n) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 15, 15, 15]


@pytest.mark.parametrize("attempt", [1, 3, 9])
def test_a_crowd_does_not_come_back_in_step(attempt):
    # pitfalls.md 15: also not at the cap
    reconnect = Reconnect(random=random.Random(3))
    longest = min(30, 2 ** (attempt - 1))
    drawn = [ask(reconnect, attempt=attempt) for _ in range(500)]
    assert all(longest / 2 <= one <= longest for one in drawn)
    assert max(drawn) - min(drawn) > 0.45 * longest
    assert len(set(drawn)) == len(drawn)


def test_a_long_outage_does_not_overflow():
    assert ask(Reconnect(max_attempts=0, random=Extreme(1)), attempt=100_000) == 30.0


def test_base_and_cap_can_be_set():
    reconnect = Reconnect(base=0.25, cap=0.6, random=Extreme(1))
    assert [ask(reconnect, attempt=n) for n in (1, 2, 3, 4)] == [0.25, 0.5, 0.6, 0.6]


# --- attempts ---


@pytest.mark.parametrize(
    ("given", "told", "granted"),
    [
        (None, None, 10),
        (None, 5, 5),
        (None, 1, 1),
        (None, 0, 200),
        (None, -3, 10),
        (3, None, 3),
        (3, 5, 3),
        (3, 0, 3),
        (12, 5, 12),
        (0, 5, 200),
    ],
)
def test_attempts_are_the_arguments_else_the_servers_else_ten(given, told, granted):
    assert attempts(Reconnect(max_attempts=given), Session(told)) == granted


def test_a_drop_before_the_capabilities_are_known_has_ten_attempts():
    session = Session()
    session.capabilities = None
    assert attempts(Reconnect(), session) == 10


# --- errors ---


@pytest.mark.parametrize("error", [DROP, ConnectionFailedError("refused"), ServerError("no", status=503)])
def test_what_may_pass_is_tried_again(error):
    assert ask(Reconnect(random=Extreme(1)), error, attempt=3) == 4.0


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequestError("no", status=400),
        AuthenticationError("no", status=401),
        AuthenticationError("no", status=403),
        SessionNotFoundError("no", status=404),
        make_error("http.redirected"),
        ServerError("no", retryable=False),
    ],
    ids=lambda error: f"{type(error).__name__}-{error.status}",
)
def test_what_cannot_pass_ends_the_attempts(error):
    assert ask(Reconnect(max_attempts=0), error) is None


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.code)
def test_the_catalogue_decides(entry):
    assert (ask(Reconnect(), make_error(entry)) is not None) is entry.retryable


# --- Retry-After ---


@pytest.mark.parametrize("error", [RateLimitError, ConnectionLimitError, ServerError])
@pytest.mark.parametrize("seconds", [1.0, 2.5, 90.0, 600.0])
def test_retry_after_is_waited_for(error, seconds):
    assert ask(Reconnect(), error("wait", retry_after=seconds), attempt=5) == seconds


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_retry_after_of_nothing_does_not_make_us_hammer(seconds):
    reconnect = Reconnect(max_attempts=0, random=Extreme(0))
    assert [ask(reconnect, RateLimitError("wait", retry_after=seconds), attempt=n) for n in (1, 2, 9)] == [0.5, 1, 15]


@pytest.mark.parametrize("seconds", [600.1, 1e9, float("inf")])
def test_a_retry_after_that_outlives_the_session_gives_up(seconds):
    # pitfalls.md 34
    assert ask(Reconnect(), RateLimitError("wait", retry_after=seconds)) is None
    assert ask(Reconnect(max_retry_after=0.1), RateLimitError("wait", retry_after=0.2)) is None


@pytest.mark.parametrize("seconds", [-5.0, float("nan")])
def test_a_broken_retry_after_counts_as_absent(seconds):
    assert ask(Reconnect(random=Extreme(1)), RateLimitError("wait", retry_after=seconds), attempt=2) == 2.0


def test_retry_after_does_not_add_attempts():
    assert ask(Reconnect(), RateLimitError("wait", retry_after=1.0), attempt=11) is None


# --- arguments ---


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_attempts": -1},
        {"max_attempts": 1.0},
        {"max_attempts": False},
        {"base": -1},
        {"base": None},
        {"cap": float("nan")},
        {"max_retry_after": float("inf")},
        {"random": "dice"},
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_refused_by_name(arguments):
    (name,) = arguments
    with pytest.raises(ConfigurationError, match=f"Reconnect: {name} "):
        Reconnect(**arguments)


def test_it_is_a_plugin_by_the_name_of_the_bundled_one():
    host = PluginHost([Reconnect(random=Extreme(1))], load_plugins=False, environ={})
    assert [info.name for info in host.plugins] == ["reconnect"]
    assert host.reconnect_delay(session=Session(), error=DROP, attempt=2) == 2.0
