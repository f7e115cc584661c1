"""The specification of the hooks, held against what is documented and what the host offers."""

from __future__ import annotations

import inspect
import re

import attrs
import pluggy
import pytest

from polyai_sync import hooks
from polyai_sync.hooks import OBSERVERS, POLICIES, PROJECT, ClientEvent, PluginInfo, RateLimit
from polyai_sync.plugin_host import PluginHost

# As the design has them: a hook is renamed, and loses an argument, on purpose only.
DOCUMENTED = {
    "on_error": "session, error",
    "on_session_start": "session, capabilities",
    "on_session_end": "session, reason, error",
    "on_rate_limit": "session, limit",
    "on_request": "session, operation, attempt, method, url, correlation_id",
    "on_response": "session, operation, attempt, status, seconds, correlation_id, error",
    "on_connect": "session, attempt, cursor, seconds",
    "on_disconnect": "session, error",
    "on_reconnect": "session, attempt, delay, error",
    "on_event": "session, event",
    "on_send": "session, event",
    "on_message": "session, message",
    "on_delivery": "session, message",
    "on_handoff": "session, handoff",
    "retry_delay": "session, operation, error, attempt",
    "reconnect_delay": "session, error, attempt",
    "resend": "session, message",
}


@pytest.fixture
def manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hooks)
    return manager


def test_the_lists_name_every_specification(manager):
    assert sorted(vars(manager.hook)) == sorted((*OBSERVERS, *POLICIES)) == sorted(DOCUMENTED)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_documented_signature_is_the_real_one(name):
    assert ", ".join(inspect.signature(getattr(hooks, name)).parameters) == DOCUMENTED[name]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_only_policies_stop_at_the_first_answer(name, manager):
    assert getattr(manager.hook, name).spec.opts["firstresult"] is (name in POLICIES)
    assert name.startswith("on_") is (name in OBSERVERS)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_hook_is_documented_and_typed(name):
    specification = getattr(hooks, name)
    signature = inspect.signature(specification)
    text = inspect.getdoc(specification)
    assert text is not None
    assert re.match(r"(Told|Asked) .+\.\n\n", text), "the first line says when"
    assert (text.startswith("Asked")) is (name in POLICIES)
    assert "\nThread: " in text
    described = re.findall(r"^    (\w+): \S", text.partition("\nArgs:\n")[2].partition("\n\nReturns:")[0], re.MULTILINE)
    assert described == list(signature.parameters), "each argument is described, in order"
    assert ("\nReturns:\n" in text) is (name in POLICIES), "what an answer means"
    assert all(parameter.annotation is not parameter.empty for parameter in signature.parameters.values())


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_host_has_a_method_of_the_same_signature(name):
    specified = inspect.signature(getattr(hooks, name))
    offered = inspect.signature(getattr(PluginHost, name))
    assert list(offered.parameters.values())[1:] == list(specified.parameters.values())
    # `resend` is settled by the host: no answer is a yes.
    assert offered.return_annotation == ("bool" if name == "resend" else specified.return_annotation)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_specification_by_itself_decides_nothing(name):
    specification = getattr(hooks, name)
    assert specification(*inspect.signature(specification).parameters) is None


def test_markers_belong_to_this_project(manager):
    class Plugin:
        @hooks.hookimpl
        def on_error(self, error):
            return error

    manager.register(Plugin())
    manager.check_pending()
    assert manager.hook.on_error(session=None, error="e") == ["e"]


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (RateLimit, ["surface", "retry_after", "certain", "error"]),
        (ClientEvent, ["type", "payload", "custom"]),
        (PluginInfo, ["name", "origin", "distribution", "version", "hooks"]),
    ],
)
def test_values_are_frozen_slotted_and_by_keyword(cls, fields):
    assert [one.name for one in attrs.fields(cls)] == fields
    assert all(one.kw_only for one in attrs.fields(cls))
    value = cls(**dict.fromkeys(fields, "x"))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, fields[0], "y")
    assert not hasattr(value, "__dict__")


def test_values_have_their_documented_defaults():
    limit = RateLimit(surface="connect")
    assert (limit.retry_after, limit.certain, limit.error) == (None, True, None)
    event = ClientEvent(type="EVENT_TYPE_HEARTBEAT")
    assert (event.payload, event.custom) == ({}, {})
    assert ClientEvent(type="EVENT_TYPE_HEARTBEAT") == event
    assert PluginInfo(name="a", origin="given") == PluginInfo(
        name="a", origin="given", distribution=None, version=None, hooks=()
    )
