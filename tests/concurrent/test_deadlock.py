"""Waits that could never end raise; waits that can end, however late, never do."""

import concurrent.futures
import gc
import threading

from django_meanwhile.concurrent import WouldDeadlock
from django_meanwhile.concurrent.threads import deadlock
from tests.concurrent.conftest import PATIENCE
from tests.playground import eventually


def waits(count):
    """Wait until so many threads of pools wait for futures."""
    eventually(lambda: len(deadlock._waiting) == count, what=f"{count} threads wait")


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


def test_no_wait_is_refused_by_mistake_and_none_hangs_in_random_crowds(executor, caplog):
    """Calls that submit and wait at random, in three pools: each ends, with its result or WouldDeadlock."""
    pools = [executor(size) for size in (2, 3, 4)]

    def call(depth, seed):
        if not depth:
            return 1
        nested = [pools[(seed + number) % 3].submit(call, depth - 1, seed * 7 + number) for number in range(2)]
        return sum(future.result() for future in nested)

    futures = [pools[seed % 3].submit(call, 4, seed) for seed in range(30)]
    done, not_done = concurrent.futures.wait(futures, timeout=60)
    assert not not_done
    ends = {type(future.exception()) for future in done}
    assert ends <= {type(None), WouldDeadlock}
    assert {future.result() for future in done if future.exception() is None} <= {16}
    futures, done = [], set()
    inner = [pool._pool for pool in pools]
    idle = "what nobody waited for has ended, and found its pools open"
    eventually(lambda: not any(pool._queue or len(pool._idle) < len(pool._threads) for pool in inner), what=idle)
    gc.collect()  # nested calls that failed while nobody waited: logged here, not in another test
