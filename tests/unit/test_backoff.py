"""The bundled retry policy, held against the column "retryable" of the catalogue."""

from __future__ import annotations

import pickle
import random

import pytest

from polyai_sync.catalog import CATALOG, make_error
from polyai_sync.errors import ConfigurationError, ConversationNotFoundError, RateLimitError, ServerError
from polyai_sync.plugin_host import PluginHost
from polyai_sync_plugins import Backoff


class Extreme(random.Random):
    """Draws one end of every range, and keeps the ranges."""

    def __init__(self, end):
        super().__init__(0)
        self.end = end
        self.ranges = []

    def uniform(self, a, b):
        self.ranges.append((a, b))
        return (a, b)[self.end]


SPECIAL = {
    "agent.overloaded": [(2.0, 5.0), (2.0, 5.0)],
    "session_create.invalid_token": [(0.0, 0.0)],
    "session.conversation_not_found": [(0.0, 0.0)],
    "session.conversation_uninitialised": [(0.0, 0.0)],
}
USUAL = [(0, 1.0), (0, 2.0), (0, 4.0)]


def ask(backoff, error, attempt):
    """Ask the policy itself: the pause after so many tries."""
    return backoff.retry_delay(error=error, attempt=attempt)


def ranges(error, **options):
    """The ranges which the pauses of all tries are drawn from."""
    source = Extreme(1)
    backoff = Backoff(random=source, **options)
    attempt = 1
    while ask(backoff, error, attempt) is not None:
        attempt += 1
    return source.ranges


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.code)
def test_every_error_of_the_catalogue_is_retried_as_it_says(entry):
    expected = SPECIAL.get(entry.code, USUAL) if entry.retryable else []
    assert ranges(make_error(entry)) == expected


def test_the_special_rhythms_belong_to_retryable_errors():
    codes = {entry.code for entry in CATALOG if entry.retryable}
    assert set(SPECIAL) <= codes


def test_an_error_that_says_it_is_not_retryable_is_raised():
    assert ask(Backoff(), ServerError("no", retryable=False), 1) is None
    assert ask(Backoff(), RateLimitError("no", retryable=False, retry_after=1.0), 1) is None


def test_a_start_that_failed_is_joined_again_like_any_other():
    assert ask(Backoff(random=Extreme(1)), make_error("agent.start_failed"), 1) == 1.0


def test_any_conversation_not_found_is_mended_once_at_once():
    assert ask(Backoff(), ConversationNotFoundError("gone"), 1) == 0.0
    assert ask(Backoff(), ConversationNotFoundError("gone"), 2) is None


@pytest.mark.parametrize("attempts", [1, 2, 6])
def test_tries_in_all_are_max_attempts(attempts):
    assert len(ranges(ServerError("no"), max_attempts=attempts)) == attempts - 1


def test_max_attempts_bounds_the_special_rhythms_and_never_lengthens_them():
    overloaded = make_error("agent.overloaded")
    assert [len(ranges(overloaded, max_attempts=tries)) for tries in (1, 2, 3, 4, 9)] == [0, 1, 2, 2, 2]


def test_pauses_double_up_to_the_cap():
    assert [high for _, high in ranges(ServerError("no"), max_attempts=8)] == [1, 2, 4, 8, 16, 30, 30]
    assert [high for _, high in ranges(ServerError("no"), max_attempts=4, base=0.5, cap=0.7)] == [0.5, 0.7, 0.7]


def test_a_huge_number_of_tries_does_not_overflow():
    assert ask(Backoff(max_attempts=10**6, random=Extreme(1)), ServerError("no"), 99_999) == 30.0


def test_jitter_is_full_and_even():
    backoff = Backoff(random=random.Random(7))
    drawn = [ask(backoff, ServerError("no"), 3) for _ in range(2000)]
    assert all(0 <= one <= 4 for one in drawn)
    assert min(drawn) < 0.1
    assert max(drawn) > 3.9
    assert 1.8 < sum(drawn) / len(drawn) < 2.2


def test_without_a_given_source_two_processes_do_not_draw_alike():
    random.seed(1)
    first = [ask(Backoff(), ServerError("no"), 3) for _ in range(4)]
    random.seed(1)
    assert [ask(Backoff(), ServerError("no"), 3) for _ in range(4)] != first


@pytest.mark.parametrize("seconds", [0.0, 0.25, 7, 60.0])
def test_retry_after_is_honoured_as_it_stands(seconds):
    # also where it is shorter or longer than any pause of ours
    assert ask(Backoff(), RateLimitError("no", retry_after=seconds), 3) == seconds
    assert ask(Backoff(), ServerError("no", status=503, retry_after=seconds), 1) == seconds


@pytest.mark.parametrize("seconds", [60.1, 1e9, float("inf")])
def test_a_longer_retry_after_is_raised_at_once_with_the_figure(seconds):
    # pitfalls.md 34
    error = RateLimitError("no", retry_after=seconds)
    assert ask(Backoff(), error, 1) is None
    assert error.retry_after == seconds
    assert ask(Backoff(max_retry_after=100), RateLimitError("no", retry_after=99.0), 1) == 99.0


@pytest.mark.parametrize("seconds", [-5.0, float("nan")])
def test_a_broken_retry_after_counts_as_absent(seconds):
    assert ask(Backoff(random=Extreme(1)), RateLimitError("no", retry_after=seconds), 1) == 1.0


def test_retry_after_does_not_add_tries():
    assert ask(Backoff(), RateLimitError("no", retry_after=1.0), 4) is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_attempts": 0},
        {"max_attempts": -1},
        {"max_attempts": 2.5},
        {"max_attempts": True},
        {"max_attempts": None},
        {"base": -1},
        {"base": "1"},
        {"base": True},
        {"base": float("nan")},
        {"cap": float("inf")},
        {"cap": None},
        {"max_retry_after": -0.1},
        {"random": 0.5},
        {"random": None},
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_refused_by_name(arguments):
    (name,) = arguments
    with pytest.raises(ConfigurationError, match=f"Backoff: {name} "):
        Backoff(**arguments)


def test_it_is_a_plugin_by_the_name_of_the_bundled_one():
    host = PluginHost([Backoff(random=Extreme(1))], load_plugins=False, environ={})
    assert [info.name for info in host.plugins] == ["backoff"]
    assert host.retry_delay(session=None, operation="connect", error=ServerError("no"), attempt=2) == 2.0


def test_it_keeps_no_state():
    backoff = Backoff(random=Extreme(1))
    answers = [ask(backoff, ServerError("no"), attempt) for attempt in (1, 3, 1, 2, 4, 1)]
    assert answers == [1.0, 4.0, 1.0, 2.0, None, 1.0]
    with pytest.raises(AttributeError):
        backoff.max_attempts = 9
    assert pickle.loads(pickle.dumps(Backoff(max_attempts=9, random=random.Random(1)))).max_attempts == 9
