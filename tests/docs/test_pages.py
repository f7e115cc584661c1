"""The built documentation: complete, and readable without a network.

``tox -e docs`` builds it and says where it is; without that it is built here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pages import ROOT

import polyai_sync
import polyai_sync.emulator
import polyai_sync_plugins
from polyai_sync import CATALOG, hooks
from polyai_sync.emulator import Faults


class Page(HTMLParser):
    """What there is in a page: its anchors, where it links to, what it loads, its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.anchors.add(found["id"])
        if tag == "a":
            self.links.append(found.get("href", ""))
        elif tag in {"script", "img", "iframe"}:
            self.loaded.append(found.get("src") or "")
        elif tag == "link":
            self.loaded.append(found.get("href") or "")

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="session")
def html(tmp_path_factory):
    """The folder with the built pages."""
    built = os.environ.get("POLYAI_DOCS_HTML")
    if built is None:
        built = str(tmp_path_factory.mktemp("html"))
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", str(ROOT / "docs"), built]
        subprocess.run(command, check=True, timeout=100)
    return Path(built)


@pytest.fixture(scope="session")
def pages(html):
    """Every page, by its path."""
    return {str(path.relative_to(html)): Page(path) for path in html.rglob("*.html")}


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.code)
def test_every_code_has_an_anchor_its_cause_and_what_to_do(pages, entry):
    page = pages["errors.html"]
    assert entry.code in page.anchors
    assert entry.cause in page.text
    assert entry.resolution in page.text


@pytest.mark.parametrize("name", [*hooks.OBSERVERS, *hooks.POLICIES])
def test_every_hook_has_an_entry(pages, name):
    assert f"polyai_sync.hooks.{name}" in pages["hooks.html"].anchors


@pytest.mark.parametrize("name", Faults.names())
def test_every_fault_is_listed_with_what_is_seen(pages, name):
    text = pages["emulator.html"].text
    assert name in text
    assert Faults.names()[name] in text


@pytest.mark.parametrize("module", [polyai_sync, polyai_sync.emulator, polyai_sync_plugins], ids=lambda m: m.__name__)
def test_everything_exported_is_in_the_reference(pages, module):
    anchors = set().union(*(page.anchors for page in pages.values()))
    documented = {name for name in module.__all__ if f"{module.__name__}.{name}" in anchors}
    assert set(module.__all__) - documented <= {"__version__", "events"}


def test_every_event_is_in_the_reference(pages):
    anchors = pages["api/events.html"].anchors
    missing = {name for name in polyai_sync.events.__all__ if f"polyai_sync.events.{name}" not in anchors}
    assert missing <= {"Event", "UnknownEvent"}, "these two are exported by the package itself"


def test_every_link_leads_somewhere(html, pages):
    for name, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link) or (not target and not anchor):
                continue
            path = (html / name).parent / target if target else html / name
            assert path.exists(), f"{name}: {link}"
            if anchor and path.suffix == ".html":
                assert anchor in pages[os.path.relpath(path.resolve(), html.resolve())].anchors, f"{name}: {link}"


def test_nothing_is_loaded_from_another_host(html, pages):
    for name, page in pages.items():
        assert not [source for source in page.loaded if re.match(r"(https?:)?//", source)], name
    for path in html.rglob("*.css"):
        assert not re.findall(r"url\(\s*['\"]?(?:https?:)?//|@import", path.read_text(encoding="utf-8")), path.name
