"""The tables of the page on performance, from what ``python -m bench`` wrote."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

DOCS = Path(__file__).parents[1]
sys.path.append(str(DOCS.parent))  # the benchmarks are no part of the package

from bench.table import FAILED, REACHED, TOLD, TOO_SLOW, numbers, shown, summary, unit  # noqa: E402 - found by the line above

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DATA = DOCS / "_data" / "bench.json"
PLOTS = "_static/performance"

#: Columns that a page has room for; a table with more figures stands upright.
WIDEST = 5

#: Why a goal is not reached, where it is not. The page cannot be built without a reason for each.
REASONS = {
    "P1": "The bare loop receives and parses, and knows nothing of a conversation. Here each event is typed, held"
    " against those that are known, put in order, joined to its message and kept for readers.",
    "P2": "As P1; and the events change threads on their way to the reader.",
    "P3": "A reply is handed from the session's thread to the one that waits for it, and that is a switch of threads."
    " Reading in the caller's own thread would save it, and let Ctrl-C end the state machine half-way.",
    "P4": "As P3; and the question is a message that is followed until its receipt is in, of which plugins are told.",
    "P5": "A session keeps the state of its conversation beside its connection. TLS, which every connection beyond this"
    " machine has, takes so much on both sides that it hardly shows there.",
    "P6": "Each session has a thread, and waking one costs more than the heartbeat itself.",
    "P7": "All sessions want the interpreter at once, and what each does with its event is in the way of the others.",
    "P8": "What is beyond the round trips is CPU: TLS, three HTTP messages, the first events.",
    "P9": "Where the history is over only at a heartbeat's echo, that is a fourth round trip.",
    "P10": "The client's own modules come on top of the libraries.",
    "P11": "As P1, for each event of the history.",
    "P12": "From event 10,001 on, each new one also frees the oldest of those that are kept for readers.",
}

#: What the figures are called; others by their names, less the unit.
LABELS = {
    "cpu_us": "CPU",
    "wall_us": "time",
    "cpu_ms": "CPU",
    "wall_ms": "time",
    "cpu_percent": "CPU, of a core",
    "cpu_per_1000_percent": "… per 1,000 sessions",
    "session_kib": "memory per session",
    "session_mib": "memory per session",
    "p50_us": "p50",
    "p99_us": "p99",
    "p50_ms": "p50",
    "p99_ms": "p99",
    "worst_p99_ms": "p99 of the worst sample",
    "until_all_ms": "until all were told",
    "asked": "sessions asked for",
    "alive": "sessions alive in the end",
    "said": "messages sent",
    "unsettled": "… without an outcome",
    "failed": "… that failed",
    "drops": "dropped connections",
    "reopened": "… opened again",
    "reopen_p50_s": "… after (p50, the policy's pause included)",
    "beats": "heartbeats",
    "missed": "… missed",
    "worst_gap_intervals": "longest gap, in intervals",
    "settled_mib": "memory after a fifth of the time",
    "end_mib": "memory at the end",
    "opening_s": "to open them all",
    "events_per_second": "events a second",
    "event_instructions": "instructions",
}


@functools.cache
def document() -> dict[str, Any]:
    """The whole file."""
    found: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return found


def machine() -> Iterator[str]:
    """Where, with what and when; and whether it was a short run."""
    found = document()["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    days = sorted({one["measured_at"][:10] for one in document()["benches"].values()})
    yield f"{found['cores']} cores ({found['cpu']}), {found['system']}, {found['python']}; {versions}."
    yield f"Measured on {' and '.join(dict.fromkeys((days[0], days[-1])))}.\n"
    if quick := [name for name, one in document()["benches"].items() if one["quick"]]:
        yield f"**Not a full run**: `--quick` for {', '.join(quick)}.\n"


def goals() -> Iterator[str]:
    """Each goal with what came of it."""
    yield "| | measured | against | ratio | goal, limit | |\n| --- | --- | --- | --- | --- | --- |"
    for one in _verdicts():
        ratio = "" if one["ratio"] is None else "**{:.2f}** ({:.2f}&nbsp;to&nbsp;{:.2f})".format(*one["ratio"])
        word = f"**{one['verdict']}**" if one["verdict"] in {TOO_SLOW, FAILED} else one["verdict"]
        wanted = "" if one["goal"] == "-" else f"{one['goal']}, {one['limit']}"
        what = f"**{one['id']}** {one['what']}"
        yield f"| {' | '.join((what, one['measured'], one['against'], ratio, wanted, word))} |"
    yield ""


def reasons() -> Iterator[str]:
    """Each goal that is not reached: by how much, and why."""
    missed = [one for one in _verdicts() if one["verdict"] not in {REACHED, TOLD}]
    if not missed:
        yield "Every goal is reached.\n"
    for one in missed:
        over = one["measured"] if one["ratio"] is None else f"{one['ratio'][0] / float(one['goal']) - 1:.0%} over"
        yield f"- **{one['id']}, {one['what']}**: {over}. {REASONS[one['id']]}"
    yield ""


def _verdicts() -> list[dict[str, Any]]:
    """Of the numbered goals, in their order."""
    found = [one for bench in document()["benches"].values() for one in bench["verdicts"] if one["id"] in REASONS]
    return sorted(found, key=lambda one: list(REASONS).index(one["id"]))


def group(name: str) -> Iterator[str]:
    """The plot of a group, and a table of each of its benchmarks."""
    yield f"![The medians as bars, every round as a dot]({PLOTS}/{name}.svg)\n"
    for bench in document()["benches"].values():
        if bench["group"] == name:
            yield from _table(bench)


def _table(bench: dict[str, Any]) -> Iterator[str]:
    title = bench["title"]
    yield f"**{title[0].upper() + title[1:] if title.split()[0].isalpha() else title}**\n"
    alike: dict[tuple[str, ...], dict[str, list[dict[str, Any]]]] = {}
    for variant, rounds in bench["rounds"].items():
        if rounds:
            alike.setdefault(tuple(numbers(rounds[0])), {})[variant] = rounds
    for metrics, taken in alike.items():  # what has other figures stands in another table
        rows = [["", *map(_label, metrics)]]
        for variant, rounds in taken.items():
            rows.append([variant, *(_cell(name, [one[name] for one in rounds]) for name in metrics)])
        yield from _rows(rows if len(metrics) <= WIDEST else list(zip(*rows, strict=True)))
    yield f"{bench['note']}\n"


def _rows(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(rows[0])} |\n|{' --- |' * len(rows[0])}"
    yield from (f"| {' | '.join(row)} |" for row in rows[1:])
    yield ""


def _label(metric: str) -> str:
    bare = metric.rpartition("_")[0] if unit(metric) else metric
    return LABELS.get(metric, bare.replace("_", " "))


def _cell(metric: str, values: list[float]) -> str:
    told = summary(values)
    median = shown(metric, told["median"])
    if len(values) == 1 or told["q1"] == told["q3"] or told["q3"] >= 1000:
        return median
    return f"{median} ({told['q1']:.3g}&nbsp;to&nbsp;{told['q3']:.3g})"


def steady() -> Iterator[str]:
    """The minutes with many sessions."""
    bench = document()["benches"]["scale"]
    (found,) = next(iter(bench["rounds"].values()))
    yield f"![CPU, memory, delays, threads, descriptors and drops over time]({PLOTS}/scale.svg)\n"
    yield "| | |\n| --- | --- |"
    yield from (f"| {_label(name)} | {shown(name, value)} |" for name, value in numbers(found).items())
    yield ""


def limits() -> Iterator[str]:
    """What gave first beyond them."""
    rounds = {name.partition(", ")[2]: taken[0] for name, taken in document()["benches"]["limits"]["rounds"].items()}
    yield "| idle sessions | CPU, of a core | memory each | threads | descriptors | heartbeats missed |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for found in rounds.values():
        if "beats" in found:
            names = ("cpu_percent", "session_kib", "threads", "descriptors", "missed")
            yield f"| {found['open']:,.0f} | {' | '.join(shown(name, found[name]) for name in names)} |"
    full, flow = (rounds[name] for name in ("as many as there can be", "more and more events"))
    yield "\n| opened until one was refused | |\n| --- | --- |"
    yield f"| sessions | {full['open']:,.0f} |"
    yield f"| then | {full['refused'] or 'none was refused'} |"
    for what in ("descriptors", "threads"):
        allowed, each = full[f"{what}_allowed"], full[f"{what}_per_session"]
        yield f"| {what} | {each:.1f} each, {allowed:,.0f} allowed |"
    yield f"| memory each | {shown('session_kib', full['session_kib'])} |"
    yield f"\n![Delay and CPU against events a second]({PLOTS}/limits.svg)\n"
    yield f"| events a second, {flow['sessions']:,.0f} sessions | CPU, of a core | CPU an event | p50 | p99 |"
    yield "| --- | --- | --- | --- | --- |"
    for one in flow["series"]:
        names = ("cpu_percent", "event_cpu_us", "p50_ms", "p99_ms")
        yield f"| {one['events_per_second']:,.0f} | {' | '.join(shown(name, one[name]) for name in names)} |"
    yield ""


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "bench-machine": machine,
    "bench-goals": goals,
    "bench-reasons": reasons,
    "bench-steady": steady,
    "bench-limits": limits,
    **{f"bench-{name}": functools.partial(group, name) for name in ("events", "latency", "start", "sessions")},
}
