"""The supervisor's main thread, without children: what it does for its own threads."""

import logging
import os
import signal

import pytest

from django_meanwhile.worker.offspring import START_WITHIN
from django_meanwhile.worker.plan import ChildPlan
from django_meanwhile.worker.supervisor import Supervisor
from django_meanwhile.worker.verdict import Cause
from tests.playground import eventually

from .fakes import ManualClock, plan


class FakePart:
    """A thread of the supervisor's that a bug has ended."""

    name = "beat"

    def __init__(self, *, alive):
        self.is_alive = alive
        self.starts = 0

    def start(self):
        self.starts += 1
        self.is_alive = True


@pytest.mark.django_db
def test_a_thread_that_a_bug_has_ended_is_started_again(caplog):
    """A dead beat would cost every child its lease: it is started again, once, and the log says so."""
    supervisor = Supervisor(plan(), log_level=logging.INFO)
    dead, alive = FakePart(alive=False), FakePart(alive=True)
    supervisor._parts = (dead, alive)
    supervisor._revive_parts()
    supervisor._revive_parts()
    assert (dead.starts, alive.starts) == (1, 0)
    assert "the beat has ended; it is started again" in caplog.text


class FullPipe:
    """A child that is leaving, whose pipe has no room for the first orders."""

    def __init__(self, supervisor, *, refused):
        self.plan = plan().children[0]
        self.leave_by = supervisor._clock.monotonic() + 60
        self.knows_that_it_leaves = False
        self.orders = 0
        self._refused = refused
        self.table = self

    def entries(self):
        return []

    def leave(self, by):
        self.orders += 1
        self.knows_that_it_leaves = self.orders > self._refused


@pytest.mark.django_db
def test_an_order_to_leave_is_given_until_it_fits():
    """A drain that met a full pipe is not lost: it is repeated at each look, and no more once it was taken."""
    supervisor = Supervisor(plan(), log_level=logging.INFO)
    child = FullPipe(supervisor, refused=2)
    for _ in range(5):
        supervisor._see_off(child, supervisor._clock.monotonic())
    assert child.orders == 3


HANGING = """
import os
os.mkdir(os.environ["MEANWHILE_TEST_HERE"])
open(os.environ["MEANWHILE_TEST_FIFO"]).read()  # until somebody opens the other end: for ever
"""


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["shared", "process"])
def test_a_child_that_hangs_while_it_imports_the_project_is_killed_and_its_stack_told(
    kind, tmp_path, monkeypatch, caplog
):
    """Without a pulse for START_WITHIN after its birth it is hung, whatever its kind; a second earlier it is not."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "hanging_settings.py").write_text(HANGING)
    monkeypatch.setenv("MEANWHILE_TEST_FIFO", str(fifo))
    monkeypatch.setenv("MEANWHILE_TEST_HERE", str(tmp_path / "here"))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "hanging_settings")
    monkeypatch.syspath_prepend(str(tmp_path))
    supervisor = Supervisor(plan(), log_level=logging.INFO)
    supervisor._clock = clock = ManualClock()
    wanted = ChildPlan(kind=kind, threads=1 if kind == "shared" else 0)
    supervisor._spawn(wanted)
    (child,) = supervisor._children
    try:
        eventually((tmp_path / "here").exists, what="the child imports the settings")
        clock.advance(START_WITHIN - 1)
        supervisor._watch()
        assert child.cause is Cause.ITSELF
        clock.advance(2)
        monkeypatch.setattr(clock, "monotonic", _ticking(clock))  # the kill waits for the stacks, here for as long
        supervisor._watch()
        assert child.cause is Cause.HUNG
        assert child.process.wait(10) == -signal.SIGKILL
    finally:
        child.process.kill()
        child.process.wait()
        supervisor._reap()
    assert "gives no sign of life; it is killed" in caplog.text
    assert "hung while it started" in caplog.text
    assert "hanging_settings.py" in caplog.text


def _ticking(clock):
    def monotonic():
        clock.now += 0.0001
        return clock.now

    return monotonic
