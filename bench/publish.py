"""Puts the figures of a run into the documentation: ``python -m bench.publish [FOLDER]``.

The folder is what ``python -m bench --out`` wrote to; ``build/bench`` where left out. Needs nothing but Python.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from bench.worker import ROOT

DATA: Final = ROOT / "docs" / "_data" / "bench.json"
PLOTS: Final = ROOT / "docs" / "_static" / "performance"


def publish(folder: Path, data: Path = DATA, plots: Path = PLOTS) -> list[Path]:
    """Copy the JSON file, and put the plots in place of the earlier ones."""
    pictures = sorted(folder.glob("*.svg"))
    if not pictures:
        raise SystemExit(f"{folder} has no plots: matplotlib was not installed when it was written")
    shutil.copyfile(folder / data.name, data)
    shutil.rmtree(plots, ignore_errors=True)
    plots.mkdir(parents=True)
    return [data, *(Path(shutil.copyfile(picture, plots / picture.name)) for picture in pictures)]


if __name__ == "__main__":
    for path in publish(Path(sys.argv[1] if sys.argv[1:] else "build/bench")):
        print(path.relative_to(ROOT))
