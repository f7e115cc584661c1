"""The files of ``docs/deploying.md``, under the servers that it names."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests
from pages import ROOT, blocks
from programs import PATIENCE, Program, Service, environment, free_port, needs
from servers import stop_gunicorn
from tls import Authority

from polyai_sync.emulator import Pause
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from polyai_sync.emulator import Emulator

STORE = """
from pathlib import Path

def load(visitor):
    file = Path(f"{visitor}.kept")
    return file.read_text() if file.exists() else None

def save(visitor, kept):
    Path(f"{visitor}.kept").write_text(kept)
"""
SETTINGS = """
ALLOWED_HOSTS = ["*"]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": "cache"}}
ROOT_URLCONF = "site_urls"
SECRET_KEY = "for tests"
USE_TZ = True
"""
URLS = """
from django.urls import path
from views import ask

urlpatterns = [path("<visitor>/ask", ask)]
"""
WSGI = """
import os
from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
app = get_wsgi_application()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of the page, and what it leaves to its reader."""
    folder = tmp_path / "deployed"
    folder.mkdir()
    yours = {"store.py": STORE, "site_settings.py": SETTINGS, "site_urls.py": URLS, "site_wsgi.py": WSGI}
    page = {block.file_name: block.text for block in blocks(ROOT / "docs" / "deploying.md") if block.file_name}
    assert page.keys() == {"desk.py", "shop.py", "views.py", "gunicorn.conf.py", "tasks.py"}
    for name, text in {**yours, **page}.items():
        (folder / name).write_text(text)
    return folder


class Site(Service):
    """The page's service under gunicorn."""

    def __init__(
        self, run: Callable[..., Program], emulator: Emulator, folder: Path, app: str, *options: str, **variables: str
    ) -> None:
        port = free_port()
        env = environment(emulator, PYTHONPATH="", **variables)
        command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--no-control-socket"]
        super().__init__(run([*command, *options, f"{app}:app"], env=env, cwd=folder), port)

    def says(self, visitor: str, text: str) -> str:
        """The answer that a visitor gets."""
        answer = requests.post(f"{self.url}/{visitor}/ask", data={"text": text}, timeout=PATIENCE)
        answer.raise_for_status()
        return answer.text


SERVERS = {
    "flask-sync": ("shop", "--workers", "2"),
    "flask-gthread": ("shop", "--workers", "2", "--worker-class", "gthread", "--threads", "4", "--preload"),
    "flask-gevent": ("shop", "--worker-class", "gevent", "--preload"),
    "django-gthread": ("site_wsgi", "--workers", "2", "--worker-class", "gthread", "--threads", "4"),
}


@needs("flask", "django", "gevent", "gunicorn")
@pytest.mark.parametrize("server", SERVERS)
def test_visitors_keep_their_conversations(
    server: str, run: Callable[..., Program], make_emulator: Callable[..., Emulator], folder: Path, tmp_path: Path
) -> None:
    ca = Authority(tmp_path)
    emulator = make_emulator(tls=ca.server())
    app, *options = SERVERS[server]
    if "gevent" not in options:
        (folder / "gunicorn.conf.py").unlink()
    if app == "site_wsgi":  # a form of a site's own has its token against forgery
        (folder / "views.py").write_text((folder / "views.py").read_text() + "\n\nask.csrf_exempt = True\n")
    site = Site(run, emulator, folder, app, *options, REQUESTS_CA_BUNDLE=str(ca.bundle))

    def visit(visitor: str) -> None:
        for turn in range(3):
            assert site.says(visitor, f"{visitor} {turn}") == f"You said: {visitor} {turn}"

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(visit, "abcdef"))
    spoken = {tuple(text for role, text in one.transcript if role == "user") for one in emulator.sessions.values()}
    assert spoken == {tuple(f"{visitor} {turn}" for turn in range(3)) for visitor in "abcdef"}
    emulator.revoke_tokens()
    assert site.says("a", "long after") == "You said: long after"  # in a new session
    assert emulator.sessions_created == 7
    stop_gunicorn(site)


@needs("flask", "gunicorn")
def test_sync_worker_that_is_killed_for_its_slowness_costs_no_conversation(
    run: Callable[..., Program], make_emulator: Callable[..., Emulator], folder: Path
) -> None:
    emulator = make_emulator()
    (folder / "gunicorn.conf.py").unlink()
    site = Site(run, emulator, folder, "shop", "--timeout", "2")
    assert site.says("a", "hello") == "You said: hello"
    emulator.faults.add("agent.silent")
    with pytest.raises(requests.RequestException):
        site.says("a", "never answered")
    site.program.see("WORKER TIMEOUT", "err")
    assert site.says("a", "and now?") == "You said: and now?"
    assert emulator.sessions_created == 1


@needs("flask", "gevent", "gunicorn")
@pytest.mark.parametrize("server", ["flask-gthread", "flask-gevent"])
def test_other_workers_have_no_such_limit(
    server: str, run: Callable[..., Program], make_emulator: Callable[..., Emulator], folder: Path
) -> None:
    emulator = make_emulator(agent=lambda turn: "Hello!" if turn.greeting else [Pause(4), "There you are."])
    if server != "flask-gevent":
        (folder / "gunicorn.conf.py").unlink()
    site = Site(run, emulator, folder, *SERVERS[server], "--timeout", "3")
    assert site.says("a", "take your time") == "There you are."
    stop_gunicorn(site)


@needs("celery", "flask", "redis", tool="redis-server")
def test_tasks_are_done(run: Callable[..., Program], emulator: Emulator, folder: Path, redis: str) -> None:
    tasks = folder / "tasks.py"
    text = tasks.read_text()
    assert text.count("redis://localhost") == 2
    tasks.write_text(text.replace("redis://localhost", redis))
    env = environment(emulator, PYTHONPATH="")
    run([sys.executable, "-m", "celery", "-A", "tasks", "worker", "--loglevel", "ERROR"], env=env, cwd=folder)
    script = (
        "from tasks import answer_later as later; said, kept = later.delay('one').get(timeout=30); "
        "print(said, *later.delay('two', kept).get(timeout=30)[:1])"
    )
    asking = run([sys.executable, "-c", script], env=env, cwd=folder)
    assert asking.ended() == (0, "You said: one You said: two\n", "")
    assert emulator.sessions_created == 1
    wait_until(lambda: emulator.connections == 0)
