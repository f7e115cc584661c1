"""Measures: round by round, each variant in its turn, each in an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from bench.services import Services
from bench.table import Bench, Rounds, Variant, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Container

__all__ = ["Run", "quick_ratio"]

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

    Raises:
        RuntimeError: It could not be measured; the message says why.
    """
    goal = bench.goals[0]
    with Services() as services:
        run = Run(services, rounds=rounds, quick=True, progress=lambda _: None)
        verdict = goal.judge(run.measure(bench, only=(goal.ours, goal.against)))
    if verdict.ratio is None:
        raise RuntimeError("; ".join(run.failures))
    return verdict.ratio[0]


class Run:
    """One run of the benchmarks.

    Args:
        services: The load and its proxy.
        rounds: How many rounds of each benchmark.
        quick: Fewer events, fewer sessions.
        progress: Told what goes on.
    """

    def __init__(self, services: Services, *, rounds: int, quick: bool, progress: Callable[[str], None]) -> None:
        self._services = services
        self._rounds = rounds
        self._quick = quick
        self._progress = progress
        self.failures: list[str] = []

    def measure(self, bench: Bench, only: Container[str] | None = None) -> Rounds:
        """All rounds of one benchmark; ``only`` of the variants with these names."""
        options = {**bench.options, **(bench.quick if self._quick else {}), **self._services.options(bench.needs)}
        variants = [variant for variant in bench.variants if only is None or variant.name in only]
        rounds: Rounds = {variant.name: [] for variant in variants}
        count = min(self._rounds, bench.rounds)
        for number in range(count):
            # Another one begins each time, so that no variant always runs behind the same other.
            turn = number % len(variants)
            for variant in variants[turn:] + variants[:turn]:
                began = time.perf_counter()
                figures = self._once(bench, variant, options)
                if figures is not None:
                    rounds[variant.name].append(figures)
                    text = "  ".join(f"{name} {shown(name, value)}" for name, value in figures.items())
                    seconds = time.perf_counter() - began
                    self._progress(f"{bench.name} {number + 1}/{count} {variant.name}: {text}  ({seconds:.1f} s)")
        return rounds

    def _once(self, bench: Bench, variant: Variant, options: dict[str, Any]) -> dict[str, Any] | None:
        command = [sys.executable, "-m", "bench.worker", variant.call, json.dumps({**options, **variant.options})]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=bench.limit, check=False, env=_environment()
            )
        except subprocess.TimeoutExpired:
            problem = f"not done after {bench.limit:g} s"
        else:
            if done.returncode == 0:
                figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
                return figures
            problem = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
        self.failures.append(f"{bench.name} {variant.name}: {problem}")
        self._progress(f"FAILED {self.failures[-1]}")
        return None
