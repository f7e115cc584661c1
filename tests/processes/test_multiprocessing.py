"""Worker processes of the standard library, however they are started."""

from __future__ import annotations

import multiprocessing
import sys
from typing import TYPE_CHECKING

import pytest
from programs import Program, environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyai_sync.emulator import Emulator


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_conversation_goes_from_process_to_process(
    method: str, run: Callable[..., Program], emulator: Emulator
) -> None:
    program = run([sys.executable, "-m", "pool", method], env=environment(emulator))
    program.see("^now refuse$")
    emulator.faults.add("access_token.unknown_connector")
    program.say("go on")
    status, out, err = program.ended()
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "access_token.unknown_connector 401 True"
    spoken = [text for role, text in emulator.session.transcript if role == "user"]
    assert spoken == ["here", "elsewhere 0", "elsewhere 1", "elsewhere 2", "here again"]
    assert emulator.sessions_created == 1
    assert emulator.session.refused == ()
