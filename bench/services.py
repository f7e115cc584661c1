"""The processes beside the one that measures: the load, and the proxy that delays it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench.worker import ROOT

__all__ = ["MissingPackageError", "Services"]

RTT: Final = 0.05
"""Seconds of a round trip through the delaying proxy."""


class MissingPackageError(Exception):
    """A package of the bench environment is not installed."""


class Services:
    """Starts what a measurement needs, when it needs it, and ends all of it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._ports: dict[str, int] = {}
        self._certificates: dict[str, str] = {}

    def __enter__(self) -> Services:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def options(self, needs: tuple[str, ...]) -> dict[str, Any]:
        """Where the services are, as a worker is told: ``url``, ``tls_url``, ``slow_url``, ``ca``."""
        options: dict[str, Any] = {}
        if "load" in needs:
            options["url"] = f"http://127.0.0.1:{self._port('load')}"
        if "tls" in needs or "slow" in needs:
            options["tls_url"] = f"https://localhost:{self._port('tls')}"
            options["ca"] = self._certificates["ca"]
        if "slow" in needs:
            options["slow_url"] = f"https://localhost:{self._port('slow')}"
            options["rtt"] = RTT
        return options

    def _port(self, name: str) -> int:
        if name not in self._ports:
            self._ports[name] = self._start(*self._command(name))
        return self._ports[name]

    def _command(self, name: str) -> tuple[str, ...]:
        if name == "slow":
            return "bench.delay", "--to", str(self._port("tls")), "--rtt", str(RTT)
        if name == "tls":
            self._certify()
            return "bench.load", "--cert", self._certificates["cert"], "--key", self._certificates["key"]
        return ("bench.load",)

    def _start(self, *command: str) -> int:
        process = self._stack.enter_context(
            subprocess.Popen([sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._stack.callback(process.kill)
        return int(process.stdout.readline())

    def _certify(self) -> None:
        try:
            import trustme
        except ImportError:
            raise MissingPackageError("TLS is measured with certificates of trustme: pip install trustme") from None
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="polyai-bench-")))
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        for number, part in enumerate(certificate.cert_chain_pems):
            part.write_to_path(folder / "cert.pem", append=number > 0)
        authority.cert_pem.write_to_path(folder / "ca.pem")
        self._certificates = {name: str(folder / f"{name}.pem") for name in ("ca", "cert", "key")}
