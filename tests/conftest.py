"""What holds for every test: nothing of the machine's environment, and no clock in a property test's way."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from hypothesis import settings

# A busy machine is no failure of the code's, and a test that failed must fail again with what it prints.
settings.register_profile("polyai", deadline=None, print_blob=True)
settings.load_profile("polyai")

#: What may change where a client connects, or how: a developer's own settings, and a proxy that does not know loopback.
_NAMES = ("ALL_PROXY", "CURL_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Make Ctrl-C work where the tests run in the background, and Python 3.10 quiet about broken handshakes."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a background job has it so, and what it starts inherits it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.version_info < (3, 11):  # its asyncio complains of every TLS handshake that a client broke off
        ignored = "ignore:.*_SSLProtocolTransport.__del__:pytest.PytestUnraisableExceptionWarning"
        config.addinivalue_line("filterwarnings", ignored)


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away every variable that the client reads; a test that needs one sets it."""
    for name in list(os.environ):
        if name.startswith("POLYAI_") or name.upper() in _NAMES:
            monkeypatch.delenv(name)
