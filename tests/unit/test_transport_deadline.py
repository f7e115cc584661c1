import math
import time

from polyai_sync.transport.deadline import Deadline


def test_never_has_no_end():
    deadline = Deadline.after(None)
    assert deadline.remaining() is None
    assert not deadline.expired()
    assert deadline.clip(7) == 7
    assert deadline.clip(None) is None
    assert Deadline.after(math.inf).remaining() is None


def test_time_runs_down_to_nought_and_not_below():
    deadline = Deadline.after(60)
    assert 59 < deadline.remaining() <= 60
    assert not deadline.expired()
    over = Deadline.after(-1)
    assert over.remaining() == 0
    assert over.expired()
    assert Deadline.after(0).expired()


def test_clip_gives_the_smaller():
    deadline = Deadline.after(10)
    assert deadline.clip(3) == 3
    assert 9 < deadline.clip(20) <= 10
    assert 9 < deadline.clip(None) <= 10


def test_within_is_whichever_comes_first():
    assert 2 < Deadline.after(10).within(3).remaining() <= 3
    assert 2 < Deadline.after(3).within(10).remaining() <= 3
    assert 2 < Deadline.after(None).within(3).remaining() <= 3
    assert 2 < Deadline.after(3).within(None).remaining() <= 3
    assert Deadline.after(None).within(None).remaining() is None


def test_a_step_of_the_wall_clock_changes_nothing(monkeypatch):
    deadline = Deadline.after(60)  # pitfalls.md 30
    monkeypatch.setattr(time, "time", lambda: 1e12)
    assert 59 < deadline.remaining() <= 60


def test_repr_says_what_is_left():
    assert repr(Deadline.after(None)) == "Deadline(never)"
    assert repr(Deadline.after(1)).startswith("Deadline(in ")
