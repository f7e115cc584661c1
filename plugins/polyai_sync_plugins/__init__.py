"""The policies that come with `polyai_sync`.

They use nothing that a third party could not: the same markers, the same entry points, the same public imports. Give
one by yourself to set it up differently (``Client(…, plugins=[Backoff(max_attempts=6)])``); it then takes the place of
the bundled one of its name. ``Client(…, block=["logging"])`` leaves one out.
"""

from __future__ import annotations

from polyai_sync_plugins.backoff import Backoff
from polyai_sync_plugins.logging import Logging
from polyai_sync_plugins.reconnect import Reconnect

__all__ = ["Backoff", "Logging", "Reconnect"]
