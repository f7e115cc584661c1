"""The pytest plugin and the helpers that come with it."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from polyai_sync import hooks
from polyai_sync.emulator import EchoAgent
from polyai_sync.testing import HookRecorder, ManualClock, wait_until

if TYPE_CHECKING:
    from polyai_sync import Client
    from polyai_sync.emulator import Emulator

pytest_plugins = ["pytester"]


# --- fixtures -----------------------------------------------------------------------------------------------------


def test_the_client_talks_to_the_emulator(polyai_emulator: Emulator, polyai_client: Client) -> None:
    with polyai_client.start_session() as session:
        assert session.next_message().text == polyai_emulator.session.transcript[0][1]
    assert polyai_emulator.session.connections_total == 1


@pytest.mark.polyai_emulator(agent=EchoAgent(greeting="From the marker."), port=0)
@pytest.mark.polyai_client(streaming=False)
def test_markers_change_both(polyai_emulator: Emulator, polyai_client: Client) -> None:
    with polyai_client.start_session() as session:
        assert session.next_message().text == "From the marker."
    assert polyai_emulator.session.settings["streaming_enabled"] is False


def test_each_test_has_its_own_emulator(polyai_emulator: Emulator) -> None:
    assert polyai_emulator.sessions_created == 0
    assert polyai_emulator.log == ()


def test_a_third_partys_tests_need_no_import_and_no_conftest(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import threading

        before = threading.active_count()

        def test_talks(polyai_client, polyai_emulator):
            with polyai_client.start_session() as session:
                session.next_message()
                assert session.ask("help").text
            global left
            left = polyai_client

        def test_left_nothing_behind():
            assert threading.active_count() == before
        """
    )
    result = pytester.runpytest_subprocess("-q", "--strict-markers", "-W", "error")
    result.assert_outcomes(passed=2)


def test_a_conftest_can_change_the_options_of_all(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest
        from polyai_sync.emulator import EchoAgent

        @pytest.fixture
        def polyai_emulator_options():
            return {"agent": EchoAgent(greeting="All of us."), "host": "shop.example.com"}

        @pytest.fixture
        def polyai_client_options():
            return {"app_info": "shop/1.4"}
        """
    )
    pytester.makepyfile(
        """
        import pytest
        from polyai_sync.emulator import EchoAgent

        def test_options(polyai_emulator, polyai_client):
            with polyai_client.start_session() as session:
                assert session.next_message().text == "All of us."
            assert polyai_emulator.host == "shop.example.com"
            assert "shop/1.4" in polyai_emulator.log[0].headers["User-Agent"]

        @pytest.mark.polyai_emulator(agent=EchoAgent(greeting="Me."))
        class TestMarkers:
            def test_class(self, polyai_client):
                with polyai_client.start_session() as session:
                    assert session.next_message().text == "Me."

            @pytest.mark.polyai_emulator(agent=EchoAgent(greeting="Closer."))
            def test_closest_wins(self, polyai_client):
                with polyai_client.start_session() as session:
                    assert session.next_message().text == "Closer."
        """
    )
    pytester.runpytest_subprocess("-q", "--strict-markers", "-W", "error").assert_outcomes(passed=3)


def test_a_run_that_does_not_use_it_imports_neither_aiohttp_nor_asyncio_servers(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_light():
            assert "polyai_sync.testing" in sys.modules
            assert "aiohttp" not in sys.modules
            assert "polyai_sync.emulator" not in sys.modules
        """
    )
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=1)


def test_without_aiohttp_only_the_fixtures_fail_and_say_why(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys; sys.modules['aiohttp'] = None")
    pytester.makepyfile("def test_it(polyai_emulator): pass\ndef test_other(): pass")
    result = pytester.runpytest_subprocess("-q")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*The emulator needs aiohttp: pip install 'polyai-sync?emulator?'*"])


def test_importing_it_costs_next_to_nothing_beside_the_package() -> None:
    script = (
        "import sys, pytest, polyai_sync; before = set(sys.modules)\n"
        "import polyai_sync.testing\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "['polyai_sync.testing']\n"


# --- the hook recorder --------------------------------------------------------------------------------------------

ALL = (*hooks.OBSERVERS, *hooks.POLICIES)


def test_a_recorder_implements_every_specified_hook() -> None:
    recorder = HookRecorder()
    specified = {name for name, value in vars(hooks).items() if hasattr(value, "polyai_sync_spec")}
    assert specified == set(ALL)
    assert all(hasattr(getattr(recorder, name), "polyai_sync_impl") for name in specified)


def test_a_recorder_is_an_ordinary_plugin_with_every_hook(polyai_emulator: Emulator) -> None:
    with polyai_emulator.client(plugins=[HookRecorder(), HookRecorder(name="second")]) as client:
        by_name = {plugin.name: plugin for plugin in client.plugins}
    assert set(by_name["hook-recorder"].hooks) == set(by_name["second"].hooks) == set(ALL)


def test_a_recorder_writes_down_what_happened_with_all_arguments(polyai_emulator: Emulator) -> None:
    recorder = HookRecorder()
    with polyai_emulator.client(plugins=[recorder]) as client, client.start_session() as session:
        session.next_message()
        session.end()
    (start,) = recorder.calls("on_session_start")
    assert start["session"] is session
    assert start["capabilities"].heartbeat_interval_seconds == 30
    assert [call["reason"] for call in recorder.wait_for("on_session_end")] == ["REASON_USER_END"]
    assert recorder.names.index("on_request") < recorder.names.index("on_connect") < recorder.names.index("on_message")
    for name, arguments in recorder.all_calls:
        assert arguments.keys() == inspect.signature(getattr(hooks, name)).parameters.keys()
    recorder.clear()
    assert recorder.all_calls == []


def test_a_recorder_can_answer_for_a_policy(polyai_emulator: Emulator) -> None:
    polyai_emulator.faults.add("access_token.creation_failed", times=2)
    recorder = HookRecorder(retry_delay=lambda attempt, **_: 0.0 if attempt < 3 else None)
    with polyai_emulator.client(plugins=[recorder], load_plugins=False) as client:
        client.mint_access_token()
    assert [call["attempt"] for call in recorder.calls("retry_delay")] == [1, 2]
    assert [call["status"] for call in recorder.calls("on_response")] == [500, 500, 200]


def test_an_answer_for_no_policy_is_a_slip() -> None:
    with pytest.raises(ValueError, match="no policy is called on_error"):
        HookRecorder(on_error=1)


def test_waiting_for_a_call_wakes_up_with_it_and_gives_up_with_a_reason() -> None:
    recorder = HookRecorder()
    threads = [threading.Thread(target=recorder.on_error, kwargs={"error": number}) for number in range(3)]
    for thread in threads:
        thread.start()
    assert sorted(call["error"] for call in recorder.wait_for("on_error", 3)) == [0, 1, 2]
    for thread in threads:
        thread.join()
    with pytest.raises(AssertionError, match=r"on_send was not called 1 times within 0.01 s; called were on_error"):
        recorder.wait_for("on_send", timeout=0.01)


# --- small things -------------------------------------------------------------------------------------------------


def test_a_manual_clock_moves_when_told() -> None:
    clock = ManualClock(start=5.0)
    assert (clock(), clock()) == (5.0, 5.0)
    assert clock.advance(2.5) == clock() == 7.5
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_wait_until_returns_the_answer_or_says_what_was_not_so() -> None:
    answers = iter([0, "", "here"])
    assert wait_until(lambda: next(answers)) == "here"

    def never() -> bool:
        return False

    with pytest.raises(AssertionError, match=r"not true within 0.01 s: never"):
        wait_until(never, timeout=0.01)
