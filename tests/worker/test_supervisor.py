"""The supervisor's main thread, without children: what it does for its own threads."""

import logging

import pytest

from django_meanwhile.worker.supervisor import Supervisor

from .fakes import plan


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
