"""What the plugin host refuses or points out, by name, when it is built."""

from __future__ import annotations

import functools
import logging
import types

import attrs
import pytest

from polyai_sync.errors import ConfigurationError, PluginError
from polyai_sync.hooks import PluginInfo, hookimpl
from polyai_sync.plugin_host import PluginHost


def host(*plugins, **options):
    """A host of nothing but these plugins, deaf to the environment."""
    return PluginHost(plugins, **{"load_plugins": False, "environ": {}, **options})


def given_function():
    """No plugin, though it could be in one."""


class Misspelt:
    @hookimpl
    def on_evnt(self):
        """A hook whose name is misspelt."""


class MisspeltByName:
    @hookimpl(specname="retry_dealy")
    def decide(self):
        """A hook whose name is misspelt in the marker."""


class WrongArgument:
    @hookimpl
    def on_event(self, evnt):
        """Takes what the hook does not have."""


class WrongArgumentByName:
    @hookimpl
    def retry_delay(self, *, tries):
        """Takes by name what the hook does not have."""


@attrs.define
class Unhashable:
    size: int = 0

    @hookimpl
    def on_event(self):
        """A hook."""


class Asynchronous:
    @hookimpl
    async def on_event(self):
        """Would never be awaited."""


class Yielding:
    @hookimpl
    def on_event(self):
        yield


class NotYielding:
    @hookimpl(wrapper=True)
    def on_event(self):
        """Wraps nothing."""


class BothStyles:
    @hookimpl(wrapper=True, hookwrapper=True)
    def on_event(self):
        yield


class MarkedProperty:
    @property
    @hookimpl
    def on_event(self):
        """No function."""


class MarkedPartial:
    def __init__(self):
        self.on_event = hookimpl(functools.partial(print))


class Named:
    def __init__(self, name):
        self.name = name

    @hookimpl
    def on_event(self):
        """A hook."""


class NameThatRaises:
    @property
    def name(self):
        raise RuntimeError("no name yet")


class DirThatRaises:
    def __dir__(self):
        raise RuntimeError("nothing to see")


class Hooked:
    @hookimpl
    def on_event(self):
        """A hook."""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Misspelt(), ["'Misspelt'", "'on_evnt'", "did you mean 'on_event'?"]),
        (MisspeltByName(), ["'MisspeltByName'", "'retry_dealy'", "did you mean 'retry_delay'?"]),
        (WrongArgument(), ["'WrongArgument'", "on_event", "'evnt'", "did you mean 'event'?", "session, event"]),
        (WrongArgumentByName(), ["'WrongArgumentByName'", "retry_delay", "'tries'"]),
        (Unhashable(), ["'Unhashable'", "unhashable", "eq=False"]),
        (Hooked, ["'Hooked'", "class", "Hooked()"]),
        (Asynchronous(), ["'Asynchronous'", "on_event", "asynchronous"]),
        (Yielding(), ["'Yielding'", "on_event", "wrapper=True"]),
        (NotYielding(), ["'NotYielding'", "on_event", "yield"]),
        (BothStyles(), ["'BothStyles'", "on_event", "hookwrapper=True"]),
        (MarkedProperty(), ["'MarkedProperty'", "on_event", "property"]),
        (MarkedPartial(), ["'MarkedPartial'", "on_event", "partial"]),
        (Named(3), ["Named", "name", "3"]),
        (Named(""), ["Named", "name"]),
        (Named("a,b"), ["Named", "name", "comma"]),
        (NameThatRaises(), ["NameThatRaises", "RuntimeError"]),
        (DirThatRaises(), ["'DirThatRaises'", "RuntimeError"]),
        ("backoff", ["'backoff'", "module", "instance"]),
        (None, ["None", "module", "instance"]),
        (7, ["7", "module", "instance"]),
        ({}, ["{}", "module", "instance"]),
        (given_function, ["given_function", "module", "instance"]),
    ],
    ids=lambda value: None if isinstance(value, list) else getattr(value, "__name__", type(value).__name__),
)
def test_a_given_plugin_that_cannot_work_is_refused_by_name(given, words):
    with pytest.raises(PluginError) as caught:
        host(Named("good"), given)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert caught.value.code == "client.plugin"


def test_a_name_given_twice_is_refused():
    with pytest.raises(PluginError, match="'Hooked' was given twice"):
        host(Hooked(), Hooked())
    same = Hooked()
    with pytest.raises(PluginError, match="'Hooked' was given twice"):
        host(same, same)


def test_two_plugins_that_count_as_equal_are_refused():
    @attrs.frozen
    class Equal:
        name: str = attrs.field(eq=False)

    with pytest.raises(PluginError, match="'b' is the same as plugin 'a'"):
        host(Equal("a"), Equal("b"))


def test_an_optional_hook_may_be_unknown():
    class Newer:
        @hookimpl(optionalhook=True)
        def on_something_new(self, whatever):
            """A hook of a later version."""

        @hookimpl
        def on_event(self):
            """A hook."""

    assert host(Newer()).plugins == (PluginInfo(name="Newer", origin="given", hooks=("on_event",)),)


def test_a_hook_that_lacks_its_marker_is_pointed_out(caplog):
    class Forgetful:
        resend = None  # not callable, so nobody's hook

        @hookimpl
        def on_event(self):
            """A hook."""

        def on_send(self):
            """Not marked."""

    built = host(Forgetful())
    assert not built.has("on_send")
    assert [(one.levelno, one.name) for one in caplog.records] == [(logging.WARNING, "polyai_sync.plugins")]
    assert all(word in caplog.messages[0] for word in ("'Forgetful'", "on_send", "@hookimpl"))


def test_a_module_may_import_a_specification_without_being_warned(caplog):
    from polyai_sync.hooks import on_send

    module = types.ModuleType("importing")
    module.on_send = on_send
    module.on_event = hookimpl(lambda: None)
    host(module)
    assert not caplog.records


def test_a_plugin_without_any_hook_is_pointed_out(caplog):
    class Idle:
        """Has nothing to say."""

    assert [info.name for info in host(Idle()).plugins] == ["Idle"]
    assert "'Idle' implements no hook" in caplog.text


def test_looking_for_hooks_runs_no_property():
    class Plugin:
        @property
        def connection(self):
            raise AssertionError("run")

        @functools.cached_property
        def client(self):
            raise AssertionError("run")

        @hookimpl
        def on_event(self):
            """A hook."""

    assert host(Plugin()).has("on_event")


@pytest.mark.parametrize("value", ["backoff", b"backoff", 7, None, Hooked()])
@pytest.mark.parametrize("setting", ["plugins", "block"])
def test_a_setting_that_is_no_list_is_refused_by_name(setting, value):
    with pytest.raises(ConfigurationError, match=f"^{setting} has to be a list"):
        PluginHost(**{setting: value})
