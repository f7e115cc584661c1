"""What came of a life, and how two lists are held against each other."""

from __future__ import annotations

from collections import Counter
from typing import Any

from attrs import define, field

__all__ = ["Verdict"]


@define
class Verdict:
    """What came of a life: one sentence for each thing that must not be."""

    life: int
    lost: list[str] = field(factory=list)
    doubled: list[str] = field(factory=list)
    disordered: list[str] = field(factory=list)
    failed: list[str] = field(factory=list)

    @property
    def matches(self) -> bool:
        """Both sides have the same."""
        return not (self.lost or self.doubled or self.disordered)

    @property
    def good(self) -> bool:
        """Nothing to complain of."""
        return self.matches and not self.failed

    def lines(self) -> list[str]:
        """The complaints."""
        words = {"lost": self.lost, "doubled": self.doubled, "out of order": self.disordered, "failed": self.failed}
        return [f"life {self.life}: {word}: {line}" for word, found in words.items() for line in found]

    def compare(self, what: str, server: list[Any], client: list[Any], *, ordered: bool = True) -> None:
        """Hold what the client has against what the server has."""
        there, here = Counter(server), Counter(client)
        self.lost += [f"{what} {one!r}" for one in (there - here).elements()]
        self.doubled += [f"{what} {one!r}" for one in (here - there).elements()]
        if ordered and there == here and server != client:
            first = next(index for index, pair in enumerate(zip(server, client, strict=True)) if pair[0] != pair[1])
            self.disordered.append(
                f"{what} from number {first} on: {client[first : first + 4]} for {server[first : first + 4]}"
            )
