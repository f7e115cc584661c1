"""The addresses a client is told: the base URL, the cluster that stands for one, the registered host.

What is malformed is a `ConfigurationError` that names the setting and the fix, and never quotes the value.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NoReturn
from urllib.parse import SplitResult, urlsplit

from polyai_sync.errors import ConfigurationError

__all__ = [
    "CLUSTERS",
    "DEFAULT_CLUSTER",
    "check_base_url",
    "check_cluster",
    "check_host",
    "is_loopback",
    "nonblank",
    "refuse",
]

#: The clusters that are known to exist (protocol.md §1); any other well-formed name is taken at its word.
CLUSTERS: Final = ("us-1", "uk-1", "euw-1")
DEFAULT_CLUSTER: Final = "us-1"

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LOOPBACK6: Final = ipaddress.IPv6Address("::1")

# Text, not compiled: `re` keeps what it has compiled, and an import that needs none of it costs less.
_CLUSTER: Final = "[a-z0-9][a-z0-9-]{0,62}"
_VISIBLE: Final = "[!-~]+"
_SCHEME: Final = r"([A-Za-z][A-Za-z0-9+.-]*)://"
_LABEL: Final = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?"


def refuse(name: str, problem: str, fix: str) -> NoReturn:
    """Raise the one sentence about a setting; its second half is also the error's ``resolution``."""
    raise ConfigurationError(f"{name} {problem}: {fix}", resolution=fix)


def nonblank(name: str, value: object) -> str:
    """The value, if it is text with something in it."""
    if not isinstance(value, str):
        refuse(name, f"must be text, not {type(value).__name__}", "give a str.")
    if not value.strip():
        refuse(name, "is empty", "give a value, or None to leave it out.")
    return value


def is_loopback(host: str) -> bool:
    """Is it this machine: ``localhost``, ``127.0.0.0/8`` or ``::1``? Only there may a token travel in clear."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback if address.version == 4 else address == _LOOPBACK6


def check_cluster(name: str, value: object) -> str:
    """The base URL of a cluster (protocol.md §1). Unknown names pass; misspelt ones are told the likely one."""
    cluster = nonblank(name, value)
    if not re.fullmatch(_CLUSTER, cluster):
        likely = _likely_cluster(cluster)
        known = ", ".join(CLUSTERS)
        refuse(
            name,
            "is not a cluster name (small letters, digits and hyphens)",
            f"did you mean {likely}? Known clusters are {known}."
            if likely
            else f"give one such as {known}; an address belongs into base_url.",
        )
    return f"https://messaging.{cluster}.poly.ai"


def _likely_cluster(text: str) -> str | None:
    """The known cluster that was meant: written in capitals, with blanks, an underscore or no hyphen."""
    letters = re.sub("[^a-z0-9]", "", text.lower())
    return next((cluster for cluster in CLUSTERS if cluster.replace("-", "") == letters), None)


def check_base_url(name: str, value: object) -> str:
    """The base URL in one spelling: small letters, no default port, no slash at the end; the path prefix stays.

    Cleartext is for this machine only, and nothing secret may be part of it.
    """
    fix = "give the scheme, host and, where needed, port and path, such as https://messaging.us-1.poly.ai."
    text = nonblank(name, value)
    if not re.fullmatch(_VISIBLE, text) or "\\" in text:
        refuse(name, "holds white space, a backslash, a control character or a letter outside ASCII", fix)
    scheme = re.match(_SCHEME, text)
    if scheme is None or scheme[1].lower() not in _DEFAULT_PORTS:
        refuse(name, "does not begin with https://", fix)
    if "?" in text or "#" in text:
        refuse(name, "has a query or a fragment", fix)
    url = _split(name, text, fix)
    if "@" in url.netloc:
        refuse(name, "holds a user name or a password", fix)
    hostname = url.hostname
    if hostname is None or not _has_valid_host(url):
        refuse(name, "has no valid host", fix)
    if url.scheme == "http" and not is_loopback(hostname):
        refuse(
            name,
            "would send the token in clear text",
            "write https://; http:// is only for this machine (localhost, 127.0.0.0/8, [::1]).",
        )
    address = f"[{hostname}]" if ":" in hostname else hostname
    port = "" if url.port in (None, _DEFAULT_PORTS[url.scheme]) else f":{url.port}"
    return f"{url.scheme}://{address}{port}{url.path.rstrip('/')}"


def _split(name: str, url: str, fix: str) -> SplitResult:
    """The parts of a URL; broken brackets and impossible ports are refused here."""
    try:
        parts = urlsplit(url)
        valid = parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:
        valid = False
    if not valid:
        refuse(name, "has a malformed address or port", fix)
    return parts


def _has_valid_host(url: SplitResult) -> bool:
    host = url.hostname or ""
    if "[" not in url.netloc:
        return re.fullmatch(_NAME, host) is not None
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return "%" not in host  # a zone means nothing to anybody else


def check_host(name: str, value: object) -> str:
    """The registered domain, origin or app namespace, as given but for a slash at an origin's end."""
    fix = "give the domain, origin or app namespace registered in Agent Studio, such as https://www.example.com."
    host = nonblank(name, value)
    if not re.fullmatch(_VISIBLE, host):
        refuse(name, "holds white space, a control character or a letter outside ASCII", fix)
    if not re.match(_SCHEME, host):
        url = _split(name, f"//{host}", fix)
        if url.path or "?" in host or "#" in host or "@" in host or not _has_valid_host(url):
            refuse(name, "is neither a domain nor an origin nor an app namespace", fix)
        return host
    url = _split(name, host, fix)
    if "@" in url.netloc or "?" in host or "#" in host or url.path not in ("", "/"):
        refuse(name, "holds more than an origin (a user, a path, a query or a fragment)", fix)
    if not _has_valid_host(url):
        refuse(name, "is a URL without a valid domain", fix)
    return host.removesuffix("/")
