"""How the implementations of a hook are called: arguments, order, wrappers, and each one's faults kept to itself."""

from __future__ import annotations

import functools
import logging
import types

import pytest

from polyai_sync.errors import ServerError
from polyai_sync.hooks import OBSERVERS, POLICIES, ClientEvent, RateLimit, hookimpl
from polyai_sync.plugin_host import PluginHost
from polyai_sync.redaction import Redactor

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyLTEifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ"


class Session:
    """Stands in where a hook only looks at the session."""

    session_id = "session-1"


SESSION = Session()

# One call of every hook; a test below holds that none is missing.
CALLS = {
    "on_error": {"session": None, "error": ServerError("no")},
    "on_session_start": {"session": SESSION, "capabilities": "capabilities"},
    "on_session_end": {"session": SESSION, "reason": "REASON_USER_END", "error": None},
    "on_rate_limit": {"session": SESSION, "limit": RateLimit(surface="websocket", certain=False)},
    "on_request": {
        "session": None,
        "operation": "access_token",
        "attempt": 1,
        "method": "POST",
        "url": "https://messaging.us-1.poly.ai/api/v1/access-token",
        "correlation_id": "c-1",
    },
    "on_response": {
        "session": None,
        "operation": "access_token",
        "attempt": 1,
        "status": 200,
        "seconds": 0.1,
        "correlation_id": "c-1",
        "error": None,
    },
    "on_connect": {"session": SESSION, "attempt": 1, "cursor": 7, "seconds": 0.2},
    "on_disconnect": {"session": SESSION, "error": None},
    "on_reconnect": {"session": SESSION, "attempt": 2, "delay": 1.5, "error": ServerError("no")},
    "on_event": {"session": SESSION, "event": "event"},
    "on_send": {"session": SESSION, "event": ClientEvent(type="EVENT_TYPE_HEARTBEAT")},
    "on_message": {"session": SESSION, "message": "message"},
    "on_delivery": {"session": SESSION, "message": "message"},
    "on_handoff": {"session": SESSION, "handoff": "handoff"},
    "retry_delay": {"session": None, "operation": "connect", "error": ServerError("no"), "attempt": 1},
    "reconnect_delay": {"session": SESSION, "error": ServerError("no"), "attempt": 1},
    "resend": {"session": SESSION, "message": "message"},
}
ANSWERS = {"retry_delay": 2.5, "reconnect_delay": 0.0, "resend": False}


def host(*plugins, **options):
    """A host of nothing but these plugins, deaf to the environment."""
    return PluginHost(plugins, **{"load_plugins": False, "environ": {}, **options})


def plugin(name="plugin", **functions):
    """An instance with these functions as its hooks, which take no ``self``."""
    marked = {hook: staticmethod(hookimpl(function)) for hook, function in functions.items()}
    return type(name, (), marked)()


def noting(log, name):
    return plugin(name, on_error=lambda error: log.append(name), retry_delay=lambda: log.append(name))


def names(built):
    return [info.name for info in built.plugins]


# --- every hook ---


def test_every_hook_is_called_in_these_tests():
    assert set(CALLS) == {*OBSERVERS, *POLICIES}
    assert set(ANSWERS) == set(POLICIES)


@pytest.mark.parametrize("hook", CALLS)
def test_a_hook_hands_on_its_arguments_and_answer(hook):
    seen = []

    def implementation(**arguments):
        seen.append(arguments)
        return ANSWERS.get(hook, "ignored")

    built = host(plugin(**{hook: implementation}))
    assert getattr(built, hook)(**CALLS[hook]) == ANSWERS.get(hook)
    assert seen == [CALLS[hook]]
    assert [other for other in CALLS if built.has(other)] == [hook]


@pytest.mark.parametrize("hook", CALLS)
def test_without_plugins_the_bare_mechanism_acts(hook):
    built = host()
    assert built.plugins == ()
    assert not built.has(hook)
    assert getattr(built, hook)(**CALLS[hook]) is (True if hook == "resend" else None)


def test_asking_for_a_hook_that_does_not_exist_is_an_error():
    with pytest.raises(KeyError):
        host().has("on_evnt")


# --- arguments ---


def takes_none():
    return ()


def takes_first(session):
    return (session,)


def takes_last(attempt):
    return (attempt,)


def takes_neighbours(operation, error):
    return operation, error


def takes_apart(session, attempt):
    return session, attempt


def takes_in_another_order(attempt, session):
    return attempt, session


def takes_by_position_only(operation, /, attempt):
    return operation, attempt


def takes_by_name_only(attempt, *, operation):
    return attempt, operation


def takes_with_defaults(session="default", attempt="default"):
    return session, attempt


def takes_an_extra(extra="extra", operation="default"):
    return extra, operation


def takes_the_rest(attempt, **rest):
    return attempt, sorted(rest)


def takes_positions(*positions):
    return positions


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (takes_none, ()),
        (takes_first, ("S",)),
        (takes_last, (3,)),
        (takes_neighbours, ("ask", "E")),
        (takes_apart, ("S", 3)),
        (takes_in_another_order, (3, "S")),
        (takes_by_position_only, ("ask", 3)),
        (takes_by_name_only, (3, "ask")),
        (takes_with_defaults, ("S", 3)),
        (takes_an_extra, ("extra", "ask")),
        (takes_the_rest, (3, ["error", "operation", "session"])),
        (takes_positions, ()),
    ],
)
def test_an_implementation_may_take_any_subset_of_the_arguments(function, expected):
    seen = []

    @functools.wraps(function)
    def kept(*arguments, **keywords):
        seen.append(function(*arguments, **keywords))

    host(plugin(retry_delay=kept)).retry_delay(session="S", operation="ask", error="E", attempt=3)
    assert seen == [expected]


def test_methods_class_methods_and_modules_can_be_plugins():
    seen = []

    class Methods:
        @hookimpl
        def on_event(self, event):
            seen.append((type(self).__name__, event))

        @classmethod
        @hookimpl
        def on_send(cls, event):
            seen.append((cls.__name__, event))

    module = types.ModuleType("a.module")
    module.on_event = hookimpl(lambda event: seen.append(("module", event)))
    built = host(Methods(), module)
    built.on_event("s", "e")
    built.on_send("s", "e")
    assert seen == [("Methods", "e"), ("module", "e"), ("Methods", "e")]
    assert names(built) == ["Methods", "a.module"]


# --- isolation ---


def failing(error):
    def implementation():
        raise error

    return implementation


def test_a_failing_observer_is_logged_by_name_and_the_others_are_told(caplog):
    # pitfalls.md 40
    log = []
    built = host(noting(log, "before"), plugin("bad", on_error=failing(ValueError("boom"))), noting(log, "after"))
    built.on_error(SESSION, ServerError("no"))
    assert log == ["before", "after"]
    (record,) = caplog.records
    assert record.name == "polyai_sync.plugins"
    assert record.levelno == logging.ERROR
    assert "'bad'" in record.getMessage()
    assert "on_error" in record.getMessage()
    assert (record.plugin, record.hook, record.session_id) == ("bad", "on_error", "session-1")
    assert "ValueError: boom" in caplog.text
    assert "Traceback" in caplog.text


def test_a_failing_policy_counts_as_no_answer(caplog):
    built = host(plugin("bad", retry_delay=failing(ValueError("boom"))), plugin("good", retry_delay=lambda: 3))
    assert built.retry_delay(None, "ask", ServerError("no"), 1) == 3.0
    assert [record.plugin for record in caplog.records] == ["bad"]
    assert host(plugin(resend=failing(ValueError()))).resend(SESSION, "message") is True


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("hook", CALLS)
def test_what_ends_the_program_passes_through(hook, error):
    built = host(plugin(**{hook: failing(error())}))
    with pytest.raises(error):
        getattr(built, hook)(**CALLS[hook])


def test_a_policy_stops_at_its_first_answer():
    log = []
    built = host(noting(log, "silent"), plugin("first", retry_delay=lambda: 0), noting(log, "late"))
    assert built.retry_delay(None, "ask", ServerError("no"), 1) == 0.0
    assert log == ["silent"]


@pytest.mark.parametrize("hook", ["retry_delay", "reconnect_delay"])
@pytest.mark.parametrize("answer", [True, False, "1", -0.1, float("nan"), float("inf"), 10**400, [1], object()])
def test_a_delay_that_is_no_number_of_seconds_is_the_plugins_fault(hook, answer, caplog):
    built = host(plugin("bad", **{hook: lambda: answer}), plugin("good", **{hook: lambda: 4}))
    assert getattr(built, hook)(**CALLS[hook]) == 4.0
    (record,) = caplog.records
    assert (record.levelno, record.plugin, record.hook) == (logging.ERROR, "bad", hook)


@pytest.mark.parametrize("answer", [0, 1, "no", [], 0.0])
def test_a_resend_that_is_no_bool_is_the_plugins_fault(answer, caplog):
    assert host(plugin("bad", resend=lambda: answer)).resend(SESSION, "message") is True
    (record,) = caplog.records
    assert (record.levelno, record.plugin) == (logging.ERROR, "bad")


def test_a_delay_is_always_a_float():
    answer = host(plugin(reconnect_delay=lambda: 1)).reconnect_delay(SESSION, ServerError("no"), 1)
    assert (answer, type(answer)) == (1.0, float)


@pytest.mark.parametrize("quoted", [JWT, f"wss://host/ws?session_id=1&access_token={JWT}", "X-Token: connector-secret"])
def test_a_token_in_a_plugins_exception_is_not_logged(quoted, caplog):
    def implementation():
        try:
            raise KeyError(quoted)
        except KeyError as cause:
            raise ValueError(f"could not send to {quoted}") from cause

    host(plugin("bad", on_error=implementation)).on_error(None, ServerError("no"))
    assert "ValueError: could not send to" in caplog.text
    assert "KeyError" in caplog.text
    assert JWT not in caplog.text
    assert "connector-secret" not in caplog.text
    assert caplog.records[0].exc_info is None, "the exception itself still holds the token"


def test_a_known_secret_is_masked_by_value(caplog):
    built = host(
        plugin(on_error=failing(ValueError("hush-hush")), retry_delay=lambda: "hush-hush"),
        redactor=Redactor("hush-hush"),
    )
    built.on_error(None, ServerError("no"))
    built.retry_delay(None, "ask", ServerError("no"), 1)
    assert len(caplog.records) == 2
    assert "hush-hush" not in caplog.text


# --- slow hooks ---


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("polyai_sync.plugin_calls.monotonic", clock)
    return clock


def test_a_hook_over_a_second_is_named_in_a_warning(clock, caplog):
    built = host(
        plugin("slow", on_event=lambda: clock.pass_by(1.1), retry_delay=lambda: clock.pass_by(7)),
        plugin("fast", on_event=lambda: clock.pass_by(1.0)),
    )
    built.on_event(SESSION, "event")
    built.retry_delay(None, "ask", ServerError("no"), 1)
    assert [(one.levelno, one.plugin, one.hook) for one in caplog.records] == [
        (logging.WARNING, "slow", "on_event"),
        (logging.WARNING, "slow", "retry_delay"),
    ]
    assert "1.1 s" in caplog.messages[0]


def test_a_slow_hook_that_fails_is_named_for_both(clock, caplog):
    def implementation():
        clock.pass_by(5)
        raise ValueError

    host(plugin(on_event=implementation)).on_event(SESSION, "event")
    assert [one.levelno for one in caplog.records] == [logging.ERROR, logging.WARNING]


def test_a_slow_wrapper_is_named_and_not_what_it_wraps(clock, caplog):
    class Wrapper:
        @hookimpl(wrapper=True)
        def on_event(self):
            clock.pass_by(2)
            return (yield)

    host(plugin("inner", on_event=lambda: None), Wrapper()).on_event(SESSION, "event")
    assert [one.plugin for one in caplog.records] == ["Wrapper"]


def test_the_limit_of_a_slow_hook_can_be_set(clock, caplog):
    host(plugin(on_event=lambda: clock.pass_by(2)), slow_after=3).on_event(SESSION, "event")
    assert not caplog.records


# --- order and wrappers ---


def ordered(log, name, **options):
    class Plugin:
        @hookimpl(**options)
        def on_error(self):
            log.append(name)

    built = Plugin()
    built.name = name
    return built


def test_given_plugins_are_called_as_listed():
    log = []
    built = host(*(ordered(log, name) for name in "cab"))
    built.on_error(None, ServerError("no"))
    assert log == ["c", "a", "b"] == names(built)


def test_tryfirst_and_trylast_are_heeded():
    log = []
    host(ordered(log, "last", trylast=True), ordered(log, "middle"), ordered(log, "first", tryfirst=True)).on_error(
        None, ServerError("no")
    )
    assert log == ["first", "middle", "last"]


def wrapping(log, name, **options):
    class Wrapper:
        @hookimpl(wrapper=True, **options)
        def on_error(self):
            log.append(f"{name} before")
            yield
            log.append(f"{name} after")

        @hookimpl(wrapper=True, **options)
        def retry_delay(self):
            answer = yield
            log.append((name, answer))
            return None if answer is None else answer + 1

    built = Wrapper()
    built.name = name
    return built


def test_wrappers_run_around_all_others_in_order():
    log = []
    built = host(noting(log, "one"), wrapping(log, "outer"), noting(log, "two"), wrapping(log, "inner"))
    built.on_error(None, ServerError("no"))
    assert log == ["outer before", "inner before", "one", "two", "inner after", "outer after"]


def test_a_wrapper_may_change_an_answer():
    log = []
    built = host(plugin(retry_delay=lambda: 5), wrapping(log, "outer"), wrapping(log, "inner"))
    assert built.retry_delay(None, "ask", ServerError("no"), 1) == 7.0
    assert log == [("inner", 5.0), ("outer", 6.0)]


def test_a_wrapper_alone_is_asked_too():
    log = []
    assert host(wrapping(log, "alone")).retry_delay(None, "ask", ServerError("no"), 1) is None
    assert log == [("alone", None)]


def test_a_wrapper_does_not_meet_the_exception_of_another(caplog):
    log = []
    built = host(plugin("bad", retry_delay=failing(ValueError())), wrapping(log, "outer"))
    assert built.retry_delay(None, "ask", ServerError("no"), 1) is None
    assert log == [("outer", None)]
    assert [one.plugin for one in caplog.records] == ["bad"]


def test_an_old_style_wrapper_works_as_in_pluggy():
    seen = []

    class Old:
        @hookimpl(hookwrapper=True)
        def retry_delay(self, attempt):
            outcome = yield
            seen.append((attempt, outcome.get_result()))
            outcome.force_result(9)

        @hookimpl(hookwrapper=True)
        def on_error(self):
            seen.append((yield).get_result())

    built = host(plugin(retry_delay=lambda: 5, on_error=lambda: "heard"), Old())
    assert built.retry_delay(None, "ask", ServerError("no"), 2) == 9.0
    built.on_error(None, ServerError("no"))
    assert seen == [(2, 5.0), ["heard"]]


def fails_before():
    raise ValueError("before")
    yield


def fails_after():
    yield
    raise ValueError("after")


def never_yields():
    if False:
        yield


def yields_twice():
    yield
    yield


def answers_nonsense():
    yield
    return "soon"


@pytest.mark.parametrize("style", ["wrapper", "hookwrapper"])
@pytest.mark.parametrize("broken", [fails_before, fails_after, never_yields, yields_twice])
def test_a_broken_wrapper_counts_as_absent(broken, style, caplog):
    log = []

    marked = staticmethod(hookimpl(**{style: True})(broken))
    built = host(
        wrapping(log, "outer"),
        type("Broken", (), {"on_error": marked, "retry_delay": marked})(),
        wrapping(log, "inner"),
        plugin("p", retry_delay=lambda: 5),
    )
    built.on_error(None, ServerError("no"))
    assert log == ["outer before", "inner before", "inner after", "outer after"]
    assert built.retry_delay(None, "ask", ServerError("no"), 1) == 7.0
    assert [(one.plugin, one.hook) for one in caplog.records] == [("Broken", "on_error"), ("Broken", "retry_delay")]


def test_a_wrapper_that_answers_nonsense_leaves_the_answer_as_it_was(caplog):
    marked = staticmethod(hookimpl(wrapper=True)(answers_nonsense))
    built = host(type("Broken", (), {"retry_delay": marked})(), plugin(retry_delay=lambda: 5))
    assert built.retry_delay(None, "ask", ServerError("no"), 1) == 5.0
    assert [one.plugin for one in caplog.records] == ["Broken"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_wrapper_cleans_up_when_the_program_is_ended_inside_it(error):
    log = []

    class Wrapper:
        @hookimpl(wrapper=True)
        def on_error(self):
            try:
                return (yield)
            finally:
                log.append("cleaned up")

    class Late:
        @hookimpl(wrapper=True)
        def on_error(self):
            log.append("begun")
            yield
            raise AssertionError("not reached")

    with pytest.raises(error):
        host(Wrapper(), Late(), plugin(on_error=failing(error()))).on_error(None, ServerError("no"))
    assert log == ["begun", "cleaned up"]
