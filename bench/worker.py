"""Runs one measurement in an interpreter of its own and prints what came out: ``python -m bench.worker``."""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    """Call ``module:function`` (first argument) with the options (second argument, JSON)."""
    module, _, name = sys.argv[1].partition(":")
    result = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
