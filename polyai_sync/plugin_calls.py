"""Calls the implementations of one hook, each isolated from the others (pitfalls.md 40).

pluggy stops at the first exception. Here every implementation is called by itself: what it raises is logged with the
plugin's name, counts as no answer, and changes nothing else. The order and the wrappers are pluggy's.
"""

from __future__ import annotations

import inspect
import logging
import math
import traceback
from contextlib import contextmanager
from operator import itemgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

import pluggy
from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from polyai_sync.redaction import Redactor

__all__ = ["CHECKS", "HookCalls", "Implementation", "report"]

_log = logging.getLogger("polyai_sync.plugins")

Arguments: TypeAlias = tuple[Any, ...]


def report(level: int, text: str, *, redactor: Redactor, error: BaseException | None = None, **extra: Any) -> None:
    """Log what a plugin did wrong, without any token that its exception may quote.

    The record carries the exception itself, unless its traceback had to be masked: then the masked text.
    """
    if not _log.isEnabledFor(level):
        return
    text = redactor.text(text)
    if error is not None:
        trace = "".join(traceback.format_exception(error))
        masked = redactor.text(trace)
        if masked != trace:
            text, error = f"{text}\n{masked.rstrip()}", None
    _log.log(level, "%s", text, exc_info=error, extra=extra)


class _WrongAnswerError(Exception):
    """A policy answered what its specification does not allow."""


def _seconds(answer: object) -> float:
    """Check a delay."""
    if isinstance(answer, (int, float)) and not isinstance(answer, bool):
        seconds = float(answer)
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    raise _WrongAnswerError(f"answered {answer!r:.100}, which is not a finite number of seconds from 0")


def _yes_or_no(answer: object) -> bool:
    """Check a decision."""
    if isinstance(answer, bool):
        return answer
    raise _WrongAnswerError(f"answered {answer!r:.100}, which is neither True nor False")


CHECKS: dict[str, Callable[[object], object]] = {
    "retry_delay": _seconds,
    "reconnect_delay": _seconds,
    "resend": _yes_or_no,
}
"""What an answer to each policy has to be."""


@frozen
class Implementation:
    """One plugin's function for one hook.

    Attributes:
        plugin: The plugin's name.
        function: Takes what ``pick`` gives, by position.
        pick: Picks the function's arguments out of the hook's; ``None`` where it takes them all, in order.
    """

    plugin: str
    function: Callable[..., Any]
    pick: Callable[[Arguments], Arguments] | None

    @classmethod
    def of(cls, hookimpl: pluggy.HookImpl, names: Sequence[str]) -> Implementation:
        """Bind pluggy's record of an implementation to the hook's arguments, which are called ``names``."""
        function: Callable[..., Any] = _old_style(hookimpl.function) if hookimpl.hookwrapper else hookimpl.function
        positional: list[str] = []
        keywords: list[str] = []
        by_name = False
        for name, parameter in inspect.signature(hookimpl.function).parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                continue
            if parameter.kind is parameter.VAR_KEYWORD:
                keywords += [other for other in names if other not in positional + keywords]
            elif name not in names:
                by_name = True  # an extra one with a default, which whatever follows has to step over
            elif parameter.kind is parameter.KEYWORD_ONLY or by_name:
                keywords.append(name)
            else:
                positional.append(name)
        if keywords:
            function = _by_name(function, len(positional), keywords)
        wanted = [*positional, *keywords]
        return cls(hookimpl.plugin_name, function, _picker(wanted, names))

    def call(self, arguments: Arguments) -> Any:
        """Call the function with its share of the hook's arguments."""
        return self.function(*(arguments if self.pick is None else self.pick(arguments)))


def _picker(wanted: Sequence[str], names: Sequence[str]) -> Callable[[Arguments], Arguments] | None:
    if list(wanted) == list(names):
        return None
    places = [names.index(name) for name in wanted]
    if len(places) > 1:
        return itemgetter(*places)
    start = places[0] if places else 0  # a slice, since an itemgetter of one index gives no tuple
    return itemgetter(slice(start, start + len(places)))


def _by_name(function: Callable[..., Any], count: int, keywords: Sequence[str]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return function(*arguments[:count], **dict(zip(keywords, arguments[count:], strict=True)))

    return call


def _old_style(function: Callable[..., Any]) -> Callable[..., Generator[None, Any, Any]]:
    """Turn a ``hookwrapper=True``, which is sent a ``pluggy.Result``, into a ``wrapper=True``."""

    def wrapper(*arguments: Any, **keywords: Any) -> Generator[None, Any, Any]:
        generator = function(*arguments, **keywords)
        try:
            next(generator)
        except StopIteration:
            return None  # the caller sees that nothing was yielded
        try:
            outcome = pluggy.Result((yield), None)
            _finish(generator, outcome)
            return outcome.get_result()
        finally:
            generator.close()

    return wrapper


def _begin(generator: Generator[None, Any, Any]) -> Generator[None, Any, Any]:
    try:
        next(generator)
    except StopIteration:
        raise RuntimeError("the wrapper did not yield") from None
    return generator


def _finish(generator: Generator[None, Any, Any], inner: object) -> Any:
    try:
        generator.send(inner)
    except StopIteration as stop:
        return stop.value
    generator.close()
    raise RuntimeError("the wrapper yielded more than once")


@frozen(kw_only=True)
class HookCalls:
    """All implementations of one hook, in the order in which they are called.

    Attributes:
        hook: The hook's name.
        plain: The implementations.
        wrappers: Those around them, the outermost first.
        check: Checks an answer; ``None`` for observers.
        slow_after: Seconds after which a call is named in a warning.
        redactor: Masks what may not be logged.
    """

    hook: str
    plain: tuple[Implementation, ...]
    wrappers: tuple[Implementation, ...]
    check: Callable[[object], object] | None
    slow_after: float
    redactor: Redactor
    conditions: tuple[Callable[[], bool], ...] = ()

    def run(self, arguments: Arguments) -> Any:
        """Call them all (observers) or up to the first answer (policies), which is returned."""
        if self.wrappers:
            return self._within(0, arguments)
        return self._plain(arguments)

    def _plain(self, arguments: Arguments) -> Any:
        results = []
        for one in self.plain:
            answer = None
            began = monotonic()
            try:
                # Spelt out and not `one.call`: this is the event path.
                answer = one.function(*arguments) if one.pick is None else one.function(*one.pick(arguments))
                if answer is not None and self.check is not None:
                    answer = self.check(answer)
            except Exception as error:  # noqa: BLE001 -- it is logged; a plugin's fault stays the plugin's
                answer = None
                self._fault(one, arguments, error)
            seconds = monotonic() - began
            if seconds > self.slow_after:
                self._slow(one, arguments, seconds)
            if answer is not None:
                if self.check is not None:
                    return answer
                results.append(answer)
        return None if self.check is not None else results

    def _within(self, depth: int, arguments: Arguments) -> Any:
        """Run the wrapper at ``depth`` around what is further in. A wrapper that fails counts as absent."""
        if depth == len(self.wrappers):
            return self._plain(arguments)
        one = self.wrappers[depth]
        generator: Generator[None, Any, Any] | None = None
        with self._isolated(one, arguments):
            generator = _begin(one.call(arguments))
        try:
            answer = self._within(depth + 1, arguments)
        except BaseException:  # KeyboardInterrupt, SystemExit: they pass, and the wrapper cleans up behind itself
            if generator is not None:
                with self._isolated(one, arguments):
                    generator.close()
            raise
        if generator is not None:
            with self._isolated(one, arguments):
                changed = _finish(generator, answer)
                answer = changed if changed is None or self.check is None else self.check(changed)
        return answer

    @contextmanager
    def _isolated(self, one: Implementation, arguments: Arguments) -> Iterator[None]:
        began = monotonic()
        try:
            yield
        except Exception as error:  # noqa: BLE001 -- it is logged; a plugin's fault stays the plugin's
            self._fault(one, arguments, error)
        seconds = monotonic() - began
        if seconds > self.slow_after:
            self._slow(one, arguments, seconds)

    def _fault(self, one: Implementation, arguments: Arguments, error: Exception) -> None:
        if isinstance(error, _WrongAnswerError):
            self._report(logging.ERROR, one, arguments, f"{error}; it counts as no answer")
            return
        self._report(logging.ERROR, one, arguments, f"raised {type(error).__name__}; nothing else changes", error)

    def _slow(self, one: Implementation, arguments: Arguments, seconds: float) -> None:
        text = f"took {seconds:.1f} s; a hook holds up its session's reading and heartbeats"
        self._report(logging.WARNING, one, arguments, text)

    def _report(
        self, level: int, one: Implementation, arguments: Arguments, text: str, error: Exception | None = None
    ) -> None:
        report(
            level,
            f"Plugin {one.plugin!r}, hook {self.hook}: {text}",
            redactor=self.redactor,
            error=error,
            session_id=getattr(arguments[0], "session_id", None),
            plugin=one.plugin,
            hook=self.hook,
        )
