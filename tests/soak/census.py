"""What there is of the process: threads, descriptors, memory, objects."""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
import os
import threading
from pathlib import Path

from attrs import frozen

__all__ = ["Census", "resident_mib"]


def resident_mib() -> float:
    """Memory of this process that is in RAM, in MiB."""
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no resident size in smaps_rollup")


@frozen
class Census:
    """A count, taken at rest.

    Attributes:
        threads: Python's.
        descriptors: Open ones.
        resident: MiB, after a collection, with what the allocator kept for later given back.
        objects: What the collector looks after.
    """

    threads: int
    descriptors: int
    resident: float
    objects: int

    @classmethod
    def take(cls) -> Census:
        """Count now."""
        gc.collect()
        libc = ctypes.util.find_library("c")
        if libc is not None and hasattr(ctypes.CDLL(libc), "malloc_trim"):
            ctypes.CDLL(libc).malloc_trim(0)
        return cls(
            threads=threading.active_count(),
            descriptors=len(os.listdir("/dev/fd")),
            resident=resident_mib(),
            objects=len(gc.get_objects()),
        )
