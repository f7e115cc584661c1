"""Run the code blocks of one page against an emulator: ``python run_page.py PAGE``, in an empty folder.

A process of its own, since pages set up logging, fork and write files.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from pages import ROOT, Block, blocks

from polyai_sync.emulator import Emulator

#: How commands begin that are not run here, and why.
NOT_RUN = {
    "python3 -m venv": "the packaging test installs the wheel in an environment of its own",
    "pip install": "likewise",
    ".venv/bin/": "likewise",
    "tox": "it is what runs this",
    "git ": "there is nothing to see",
    "export ": "the variables are set to the emulator's",
}

_CHECKER = doctest.OutputChecker()


def check_output(wanted: str, got: str) -> None:
    """Is ``got`` what the page says, ``...`` standing for anything?"""
    wanted, got = wanted.strip() + "\n", got.strip() + "\n"
    if not _CHECKER.check_output(wanted, got, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE):
        raise AssertionError(f"the page says\n{wanted}\nand it printed\n{got}")


class Story:
    """The blocks of a page, run in one namespace."""

    def __init__(self, page: Path, emulator: Emulator) -> None:
        self.page = page
        self.emulator = emulator
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.background: list[subprocess.Popen[str]] = []
        self.tests: list[str] = []

    def run(self, block: Block) -> None:
        """Run one block, and see that the faults armed for it came."""
        for fault in block.faults:
            self.emulator.faults.add_text(fault)
        getattr(self, f"_run_{block.language or 'text'}")(block)
        if pending := self.emulator.faults.pending:
            raise AssertionError(f"armed and never met: {', '.join(fault.name for fault in pending)}")

    def _run_text(self, block: Block) -> None:
        """To be looked at."""

    _run_toml = _run_text
    _run_json = _run_text

    def _run_python(self, block: Block) -> None:
        name = block.file_name
        if name is None:
            self._execute(block)
            return
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        if path.name.startswith("test_"):
            self.tests.append(name)

    def run_tests(self) -> None:
        """Run the files that are tests."""
        if self.tests:
            command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *self.tests]
            subprocess.run(command, check=True, timeout=60)

    def _execute(self, block: Block) -> None:
        # Empty lines in front, so that a traceback names the page's own line.
        code = compile("\n" * (block.line - 1) + block.text, str(self.page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, self.namespace)
        if block.output is not None:
            check_output(block.output, printed.getvalue())

    def _run_sh(self, block: Block) -> None:
        for line in block.text.splitlines():
            self._command(line, "")

    def _run_console(self, block: Block) -> None:
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            self._command(command, output)

    def _command(self, command: str, output: str) -> None:
        if not command.strip() or command.startswith(tuple(NOT_RUN)):
            return
        if command.startswith("polyai-sync emulator"):
            self._in_background(command, output)
            return
        ran = subprocess.run(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        print(f"$ {command}\n{ran.stdout}")
        if output.strip():
            check_output(output, ran.stdout)
        elif ran.returncode:
            raise AssertionError(f"{command} ended with {ran.returncode}")

    def _in_background(self, command: str, output: str) -> None:
        process = subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE, text=True)
        self.background.append(process)
        lines = iter(process.stdout or ())
        check_output(output, "".join(next(lines, "") for _ in output.splitlines()))

    def close(self) -> None:
        """End what still runs, as a user would: Ctrl-C."""
        for process in self.background:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)


def main() -> None:
    """Run the page named on the command line."""
    page = Path(sys.argv[1])
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    sys.path[:0] = ["", str(ROOT / "examples" / "plugin" / "src")]
    # The emulator's thread is in this process, where a page's own program has no thread yet when it forks.
    warnings.filterwarnings("ignore", r".*multi-threaded, use of fork\(\)", DeprecationWarning)
    with Emulator() as emulator:
        os.environ.update(
            POLYAI_CONNECTOR_TOKEN=emulator.connector_token, POLYAI_HOST=emulator.host, POLYAI_BASE_URL=emulator.url
        )
        story = Story(page, emulator)
        try:
            for block in blocks(page):
                story.run(block)
            story.run_tests()
        finally:
            story.close()


if __name__ == "__main__":
    main()
