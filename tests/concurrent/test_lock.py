"""A named lock in one process: one holder at a time, first come first served, and nothing left behind."""

import asyncio
import os
import socket
import threading
import time

import pytest
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import connections, transaction
from django.utils.connection import ConnectionDoesNotExist

from django_meanwhile import concurrent
from django_meanwhile.concurrent import InsideTransaction, Lock, LockTimeout, WouldDeadlock
from django_meanwhile.concurrent.locks import hold as lock_hold
from django_meanwhile.concurrent.locks import line as lock_line
from django_meanwhile.concurrent.locks.keeper import Keeper, keeper
from tests.playground import eventually

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 20


@pytest.fixture(autouse=True)
def _nothing_left():
    yield
    assert not lock_line._lines, "somebody still stands in a line"
    assert eventually(lambda: not keeper.is_alive), "the keeper ends with the last lock"


class Thread:
    """A thread that takes a lock, and gives it back when told."""

    def __init__(self, lock, **options):
        self.lock, self.options = lock, options
        self.taken, self.let_go = threading.Event(), threading.Event()
        self.result = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            self.result = self.lock.acquire(**self.options)
            if self.result:
                self.taken.set()
                assert self.let_go.wait(PATIENCE)
                self.lock.release()
        except BaseException as error:
            self.result = error
        finally:
            connections.close_all()

    def end(self):
        self.let_go.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.result


def _stands_in_line(database, name, number):
    eventually(lambda: len(lock_line._lines[database, name].turns) == number, what=f"{number} in the line")


def test_one_holder_at_a_time(database):
    """Who comes second waits until the first has let go, and each has a larger fence than the one before."""
    lock = Lock("printer", using=database)
    with lock:
        first = lock.fence
        assert lock.held
        other = Lock("printer", using=database)
        waiting = Thread(other)
        _stands_in_line(database, "printer", 2)
        assert not other.held
    assert not lock.held
    assert waiting.taken.wait(PATIENCE)
    assert other.fence > first
    assert waiting.end() is True


def test_different_names_do_not_wait_for_each_other(database):
    """Two locks are two locks."""
    with Lock("one", using=database), Lock("two", 0, using=database) as two:
        assert two.held


def test_a_try_does_not_wait(database):
    """With timeout=0 or blocking=False the answer is False while somebody holds it, and True afterwards."""
    lock = Lock("printer", using=database)
    holder = Thread(lock)
    assert holder.taken.wait(PATIENCE)
    other = Lock("printer", using=database)
    assert other.acquire(timeout=0) is False
    assert other.acquire(False) is False
    assert other.acquire(blocking=False) is False
    assert not other.held
    holder.end()
    assert other.acquire(timeout=0) is True
    other.release()


def test_a_timeout_names_the_lock_and_its_holder(database):
    """LockTimeout says which lock, how long, and which thread of which process of which host has it."""
    holder = Thread(Lock("printer", using=database))
    assert holder.taken.wait(PATIENCE)
    began = time.monotonic()
    with pytest.raises(LockTimeout) as raised, Lock("printer", timeout=0.2, using=database):
        pytest.fail("there are two holders")
    assert time.monotonic() - began >= 0.2
    text = str(raised.value)
    assert text.startswith("Lock('printer') was not free within 0.2 s")
    for part in (f"process {os.getpid()}", f"thread {holder.thread.name}", f"host {socket.gethostname()}", "since"):
        assert part in text
    with pytest.raises(LockTimeout, match=r"Lock\('printer'\) is not free: it is held by host"):
        Lock("printer", 0, using=database).__enter__()
    assert isinstance(raised.value, TimeoutError)
    holder.end()


def test_those_who_wait_are_served_in_order(database):
    """Ten threads get the lock in the order in which they came, on one connection at a time."""
    lock = Lock("printer", using=database)
    order, earlier = [], set(lock_hold._grips)  # of other tests, as long as the collector has not come by

    def job(number):
        with Lock("printer", using=database):
            order.append(number)
        connections.close_all()

    threads = [threading.Thread(target=job, args=(number,)) for number in range(10)]
    with lock:
        for number, thread in enumerate(threads):
            thread.start()
            _stands_in_line(database, "printer", number + 2)
        assert len(set(lock_hold._grips) - earlier) == 1, "those who wait have no connection"
    for thread in threads:
        thread.join(PATIENCE)
    assert order == list(range(10))


def test_who_gives_up_leaves_the_line(database):
    """A waiter whose time is over is passed by; the next one gets its turn."""
    holder = Thread(Lock("printer", using=database))
    assert holder.taken.wait(PATIENCE)
    first = Thread(Lock("printer", using=database), timeout=0.05)
    second = Thread(Lock("printer", using=database))
    first.thread.join(PATIENCE)
    assert first.result is False
    holder.end()
    assert second.taken.wait(PATIENCE)
    second.end()


def test_taking_it_twice_would_deadlock(database):
    """The thread that holds it is told at once, instead of waiting for itself; also in a try, and by another object."""
    lock = Lock("printer", using=database)
    with lock:
        for options in ({}, {"timeout": 0}, {"timeout": 5}):
            with pytest.raises(WouldDeadlock, match="printer"):
                Lock("printer", using=database).acquire(**options)
        assert lock.held
        lock.raise_if_lost()


def test_it_is_given_back_when_the_block_fails(database):
    """The body's error goes through, and the lock is free."""
    with pytest.raises(ZeroDivisionError), Lock("printer", using=database):
        1 / 0  # noqa: B018
    with Lock("printer", 0, using=database):
        pass


def test_what_is_not_held_cannot_be_given_back(database):
    """As with threading.Lock: RuntimeError."""
    lock = Lock("printer", using=database)
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()
    with pytest.raises(RuntimeError, match="not held"):
        lock.raise_if_lost()
    with pytest.raises(RuntimeError, match="not held"):
        _ = lock.fence
    with lock:
        pass
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()


def test_any_thread_may_give_it_back(database):
    """Taken here, released there."""
    lock = Lock("printer", using=database)
    assert lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join(PATIENCE)
    assert not lock.held
    with Lock("printer", 0, using=database):
        pass


def test_holder_tells_who_has_it(database):
    """None when it is free; the thread, the process and the host when it is not."""
    lock = Lock("printer", using=database)
    assert lock.holder() is None
    with lock:
        found = Lock("printer", using=database).holder()
        assert found.thread == threading.current_thread().name
        assert "process" in str(found)
    assert lock.holder() is None


def test_a_transaction_outside_is_refused(database):
    """Inside atomic() the lock would be free before the commit: InsideTransaction names both ways out."""
    with transaction.atomic(using=database), pytest.raises(InsideTransaction) as raised:
        Lock("printer", using=database).acquire()
    assert "outside_transaction=True" in str(raised.value)
    assert "Lock('printer') inside atomic() on database " in str(raised.value)
    assert f"{database!r}: the lock would be free before the transaction commits" in str(raised.value)
    assert "begin the transaction inside it" in str(raised.value)
    assert "another thread" not in str(raised.value), "that is what the reason is for calls, not for a lock"


def test_outside_transaction(database):
    """It is taken all the same where that can be; on SQLite this very transaction is in its way, which is said."""
    lock = Lock("printer", using=database, outside_transaction=True)
    with transaction.atomic(using=database):
        if connections[database].vendor == "sqlite":
            with pytest.raises(InsideTransaction, match="one writer at a time"):
                lock.acquire()
        else:
            with lock:
                assert lock.held


def test_a_transaction_left_open_is_told(database, caplog):
    """Who gives the lock back with a transaction open hides what was written from the next holder: an ERROR."""
    lock = Lock("printer", using=database)
    lock.acquire()
    with transaction.atomic(using=database):
        lock.release()
    (record,) = [each for each in caplog.records if each.name == "django_meanwhile.concurrent"]
    assert record.levelname == "ERROR"
    assert f"given back while a transaction is open on database '{database}'" in record.getMessage()


def test_sync_words_in_a_loop_are_refused(database):
    """A wait would stop the loop: the error shows the async form."""

    async def main():
        with pytest.raises(SynchronousOnlyOperation, match="async with"):
            Lock("printer", using=database).acquire()
        with pytest.raises(SynchronousOnlyOperation, match="async with"), Lock("printer", using=database):
            pass

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", "x" * 201, "a\x00b", "\ud800"])
def test_names_that_cannot_be(name):
    """A name that some database could not keep is refused when the lock is made."""
    with pytest.raises(ValueError, match="a name has 1 to 200 characters"):
        Lock(name)


def test_values_that_cannot_be():
    """Types and ranges are looked at when the lock is made."""
    with pytest.raises(TypeError, match="a name is a string"):
        Lock(3)
    for timeout in (-1, "5", True, float("nan")):
        with pytest.raises(ValueError, match="seconds to wait"):
            Lock("printer", timeout)
    with pytest.raises(ValueError, match="a single try does not wait"):
        Lock("printer").acquire(blocking=False, timeout=3)


def test_an_unknown_alias_is_an_error(database):
    """And leaves no line behind."""
    with pytest.raises(ConnectionDoesNotExist):
        Lock("printer", using="nowhere").acquire()


def test_a_vendor_without_locks_is_named(database, monkeypatch):
    """Another vendor is refused in words, before anything is taken."""
    from django_meanwhile.store import locks

    monkeypatch.setattr(locks, "_GRIPS", {})
    with pytest.raises(ImproperlyConfigured, match="there are locks on"):
        Lock("printer", using=database).acquire()


def test_an_error_of_the_database_holds_nothing(database, monkeypatch):
    """A database that cannot be asked raises its own error, and the next one in the line is not stuck."""
    from django_meanwhile.store.locks import Grip

    def fail(*_args):
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(lock_hold, "make_grip", fail)
        with pytest.raises(ZeroDivisionError):
            Lock("printer", using=database).acquire()
    assert isinstance(Grip, type)
    with Lock("printer", 0, using=database):
        pass


def test_missing_tables_are_named(database):
    """Before the migration, the error says what to run."""
    from django.db import DatabaseError

    vendor = connections[database].vendor
    old, new = ("meanwhile_lock", "hidden_lock") if vendor == "sqlite" else ("meanwhile_lock_fence", "hidden_fence")
    kind = "TABLE" if vendor == "sqlite" else "SEQUENCE"
    with connections[database].cursor() as cursor:
        cursor.execute(f"ALTER {kind} {old} RENAME TO {new}")
        try:
            with pytest.raises(DatabaseError) as raised:
                Lock("printer", using=database).acquire()
        finally:
            cursor.execute(f"ALTER {kind} {new} RENAME TO {old}")
    assert "manage.py migrate meanwhile" in "".join(raised.value.__notes__)


def test_it_leaks_nothing(database):
    """After 500 uses there are no more connections, threads and descriptors than before (an earlier test's may go)."""
    import psutil

    def opened():
        if connections[database].vendor == "sqlite":
            return len(psutil.Process().open_files())
        with connections[database].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            return cursor.fetchone()[0]

    with Lock("printer", using=database):
        pass
    eventually(lambda: not keeper.is_alive)
    before, threads, descriptors = opened(), threading.active_count(), psutil.Process().num_fds()
    for number in range(500):
        with Lock(f"printer {number % 3}", using=database):
            pass
    eventually(lambda: opened() <= before, what="the server has no more connections than before")
    eventually(lambda: threading.active_count() <= threads)
    assert psutil.Process().num_fds() <= descriptors


def test_the_public_name():
    """It is where the documentation says."""
    assert concurrent.Lock is Lock


def test_a_new_thread_is_not_one_that_has_ended(database):
    """A thread takes a lock and ends; one that gets its identifier waits as anybody does."""
    lock, seen, ends = Lock("printer", using=database), [], []

    def take():
        seen.append(threading.get_ident())
        lock.acquire()
        connections.close_all()

    def take_again():
        if threading.get_ident() != seen[0]:
            return
        try:
            ends.append(Lock("printer", using=database).acquire(timeout=0.01))
        except WouldDeadlock as error:
            ends.append(error)
        connections.close_all()

    run_in_a_thread(take)
    for _ in range(10_000):  # other threads come and go, and may have got it first
        run_in_a_thread(take_again)
        if ends:
            break
    lock.release()
    assert ends == [False], "no thread got the identifier again" if not ends else ends[0]


def run_in_a_thread(function):
    """Run it in a new thread, to its end."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(PATIENCE)


def test_a_lock_that_cannot_be_kept_is_not_held(database, monkeypatch):
    """No thread can be started that would renew its lease: whoever takes it is told, and the next one gets it."""

    def fail(_grip):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(keeper, "keep", fail)
        with pytest.raises(RuntimeError, match="can't start"):
            Lock("printer", using=database).acquire()
    with Lock("printer", PATIENCE, using=database) as lock:
        assert lock.held


class Leased:
    """What a keeper needs of a grip."""

    lease, fence, alias, name = 0.03, 1, "default", "printer"


def test_a_keeper_that_could_not_be_started_is_started_by_the_next(monkeypatch):
    """Nor is one for ever that has ended by an error of its own."""

    def fail(_thread):
        raise RuntimeError("can't start new thread")

    one = Keeper()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start"):
            one.keep(Leased())
    assert not one.is_alive
    ended, renewed, first = [], threading.Event(), Leased()
    monkeypatch.setattr(threading, "excepthook", ended.append)
    monkeypatch.setattr(one, "_renew", lambda *_: 1 / 0)
    one.keep(first)
    eventually(lambda: ended and not one.is_alive)
    monkeypatch.setattr(one, "_renew", lambda *_: renewed.set() or True)
    one.keep(first)
    assert renewed.wait(PATIENCE)
    one.let_go(first)
    eventually(lambda: not one.is_alive)
