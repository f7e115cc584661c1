"""``polyai-sync doctor``: each step of a connection in turn, and why the first one that fails does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from attrs import asdict, frozen

from polyai_sync.cli.examination import STEPS, Examination, NotNeeded
from polyai_sync.cli.failures import DONE, status_of
from polyai_sync.cli.text import Span, one_line, wrap
from polyai_sync.errors import PolyAIError

if TYPE_CHECKING:
    import argparse

    from polyai_sync.cli.output import Output

__all__ = ["run"]

_NAME: Final = 17
_TIME: Final = 9


@frozen(kw_only=True)
class Finding:
    """What came of a step; ``status`` is ``ok``, ``failed``, ``skipped`` or ``not tried``."""

    name: str
    status: str
    milliseconds: float | None = None
    detail: str = ""


def run(options: argparse.Namespace, output: Output) -> int:
    """Try the steps, tell each; the exit status says whether all went well."""
    report = _Report(output, quiet=options.json)
    failure: PolyAIError | None = None
    with Examination(options, output) as examination:
        for name in STEPS:
            if failure is not None:
                report.add(Finding(name=name, status="not tried"))
                continue
            try:
                report.begin(name)
                detail, status = examination.run(name), "ok"
            except NotNeeded as reason:
                detail, status = str(reason), "skipped"
            except PolyAIError as error:
                failure = error
                detail, status = one_line(error.message), "failed"
            except BaseException:
                report.take_back()
                raise
            milliseconds = None if status == "skipped" else round(examination.seconds * 1000, 1)
            report.add(Finding(name=name, status=status, milliseconds=milliseconds, detail=output.hide(detail)))
            if name == "settings" and failure is None:
                report.settings(examination.settings_found)
    if options.json:
        output.json(
            {
                "ok": failure is None,
                "settings": examination.settings_found,
                "steps": [asdict(finding) for finding in report.findings],
                "error": None if failure is None else _document(failure, output),
            }
        )
    else:
        report.conclude(failure)
    return DONE if failure is None else status_of(failure)


def _document(error: PolyAIError, output: Output) -> dict[str, Any]:
    entry = error.entry
    return {
        "code": error.code,
        "exception": type(error).__name__,
        "message": output.hide(error.message),
        "surface": error.surface,
        "status": error.status,
        "retryable": error.retryable,
        "retry_after": error.retry_after,
        "cause": entry.cause if entry else "",
        "resolution": output.hide(error.resolution),
        "request_id": error.request_id,
    }


class _Report:
    """Writes findings as they come."""

    def __init__(self, output: Output, *, quiet: bool) -> None:
        self.findings: list[Finding] = []
        self._output = output
        self._quiet = quiet
        self._failed = ""
        symbols = output.symbols
        self._marks = {
            "ok": Span(symbols.good, "good"),
            "failed": Span(symbols.bad, "bad"),
            "skipped": Span(symbols.dot, "quiet"),
            "not tried": Span(symbols.dot, "quiet"),
        }

    def begin(self, name: str) -> None:
        """Show what is under way, where a line can be taken back."""
        if self._output.can_move and not self._quiet:
            self._output.stdout.write(f"  {name} {self._output.symbols.more}")
            self._output.stdout.flush()

    def take_back(self) -> None:
        """Take back what `begin` has shown."""
        if self._output.can_move and not self._quiet:
            self._output.stdout.write("\r\x1b[K")

    def add(self, finding: Finding) -> None:
        """Write one finding."""
        self.findings.append(finding)
        if finding.status == "failed":
            self._failed = finding.name
        if self._quiet:
            return
        self.take_back()
        took = "" if finding.milliseconds is None else f"{finding.milliseconds:.0f} ms"
        mark = self._marks[finding.status]
        style = "quiet" if finding.status in ("skipped", "not tried") else ""
        detail = finding.detail if finding.status != "not tried" else "not tried"
        self._hang(
            (mark, Span(" " * (3 - len(mark.text))), Span(f"{finding.name:{_NAME}}{took:>{_TIME}}  ", style)),
            3 + _NAME + _TIME + 2,
            Span(detail, style),
        )

    def settings(self, found: dict[str, str]) -> None:
        """Write the settings below their step."""
        if not self._quiet:
            for name, value in found.items():
                self._hang((Span(f"     {name:12}", "quiet"),), 17, Span(value, "quiet"))

    def conclude(self, error: PolyAIError | None) -> None:
        """Write what the findings come to."""
        output = self._output
        output.row("")
        if error is None:
            output.row(Span("Everything works.", "good"))
            return
        output.row(Span(error.code, "bad"), Span(f"  {type(error).__name__}"))
        status = "" if error.status is None else f", HTTP {error.status}"
        output.paragraph("Step", f"{self._failed}{status}")
        output.paragraph("What", output.hide(one_line(error.message)))
        if error.entry is not None and error.entry.cause != error.message:
            output.paragraph("Cause", error.entry.cause)
        if error.resolution:
            output.paragraph("What to do", output.hide(one_line(error.resolution)))
        if error.retry_after is not None:
            output.paragraph("Wait", f"{error.retry_after:g} s, says the server")
        if error.request_id:
            output.paragraph("Request id", output.hide(one_line(error.request_id)))

    def _hang(self, head: tuple[Span, ...], indent: int, text: Span) -> None:
        width = self._output.width
        rows = [(text,)] if width is None else wrap((text,), max(width - 1 - indent, 20))
        for number, row in enumerate(rows):
            self._output.row(*(head if number == 0 else (Span(" " * indent),)), *row)
