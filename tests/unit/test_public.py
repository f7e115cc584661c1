"""The top level: every public name, and nothing imported before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import polyai_sync


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def for_type_checkers() -> set[str]:
    tree = ast.parse(Path(polyai_sync.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_type_checkers_see_the_names_that_there_are() -> None:
    assert for_type_checkers() == set(polyai_sync.__all__) - {"__version__"}


@pytest.mark.parametrize("name", polyai_sync.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(polyai_sync, name) is not None
    assert name in dir(polyai_sync)


def test_a_name_that_is_none_is_told() -> None:
    with pytest.raises(AttributeError, match="'polyai_sync' has no attribute 'Klient'"):
        polyai_sync.Klient  # type: ignore[attr-defined] # noqa: B018 - the look is what is tested


def test_importing_the_package_imports_no_library() -> None:
    libraries = "requests", "websocket", "pluggy", "attr"
    assert run(f"import sys, polyai_sync; print([one for one in {libraries} if one in sys.modules])") == "[]"


@pytest.mark.parametrize(
    "code",
    [
        "from polyai_sync import *; print(Client.__name__, events.Event.__name__)",
        "import polyai_sync; print(polyai_sync.Client.__name__, polyai_sync.events.Event.__name__)",
        "import polyai_sync.events; print(polyai_sync.Client.__name__, polyai_sync.events.Event.__name__)",
        "from polyai_sync import Client, events; print(Client.__name__, events.Event.__name__)",
    ],
)
def test_however_it_is_imported(code: str) -> None:
    assert run(code) == "Client Event"
