"""Canary tokens: where they must never be seen (architecture.md "Secrets", pitfalls.md 31).

Every logger is captured at DEBUG, websocket-client's trace is on, and whatever an error or a public object shows of
itself is searched: text, repr, arguments, attributes, causes, tracebacks with their locals, pickles.
"""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import websocket
from catalogue_cases import HTTP_CASES, SYSTEM_CASES, HttpCase, SystemCase
from fault_kit import Bench, come_back, raised, short, started

import polyai_sync
from polyai_sync import PolyAIError, SessionState, SessionStatus
from polyai_sync.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECTOR = "canary-CONNECTOR-7f3a9c-token"
PACKAGE = str(polyai_sync.__file__).rpartition("/")[0]


class Watch(logging.Handler):
    """Keeps every record, and knows the tokens."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(logging.DEBUG)
        self.bench = bench
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def tokens(self) -> list[str]:
        """The connector token, and every access token that was minted."""
        service = self.bench.emulator._service
        assert service is not None
        return [CONNECTOR, *service.mint._expires_at]

    def check(self, text: str, where: object) -> None:
        for token in self.tokens:
            # Of a JWT the signature alone would do; it is what the canary is.
            for form in {token, token.rpartition(".")[2], quote(token, safe="")}:
                assert form not in text, f"a token in {where}"

    def check_records(self) -> None:
        assert self.records
        formatter = logging.Formatter()
        for record in self.records:
            if record.name.startswith(("aiohttp", "asyncio", "polyai_sync.emulator")):
                continue  # the server's own
            self.check(formatter.format(record), f"a record of {record.name}")
            self.check(repr(vars(record)), f"the attributes of a record of {record.name}")
            self.check(json.dumps(vars(record), default=str), f"a record of {record.name} as JSON")

    def check_error(self, error: BaseException, *, with_locals: bool = True) -> None:
        for link in chain(error):
            where = f"{type(link).__name__}, of {type(error).__name__}"
            self.check("\n".join((str(link), repr(link), repr(link.args), repr(vars(link)))), where)
            if isinstance(link, PolyAIError):
                self.check("".join(map(str, (link.body, link.message, link.user_text, link.resolution))), where)
                for twin in (pickle.loads(pickle.dumps(link)), copy.copy(link), copy.deepcopy(link)):
                    self.check(repr(vars(twin)), f"a copy of {where}")
                for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                    self.check(pickle.dumps(link, protocol).decode("latin-1"), f"a pickle of {where}")
        self.check("".join(traceback.format_exception(error)), "a traceback")
        told: traceback.TracebackException | None = traceback.TracebackException.from_exception(
            error, capture_locals=True
        )
        while with_locals and told is not None:
            for frame in told.stack:
                if frame.filename.startswith(PACKAGE) and frame.locals:
                    self.check(repr(frame.locals), f"the locals of {frame.name}, {frame.filename}")
            told = told.__cause__ or told.__context__

    def check_hooks(self) -> None:
        for hook, arguments in self.bench.recorder.all_calls:
            self.check(repr(arguments), f"the arguments of {hook}")
            for error in (value for value in arguments.values() if isinstance(value, PolyAIError)):
                self.check_error(error)


def chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        link = todo.pop()
        if link is not None and link not in found:
            found.append(link)
            todo += [link.__cause__, link.__context__]
    return found


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench(connector_token=CONNECTOR)


@pytest.fixture
def watch(bench: Bench, capfd: pytest.CaptureFixture[str]) -> Iterator[Watch]:
    """All loggers at DEBUG, websocket-client's trace on; the records and the two streams are checked at the end."""
    watch = Watch(bench)
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, ("polyai_sync", "urllib3", "requests", "websocket"))]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    root.addHandler(watch)
    trace = logging.StreamHandler()
    websocket.enableTrace(True, handler=trace)
    try:
        yield watch
        bench.close()
        watch.check_records()
        watch.check_hooks()
        out, err = capfd.readouterr()
        watch.check(out, "stdout")
        watch.check(err, "stderr")
        if bench.emulator.handshakes:
            assert "access_token=" in err  # the trace was on, and masked
    finally:
        websocket.enableTrace(False)
        logging.getLogger("websocket").removeHandler(trace)
        root.removeHandler(watch)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@pytest.mark.parametrize("oddity", [None, "token.not_jwt", "token.no_exp"])
def test_conversation_shows_no_token(oddity: str | None, bench: Bench, watch: Watch) -> None:
    if oddity:
        bench.faults.add(oddity, times=None)
    client = bench.client()
    with client.start_session() as session:
        session.next_message()
        events = session.events()
        reply = session.ask("hello")
        with session.stream("and again") as stream:
            shown = [repr(stream), *stream]
        session.typing()
        come_back(bench, session)
        session.send("unread", wait=False)
        state = session.state
        shown += [repr(one) for one in (client, session, state, reply, session.messages, events, client.plugins)]
        shown += [
            str(state),
            repr(vars(type(state))),
            repr([*session.events(replay=True, timeout=5).__class__.__mro__]),
        ]
    token = client.mint_access_token()
    shown += [repr(token), str(token)]
    with client.resume_session(SessionState.from_json(state.to_json())) as again:
        shown += [repr(again), repr(again.state), repr(again.capabilities)]
        again.end()
    watch.check("\n".join(shown), "the repr of a public object")
    for inner in (client._services, client._services.settings, session._engine.access_token):
        watch.check(f"{inner!r} {inner}", "the repr of an inner object")
    assert state.access_token in watch.tokens  # the search knows what it looks for


def one_per_row() -> list[HttpCase]:
    found: dict[tuple[str, str], HttpCase] = {}
    for case in HTTP_CASES:
        found.setdefault((case.code, case.surface), case)
    return list(found.values())


@pytest.mark.parametrize("case", one_per_row(), ids=lambda case: f"{case.code}-{case.surface}")
def test_refusal_that_quotes_the_token_shows_none(case: HttpCase, bench: Bench, watch: Watch) -> None:
    words = f"{case.text or 'no'}: {CONNECTOR} {quote(CONNECTOR)} Bearer {CONNECTOR} {watch.tokens}"
    headers = {"X-PolyAI-Correlation-Id": f"id-{CONNECTOR}"}
    bench.faults.add(case.fault, times=None, **{**case.options, "body": {"error": words}, "headers": headers})
    for client in (bench.bare(), bench.client()):
        error = raised(client.start_session)
        watch.check_error(error)
        assert error.body is not None
        assert "***" in error.body
        watch.check(repr(client), "the client")


@pytest.mark.parametrize(
    "case",
    [case for case in one_per_row() if case.surface == "connect"],
    ids=lambda case: f"{case.code}-{case.surface}",
)
def test_refused_reconnect_shows_no_token(case: HttpCase, bench: Bench, watch: Watch) -> None:
    session = started(bench)
    words = f"{case.text or 'no'}: {session.state.access_token} and access_token={session.state.access_token}"
    bench.faults.add(case.fault, times=None, **{**case.options, "body": {"error": words}})
    bench.peer.drop()
    wait_until(lambda: session.status in {SessionStatus.ENDED, SessionStatus.FAILED}, timeout=10)
    error = raised(session.ask, "hello?")
    watch.check_error(error)
    assert session.error is not None
    watch.check_error(session.error)
    watch.check(repr(session), "the session")


@pytest.mark.parametrize("leg", ["access_token", "session_create", "connect"])
@pytest.mark.parametrize("fault", ["http.no_answer", "http.hang"])
def test_missing_answer_shows_no_token(fault: str, leg: str, bench: Bench, watch: Watch) -> None:
    bench.faults.add(fault, on=leg)
    error = raised(bench.bare(timeouts=short(connect=0.4, read=0.4)).start_session)
    watch.check_error(error)


@pytest.mark.parametrize(
    "fault",
    ["token.missing", "token.not_json", "session_create.no_id", "session_create.not_json", "connect.answered_200"],
)
def test_answer_that_is_none_shows_no_token(fault: str, bench: Bench, watch: Watch) -> None:
    bench.faults.add(fault)
    watch.check_error(raised(bench.bare().start_session))


@pytest.mark.parametrize("case", [case for case in SYSTEM_CASES if case.on in (None, "turn")], ids=attrgetter("id"))
def test_error_on_the_socket_shows_no_token(case: SystemCase, bench: Bench, watch: Watch) -> None:
    session = started(bench)
    bench.faults.add(case.code, times=None, text=f"{case.text} {session.state.access_token} {CONNECTOR}")
    error = raised(session.ask, "hello")
    assert "***" in error.message
    watch.check_error(error)
    watch.check(repr([*session.messages, *(call["event"] for call in bench.recorder.calls("on_event"))]), "an event")


@pytest.mark.parametrize("fault", ["wire.binary_frame", "wire.broken_json", "wire.deep_json", "wire.invalid_utf8"])
def test_odd_frame_shows_no_token(fault: str, bench: Bench, watch: Watch) -> None:
    session = started(bench)
    options = {"text": f'{{"token": "{session.state.access_token}'} if fault == "wire.broken_json" else {}
    bench.faults.add(fault, **options)
    session.ask("hello")
    assert bench.errors


def test_configuration_errors_quote_no_value(bench: Bench, watch: Watch) -> None:
    settings: list[dict[str, Any]] = [
        {"host": f"https://{CONNECTOR} "},
        {"connector_token": f"{CONNECTOR} \n"},
        {"cluster": CONNECTOR, "base_url": None},
        {"base_url": f"ftp://{CONNECTOR}@example.com"},
        {"base_url": f"http://example.com/{CONNECTOR}"},
        {"platform": CONNECTOR},
        {"app_info": f"{CONNECTOR}\n"},
    ]
    bench.client().start_session()
    for setting in settings:
        error = raised(bench.emulator.client, **setting)
        assert CONNECTOR not in f"{error} {error!r} {error.args} {vars(error)}"


def test_damaged_state_is_not_quoted(bench: Bench, watch: Watch) -> None:
    session = bench.client().start_session()
    document = session.state.to_json()
    for damaged in (
        document[:-1],
        document.replace('"cursor":', '"cursor":"x",'),
        document.replace('"version":1', '"version":9'),
    ):
        watch.check_error(raised(SessionState.from_json, damaged), with_locals=False)  # the caller gave the document
    other = bench.emulator.client(base_url="http://127.0.0.1:9")
    watch.check_error(raised(other.resume_session, session.state))
