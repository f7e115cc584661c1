"""``python -m bench [NAME…]``: measure P1 to P12 of the design's performance goals."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import time
from pathlib import Path

import bench
from bench import plots, report
from bench.run import Run
from bench.services import MissingPackageError, Services
from bench.table import TOO_SLOW, Bench, Rounds, Verdict

FIRST = "p"
"""Benchmarks are modules called ``p01_…``; ``instructions`` is one too."""


def benches() -> dict[str, Bench]:
    """Every benchmark by its name."""
    names = [module.name for module in pkgutil.iter_modules(bench.__path__)]
    found = [name for name in names if (name[0] == FIRST and name[1:3].isdigit()) or name == "instructions"]
    known = [importlib.import_module(f"bench.{name}").BENCH for name in found]
    return {one.name: one for one in sorted(known, key=lambda one: (one.name[0] != FIRST, one.name))}


def _chosen(names: list[str], known: dict[str, Bench]) -> list[Bench]:
    wanted = []
    for name in names:
        key = name.lower()
        if key[:1] == FIRST and key[1:].isdigit():
            key = f"p{int(key[1:]):02d}"
        if key not in known:
            raise SystemExit(f"There is no benchmark {name!r}. There are: {', '.join(known)}")
        wanted.append(known[key])
    return wanted or list(known.values())


def main() -> int:
    known = benches()
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(known)}; all where left out")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default 5)")
    parser.add_argument("--quick", action="store_true", help="fewer events and sessions, and 3 rounds")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="where JSON and plots go")
    options = parser.parse_args()
    rounds = 3 if options.quick and options.rounds == parser.get_default("rounds") else options.rounds
    if rounds < 1:
        parser.error("--rounds must be at least 1")
    began = time.perf_counter()

    def progress(text: str) -> None:
        print(f"[{time.perf_counter() - began:6.0f} s] {text}", file=sys.stderr, flush=True)

    results: dict[str, tuple[Bench, Rounds]] = {}
    verdicts: list[Verdict] = []
    with Services() as services:
        run = Run(services, rounds=rounds, quick=options.quick, progress=progress)
        for one in _chosen(options.names, known):
            try:
                results[one.name] = one, run.measure(one)
            except MissingPackageError as error:
                run.failures.append(f"{one.name}: {error}")
                progress(f"SKIPPED {run.failures[-1]}")
                continue
            verdicts += one.verdicts(results[one.name][1])
            print(report.details(*results[one.name]), flush=True)
    print(f"\n{report.verdicts(verdicts)}")
    for failure in run.failures:
        print(f"FAILED {failure}")
    options.out.mkdir(parents=True, exist_ok=True)
    told = {"names": options.names, "rounds": rounds, "quick": options.quick}
    (options.out / "bench.json").write_text(report.as_json(results, verdicts, run.failures, told), encoding="utf-8")
    try:
        drawn = plots.draw(results, options.out)
    except MissingPackageError as error:
        print(f"No plots: {error}")
    else:
        print(f"Written: {options.out / 'bench.json'}, {', '.join(map(str, drawn))}")
    return 1 if run.failures or any(one.verdict == TOO_SLOW for one in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
