"""The executor apart from databases: its queue and bounds, its threads, and exceptions that nobody asked for."""

import asyncio
import concurrent.futures
import functools
import gc
import logging
import threading
import weakref

import pytest
from django.test import override_settings

from django_meanwhile.concurrent import QueueFull, ThreadPoolExecutor, default_executor
from django_meanwhile.concurrent.threads import executor as executor_module
from django_meanwhile.concurrent.threads.connecting import Connections
from django_meanwhile.concurrent.threads.executor import BrokenThreadPool
from django_meanwhile.core.errors import InvalidOption, NotAllowed
from tests.concurrent.conftest import PATIENCE
from tests.playground import eventually


def fail():
    """A call that fails."""
    raise ZeroDivisionError("in the call")


def logged(caplog, text):
    """Return the one record with this text in it."""
    (record,) = [record for record in caplog.records if text in record.getMessage()]
    return record


# --- what cannot be run ---------------------------------------------------------------------


async def ask():
    """A coroutine function."""


class Asks:
    """A callable that makes a coroutine."""

    async def __call__(self):
        """As a coroutine function."""


@pytest.mark.parametrize("function", [ask, functools.partial(ask), Asks()], ids=["function", "partial", "object"])
@pytest.mark.parametrize("way", ["submit", "map", "run_in_executor"])
def test_a_coroutine_function_is_refused(executor, function, way):
    """A thread would make a coroutine that nobody awaits: NotAllowed at once, and no thread is made for it."""
    pool = executor(1)

    async def main():
        await asyncio.get_running_loop().run_in_executor(pool, function)

    ways = {
        "submit": lambda: pool.submit(function),
        "map": lambda: pool.map(function, [1]),
        "run_in_executor": lambda: asyncio.run(main()),
    }
    with pytest.raises(NotAllowed, match=r"^submit\(\): .* is a coroutine function: .* aparallel\(\)"):
        ways[way]()
    assert not pool._threads


# --- exceptions -----------------------------------------------------------------------------


def test_an_exception_that_nobody_asked_for_is_logged_with_its_traceback_and_function(executor, caplog):
    """A forgotten future is no lost exception: ERROR, the function's path, and where it was raised."""
    with caplog.at_level(logging.ERROR, "django_meanwhile.concurrent"):
        pool = executor(1)
        pool.submit(fail)
        pool.shutdown()
        gc.collect()
    record = logged(caplog, f"{__name__}.fail failed")  # whatever else is collected now is another test's
    assert record.levelno == logging.ERROR
    assert "nobody asked for its result" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError
    assert any(entry.co_name == "fail" for entry in _frames(record.exc_info[2]))


def _frames(trace):
    while trace is not None:
        yield trace.tb_frame.f_code
        trace = trace.tb_next


@pytest.mark.parametrize("ask", ["result", "exception", "callback", "wrap_future", "map"])
def test_an_exception_that_somebody_was_told_is_not_logged(executor, caplog, ask):
    """Whoever learns of it deals with it; a second report would be noise."""
    pool = executor(1)
    with caplog.at_level(logging.DEBUG, "django_meanwhile.concurrent"):
        if ask == "result":
            with pytest.raises(ZeroDivisionError):
                pool.submit(fail).result()
        elif ask == "exception":
            assert isinstance(pool.submit(fail).exception(), ZeroDivisionError)
        elif ask == "callback":
            seen = []
            pool.submit(fail).add_done_callback(lambda future: seen.append(future.exception()))
            pool.shutdown()
            assert len(seen) == 1
        elif ask == "wrap_future":

            async def wait():
                with pytest.raises(ZeroDivisionError):
                    await asyncio.wrap_future(pool.submit(fail))

            asyncio.run(wait())
        else:
            with pytest.raises(ZeroDivisionError):
                list(pool.map(lambda _: fail(), [1]))
        pool.shutdown()
        gc.collect()
    # Whatever else is collected now, or ends in a thread, is another test's.
    assert not [record for record in caplog.records if __name__ in record.getMessage()]


def test_a_result_that_came_too_late_for_its_timeout_is_still_unheard_of(executor, gate, caplog):
    """A timeout is no answer: the exception that comes after it is logged."""
    begin = gate()
    pool = executor(1)

    def fail_later():
        begin()
        fail()

    future = pool.submit(fail_later)
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    begin.open()
    pool.shutdown()
    del future
    gc.collect()
    assert logged(caplog, "nobody asked for its result")


def test_nothing_keeps_a_call_or_its_exception_alive(executor):
    """Function, arguments, result and exception go with the last reference of the user's."""

    class Thing:
        pass

    def use(thing):
        raise KeyError(thing)

    pool = executor(1)
    thing = Thing()
    gone = weakref.ref(thing)
    future = pool.submit(use, thing)
    assert isinstance(future.exception(), KeyError)
    del thing, future
    gc.disable()  # no cycle may be left for it
    try:
        eventually(lambda: gone() is None, what="the argument is gone")
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_call_that_asks_for_the_end_ends_only_itself(executor, error):
    """SystemExit in a thread is the call's exception; the thread and the process go on."""
    pool = executor(1)

    def leave():
        raise error

    assert isinstance(pool.submit(leave).exception(), error)
    assert pool.submit(int).result() == 0
    assert len(pool._threads) == 1


# --- the queue ------------------------------------------------------------------------------


def test_a_full_queue_makes_submit_wait_for_room(executor, gate):
    """when_full="wait": the caller is slowed down, nothing is lost, and the order is kept."""
    pool = executor(1, max_queued=1)
    first, order = gate(), []
    pool.submit(first)
    first.wait_until_begun()
    pool.submit(order.append, "queued")
    waiting = threading.Thread(target=lambda: pool.submit(order.append, "had to wait"))
    waiting.start()
    eventually(lambda: pool._pool._room._waiters, what="the third submit waits")
    assert order == []
    first.open()
    waiting.join(PATIENCE)
    pool.shutdown()
    assert order == ["queued", "had to wait"]


def test_a_cancelled_call_makes_room_at_once(executor, gate):
    """It leaves the queue when it is cancelled, not when a thread comes by; and wait() learns of it."""
    pool = executor(1, max_queued=1, when_full="reject")
    first = gate()
    pool.submit(first)
    first.wait_until_begun()
    queued = pool.submit(int)
    assert queued.cancel()
    assert concurrent.futures.wait([queued], timeout=PATIENCE / 4).done == {queued}  # before the gate gives up
    assert pool.submit(int) is not queued
    assert queued.cancel()  # again, as in the standard library


def test_an_executor_that_rejects_says_how_full_it_is(executor, gate):
    """when_full="reject": the error names the executor, what runs, what waits, and what to do."""
    pool = executor(1, max_queued=1, when_full="reject", thread_name_prefix="mails")
    first = gate()
    pool.submit(first)
    first.wait_until_begun()
    pool.submit(int)
    with pytest.raises(QueueFull) as raised:
        pool.submit(int)
    for words in ("'mails'", "max_workers=1", "1 calls run", "1 of at most 1 wait", 'when_full="reject"', "max_queued"):
        assert words in str(raised.value)


def test_a_queue_of_no_length_takes_what_a_thread_can_run_at_once(executor, gate):
    """max_queued=0: an idle thread, or room for another one, or nothing."""
    pool = executor(2, max_queued=0, when_full="reject")
    gates = [gate(), gate()]
    for one in gates:
        pool.submit(one)
    with pytest.raises(QueueFull):
        pool.submit(int)
    gates[0].open()
    eventually(lambda: pool._pool._idle, what="a thread is idle")
    assert pool.submit(int).result() == 0


def test_a_thread_of_the_pool_never_waits_for_room_in_its_own_queue(executor):
    """It runs the call itself: waiting would be waiting for itself. The call has ended when submit returns."""
    pool = executor(1, max_queued=1)

    def submit_three():
        ran_in = [pool.submit(threading.get_ident) for _ in range(3)]
        return threading.get_ident(), [future.result(timeout=PATIENCE) for future in ran_in if future.done()], ran_in

    here, at_once, futures = pool.submit(submit_three).result(timeout=PATIENCE)
    assert at_once == [here, here]
    assert futures[0].result(timeout=PATIENCE) == here  # the only thread there is


def test_a_submit_that_would_make_an_event_loop_wait_is_refused(executor, gate):
    """All its coroutines would stand still: QueueFull at once, though the executor waits elsewhere."""
    pool = executor(1, max_queued=0)
    first = gate()
    pool.submit(first)

    async def submit():
        return pool.submit(int)

    with pytest.raises(QueueFull, match="event loop, which must not wait: await aparallel"):
        asyncio.run(submit())


def test_whoever_waits_for_room_learns_of_the_shutdown(executor, gate):
    """It does not wait for room that will never come."""
    pool = executor(1, max_queued=0)
    first, refused = gate(), []
    pool.submit(first)

    def submit():
        try:
            pool.submit(int)
        except RuntimeError as error:
            refused.append(str(error))

    waiting = threading.Thread(target=submit)
    waiting.start()
    eventually(lambda: pool._pool._room._waiters, what="submit waits")
    pool.shutdown(wait=False)
    waiting.join(PATIENCE)
    assert refused == ["cannot schedule new futures after shutdown"]


# --- threads --------------------------------------------------------------------------------


def test_idle_threads_end_and_new_ones_come(executor):
    """A burst leaves no threads behind, and the executor works on."""
    pool = executor(4, idle=0.05)
    barrier = threading.Barrier(4)
    concurrent.futures.wait([pool.submit(barrier.wait, PATIENCE) for _ in range(4)])
    eventually(lambda: not pool._threads, what="all threads have ended")
    assert pool.submit(int).result() == 0


def test_the_thread_that_was_busy_last_gets_the_next_call(executor):
    """Idle threads are a stack: a pool that is hardly used shrinks to one thread, whose connection is warm."""
    pool = executor(3)
    barrier = threading.Barrier(3)
    concurrent.futures.wait([pool.submit(barrier.wait, PATIENCE) for _ in range(3)])
    eventually(lambda: len(pool._pool._idle) == 3, what="all are idle")
    used = set()
    for _ in range(20):
        used.add(pool.submit(threading.get_ident).result())
        eventually(lambda: len(pool._pool._idle) == 3, what="all are idle")
    assert len(used) == 1


def test_an_executor_that_is_forgotten_runs_what_it_was_given_and_ends():
    """As the standard library's: nothing needs to be shut down to be freed."""
    pool = ThreadPoolExecutor(2, idle=3600)
    threads, ran = [], []
    for number in range(20):
        pool.submit(ran.append, number)
    threads = pool._threads
    del pool
    gc.collect()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert sorted(ran) == list(range(20))


def test_a_thread_that_cannot_be_made_fails_the_submit_and_nothing_else(executor, monkeypatch):
    """The caller learns of it; no call is lost in between, and the pool works once threads can be made again."""
    pool = executor(1)

    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(int)
    assert pool.submit(int).result() == 0


def test_a_pool_whose_initializer_fails_is_broken_for_all(executor, gate, caplog):
    """Its calls fail, those in the queue too; it takes no more; the log tells why."""
    go = gate()

    def initialize():
        go()
        fail()

    pool = executor(1, initializer=initialize)
    futures = [pool.submit(int) for _ in range(3)]
    go.open()
    for future in futures:
        assert isinstance(future.exception(timeout=PATIENCE), BrokenThreadPool)
        assert isinstance(future.exception(), concurrent.futures.BrokenExecutor)
    with pytest.raises(BrokenThreadPool, match="an initializer failed"):
        pool.submit(int)
    assert logged(caplog, "the initializer failed").exc_info[0] is ZeroDivisionError


def test_cancel_futures_cancels_what_waits_and_lets_the_rest_end(executor, gate):
    """shutdown(cancel_futures=True) as in the standard library."""
    pool = executor(1)
    first = gate("done")
    running = pool.submit(first)
    first.wait_until_begun()
    waiting = [pool.submit(int) for _ in range(5)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    first.open()
    assert running.result(timeout=PATIENCE) == "done"


# --- what others here build on ----------------------------------------------------------------


def test_is_mine_knows_the_threads_of_one_pool(executor):
    """True in a thread of this very executor only."""
    one, other = executor(1), executor(1)
    assert not one.is_mine()
    assert one.submit(one.is_mine).result()
    assert not other.submit(one.is_mine).result()


def test_run_here_runs_what_nobody_has_begun(executor, gate):
    """The caller's thread takes it off the queue; what runs or has ended is left alone."""
    pool = executor(1)
    first = gate("first")
    running = pool.submit(first)
    first.wait_until_begun()
    pending = pool.submit(threading.get_ident)
    assert pending.run_here()
    assert pending.result() == threading.get_ident()
    assert not pending.run_here()
    assert not running.run_here()


def test_a_thread_that_waits_for_nested_calls_can_run_them_itself(executor):
    """A pool of one runs calls that submit to it, however deep: no thread waits for itself."""
    pool = executor(1)

    def nested(depth):
        if not depth:
            return 0
        future = pool.submit(nested, depth - 1)
        future.run_here()
        return 1 + future.result()

    assert pool.submit(nested, 10).result(timeout=PATIENCE) == 10


def test_a_call_is_run_once_whoever_tries_to(executor, gate):
    """run_here(), cancel() and the pool's thread race for each of many calls: each has exactly one fate."""
    pool = executor(2)
    ran = []
    for number in range(300):
        future = pool.submit(ran.append, number)
        taken, cancelled = future.run_here(), future.cancel()
        assert not (taken and cancelled)
        concurrent.futures.wait([future], timeout=PATIENCE)
        assert future.done()
        assert (number in ran) is not future.cancelled()
    assert len(ran) == len(set(ran))


def test_futures_name_their_function(executor, gate):
    """For messages: the path, also of a partial, and after a failure."""
    pool = executor(1)
    begin = gate()
    future = pool.submit(functools.partial(fail))
    pool.submit(begin)
    assert future.exception() is not None
    assert future.name == f"{__name__}.fail"


def test_an_interruption_that_comes_after_the_end_reaches_no_other_call(executor, gate):
    """stop() may have found the thread just before its call ended: the thread runs another one by then."""
    pool, first, second = executor(1), gate(), gate()
    ended = pool.submit(first)
    first.wait_until_begun()
    runner = ended.thread
    first.open()
    ended.result(timeout=PATIENCE)
    pool.submit(second)
    second.wait_until_begun()
    runner.interrupt(ended)
    assert not runner.is_stopped


def test_a_thread_that_goes_idle_sees_who_began_to_wait_just_before(executor):
    """Whoever waits for a connection has looked for idle threads too early: the thread looks once more, and closes."""
    pool, closed = executor(1), []
    pool.submit(int).result(timeout=PATIENCE)
    eventually(lambda: pool._pool._idle, what="the thread is idle")
    (thread,) = pool._pool._idle
    thread.is_wanted_back = lambda: not closed
    thread.close_connections = lambda: closed.append(True)
    pool.submit(int).result(timeout=PATIENCE)
    eventually(lambda: closed, what="it has closed its connections")
    assert pool.submit(int).result(timeout=PATIENCE) == 0


def test_shutdown_waits_for_threads_that_still_close_their_connections(executor, gate):
    """Also if they began to end before: nothing of the executor is left when it returns."""
    pool, call, go = executor(1), gate(), gate()
    running = pool.submit(call)
    call.wait_until_begun()
    thread, close = running.thread, running.thread._connections.close
    thread._connections.close = lambda: [go(), close()]
    pool.shutdown(wait=False)
    call.open()
    go.wait_until_begun()
    assert pool._pool.close("again") == [thread.python]
    go.open()
    pool.shutdown()
    assert not thread.python.is_alive()
    assert pool._pool.close("again") == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_while_idle_is_handed_nothing(executor):
    """Whatever kills it, the next call gets another thread."""
    pool = executor(1)
    pool._pool.idle = float("inf")  # no wait can be as long: an error where none is expected
    thread = pool.submit(threading.current_thread).result(timeout=PATIENCE)
    thread.join(PATIENCE)  # until its error was told as well, which is after the pool is rid of it
    assert pool._pool.threads() == []
    pool._pool.idle = PATIENCE  # or this one dies as well, in the middle of the next test
    assert pool.submit(int).result(timeout=PATIENCE) == 0


@pytest.mark.parametrize("call", [int, lambda: 1 / 0])
def test_a_call_ends_whatever_happens_after_it(executor, monkeypatch, call):
    """If even its connections cannot be tidied, its future has that error, and the thread goes on."""

    def after(_connections, _named, _hit, *, is_last):
        raise OSError("no such library")

    pool = executor(1)
    with monkeypatch.context() as patch:
        patch.setattr(Connections, "after", after)
        assert isinstance(pool.submit(call).exception(timeout=PATIENCE), OSError)
    assert pool.submit(int).result(timeout=PATIENCE) == 0


# --- options ----------------------------------------------------------------------------------


def test_a_wrong_option_is_refused_with_its_rule():
    """As early as the executor is made."""
    with pytest.raises(InvalidOption, match=r"when_full='block'\): must be 'wait' or 'reject'"):
        ThreadPoolExecutor(1, when_full="block")
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        ThreadPoolExecutor(0)
    with pytest.raises(InvalidOption, match=r"max_queued=-1\): must be 0 or more"):
        ThreadPoolExecutor(1, max_queued=-1)
    with pytest.raises(InvalidOption, match=r"idle=-1\): must be 0 or more seconds"):
        ThreadPoolExecutor(1, idle=-1)
    with pytest.raises(InvalidOption, match=r"idle=inf\): .*at most threading.TIMEOUT_MAX"):
        ThreadPoolExecutor(1, idle=float("inf"))


@override_settings(MEANWHILE={"CONCURRENT": {"max_workers": 3, "max_queued": 7, "when_full": "reject", "idle": 1}})
def test_the_default_executor_is_one_for_the_process_and_made_of_the_settings(monkeypatch):
    """All callers share its threads; its size is the setting's."""
    monkeypatch.setattr(executor_module, "_default", None)
    pool = default_executor()._pool
    assert (pool.max_workers, pool.max_queued, pool.when_full, pool.idle) == (3, 7, "reject", 1)
    assert default_executor(outside_transaction=True)._pool is pool


def test_nobody_ends_the_default_executor_for_all():
    """shutdown() and ``with`` are refused, and say what to use."""
    with pytest.raises(NotAllowed, match="shared by the whole process"):
        default_executor().shutdown()
    with pytest.raises(NotAllowed, match="ThreadPoolExecutor of your own"), default_executor():
        pass
    assert default_executor().submit(int).result() == 0
