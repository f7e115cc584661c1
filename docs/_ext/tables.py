"""Parts of pages that are made from the code: the error catalogue, the hooks, the emulator's faults.

A page says where with a line such as ``<!-- made: catalogue -->``; the text is put there before the page is read.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import bench_figures
from docutils import nodes

import polyai_sync
from polyai_sync import errors, events, hooks, protocol
from polyai_sync.catalog import CATALOG, CatalogEntry
from polyai_sync.emulator import agent
from polyai_sync.emulator.fault_rows import OCCASIONS, FaultRow
from polyai_sync.emulator.fault_table import FAULT_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sphinx.application import Sphinx

DATA = Path(__file__).parents[1] / "_data"

SURFACES = {
    "http": ("HTTP, by status", "Where the server's text is in no other row."),
    "access_token": ("The access token", "From `POST /api/v1/access-token`."),
    "session_create": ("The session", "From `POST /api/v1/sessions`."),
    "connect": ("The WebSocket handshake", "Plain HTTP answers to the request for a socket."),
    "websocket": ("System messages", "Errors that arrive as events; the connection stays open."),
    "client": ("The client's own", "Met on this side, without a word of the server's."),
}


#: Faults that share their options, each by one of them.
FAMILIES = {"fault of an HTTP answer or a handshake": "http.bad_request", "error that is an event": "agent.no_response"}

#: Where an entry covers more statuses than the one it holds.
STATUSES = {
    "http.bad_request": "400 and other 4xx",
    "http.unauthorized": "401, 403",
    "http.redirected": "3xx",
    "http.server_error": "5xx",
}


def anchor(code: str) -> str:
    """The anchor of a code on the page of errors, as docutils makes it; the code itself works too."""
    return nodes.make_id(code)


def rules() -> Iterator[str]:
    """The modules of the state machine, by the first sentence of each."""
    yield "| module | holds |\n| --- | --- |"
    for module in pkgutil.iter_modules(protocol.__path__):
        sentence = (importlib.import_module(f"{protocol.__name__}.{module.name}").__doc__ or "").partition("\n")[0]
        cited = re.sub(r"\s*\(`[^)]*\)", "", sentence).replace("``", "`")
        yield f"| `{module.name}` | {cited} |"
    yield ""


def error_tree() -> Iterator[str]:
    """The tree of exceptions, as the module's documentation draws it."""
    tree = re.search(r"^    PolyAIError\n(?:    .*\n)+", errors.__doc__ or "", flags=re.MULTILINE)
    if tree is None:
        raise LookupError("polyai_sync.errors no longer draws its tree")
    yield f"```text\n{inspect.cleandoc(tree[0])}\n```\n"


def catalogue() -> Iterator[str]:
    """Every entry of the catalogue, under its surface."""
    for surface, (title, sentence) in SURFACES.items():
        yield f"### {title}\n\n{sentence}\n"
        for entry in CATALOG:
            if entry.surface == surface:
                yield from _entry(entry)


def _entry(entry: CatalogEntry) -> Iterator[str]:
    yield f"({entry.code})=\n\n#### `{entry.code}`\n"
    words = [f"“{text}”" for text in (entry.text, *entry.aliases) if text]
    if words and entry.match == "prefix":
        words[0] += " and the event's type"
    rows = {
        "Cause": entry.cause,
        "What to do": entry.resolution,
        "Raised as": f"{{py:class}}`~polyai_sync.{entry.exception.__name__}`",
        "HTTP status": STATUSES.get(entry.code, entry.status),
        "Server's text": ", ".join(words),
        "Retryable": "yes" if entry.retryable else "no",
        "User text": "the server's text" if entry.user_text == entry.text else f"“{entry.user_text}”",
    }
    yield from (f":{name}: {value}" for name, value in rows.items() if value)
    yield ""


def exceptions() -> Iterator[str]:
    """Every exception, each with its documentation."""
    for name in errors.__all__:
        members = "" if name == "PolyAIError" else "\n   :show-inheritance:"
        yield f"```{{eval-rst}}\n.. autoclass:: polyai_sync.{name}{members}\n```\n"


def event_classes() -> Iterator[str]:
    """The events, in the order of the protocol's table."""
    for name in ("Event", *(cls.__name__ for cls in events.EVENT_CLASSES.values()), "UnknownEvent"):
        module = "polyai_sync" if name in polyai_sync.__all__ else "polyai_sync.events"
        # The fields of a base have their own documentation; those of an event say what the wire's names are.
        shown = "" if name == "Event" else "\n   :undoc-members:"
        yield f"```{{eval-rst}}\n.. autoclass:: {module}.{name}\n   :members:{shown}\n   :exclude-members: type\n```\n"


def actions() -> Iterator[str]:
    """Whatever an agent of the emulator may yield beside strings, and what makes attachments."""
    for action in (*get_args(agent.Action), agent.link, agent.image):
        kind = "autoclass" if inspect.isclass(action) else "autofunction"
        yield f"```{{eval-rst}}\n.. {kind}:: polyai_sync.emulator.{action.__name__}\n```\n"


def observers() -> Iterator[str]:
    """The observers, each with its documentation."""
    yield from map(_hook, hooks.OBSERVERS)


def policies() -> Iterator[str]:
    """The policies, each with its documentation."""
    yield from map(_hook, hooks.POLICIES)


def _hook(name: str) -> str:
    return f"```{{eval-rst}}\n.. autofunction:: polyai_sync.hooks.{name}\n```\n"


def hook_table() -> Iterator[str]:
    """All hooks in short: the first line of each one's documentation."""
    yield "| hook | |\n| --- | --- |"
    for name in (*hooks.OBSERVERS, *hooks.POLICIES):
        line = (inspect.getdoc(getattr(hooks, name)) or "").partition("\n")[0].replace("``", "`")
        yield f"| {{py:func}}`~polyai_sync.hooks.{name}` | {line} |"
    yield ""


def faults() -> Iterator[str]:
    """The emulator's faults, by the occasion they wait for."""
    for family, row in FAMILIES.items():
        yield f"Every {family} takes {_options(FAULT_TABLE[row].options)}.\n"
    for occasion, meaning in OCCASIONS.items():
        rows = [row for row in FAULT_TABLE.values() if row.on[0] == occasion]
        if not rows:
            continue
        yield f"### On `{occasion}`: {meaning}\n"
        yield "| fault | what is seen |\n| --- | --- |"
        for row in rows:
            options = _options(_own(row))
            elsewhere = ", ".join(f"`{other}`" for other in dict.fromkeys((*row.on, *row.also)) if other != occasion)
            notes = [f"Options: {options}." if options else "", f"Also on {elsewhere}." if elsewhere else ""]
            yield f"| `{row.name}` | {' '.join(filter(None, (row.does, *notes)))} |"
        yield ""


def _own(row: FaultRow) -> dict[str, object]:
    """The options of a row less those of its family."""
    for first in FAMILIES.values():
        common = FAULT_TABLE[first].options
        if common.keys() <= row.options.keys():
            return {name: value for name, value in row.options.items() if common.get(name, ...) != value}
    return dict(row.options)


def _options(options: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}={'…' if value is None else value}`" for name, value in options.items())


def soak() -> Iterator[str]:
    """The figures of the last soak, as it wrote them."""
    figures = json.loads((DATA / "soak.json").read_text(encoding="utf-8"))
    rows = {
        "Sessions": f"{figures['sessions']:,}, {figures['sessions_at_once']} at once, in one process",
        "Taken up again from a stored state": f"{figures['resumes']:,} times",
        "Messages sent, received": f"{figures['messages_sent']:,}, {figures['messages_received']:,}",
        "Events": f"{figures['events']:,}",
        "Dropped connections, reconnects": f"{figures['drops']:,}, {figures['reconnects']:,}",
        "Messages sent again": f"{figures['resends']:,}, each proved not received",
        "Lost, doubled, out of order": "**{lost}**, **{doubled}**, **{out_of_order}**".format_map(figures),
        "Calls that failed": figures["failed"],
        "Threads at start and end": " and ".join(map(str, figures["threads"])),
        "Descriptors at start and end": " and ".join(map(str, figures["descriptors"])),
        "Memory at rest, warm and at the end": " and ".join(f"{value} MiB" for value in figures["resident_mib"]),
        "Objects at rest, warm and at the end": " and ".join(f"{value:,}" for value in figures["objects"]),
        "Took": f"{figures['minutes']:g} minutes",
    }
    yield f"```sh\n{figures['command']}\n```\n"
    yield "| | |\n| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in rows.items())
    machine = figures["machine"]
    yield f"\n{machine['cores']} cores ({machine['cpu']}), {machine['system']}, {machine['python']}.\n"


def partition() -> Iterator[str]:
    """What the partition tests measured, as they wrote it."""
    figures = json.loads((DATA / "partition.json").read_text(encoding="utf-8"))
    yield "| link | meanwhile | noticed after | open again |\n| --- | --- | --- | --- |"
    for row in figures:
        if "noticed" in row:
            yield f"| {row['link']} | {row['doing']} | {row['noticed']} s | {row['mended']} s after the link |"
    yield "\n| packets lost | turns | whole after | dropped connections |\n| --- | --- | --- | --- |"
    for row in figures:
        if "lost" in row:
            yield f"| {row['lost']} | {row['turns']} | {row['seconds']} s | {row['drops']} |"
    yield ""


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "rules": rules,
    "error-tree": error_tree,
    "catalogue": catalogue,
    "exceptions": exceptions,
    "events": event_classes,
    "actions": actions,
    "hook-table": hook_table,
    "observers": observers,
    "policies": policies,
    "faults": faults,
    "soak": soak,
    "partition": partition,
    **bench_figures.PARTS,
}


def fill_in(text: str) -> str:
    """The text of a page with its made parts in their places."""
    return re.sub(r"^<!-- made: ([\w-]+) -->$", lambda match: "\n".join(PARTS[match[1]]()), text, flags=re.MULTILINE)


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    # A comment for the page's test is nobody else's concern.
    source[0] = re.sub(r"^<!-- fault: .* -->\n", "", fill_in(source[0]), flags=re.MULTILINE)


def _name_sections_by_code(app: Sphinx, doctree: nodes.document) -> None:
    """Let ``errors.html#agent.overloaded`` work as well: docutils would have no full stop in an anchor."""
    codes = {anchor(entry.code): entry.code for entry in CATALOG}
    for node in doctree.findall(nodes.section):
        node["ids"] += [codes[found] for found in node["ids"] if found in codes]


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry."""
    app.connect("source-read", _read)
    app.connect("doctree-read", _name_sections_by_code)
    return {"parallel_read_safe": True}
