"""Where a conversation is shown: a block is a few lines behind a label; `Stage` says what may be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from polyai_sync.cli.markup import Line
from polyai_sync.cli.text import Row, Span, cells, plain, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polyai_sync.cli.output import Output

__all__ = ["Block", "LineStage", "Stage", "layout"]

_WIDEST_LABEL: Final = 14


class Block(NamedTuple):
    """What is shown together.

    Attributes:
        label: Before the first line.
        lines: The others are set in below it.
        gap: A blank line comes before it.
    """

    label: Row
    lines: tuple[Line, ...]
    gap: bool = False


class Stage(Protocol):
    """Shows blocks, one below the other."""

    takes_back: bool
    """Can it show what is not final yet: a message that grows, a status?"""

    @property
    def width(self) -> int | None:
        """Columns, or ``None`` where a line may be as long as it likes."""

    def write(self, block: Block) -> None:
        """Show a block for good."""

    def grow(self, block: Block | None, below: Sequence[Block] = ()) -> None:
        """Show a block below all others that will still change, instead of the last such; ``below`` it what waits."""

    def settle(self, block: Block) -> None:
        """Show for good what was last shown growing."""

    def status(self, text: str) -> None:
        """Show what goes on at the moment; empty: nothing."""

    def flush(self) -> None:
        """Bring the screen up to date."""


def layout(block: Block, width: int | None) -> list[Row]:
    """The rows of a block."""
    rows: list[Row] = [()] if block.gap else []
    indent = cells(plain(block.label))
    first: Row = block.label
    if indent > _WIDEST_LABEL and any(line.spans for line in block.lines[1:]):
        indent = 2
        rows.append(block.label)
        first = (Span(" " * indent),)
    for number, line in enumerate(block.lines or (Line("", ()),)):
        head = first if number == 0 else (Span(" " * indent),)
        if not line.spans:
            rows.append(first if number == 0 else ())
            continue
        if width is None or line.whole:
            rows.append((*head, Span(line.lead), *line.spans))
            continue
        lead = cells(line.lead)
        for part, row in enumerate(wrap(line.spans, max(10, width - indent - lead))):
            before = (*head, Span(line.lead)) if part == 0 else (Span(" " * (indent + lead)),)
            rows.append((*before, *row))
    return rows


class LineStage:
    """Lines one after the other, for pipes and terminals that cannot move their cursor. Each block as it is final."""

    takes_back = False

    def __init__(self, output: Output) -> None:
        self._output = output

    @property
    def width(self) -> int | None:
        """As the output's."""
        return None if self._output.width is None else self._output.width - 1

    def write(self, block: Block) -> None:
        """Write its rows."""
        for row in layout(block, self.width):
            self._output.row(*row)

    settle = write

    def grow(self, block: Block | None, below: Sequence[Block] = ()) -> None:
        """Nothing: it is written when it is whole."""

    def status(self, text: str) -> None:
        """Nothing: it passes."""

    def flush(self) -> None:
        """Nothing: all is written at once."""
