"""Every phase of a session, every way a connection can die, and what must come of it: the one table.

The data is ``docs/_data/matrix.json``; the tests assert it cell by cell, and `render` writes it for the docs. Run as a
program, this writes ``docs/_data/matrix.md``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from attrs import frozen

__all__ = ["CELLS", "DEATHS", "MARKDOWN", "OUTCOMES", "PHASES", "Cell", "render"]

_FOLDER: Final = Path(__file__).parents[2] / "docs" / "_data"
MARKDOWN: Final = _FOLDER / "matrix.md"

_DATA: Final[dict[str, Any]] = json.loads((_FOLDER / "matrix.json").read_text(encoding="utf-8"))
PHASES: Final[dict[str, dict[str, Any]]] = _DATA["phases"]
DEATHS: Final[dict[str, dict[str, Any]]] = _DATA["deaths"]
OUTCOMES: Final[dict[str, dict[str, Any]]] = _DATA["outcomes"]


@frozen(kw_only=True)
class Cell:
    """What must come of one death in one phase.

    Attributes:
        phase: When it happens.
        death: What happens.
        outcome: Its name.
        handshakes: How many the server sees in all.
        tokens: How many access tokens it hands out.
        sessions: How many sessions it makes.
    """

    phase: str
    death: str
    outcome: str
    handshakes: int
    tokens: int = 1
    sessions: int = 1

    @property
    def raises(self) -> str | None:
        """The code of the error that the call raises."""
        codes = OUTCOMES[self.outcome].get("raises")
        return codes[self.phase] if isinstance(codes, dict) else codes

    def says(self, name: str) -> Any:
        """A word of the outcome: ``status``, ``reason``, ``returns`` …; ``None`` where it has none."""
        return OUTCOMES[self.outcome].get(name)


def _cells() -> dict[tuple[str, str], Cell]:
    cells = {}
    for phase, row in _DATA["cells"].items():
        for deaths, (outcome, handshakes, *counts) in row.items():
            for death in deaths.split():
                assert (phase, death) not in cells
                more = counts[0] if counts else {}
                cells[phase, death] = Cell(phase=phase, death=death, outcome=outcome, handshakes=handshakes, **more)
    return cells


CELLS: Final = _cells()


def render() -> str:
    """The table in Markdown, with what its words mean."""
    titles = [death["title"] for death in DEATHS.values()]
    lines = [f"| | {' | '.join(titles)} |", f"| --- |{' --- |' * len(titles)}"]
    for phase, row in PHASES.items():
        cells = [CELLS.get((phase, death)) for death in DEATHS]
        lines.append(f"| **{row['title']}** | {' | '.join(cell.outcome if cell else 'n/a' for cell in cells)} |")
    lines += ["", "| | when the connection dies |", "| --- | --- |"]
    lines += [f"| **{row['title']}** | {row['doing']} |" for row in PHASES.values()]
    lines += ["", "| | what comes of it |", "| --- | --- |"]
    lines += [f"| {name} | {outcome['text']} |" for name, outcome in OUTCOMES.items()]
    lines += [""] + [f"- **{death['title']}**: {death['note']}." for death in DEATHS.values() if "note" in death]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    MARKDOWN.write_text(render(), encoding="utf-8")
