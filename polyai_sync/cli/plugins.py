"""``polyai-sync plugins``: what is loaded, from where, with which hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyai_sync.cli.failures import DONE
from polyai_sync.plugin_host import PluginHost

if TYPE_CHECKING:
    import argparse

    from polyai_sync.cli.output import Output

__all__ = ["run"]


def run(options: argparse.Namespace, output: Output) -> int:
    """List the plugins that a client made here would have. Needs no settings, and reaches for no network."""
    plugins = PluginHost().plugins
    if options.json:
        output.json(
            [
                {
                    "name": plugin.name,
                    "origin": plugin.origin,
                    "distribution": plugin.distribution,
                    "version": plugin.version,
                    "hooks": list(plugin.hooks),
                }
                for plugin in plugins
            ]
        )
        return DONE
    output.table(
        ("NAME", "ORIGIN", "DISTRIBUTION", "VERSION", "HOOKS"),
        [
            (plugin.name, plugin.origin, plugin.distribution or "-", plugin.version or "-", ", ".join(plugin.hooks))
            for plugin in plugins
        ],
    )
    return DONE
