"""The plugins of one client: which ones there are, in what order, and a typed call for each hook.

Mechanism only: policies live in plugins. Every client has a host of its own and nothing here is global. How plugins
are found and checked is in `polyai_sync.plugin_loading`, how they are kept apart in `polyai_sync.plugin_calls`.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final

from polyai_sync.errors import ConfigurationError, PluginError
from polyai_sync.hooks import CONDITIONAL, PluginInfo, condition_of
from polyai_sync.plugin_calls import CHECKS, HookCalls, Implementation, report
from polyai_sync.plugin_loading import (
    SPECIFIED,
    InstalledPlugin,
    Manager,
    check_plugin,
    given_name,
    installed_plugins,
    unmarked_hooks,
)
from polyai_sync.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from polyai_sync.errors import PolyAIError
    from polyai_sync.events import Event
    from polyai_sync.hooks import ClientEvent, RateLimit
    from polyai_sync.messages import Capabilities, Handoff, Message
    from polyai_sync.session import Session

__all__ = ["PluginHost"]

BLOCK_VARIABLE: Final = "POLYAI_SYNC_BLOCK"
STRICT_VARIABLE: Final = "POLYAI_SYNC_STRICT_PLUGINS"
_OFF: Final = frozenset({"", "0", "false", "no", "off"})


class PluginHost:
    """Loads plugins and calls their hooks.

    Called first to last: the given plugins as listed, then other distributions' entry points by name, then the bundled
    ones by name; ``tryfirst``, ``trylast`` and ``wrapper`` as pluggy has them. Of several plugins of one name the first
    in that line counts, and the others are not even imported.

    Args:
        plugins: Modules or instances to register.
        block: Names not to load, whatever they come from; ``POLYAI_SYNC_BLOCK`` adds to them.
        load_plugins: ``False``: no entry points, the bundled ones included.
        environ: Where the variables are read; ``os.environ`` by default.
        slow_after: Seconds after which a hook is named in a warning.
        redactor: Masks tokens in what is logged about a plugin's exception.

    Raises:
        ConfigurationError: ``plugins`` or ``block`` is no list.
        PluginError: A given plugin cannot work. Also, with ``POLYAI_SYNC_STRICT_PLUGINS=1``, one of an entry point,
            which is else named in a warning and skipped.
    """

    def __init__(
        self,
        plugins: Iterable[object] = (),
        *,
        block: Iterable[str] = (),
        load_plugins: bool = True,
        environ: Mapping[str, str] | None = None,
        slow_after: float = 1.0,
        redactor: Redactor | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._redactor = redactor or Redactor()
        self._strict = environ.get(STRICT_VARIABLE, "").strip().lower() not in _OFF
        self._blocked = {name.strip() for name in environ.get(BLOCK_VARIABLE, "").split(",")}
        self._blocked.update(_listed("block", block))
        self._manager = Manager()
        self._accepted: dict[str, tuple[object, PluginInfo]] = {}
        for plugin in _listed("plugins", plugins):
            self._give(plugin)
        if load_plugins:
            for installed in installed_plugins(self._complain):
                self._load(installed)
        for name, (plugin, _) in reversed(self._accepted.items()):  # pluggy calls first what came last
            self._manager.register(plugin, name)
        self._calls = {hook: self._calls_of(hook, slow_after) for hook in SPECIFIED}
        self._never = frozenset(hook for hook, calls in self._calls.items() if calls is None)
        self._conditions = tuple(
            (condition, hook) for hook, calls in self._calls.items() if calls for condition in calls.conditions
        )
        self._not_always = self._never.union(hook for _, hook in self._conditions)

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """The plugins, in the order of their calls."""
        return tuple(info for _, info in self._accepted.values())

    def has(self, hook_name: str) -> bool:
        """Does any plugin implement the hook? Cheap: it may guard what only a hook needs.

        Raises:
            KeyError: There is no such hook.
        """
        return self._calls[hook_name] is not None

    def unheard(self) -> frozenset[str]:
        """The hooks that no plugin listens to at the moment (see `polyai_sync.hooks.only_if`). Runs plugins' code."""
        unheard = self._not_always
        for condition, hook in self._conditions:
            try:
                if not condition():
                    continue
            except Exception:  # noqa: BLE001, S110 - somebody else's; the implementation can say what is wrong
                pass
            unheard = unheard.difference((hook,))
        return unheard

    # --- loading ---

    def _give(self, plugin: object) -> None:
        name = given_name(plugin)
        hooks = self._checked(plugin, name)
        if name in self._accepted:
            raise PluginError(f"Plugin {name!r} was given twice; give each a `name` of its own, or leave one out")
        if name in self._blocked:
            self._warn(f"Plugin {name!r} was given, and is blocked by name: it is not used")
            return
        self._accept(plugin, PluginInfo(name=name, origin="given", hooks=hooks))

    def _load(self, installed: InstalledPlugin) -> None:
        name = installed.name
        if name in self._blocked:
            return
        if name in self._accepted:
            if self._accepted[name][1].origin == "entry point" and not installed.bundled:
                self._complain(f"The {installed} was skipped: another distribution has a plugin of that name")
            return
        try:
            plugin = installed.make()
            hooks = self._checked(plugin, name)
        except Exception as error:
            if installed.bundled:
                raise PluginError(f"The bundled {installed} could not be loaded: {_in_short(error)}") from error
            self._complain(f"The {installed} was skipped: {_in_short(error)}. {_how_to_block(name)}", error)
            return
        origin = "bundled" if installed.bundled else "entry point"
        self._accept(
            plugin,
            PluginInfo(
                name=name, origin=origin, distribution=installed.distribution, version=installed.version, hooks=hooks
            ),
        )

    def _checked(self, plugin: object, name: str) -> tuple[str, ...]:
        try:
            hooks = check_plugin(plugin, name, self._manager)
            self._refuse_repeated(plugin, name)
            forgotten = unmarked_hooks(plugin, self._manager)
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(f"Plugin {name!r} cannot be looked through: {_in_short(error)}") from error
        for hook in forgotten:
            self._warn(f"Plugin {name!r}: {hook} has a hook's name and no @hookimpl, so it is not called")
        return hooks

    def _refuse_repeated(self, plugin: object, name: str) -> None:
        for other, (registered, _) in self._accepted.items():
            if other != name and (registered is plugin or registered == plugin):
                raise PluginError(f"Plugin {name!r} is the same as plugin {other!r}; each is taken once")

    def _accept(self, plugin: object, info: PluginInfo) -> None:
        if not info.hooks:
            self._warn(f"Plugin {info.name!r} implements no hook")
        self._accepted[info.name] = (plugin, info)

    def _complain(self, text: str, error: Exception | None = None) -> None:
        """Tell what is wrong with an entry point, the way that was asked for."""
        if self._strict:
            raise PluginError(self._redactor.text(text)) from error
        self._warn(text, error)

    def _warn(self, text: str, error: Exception | None = None) -> None:
        report(logging.WARNING, text, redactor=self._redactor, error=error)

    def _calls_of(self, hook: str, slow_after: float) -> HookCalls | None:
        names = SPECIFIED[hook]
        found = list(reversed(getattr(self._manager.hook, hook).get_hookimpls()))
        wraps = [one.wrapper or one.hookwrapper for one in found]
        bound = [Implementation.of(one, names) for one in found]
        if not bound:
            return None
        conditions = [condition for one in found if (condition := condition_of(one.function)) is not None]
        return HookCalls(
            conditions=tuple(conditions) if hook in CONDITIONAL and len(conditions) == len(found) else (),
            hook=hook,
            plain=tuple(one for one, wrapper in zip(bound, wraps, strict=True) if not wrapper),
            wrappers=tuple(one for one, wrapper in zip(bound, wraps, strict=True) if wrapper),
            check=CHECKS.get(hook),
            slow_after=slow_after,
            redactor=self._redactor,
        )

    # --- observers ---

    def on_error(self, session: Session | None, error: PolyAIError) -> None:
        """Tell of an error (`polyai_sync.hooks.on_error`)."""
        if calls := self._calls["on_error"]:
            calls.run((session, error))

    def on_session_start(self, session: Session, capabilities: Capabilities) -> None:
        """Tell of a session's start (`polyai_sync.hooks.on_session_start`)."""
        if calls := self._calls["on_session_start"]:
            calls.run((session, capabilities))

    def on_session_end(self, session: Session, reason: str, error: PolyAIError | None) -> None:
        """Tell of a session's end (`polyai_sync.hooks.on_session_end`)."""
        if calls := self._calls["on_session_end"]:
            calls.run((session, reason, error))

    def on_rate_limit(self, session: Session | None, limit: RateLimit) -> None:
        """Tell of a rate limit (`polyai_sync.hooks.on_rate_limit`)."""
        if calls := self._calls["on_rate_limit"]:
            calls.run((session, limit))

    def on_request(
        self, session: Session | None, operation: str, attempt: int, method: str, url: str, correlation_id: str
    ) -> None:
        """Tell of a coming HTTP attempt (`polyai_sync.hooks.on_request`)."""
        if calls := self._calls["on_request"]:
            calls.run((session, operation, attempt, method, url, correlation_id))

    def on_response(
        self,
        session: Session | None,
        operation: str,
        attempt: int,
        status: int | None,
        seconds: float,
        correlation_id: str,
        error: PolyAIError | None,
    ) -> None:
        """Tell what came of an HTTP attempt (`polyai_sync.hooks.on_response`)."""
        if calls := self._calls["on_response"]:
            calls.run((session, operation, attempt, status, seconds, correlation_id, error))

    def on_connect(self, session: Session, attempt: int, cursor: int, seconds: float) -> None:
        """Tell of an open socket (`polyai_sync.hooks.on_connect`)."""
        if calls := self._calls["on_connect"]:
            calls.run((session, attempt, cursor, seconds))

    def on_disconnect(self, session: Session, error: PolyAIError | None) -> None:
        """Tell of a socket that is gone (`polyai_sync.hooks.on_disconnect`)."""
        if calls := self._calls["on_disconnect"]:
            calls.run((session, error))

    def on_reconnect(self, session: Session, attempt: int, delay: float, error: PolyAIError) -> None:
        """Tell of a coming attempt to reconnect (`polyai_sync.hooks.on_reconnect`)."""
        if calls := self._calls["on_reconnect"]:
            calls.run((session, attempt, delay, error))

    def on_event(self, session: Session, event: Event) -> None:
        """Tell of an event of the server (`polyai_sync.hooks.on_event`)."""
        if calls := self._calls["on_event"]:
            calls.run((session, event))

    def on_send(self, session: Session, event: ClientEvent) -> None:
        """Tell of an event of the client (`polyai_sync.hooks.on_send`)."""
        if calls := self._calls["on_send"]:
            calls.run((session, event))

    def on_message(self, session: Session, message: Message) -> None:
        """Tell of a complete message (`polyai_sync.hooks.on_message`)."""
        if calls := self._calls["on_message"]:
            calls.run((session, message))

    def on_delivery(self, session: Session, message: Message) -> None:
        """Tell of a settled delivery (`polyai_sync.hooks.on_delivery`)."""
        if calls := self._calls["on_delivery"]:
            calls.run((session, message))

    def on_handoff(self, session: Session, handoff: Handoff) -> None:
        """Tell of a change of the handoff (`polyai_sync.hooks.on_handoff`)."""
        if calls := self._calls["on_handoff"]:
            calls.run((session, handoff))

    # --- policies ---

    def retry_delay(self, session: Session | None, operation: str, error: PolyAIError, attempt: int) -> float | None:
        """Ask whether to try again (`polyai_sync.hooks.retry_delay`); ``None`` = raise."""
        calls = self._calls["retry_delay"]
        answer: float | None = calls.run((session, operation, error, attempt)) if calls else None
        return answer

    def reconnect_delay(self, session: Session, error: PolyAIError, attempt: int) -> float | None:
        """Ask whether to reconnect (`polyai_sync.hooks.reconnect_delay`); ``None`` = give up."""
        calls = self._calls["reconnect_delay"]
        answer: float | None = calls.run((session, error, attempt)) if calls else None
        return answer

    def resend(self, session: Session, message: Message) -> bool:
        """Ask whether to send a message again (`polyai_sync.hooks.resend`); without an answer: yes."""
        calls = self._calls["resend"]
        return calls is None or calls.run((session, message)) is not False


def _listed(setting: str, values: Iterable[Any]) -> list[Any]:
    """Take a list-like argument; a text would be taken apart into its letters."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise ConfigurationError(f"{setting} has to be a list, not {values!r:.80}: {setting}=[…]")
    return list(values)


def _in_short(error: Exception) -> str:
    return error.message if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"


def _how_to_block(name: str) -> str:
    return f"Repair or remove it, or block it: {BLOCK_VARIABLE}={name}, or Client(block=[{name!r}])"
