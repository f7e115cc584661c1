"""Runs one measurement in an interpreter of its own and prints what came out: ``python -m bench.worker``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
"""Where ``python -m bench.…`` works."""

PROGRESS: Final = "progress: "
"""How the lines on stderr begin that are for whoever waits."""


def main() -> None:
    """Call ``module:function`` (first argument) with the options (second argument, JSON)."""
    # What is installed is measured; the checkout is where the benchmarks are.
    sys.path.append(sys.path.pop(0))
    module, _, name = sys.argv[1].partition(":")
    result = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
