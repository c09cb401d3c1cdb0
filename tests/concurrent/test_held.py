"""The garbage collector may run a finalizer in a thread that is changing what a lock guards."""

import threading

import pytest

from django_meanwhile.concurrent.threads import budget
from django_meanwhile.concurrent.threads.held import is_held_here
from tests.concurrent.conftest import PATIENCE


def in_a_thread(function):
    """Run it in a thread that may hang without holding up the tests; return whether it ended."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return not thread.is_alive()


def test_a_lock_is_held_by_one_thread():
    """The thread that has it is told apart from all others."""
    lock = threading.RLock()
    seen = []
    with lock:
        assert is_held_here(lock)
        assert in_a_thread(lambda: seen.append(is_held_here(lock)))
    assert seen == [False]
    assert not is_held_here(lock)


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
    """It does not hang either; the call goes on to its end."""
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
    """Its idle threads are not ended then and there, in the middle of a change, and not lost: they end when idle."""
    pool = executor(1, idle=0.2)
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
