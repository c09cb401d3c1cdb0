"""``parallel_map()`` on threads: lazy, bounded, back-pressured, in order; what ends it, and what it leaves behind."""

import asyncio
import gc
import itertools
import logging
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError
from types import SimpleNamespace

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, transaction
from django.test import TestCase
from django.utils import translation

from django_meanwhile import task
from django_meanwhile.concurrent import (
    InsideTransaction,
    NotAllowed,
    QueueFull,
    default_executor,
    parallel,
    parallel_map,
)
from django_meanwhile.concurrent.maps import mapping
from django_meanwhile.concurrent.maps.window import Piece, Window
from django_meanwhile.concurrent.threads import executor
from django_meanwhile.core.errors import InvalidOption
from tests.playground import eventually

from .test_parallel import SLEEPS

PATIENCE = 20


@pytest.fixture(autouse=True)
def pool(monkeypatch, settings):
    """Replace the process's pool by one of four threads, or of these settings."""

    def replace(**concurrent):
        monkeypatch.setattr(executor, "_default", None)
        settings.MEANWHILE = {"CONCURRENT": {"max_workers": 4, **concurrent}}

    replace()
    return replace


class Pulled:
    """An endless iterable that knows how many of its items were taken, and by which thread."""

    def __init__(self):
        self.count = 0
        self.threads = set()

    def __iter__(self):
        while True:
            self.threads.add(threading.current_thread())
            self.count += 1
            yield self.count


def idle():
    """Whether the threads of the shared pool have ended all that was submitted, told of that, and let go of it."""
    shared = default_executor()._pool
    with shared._lock:
        return not shared._queue and len(shared._idle) == len(shared._threads)


# --- the rules, by themselves -------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
def test_a_window_is_never_wider_than_twice_its_workers(ordered) -> None:
    """At most max_workers pieces run, and at most twice as many are held, in whatever order they end."""
    window = Window(3, ordered=ordered)
    running: list[Piece] = []
    for step in range(200):
        while window.has_room():
            running.append(Piece())
            window.add(running[-1])
        assert len(running) <= 3
        assert len(window.pieces) <= 6
        if running and (step % 3 or not window.is_ready()):
            window.note_end(running.pop(step % len(running)))
        elif window.is_ready():
            window.take()


def test_an_error_closes_the_window() -> None:
    """After an error nothing more is started; what runs before its place is still given."""
    window = Window(4, ordered=True)
    first, second = Piece(), Piece()
    window.add(first)
    window.add(second)
    second.error = ValueError()
    window.note_end(second)
    assert not window.has_room()
    assert not window.is_ready()
    window.note_end(first)
    assert [window.take(), window.take()] == [first, second]


# --- results ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_results_come_in_the_order_of_the_items(chunk_size) -> None:
    """It yields what map() yields, whatever the size of the pieces."""
    assert list(parallel_map(lambda n: n * n, range(10), chunk_size=chunk_size)) == [n * n for n in range(10)]
    assert list(parallel_map(lambda n: n, [], chunk_size=chunk_size)) == []


def test_calls_run_side_by_side_in_threads_of_the_pool() -> None:
    """As many calls as max_workers are under way at once, none of them in the consumer's thread."""
    barrier = threading.Barrier(4)

    def meet(_item):
        barrier.wait(PATIENCE)
        return threading.current_thread()

    threads = set(parallel_map(meet, range(8)))
    assert len(threads) == 4
    assert threading.current_thread() not in threads


def test_max_workers_bounds_what_runs() -> None:
    """With max_workers=2 no third call runs, though the pool has four threads."""
    lock, running, most, pairs = threading.Lock(), [], [], threading.Barrier(2)

    def count(item):
        with lock:
            running.append(item)
            most.append(len(running))
        pairs.wait(PATIENCE)
        with lock:
            running.remove(item)

    list(parallel_map(count, range(20), max_workers=2))
    assert max(most) == 2


def test_unordered_results_come_as_they_end(gate) -> None:
    """With ordered=False a slow call holds up nobody; with ordered=True the others wait for it."""
    slow = gate("slow")
    calls = [slow, lambda: 1, lambda: 2, lambda: 3]
    results = parallel_map(lambda call: call(), calls, ordered=False)
    assert {next(results) for _ in range(3)} == {1, 2, 3}
    slow.open()
    assert list(results) == ["slow"]


def test_the_callers_surroundings_are_restored() -> None:
    """Each call finds the language that was in force where parallel_map() was called, not where it is consumed."""
    with translation.override("de"):
        results = parallel_map(lambda _: translation.get_language(), range(3))
    with translation.override("fr"):
        assert list(results) == ["de", "de", "de"]


# --- lazy and bounded ---------------------------------------------------------------------------


def test_nothing_is_pulled_before_the_first_result_is_wanted() -> None:
    """Making the iterator pulls nothing and starts nothing."""
    items = Pulled()
    parallel_map(lambda n: n, items)
    assert items.count == 0


@pytest.mark.parametrize("chunk_size", [1, 5])
def test_a_slow_consumer_stops_the_pulling(chunk_size) -> None:
    """Of an endless iterable no more is pulled than the window holds, all of it by the consumer's thread."""
    items = Pulled()
    results = parallel_map(lambda n: n, items, max_workers=2, chunk_size=chunk_size)
    for taken in range(1, 50):
        assert next(results) == taken
        assert items.count <= taken + 4 * chunk_size
    results.close()
    assert items.threads == {threading.current_thread()}


def test_a_slow_iterable_holds_back_no_more_than_one_result() -> None:
    """What has ended is given before more than one other item is pulled: a stream is answered as it comes."""
    given: list[int] = []

    def stream():
        for n in range(5):
            yield n
            eventually(idle, what="the calls have ended")
            assert n - len(given) <= 1

    for result in parallel_map(lambda n: n, stream()):
        given.append(result)  # noqa: PERF402 - the stream looks at it
    assert given == [0, 1, 2, 3, 4]


@pytest.mark.django_db(transaction=True)
def test_a_queryset_iterator_stays_on_the_consumers_connection(database) -> None:
    """A server-side cursor of the consumer's is read by the consumer while calls query on connections of their own."""
    User.objects.using(database).bulk_create(User(username=f"user {n}") for n in range(30))
    users = User.objects.using(database).order_by("pk").iterator(chunk_size=5)
    found = parallel_map(lambda user: User.objects.using(database).get(pk=user.pk).username, users)
    assert list(found) == [f"user {n}" for n in range(30)]


# --- errors and ends ----------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 2])
def test_an_error_is_raised_where_its_result_would_be(chunk_size) -> None:
    """The results before it are given, then comes the function's own error, and then nothing more."""

    def fail(n):
        if n == 3:
            raise KeyError(n)
        return n

    results = parallel_map(fail, range(10), chunk_size=chunk_size)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="3"):
        next(results)
    assert list(results) == []


def test_an_error_stops_the_pulling() -> None:
    """Once a call has failed nothing more is pulled, though its place has not come yet."""
    items, failed, go_on = Pulled(), threading.Event(), threading.Event()

    def first_waits(n):
        if n == 1:
            go_on.wait(PATIENCE)
        elif n == 2:
            failed.set()
            raise ValueError("two")
        return n

    def consume():
        results = parallel_map(first_waits, items, max_workers=2)
        assert next(results) == 1
        with pytest.raises(ValueError, match="two"):
            next(results)

    thread = threading.Thread(target=consume)
    thread.start()
    assert failed.wait(PATIENCE)
    eventually(lambda: len(default_executor()._pool._idle) == 1, what="the thread of the one that failed has told so")
    go_on.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert items.count <= 4


def test_an_error_of_the_iterable_comes_after_the_results_before_it() -> None:
    """As with map(): what was pulled before is given, then the iterable's own error is raised."""

    def broken():
        yield from range(3)
        raise LookupError("no more")

    for chunk_size in (1, 2):
        results = parallel_map(lambda n: n, broken(), chunk_size=chunk_size)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(LookupError, match="no more"):
            next(results)


def test_an_error_holds_nothing_alive() -> None:
    """An error that was raised and forgotten is freed at once: no cycle through our frames keeps locals alive."""

    class Local:
        pass

    locals_of_calls = []

    def fail(_item):
        local = Local()
        locals_of_calls.append(weakref.ref(local))
        raise ValueError

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            try:
                list(parallel_map(fail, [1]))
            except ValueError:
                continue
        eventually(idle)
        assert [reference() for reference in locals_of_calls] == [None, None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("end", ["close", "delete"])
def test_whoever_stops_consuming_stops_the_calls(gate, end) -> None:
    """Closing or dropping the iterator, as an error in a for loop does, cancels what has not begun."""
    gates = [gate(n) for n in range(4)]
    calls = [lambda: "first", *gates]
    items = iter(calls)
    results = parallel_map(lambda call: call(), items, max_workers=4)
    assert next(results) == "first"
    if end == "close":
        results.close()
    else:
        del results
    for one in gates:
        one.open()
    eventually(idle, what="nothing runs any more")
    assert not default_executor()._pool._queue


@pytest.mark.django_db(transaction=True)
def test_closing_interrupts_queries(database) -> None:
    """A query that would take a minute ends when the iterator is closed, and its connection is closed or clean."""
    begun = threading.Event()

    def query():
        with connections[database].cursor() as cursor:
            if connections[database].vendor == "sqlite":
                connections[database].connection.create_function("begun", 0, begun.set)
            cursor.execute(SLEEPS[connections[database].vendor].replace("SELECT 1 ", "SELECT begun() "))

    def is_in_the_query():  # stop() misses one that is just being sent, as documented
        if connections[database].vendor == "sqlite":
            return begun.is_set()
        with connections[database].cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
            )
            return cursor.fetchone()[0]

    results = parallel_map(lambda call: call(), [lambda: eventually(is_in_the_query, what="it runs"), query])
    assert next(results)
    results.close()
    eventually(idle, what="the query was interrupted")


def test_a_timeout_is_an_error_and_stops_the_calls(gate, monkeypatch) -> None:
    """A result that is not there in time is a TimeoutError that names function and seconds; what is there is given."""
    slow, taken, begun = gate(), threading.Event(), time.monotonic()
    # Until then time stands still, on however busy a machine.
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() if taken.is_set() else begun)
    monkeypatch.setattr(mapping, "real_clock", lambda: clock)
    results = parallel_map(lambda call: call(), [lambda: 1, slow], timeout=1)
    assert next(results) == 1
    taken.set()
    with pytest.raises(TimeoutError, match=r"parallel_map\(\) of .*<lambda> \(test_map.py:\d+\): .* within 1 s"):
        next(results)
    slow.open()
    eventually(idle)
    assert list(results) == []


def test_a_base_exception_of_a_call_reaches_the_consumer() -> None:
    """SystemExit in a call ends no thread for good and is raised where its result would be."""

    def leave(_item):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        list(parallel_map(leave, [1]))
    assert list(parallel_map(lambda n: n, [1])) == [1]


def test_no_error_is_told_twice(caplog) -> None:
    """What the consumer gets, or has decided not to wait for, is not logged as lost."""

    def fail(n):
        raise ValueError(n)

    with pytest.raises(ValueError):
        list(parallel_map(fail, range(8)))
    eventually(idle)
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_an_error_that_came_as_nobody_wanted_it_any_more_is_not_logged(caplog, gate) -> None:
    """The call has ended, and the consumer has not looked since: it has decided not to wait for it."""
    go_on = gate()

    def fail():
        go_on()
        raise ValueError

    results = parallel_map(lambda call: call(), [go_on.wait_until_begun, fail])
    assert next(results) is None
    go_on.open()
    eventually(idle, what="it has failed")
    results.close()
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# --- nesting ------------------------------------------------------------------------------------


def test_maps_within_maps_do_not_deadlock(pool) -> None:
    """A pool of one thread is enough for maps three deep: who waits runs what nobody else would."""
    pool(max_workers=1)

    def deeper(depth):
        return depth if depth == 3 else sum(parallel_map(deeper, [depth + 1] * 3))

    assert sum(parallel_map(deeper, [1] * 2)) == 2 * 3 * 3 * 3


def test_a_map_within_a_call_is_stopped_with_it(gate) -> None:
    """If another call of parallel() fails, the one that consumes a map ends: nobody waits for the map's calls."""
    inner = gate()

    def outer():
        return list(parallel_map(lambda call: call(), [inner]))

    def fail():
        inner.wait_until_begun()
        raise ValueError

    with pytest.raises(ExceptionGroup) as caught:
        parallel(outer, fail)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert not inner._open.is_set()


def test_a_full_queue_makes_the_consumer_wait(pool, gate) -> None:
    """With one thread and room for one call in the queue a map of many items ends all the same."""
    pool(max_workers=1, max_queued=1)
    assert list(parallel_map(lambda n: n, range(20), max_workers=8)) == list(range(20))


def test_a_queue_that_rejects_is_told_to_the_consumer(pool, gate, monkeypatch) -> None:
    """With when_full="reject" the results that there was room for come first, then QueueFull."""
    pool(max_workers=1, max_queued=1, when_full="reject")
    slow = gate(1)
    put = default_executor()._pool.put

    def put_and_go_on(future):
        try:
            put(future)
        except QueueFull:
            slow.open()
            raise

    monkeypatch.setattr(default_executor()._pool, "put", put_and_go_on)
    results = parallel_map(lambda call: call(), [slow, lambda: 2, lambda: 3], max_workers=3)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(QueueFull):
        next(results)


# --- refusals -----------------------------------------------------------------------------------


def test_on_an_event_loop_iterating_is_refused():
    """The wait for a result would stop the loop. The iterator may be made there, for a thread that iterates."""
    begun = []

    async def view():
        results = parallel_map(begun.append, [1, 2])
        with pytest.raises(SynchronousOnlyOperation, match=r"waits, .* Write: async for \.\.\. in aparallel_map\("):
            next(results)
        assert begun == []
        return await sync_to_async(list)(parallel_map(str, [1, 2]))

    assert asyncio.run(view()) == ["1", "2"]


async def acall(_item):
    """Never called."""


@task
def a_task(_item):
    """Never called."""


@pytest.mark.parametrize(
    ("function", "options", "error", "message"),
    [
        (acall, {}, NotAllowed, "coroutine function. Write async for"),
        (a_task, {}, NotAllowed, "it is a task"),
        (3, {}, NotAllowed, "given int"),
        (Pulled.__iter__, {}, NotAllowed, "generator function"),
        (str, {"executor": "threads"}, InvalidOption, "'thread', 'process' or 'interpreter'"),
        pytest.param(
            str,
            {"executor": "interpreter"},
            NotAllowed,
            'needs Python 3.14.*executor="process"',
            marks=pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python has it"),
        ),
        (str, {"max_workers": 0}, InvalidOption, "max_workers=0"),
        (str, {"chunk_size": True}, InvalidOption, "chunk_size=True"),
        (str, {"timeout": 0}, InvalidOption, "timeout=0"),
        (str, {"timeout": "3"}, InvalidOption, "timeout='3': must be a number of seconds"),
    ],
)
def test_what_cannot_be_is_refused_at_the_call(function, options, error, message) -> None:
    """Before anything is pulled, with the next step."""
    items = Pulled()
    with pytest.raises(error, match=message):
        parallel_map(function, items, **options)
    assert items.count == 0


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_is_refused(database) -> None:
    """Inside atomic() it raises at the call; with outside_transaction=True it runs, and sees nothing uncommitted."""
    count = User.objects.using(database).count
    with transaction.atomic(using=database):
        with pytest.raises(InsideTransaction, match="outside_transaction=True"):
            parallel_map(str, [1])
        if connections[database].vendor == "postgresql":
            User.objects.using(database).create(username="ann")
        assert list(parallel_map(lambda _: count(), [1], outside_transaction=True)) == [0]


# --- under TestCase -----------------------------------------------------------------------------


class InATestCase(TestCase):
    """Everything happens here, on the test's own connection."""

    def test_calls_run_here_in_order_and_lazily(self) -> None:
        """Each item is pulled and called when its result is wanted, in the test's thread, seeing the test's data."""
        User.objects.create(username="ann")
        items = Pulled()
        results = parallel_map(lambda n: (n, threading.current_thread(), User.objects.count()), items)
        assert items.count == 0
        here = threading.current_thread()
        assert list(itertools.islice(results, 2)) == [(1, here, 1), (2, here, 1)]
        assert items.count == 2

    def test_what_no_process_could_take_is_refused_here_as_well(self) -> None:
        """executor="process" runs here, too, and refuses at the same places as in production."""
        assert list(parallel_map(abs, [-1], executor="process")) == [1]
        with pytest.raises(NotAllowed, match="lambda"):
            parallel_map(lambda n: n, [1], executor="process")
        with pytest.raises(NotAllowed, match="Pass its pk"):
            list(parallel_map(str, [User.objects.create(username="ann")], executor="process"))

    def test_an_error_is_raised_as_it_is(self) -> None:
        """As outside of tests."""
        with pytest.raises(ZeroDivisionError):
            list(parallel_map(lambda n: 1 / n, [1, 0]))


def test_a_pool_that_ends_is_no_hang(monkeypatch) -> None:
    """If the pool cancels what it was given, as at the end of the process, the consumer is told."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(_item):
        begun.set()
        go_on.wait(PATIENCE)

    results = parallel_map(wait, [1, 2], max_workers=2)
    pool = default_executor()._pool

    def cancel():
        assert begun.wait(PATIENCE)
        eventually(lambda: pool._queue, what="the other one waits for the thread")
        for future in pool.withdraw_all():
            future.cancel()
            future.drop()
        go_on.set()

    monkeypatch.setattr(pool, "max_workers", 1)
    thread = threading.Thread(target=cancel)
    thread.start()
    assert next(results) is None
    with pytest.raises(CancelledError):
        next(results)
    thread.join(PATIENCE)
