"""``python -m tests.fuzz [SECONDS] [TARGET…]``: look for inputs that break a promise (needs atheris).

The corpus is kept in ``build/fuzz/corpus`` from run to run; what breaks a promise is written to ``build/fuzz``, and the
run ends with exit status 1. ``python -m tests.fuzz --again FILE`` has such a file happen again, without atheris.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

from . import corpus
from .targets import TARGETS

_ROOT: Final = Path(__file__).parents[2]
_FOLDER: Final = _ROOT / "build" / "fuzz"
_LIMITS: Final = ("-timeout=10", "-rss_limit_mb=1500", "-max_len=65536", "-print_final_stats=1")


def _fuzz(target: str, seconds: int, seed: int) -> int:
    """Fuzz one target in a process of its own: libFuzzer does not come back."""
    (_FOLDER / "corpus").mkdir(parents=True, exist_ok=True)
    if not (_FOLDER / "corpus" / target).exists():
        print("writing the corpus …", flush=True)
        corpus.write(_FOLDER / "corpus")
    limits = [*_LIMITS, f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={_FOLDER}/{target}-"]
    command = [sys.executable, "-m", "tests.fuzz.inside", target, *limits, str(_FOLDER / "corpus" / target)]
    return subprocess.run(command, cwd=_ROOT).returncode


def main() -> int:
    """Fuzz one target after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=int, default=120, help="for each target (default 120)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)}; both if left out")
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer's chance; 0 = another one each time")
    parser.add_argument("--again", type=Path, help="let an input that was found happen again")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no target is called {', '.join(unknown)}")
    if options.again:
        TARGETS[options.again.name.partition("-")[0]][0](options.again.read_bytes())
        return 0
    found = [target for target in options.targets or TARGETS if _fuzz(target, options.seconds, options.seed)]
    if found:
        print(f"a promise was broken by: {', '.join(found)}; the inputs are in {_FOLDER.relative_to(_ROOT)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
