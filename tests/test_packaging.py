"""What is shipped: a wheel and an sdist that are complete, well-formed, and work where nothing else is installed.

They are built as anybody builds them: the sdist from the checkout, the wheel from the sdist. Dependencies come from the
package registry, as pip is set up here.
"""

from __future__ import annotations

import configparser
import email
import os
import subprocess
import sys
import tarfile
import textwrap
import zipfile

import pytest
from pages import ROOT, blocks


def run(*command, cwd, **options):
    """Run a command, and show what it printed where it fails."""
    words = [str(word) for word in command]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    ran = subprocess.run(words, cwd=cwd, timeout=300, **streams, **options)
    assert ran.returncode == 0, f"{' '.join(words)}\n{ran.stdout}"
    return ran.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The files that are committed or about to be, without what builds and tests have left between them."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def shipped(checkout, tmp_path_factory):
    """The folder with the two distributions."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ".", cwd=checkout)
    return folder


@pytest.fixture(scope="module")
def wheel(shipped):
    (path,) = shipped.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(shipped):
    (path,) = shipped.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """The Python of a fresh environment in which the wheel is installed, without extras."""
    folder = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return python


@pytest.fixture(scope="module")
def whole(bare, wheel):
    """The same, with what the README's first command installs. Tests that need it bare come before."""
    run(bare, "-m", "pip", "install", "--quiet", f"{wheel}[emulator,cli]", cwd=bare.parent)
    return bare


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_string(archive.read(name).decode())


# --- what is in them ---


def test_both_are_well_formed(shipped):
    run(sys.executable, "-m", "twine", "check", "--strict", *shipped.iterdir(), cwd=shipped)


def test_the_wheel_holds_every_module_and_nothing_else(wheel, checkout):
    sources = {
        str(path.relative_to(root))
        for root, package in ((checkout, "polyai_sync"), (checkout / "plugins", "polyai_sync_plugins"))
        for path in (root / package).rglob("*")
        if path.is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == sources
    assert {"polyai_sync/py.typed", "polyai_sync_plugins/py.typed"} <= held


def test_the_sdist_holds_what_is_needed_to_test_it_and_to_build_its_documentation(sdist, checkout):
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("docs", "examples", "tests"):
        wanted = {str(path.relative_to(checkout)) for path in (checkout / folder).rglob("*") if path.is_file()}
        assert wanted <= held
    assert {"tox.ini", "pyproject.toml", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "README.md"} <= held
    assert not [name for name in held if "__pycache__" in name or "_build" in name]


def test_the_metadata_says_what_setup_cfg_means(wheel):
    found = metadata(wheel)
    assert found["Name"] == "polyai-sync"
    assert found["License-Expression"] == "Apache-2.0"
    assert found["Requires-Python"] == ">=3.10"
    assert set(found.get_all("Provides-Extra")) == {"cli", "emulator"}
    assert found.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_lower_bounds_that_are_tested_are_those_of_setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    stated = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    bounds = {
        requirement.partition(",")[0].replace(">=", "==")
        for requirement in "\n".join(stated).split("\n")
        if requirement and not requirement.startswith("#")
    }
    pinned = (ROOT / "tests" / "lowest.txt").read_text().splitlines()
    assert {line for line in pinned if not line.startswith("#")} == bounds


# --- that they work: bare, then whole ---


def test_the_core_works_without_extras_and_says_how_to_get_them(bare, tmp_path):
    program = """
        import polyai_sync, polyai_sync_plugins
        client = polyai_sync.Client("token", "https://www.example.com")
        assert [plugin.origin for plugin in client.plugins] == ["bundled"] * 3, client.plugins
        try:
            import polyai_sync.emulator
        except ImportError as error:
            assert "polyai-sync[emulator]" in str(error), error
        else:
            raise AssertionError("the emulator came without its extra")
    """
    run(bare, "-W", "error", "-c", textwrap.dedent(program), cwd=tmp_path)
    run(bare, "-m", "pip", "check", cwd=tmp_path)
    explained = run(bare.with_name("polyai-sync"), "explain", "agent.overloaded", cwd=tmp_path)
    assert "AgentOverloadedError" in explained


def test_the_first_example_of_the_readme_runs_where_the_wheel_is_installed(whole, tmp_path):
    example = next(block for block in blocks(ROOT / "README.md") if block.language == "python")
    (tmp_path / "example.py").write_text(example.text, encoding="utf-8")
    program = """
        import os, runpy
        from polyai_sync.emulator import Emulator

        with Emulator() as emulator:
            os.environ["POLYAI_BASE_URL"] = emulator.url
            os.environ["POLYAI_CONNECTOR_TOKEN"] = emulator.connector_token
            os.environ["POLYAI_HOST"] = emulator.host
            runpy.run_path("example.py")
            assert emulator.session.end_reason == "REASON_USER_END"
    """
    printed = run(whole, "-W", "error", "-c", textwrap.dedent(program), cwd=tmp_path)
    assert "the Olive Branch" in printed
    assert "by the window" in printed
    run(whole, "-m", "pip", "check", cwd=tmp_path)


def test_the_demo_reads_lines_and_ends_by_itself(whole, tmp_path):
    said = "A table for two\nbye\n"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POLYAI_")}
    printed = run(whole.with_name("polyai-sync"), "chat", "--demo", cwd=tmp_path, input=said, env=environment)
    assert "On which day?" in printed
    assert "Goodbye" in printed
