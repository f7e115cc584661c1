"""Certificates for the fault tests: one authority a process, and what may be wrong with what it signs."""

from __future__ import annotations

import datetime as dt
import functools
import ssl
from typing import TYPE_CHECKING

import requests
import trustme

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Authority", "authority", "trusting"]


class Authority:
    """A certificate authority, with its bundle in a file as requests wants it."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.bundle = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.bundle)

    def server(self, *names: str, expired: bool = False, client_certificate: bool = False) -> ssl.SSLContext:
        """A server's context.

        Args:
            names: For whom; 127.0.0.1 and localhost if left out.
            expired: Valid until yesterday.
            client_certificate: Ask clients for theirs, signed by this authority.
        """
        yesterday = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=1)
        certificate = self._ca.issue_cert(
            *(names or ("127.0.0.1", "localhost")), not_after=yesterday if expired else None
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        if client_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            self._ca.configure_trust(context)
        return context

    def client_certificate(self, name: str = "client@example.com") -> str:
        """The path of a client's certificate with its key."""
        path = self._folder / "client.pem"
        self._ca.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(path)
        return str(path)


@functools.cache
def authority(folder: Path) -> Authority:
    """The authority whose files are in a folder."""
    return Authority(folder)


def trusting(authority: Authority, *, cert: str | None = None) -> requests.Session:
    """What a client is given as ``http=`` to trust an authority, and to show a certificate."""
    session = requests.Session()
    session.verify = str(authority.bundle)
    session.cert = cert
    return session
