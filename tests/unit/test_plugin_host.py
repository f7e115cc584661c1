"""Which plugins a host has: given, installed, bundled; their names, their order, and what keeps one out."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import types

import pytest

from polyai_sync.errors import PluginError, ServerError
from polyai_sync.hooks import PluginInfo, hookimpl, only_if
from polyai_sync.plugin_host import PluginHost

BUNDLED = ["backoff", "logging", "reconnect"]
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyLTEifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ"


def host(*plugins, **options):
    """A host of nothing but these plugins, deaf to the environment."""
    return PluginHost(plugins, **{"load_plugins": False, "environ": {}, **options})


def names(built):
    return [info.name for info in built.plugins]


class Named:
    def __init__(self, name):
        self.name = name

    @hookimpl
    def on_event(self):
        """A hook."""


class Hooked:
    @hookimpl
    def on_event(self):
        """A hook."""


# --- names and blocking ---


def test_a_plugins_name_is_its_name_else_its_class_else_its_module():
    assert names(host(Named("mine"), Hooked(), types.ModuleType("some.module"))) == ["mine", "Hooked", "some.module"]


@pytest.mark.parametrize("options", [{"block": ["Hooked"]}, {"environ": {"POLYAI_SYNC_BLOCK": "other, Hooked ,"}}])
def test_a_given_plugin_can_be_blocked_and_is_then_pointed_out(options, caplog):
    built = host(Hooked(), Named("mine"), **options)
    assert names(built) == ["mine"]
    assert "'Hooked'" in caplog.text


def test_the_bundled_plugins_come_from_their_entry_points():
    built = PluginHost(environ={})
    assert names(built) == BUNDLED
    assert {info.origin for info in built.plugins} == {"bundled"}
    assert {info.distribution for info in built.plugins} == {"polyai-sync"}
    assert all(info.version for info in built.plugins)
    assert built.plugins[2].hooks == ("reconnect_delay",)


def test_without_loading_there_are_no_entry_points():
    assert PluginHost(load_plugins=False).plugins == ()


def test_a_given_plugin_replaces_the_bundled_one_of_its_name():
    built = PluginHost([Named("z"), Named("backoff")], environ={})
    assert [(info.name, info.origin) for info in built.plugins] == [
        ("z", "given"),
        ("backoff", "given"),
        ("logging", "bundled"),
        ("reconnect", "bundled"),
    ]
    assert built.retry_delay(None, "connect", ServerError("no", retryable=True), 1) is None, "nobody answers any more"


def test_bundled_plugins_can_be_blocked_from_both_sides():
    built = PluginHost(block=["logging"], environ={"POLYAI_SYNC_BLOCK": "backoff"})
    assert names(built) == ["reconnect"]


def test_the_environment_is_read_where_none_is_given(monkeypatch):
    monkeypatch.setenv("POLYAI_SYNC_BLOCK", "backoff,logging")
    assert names(PluginHost()) == ["reconnect"]


def test_every_host_has_plugins_of_its_own():
    given = Hooked()
    assert names(host(given)) == names(host(given)) == ["Hooked"]
    assert host().plugins == ()


# --- other distributions' entry points ---


def loud_if(condition, name="sometimes"):
    class Sometimes(Named):
        @hookimpl
        @only_if(condition)
        def on_event(self):
            raise AssertionError("only looked at")

    return Sometimes(name)


def test_a_hook_that_nobody_implements_is_unheard():
    assert "on_event" in host().unheard()
    assert "on_event" not in host(Hooked()).unheard()


def test_a_hook_whose_only_implementation_is_off_is_unheard_as_long_as_it_is():
    on = False
    built = host(loud_if(lambda: on))
    assert "on_event" in built.unheard()
    on = True
    assert "on_event" not in built.unheard()


def test_a_hook_is_heard_where_one_of_its_implementations_is_on():
    assert "on_event" not in host(loud_if(lambda: False, "off"), loud_if(lambda: True, "on")).unheard()
    assert "on_event" not in host(loud_if(lambda: False), Hooked()).unheard()


def test_a_condition_on_another_hook_changes_nothing():
    class Errors:
        @hookimpl
        @only_if(lambda: False)
        def on_error(self):
            """Always called."""

    assert "on_error" not in host(Errors()).unheard()


def test_a_condition_that_raises_hides_nothing():
    assert "on_event" not in host(loud_if(lambda: 1 / 0)).unheard()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution as pip leaves it: metadata and modules on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def install(distribution, entry_points, *, version="1.2", metadata=None, **modules):
        folder = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        if metadata is None:
            metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (folder / "METADATA").write_text(metadata)
        (folder / "entry_points.txt").write_text(entry_points)
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text("from polyai_sync.hooks import hookimpl\n" + textwrap.dedent(source))

    yield install
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


A_CLASS = """
    class Plugin:
        name = "not the entry point's"

        @hookimpl
        def on_error(self, error):
            error.log.append(__name__)
"""


def third_party(built):
    return [info for info in built.plugins if info.origin == "entry point"]


@pytest.mark.parametrize(
    ("value", "source"),
    [
        ("acme_polyai", "@hookimpl\ndef on_error(error): error.log.append(__name__)"),
        ("acme_polyai:Plugin", A_CLASS),
        ("acme_polyai:make", A_CLASS + "\n    def make():\n        return Plugin()\n"),
        ("acme_polyai:PLUGIN", A_CLASS + "\n    PLUGIN = Plugin()\n"),
        (
            "acme_polyai:make",
            A_CLASS + "\n    import functools\n    make = functools.partial(lambda cls: cls(), Plugin)\n",
        ),
    ],
    ids=["module", "class", "factory", "instance", "partial"],
)
def test_an_entry_point_may_be_a_module_a_class_a_factory_or_an_instance(install, value, source):
    install("acme-polyai", f"[polyai_sync]\nacme = {value}\n", acme_polyai=source)
    built = PluginHost(environ={})
    assert third_party(built) == [
        PluginInfo(name="acme", origin="entry point", distribution="acme-polyai", version="1.2", hooks=("on_error",))
    ]
    error = ServerError("no")
    error.log = []
    built.on_error(None, error)
    assert error.log == ["acme_polyai"]


def test_plugins_are_called_given_first_then_by_name_then_the_bundled(install):
    install("zoo", "[polyai_sync]\nabc = zoo_one:Plugin\nxyz = zoo_two:Plugin\n", zoo_one=A_CLASS, zoo_two=A_CLASS)
    install("ant", "[polyai_sync]\nmno = ant_one:Plugin\n", ant_one=A_CLASS)
    error = ServerError("no")
    error.log = []
    built = PluginHost([Named("last")], environ={})
    built.on_error(None, error)
    assert names(built) == ["last", "abc", "mno", "xyz", *BUNDLED]
    assert error.log == ["zoo_one", "ant_one", "zoo_two"]


def test_other_groups_are_left_alone(install):
    install("acme", "[other]\nacme = acme_other:Plugin\n", acme_other="raise AssertionError('imported')")
    assert third_party(PluginHost(environ={"POLYAI_SYNC_STRICT_PLUGINS": "1"})) == []


@pytest.mark.parametrize("options", [{"block": ["acme"]}, {"environ": {"POLYAI_SYNC_BLOCK": "acme"}}])
def test_a_blocked_entry_point_is_not_even_imported(install, options, caplog):
    install("acme", "[polyai_sync]\nacme = acme_blocked:Plugin\n", acme_blocked="raise AssertionError('imported')")
    assert third_party(PluginHost(**{"environ": {}, **options})) == []
    assert "acme_blocked" not in sys.modules
    assert not caplog.records


def test_an_entry_point_whose_name_was_given_is_not_imported(install, caplog):
    install("acme", "[polyai_sync]\nacme = acme_replaced:Plugin\n", acme_replaced="raise AssertionError('imported')")
    built = PluginHost([Named("acme")], environ={})
    assert (built.plugins[0].name, built.plugins[0].origin) == ("acme", "given")
    assert "acme_replaced" not in sys.modules
    assert not caplog.records


def test_an_entry_point_may_replace_a_bundled_plugin(install, caplog):
    install("acme", "[polyai_sync]\nbackoff = acme_backoff:Plugin\n", acme_backoff=A_CLASS)
    built = PluginHost(environ={})
    assert [(info.name, info.origin) for info in built.plugins] == [
        ("backoff", "entry point"),
        ("logging", "bundled"),
        ("reconnect", "bundled"),
    ]
    assert not caplog.records


BROKEN = {
    "not importable": ("acme_broken:Plugin", "import a_module_that_is_not_there", "ModuleNotFoundError"),
    "raises": ("acme_broken:Plugin", "raise RuntimeError('at import')", "RuntimeError"),
    "syntax error": ("acme_broken:Plugin", "def", "SyntaxError"),
    "not there": ("acme_broken:Other", A_CLASS, "AttributeError"),
    "cannot be made": (
        "acme_broken:Plugin",
        "class Plugin:\n    def __init__(self, needed):\n        self.needed = needed\n",
        "TypeError",
    ),
    "makes a class": ("acme_broken:make", A_CLASS + "\n    def make():\n        return Plugin\n", "class"),
    "makes nothing": ("acme_broken:make", "def make():\n    pass\n", "None"),
    "is no plugin": ("acme_broken:PLUGIN", "PLUGIN = 'a text'", "'a text'"),
    "misspelt hook": ("acme_broken", "@hookimpl\ndef on_eror(): pass\n", "on_error"),
    "wrong argument": ("acme_broken", "@hookimpl\ndef on_error(eror): pass\n", "eror"),
    "unhashable": (
        "acme_broken:Plugin",
        A_CLASS + "\n    Plugin.__hash__ = None\n",
        "unhashable",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_entry_point_is_named_in_one_warning_and_skipped(case, install, caplog):
    value, source, fault = BROKEN[case]
    install("acme-broken", f"[polyai_sync]\nacme = {value}\n", acme_broken=source)
    install("good", "[polyai_sync]\ngood = good_one:Plugin\n", good_one=A_CLASS)
    built = PluginHost(environ={"POLYAI_SYNC_STRICT_PLUGINS": "0"})
    assert names(built) == ["good", *BUNDLED]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("polyai_sync.plugins", logging.WARNING)
    for word in ("'acme'", "acme-broken 1.2", value, fault, "POLYAI_SYNC_BLOCK=acme", "block=['acme']"):
        assert word in record.getMessage(), word


@pytest.mark.parametrize("case", BROKEN)
def test_strictness_raises_what_is_else_a_warning(case, install):
    value, source, fault = BROKEN[case]
    install("acme-broken", f"[polyai_sync]\nacme = {value}\n", acme_broken=source)
    with pytest.raises(PluginError) as caught:
        PluginHost(environ={"POLYAI_SYNC_STRICT_PLUGINS": "1"})
    assert "'acme'" in str(caught.value)
    assert fault in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_token_quoted_by_a_broken_entry_point_is_not_logged(install, caplog):
    install("acme", "[polyai_sync]\nacme = acme_token\n", acme_token=f"raise ValueError('bad token {JWT}')")
    PluginHost(environ={})
    assert "bad token" in caplog.text
    assert JWT not in caplog.text


def test_of_two_distributions_plugins_of_one_name_the_first_is_used_and_the_other_named(install, caplog):
    install("ant", "[polyai_sync]\nacme = ant_acme:Plugin\n", ant_acme=A_CLASS)
    install("bee", "[polyai_sync]\nacme = bee_acme:Plugin\n", bee_acme=A_CLASS)
    assert [info.distribution for info in third_party(PluginHost(environ={}))] == ["ant"]
    (record,) = caplog.records
    assert "'acme' of bee" in record.getMessage()
    assert "bee_acme" not in sys.modules


def test_a_module_under_two_names_is_used_once(install, caplog):
    install("ant", "[polyai_sync]\na = ant_twice\nb = ant_twice\n", ant_twice="@hookimpl\ndef on_error(): pass\n")
    assert [info.name for info in third_party(PluginHost(environ={}))] == ["a"]
    assert "'b'" in caplog.text


def test_damaged_metadata_of_one_distribution_costs_no_other(install, caplog):
    install("damaged", "[polyai_sync]\nthis is no pair\n")
    install("good", "[polyai_sync]\ngood = good_two:Plugin\n", good_two=A_CLASS)
    built = PluginHost(environ={})
    assert names(built) == ["good", *BUNDLED]
    (record,) = caplog.records
    assert "'damaged'" in record.getMessage()


def test_a_plugin_without_a_distribution_name_is_loaded_all_the_same(install):
    install("nameless", "[polyai_sync]\nacme = acme_nameless:Plugin\n", metadata="", acme_nameless=A_CLASS)
    assert [info.name for info in third_party(PluginHost(environ={}))] == ["acme"]


def test_a_bundled_plugin_that_cannot_be_loaded_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "polyai_sync_plugins.backoff", None)
    with pytest.raises(PluginError, match="bundled plugin 'backoff'"):
        PluginHost(environ={})
    assert names(PluginHost(environ={"POLYAI_SYNC_BLOCK": "backoff"})) == ["logging", "reconnect"]


def test_importing_the_client_does_not_import_plugins_or_the_metadata_reader():
    code = (
        "import sys, attrs, pluggy, requests, websocket; before = set(sys.modules); import polyai_sync.plugin_host; "
        "new = set(sys.modules) - before; "
        "print(sorted(n for n in new if n.startswith('polyai_sync_plugins') or n == 'importlib.metadata'))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"
