"""The process that fuzzes one target: ``python -m tests.fuzz.inside TARGET [libFuzzer's arguments]``."""

from __future__ import annotations

import random
import sys

import atheris


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    with atheris.instrument_imports(include=["polyai_sync"]):
        from .targets import TARGETS
    check, change = TARGETS[sys.argv[1]]

    def mutator(data: bytes, longest: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.3:
            return bytes(atheris.Mutate(data, longest))
        return change(data.decode("utf-8", "replace"), chance).encode("utf-8", "replace")[:longest]

    atheris.Setup([sys.argv[0], *sys.argv[2:]], check, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
