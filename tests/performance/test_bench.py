"""What the benchmarks make of their figures: ratios, verdicts, tables, the JSON file."""

from __future__ import annotations

import json

import pytest

from bench import limits, p06_idle, report, scale
from bench.__main__ import benches, changed, chosen
from bench.run import Run, best
from bench.services import Services
from bench.table import (
    ACCEPTABLE,
    FAILED,
    OURS,
    REACHED,
    TOLD,
    TOO_SLOW,
    Bench,
    Goal,
    Variant,
    numbers,
    shown,
    summary,
)

GOAL = Goal(id="P0", what="a thing", metric="cpu_us", against="peer", goal=1.0, limit=1.4)
BENCH = Bench(
    name="p00",
    title="a thing",
    group="things",
    variants=(Variant(name=OURS, call=""), Variant(name="peer", call="")),
    main="cpu_us",
    goals=(GOAL,),
    needs=(),
    options={"events": 10, "seconds": 1.5},
    quick={"events": 2},
)


def rounds(ours, theirs):
    return {OURS: [{"cpu_us": value} for value in ours], "peer": [{"cpu_us": value} for value in theirs]}


@pytest.mark.parametrize(
    ("ours", "word"), [(9.0, REACHED), (10.0, REACHED), (10.1, ACCEPTABLE), (14.0, ACCEPTABLE), (14.1, TOO_SLOW)]
)
def test_verdict_follows_from_the_ratio(ours, word):
    assert GOAL.judge(rounds([ours], [10.0])).verdict == word


def test_ratio_is_the_median_of_each_rounds_own():
    # A machine that is twice as slow for a round is so for both.
    verdict = GOAL.judge(rounds([11.0, 24.0, 13.0], [10.0, 20.0, 10.0]))
    assert verdict.ratio == (1.2, 1.1, 1.3)
    assert verdict.measured == "13.0 µs"
    assert verdict.against == "peer 10.0 µs"


def test_goal_may_count_the_other_several_times():
    goal = Goal(id="P0", what="trips", metric="cpu_us", against="peer", times=4, goal=1.15, limit=1.3)
    verdict = goal.judge(rounds([44.0], [10.0]))
    assert verdict.ratio[0] == pytest.approx(1.1)
    assert verdict.against == "4 x peer 40.0 µs"


def test_goal_may_compare_two_figures_of_one_variant():
    goal = Goal(
        id="P0",
        what="late",
        metric="late_us",
        against=OURS,
        against_metric="early_us",
        named="early",
        goal=1.0,
        limit=1.1,
    )
    verdict = goal.judge({OURS: [{"late_us": 2.1, "early_us": 2.0}]})
    assert (verdict.verdict, verdict.against) == (ACCEPTABLE, "early 2.00 µs")


def test_what_could_not_be_measured_failed():
    assert GOAL.judge(rounds([], [10.0])).verdict == FAILED
    assert GOAL.judge({}).ratio is None


def test_best_rounds_are_compared_whichever_they_are():
    assert best(rounds([12.0, 30.0], [99.0, 10.0]), GOAL) == 1.2


def test_figures_are_shown_with_the_unit_their_name_ends_with():
    assert shown("cpu_us", 3.14159) == "3.14 µs"
    assert shown("session_kib", 31.44) == "31.4 KiB"
    assert shown("p99_us", 12_345.0) == "12.3 ms"
    assert shown("p99_ms", 1234.5) == "1,234 ms"
    assert shown("threads", 2_001) == "2,001"
    assert shown("events_per_second", 12.0) == "12"
    assert shown("events_per_second", 12.34) == "12.3"


def test_numbers_are_neither_words_nor_samples():
    assert numbers({"open": 3, "refused": "no", "series": [{"open": 3}]}) == {"open": 3}


def test_summary_of_one_round_has_no_spread():
    assert summary([3.0]) == {"median": 3.0, "q1": 3.0, "q3": 3.0, "min": 3.0, "max": 3.0}
    assert summary([1.0, 2.0, 9.0])["median"] == 2.0


def test_details_name_what_failed():
    text = report.details(BENCH, rounds([12.0, 14.0], []))
    assert "polyai_sync" in text
    assert "cpu_us 13.0 µs [12.5-13.5]" in text
    assert text.splitlines()[-1].split() == ["peer", "failed"]


def test_verdicts_stand_in_columns():
    lines = report.verdicts([GOAL.judge(rounds([12.0], [10.0])), GOAL.judge({})]).splitlines()
    assert lines[1].split("  ")[-1] == ACCEPTABLE
    assert "1.20 (1.20-1.20)" in lines[1]
    assert lines[0].index("goal") == lines[1].rindex("1  ")


@pytest.fixture
def written(tmp_path):
    """A report of one benchmark in a file."""
    path = tmp_path / "bench.json"
    document = report.Report(quick=False)
    document.add(BENCH, rounds([12.0], [10.0]), [GOAL.judge(rounds([12.0], [10.0]))], {"events": 10}, 3.3)
    document.write(path)
    return path


def test_file_has_the_rounds_and_the_verdicts_and_names_no_host(written):
    document = json.loads(written.read_text(encoding="utf-8"))
    one = document["benches"]["p00"]
    assert one["rounds"] == rounds([12.0], [10.0])
    assert one["verdicts"][0]["ratio"] == [1.2, 1.2, 1.2]
    assert (one["quick"], one["options"], one["seconds"]) == (False, {"events": 10}, 3)
    assert set(document["machine"]) == {"cpu", "cores", "system", "python", "versions"}


def test_other_benchmarks_of_an_earlier_run_are_kept(written):
    document = report.Report(quick=True, earlier=written)
    other = Bench(name="p99", title="", group="", variants=(), main="")
    document.add(other, {}, [], {}, 1.0)
    document.write(written)
    kept = json.loads(written.read_text(encoding="utf-8"))["benches"]
    assert {name: one["quick"] for name, one in kept.items()} == {"p00": False, "p99": True}
    assert list(document.rounds({"p99": other, "p00": BENCH})) == ["p99", "p00"]


def test_nothing_is_kept_from_another_machine(written):
    document = json.loads(written.read_text(encoding="utf-8"))
    document["machine"]["cpu"] = "another"
    written.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(SystemExit, match="another machine"):
        report.Report(quick=False, earlier=written)


def test_all_twelve_are_there_and_the_longest_come_last():
    names = list(benches())
    assert names[:12] == [f"p{number:02d}" for number in range(1, 13)]
    assert names[12:] == ["instructions", "scale", "limits"]


@pytest.mark.parametrize("typed", ["p3", "P03", "p03"])
def test_a_benchmark_is_named_as_the_goals_are(typed):
    assert [one.name for one in chosen([typed], benches(), print)] == ["p03"]


def test_unknown_benchmark_is_refused_with_those_there_are():
    with pytest.raises(SystemExit, match=r"p13.*There are: p01"):
        chosen(["p13"], benches(), print)


def test_what_cannot_be_measured_here_is_left_out_of_a_plain_run_and_refused_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    told = []
    assert "instructions" not in [one.name for one in chosen([], benches(), told.append)]
    assert "apt-get install valgrind" in told[0]
    with pytest.raises(SystemExit, match="valgrind"):
        chosen(["instructions"], benches(), print)


def test_options_change_in_the_benchmarks_that_have_them():
    assert changed(["sessions=4000", "minutes=0.5"], [scale.BENCH]) == {"sessions": 4000.0, "minutes": 0.5}
    with pytest.raises(SystemExit, match="no such option"):
        changed(["session=4000"], [scale.BENCH])
    with pytest.raises(SystemExit, match="not a number"):
        changed(["sessions=many"], [scale.BENCH])


def test_changed_options_win_over_those_of_a_quick_run_and_keep_their_kind():
    with Services() as services:
        run = Run(services, rounds=1, quick=True, progress=print, changed={"seconds": 3.0, "sessions": 9.0})
        assert run.options(BENCH) == {"events": 2, "seconds": 3.0}
        assert repr(run.options(scale.BENCH)["sessions"]) == "9"


def test_a_worker_that_fails_is_told_with_its_last_words():
    failing = Variant(name=OURS, call="bench.table:nothing_such")
    with Services() as services:
        run = Run(services, rounds=1, quick=True, progress=lambda _: None)
        taken = run.measure(Bench(name="p00", title="", group="", variants=(failing,), main="", needs=()))
    assert taken == {OURS: []}
    assert run.failures == ["p00 polyai_sync: AttributeError: module 'bench.table' has no attribute 'nothing_such'"]


def test_a_worker_that_hangs_is_ended():
    endless = Variant(name=OURS, call="signal:pause")
    with Services() as services:
        run = Run(services, rounds=1, quick=True, progress=lambda _: None)
        bench = Bench(name="p00", title="", group="", variants=(endless,), main="", needs=(), limit=0.5)
        assert run.measure(bench) == {OURS: []}
    assert run.failures == ["p00 polyai_sync: not done after 0.5 s"]


IDLE = {"alive": 5_000, "missed": 0, "cpu_percent": 1.5, "asked": 5_000.0}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, REACHED),
        ({"cpu_percent": 2.5}, ACCEPTABLE),
        ({"missed": 1}, TOO_SLOW),
        ({"alive": 1_999}, TOO_SLOW),
    ],
)
def test_idle_sessions_are_judged_by_number_cpu_and_heartbeats(changes, word):
    (verdict,) = p06_idle.judge({OURS: [IDLE | changes]})
    assert verdict.verdict == word


STEADY = {
    "sessions": 2_000.0, "alive": 2_000.0, "minutes": 10.0, "cpu_percent": 20.0, "p99_ms": 3.0, "drops": 2_000.0,
    "missed": 0, "failed": 0.0, "unsettled": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "word"),
    [({}, TOLD), ({"alive": 1_999.0}, TOO_SLOW), ({"missed": 1}, TOO_SLOW), ({"unsettled": 1.0}, TOO_SLOW)],
)
def test_scale_holds_every_session_heartbeat_and_message(changes, word):
    (verdict,) = scale.judge({OURS: [STEADY | changes]})
    assert verdict.verdict == word


def test_limits_tell_what_gave_first():
    found = limits.judge({limits.FULL: [{"open": 9_983.0, "refused": "Too many open files"}]})
    assert [one.measured for one in found] == ["-", "9,983, then: Too many open files", "-"]
    assert [one.verdict for one in found] == [FAILED, TOLD, FAILED]
