"""The page on performance shows a run of every benchmark, and says why where a goal is not reached."""

from __future__ import annotations

import json
import re
import sys

import pytest
from pages import ROOT

sys.path += [str(ROOT), str(ROOT / "docs" / "_ext")]

import bench_figures

from bench.__main__ import benches

PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
TEXT = bench_figures.DATA.read_text(encoding="utf-8")
FIGURES = json.loads(TEXT)["benches"]


@pytest.mark.parametrize("name", [name for name in benches() if name != "instructions"])
def test_every_benchmark_was_run_and_gave_figures(name):
    assert all(rounds for rounds in FIGURES[name]["rounds"].values())
    assert all(verdict["verdict"] != "FAILED" for verdict in FIGURES[name]["verdicts"])


@pytest.mark.parametrize("name", bench_figures.PARTS)
def test_every_part_is_made_and_stands_on_the_page(name):
    assert "".join(bench_figures.PARTS[name]()).strip()
    assert f"<!-- made: {name} -->" in PAGE


def test_every_plot_is_there():
    text = "\n".join(line for part in bench_figures.PARTS.values() for line in part())
    plots = re.findall(r"\]\(([\w/.-]+\.svg)\)", text)
    assert len(plots) == 6
    assert [plot for plot in plots if not (ROOT / "docs" / plot).exists()] == []


def test_a_goal_that_is_not_reached_is_told_with_its_reason(monkeypatch):
    missed = {
        "id": "P3", "what": "a thing", "measured": "12 µs", "against": "-", "ratio": [1.2, 1.1, 1.3], "goal": "1",
        "limit": "1.1", "verdict": "NOT ACCEPTABLE",
    }  # fmt: skip
    reached = {**missed, "id": "P4", "verdict": "reached"}
    monkeypatch.setattr(bench_figures, "document", lambda: {"benches": {"p03": {"verdicts": [missed, reached]}}})
    (told,) = [line for line in bench_figures.reasons() if line]
    assert told == f"- **P3, a thing**: 20% over. {bench_figures.REASONS['P3']}"


def test_there_is_a_reason_ready_for_every_goal():
    assert list(bench_figures.REASONS) == [f"P{number}" for number in range(1, 13)]


def test_no_path_of_the_machine_is_told():
    assert not re.search(r'"[^"]*(/home/|/root/|/tmp/|/work/|/Users/)', TEXT)


@pytest.fixture
def full():
    """The figures, if they are from a full run; a short one shows that the page works, and no more."""
    short = [name for name, one in FIGURES.items() if one["quick"]]
    if short:
        pytest.skip(f"the last run was a short one: {', '.join(short)}")
    return FIGURES


def test_no_goal_is_missed_by_more_than_is_acceptable(full):
    found = [verdict for one in full.values() for verdict in one["verdicts"]]
    assert {f"P{number}" for number in range(1, 13)} <= {verdict["id"] for verdict in found}
    assert [(one["id"], one["what"]) for one in found if one["verdict"] == "NOT ACCEPTABLE"] == []


def test_two_thousand_conversations_were_held_for_ten_minutes(full):
    ((figures,),) = full["scale"]["rounds"].values()
    assert figures["sessions"] >= 2_000
    assert figures["minutes"] >= 10
    assert [figures[name] for name in ("missed", "failed", "unsettled")] == [0, 0, 0]


def test_a_session_of_a_hundred_thousand_events_stayed_flat(full):
    for figures in full["p12"]["rounds"]["events of no message"]:
        assert figures["late_mib"] <= figures["full_mib"] * 1.1
