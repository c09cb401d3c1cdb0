"""The beat: whose lease is renewed, where the fence goes, and what an error means."""

import threading

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError

from django_meanwhile.conf import real_clock
from django_meanwhile.worker import beat as module
from django_meanwhile.worker.beat import Beat
from tests.run.jobs import ManualClock
from tests.worker.fakes import WITHIN, FakeChild, FakeStore, away, plan

LEASE, MARGIN = 30.0, 6.0
BUSY = OperationalError("database is locked")


class Bench:
    """A beat that is beaten by hand."""

    def __init__(self, monkeypatch, *children, one_writer=False):
        self.store = FakeStore(one_writer=one_writer)
        self.clock = ManualClock()
        self.children = children
        self.resets = []
        monkeypatch.setattr(module, "reset_service_connection", self.resets.append)
        self.beat = Beat(plan(lease=LEASE, margin=MARGIN), self.store, self.clock, lambda: self.children)


@pytest.fixture
def make(monkeypatch):
    """Make a bench with these children."""

    def make_one(*children, one_writer=False):
        return Bench(monkeypatch, *children, one_writer=one_writer)

    return make_one


def test_one_statement_renews_all_children(make):
    """However many there are, there is one UPDATE, with the plan's lease."""
    children = [FakeChild() for _ in range(5)]
    bench = make(*children)
    assert bench.beat.beat()
    ((worker_ids, lease),) = bench.store.called("renew")
    assert set(worker_ids) == {child.worker_id for child in children}
    assert lease == LEASE


def test_only_children_that_deserve_it_are_renewed(make):
    """One that is not ready, or stopped, or hung, or lost gets no more time, and its fence stays where it was."""
    good, bad = FakeChild(), FakeChild(ready=False)
    bad.table.fence = 7.0
    bench = make(good, bad)
    bench.beat.beat()
    assert set(bench.store.called("renew")[0][0]) == {good.worker_id}
    assert bad.table.fence == 7.0


def test_without_children_nothing_is_asked(make):
    """And that counts neither as a renewal nor as a failure."""
    bench = make()
    assert bench.beat.beat()
    assert bench.store.calls == []
    assert bench.beat.renewals == 0
    assert bench.beat.steady_for(1e9)


def test_the_fence_moves_with_the_sending_not_with_the_reply(make):
    """A renewal that took ten seconds gives ten seconds less: the lease may have begun when it was sent."""
    child = FakeChild()
    bench = make(child)
    sent = bench.clock.now

    def slow(worker_ids, lease):
        bench.clock.advance(10)
        return set(worker_ids)

    bench.store.plan("renew", slow)
    bench.beat.beat()
    assert child.table.fence == sent + LEASE - MARGIN


def test_each_beat_moves_the_fence(make):
    """As long as beats come, no fence ever passes."""
    child = FakeChild()
    bench = make(child)
    for _ in range(10):
        bench.beat.beat()
        bench.clock.advance(10)
        assert child.table.fence > bench.clock.now


def test_a_child_that_was_not_renewed_is_lost(make):
    """Its row is dead: somebody rescued its jobs. Its fence is not moved, its neighbours go on."""
    dead, alive = FakeChild(), FakeChild()
    dead.table.fence = alive.table.fence = 5.0
    bench = make(dead, alive)
    bench.store.plan("renew", {alive.worker_id})
    assert bench.beat.beat()
    assert (dead.lost, alive.lost) == (True, False)
    assert dead.table.fence == 5.0
    assert alive.table.fence == bench.clock.now + LEASE - MARGIN


@pytest.mark.parametrize("error", [away(), InterfaceError("closed"), DatabaseError("strange")])
@pytest.mark.parametrize("one_writer", [False, True])
def test_an_error_moves_no_fence_and_loses_no_child(make, error, one_writer):
    """Nobody knows whether the lease was renewed: the fence stays, nobody is declared lost, the connection is new."""
    child = FakeChild()
    child.table.fence = 5.0
    bench = make(child, one_writer=one_writer)
    bench.store.plan("renew", error)
    assert not bench.beat.beat()
    assert child.table.fence == 5.0
    assert not child.lost
    assert bench.resets == ["default"]
    assert not bench.beat.steady_for(0.1)


def test_a_locked_file_fences_nobody(make):
    """On SQLite, while nobody can write, nobody can sweep: the fence moves as if the renewal had been made."""
    child = FakeChild()
    child.table.fence = 5.0
    bench = make(child, one_writer=True)
    bench.store.plan("renew", BUSY, BUSY, BUSY)
    for _ in range(3):
        bench.clock.advance(10)
        assert not bench.beat.beat()
        assert child.table.fence == bench.clock.now + LEASE - MARGIN
    assert bench.beat.renewals == 0, "but it is no renewal: whoever judges by it must wait"
    assert bench.resets == [], "and the connection is as good as ever"


def test_a_locked_file_never_moves_a_fence_back(make):
    """A fence that is further on stays there."""
    child = FakeChild()
    child.table.fence = 10**9
    bench = make(child, one_writer=True)
    bench.store.plan("renew", BUSY)
    bench.beat.beat()
    assert child.table.fence == 10**9


def test_a_lock_timeout_elsewhere_fences(make):
    """The same words from a database with many writers are an error like others: somebody else could sweep."""
    child = FakeChild()
    child.table.fence = 5.0
    bench = make(child, one_writer=False)
    bench.store.plan("renew", BUSY)
    bench.beat.beat()
    assert child.table.fence == 5.0


def test_renewals_are_counted_in_a_row(make):
    """A failure begins anew: only an unbroken streak lets a sweeper on SQLite judge others."""
    bench = make(FakeChild())
    counts = []
    bench.store.plan("renew", *[lambda ids, lease: set(ids)] * 3, BUSY, lambda ids, lease: set(ids))
    for _ in range(5):
        bench.beat.beat()
        counts.append(bench.beat.renewals)
    assert counts == [1, 2, 3, 0, 1]


def test_steadiness_is_the_time_since_the_last_failure(make):
    """Never failed: steady for ever. Failed: steady again after that long."""
    bench = make(FakeChild())
    assert bench.beat.steady_for(1e9)
    bench.store.plan("renew", away())
    bench.beat.beat()
    bench.clock.advance(29)
    assert bench.beat.steady_for(29)
    assert not bench.beat.steady_for(30)
    bench.beat.beat()
    assert not bench.beat.steady_for(30), "a success makes no failure undone"
    bench.clock.advance(1)
    assert bench.beat.steady_for(30)


def test_an_outage_is_said_once_and_loudly(make, caplog):
    """The first failure of a streak is a warning; the ones after it do not fill the log."""
    caplog.set_level("DEBUG", logger="django_meanwhile")
    bench = make(FakeChild())
    bench.store.plan("renew", away(), away(), away())
    for _ in range(3):
        bench.beat.beat()
    bench.beat.beat()
    bench.store.plan("renew", away())
    bench.beat.beat()
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "DEBUG", "DEBUG", "WARNING"]


def test_a_child_that_is_buried_during_a_renewal_does_not_end_the_beat():
    """Its table is closed by the main thread while the statement is on its way; its neighbours are renewed."""
    from django_meanwhile.worker.slots import Flag, SlotTable

    leaving, staying = FakeChild(), FakeChild()
    for child in (leaving, staying):
        child.table = SlotTable.create(8)
        child.table.raise_flag(Flag.READY)
    store = FakeStore()

    def renew(worker_ids, lease):
        leaving.table.close()
        return set(worker_ids)

    store.plan("renew", renew)
    clock = ManualClock()
    beat = Beat(plan(lease=LEASE, margin=MARGIN), store, clock, lambda: (leaving, staying))
    assert beat.beat()
    assert staying.table.fence == clock.now + LEASE - MARGIN
    staying.table.close()


def test_after_a_failure_it_beats_again_soon():
    """In a thread of its own: it does not wait for a whole beat of an hour while the lease runs out."""
    store = FakeStore()
    store.plan("renew", away())
    beat = Beat(plan(beat=3600.0), store, real_clock(), lambda: [FakeChild()])
    again = threading.Event()

    def renew(worker_ids, lease):
        again.set()
        return set(worker_ids)

    store.plan("renew", renew)
    beat.start()
    try:
        assert again.wait(WITHIN)
        assert beat.is_alive
    finally:
        beat.stop()
        assert beat.join(WITHIN)
