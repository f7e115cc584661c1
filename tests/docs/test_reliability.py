"""The page of promises names tests that exist, and figures that are what it says."""

from __future__ import annotations

import json
import re

from pages import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
DATA = ROOT / "docs" / "_data"


def test_every_test_that_a_promise_names_exists() -> None:
    named = set(re.findall(r"`(tests/[\w/.]+)`", PAGE))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_promise_names_what_holds_it() -> None:
    table = PAGE.partition("| --- | --- |\n")[2].partition("\n\n")[0]
    promises = [row.split(" | ") for row in table.splitlines()]
    assert len(promises) > 10
    assert all("tests/" in held for _, held in promises)


def test_the_soak_was_long_enough_and_lost_nothing() -> None:
    figures = json.loads((DATA / "soak.json").read_text(encoding="utf-8"))
    assert figures["minutes"] >= 30
    assert figures["drops"] >= 1000
    assert [figures[name] for name in ("lost", "doubled", "out_of_order", "failed")] == [0, 0, 0, 0]
    assert figures["threads"][0] == figures["threads"][1]
    assert figures["descriptors"][0] == figures["descriptors"][1]


def test_a_dead_line_was_noticed_in_two_and_a_half_intervals() -> None:
    figures = json.loads((DATA / "partition.json").read_text(encoding="utf-8"))
    noticed = [row["noticed"] for row in figures if "noticed" in row]
    assert len(noticed) == 6
    assert max(noticed) <= 2.6
