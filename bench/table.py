"""What a benchmark is: variants that are measured in turns, and goals that compare two of them."""

from __future__ import annotations

from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final

from attrs import Factory, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ACCEPTABLE",
    "FAILED",
    "OURS",
    "REACHED",
    "TOLD",
    "TOO_SLOW",
    "Bench",
    "Curves",
    "Goal",
    "Rounds",
    "Variant",
    "Verdict",
    "called",
    "numbers",
    "shown",
    "summary",
    "unit",
]

OURS: Final = "polyai_sync"

REACHED: Final = "reached"
ACCEPTABLE: Final = "acceptable"
TOO_SLOW: Final = "NOT ACCEPTABLE"
FAILED: Final = "FAILED"
TOLD: Final = "for information"

Rounds = dict[str, list[dict[str, Any]]]
"""What each variant's rounds gave: figures by name."""


@frozen(kw_only=True)
class Variant:
    """One thing to measure: a function that a worker calls with options, and that returns figures by name."""

    name: str
    call: str
    options: dict[str, Any] = Factory(dict)


@frozen(kw_only=True)
class Verdict:
    """A goal, and what came of it.

    Attributes:
        ratio: Of the medians of each round: the median, the least and the greatest; ``None`` without a peer.
    """

    id: str
    what: str
    measured: str
    against: str
    ratio: tuple[float, float, float] | None
    goal: str
    limit: str
    verdict: str


@frozen(kw_only=True)
class Goal:
    """How one figure compares with another of the same round.

    Attributes:
        id: As `performance.md` numbers it.
        metric: The figure's name.
        against: The variant to compare with.
        goal: The ratio to reach.
        limit: The ratio above which it is not acceptable.
        ours: The variant that is compared.
        against_metric: The other figure's name, if it is another.
        named: What the other figure is called, where the variant's name does not say it.
        times: How often the other figure counts.
        judged: ``False``: the ratio is told, and no goal is set for it.
    """

    id: str
    what: str
    metric: str
    against: str
    goal: float
    limit: float
    ours: str = OURS
    against_metric: str = ""
    named: str = ""
    times: float = 1.0
    judged: bool = True

    def judge(self, rounds: Rounds) -> Verdict:
        """Compare, round by round."""
        other = self.against_metric or self.metric
        pairs = [
            (mine[self.metric], theirs[other] * self.times)
            for mine, theirs in zip(rounds.get(self.ours, []), rounds.get(self.against, []), strict=False)
            if self.metric in mine and other in theirs
        ]
        against = self.named or self.against
        if self.times != 1:
            against = f"{self.times:g} x {against}"
        if not pairs:
            return self._verdict("-", against, None, FAILED)
        ratios = [mine / theirs for mine, theirs in pairs]
        ratio = median(ratios)
        word = REACHED if ratio <= self.goal else ACCEPTABLE if ratio <= self.limit else TOO_SLOW
        if not self.judged:
            word = TOLD
        return self._verdict(
            shown(self.metric, median(mine for mine, _ in pairs)),
            f"{against} {shown(other, median(theirs for _, theirs in pairs))}",
            (ratio, min(ratios), max(ratios)),
            word,
        )

    def _verdict(self, measured: str, against: str, ratio: tuple[float, float, float] | None, word: str) -> Verdict:
        return Verdict(
            id=self.id,
            what=self.what,
            measured=measured,
            against=against,
            ratio=ratio,
            goal=f"{self.goal:g}" if self.judged else "-",
            limit=f"{self.limit:g}" if self.judged else "-",
            verdict=word,
        )


@frozen(kw_only=True)
class Curves:
    """What to draw of the figure ``series``, a list of samples: one panel below the other.

    Attributes:
        x: The sample's figure that goes to the right.
        label: What stands below it.
        panels: The figures of each panel.
        log: Axes for what doubles from sample to sample.
    """

    x: str
    label: str
    panels: tuple[tuple[str, ...], ...]
    log: bool = False


@frozen(kw_only=True)
class Bench:
    """One benchmark.

    Attributes:
        name: What it is called on the command line.
        group: The plot it belongs to.
        needs: Of `bench.services`: ``load``, ``tls``, ``slow``.
        options: For every variant.
        quick: What ``--quick`` changes in them.
        goals: Compared round by round.
        judge: Instead of ``goals``, where a goal is no ratio.
        main: The figure to plot.
        rounds: At most so many, where one takes long.
        times: So many times as many, where they differ more than elsewhere.
        limit: Seconds for one variant's round.
        note: A sentence to print below.
        curves: How to draw a variant's ``series``, instead of bars.
        unless: Why it cannot be measured here, where it cannot: it is then left out of a plain run.
    """

    name: str
    title: str
    group: str
    variants: tuple[Variant, ...]
    main: str
    goals: tuple[Goal, ...] = ()
    needs: tuple[str, ...] = ("load",)
    options: dict[str, Any] = Factory(dict)
    quick: dict[str, Any] = Factory(dict)
    judge: Callable[[Rounds], list[Verdict]] | None = None
    rounds: int = 99
    times: int = 1
    limit: float = 180.0
    note: str = ""
    curves: Curves | None = None
    unless: Callable[[], str | None] | None = None

    def verdicts(self, rounds: Rounds) -> list[Verdict]:
        """What came of the goals."""
        return self.judge(rounds) if self.judge else [goal.judge(rounds) for goal in self.goals]


_UNITS: Final = {
    "us": "µs",
    "ms": "ms",
    "s": "s",
    "kib": "KiB",
    "mib": "MiB",
    "bytes": "B",
    "percent": "%",
    "instructions": "instr",
}


def numbers(figures: dict[str, Any]) -> dict[str, float]:
    """The figures that are one number: not the samples, not words."""
    return {name: value for name, value in figures.items() if isinstance(value, (int, float))}


def unit(metric: str) -> str:
    """The unit of a figure, which its name ends with; empty for a plain number."""
    return _UNITS.get(metric.rpartition("_")[2], "")


def shown(metric: str, value: float) -> str:
    """A figure with its unit."""
    if unit(metric) == "µs" and abs(value) >= 1000:
        return shown("ms", value / 1000)
    if not unit(metric) and value == int(value):
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit(metric)}".rstrip()


def called(metric: str) -> str:
    """What a figure is called where people read it, with its unit."""
    if not unit(metric):
        return metric.replace("_", " ")
    return f"{metric.rpartition('_')[0].replace('_', ' ').replace('cpu', 'CPU')}, {unit(metric)}".removeprefix(", ")


def summary(values: list[float]) -> dict[str, float]:
    """The median and the spread of some rounds."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return {"median": median(values), "q1": low, "q3": high, "min": min(values), "max": max(values)}
