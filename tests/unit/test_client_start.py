"""`Client`: making one, starting sessions, minting tokens, plugins, closing (api.md, "Client")."""

from __future__ import annotations

import threading
import uuid
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import requests
from fault_kit import Bench, raised, short, within

from polyai_sync import AuthenticationError, Client, ServerError, SessionStatus, hookimpl
from polyai_sync.emulator import EchoAgent, Emulator
from polyai_sync.messages import HandoffStatus
from polyai_sync.testing import HookRecorder, wait_until
from polyai_sync.transport.dial import Dialer
from polyai_sync_plugins import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.transport.deadline import Deadline


def sent(bench: Bench) -> list[str]:
    """The types of what the client sent, heartbeats left out."""
    types = [event["type"].removeprefix("EVENT_TYPE_") for event in bench.peer.received]
    return [name for name in types if name != "HEARTBEAT"]


class TestConstructor:
    def test_does_nothing_yet(self) -> None:
        before = threading.active_count()
        Client("token", "example.com", base_url="http://127.0.0.1:9")
        assert threading.active_count() == before

    def test_settings_come_from_the_environment(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POLYAI_CONNECTOR_TOKEN", bench.emulator.connector_token)
        monkeypatch.setenv("POLYAI_HOST", "https://localhost")
        monkeypatch.setenv("POLYAI_BASE_URL", bench.emulator.url + "/")
        monkeypatch.setenv("POLYAI_CLUSTER", "uk-1")
        with Client() as client, client.start_session() as session:
            assert session.next_message().text == "Hello!"

    def test_base_url_may_have_a_path(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(base_path="/behind/a/proxy")
        with bench.client().start_session() as session:
            assert session.ask("hello").text == "You said: hello"
        assert {entry.path.rpartition("/")[0] for entry in bench.emulator.log} == {
            "/behind/a/proxy/api/v1",
            "/behind/a/proxy",
        }


class TestStart:
    def test_session_is_open_joined_and_greeted(self, bench: Bench) -> None:
        with bench.client().start_session() as session:
            assert session.status is SessionStatus.OPEN
            assert session.session_id == bench.peer.session_id
            assert session.agent is not None
            assert session.agent.name == "Olive"
            assert session.agent.avatar_url == "https://cdn.example.com/olive.png"
            assert session.live_agent is None
            assert session.language is None
            assert session.end_reason is None
            assert session.error is None
            assert session.handoff.status is HandoffStatus.NONE
            assert session.capabilities.streaming is True
            assert session.capabilities.max_message_size_bytes == 131_072
            assert session.capabilities.max_reconnect_attempts == 5
            assert session.capabilities.heartbeat_interval_seconds == 30
            assert [(message.role, message.text) for message in session.messages] == [("agent", "Hello!")]
            assert session.next_message() == session.messages[0]
            assert sent(bench) == ["REQUEST_POLY_AGENT_JOIN"]

    def test_creation_body_holds_the_settings(self, bench: Bench) -> None:
        client = bench.client(platform="ios-web", device_type="tablet")
        client.start_session()
        assert bench.peer.settings == {"streaming_enabled": True, "platform": "ios-web", "device_type": "tablet"}
        bench.client().start_session()
        assert bench.peer.settings == {"streaming_enabled": True, "platform": "custom"}

    @pytest.mark.parametrize("of_client", [True, False])
    @pytest.mark.parametrize("of_call", [True, False, None])
    def test_call_overrides_streaming(self, of_client: bool, of_call: bool | None, bench: Bench) -> None:
        session = bench.client(streaming=of_client).start_session(streaming=of_call)
        expected = of_client if of_call is None else of_call
        assert bench.peer.streaming is expected
        assert session.capabilities.streaming is expected
        assert session.state.streaming is expected

    def test_streaming_must_be_a_bool(self, bench: Bench) -> None:
        with pytest.raises(TypeError, match="streaming"):
            bench.client().start_session(streaming="yes")  # type: ignore[arg-type] # it is the point
        assert bench.emulator.log == ()

    def test_without_a_join_nobody_is_asked(self, bench: Bench) -> None:
        with bench.client().start_session(join=False) as session:
            assert session.status is SessionStatus.OPEN
            assert session.agent is None
            assert sent(bench) == []
            session.join()
            assert session.next_message().text == "Hello!"

    def test_without_the_greeting_it_returns_at_the_join(self, bench: Bench) -> None:
        bench.faults.add("start.slow_greeting", delay=2)
        with within(1.5), bench.client().start_session(greeting=False) as session:
            assert session.agent is not None
            assert session.messages == ()

    def test_greeting_still_to_come_is_no_answer(self, bench: Bench) -> None:
        bench.faults.add("start.slow_greeting", delay=0.2)
        with bench.client().start_session(greeting=False) as session:
            assert session.ask("hello").text == "You said: hello"
            assert session.next_message().text == "Hello!"

    def test_slow_greeting_is_waited_for(self, bench: Bench) -> None:
        bench.faults.add("start.slow_greeting", delay=0.2)
        with bench.client().start_session() as session:
            assert [message.text for message in session.messages] == ["Hello!"]

    def test_greeting_later_than_its_limit_looks_like_any_other_message(self, bench: Bench) -> None:
        bench.faults.add("start.slow_greeting", delay=0.3)
        with bench.client(timeouts=short(greeting=0.05)).start_session() as session:
            assert session.messages == ()
            assert session.next_message().text == "Hello!"

    def test_each_session_has_a_token_of_its_own(self, bench: Bench) -> None:
        client = bench.client()
        states = [client.start_session().state for _ in range(3)]
        assert len({state.access_token for state in states}) == bench.emulator.tokens_minted == 3
        assert len({state.session_id for state in states}) == bench.emulator.sessions_created == 3

    def test_thread_is_a_daemon_named_by_the_session(self, bench: Bench) -> None:
        session = bench.client().start_session()
        (thread,) = [one for one in threading.enumerate() if one.name == f"polyai-{session.session_id[:8]}"]
        assert thread.daemon

    def test_headers_say_who_calls(self, bench: Bench) -> None:
        bench.client(app_info="shop/1.4").start_session()
        for entry in bench.emulator.log:
            assert entry.headers["User-Agent"].startswith("polyai-sync/")
            assert entry.headers["User-Agent"].endswith(" shop/1.4")
        for entry in bench.emulator.log[:2]:
            assert entry.headers["Accept"] == "application/json"
            assert entry.headers["Content-Type"] == "application/json"
            assert entry.correlation_id is not None
            assert uuid.UUID(entry.correlation_id).version == 4
        assert bench.emulator.log[0].correlation_id != bench.emulator.log[1].correlation_id
        assert "Authorization" not in bench.emulator.log[2].headers

    def test_own_http_session_and_socket_headers_are_used(self, bench: Bench) -> None:
        http = requests.Session()
        http.headers["X-Shop"] = "7"
        client = bench.client(http=http, websocket_options={"header": ["X-Socket: 8"]})
        client.start_session()
        assert [entry.headers.get("X-Shop") for entry in bench.emulator.log[:2]] == ["7", "7"]
        assert bench.emulator.log[2].headers["X-Socket"] == "8"
        assert dict(http.cookies) == {}
        assert http.headers["X-Shop"] == "7"

    def test_unforeseen_failure_of_the_dial_beside_the_requests_does_no_harm(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        dial = Dialer.dial
        failed: list[Dialer] = []

        def fail_once(dialer: Dialer, deadline: Deadline) -> Any:
            if not failed:
                failed.append(dialer)
                raise RuntimeError("nobody has thought of this")
            return dial(dialer, deadline)

        monkeypatch.setattr(Dialer, "dial", fail_once)
        assert bench.client().start_session().next_message().text == "Hello!"
        assert failed
        assert "The dial beside the requests failed (RuntimeError); dialling again." in caplog.messages

    def test_time_limit_is_for_the_whole_call(self, bench: Bench) -> None:
        bench.faults.add("http.slow", on="access_token", delay=0.15)
        bench.faults.add("http.slow", on="session_create", delay=0.15)
        with within(1.5):
            error = raised(bench.client().start_session, timeout=0.2)
        assert error.code in ("client.connect_failed", "client.ready_timeout")
        wait_until(lambda: bench.emulator.connections == 0)

    def test_hooks_tell_the_story_in_order(self, bench: Bench) -> None:
        bench.client(streaming=False).start_session()
        told = [name for name in bench.recorder.names if name not in ("on_event", "on_send")]
        http = ["on_request", "on_response"] * 2
        assert told == [*http, "on_connect", "on_session_start", "on_message"]
        events = [call["event"].type.removeprefix("EVENT_TYPE_") for call in bench.recorder.calls("on_event")]
        assert events == [
            "SESSION_START",
            "REQUEST_POLY_AGENT_JOIN",
            "POLY_AGENT_JOINED",
            "POLY_AGENT_THINKING",
            "POLY_AGENT_MESSAGE",
        ]
        sessions = {id(call["session"]) for call in bench.recorder.calls("on_event")}
        assert len(sessions) == 1
        assert all(call["session"] is None for call in bench.recorder.calls("on_request"))
        (connect,) = bench.recorder.calls("on_connect")
        assert (connect["attempt"], connect["cursor"]) == (1, 0)


class TestMintAccessToken:
    def test_gives_a_token_of_a_new_user(self, bench: Bench) -> None:
        client = bench.client()
        first, second = client.mint_access_token(), client.mint_access_token()
        assert first.value != second.value
        assert first.expires_in == 86_400
        assert first.expires_at.tzinfo is not None
        expected = datetime.now(timezone.utc) + timedelta(days=1)
        assert abs(first.expires_at - expected) < timedelta(minutes=1)
        assert first.value not in repr(first)
        answer = requests.post(
            f"{bench.emulator.url}/api/v1/sessions", headers={"Authorization": f"Bearer {first.value}"}, timeout=5
        )
        assert answer.status_code == 200
        answer.close()

    def test_missing_lifetime_means_an_hour(self, bench: Bench) -> None:
        bench.faults.add("token.no_lifetime")
        assert bench.client().mint_access_token().expires_in == 3600

    def test_asks_the_policies(self, bench: Bench) -> None:
        bench.faults.add("access_token.creation_failed", times=2)
        assert bench.client().mint_access_token().value
        assert bench.tries == [("access_token", "access_token.creation_failed", n) for n in (1, 2)]
        assert bench.codes == ["access_token.creation_failed"] * 2
        assert [call["attempt"] for call in bench.recorder.calls("on_request")] == [1, 2, 3]
        assert [call["status"] for call in bench.recorder.calls("on_response")] == [500, 500, 200]

    def test_raises_what_the_policies_let_pass(self, bench: Bench) -> None:
        bench.faults.add("access_token.creation_failed")
        error = raised(bench.bare().mint_access_token)
        assert isinstance(error, ServerError)
        assert bench.errors == [error]

    def test_tells_of_a_rate_limit(self, bench: Bench) -> None:
        bench.faults.add("http.rate_limited", on="access_token", retry_after=7)
        raised(bench.bare().mint_access_token)
        (limit,) = [call["limit"] for call in bench.recorder.calls("on_rate_limit")]
        assert (limit.surface, limit.retry_after, limit.certain) == ("access_token", 7, True)


class TestPlugins:
    def test_lists_given_and_bundled_plugins_in_order(self, bench: Bench) -> None:
        client = bench.emulator.client(plugins=[HookRecorder("mine")])
        plugins = [(plugin.name, plugin.origin) for plugin in client.plugins]
        assert plugins == [("mine", "given"), ("backoff", "bundled"), ("logging", "bundled"), ("reconnect", "bundled")]

    def test_given_plugin_replaces_the_bundled_one_of_its_name(self, bench: Bench) -> None:
        client = bench.emulator.client(plugins=[Backoff(max_attempts=1)])
        assert [plugin.name for plugin in client.plugins].count("backoff") == 1
        bench.faults.add("http.server_error", on="access_token")
        assert isinstance(raised(client.start_session), ServerError)  # tried once only

    def test_blocked_plugin_is_not_loaded(self, bench: Bench) -> None:
        client = bench.emulator.client(block=["backoff"])
        assert "backoff" not in [plugin.name for plugin in client.plugins]
        bench.faults.add("http.server_error", on="access_token")
        assert isinstance(raised(client.start_session), ServerError)

    def test_without_plugins_the_mechanism_is_bare(self, bench: Bench) -> None:
        client = bench.emulator.client(load_plugins=False)
        assert client.plugins == ()
        with client.start_session() as session:
            assert session.ask("hello").text == "You said: hello"
        bench.faults.add("access_token.creation_failed")
        assert raised(client.start_session).code == "access_token.creation_failed"  # the first error is raised

    def test_first_answer_of_a_policy_wins(self, bench: Bench) -> None:
        class Never:
            name = "never"

            @hookimpl
            def retry_delay(self) -> None:
                return None

        once = HookRecorder("once", retry_delay=lambda attempt, **_: 0.0 if attempt == 1 else None)
        client = bench.emulator.client(plugins=[Never(), once], load_plugins=False)
        bench.faults.add("access_token.unknown_connector")  # not retryable, but a policy may say otherwise
        client.start_session()
        bench.faults.add("access_token.unknown_connector", times=2)
        assert isinstance(raised(client.start_session), AuthenticationError)


class TestClose:
    def test_closes_every_connection_and_ends_no_conversation(self, bench: Bench) -> None:
        client = bench.client()
        sessions = [client.start_session() for _ in range(3)]
        client.close()
        client.close()
        assert {session.status for session in sessions} == {SessionStatus.CLOSED}
        wait_until(lambda: bench.emulator.connections == 0)
        assert not any(peer.ended for peer in bench.emulator.sessions.values())
        assert bench.ends == []

    def test_context_manager_closes(self, bench: Bench) -> None:
        with bench.emulator.client() as client:
            session = client.start_session()
        assert session.status is SessionStatus.CLOSED

    def test_two_clients_share_nothing(self, bench: Bench, make_bench: Callable[..., Bench]) -> None:
        other = make_bench(agent=EchoAgent(greeting="Bonjour !"))
        with bench.client() as first, other.client() as second:
            one, two = first.start_session(), second.start_session()
            first.close()
            assert two.ask("salut").text == "You said: salut"
            assert one.status is SessionStatus.CLOSED
        assert bench.recorder.calls("on_event") != []
        assert all(call["session"] is one for call in bench.recorder.calls("on_event"))

    def test_repr_says_where_to(self, bench: Bench) -> None:
        client = bench.emulator.client()
        assert bench.emulator.url in repr(client)
        client.close()
        assert "closed" in repr(client)


def test_default_base_urls_of_the_clusters() -> None:
    def url(**where: Any) -> str:
        return Client("token", "example.com", **where)._services.settings.base_url

    assert url() == "https://messaging.us-1.poly.ai"
    assert url(cluster="euw-1") == "https://messaging.euw-1.poly.ai"
    assert url(cluster="new-7") == "https://messaging.new-7.poly.ai"


def test_emulator_behind_an_ip_address_and_a_stopped_one() -> None:
    with Emulator() as emulator, emulator.client() as client:
        client.start_session().close()
    assert raised(client.start_session).code == "client.session_closed"
