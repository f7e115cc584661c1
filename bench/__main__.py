"""``python -m bench [NAME…]``: measure P1 to P12 of the performance goals, growth, scale and its limits."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import bench
from bench import plots, report
from bench.run import Run
from bench.services import MissingPackageError, Services
from bench.table import TOO_SLOW, Bench, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST: Final = "p"
"""Benchmarks are modules called ``p01_…``, and these."""

OTHERS: Final = ("instructions", "scale", "limits")


def benches() -> dict[str, Bench]:
    """Every benchmark by its name, in the order in which they run: the longest last."""
    names = sorted(module.name for module in pkgutil.iter_modules(bench.__path__))
    numbered = [name for name in names if name[0] == FIRST and name[1:3].isdigit()]
    known = [importlib.import_module(f"bench.{name}").BENCH for name in (*numbered, *OTHERS)]
    return {one.name: one for one in known}


def chosen(names: list[str], known: dict[str, Bench], skip: Callable[[str], None]) -> list[Bench]:
    """Those that were named, such as ``p3`` or ``P03``; without names all that can be measured here.

    Raises:
        SystemExit: One is not known, or cannot be measured here.
    """
    if not names:
        reasons = {name: one.unless() for name, one in known.items() if one.unless}
        for name, reason in reasons.items():
            if reason:
                skip(f"{name} is left out: {reason}")
        return [one for name, one in known.items() if not reasons.get(name)]
    wanted = []
    for name in names:
        key = name.lower()
        if key[:1] == FIRST and key[1:].isdigit():
            key = f"p{int(key[1:]):02d}"
        if key not in known:
            raise SystemExit(f"There is no benchmark {name!r}. There are: {', '.join(known)}")
        unless = known[key].unless
        if unless and (missing := unless()):
            raise SystemExit(f"{name}: {missing}")
        wanted.append(known[key])
    return wanted


def changed(pairs: list[str], known: list[Bench]) -> dict[str, float]:
    """Options from ``--set sessions=4000``.

    Raises:
        SystemExit: Not a number, or an option that none of the benchmarks has.
    """
    names = sorted({name for one in known for name in one.options})
    found = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in names:
            raise SystemExit(f"--set {pair}: there is no such option here. There are: {', '.join(names)}")
        try:
            found[name] = float(value)
        except ValueError:
            raise SystemExit(f"--set {pair}: {value!r} is not a number") from None
    return found


def main() -> int:
    known = benches()
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(known)}; all where left out")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default 5)")
    parser.add_argument("--quick", action="store_true", help="fewer events and sessions, and 3 rounds")
    parser.add_argument(
        "--set", action="append", default=[], metavar="OPTION=N", help="another number of sessions, minutes …"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="where JSON and plots go")
    parser.add_argument("--keep", action="store_true", help="keep what --out has of the benchmarks not run now")
    options = parser.parse_args()
    rounds = 3 if options.quick and options.rounds == parser.get_default("rounds") else options.rounds
    if rounds < 1:
        parser.error("--rounds must be at least 1")
    began = time.perf_counter()

    def progress(text: str) -> None:
        print(f"[{time.perf_counter() - began:6.0f} s] {text}", file=sys.stderr, flush=True)

    wanted = chosen(options.names, known, progress)
    written = options.out / "bench.json"
    document = report.Report(quick=options.quick, earlier=written if options.keep else None)
    verdicts: list[Verdict] = []
    with Services() as services:
        run = Run(
            services,
            rounds=rounds,
            quick=options.quick,
            progress=progress,
            changed=changed(options.set, wanted),
        )
        for one in wanted:
            start = time.perf_counter()
            try:
                taken = run.measure(one)
            except MissingPackageError as error:
                run.failures.append(f"{one.name}: {error}")
                progress(f"SKIPPED {run.failures[-1]}")
                continue
            found = one.verdicts(taken)
            verdicts += found
            document.add(one, taken, found, run.options(one), time.perf_counter() - start)
            print(report.details(one, taken), flush=True)
    print(f"\n{report.verdicts(verdicts)}")
    for failure in run.failures:
        print(f"FAILED {failure}")
    options.out.mkdir(parents=True, exist_ok=True)
    document.write(written)
    try:
        drawn = plots.draw(document.rounds(known), options.out)
    except MissingPackageError as error:
        print(f"No plots: {error}")
    else:
        print(f"Written: {written}, {', '.join(map(str, drawn))}")
    return 1 if run.failures or any(one.verdict == TOO_SLOW for one in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
