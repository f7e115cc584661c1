"""One picture per group of benchmarks: the medians as bars, every round as a dot."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from bench.services import MissingPackageError
from bench.table import OURS, Bench, Curves, Rounds, called

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["draw"]

_MINE, _OTHERS, _DOTS = "#3366cc", "#b0b7c3", "#222222"


def draw(benches: dict[str, tuple[Bench, Rounds]], folder: Path) -> list[Path]:
    """Draw what was measured.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingPackageError(
            "plots need matplotlib: pip install matplotlib (the table and the JSON are there)"
        ) from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    # The same file from the same figures: no date, no chance in the names of its parts.
    plt.rcParams.update({"svg.hashsalt": "polyai", "svg.fonttype": "none", "font.family": "sans-serif"})
    groups: dict[str, list[tuple[Bench, Rounds]]] = {}
    written = []
    for bench, rounds in benches.values():
        if bench.curves is None:
            groups.setdefault(bench.group, []).append((bench, rounds))
            continue
        for number, series in enumerate(_series(rounds)):
            figure = _curves(plt, bench.curves, series)
            written.append(folder / f"{bench.name}{f'-{number}' if number else ''}.svg")
            figure.savefig(written[-1], metadata={"Date": None})
            plt.close(figure)
    for group, members in groups.items():
        heights = [1.0 + 0.34 * len(_rows(bench, rounds)) for bench, rounds in members]
        figure, axes = plt.subplots(
            len(members), 1, figsize=(9, sum(heights)), squeeze=False, height_ratios=heights, layout="constrained"
        )
        for axis, (bench, rounds) in zip(axes[:, 0], members, strict=True):
            _bars(axis, bench, rounds)
        written.append(folder / f"{group}.svg")
        figure.savefig(written[-1], metadata={"Date": None})
        plt.close(figure)
    return written


def _series(rounds: Rounds) -> list[list[dict[str, float]]]:
    return [figures["series"] for taken in rounds.values() for figures in taken if "series" in figures]


def _curves(plt: Any, curves: Curves, series: list[dict[str, float]]) -> Any:
    count = len(curves.panels)
    figure, axes = plt.subplots(count, 1, figsize=(9, 1.7 * count), sharex=True, squeeze=False, layout="constrained")
    for axis, metrics in zip(axes[:, 0], curves.panels, strict=True):
        for metric, colour in zip(metrics, (_MINE, _OTHERS), strict=False):
            values = [one[metric] for one in series]
            axis.plot([one[curves.x] for one in series], values, color=colour, marker="." if curves.log else "")
        axis.set_title(", ".join(map(called, metrics)), loc="left", fontsize=10)
        if len(metrics) > 1:
            axis.legend(axis.get_lines(), list(map(called, metrics)), fontsize=8, frameon=False)
        if curves.log:
            axis.set_xscale("log")
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel(curves.label)
    return figure


def _rows(bench: Bench, rounds: Rounds) -> list[tuple[str, list[float]]]:
    """The variants that have the figure, and what each round gave."""
    rows = [
        (variant.name, [figures[bench.main] for figures in rounds.get(variant.name, []) if bench.main in figures])
        for variant in reversed(bench.variants)
    ]
    return [(name, values) for name, values in rows if values]


def _bars(axis: Any, bench: Bench, rounds: Rounds) -> None:
    rows = _rows(bench, rounds)
    for place, (name, values) in enumerate(rows):
        axis.barh(place, median(values), color=_MINE if name.startswith(OURS) else _OTHERS, height=0.7)
        axis.plot(values, [place] * len(values), ".", color=_DOTS, markersize=4, alpha=0.6)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    axis.set_title(f"{bench.title}: {called(bench.main)}", loc="left", fontsize=10)
    axis.set_xlim(left=0)
    axis.spines[["top", "right"]].set_visible(False)
