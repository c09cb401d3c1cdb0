"""The garbage collector may run a finalizer in a thread that is changing what a lock guards."""

import threading

import pytest

from django_meanwhile.concurrent import parallel, parallel_map
from django_meanwhile.concurrent.threads import budget
from django_meanwhile.concurrent.threads.held import Lock, is_held_here
from django_meanwhile.concurrent.together.scope import current_member
from tests.concurrent.conftest import PATIENCE


def in_a_thread(function):
    """Run it in a thread that may hang without holding up the tests; return whether it ended."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return not thread.is_alive()


def test_a_lock_is_held_by_one_thread():
    """The thread that has it is told apart from all others."""
    lock = Lock()
    seen = []
    with lock:
        with lock:
            assert is_held_here(lock)
        assert is_held_here(lock)
        assert in_a_thread(lambda: seen.append(is_held_here(lock)))
    assert seen == [False]
    assert not is_held_here(lock)


def test_what_is_left_with_a_held_lock_is_done_when_it_is_let_go():
    """By whoever has it: not in the middle of its change, and not before the outermost block ends; then in order."""
    lock, done = Lock(), []
    with lock:
        with lock:
            lock.do(lambda: done.append("mine"))
            assert in_a_thread(lambda: lock.do(lambda: done.append("another's")))
        assert done == []
    assert done == ["mine", "another's"]


def test_what_a_function_returns_is_called_without_the_lock():
    """It may be anything, and others may go on."""
    lock, held = Lock(), []

    def note():
        held.append(is_held_here(lock))

    def under_the_lock():
        note()
        return note

    lock.do(under_the_lock)
    assert held == [True, False]


def test_nothing_is_left_undone_while_who_has_the_lock_waits_for_a_change():
    """A condition lets go of the lock as well, and what is done then may be the change."""
    lock = Lock()
    changed = threading.Condition(lock)
    with changed:
        assert in_a_thread(lambda: lock.do(changed.notify_all))
        assert changed.wait(PATIENCE)


def test_nothing_is_lost_between_those_who_come_and_those_who_go():
    """Four threads leave and take at once: everything is done, one at a time."""
    lock, counts = Lock(), [0]

    def count():
        counts[0] += 1

    def busy():
        for _ in range(2_000):
            lock.do(count)
            with lock:
                count()

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert counts == [16_000]


@pytest.mark.parametrize("held", ["pool", "thread", "budget"])
def test_stop_waits_for_no_lock_and_is_not_forgotten(executor, gate, held):
    """Another thread has the lock, for as long as it likes: stop() returns, and takes effect when that lets go."""
    pool, go = executor(1), gate()
    running, queued = pool.submit(go), pool.submit(int)
    go.wait_until_begun()
    thread, queue = running.thread, pool._pool._queue
    waiter = budget._Waiter(thread)
    with budget._lock:
        budget._shares.setdefault("some", budget._Share()).waiting.append(waiter)
    future = queued if held == "pool" else running
    lock = {"pool": pool._pool._lock, "thread": thread._lock, "budget": budget._lock}[held]
    with lock:
        assert in_a_thread(future.stop)
        assert (queued in queue, waiter in budget._shares["some"].waiting) == (True, True)
    if held == "pool":
        assert queued not in queue
    else:
        assert thread.is_stopped
        assert waiter.wake.acquire(blocking=False)
    with budget._lock:
        budget._shares.pop("some")


def test_a_call_that_waits_is_stopped_under_the_lock_of_its_pool(executor, gate):
    """As by the finalizer of an iterator, in the middle of a put(): it does not hang, and the call never runs."""
    pool, go, ran = executor(1), gate(), []
    pool.submit(go)
    go.wait_until_begun()
    queued = pool.submit(ran.append, 1)

    def finalize():
        with pool._pool._lock:
            queued.stop()

    assert in_a_thread(finalize)
    assert queued.cancelled()
    go.open()
    assert pool.submit(int).result(PATIENCE) == 0
    assert not ran


@pytest.mark.parametrize("held", ["thread", "budget"])
def test_a_call_that_runs_is_stopped_under_the_lock_of_its_thread(executor, gate, held):
    """It does not hang either; the Python code of the call goes on to its end."""
    pool, go = executor(1), gate()
    running = pool.submit(go)
    go.wait_until_begun()
    lock = running.thread._lock if held == "thread" else budget._lock

    def finalize():
        with lock:
            running.stop()

    assert in_a_thread(finalize)
    go.open()
    assert running.exception(PATIENCE) is None


def test_an_executor_is_dropped_under_the_lock_of_its_pool(executor):
    """Its idle threads are not ended then and there, in the middle of a change, but when the lock is let go."""
    pool = executor(1, idle=3600)
    pool.submit(int).result(PATIENCE)
    inner, threads = pool._pool, pool._pool.threads()

    def finalize():
        with inner._lock:
            inner.abandon()
            assert len(inner._threads) == 1

    assert in_a_thread(finalize)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_map_is_collected_under_the_lock_of_the_call_that_it_is_a_part_of():
    """Its finalizer ends it, and the call goes on to its end."""
    seen = []

    def call():
        mapped = parallel_map(abs, range(100), max_workers=2)
        next(mapped)
        with current_member().scope.lock:
            mapped.close()  # as the collector does
        return True

    assert in_a_thread(lambda: seen.append(parallel(call, bool)))
    assert seen == [(True, False)]


def test_it_has_what_a_condition_of_any_python_takes_from_its_lock():
    """Python 3.14 takes one method more than 3.13 did: without it no pool could be made there."""
    for name in ("acquire", "release", "locked", "_is_owned", "_release_save", "_acquire_restore"):
        assert callable(getattr(Lock(), name))
