"""The soak itself: what it does follows from the seed, and its checker sees what must not be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .plan import plan
from .verdict import Verdict

ROOT = Path(__file__).parents[2]


def test_seed_makes_the_life() -> None:
    assert plan(7, 12, 50) == plan(7, 12, 50)
    assert plan(7, 12, 50) != plan(8, 12, 50)
    assert plan(7, 12, 50) != plan(7, 13, 50)


def test_no_text_is_said_twice() -> None:
    texts = [step.text for number in range(1, 30) for step in plan(1, number, 50).steps]
    assert len(texts) == len(set(texts)) > 500


def test_every_kind_of_trouble_is_drawn() -> None:
    lives = [plan(1, number, 50) for number in range(1, 200)]
    troubles = {trouble.name for life in lives for step in life.steps for trouble in step.troubles}
    assert {"RST", "FIN", "hole", "cut", "half-close", "1011", "connection.drop", "close.1012"} <= troubles
    assert {"http.rate_limited", "http.server_error", "history.full_replay", "sequence.hole"} <= troubles
    assert {life.ending for life in lives} >= {"end", "close", "gone", "unauthorized", "expired", "only_1000"}


@pytest.mark.parametrize(
    ("client", "complaint"),
    [
        (["a", "b", "c"], None),
        (["a", "c"], "life 1: lost: event 'b'"),
        (["a", "b", "b", "c"], "life 1: doubled: event 'b'"),
        (["a", "b", "c", "d"], "life 1: doubled: event 'd'"),
        (["a", "c", "b"], "life 1: out of order: event from number 1 on: ['c', 'b'] for ['b', 'c']"),
    ],
)
def test_checker_sees_what_must_not_be(client: list[str], complaint: str | None) -> None:
    verdict = Verdict(1)
    verdict.compare("event", ["a", "b", "c"], client)
    assert verdict.lines() == ([complaint] if complaint else [])
    assert verdict.good is (complaint is None)


def test_two_lives_are_lived_to_their_ends(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.soak", "0.1", "--life", "3", "--life", "4", "--json", str(figures)]
    run = subprocess.run(command, cwd=ROOT, timeout=100, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert found["sessions"] == 2
    assert found["messages_sent"] > 5
    assert found["drops"] >= 1
    assert [found[name] for name in ("lost", "doubled", "out_of_order", "failed")] == [0, 0, 0, 0]
    assert found["descriptors"][0] == found["descriptors"][1]
