# ruff: noqa: PT012, SIM117 - a block with its tasks is one statement of what is tested
"""``TaskGroup``: nothing outlives the block, and the rules of the end are asyncio's."""

import asyncio
import functools
import signal
import threading
from concurrent.futures import CancelledError, wait

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, transaction
from django.test import TestCase
from django.utils import translation

from django_meanwhile.concurrent import InsideTransaction, NotAllowed, TaskGroup
from django_meanwhile.concurrent.threads import executor
from tests.concurrent.test_parallel import coroutine_function, fail, generator_function, needs, sleep_in
from tests.playground import eventually


@pytest.fixture
def pool(monkeypatch, settings):
    """Replace the process's pool by one of these settings."""

    def replace(**concurrent):
        monkeypatch.setattr(executor, "_default", None)
        settings.MEANWHILE = {"CONCURRENT": concurrent}

    replace()
    return replace


def test_tasks_have_ended_after_the_block(pool):
    """Each task has its arguments and its result, and whoever leaves the block finds them done."""
    with TaskGroup() as group:
        futures = [group.create_task(pow, base, 2) for base in range(20)]
        named = group.create_task(int, "ff", base=16)
    assert [future.done() for future in futures] == [True] * 20
    assert [future.result() for future in futures] == [base**2 for base in range(20)]
    assert named.result() == 255


def test_tasks_run_at_the_same_time(pool):
    """Three tasks that wait for each other all end."""
    barrier = threading.Barrier(3)
    with TaskGroup() as group:
        for _ in range(3):
            group.create_task(barrier.wait, 20)


def test_tasks_may_create_tasks(pool):
    """A task adds to the group that it is in, while the block waits already; the block waits for those, too."""
    seen = []

    def grow(depth):
        seen.append(depth)
        if depth:
            group.create_task(grow, depth - 1)
            group.create_task(grow, depth - 1)

    for threads in (1, 3):
        pool(max_workers=threads, max_queued=1)
        seen.clear()
        with TaskGroup() as group:
            group.create_task(grow, 4)
        assert len(seen) == 31


def test_surroundings_are_those_of_create_task(pool):
    """As in asyncio, each task has the context of the moment it was created in."""
    with TaskGroup() as group:
        with translation.override("de"):
            german = group.create_task(translation.get_language)
        with translation.override("fr"):
            french = group.create_task(translation.get_language)
    assert (german.result(), french.result()) == ("de", "fr")


def test_an_error_is_raised_in_a_group_at_the_end(pool):
    """One error is a group, too, with asyncio's words; the future has the error as well."""
    with pytest.raises(ExceptionGroup, match="unhandled errors in a TaskGroup") as caught:
        with TaskGroup() as group:
            failed = group.create_task(fail)
    assert caught.value.exceptions == (failed.exception(),)


@pytest.mark.django_db(transaction=True)
def test_an_error_stops_the_rest(database, pool):
    """A running query is interrupted, a task that has not begun never begins; only the error itself is told."""
    begun, all_created = threading.Event(), threading.Event()

    def fail_later():
        assert begun.wait(20)
        assert all_created.wait(20)
        fail()

    with pytest.raises(ExceptionGroup) as caught:
        with TaskGroup(max_workers=2) as group:
            group.create_task(sleep_in, database, begun)
            group.create_task(fail_later)
            never = group.create_task(int)
            all_created.set()
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert never.cancelled()
    assert wait([never], 0).done == {never}, "who waits for it elsewhere was told"


def test_after_an_error_no_task_can_be_created(pool):
    """``create_task()`` raises as asyncio's does; that the block fails by this is not told as an error of its own."""
    with pytest.raises(ExceptionGroup) as caught:
        with TaskGroup() as group:
            wait([group.create_task(fail)], 20)
            while True:  # the future is done a moment before the group hears of it
                group.create_task(int)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


def test_the_blocks_own_error_stops_the_tasks_and_is_in_the_group(pool):
    """As in asyncio: the block's exception is one of the group, whether or not a task fails as well."""
    begun, go = threading.Event(), threading.Event()

    def stubborn():
        begun.set()
        assert go.wait(20)
        raise KeyError("too")

    pool(max_workers=1)
    with pytest.raises(ExceptionGroup) as caught:
        with TaskGroup() as group:
            group.create_task(stubborn)
            never = group.create_task(int)
            assert begun.wait(20)
            never.add_done_callback(lambda _: go.set())  # it is cancelled: the group is being stopped
            fail("in the block")
    assert {type(error) for error in caught.value.exceptions} == {ValueError, KeyError}
    assert never.cancelled()


def test_an_error_that_the_block_asks_for_is_told_once(pool):
    """``future.result()`` in the block raises the task's own error: it is one error, not two."""
    with pytest.raises(ExceptionGroup) as caught:
        with TaskGroup() as group:
            group.create_task(fail).result(20)
    assert len(caught.value.exceptions) == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interruptions_are_raised_as_themselves(kind, pool):
    """From a task or from the block: as asyncio does, in no group, and after all tasks have ended."""

    def interrupt():
        raise kind

    with pytest.raises(kind), TaskGroup() as group:
        group.create_task(interrupt)
    with pytest.raises(kind), TaskGroup() as group:
        group.create_task(fail)
        raise kind


@pytest.mark.django_db(transaction=True)
def test_an_interruption_of_whoever_waits_stops_the_tasks(database, pool):
    """Ctrl-C while the block waits for its tasks: the query is interrupted, its task has ended."""
    begun = threading.Event()

    def interrupt():
        assert begun.wait(20)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    try:
        with pytest.raises(KeyboardInterrupt), TaskGroup() as group:
            stopped = group.create_task(sleep_in, database, begun)
            group.create_task(interrupt)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert stopped.done()


def test_a_task_that_is_cancelled_by_hand_is_no_error(pool):
    """As in asyncio: the group goes on, also with the one that waits behind it for ``max_workers``."""
    go, begun = threading.Event(), threading.Event()

    def hold():
        begun.set()
        return go.wait(20)

    with TaskGroup(max_workers=1) as group:
        first = group.create_task(hold)
        assert begun.wait(20)
        second, third = group.create_task(int), group.create_task(int)
        assert second.cancel()
        go.set()
    assert (first.result(), second.cancelled(), third.result()) == (True, True, 0)


def test_the_block_may_raise_cancelled_error(pool):
    """As in asyncio, it is no error of the group: it stops the tasks and goes on as itself."""
    with pytest.raises(CancelledError), TaskGroup() as group:
        group.create_task(int)
        raise CancelledError


def test_at_most_max_workers_run_at_once(pool):
    """Two of eight, although the pool has more threads; all of them run."""
    lock, alive, most, pairs = threading.Lock(), [], [], threading.Barrier(2)

    def call():
        with lock:
            alive.append(1)
            most.append(len(alive))
        pairs.wait(20)
        with lock:
            alive.pop()

    with TaskGroup(max_workers=2) as group:
        futures = [group.create_task(call) for _ in range(8)]
    assert max(most) == 2
    assert all(future.exception() is None for future in futures)


def test_max_workers_and_a_full_queue(pool):
    """What waits for its turn is started although the queue had no room when the turn came."""
    pool(max_workers=1, max_queued=0)
    with TaskGroup(max_workers=2) as group:
        futures = [group.create_task(pow, n, 2) for n in range(6)]
    assert [future.result() for future in futures] == [0, 1, 4, 9, 16, 25]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_nesting_never_deadlocks(pool, threads):
    """Five groups deep on one thread: whoever waits runs the tasks itself."""
    pool(max_workers=threads, max_queued=2)

    def nest(depth):
        if depth == 0:
            return 1
        with TaskGroup() as group:
            futures = [group.create_task(nest, depth - 1) for _ in range(2)]
        return sum(future.result() for future in futures)

    with TaskGroup() as group:
        total = group.create_task(nest, 5)
    assert total.result() == 32


@pytest.mark.django_db(transaction=True)
def test_stopping_reaches_nested_groups(database, pool):
    """An error outside interrupts a query in a group within a task, and the inner block is told that it was stopped."""
    begun, seen = threading.Event(), []

    def inner():
        try:
            with TaskGroup() as group:
                group.create_task(sleep_in, database, begun)
        except BaseException as error:
            seen.append(type(error))
            raise

    def fail_later():
        assert begun.wait(20)
        fail()

    with pytest.raises(ExceptionGroup) as caught:
        with TaskGroup() as group:
            group.create_task(inner)
            group.create_task(fail_later)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert seen == [CancelledError]


def test_a_group_is_used_once(pool):
    """Before the block, after it and a second time: ``RuntimeError``, as asyncio raises it."""
    group = TaskGroup()
    with pytest.raises(RuntimeError, match=r"<TaskGroup> has not been entered"):
        group.create_task(int)
    with group:
        pass
    with pytest.raises(RuntimeError, match="is finished"):
        group.create_task(int)
    with pytest.raises(RuntimeError, match="has already been entered"), group:
        pass
    with pytest.raises(ValueError, match="max_workers=0"):
        TaskGroup(max_workers=0)


def test_what_no_thread_can_call_is_refused(pool):
    """A coroutine, a generator function, a result, a queryset: ``NotAllowed`` in the block, and nothing was begun."""
    for wrong, words in (
        (coroutine_function, "is a coroutine function, which threads do not await"),
        (coroutine_function(), "is an awaitable"),
        (generator_function, "is a generator function"),
        (42, "is 42 (int), which cannot be called"),
        ([int], "is a list. Call create_task() for each of its members."),
        (User, "is the model User"),
        (User.objects.all(), "create_task(list, queryset)"),
    ):
        with TaskGroup() as group, pytest.raises(NotAllowed) as caught:
            group.create_task(wrong)
        assert words in str(caught.value)


def test_wrong_arguments_are_an_error_of_the_task(pool):
    """As everywhere in Python, ``TypeError``."""
    with pytest.raises(ExceptionGroup) as caught, TaskGroup() as group:
        group.create_task(needs)
    assert isinstance(caught.value.exceptions[0], TypeError)


def test_on_an_event_loop_it_is_refused(pool):
    """Its end would stop the loop: the block is not entered, and the message says what to write."""

    async def view():
        with TaskGroup():
            raise AssertionError("entered")

    with pytest.raises(SynchronousOnlyOperation, match=r"^TaskGroup\(\) waits, .* Write: async with asyncio.TaskGroup"):
        asyncio.run(view())


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_is_refused(database):
    """At the beginning of the block, once; ``outside_transaction`` allows it."""
    with transaction.atomic(using=database):
        with pytest.raises(InsideTransaction, match=r"TaskGroup\(\) inside atomic\(\)"), TaskGroup():
            pass
        with TaskGroup(outside_transaction=True) as group:
            group.create_task(int)


class InATestCase(TestCase):
    """A test of a project, as Django's ``TestCase`` runs it."""

    def test_tasks_run_at_once_on_the_tests_own_connection(self):
        """When ``create_task()`` returns the task has ended, in this thread, and saw what the test has written."""
        User.objects.create(username="ann")
        with TaskGroup(max_workers=1) as group:
            count = group.create_task(User.objects.count)
            assert count.done()
            thread = group.create_task(threading.get_ident)
            inside = group.create_task(lambda: connection.in_atomic_block)
        assert (count.result(), thread.result(), inside.result()) == (1, threading.get_ident(), True)


def test_an_error_leaves_no_cycle_behind(pool):
    """What a failed task held is gone when its error is, without the collector."""
    import gc
    import weakref

    class Large:
        pass

    def call():
        large = Large()
        seen.append(weakref.ref(large))
        fail()

    seen = []
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ExceptionGroup), TaskGroup() as group:
            group.create_task(call)
        del group
        eventually(lambda: seen[0]() is None, what="a thread of the pool lets go of what it has just run")
    finally:
        gc.enable()


def test_the_pools_threads_are_used_again(pool):
    """Groups make no threads of their own: ten of them run in the threads of the one pool."""
    pool(max_workers=2)
    names = set()
    for _ in range(10):
        with TaskGroup() as group:
            for _ in range(4):
                group.create_task(lambda: names.add(threading.current_thread().name))
    assert len(names) <= 2
    assert functools.reduce(lambda a, b: a and b.startswith("default_executor"), names, True)


class Afterwards:
    """A lock that tells when it has been released."""

    def __init__(self, lock, tell):
        self._lock, self._tell = lock, tell

    def __enter__(self):
        return self._lock.__enter__()

    def __exit__(self, *_):
        self._lock.__exit__()
        self._tell()


def test_a_task_that_ends_just_as_whoever_waits_would_run_it(pool):
    """The waiting thread has found that the task has not begun; before it can run it, another thread ends it."""
    pool(max_workers=1)
    seen = []

    def nest():
        with TaskGroup() as group:
            task = group.create_task(int)  # queued: the pool's one thread is this
            scope = group._scope
            is_pending, found = scope.is_pending, []

            def is_pending_and_found(member):
                found.append(member)
                return is_pending(member)

            def end_it():
                if found and not seen:
                    seen.append(task)
                    other = threading.Thread(target=task.cancel)
                    other.start()
                    other.join(20)

            scope.is_pending = is_pending_and_found
            scope.lock = Afterwards(scope.lock, end_it)

    with TaskGroup() as group:
        nested = group.create_task(nest)
    assert nested.exception() is None
    assert seen[0].cancelled()


def test_what_waits_for_its_turn_is_not_asked_to_run(pool):
    """Whoever waits for a task that another thread runs sleeps meanwhile, though another one could not begin yet."""
    pool(max_workers=2)
    begun, go, asked = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        assert go.wait(20)

    def nest():
        with TaskGroup(max_workers=1) as group:
            group.create_task(work)
            second = group.create_task(int)
            assert begun.wait(20)  # in the other thread
            run_here = second.run_here
            # After that its turn may have come, and whoever is the first may run it.
            second.run_here = lambda: (go.is_set() or asked.append(True), go.set(), run_here())
            changed = group._scope.changed
            wait, changed.wait = changed.wait, lambda left=None: (go.set(), wait(left))
        assert second.result() == 0

    with TaskGroup() as group:
        group.create_task(nest)
        group.create_task(int)
    assert not asked
