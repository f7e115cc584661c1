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

from bench.table import Bench, Rounds, Verdict, shown, summary

__all__ = ["as_json", "details", "machine", "verdicts"]

_PACKAGES = ("polyai-sync", "attrs", "pluggy", "requests", "urllib3", "websocket-client", "websockets", "slack_sdk")


def machine() -> dict[str, Any]:
    """Where it was measured, and with what."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else ""
    return {
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
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
        for metric in taken[0]:
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


def as_json(
    benches: dict[str, tuple[Bench, Rounds]], found: list[Verdict], failures: list[str], options: dict[str, Any]
) -> str:
    """All of it, the raw rounds included."""
    document = {
        "machine": machine(),
        "options": options,
        "verdicts": [asdict(one) for one in found],
        "failures": failures,
        "benches": {
            name: {"title": bench.title, "group": bench.group, "main": bench.main, "rounds": rounds}
            for name, (bench, rounds) in benches.items()
        },
    }
    return json.dumps(document, indent=1, ensure_ascii=False)
