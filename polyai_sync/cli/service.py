"""Which service a command talks to, and as whom: arguments, a token file, the environment."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from polyai_sync.config import DEFAULT_CLUSTER, ENVIRONMENT, Secret, Timeouts
from polyai_sync.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from polyai_sync import Client
    from polyai_sync.cli.output import Output

__all__ = ["Service"]

LONGEST_TOKEN_FILE: Final = 65_536

_OPTIONS: Final = {
    "connector_token": "--token-file",
    "host": "--host",
    "cluster": "--cluster",
    "base_url": "--base-url",
}


@frozen(kw_only=True)
class Service:
    """What `polyai_sync.Client` is made of, and where each setting came from.

    Attributes:
        settings: Arguments of ``Client`` that were given; what is missing it takes from the environment.
        origins: Setting -> "``--host``", "``POLYAI_HOST``", "the default".
    """

    settings: dict[str, Any]
    origins: dict[str, str]

    @classmethod
    def of(cls, options: argparse.Namespace, output: Output) -> Service:
        """Read the options; ``output`` learns the token, to keep it secret.

        Raises:
            ConfigurationError: The token file cannot be read.
        """
        settings: dict[str, Any] = {name: getattr(options, name) for name in ("host", "cluster", "base_url")}
        if options.token_file is not None:
            settings["connector_token"] = token = _read_token(options.token_file)
            output.keep_secret(token)
        origins = {name: _origin(name, given=settings.get(name) is not None) for name in ("connector_token", "host")}
        # A given cluster beats an environment's base URL, and that one an environment's cluster.
        address = next(
            (
                name
                for name, there in (
                    ("base_url", settings["base_url"] is not None),
                    ("cluster", settings["cluster"] is not None),
                    ("base_url", _variable("base_url")),
                )
                if there
            ),
            "cluster",
        )
        origins["base_url"] = _origin(address, given=settings[address] is not None)
        return cls(settings={name: value for name, value in settings.items() if value is not None}, origins=origins)

    @property
    def cluster(self) -> str | None:
        """The cluster's name, where one says which host to talk to."""
        if "base_url" in self.settings or self.origins["base_url"] == ENVIRONMENT["base_url"]:
            return None
        return str(self.settings.get("cluster") or _variable("cluster") or DEFAULT_CLUSTER)

    def check(self) -> None:
        """Name what is missing as somebody at a command line would give it.

        Raises:
            ConfigurationError: Token or host are given nowhere.
        """
        for name in ("connector_token", "host"):
            if not self.origins[name]:
                fix = f"set the environment variable {ENVIRONMENT[name]}, or give {_OPTIONS[name]}."
                demo = "Without an account, try: polyai-sync chat --demo"
                raise ConfigurationError(f"{name} is missing: {fix} {demo}", resolution=fix)

    def client(self, *, plugins: Iterable[object] = (), timeouts: Timeouts | None = None, **more: Any) -> Client:
        """A client of this service.

        Raises:
            ConfigurationError: A setting is missing or malformed.
            PluginError: A plugin cannot work.
        """
        from polyai_sync import Client

        self.check()
        settings = dict(self.settings)
        if "connector_token" in settings:
            settings["connector_token"] = settings["connector_token"].reveal()
        return Client(**settings, plugins=plugins, timeouts=timeouts, app_info="polyai-sync-cli", **more)


def _variable(name: str) -> str:
    return os.environ.get(ENVIRONMENT[name], "").strip()


def _origin(name: str, *, given: bool) -> str:
    if given:
        return _OPTIONS[name]
    if _variable(name):
        return ENVIRONMENT[name]
    return "the default" if name == "cluster" else ""


def _read_token(path: str) -> Secret:
    """The token in a file, or on standard input for ``-``. The path is not quoted: it may be the token by mistake."""
    try:
        if path == "-":
            text = sys.stdin.read(LONGEST_TOKEN_FILE)
        else:
            with open(path, encoding="utf-8") as file:
                text = file.read(LONGEST_TOKEN_FILE)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not a text file"
        raise ConfigurationError(
            f"The file named by --token-file cannot be read ({why}): give the path of a file that holds the connector "
            "token and nothing else."
        ) from None
    if not text.strip():
        raise ConfigurationError("The file named by --token-file is empty: write the connector token into it.")
    return Secret(text.strip())
