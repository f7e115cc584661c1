"""Whom to trust on TLS connections: one context per process and configuration, for both legs.

A context that loads the CA bundle costs some 30 ms and 700 KB (``performance.md``), so it is made once and shared.
Contexts are safe to share between threads and survive a fork: what they hold is read, not written.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections import OrderedDict
from typing import Any, Final

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from polyai_sync.errors import ConfigurationError

__all__ = ["ssl_context"]

#: Configurations kept. A process has one or two; a certificate that is renewed in place adds one each time.
_KEPT: Final = 8

_lock = threading.Lock()
_contexts: OrderedDict[Any, ssl.SSLContext] = OrderedDict()


def ssl_context(verify: bool | str = True, cert: str | tuple[str, str] | None = None) -> ssl.SSLContext:
    """The shared context for what ``requests`` calls ``verify`` and ``cert``.

    Args:
        verify: ``True`` for requests' own CA bundle, the path of a bundle or of a directory of certificates, or
            ``False`` to trust anybody (only ever the caller's own decision, on the requests session they passed in).
        cert: The client's certificate: a path, or the paths of certificate and key.

    Raises:
        ConfigurationError: A file does not exist or cannot be used; the message names it.
    """
    bundle = DEFAULT_CA_BUNDLE_PATH if verify is True or verify is None else verify
    chain = (cert,) if isinstance(cert, str) else tuple(cert or ())
    key = (
        bundle and (bundle, _changed(bundle, "CA bundle", "REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE")),
        tuple((path, _changed(path, "client certificate", "its `cert`")) for path in chain if path),
    )
    with _lock:  # held while one is made: a thousand sessions at once make one, not a thousand
        context = _contexts.get(key)
        if context is None:
            context = _contexts[key] = _make(bundle, chain)
            if len(_contexts) > _KEPT:
                _contexts.popitem(last=False)
        else:
            _contexts.move_to_end(key)
        return context


def _changed(path: str, what: str, setting: str) -> tuple[int, int]:
    """When the file changed last: a certificate renewed in place counts from the next connection on."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise ConfigurationError(
            f"The {what} {str(path)!r} cannot be read ({error.strerror or 'no such file'}). Look at {setting} or at"
            " the requests session that was passed in as http"
        ) from None
    return status.st_mtime_ns, status.st_size


def _make(bundle: str | bool, chain: tuple[str, ...]) -> ssl.SSLContext:
    context = create_urllib3_context()  # the policy of requests: TLS 1.2 and up, host names checked
    context.set_alpn_protocols(["http/1.1"])
    # urllib3 does so again at each connect. OpenSSL frees the old list meanwhile, and another thread may be reading it.
    context.__dict__["set_alpn_protocols"] = lambda protocols: None
    if not bundle:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        try:
            context.load_verify_locations(**{"capath" if os.path.isdir(bundle) else "cafile": bundle})  # type: ignore[arg-type]
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"The CA bundle {str(bundle)!r} cannot be used: {error}") from None
    if chain:
        try:
            context.load_cert_chain(chain[0], chain[1] if len(chain) > 1 else None, password=_no_password)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"The client certificate {str(chain[0])!r} cannot be used: {error}") from None
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal, and wait for ever where nobody sits.
    raise ValueError("its key is encrypted; give one that is not")


def _renew_lock() -> None:
    global _lock  # the child of a fork must not wait for a thread that it does not have
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
