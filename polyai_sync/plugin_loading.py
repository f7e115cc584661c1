"""Finds plugins, makes them, and refuses what cannot work, before pluggy registers them.

Everything wrong with a plugin is found here, at construction, and said by name: a hook that is never called because
its name is misspelt is worse than an error.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any, Final

import pluggy
from attrs import frozen

from polyai_sync import hooks
from polyai_sync.errors import PluginError
from polyai_sync.hooks import OBSERVERS, POLICIES, PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.metadata import Distribution, EntryPoint

    from pluggy import HookimplOpts

__all__ = [
    "SPECIFIED",
    "InstalledPlugin",
    "Manager",
    "check_plugin",
    "given_name",
    "installed_plugins",
    "unmarked_hooks",
]

_DISTRIBUTION: Final = "polyai-sync"
_MARK: Final = f"{PROJECT}_impl"
_SPEC_MARK: Final = f"{PROJECT}_spec"

SPECIFIED: Final[dict[str, tuple[str, ...]]] = {
    name: tuple(inspect.signature(getattr(hooks, name)).parameters) for name in (*OBSERVERS, *POLICIES)
}
"""Each hook's arguments, in order."""


class Manager(pluggy.PluginManager):
    """Holds the plugins of one client, in pluggy's order."""

    def __init__(self) -> None:
        super().__init__(PROJECT)
        self.add_hookspecs(hooks)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> HookimplOpts | None:
        """Read a marker without running a property, as older versions of pluggy do."""
        if isinstance(inspect.getattr_static(plugin, name, None), (property, functools.cached_property)):
            return None
        return super().parse_hookimpl_opts(plugin, name)


# --- finding ---


@frozen(kw_only=True)
class InstalledPlugin:
    """An entry point that was found, and not imported yet.

    Attributes:
        name: The entry point's name, which is the plugin's.
        bundled: It is one of this distribution's own.
        distribution: The distribution's name, or ``None`` where its metadata does not say.
        version: That distribution's version, or ``None``.
        entry_point: What to import.
    """

    name: str
    bundled: bool
    distribution: str | None
    version: str | None
    entry_point: EntryPoint

    def __str__(self) -> str:
        source = f" of {self.distribution} {self.version or ''}".rstrip() if self.distribution else ""
        return f"plugin {self.name!r}{source} ({self.entry_point.value})"

    def make(self) -> object:
        """Import the entry point; call it, if it is a class or a factory."""
        value: object = self.entry_point.load()
        if inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, functools.partial):
            return value()
        return value


def installed_plugins(complain: Callable[[str, Exception], None]) -> list[InstalledPlugin]:
    """List the entry points of the group: other distributions' by name, then the bundled ones by name.

    Args:
        complain: Told of metadata that cannot be read; what it belongs to is left out.
    """
    found = []
    for entry_point in _entry_points(complain):
        name = version = None
        try:
            if entry_point.dist is not None:
                name, version = entry_point.dist.name, entry_point.dist.version
        except Exception as error:  # noqa: BLE001 -- metadata may be damaged in any way; it is told
            complain(f"The metadata of the distribution that brings plugin {entry_point.name!r} cannot be read", error)
        found.append(
            InstalledPlugin(
                name=entry_point.name,
                bundled=name is not None and name.lower().replace("_", "-") == _DISTRIBUTION,
                distribution=name,
                version=version,
                entry_point=entry_point,
            )
        )
    return sorted(found, key=lambda plugin: (plugin.bundled, plugin.name, plugin.distribution or ""))


def _entry_points(complain: Callable[[str, Exception], None]) -> list[EntryPoint]:
    from importlib import metadata  # costs 10 ms, which `import polyai_sync` should not pay

    with contextlib.suppress(Exception):  # one damaged distribution spoils the listing of all: ask each by itself
        return list(metadata.entry_points(group=PROJECT))
    found: list[EntryPoint] = []
    for distribution in metadata.distributions():
        found += [one for one in _of_distribution(distribution, complain) if one not in found]
    return found


def _of_distribution(distribution: Distribution, complain: Callable[[str, Exception], None]) -> list[EntryPoint]:
    try:
        return [one for one in distribution.entry_points if one.group == PROJECT]
    except Exception as error:  # noqa: BLE001 -- metadata may be damaged in any way; it is told
        complain(f"The entry points of {_named(distribution)} cannot be read; it is left out", error)
        return []


def _named(distribution: Distribution) -> str:
    try:
        return f"the distribution {distribution.name!r}"
    except Exception:  # noqa: BLE001 -- its metadata may be damaged too; it is told by the caller
        return "an installed distribution"


# --- checking ---


def given_name(plugin: object) -> str:
    """The name of a plugin that was given: its ``name``, else its class's or module's.

    Raises:
        PluginError: Its ``name`` is no name.
    """
    fallback: str = plugin.__name__ if inspect.ismodule(plugin) else type(plugin).__name__
    if inspect.isclass(plugin):
        return plugin.__name__
    try:
        name = getattr(plugin, "name", None)
    except Exception as error:
        raise PluginError(f"Plugin {fallback}: its name cannot be read: {type(error).__name__}") from error
    if name is None:
        return fallback
    if not isinstance(name, str) or not name.strip() or "," in name:
        raise PluginError(f"Plugin {fallback}: its name attribute has to be a text without commas, not {name!r:.80}")
    return name


def check_plugin(plugin: object, name: str, manager: Manager) -> tuple[str, ...]:
    """Refuse a plugin that could not work as its author meant.

    Args:
        plugin: The module or instance.
        name: The plugin's name.
        manager: Reads the markers.

    Returns:
        The hooks it implements, sorted.

    Raises:
        PluginError: Naming the plugin, the hook and the fault.
    """
    if inspect.isclass(plugin):
        raise PluginError(f"Plugin {name!r} is a class; an instance is needed: {plugin.__name__}()")
    if not inspect.ismodule(plugin) and type(plugin).__module__ == "builtins":
        raise PluginError(
            f"Plugin {name!r} is {plugin!r:.80}; a module is needed, or an instance of a class with hooks"
        )
    try:
        hash(plugin)
    except TypeError as error:
        raise PluginError(
            f"Plugin {name!r} is an unhashable {type(plugin).__name__}: pluggy needs a hash"
            " (attrs and dataclasses: eq=False)"
        ) from error
    implemented = set()
    for attribute in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, attribute)
        if options is None:
            _refuse_unusable_mark(plugin, name, attribute)
            continue
        hook = options.get("specname") or attribute
        if hook not in SPECIFIED:
            if options.get("optionalhook"):
                continue
            raise PluginError(f"Plugin {name!r}: there is no hook {hook!r}{_did_you_mean(hook, SPECIFIED)}")
        wraps = bool(options.get("wrapper")), bool(options.get("hookwrapper"))
        _check_function(f"Plugin {name!r}, hook {hook}", getattr(plugin, attribute), SPECIFIED[hook], wraps)
        implemented.add(hook)
    return tuple(sorted(implemented))


def unmarked_hooks(plugin: object, manager: Manager) -> list[str]:
    """Name the functions that are called like a hook and lack ``@hookimpl``: most likely forgotten."""
    return [
        hook
        for hook in SPECIFIED
        if callable(value := inspect.getattr_static(plugin, hook, None))
        and not hasattr(value, _SPEC_MARK)  # a module may import a specification
        and manager.parse_hookimpl_opts(plugin, hook) is None
    ]


def _check_function(what: str, function: Any, names: tuple[str, ...], wraps: tuple[bool, bool]) -> None:
    """Check the kind of an implementation and the names of its arguments."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(f"{what}: it is asynchronous; hooks are called, never awaited")
    if all(wraps):
        raise PluginError(f"{what}: wrapper=True and hookwrapper=True exclude each other")
    if inspect.isgeneratorfunction(function) != any(wraps):
        fault = "a wrapper has to yield once" if any(wraps) else "it yields, so it needs wrapper=True"
        raise PluginError(f"{what}: {fault}")
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            continue
        if name not in names and parameter.default is parameter.empty:
            raise PluginError(
                f"{what}: it has no argument {name!r}{_did_you_mean(name, names)}; it has {', '.join(names)}"
            )


def _refuse_unusable_mark(plugin: object, name: str, attribute: str) -> None:
    """Refuse a marker on what pluggy would pass over in silence, such as a property."""
    value = inspect.getattr_static(plugin, attribute, None)
    for behind in (value, getattr(value, "fget", None), getattr(value, "func", None)):
        if behind is not None and _MARK in getattr(behind, "__dict__", {}):
            kind = type(value).__name__
            raise PluginError(f"Plugin {name!r}: {attribute} is marked as a hook, and is a {kind}, not a function")


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    import difflib  # needed for a refusal only

    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
