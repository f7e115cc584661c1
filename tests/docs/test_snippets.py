"""Every code block of the README and the documentation does what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, ROOT, blocks

RUNNER = Path(__file__).parents[1] / "run_page.py"

DOCS = [page for page in PAGES if page.is_relative_to(ROOT / "docs")]

#: What a fenced block may be: run, or looked at.
LANGUAGES = {"python", "console", "sh", "text", "toml", "json", ""}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(RUNNER), str(page)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_in_a_language_that_is_run_or_looked_at(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_no_code_is_wider_than_a_page_shows(page):
    wide = [line for block in blocks(page) for line in block.text.splitlines() if len(line) > 88]
    assert wide == []


def test_the_readme_has_the_two_commands_as_they_are_typed():
    shell = [block for block in blocks(ROOT / "README.md") if block.language == "sh"]
    commands = [line for block in shell for line in block.text.splitlines()]
    assert commands[:2] == [
        "python3 -m venv .venv && .venv/bin/pip install '.[emulator,cli]' && .venv/bin/polyai-sync chat --demo",
        "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox",
    ]
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith(commands[1]), "CI runs what the README says"


def test_the_readme_is_in_the_readers_order():
    headings = re.findall(r"^## (.+)$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings[:8] == [
        "Try it",
        "A conversation",
        "Streaming",
        "Errors",
        "Resuming",
        "A plugin",
        "The emulator in a test",
        "Settings",
    ]
