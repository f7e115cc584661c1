"""What is fuzzed: each target's check, and what changes its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import decoder, machine, mutate

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

__all__ = ["TARGETS"]

TARGETS: Final[dict[str, tuple[Callable[[bytes], None], Callable[[str, random.Random], str]]]] = {
    "decoder": (decoder.check, mutate.mutate_frame),
    "machine": (machine.check, mutate.mutate_lines),
}
