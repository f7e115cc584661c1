"""References as the docstrings write them: a word in single backticks, a class by the module it is defined in.

In a docstring `Session` is a link where it names something that is documented, and code where it does not
(`protocol.md`). A class is documented under the name it is imported by; an annotation says its bare name, or names the
module it lives in.
"""

from __future__ import annotations

import builtins
import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

import attrs
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.roles import XRefRole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docutils.nodes import Element
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

#: Where things are imported from, and documented. The first that has a thing has it.
PUBLIC = ("polyai_sync", "polyai_sync.events", "polyai_sync.emulator", "polyai_sync.testing", "polyai_sync_plugins")

#: The classes that a reader makes: by their modules, or by name. All others are made by the package.
CALLED = ("polyai_sync_plugins", "polyai_sync.emulator.agent", "polyai_sync.emulator.desk", "polyai_sync.testing")
CALLED_BY_NAME = {"Client", "Emulator", "Secret", "Timeouts"}

_GOOGLE = Config(napoleon_numpy_docstring=False)


def _things(module: str) -> dict[str, Any]:
    public = import_module(module)
    return {name: getattr(public, name) for name in public.__all__ if callable(getattr(public, name))}


#: The public name of each thing, by the module it lives in and its own name.
LIVES_IN = {
    f"{thing.__module__}.{thing.__qualname__}": f"{module}.{name}"
    for module in reversed(PUBLIC)
    for name, thing in _things(module).items()
    if inspect.isclass(thing) or inspect.isfunction(thing)
}


def public_name(target: str, module: str) -> str | None:
    """The name under which ``target`` is documented, as it is meant in ``module``."""
    if target in LIVES_IN:
        return LIVES_IN[target]
    for place in sorted(PUBLIC, key=lambda place: not module.startswith(place) or place == "polyai_sync"):
        if target in _things(place):
            return f"{place}.{target}"
    return None


class _Word(XRefRole):
    """The default role: a link where there is something to link to."""

    def __init__(self) -> None:
        super().__init__(innernodeclass=nodes.literal)

    def process_link(
        self, env: BuildEnvironment, refnode: Element, has_explicit_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        """Make it a reference of the Python domain's that may lead nowhere."""
        refnode["refdomain"], refnode["reftype"], refnode["polyai_word"] = "py", "obj", True
        refnode["py:module"] = env.ref_context.get("py:module")
        refnode["py:class"] = env.ref_context.get("py:class")
        return title, target.removesuffix("()")


def _make_exact(app: Sphinx, doctree: nodes.document) -> None:
    """Say which thing a bare name is: there is more than one `Handoff`, and `type` is no attribute of an event."""
    for node in doctree.findall(pending_xref):
        if node.get("refdomain") != "py":
            continue
        public = public_name(node["reftarget"], node.get("py:module") or "")
        if public or hasattr(builtins, node["reftarget"]):
            node["reftarget"] = public or node["reftarget"]
            node.attributes.pop("refspecific", None)


def _resolve(app: Sphinx, env: BuildEnvironment, node: Element, contnode: Element) -> Any:
    """What Sphinx did not find: a word that need not lead anywhere, a literal in an annotation."""
    if node.get("refdomain") == "py" and (node.get("polyai_word") or re.fullmatch(r"'.*'", node["reftarget"])):
        return contnode
    return None


def _docstring(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Google style, as napoleon does it; but a property's first line is a sentence, with or without a colon."""
    kind = "function" if what in {"attribute", "property"} else what
    lines[:] = _typed(GoogleDocstring(list(lines), _GOOGLE, app, kind, name, thing, options).lines())


def _typed(lines: list[str]) -> list[str]:
    """Let an attribute's type stand beside its name, where napoleon writes it below."""
    typed: list[str] = []
    head = 0
    for line in lines:
        if line.lstrip().startswith(".. attribute::"):
            head = len(typed) + 1
        if head and line.lstrip().startswith(":type: "):
            typed.insert(head, line)
        else:
            typed.append(line)
    return typed


def _signature(
    app: Sphinx, what: str, name: str, thing: Any, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """What a reader may call, as it is called.

    What only the client makes has no signature here. Those of attrs' classes say nothing of the defaults. A time-out
    that is left out has a type of its own, which is nobody's concern.
    """
    if what in {"class", "exception"} and not _is_called(thing):
        return "", returns
    if what == "class" and attrs.has(thing):
        signature = f"({', '.join(_parameters(attrs.fields(thing)))})"
    if signature:
        signature = signature.replace(" | ~polyai_sync.calls._Unset", "").replace(": Timeout = ", ": float | None = ")
        signature = signature.replace(" = UNSET", " = ...")
    return signature, returns


def _is_called(cls: type) -> bool:
    return cls.__module__.startswith(CALLED) or cls.__name__ in CALLED_BY_NAME


def _parameters(fields: Iterable[attrs.Attribute[Any]]) -> Iterator[str]:
    keyword_only = False
    for field in fields:
        if not field.init:
            continue
        if field.kw_only and not keyword_only:
            keyword_only = True
            yield "*"
        default = "" if field.default is attrs.NOTHING else f" = {_default(field)}"
        yield f"{field.alias}: {field.type}{default}"


def _default(field: attrs.Attribute[Any]) -> str:
    return "..." if isinstance(field.default, attrs.Factory) else repr(field.default)  # type: ignore[arg-type]


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry."""
    app.add_role("word", _Word())
    app.connect("doctree-read", _make_exact)
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True}
