"""What was measured: a table for people, JSON for programs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from attrs import asdict

from bench.table import Bench, Rounds, Verdict, numbers, shown, summary

__all__ = ["Report", "details", "machine", "verdicts"]

_PACKAGES = ("polyai-sync", "attrs", "pluggy", "requests", "urllib3", "websocket-client", "websockets", "slack_sdk")


def machine() -> dict[str, Any]:
    """Where it is measured, and with what. No name of the machine's."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else ""
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {package: _version(package) for package in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def details(bench: Bench, rounds: Rounds) -> str:
    """Every figure of every variant: the median, and between which values half of the rounds lie."""
    lines = [f"\n{bench.name}: {bench.title}"]
    for variant in bench.variants:
        taken = rounds.get(variant.name) or []
        if not taken:
            lines.append(f"  {variant.name:<34} failed")
            continue
        cells = []
        for metric in numbers(taken[0]):
            told = summary([figures[metric] for figures in taken])
            spread = f" [{told['q1']:.3g}-{told['q3']:.3g}]" if len(taken) > 1 else ""
            cells.append(f"{metric} {shown(metric, told['median'])}{spread}")
        lines.append(f"  {variant.name:<34} {'  '.join(cells)}")
    if bench.note:
        lines.append(f"  {bench.note}")
    return "\n".join(lines)


def verdicts(found: list[Verdict]) -> str:
    """The goals, one a line."""
    rows = [("", "what", "measured", "against", "ratio (least-greatest)", "goal", "limit", "verdict")]
    for one in found:
        ratio = "-" if one.ratio is None else "{:.2f} ({:.2f}-{:.2f})".format(*one.ratio)
        rows.append((one.id, one.what, one.measured, one.against, ratio, one.goal, one.limit, one.verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


class Report:
    """What stands in the JSON file: the machine, and of each benchmark its options, its rounds and what came of them.

    Args:
        quick: Was it a short run? Told with each benchmark.
        earlier: A file to keep the other benchmarks of.

    Raises:
        SystemExit: The earlier file is from another machine, or from other versions.
    """

    def __init__(self, *, quick: bool, earlier: Path | None = None) -> None:
        self._quick = quick
        self._document: dict[str, Any] = {"machine": machine(), "benches": {}}
        if earlier is not None and earlier.exists():
            kept = json.loads(earlier.read_text(encoding="utf-8"))
            if kept["machine"] != self._document["machine"]:
                raise SystemExit(f"{earlier} is from another machine or other versions; nothing of it can be kept")
            self._document = kept

    def add(self, bench: Bench, rounds: Rounds, found: list[Verdict], options: dict[str, Any], seconds: float) -> None:
        """One benchmark, in place of an earlier run of it."""
        self._document["benches"][bench.name] = {
            "title": bench.title,
            "group": bench.group,
            "main": bench.main,
            "note": bench.note,
            "quick": self._quick,
            "options": options,
            "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "load_average": os.getloadavg(),
            "seconds": round(seconds),
            "verdicts": [asdict(one) for one in found],
            "rounds": rounds,
        }

    def rounds(self, known: dict[str, Bench]) -> dict[str, tuple[Bench, Rounds]]:
        """Everything there is, kept ones included, in the order of the benchmarks."""
        held = self._document["benches"]
        return {name: (bench, held[name]["rounds"]) for name, bench in known.items() if name in held}

    def write(self, path: Path) -> None:
        """All of it, the raw rounds included."""
        path.write_text(json.dumps(self._document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
