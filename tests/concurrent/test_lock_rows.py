"""The rules of a lock's row, one by one: each stands in the guard of a statement."""

import pytest
from django.db import connections

from django_meanwhile.concurrent import Lock as NamedLock
from django_meanwhile.concurrent.locks.keeper import keeper
from django_meanwhile.fields import DatabaseNow
from django_meanwhile.models import Lock
from django_meanwhile.store.locks import Lost
from django_meanwhile.store.locks_sqlite import RowGrip, Rows

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.parametrize("database", ["default"], indirect=True),
]


@pytest.fixture
def grips(database):
    """Two who want the same lock."""
    found = RowGrip(database, "printer"), RowGrip(database, "printer")
    yield found
    for grip in found:
        grip.close()


def _set(**columns):
    assert Lock.objects.filter(name="printer").update(**columns) == 1


def _row():
    return Lock.objects.get(name="printer")


def test_a_lease_that_is_over_is_not_enough(grips):
    """Who finds it over doubts the holder first, and takes it only when the doubt is a third of a lease old."""
    one, other = grips
    assert one.take(0, "one")
    _set(until=DatabaseNow(-1))
    assert not other.take(0, "other")
    assert _row().doubted_at is not None
    assert not other.take(0, "other"), "the doubt is too young"
    _set(doubted_at=DatabaseNow(-other.lease / 3 - 1))
    assert other.take(0, "other")
    assert other.fence == one.fence + 1
    assert _row().doubted_at is None
    assert "taken by somebody else" in one.loss()
    with pytest.raises(Lost, match="taken by somebody else"):
        one.release(patient=True)
    assert other.loss() is None, "the old holder has taken nothing away"
    other.release(patient=True)


def test_an_old_doubt_is_not_enough(grips):
    """Without a lease that is over, nobody takes anything, however long the holder was doubted."""
    one, other = grips
    assert one.take(0, "one")
    _set(doubted_at=DatabaseNow(-1000))
    assert not other.take(0, "other")
    assert one.loss() is None
    one.release(patient=True)


def test_a_renewal_that_is_in_time_is_not_doubted(grips):
    """Only a holder that has missed a renewal is doubted; looking writes nothing."""
    one, other = grips
    assert one.take(0, "one")
    assert not other.take(0, "other")
    assert _row().doubted_at is None
    _set(until=DatabaseNow(one.lease / 3 - 1))
    assert not other.take(0, "other")
    assert _row().doubted_at is not None
    one.release(patient=True)
    assert _row().until is None
    assert _row().doubted_at is None


def test_a_renewal_clears_the_doubt(grips, database):
    """Also of a lease that is over: while nobody else came, nothing was lost."""
    one, other = grips
    assert one.take(0, "one")
    _set(until=DatabaseNow(-1), doubted_at=DatabaseNow(-1000))
    rows = Rows(database)
    assert rows.renew([("printer", one.fence)], 30) == {("printer", one.fence)}
    assert _row().doubted_at is None
    assert not other.take(0, "other")
    one.release(patient=True)
    rows.close()


def test_a_renewal_is_fenced(grips, database):
    """Neither another fence nor a lock that was given back is renewed."""
    one, _ = grips
    assert one.take(0, "one")
    rows = Rows(database)
    assert rows.renew([("printer", one.fence - 1), ("other", 1)], 30) == set()
    before = _row().until
    assert rows.renew([("printer", one.fence + 1)], 30) == set()
    assert _row().until == before
    one.release(patient=True)
    assert rows.renew([("printer", one.fence)], 30) == set()
    assert _row().until is None
    rows.close()


def test_a_lease_that_ran_out_is_given_back_in_good_order(grips):
    """If nobody else came, the holder was alone all the time: no loss."""
    one, _ = grips
    assert one.take(0, "one")
    _set(until=DatabaseNow(-100))
    assert one.loss() is None
    one.release(patient=True)
    with pytest.raises(Lost, match="given back by somebody else"):
        one.release(patient=True)


def test_a_writer_in_the_way_is_waited_for(grips, database):
    """No answer is "database is locked": a single try waits for the writer, and then takes the lock."""
    import sqlite3
    import threading

    one, _ = grips
    name = connections[database].settings_dict["NAME"]
    writer = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(1.5, writer.execute, ["COMMIT"])
    timer.start()
    assert one.take(0, "one")
    timer.join()
    writer.close()
    one.release(patient=True)


def test_the_keeper_renews_and_tells_of_a_loss(database, settings, caplog):
    """One thread renews what is held; what somebody else has taken it lets go, and says so once."""
    from tests.playground import eventually

    settings.MEANWHILE = {"LEASE": 1.0}
    lock = NamedLock("printer", using=database)
    lock.acquire()
    assert keeper.is_alive
    first = _row().until
    eventually(lambda: _row().until > first, what="the lease is renewed")
    Lock.objects.filter(name="printer").update(fence=lock.fence + 1)
    eventually(lambda: not keeper.is_alive, what="the keeper has nothing left to renew")
    assert [record.getMessage() for record in caplog.records] == [
        "lock 'printer' was lost while it was held: its lease ran out, and somebody else took it"
    ]
    from django_meanwhile.concurrent import LockLost

    with pytest.raises(LockLost, match="taken by somebody else"):
        lock.release()


def test_a_database_in_memory_is_this_processs_own(database, monkeypatch):
    """Nobody else can see it: the line is the lock, and no row is written."""
    monkeypatch.setattr(type(connections[database]), "is_in_memory_db", lambda _self: True)
    with NamedLock("printer", using=database) as lock:
        first = lock.fence
    with NamedLock("printer", using=database) as lock:
        assert lock.fence > first
    assert not Lock.objects.exists()
