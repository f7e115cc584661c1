"""Faults armed by a test or by the command line, and taken by the server when their occasion comes."""

from __future__ import annotations

import difflib
import re
import threading
from typing import TYPE_CHECKING, Any

from attrs import define, field

from polyai_sync.emulator.fault_rows import OCCASIONS
from polyai_sync.emulator.fault_table import FAULT_TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polyai_sync.emulator.fault_rows import FaultRow

__all__ = ["Fault", "Faults"]

_CLOSE = re.compile(r"close\.(\d{4})\Z")
_CLOSE_PATTERN = "close.<code>"
_COMMON = ("on", "session_id")


@define(eq=False)
class Fault:
    """One armed fault.

    Attributes:
        name: As armed, such as ``"connect.session_not_found"`` or ``"close.1011"``.
        row: Its row in the table.
        on: The occasions it waits for.
        times: How often it will still fire; ``None`` = always.
        after: How many occasions it will still let pass.
        fired: How often it has fired.
        options: Its options, defaults filled in.
    """

    name: str
    row: FaultRow
    on: frozenset[str]
    times: int | None
    after: int
    options: Mapping[str, Any]
    session_id: str | None = None
    fired: int = field(default=0, init=False)

    @property
    def done(self) -> bool:
        """Has it fired as often as it was armed for?"""
        return self.times == 0

    @property
    def code(self) -> int | None:
        """The close code of a ``close.<code>``."""
        match = _CLOSE.match(self.name)
        return int(match[1]) if match else None

    def _wants(self, occasion: str, session_id: str | None, event: str | None) -> bool:
        if occasion not in self.on or self.times == 0:
            return False
        if self.session_id is not None and self.session_id != session_id:
            return False
        wanted = self.options.get("event")
        return wanted is None or event is None or event.removeprefix("EVENT_TYPE_") == wanted

    def _meets(self) -> bool:
        if self.after:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        self.fired += 1
        return True


class Faults:
    """What will go wrong, in the order armed. Any thread may use it.

    ::

        emulator.faults.add("connect.session_not_found")
        emulator.faults.add("http.rate_limited", on="session_create", times=2, retry_after=0.05)
        emulator.faults.add("connection.drop", on="chunk", after=3)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[Fault] = []

    @staticmethod
    def names() -> dict[str, str]:
        """Every name that can be armed, with one sentence on what is then seen."""
        return {name: row.does for name, row in FAULT_TABLE.items()}

    @staticmethod
    def occasions(name: str) -> dict[str, str]:
        """The occasions that the option ``on`` of a fault may name, with what each is."""
        row = _row(name)
        return {occasion: OCCASIONS[occasion] for occasion in dict.fromkeys((*row.on, *row.also))}

    @staticmethod
    def options(name: str) -> dict[str, Any]:
        """The options of a fault with their defaults (``on`` and ``session_id`` are common to all)."""
        return {"on": " ".join(_row(name).on), **_row(name).options}

    def add(self, name: str, *, times: int | None = 1, after: int = 0, **options: Any) -> Fault:
        """Arm a fault.

        Args:
            name: A name of `names`.
            times: On how many occasions it fires; ``None``: on every one.
            after: How many occasions it lets pass first. An occasion that an earlier fault took is not counted.
            **options: ``on=`` another occasion (or several, in a tuple), ``session_id=`` one session only, and what
                `options` lists.

        Returns:
            The fault, whose ``fired`` and ``done`` tell how far it has got.

        Raises:
            ValueError: The name, an option or an occasion is not known.
        """
        row = _row(name)
        if times is not None and times < 1:
            raise ValueError(f"times={times}: a fault fires at least once (None: always)")
        if after < 0:
            raise ValueError(f"after={after}: cannot let fewer than no occasions pass")
        for option in options:
            if option not in row.options and option not in _COMMON:
                known = ", ".join((*_COMMON, *row.options))
                raise ValueError(f"fault {name} has no option {option!r}; it has {known}")
        on = options.pop("on", None) or row.on
        wanted = frozenset((on,) if isinstance(on, str) else on)
        if odd := wanted - {*row.on, *row.also}:
            allowed = ", ".join(dict.fromkeys((*row.on, *row.also)))
            raise ValueError(f"fault {name} cannot fire on {', '.join(sorted(odd))}; it can on {allowed}")
        session_id = options.pop("session_id", None)
        fault = Fault(
            name=name,
            row=row,
            on=wanted,
            times=times,
            after=after,
            options={**row.options, **options},
            session_id=session_id,
        )
        with self._lock:
            self._armed.append(fault)
        return fault

    def add_text(self, text: str) -> Fault:
        """Arm a fault written as on a command line: ``NAME`` or ``NAME:option=value,option=value``.

        Values that read as a number, ``true``, ``false`` or ``none`` are taken for one.
        """
        name, _, rest = text.strip().partition(":")
        options: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in rest.split(","))):
            key, equals, value = part.partition("=")
            if not equals:
                raise ValueError(f"fault {name}: {part!r} is not option=value")
            options[key.strip()] = _value(value.strip())
        return self.add(name, **options)

    def clear(self) -> None:
        """Disarm everything."""
        with self._lock:
            self._armed.clear()

    @property
    def pending(self) -> tuple[Fault, ...]:
        """What is armed and has not fired as often as it should."""
        with self._lock:
            return tuple(self._armed)

    def take(self, occasion: str, session_id: str | None = None, event: str | None = None) -> Fault | None:
        """The fault that decides what happens on this occasion, if any: the first armed."""
        found = self._take(occasion, session_id, event, all_at_once=False)
        return found[0] if found else None

    def take_all(self, occasion: str, session_id: str | None = None, event: str | None = None) -> dict[str, Fault]:
        """The faults that change something on this occasion: by name, in the order armed."""
        return {fault.name: fault for fault in self._take(occasion, session_id, event, all_at_once=True)}

    def _take(self, occasion: str, session_id: str | None, event: str | None, *, all_at_once: bool) -> list[Fault]:
        if not self._armed:  # the usual case, on the path of every event
            return []
        taken: list[Fault] = []
        with self._lock:
            for fault in self._armed:
                if fault.row.all_at_once is not all_at_once or not fault._wants(occasion, session_id, event):
                    continue
                if fault._meets():
                    taken.append(fault)
                    if not all_at_once:
                        break
            self._armed = [fault for fault in self._armed if not fault.done]
        return taken


def _row(name: str) -> FaultRow:
    row = FAULT_TABLE.get(_CLOSE_PATTERN if _CLOSE.match(name) else name)
    if row is None or name == _CLOSE_PATTERN:
        close = difflib.get_close_matches(name, FAULT_TABLE, n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise ValueError(f"there is no fault {name!r}{hint} (Faults.names() lists all)")
    return row


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    return float(text) if re.fullmatch(r"[+-]?\d*\.\d+", text) else text
