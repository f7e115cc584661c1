"""Django's development server, which reloads itself whenever a file changes (``pitfalls.md`` 26)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from fault_kit import Caller
from programs import APPS, PATIENCE, Program, Service, environment, free_port, needs

from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.emulator import Emulator

pytestmark = needs("django")

OWN_LINE = re.compile(
    r"Watching for file changes with StatReloader$"
    r"|\[[^]]+\] \"(GET|POST) /\w+ HTTP/1.1\" 200 \d+$"
    r"|\S+/desk/views\.py changed, reloading\.$"
    r"|WARNING: This is a development server"
)
"""What Django says by itself on standard error."""


class Site(Service):
    """A copy of the site, so that its files can be changed."""

    def __init__(self, run: Callable[..., Program], emulator: Emulator, folder: Path) -> None:
        shutil.copytree(APPS / "django_shop", folder)
        self.views = folder / "desk" / "views.py"
        port = free_port()
        command = [sys.executable, "manage.py", "runserver", f"127.0.0.1:{port}"]
        super().__init__(run(command, env=environment(emulator, PYTHONUNBUFFERED="1"), cwd=folder), port)

    def change(self, worker: int) -> None:
        """Save a new version of a file, and wait until the process of the old one is gone.

        The server looks at the files once a second, and calls new what it sees for the first time: it is saved again
        until it has been noticed.
        """
        text = self.views.read_text()
        saved = self.views.stat().st_mtime
        version = int(re.findall(r"^VERSION = (\d+)$", text, re.MULTILINE)[0])
        self.views.write_text(text.replace(f"VERSION = {version}\n", f"VERSION = {version + 1}\n"))

        def noticed() -> bool:
            nonlocal saved
            saved += 2
            os.utime(self.views, (saved, saved))
            return not is_there(worker)

        wait_until(noticed, PATIENCE, interval=0.2)
        wait_until(self.listens, PATIENCE)

    def check_said(self) -> None:
        """No word but Django's own."""
        strange = [line for line in self.program.err.splitlines() if line and not OWN_LINE.match(line)]
        assert not strange, strange


@pytest.fixture
def site(run: Callable[..., Program], emulator: Emulator, tmp_path: Path) -> Site:
    return Site(run, emulator, tmp_path / "site")


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_reloaded_process_answers_and_the_old_one_leaves_nothing(site: Site, emulator: Emulator) -> None:
    first = site.ask("hello")
    assert (first["answer"], first["version"]) == ("You said: hello", 1)
    assert first["worker"] != site.program.pid  # the one that watches over it has the module too
    left_open = site.get("keep")["id"]
    kept = emulator.sessions[left_open]
    assert kept.connections == 1
    assert emulator.connections == 1  # and has opened nothing
    state = first["state"]
    for version in (2, 3):
        before = site.ask("again", state)["worker"]
        site.change(before)
        after = site.ask("and again", state)
        assert (after["answer"], after["version"]) == ("You said: and again", version)
        assert after["worker"] != before
        assert after["id"] == first["id"]
        state = after["state"]
    wait_until(lambda: emulator.connections == 0)
    assert kept.connections_total == 1
    assert not kept.ended  # nobody asked for that
    site.program.signal(signal.SIGTERM)
    assert site.program.ended(5)[0] == 0
    site.check_said()


def test_reload_in_the_middle_of_an_ask_does_not_hang(site: Site, emulator: Emulator) -> None:
    worker = site.get("keep")["worker"]
    emulator.faults.add("agent.silent")
    asking = Caller(site.ask, "never answered")
    wait_until(lambda: len(emulator.sessions) == 2 and len(emulator.session.transcript) == 2, PATIENCE)
    site.change(worker)
    asking.join(PATIENCE)
    assert isinstance(asking.error, requests.ConnectionError)
    after = site.ask("hello")
    assert (after["answer"], after["version"]) == ("You said: hello", 2)
    wait_until(lambda: emulator.connections == 0)
    site.check_said()


def test_ctrl_c_ends_both_processes(site: Site, emulator: Emulator) -> None:
    site.get("keep")
    os.killpg(site.program.pid, signal.SIGINT)  # as a terminal does
    assert site.program.ended(2)[0] == 0
    wait_until(lambda: emulator.connections == 0)
    site.check_said()
