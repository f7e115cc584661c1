"""What helpers of one measurement share: clocks, percentiles, memory. Runs inside a worker."""

from __future__ import annotations

import gc
import resource
import sys
import time
from pathlib import Path
from typing import Any

import requests

from bench.worker import PROGRESS
from polyai_sync import Client

__all__ = ["Meter", "client", "percentile", "progress", "raise_descriptors", "resident_kib", "socket_url", "spread_of"]


def progress(text: str) -> None:
    """Say how far a long measurement is."""
    print(f"{PROGRESS}{text}", file=sys.stderr, flush=True)


class Meter:
    """CPU and wall time of this process, from the ``with`` on."""

    def __enter__(self) -> Meter:
        gc.collect()
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self._wall
        self.cpu = time.process_time() - self._cpu

    def per(self, count: int) -> dict[str, float]:
        """Microseconds for each of ``count``."""
        return {"cpu_us": self.cpu / count * 1e6, "wall_us": self.wall / count * 1e6}


def client(base_url: str, ca: str | None = None, **options: Any) -> Client:
    """A client with the bundled plugins and nothing else unusual."""
    if ca is not None:
        options["http"] = requests.Session()
        options["http"].verify = ca
    return Client("bench-token", "bench.example", base_url=base_url, **options)


def socket_url(base_url: str) -> str:
    """Where the WebSocket of a base URL is."""
    return f"ws{base_url.removeprefix('http')}/ws?session_id=bench&access_token=bench"


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread_of(values: list[float]) -> dict[str, float]:
    """p50 and p99 of times in seconds, in microseconds."""
    return {"p50_us": percentile(values, 0.5) * 1e6, "p99_us": percentile(values, 0.99) * 1e6}


def resident_kib() -> float:
    """Memory of this process that is nobody else's and in RAM, after a collection."""
    gc.collect()
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return float(line.split()[1])
    raise RuntimeError("no resident size in smaps_rollup")


def raise_descriptors(at_most: int = 0) -> None:
    """Allow as many open descriptors as the system lets a process have, or ``at_most``."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (at_most or hard, hard))
