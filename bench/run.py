"""Measures: round by round, each variant in its turn, each in an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

from bench.services import Services
from bench.table import Bench, Goal, Rounds, Variant, numbers, shown
from bench.worker import PROGRESS, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

__all__ = ["Run", "best", "quick_ratio"]

_UNWANTED = ("_PROXY", "_CA_BUNDLE")


def _environment() -> dict[str, str]:
    """Ours, less what would send a worker elsewhere than to loopback, or have it trust somebody else."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith(_UNWANTED) and not name.startswith("POLYAI_")
    }


def quick_ratio(bench: Bench, rounds: int = 3) -> float:
    """The first goal's ratio, from a few short rounds: for a test that a bad regression cannot pass.

    Our best round against the other's best: what else the machine does makes either slower, and never faster.

    Raises:
        RuntimeError: It could not be measured; the message says why.
    """
    goal = bench.goals[0]
    with Services() as services:
        run = Run(services, rounds=rounds, quick=True, progress=lambda _: None)
        taken = run.measure(bench, only=(goal.ours, goal.against))
    if run.failures:
        raise RuntimeError("; ".join(run.failures))
    return best(taken, goal)


def best(taken: Rounds, goal: Goal) -> float:
    """The ratio of the least figures, whichever rounds they are from."""
    mine, theirs = (min(float(figures[goal.metric]) for figures in taken[name]) for name in (goal.ours, goal.against))
    return mine / theirs


class Run:
    """One run of the benchmarks.

    Args:
        services: The load and its proxy.
        rounds: How many rounds of each benchmark.
        quick: Fewer events, fewer sessions.
        progress: Told what goes on.
        changed: Options to change, in the benchmarks that have them.
    """

    def __init__(
        self,
        services: Services,
        *,
        rounds: int,
        quick: bool,
        progress: Callable[[str], None],
        changed: Mapping[str, float] | None = None,
    ) -> None:
        self._changed = changed or {}
        self._services = services
        self._rounds = rounds
        self._quick = quick
        self._progress = progress
        self.failures: list[str] = []

    def measure(self, bench: Bench, only: Container[str] | None = None) -> Rounds:
        """All rounds of one benchmark; ``only`` of the variants with these names."""
        options = self.options(bench) | self._services.options(bench.needs)
        variants = [variant for variant in bench.variants if only is None or variant.name in only]
        rounds: Rounds = {variant.name: [] for variant in variants}
        count = min(self._rounds * (1 if self._quick else bench.times), bench.rounds)
        for number in range(count):
            # Another one begins each time, so that no variant always runs behind the same other.
            turn = number % len(variants)
            for variant in variants[turn:] + variants[:turn]:
                began = time.perf_counter()
                figures = self._once(bench, variant, options)
                if figures is not None:
                    rounds[variant.name].append(figures)
                    text = "  ".join(f"{name} {shown(name, value)}" for name, value in numbers(figures).items())
                    seconds = time.perf_counter() - began
                    self._progress(f"{bench.name} {number + 1}/{count} {variant.name}: {text}  ({seconds:.1f} s)")
        return rounds

    def options(self, bench: Bench) -> dict[str, Any]:
        """What a benchmark is run with."""
        options = {**bench.options, **(bench.quick if self._quick else {})}
        # Of the same kind as before: a number of sessions stays whole.
        return options | {name: type(options[name])(value) for name, value in self._changed.items() if name in options}

    def _once(self, bench: Bench, variant: Variant, options: dict[str, Any]) -> dict[str, Any] | None:
        command = [sys.executable, "-m", "bench.worker", variant.call, json.dumps({**options, **variant.options})]
        problems: list[str] = []
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        with (
            tempfile.TemporaryFile() as out,
            subprocess.Popen(
                command, stdout=out, stderr=subprocess.PIPE, text=True, env=_environment(), cwd=ROOT
            ) as process,
        ):
            limit = threading.Timer(bench.limit, stop)
            limit.start()
            assert process.stderr is not None
            for line in map(str.strip, process.stderr):
                if line.startswith(PROGRESS):
                    self._progress(f"{bench.name} {variant.name}: {line.removeprefix(PROGRESS)}")
                elif line:
                    problems.append(line)
            process.wait()
            limit.cancel()
            out.seek(0)
            answer = out.read()
        if process.returncode == 0:
            figures: dict[str, Any] = json.loads(answer.splitlines()[-1])
            return figures
        problem = problems[-1] if problems else f"exit {process.returncode}"
        if late.is_set():
            problem = f"not done after {bench.limit:g} s"
        self.failures.append(f"{bench.name} {variant.name}: {problem}")
        self._progress(f"FAILED {self.failures[-1]}")
        return None
