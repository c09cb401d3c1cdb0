"""Waits that could never end raise; waits that can end, however late, never do."""

import concurrent.futures
import contextlib
import threading

import pytest

from django_meanwhile.concurrent import WouldDeadlock
from django_meanwhile.concurrent.context import capture
from django_meanwhile.concurrent.threads import deadlock
from django_meanwhile.concurrent.threads.future import Future
from tests.concurrent.conftest import PATIENCE
from tests.concurrent.test_executor_endings import run
from tests.playground import eventually


def waits(count):
    """Wait until so many threads of pools wait for futures."""
    eventually(lambda: len(deadlock._waiting) == count, what=f"{count} threads wait")


def all_idle(pools):
    """Whether nothing runs or waits in any of these at one moment: a call of one may have submitted to another."""
    inner = [pool._pool for pool in pools]
    with contextlib.ExitStack() as stack:
        for one in inner:
            stack.enter_context(one._lock)
        return not any(one._queue or len(one._idle) < len(one._threads) for one in inner)


def test_a_call_that_waits_for_one_behind_it_in_its_full_pool_learns_so(executor):
    """A pool of one: the nested call could never begin. The error names waiter, call, executor and the next step."""
    pool = executor(1, thread_name_prefix="small")

    def outer():
        return pool.submit(divmod, 7, 2).result()

    error = pool.submit(outer).exception(timeout=PATIENCE)
    assert isinstance(error, WouldDeadlock)
    for words in ("'small_0'", "outer", "builtins.divmod", "executor 'small' (max_workers=1)", "parallel()", "return"):
        assert words in str(error)


def test_exception_is_a_wait_as_result_is(executor):
    """Whichever way the end is asked for."""
    pool = executor(1)
    error = pool.submit(lambda: pool.submit(int).exception()).exception(timeout=PATIENCE)
    assert isinstance(error, WouldDeadlock)


def test_only_the_wait_that_closes_the_circle_fails(executor, gate):
    """Two threads: the first waits in good faith; the second would leave nobody to run either call, and learns so.

    Its thread is then free, and the first wait ends well.
    """
    pool = executor(2)
    go = gate()
    first = pool.submit(lambda: pool.submit(go).result())
    go.wait_until_begun()

    # The first call waits for one that runs. A third would be queued.
    nested = []

    def wait_for_queued():
        nested.append(pool.submit(int))
        return nested[0].result()

    second = pool.submit(wait_for_queued)
    waits(1)
    go.open()
    assert first.result(timeout=PATIENCE) is None
    assert second.result(timeout=PATIENCE) == 0


def test_when_all_threads_would_wait_for_queued_calls_the_last_one_learns_so(executor):
    """N threads, n nested calls: n - 1 of the waits end, one raises."""
    pool = executor(4)
    barrier = threading.Barrier(4)

    def outer():
        barrier.wait(PATIENCE)  # no thread is left for what is submitted now
        return pool.submit(int).result()

    ends = [future.exception(timeout=PATIENCE) for future in [pool.submit(outer) for _ in range(4)]]
    assert [type(end) for end in ends].count(WouldDeadlock) == 1
    assert ends.count(None) == 3


def test_two_calls_that_wait_for_each_other_do_not_hang(executor):
    """A waits for B, which runs, and waits for A: no queue is involved."""
    pool = executor(4)
    futures, ready = {}, threading.Barrier(3)

    def wait_for(name):
        ready.wait(PATIENCE)
        return futures[name].result()

    futures["a"], futures["b"] = pool.submit(wait_for, "b"), pool.submit(wait_for, "a")
    ready.wait(PATIENCE)
    ends = [futures[name].exception(timeout=PATIENCE) for name in "ab"]
    # One raised, and the other got that error as the result of its wait.
    assert [type(end) for end in ends] == [WouldDeadlock, WouldDeadlock]
    assert ends[0] is ends[1]


def test_a_call_that_waits_for_itself_does_not_hang(executor):
    """The shortest circle."""
    pool = executor(2)
    own, ready = [], threading.Event()

    def wait():
        assert ready.wait(PATIENCE)
        return own[0].result()

    own.append(pool.submit(wait))
    ready.set()
    assert isinstance(own[0].exception(timeout=PATIENCE), WouldDeadlock)


def test_a_circle_through_two_pools_is_seen(executor):
    """Pool one's only thread waits for pool two's, whose call waits for one in pool one's queue."""
    one, two = executor(1), executor(1)

    def in_two():
        return one.submit(int).result()

    def in_one():
        return two.submit(in_two).result()

    error = one.submit(in_one).exception(timeout=PATIENCE)
    assert isinstance(error, WouldDeadlock)


def test_a_thread_that_waits_for_room_is_a_part_of_the_circle(executor, gate):
    """Pool two's thread waits for room in pool one, whose only thread waits for pool two."""
    one, two = executor(1, max_queued=1), executor(1)
    go = gate()

    def fill():
        go()
        return [one.submit(int) for _ in range(2)]  # the second one finds no room

    filling = two.submit(fill)
    go.wait_until_begun()
    waiting = one.submit(filling.result)
    waits(1)
    go.open()
    assert isinstance(filling.exception(timeout=PATIENCE), WouldDeadlock)
    assert "room in the queue of executor" in str(filling.exception())
    assert waiting.exception(timeout=PATIENCE) is filling.exception()


def test_a_wait_that_can_end_is_never_refused(executor, gate):
    """Threads that wait in a row behind one that works wait for it, even if that takes long."""
    pool = executor(4)
    work = gate("worked")
    futures = [pool.submit(work)]
    for _ in range(3):
        futures.append(pool.submit(futures[-1].result))
    waits(3)
    work.open()
    assert futures[-1].result(timeout=PATIENCE) == "worked"


def test_a_wait_with_a_timeout_is_none_for_ever(executor):
    """It ends by itself, as the caller has asked: TimeoutError; and it blocks nobody else for good."""
    pool = executor(1)
    error = pool.submit(lambda: pool.submit(int).result(timeout=0.01)).exception(timeout=PATIENCE)
    assert type(error) is TimeoutError


def test_room_for_another_thread_is_a_way_out(executor):
    """As long as the pool may grow, a nested call gets a thread of its own."""
    pool = executor(2)
    assert pool.submit(lambda: pool.submit(int).result()).result(timeout=PATIENCE) == 0


def test_a_call_that_is_run_by_its_waiter_is_a_way_out(executor):
    """run_here() takes the nested call off the queue: with it, a pool of one is enough."""
    pool = executor(1)

    def outer():
        nested = pool.submit(int)
        assert nested.run_here()
        return nested.result()

    assert pool.submit(outer).result(timeout=PATIENCE) == 0


def test_a_call_that_is_cancelled_ends_the_wait_for_it(executor, gate):
    """As elsewhere: ``CancelledError``, also in a thread of a pool."""
    pool, other = executor(1), executor(1)
    go = gate()
    other.submit(go)
    go.wait_until_begun()
    queued = other.submit(int)
    waiting = pool.submit(queued.result)
    waits(1)
    assert queued.cancel()
    assert isinstance(waiting.exception(timeout=PATIENCE), concurrent.futures.CancelledError)


def test_a_call_that_ends_just_as_the_wait_for_it_begins(executor, gate, monkeypatch):
    """It has ended after it was asked whether it has, and before it could tell whoever waits."""
    pool, other = executor(1), executor(1)
    go = gate("ended")
    future = other.submit(go)
    begin = deadlock.waiting

    @contextlib.contextmanager
    def begin_late(*args, **options):
        with begin(*args, **options) as wait:
            go.open()
            concurrent.futures.wait([future], PATIENCE)
            yield wait

    monkeypatch.setattr(deadlock, "waiting", begin_late)
    assert pool.submit(future.result).result(timeout=PATIENCE) == "ended"


def test_the_result_of_a_call_that_has_ended_is_no_wait(executor, monkeypatch):
    """It costs what it costs in any thread."""
    pool = executor(1)
    ended = pool.submit(int)
    concurrent.futures.wait([ended], PATIENCE)
    monkeypatch.setattr(deadlock, "waiting", None)
    assert pool.submit(ended.result).result(timeout=PATIENCE) == 0


def test_who_could_run_a_call(executor, gate):
    """Whatever is on its way, or can have a thread, is not stuck, in moments that are too short for any other test."""
    full, small = executor(1, max_queued=2), executor(1)
    go = gate()
    full.submit(go)
    go.wait_until_begun()
    pool, queued = full._pool, full.submit(int)
    blocked = set(pool._threads)
    assert not queued.can_come(blocked)
    assert queued.can_come(set()), "a thread goes on"
    assert Future(pool, int, (), {}, capture()).can_come(blocked), (
        "it is being put, or was taken off the queue just now"
    )
    assert Future(None, int, (), {}, capture()).can_come(blocked), "it runs where it was made"
    assert pool.can_come(blocked), "there is room"
    full.submit(int)
    assert not pool.can_come(blocked)
    assert pool.can_come(set()), "a thread will make room"
    assert small._pool.could_run(None, blocked), "there is room for a thread"
    concurrent.futures.Future.cancel(queued)  # and it is in the queue until the pool hears of it
    assert queued.can_come(blocked)
    pool.dismiss(queued)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_a_forked_child_waits_anew(bare_project):
    """It knows nothing of its parent's waits, and its own circles are seen."""
    run(
        bare_project,
        """
from django_meanwhile.concurrent import WouldDeadlock
from django_meanwhile.concurrent.threads import deadlock

go = threading.Event()
held, executor, forking = ThreadPoolExecutor(1), ThreadPoolExecutor(1), ThreadPoolExecutor(1)
waiting = executor.submit(held.submit(go.wait, 30).result)
while not deadlock._waiting:
    time.sleep(0.005)

def child():
    assert not deadlock._waiting
    error = executor.submit(lambda: executor.submit(int).result()).exception(timeout=20)
    assert isinstance(error, WouldDeadlock), error

forked(child)
assert len(deadlock._waiting) == 1
go.set()
assert waiting.result(timeout=20)
""",
    )


def test_no_wait_is_refused_by_mistake_and_none_hangs_in_random_crowds(executor):
    """Calls that submit and wait at random, in three pools: each ends, with its result or WouldDeadlock."""
    pools = [executor(size) for size in (2, 3, 4)]

    def call(depth, seed):
        if not depth:
            return 1
        nested = [pools[(seed + number) % 3].submit(call, depth - 1, seed * 7 + number) for number in range(2)]
        for future in nested:  # nobody asks for the second one's error if the first one has failed
            future.add_done_callback(Future.exception)
        return sum(future.result() for future in nested)

    futures = [pools[seed % 3].submit(call, 4, seed) for seed in range(30)]
    done, not_done = concurrent.futures.wait(futures, timeout=60)
    assert not not_done
    ends = {type(future.exception()) for future in done}
    assert ends <= {type(None), WouldDeadlock}
    assert {future.result() for future in done if future.exception() is None} <= {16}
    eventually(lambda: all_idle(pools), what="what nobody waited for has ended, and found its pools open")
