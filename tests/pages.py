"""The pages of the documentation, and the code blocks in them.

A page is run as a story: its blocks one after the other, in one namespace. What a block needs beside its own lines
stands around it, where a reader sees it too or is not disturbed by it:

- ``<!-- fault: NAME:option=value -->`` above a block arms a fault of the emulator for it; there may be several lines;
- a Python block whose first line is ``# name.py`` is that file; pytest runs the files ``test_….py`` of a page;
- a ``text`` block right below a Python block is what that block prints (``...`` stands for anything);
- in a ``console`` block the lines that begin with ``$`` are commands, the others what they print (likewise);
- a ``sh`` block holds one command a line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "plugin" / "README.md",
    *sorted(
        page for page in (ROOT / "docs").rglob("*.md") if not page.relative_to(ROOT / "docs").parts[0].startswith("_")
    ),
)

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+)(?P<language>[\w-]*|\{.*)\s*$")
_FAULT = re.compile(r"^<!-- fault: (?P<fault>.+?) -->$")
_FILE = re.compile(r"^# (?P<name>[\w./-]+\.\w+)$")


class Block(NamedTuple):
    """One fenced code block: its language, its text, the line its text begins on, and what stands around it."""

    language: str
    text: str
    line: int
    faults: tuple[str, ...]
    output: str | None

    @property
    def file_name(self) -> str | None:
        """The file that the block is, where its first line names one."""
        match = _FILE.match(self.text.partition("\n")[0])
        return match["name"] if match else None


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    found: list[Block] = []
    faults: list[str] = []
    follows = False  # does a text block here belong to the block before?
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), start=1))
    for number, line in lines:
        if match := _FAULT.match(line):
            faults.append(match["fault"])
        elif match := _FENCE.match(line):
            indent, text = len(match["indent"]), []
            for _, inner in lines:
                if inner.strip() == match["fence"]:
                    break
                text.append(inner[indent:])
            if match["language"].startswith("{"):  # a directive of Sphinx's
                continue
            block = Block(match["language"], "\n".join(text) + "\n", number + 1, tuple(faults), None)
            if block.language == "text" and follows:
                found[-1] = found[-1]._replace(output=block.text)
            else:
                found.append(block)
            follows, faults = block.language == "python", []
        elif line.strip():
            follows, faults = False, []
    return found
