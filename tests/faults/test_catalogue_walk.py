"""Every row of the catalogue that a server can cause, provoked over real sockets (errors.md, error-codes.md)."""

from __future__ import annotations

import time
from operator import attrgetter
from typing import TYPE_CHECKING

import pytest
from catalogue_cases import HTTP_CASES, SYSTEM_CASES, HttpCase, SystemCase
from fault_kit import SPEC_ROWS, Bench, check_row, raised, said, within

from polyai_sync import Client, PolyAIError, Session, SessionNotFoundError, SessionStatus
from polyai_sync.emulator import EchoAgent, Handoff, ScriptedAgent, Stream, Turn
from polyai_sync.events import SystemMessage
from polyai_sync.messages import Delivery, EndReason

if TYPE_CHECKING:
    from collections.abc import Callable

LEGS = ("access_token", "session_create", "connect")


def one_per_row(cases: tuple[HttpCase, ...]) -> list[HttpCase]:
    """A case for each row on each leg: recoveries need not be told apart by the shape of a body."""
    found: dict[tuple[str, str], HttpCase] = {}
    for case in cases:
        found.setdefault((case.code, case.surface), case)
    return list(found.values())


def test_every_row_that_a_server_can_cause_has_a_case() -> None:
    walked = {case.code for case in HTTP_CASES} | {case.code for case in SYSTEM_CASES}
    assert walked == {code for code in SPEC_ROWS if not code.startswith("client.")}


def test_every_status_row_is_provoked_on_every_leg() -> None:
    walked = {(case.code, case.surface) for case in HTTP_CASES if case.code.startswith("http.")}
    everywhere = {code for code in SPEC_ROWS if code.startswith("http.")}
    # On the handshake 401, 403 and 404 are rows of their own.
    missing = {(code, "connect") for code in ("http.unauthorized", "http.not_found")}
    assert walked == {(code, leg) for code in everywhere for leg in LEGS} - missing


class TestRefusedRequests:
    """HTTP refusals, on each leg."""

    @pytest.mark.parametrize("case", HTTP_CASES, ids=attrgetter("id"))
    def test_is_raised_and_told_as_its_row_says(self, case: HttpCase, bench: Bench) -> None:
        bench.faults.add(case.fault, **case.options)
        with within(3):
            error = raised(bench.bare().start_session)

        check_row(error, case.code, surface=case.surface, status=case.status, text=case.text)
        if case.retry_after is None:
            assert error.retry_after is None
        else:
            assert error.retry_after is not None
            assert case.retry_after[0] <= error.retry_after <= case.retry_after[1]
        assert error.body is not None
        assert len(error.body) <= 8192
        self._check_hooks(case, error, bench)

    def _check_hooks(self, case: HttpCase, error: Exception, bench: Bench) -> None:
        recorder = bench.recorder
        assert bench.errors == [error]
        limits = [call["limit"] for call in recorder.calls("on_rate_limit")]
        if case.status == 429:
            (limit,) = limits
            assert (limit.surface, limit.certain, limit.error) == (case.surface, True, error)
            assert limit.retry_after == bench.errors[0].retry_after
        else:
            assert limits == []
        legs = LEGS[: LEGS.index(case.surface) + 1]
        requests, answers = recorder.calls("on_request"), recorder.calls("on_response")
        rest = [leg for leg in legs if leg != "connect"]
        assert [(call["operation"], call["attempt"]) for call in requests] == [(leg, 1) for leg in rest]
        assert [(call["operation"], call["attempt"]) for call in answers] == [(leg, 1) for leg in rest]
        assert [call["correlation_id"] for call in requests] == [call["correlation_id"] for call in answers]
        assert all(call["error"] is None and call["seconds"] >= 0 for call in answers)
        if case.surface != "connect":
            assert answers[-1]["status"] == case.status
        ended = {"connect.session_not_found": "SESSION_NOT_FOUND"}
        ended["connect.authentication_failed"] = "AUTHENTICATION_FAILED"
        assert bench.ends == ([(ended[case.code], error)] if case.code in ended else [])
        assert [entry.surface for entry in bench.emulator.log] == list(legs)  # a redirect was not followed
        assert recorder.calls("on_connect") == recorder.calls("on_disconnect") == []

    @pytest.mark.parametrize("surface", ["access_token", "session_create"])
    def test_carries_the_servers_correlation_id(self, surface: str, bench: Bench) -> None:
        bench.faults.add("http.bad_request", on=surface)
        error = raised(bench.bare().start_session)
        assert error.request_id == bench.recorder.calls("on_request")[-1]["correlation_id"]

    @pytest.mark.parametrize("case", one_per_row(HTTP_CASES), ids=attrgetter("id"))
    def test_is_tried_again_only_where_its_row_says_so(self, case: HttpCase, bench: Bench) -> None:
        fault = bench.faults.add(case.fault, **{**case.options, "times": 2})
        client = bench.client()
        if not SPEC_ROWS[case.code]["retryable"]:
            error = raised(client.start_session)
            assert error.code == case.code
            assert fault.fired == 1
            assert bench.codes == [case.code]
            over = case.code in ("connect.session_not_found", "connect.authentication_failed")
            assert bench.tries == ([] if over else [(case.surface, case.code, 1)])  # there is nothing left to try
            return
        if case.code == "session_create.invalid_token":
            error = raised(client.start_session)  # a fresh token was refused as well: that is that
            assert error.code == case.code
            assert bench.codes == [case.code] * 2
            assert bench.backoff.answers == [0.0, None]
            assert bench.emulator.tokens_minted == 2
            return
        with client.start_session() as session:
            assert session.status is SessionStatus.OPEN
        assert fault.fired == 2
        assert bench.codes == [case.code] * 2
        assert bench.tries == [(case.surface, case.code, 1), (case.surface, case.code, 2)]
        assert bench.emulator.sessions_created == bench.emulator.tokens_minted == 1
        if case.surface != "connect":
            requests = [call for call in bench.recorder.calls("on_request") if call["operation"] == case.surface]
            assert [call["attempt"] for call in requests] == [1, 2, 3]
            assert len({call["correlation_id"] for call in requests}) == 1
        else:
            assert [call["attempt"] for call in bench.recorder.calls("on_connect")] == [3]

    def test_refused_session_is_created_once_more_with_a_fresh_token(self, bench: Bench) -> None:
        bench.faults.add("session_create.invalid_token")
        with bench.client().start_session() as session:
            assert session.next_message().text == "Hello!"
        assert bench.emulator.tokens_minted == 2
        assert bench.emulator.sessions_created == 1
        assert bench.codes == ["session_create.invalid_token"]
        operations = [call["operation"] for call in bench.recorder.calls("on_request")]
        assert operations == ["access_token", "session_create", "access_token", "session_create"]

    @pytest.mark.parametrize("status", [429, 503])
    @pytest.mark.parametrize("leg", LEGS)
    def test_retry_after_is_waited_for(self, leg: str, status: int, bench: Bench) -> None:
        bench.faults.add("http.server_error", on=leg, status=status, retry_after=0.15)
        client = bench.client(plugins=[bench.recorder])  # with the real Backoff
        began = time.monotonic()
        with client.start_session():
            assert time.monotonic() - began >= 0.15
        assert [error.retry_after for error in bench.errors] == [0.15]

    def test_wait_that_would_pass_the_deadline_is_not_begun(self, bench: Bench) -> None:
        bench.faults.add("http.rate_limited", on="access_token", retry_after=30)
        client = bench.client(plugins=[bench.recorder])
        with within(1):
            error = raised(client.start_session, timeout=5)
        assert (error.code, error.retry_after) == ("http.rate_limited", 30)

    def test_connection_limit_of_a_real_session_is_waited_out(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(max_connections=1)
        client = bench.bare()
        with client.start_session() as session:
            error = raised(client.resume_session, session.state)
            check_row(error, "connect.too_many_connections", surface="connect", status=429,
                      text="connection limit exceeded for session")  # fmt: skip
            assert error.retry_after == 1.0
            assert bench.ends == []  # the session itself is fine
            state = session.state
        with client.resume_session(state) as again:
            assert again.ask("still there?").text == "You said: still there?"


def arm(bench: Bench, case: SystemCase, **options: object) -> None:
    where = {"on": case.on} if case.on else {}
    bench.faults.add(case.code, **where, **options)


class TestSystemMessages:
    """Errors that arrive on the open socket."""

    @pytest.fixture
    def bench(self, make_bench: Callable[..., Bench]) -> Bench:
        """The agent hands over to a person where a case needs it."""

        def agent(turn: Turn) -> object:
            if turn.text == "a person, please":
                return Handoff()
            return EchoAgent()(turn)

        return make_bench(agent=agent)

    def provoke(self, bench: Bench, client: Client, case: SystemCase, **options: object) -> tuple[Session, PolyAIError]:
        """Meet the error in the call that it ends."""
        if case.on == "join":
            arm(bench, case, **options)
            session = client.start_session(join=False)
            return session, raised(session.join)
        session = client.start_session()
        session.next_message()
        arm(bench, case, **options)
        text = "a person, please" if case.on == "handoff" else "one two three four five"
        return session, raised(session.ask, text, custom={"order": "7"})

    @pytest.mark.parametrize("case", SYSTEM_CASES, ids=attrgetter("id"))
    def test_is_raised_and_told_as_its_row_says(self, case: SystemCase, bench: Bench) -> None:
        client = bench.bare()
        with within(3):
            session, error = self.provoke(bench, client, case)

        check_row(error, case.code, surface="websocket", status=None, text=case.text)
        assert isinstance(error.event, SystemMessage)
        assert error.event.message == case.text
        assert error.event.raw["payload"]["message"] == case.text  # the full event, for a report to PolyAI
        if case.on != "join":
            assert error.event.custom["order"] == "7"  # the metadata sent comes back with the error
            (message, *_) = [message for message in session.messages if message.role == "user"]
            assert error.client_event_id == message.client_event_id
            assert message.delivery is (Delivery.DELIVERED if case.answered else Delivery.FAILED)
            assert len(bench.recorder.calls("on_delivery")) == 1
        assert bench.codes == [case.code]
        assert [call["event"] for call in bench.recorder.calls("on_event")].count(error.event) == 1
        assert bench.recorder.calls("on_rate_limit") == []
        if case.code == "session.not_found":
            (end,) = bench.ends
            assert end[0] == session.end_reason == EndReason.SESSION_NOT_FOUND
            assert end[1] is not None
            assert end[1].code == case.code
            assert session.status is SessionStatus.ENDED
            assert isinstance(raised(session.ask, "hello?"), SessionNotFoundError)
            return
        assert bench.ends == []
        assert bench.recorder.calls("on_disconnect") == []
        assert session.status is SessionStatus.OPEN
        if case.on == "join":
            session.join()
        assert session.ask("and now?").text == "You said: and now?"  # the connection stayed usable
        assert bench.codes == [case.code]

    @pytest.mark.parametrize("case", SYSTEM_CASES, ids=attrgetter("id"))
    def test_is_tried_again_only_where_its_row_says_so(self, case: SystemCase, bench: Bench) -> None:
        tries = {"agent.overloaded": 3, "session.conversation_not_found": 2, "session.conversation_uninitialised": 2}
        expected = tries.get(case.code, 4) if SPEC_ROWS[case.code]["retryable"] else 1
        client = bench.client()
        with within(4):
            session, error = self.provoke(bench, client, case, times=expected)

        assert error.code == case.code
        assert bench.codes == [case.code] * expected
        operation = "join" if case.on == "join" else "ask"
        if case.code != "session.not_found":
            assert bench.tries == [(operation, case.code, n) for n in range(1, expected + 1)]
        sent = [event["type"].removeprefix("EVENT_TYPE_") for event in bench.peer.received]
        if case.on == "join":
            assert sent.count("REQUEST_POLY_AGENT_JOIN") == expected
        elif case.answered:
            assert sent.count("USER_MESSAGE") == expected
            asked = [message for message in session.messages if message.role == "user"]
            assert len({message.client_event_id for message in asked}) == expected  # each try is another message
        if case.code != "session.not_found":
            assert session.status is SessionStatus.OPEN

    def test_overloaded_agent_is_asked_again_after_two_to_five_seconds(self, bench: Bench) -> None:
        with bench.client().start_session() as session:
            bench.faults.add("agent.overloaded", times=2)
            assert session.ask("a table").text == "You said: a table"
            assert [text for role, text in said(session) if role == "user"] == ["a table"] * 3
            assert said(session) == bench.peer.transcript
        assert len(bench.backoff.answers) == 2
        assert all(answer is not None and 2 <= answer <= 5 for answer in bench.backoff.answers)

    def test_agent_that_failed_to_start_is_asked_to_join_again(self, bench: Bench) -> None:
        bench.faults.add("agent.start_failed", times=2)
        with bench.client().start_session() as session:
            assert session.next_message().text == "Hello!"
            joins = [event for event in bench.peer.received if event["type"].endswith("REQUEST_POLY_AGENT_JOIN")]
            assert len(joins) == 3
        assert bench.emulator.sessions_created == 1
        assert bench.codes == ["agent.start_failed"] * 2

    @pytest.mark.parametrize("code", ["session.conversation_not_found", "session.conversation_uninitialised"])
    def test_retried_ask_after_a_missing_conversation_sends_the_join_first(self, code: str, bench: Bench) -> None:
        with bench.client().start_session() as session:
            session.next_message()
            bench.faults.add(code)
            assert session.ask("a table").text == "You said: a table"
            sent = [event["type"].removeprefix("EVENT_TYPE_") for event in bench.peer.received]
            chat = [name for name in sent if name != "HEARTBEAT"]
            assert chat == ["REQUEST_POLY_AGENT_JOIN", "USER_MESSAGE", "REQUEST_POLY_AGENT_JOIN", "USER_MESSAGE"]
            assert session.next_message().text == "Hello!"  # of the second join: never an answer
        assert bench.backoff.answers == [0.0]

    def test_half_streamed_reply_is_kept_and_marked_incomplete(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(agent=ScriptedAgent(Stream(["One ", "two ", "three ", "four "]), "Then."))
        with bench.client().start_session() as session:
            session.next_message()
            bench.faults.add("agent.stream_failed")
            pieces: list[str] = []
            error = raised(lambda: pieces.extend(session.stream("count")))
            assert error.code == "agent.stream_failed"
            assert pieces == ["One ", "two "]
            last = session.messages[-1]
            assert (last.text, last.complete) == ("One two ", False)
            assert session.ask("and?").text == "Then."  # nothing of it leaks into the next answer
            assert said(session) == bench.peer.transcript

    @pytest.mark.parametrize("metadata", [True, False])
    def test_error_followed_by_the_end_is_raised_and_the_end_met(self, metadata: bool, bench: Bench) -> None:
        session = bench.client().start_session()
        bench.faults.add("agent.overloaded", then_end=True, metadata=metadata)
        assert raised(session.ask, "a table").code == "agent.overloaded"
        assert session.wait_ended(timeout=2) == EndReason.USER_ABANDONED
        assert bench.codes[:1] == ["agent.overloaded"]
        assert bench.ends == [(EndReason.USER_ABANDONED, None)]

    def test_error_that_meets_no_call_is_told_and_raised_nowhere(self, bench: Bench) -> None:
        with bench.client().start_session() as session:
            session.next_message()
            level = "SYSTEM_MESSAGE_LEVEL_ERROR"
            bench.peer.emit("SYSTEM_MESSAGE", {"level": level, "message": "Failed to forward message to live agent"})
            bench.recorder.wait_for("on_error")
            assert bench.codes == ["handoff.message_not_forwarded"]
            assert session.ask("still fine?").text == "You said: still fine?"
        assert bench.tries == []

    @pytest.mark.parametrize("fault", ["system.info", "system.warning", "system.odd_level"])
    def test_message_of_a_lower_level_is_an_event_and_no_error(self, fault: str, bench: Bench) -> None:
        with bench.bare().start_session() as session:
            bench.faults.add(fault)
            assert session.ask("hello").text == "You said: hello"
        assert bench.errors == []
        notices = [call["event"] for call in bench.recorder.calls("on_event")]
        assert [type(event) for event in notices].count(SystemMessage) == 1
