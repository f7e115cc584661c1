"""Every exception: one clear line, all its attributes, and whole after a journey to another process."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys

import pytest

from polyai_sync import errors
from polyai_sync.catalog import CATALOG, make_error
from polyai_sync.errors import AgentError, ConfigurationError, PolyAIError, RateLimitError

CLASSES = [getattr(errors, name) for name in errors.__all__]
OWN = {
    "SessionEndedError": {"reason": "REASON_USER_END"},
    "ConnectionDroppedError": {"close_code": 1006, "close_reason": "gone"},
    "ConnectionLostError": {"close_code": 1006, "attempts": 7},
    "DeliveryError": {"outcome": "not_received"},
    "LaggedError": {"missed": 3},
    "MessageTooLargeError": {"size": 200_000, "limit": 131_072},
}
SEEN = {
    "code": "agent.overloaded",
    "status": 503,
    "surface": "connect",
    "retryable": True,
    "retry_after": 1.5,
    "resolution": "Do this.",
    "user_text": "Show this.",
    "request_id": "r-1",
    "event": {"type": "EVENT_TYPE_SYSTEM_MESSAGE"},
    "client_event_id": "c-1",
    "body": "{}",
}

every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)

JOURNEYS = {
    **{
        f"pickle protocol {protocol}": lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def test_every_exception_of_the_module_is_public_and_in_its_drawing():
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert defined == set(errors.__all__)
    for name in defined:
        assert name in errors.__doc__


@every_class
def test_exception_says_in_its_docstring_when_it_comes(cls):
    assert cls.__doc__ != cls.__mro__[1].__doc__
    assert len(cls.__doc__) > 20
    for name in OWN.get(cls.__name__, {}):
        assert f"{name}:" in cls.__doc__


@every_class
def test_exception_without_arguments_is_the_catalogues(cls):
    error = cls()
    assert error.code == cls.default_code
    assert error.message == error.entry.cause
    assert str(error) == f"{error.entry.cause} {error.entry.resolution}"
    assert isinstance(error, PolyAIError)


@every_class
@pytest.mark.parametrize("journey", JOURNEYS.values(), ids=JOURNEYS.keys())
def test_exception_survives_with_all_its_attributes(cls, journey):
    own = OWN.get(cls.__name__, {})
    error = cls("What happened", **SEEN, **own)
    if sys.version_info >= (3, 11):
        error.add_note("seen in production")
    other = journey(error)
    assert type(other) is cls
    assert other is not error
    assert vars(other) == vars(error)
    assert {name: getattr(other, name) for name in (*SEEN, *own)} == {**SEEN, **own}
    assert other.args == error.args == ("What happened",)
    assert str(other) == str(error)


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.code)
def test_raised_entry_survives_a_pickle(entry):
    error = make_error(entry, "The server's words", status=400, retry_after=2.0)
    other = pickle.loads(pickle.dumps(error))
    assert vars(other) == vars(error)
    assert other.entry is entry


@every_class
def test_unknown_attribute_is_refused(cls):
    with pytest.raises(TypeError):
        cls("x", statsu=400)


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.code)
@pytest.mark.parametrize("message", ["", "two\nlines\tand a  tab ", "Please try again.", "Why?", "no full stop"])
@pytest.mark.parametrize("status", [None, 503])
def test_str_is_one_line_with_the_resolution(entry, message, status):
    text = str(make_error(entry, message, status=status))
    assert text == " ".join(text.split())
    assert text.startswith(" ".join(message.split()).rstrip(".") or entry.cause.rstrip("."))
    assert text.endswith(entry.resolution)
    assert ".." not in text
    assert "?." not in text


def test_str_names_status_and_wait():
    error = RateLimitError("Slow down.", status=429, retry_after=12.0, resolution="Wait.")
    assert str(error) == "Slow down (HTTP 429, retry after 12 s). Wait."


def test_str_says_the_fix_once():
    assert str(ConfigurationError("host is missing: pass it.", resolution="pass it.")) == "host is missing: pass it."
    assert str(ConfigurationError("host is missing", resolution="")) == "host is missing"


def test_repr_is_short_and_names_the_code():
    assert repr(AgentError("Sorry", body="long")) == "AgentError('Sorry', code='agent.no_response')"


def test_code_outside_the_catalogue_still_makes_a_whole_error():
    error = PolyAIError(code="mine.own")
    assert error.entry is None
    assert (error.message, error.surface, error.retryable, error.resolution, error.user_text) == (
        "",
        "client",
        False,
        "",
        "",
    )
    assert str(error) == ""
    assert str(PolyAIError("Mine", code="mine.own", status=418)) == "Mine (HTTP 418)"


def test_builtin_bases_catch_too():
    with pytest.raises(ValueError):
        raise errors.ConfigurationError
    with pytest.raises(ValueError):
        raise errors.MessageTooLargeError
    with pytest.raises(TimeoutError):
        raise errors.ReplyTimeoutError
    with pytest.raises(RuntimeError):
        raise errors.ReentrantCallError
