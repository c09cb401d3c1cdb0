"""``parallel()``: what it takes and returns, errors, timeouts, nesting, transactions."""

import asyncio
import functools
import itertools
import logging
import re
import signal
import sys
import threading
from concurrent.futures import CancelledError
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import SynchronousOnlyOperation
from django.db import IntegrityError, connection, connections, transaction
from django.db.models import F, Func, Value
from django.test import TestCase
from django.utils import translation

from django_meanwhile import task
from django_meanwhile.concurrent import InsideTransaction, NotAllowed, QueueFull, parallel
from django_meanwhile.concurrent.naming import name_of
from django_meanwhile.concurrent.threads import executor
from django_meanwhile.concurrent.threads.future import Future
from django_meanwhile.concurrent.together import gathering
from django_meanwhile.concurrent.together.scope import current_member
from tests.playground import eventually

SLEEPS = {
    "postgresql": "SELECT pg_sleep(60)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
}


def sleep_in(alias, begun=None):
    """Run a query that only an interruption ends."""
    with connections[alias].cursor() as cursor:
        if begun is not None:
            begun.set()
        cursor.execute(SLEEPS[connections[alias].vendor])


@pytest.fixture
def pool(monkeypatch, settings):
    """Replace the process's pool by one of these settings."""

    def replace(**concurrent):
        monkeypatch.setattr(executor, "_default", None)
        settings.MEANWHILE = {"CONCURRENT": concurrent}

    replace()
    return replace


# --- results ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_results_are_in_order_and_a_queryset_is_itself(database, django_assert_num_queries):
    """Each result is in its caller's place; a queryset comes back as the same object, and asks nothing any more."""
    user = User.objects.using(database).create(username="ann")
    group = Group.objects.using(database).create(name="staff")
    user.groups.add(group)
    users = User.objects.using(database).prefetch_related("groups")
    names = User.objects.using(database).values_list("username", flat=True)
    raw = Group.objects.using(database).raw("SELECT * FROM auth_group")
    found = parallel(lambda: 1, users, names, raw, functools.partial(pow, 2, 3))
    assert found[0] == 1
    assert found[1] is users
    assert found[2] is names
    assert found[3] is raw
    assert found[4] == 8
    with django_assert_num_queries(0, using=database):
        assert [[g.name for g in user.groups.all()] for user in users] == [["staff"]]
        assert list(names) == ["ann"]
        assert [group.name for group in raw] == ["staff"]


def test_nothing_is_empty():
    """No calls, no results."""
    assert parallel() == ()


@pytest.mark.django_db(transaction=True)
def test_a_queryset_that_a_function_returns_is_evaluated_in_its_thread(database, django_assert_num_queries):
    """Left lazy, it would be worked off in the caller, one after the other, and nothing would be parallel."""
    Group.objects.using(database).create(name="staff")
    (groups,) = parallel(lambda: Group.objects.using(database).all())
    with django_assert_num_queries(0, using=database):
        assert [group.name for group in groups] == ["staff"]


def test_calls_run_at_the_same_time_in_other_threads(pool):
    """Four calls that wait for each other all end; none of them runs in the caller's thread."""
    barrier = threading.Barrier(4)

    def meet():
        barrier.wait(20)
        return threading.get_ident()

    threads = set(parallel(meet, meet, meet, meet))
    assert len(threads) == 4
    assert threading.get_ident() not in threads


@pytest.mark.django_db(transaction=True, databases=["default", "postgresql"])
def test_eight_queries_are_on_the_server_at_the_same_time(postgresql_server, pool):
    """Eight queries, functions' and querysets', wait on the server for one lock: so they take the time of one.

    Shown by the server's own list of what it is doing, not by a clock.
    """
    pool(max_workers=8)
    alias = "postgresql"
    take = Func(Value(20061), function="pg_advisory_xact_lock_shared", output_field=User._meta.pk)

    def sleep():
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock_shared(20061), pg_sleep(0.05)")

    User.objects.using(alias).create(username="ann")
    querysets = [User.objects.using(alias).annotate(taken=take).values_list("taken", flat=True) for _ in range(4)]
    name = connections[alias].settings_dict["NAME"]
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event = 'advisory'"
    seen = []

    def watch():
        with postgresql_server.connect(name) as holder:
            holder.execute("SELECT pg_advisory_lock(20061)")
            held.set()
            try:
                seen.append(eventually(lambda: postgresql_server.execute(query, (name,))[0][0] == 8))
            finally:
                holder.execute("SELECT pg_advisory_unlock(20061)")

    held = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    assert held.wait(20)
    parallel(*[sleep] * 4, *querysets)
    watcher.join()
    assert seen == [True]


def test_at_most_max_workers_run_at_once(pool):
    """Two of six: never a third beside them, although the pool has more threads."""
    pool(max_workers=6)
    lock, alive, most = threading.Lock(), [], []
    pairs = threading.Barrier(2)

    def call():
        with lock:
            alive.append(1)
            most.append(len(alive))
        pairs.wait(20)
        with lock:
            alive.pop()

    parallel(*[call] * 6, max_workers=2)
    assert max(most) == 2


def test_a_full_queue_is_waited_for(pool):
    """With one thread and no queue, five calls run one after another."""
    pool(max_workers=1, max_queued=0)
    assert parallel(*[functools.partial(int, n) for n in range(5)]) == (0, 1, 2, 3, 4)
    assert parallel(*[functools.partial(int, n) for n in range(5)], timeout=60) == (0, 1, 2, 3, 4)


def test_time_runs_out_while_the_queue_is_full(pool):
    """The timeout counts the wait for room, too."""
    pool(max_workers=1, max_queued=0)
    go, busy = threading.Event(), threading.Event()

    def occupy():
        busy.set()
        go.wait(60)

    occupied = executor.default_executor().submit(occupy)
    assert busy.wait(20)
    with pytest.raises(TimeoutError, match="int"):
        parallel(functools.partial(int, 1), timeout=0.05)
    go.set()
    occupied.result(20)


def test_a_pool_that_rejects_stops_what_had_begun(pool):
    """``QueueFull`` is raised as it is, and the calls that were started have ended by then."""
    pool(max_workers=1, max_queued=0, when_full="reject")
    ended = []

    def first():
        eventually(lambda: current_member().scope.is_stopping, what="the second one was rejected")
        ended.append(1)

    with pytest.raises(QueueFull):
        parallel(first, lambda: ended.append(2), lambda: ended.append(3))
    assert ended in ([1], []), "it may not have begun"
    assert not executor.default_executor()._pool._queue


def test_surroundings_are_the_callers(pool):
    """A call sees the caller's language, wherever it runs."""
    with translation.override("de"):
        assert parallel(translation.get_language, translation.get_language) == ("de", "de")


# --- errors -------------------------------------------------------------------------------------


def fail(text="no"):
    raise ValueError(text)


def test_one_error_is_a_group_too():
    """As in ``asyncio.TaskGroup``: who handles errors writes ``except*``, however many there are."""
    with pytest.raises(ExceptionGroup) as caught:
        parallel(int, fail)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert caught.value.message == (
        "parallel(): 1 of 2 calls failed, first tests.concurrent.test_parallel.fail: ValueError: no"
    )


class Unprintable(Exception):
    """Whose text cannot be made."""

    def __str__(self):
        raise ZeroDivisionError


def raise_unprintable():
    raise Unprintable


def test_an_error_without_a_text_is_told_all_the_same():
    """The message of the group names its class; the error itself is in the group."""
    with pytest.raises(ExceptionGroup) as caught:
        parallel(raise_unprintable)
    assert "raise_unprintable: tests.concurrent.test_parallel.Unprintable" in caught.value.message
    assert isinstance(caught.value.exceptions[0], Unprintable)


def test_several_errors_are_one_group_in_order_of_the_calls(pool):
    """Both had begun, so both are told; the first of the arguments comes first, whichever failed first."""
    barrier = threading.Barrier(2)

    def second():
        barrier.wait(20)
        fail("second")

    def first():
        barrier.wait(20)
        fail("first")

    with pytest.raises(ExceptionGroup) as caught:
        parallel(first, second)
    assert [str(error) for error in caught.value.exceptions] == ["first", "second"]


def test_the_first_error_keeps_the_rest_from_beginning(pool):
    """What still waits for a thread is cancelled, and that is no error."""
    pool(max_workers=1)
    begun = []
    with pytest.raises(ExceptionGroup) as caught:
        parallel(fail, lambda: begun.append(1), lambda: begun.append(2))
    assert len(caught.value.exceptions) == 1
    assert begun == []


@pytest.mark.django_db(transaction=True)
def test_the_first_error_interrupts_queries(database, pool):
    """A query that would run for a minute ends at once; what it raises by that is not told as an error."""
    begun = threading.Event()

    def fail_later():
        assert begun.wait(20)
        fail()

    with pytest.raises(ExceptionGroup) as caught:
        parallel(functools.partial(sleep_in, database, begun), fail_later)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


def test_an_error_of_a_stopped_call_itself_is_told(pool):
    """Only what the stopping caused is left out."""
    both, failed = threading.Barrier(2), threading.Event()

    def fail_first():
        try:
            both.wait(20)
            fail("first")
        finally:
            failed.set()

    def fail_too():
        both.wait(20)
        assert failed.wait(20)
        raise KeyError("its own")

    with pytest.raises(ExceptionGroup) as caught:
        parallel(fail_first, fail_too)
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]


def test_nothing_outlives_an_error(pool):
    """When the group is raised, the other call has ended, though nobody can interrupt it."""
    both, ended = threading.Barrier(2), []

    def fail_first():
        both.wait(20)
        fail()

    def slow():
        both.wait(20)
        for _ in range(100_000):
            pass
        ended.append(True)

    with pytest.raises(ExceptionGroup):
        parallel(slow, fail_first)
    assert ended == [True]


def test_return_exceptions_stops_nothing(pool):
    """Errors stand among the results, in order, as with ``asyncio.gather``."""
    pool(max_workers=1)
    found = parallel(fail, lambda: 1, fail, return_exceptions=True)
    assert [type(value) for value in found] == [ValueError, int, ValueError]


def test_an_error_leaves_no_cycle_behind(pool):
    """The group's traceback does not hold the call's locals: they go when the group goes."""
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
        with pytest.raises(ExceptionGroup):
            parallel(call)
        eventually(lambda: seen[0]() is None, what="the locals of the failed call are gone without the collector")
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interruption_in_a_call_is_raised_as_itself(kind, pool):
    """As in ``asyncio.TaskGroup``: a call that raises it means the program, not the group."""

    def interrupt():
        raise kind

    with pytest.raises(kind):
        parallel(interrupt, int)


@pytest.mark.django_db(transaction=True)
def test_an_interruption_of_the_caller_stops_the_rest(database, pool):
    """Ctrl-C in a thread that waits: the query is interrupted, its call has ended, and the interruption goes on."""
    begun, ended = threading.Event(), threading.Event()

    def sleep():
        try:
            sleep_in(database, begun)
        finally:
            ended.set()

    def interrupt():
        assert begun.wait(20)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            parallel(sleep, interrupt)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert ended.is_set()


# --- timeout ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_timeout_interrupts_queries_and_names_them(database, pool, postgresql_server_if, monkeypatch):
    """``TimeoutError`` names what had not ended; on the server nothing of it runs any more."""
    monkeypatch.setattr(gathering, "STOP_WITHIN", 20)  # on a busy machine

    def slow_report():
        sleep_in(database)

    with pytest.raises(TimeoutError, match=r"not done within 0\.3 s: .*slow_report, .*queryset of User") as caught:
        parallel(int, slow_report, User.objects.using(database).all(), timeout=0.3, max_workers=1)
    assert "Still running" not in str(caught.value)
    assert postgresql_server_if() == 0


@pytest.fixture
def postgresql_server_if(database, request):
    """Count the queries that run on PostgreSQL for this database."""
    if database != "postgresql":
        return lambda: 0
    server = request.getfixturevalue("postgresql_server")
    name = connections[database].settings_dict["NAME"]
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND query LIKE '%%pg_sleep%%' AND state = 'active'"
    )
    return lambda: server.execute(query, (name,))[0][0]


def test_what_cannot_be_stopped_is_named_and_logged_and_so_is_its_late_error(pool, caplog, time_by):
    """Python code in a thread goes on: the caller is told which, and what becomes of it is not lost."""
    begun, go, over = threading.Event(), threading.Event(), threading.Event()
    time_by(begun.is_set)

    def stubborn():
        begun.set()
        go.wait(60)
        over.set()
        fail("late")

    with caplog.at_level(logging.WARNING, "django_meanwhile"):
        with pytest.raises(TimeoutError) as caught:
            parallel(stubborn, timeout=0.05)
        assert re.fullmatch(
            r"parallel\(\): not done within 0.05 s. Still running, for a thread's .* cannot be stopped: \S*stubborn\.",
            str(caught.value),
        )
        assert "stubborn is still running" in caplog.text
        go.set()
        assert over.wait(20)
        record = eventually(
            lambda: next((each for each in caplog.records if "after it had been given up" in each.getMessage()), None)
        )
    assert isinstance(record.exc_info[1], ValueError)


@pytest.mark.django_db(transaction=True)
def test_each_that_was_late_is_named_once(database, pool, time_by):
    """First what was stopped, then what runs on; of two that have one name one may be here, and one there."""
    go, scopes = threading.Event(), []

    def late(wait):
        scopes.append(current_member().scope)
        wait()

    time_by(lambda: len(scopes) == 2, lambda: len(scopes[0].alive) == 1)  # both have begun; the query was interrupted
    waits = [functools.partial(go.wait, 60), functools.partial(sleep_in, database), int]  # the last one never begins
    try:
        with pytest.raises(TimeoutError) as caught:
            parallel(*(functools.partial(late, wait) for wait in waits), max_workers=2, timeout=0.3)
    finally:
        go.set()
    stopped, left = str(caught.value).split(" Still running")
    assert (stopped.count("locals>.late"), left.count("locals>.late")) == (2, 1)


def test_a_lambda_is_named_with_its_line(pool, caplog):
    """One lambda is told from another: in an error's group, and in the log of the executor."""
    line = sys._getframe().f_lineno
    with pytest.raises(ExceptionGroup, match=rf"<lambda> \(test_parallel.py:{line + 2}\): ZeroDivisionError"):
        parallel(lambda: 1 / 0)
    assert name_of(functools.partial(lambda: 0)).endswith(f"<lambda> (test_parallel.py:{line + 3})")
    assert name_of(fail) == "tests.concurrent.test_parallel.fail"


def test_what_ended_in_time_is_no_timeout(pool):
    """A timeout that is not reached changes nothing."""
    assert parallel(int, int, timeout=60) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_a_timeout_in_a_nested_call_that_runs_in_the_waiting_thread(database, pool):
    """The only thread runs the nested query itself, and is still told when its time is up."""
    pool(max_workers=1)

    def outer():
        with pytest.raises(TimeoutError, match="sleep_in"):
            parallel(functools.partial(sleep_in, database), timeout=0.3)
        return "told"

    assert parallel(outer) == ("told",)


# --- nesting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_nesting_never_deadlocks(pool, threads):
    """Six levels deep on one thread, with an empty queue or none at all: whoever waits runs its own calls."""
    for queued in (100, 0):
        pool(max_workers=threads, max_queued=queued)

        def nest(depth):
            return 1 if depth == 0 else sum(parallel(*[functools.partial(nest, depth - 1)] * 2))

        assert nest(6) == 64


@pytest.mark.django_db(transaction=True)
def test_stopping_reaches_nested_calls(database, pool):
    """An error outside interrupts a query two levels down."""
    begun = threading.Event()

    def fail_later():
        assert begun.wait(20)
        fail()

    with pytest.raises(ExceptionGroup) as caught:
        parallel(lambda: parallel(lambda: parallel(functools.partial(sleep_in, database, begun))), fail_later)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


@pytest.mark.django_db(transaction=True)
def test_nested_inside_a_transaction_of_the_pools_only_thread(database, pool):
    """It may not run in that transaction, so it runs in another thread, and nobody waits for ever."""
    pool(max_workers=1)

    def outer():
        with transaction.atomic(using=database):
            return parallel(lambda: connections[database].in_atomic_block, outside_transaction=True)

    assert parallel(outer) == ((False,),)


# --- refusals -----------------------------------------------------------------------------------


async def coroutine_function():
    """Never awaited here."""


def generator_function():
    yield 1


def needs(order, *, fast):
    """Takes arguments."""


def with_default(x=1, *rest, fast=True):
    return x


@task
def some_task():
    """Run by a worker."""


class Needs:
    def method(self, order):
        """Takes an argument."""

    async def __call__(self):
        """Never awaited here."""


REFUSED = {
    "a result": (lambda: 42, "argument 2 is 42 (int), which cannot be called. Was a function called too early?"),
    "none": (lambda: None, "argument 2 is None (NoneType), which cannot be called"),
    "a list": (lambda: [coroutine_function(), int], "argument 2 is a list. Pass its members: parallel(*calls)."),
    "a tuple": (lambda: (int, str), "argument 2 is a tuple. Pass its members: parallel(*calls)."),
    "a dict": (lambda: {"a": coroutine_function()}, "2 is a dict. Pass its members: parallel(*calls.values())."),
    "coroutine": (coroutine_function, "is an awaitable (coroutine), which threads do not await"),
    "coroutine function": (lambda: coroutine_function, "coroutine_function, is a coroutine function"),
    "partial of one": (lambda: functools.partial(coroutine_function), "is a coroutine function"),
    "object": (Needs, "Needs, is a coroutine function"),
    "generator": (lambda: (n for n in ()), "is a generator or iterator (generator)"),
    "iterator": (lambda: iter([1]), "is a generator or iterator (list_iterator)"),
    "generator function": (lambda: generator_function, "is a generator function"),
    "instance": (lambda: User(username="ann"), "is an instance of django.contrib.auth.models.User"),
    "model": (lambda: User, "is the model User. Pass a queryset: User.objects.all()"),
    "manager": (lambda: User.objects, "is a manager (django.contrib.auth.models.UserManager)"),
    "related manager": (lambda: User(pk=1).groups, "is a manager ("),
    "task": (lambda: some_task, "is a task (tests.concurrent.test_parallel.some_task)"),
    "arguments": (lambda: needs, "calls it without any. Write functools.partial(needs, order, fast=...)"),
    "one argument": (lambda: lambda x: x, "needs arguments (x), and parallel() calls it without any. Write functools"),
    "a method's": (lambda: Needs().method, "needs arguments (order)"),
}  # fmt: skip


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named_before_anything_starts(name, django_assert_num_queries):
    """The message names the position, what is there, and what to write; the other calls have not begun."""
    make, words = REFUSED[name]
    begun = []
    with django_assert_num_queries(0), pytest.raises(NotAllowed) as caught:
        parallel(lambda: begun.append(1), make())
    assert words in str(caught.value)
    assert str(caught.value).startswith("parallel(): argument 2")
    assert begun == []


def test_what_need_not_be_refused():
    """Defaults, ``*args``, builtins, classes, bound methods and partials are called without arguments."""
    assert parallel(with_default, dict, "a".upper, functools.partial(needs, 1, fast=2), lambda *a, **k: a) == (
        1, {}, "A", None, (),
    )  # fmt: skip


def test_on_an_event_loop_it_is_refused(pool, monkeypatch):
    """It would stop the loop: nothing has begun, and the message has what to write. Django's own way out is one."""
    begun = []

    async def view():
        return parallel(lambda: begun.append(1))

    with pytest.raises(SynchronousOnlyOperation, match=r"^parallel\(\) waits, .* Write: await aparallel\(\.\.\.\)$"):
        asyncio.run(view())
    assert begun == []
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    asyncio.run(view())
    assert begun == [1]


def test_in_a_thread_of_an_event_loop_it_is_not_refused(pool):
    """The thread may wait: the loop goes on."""

    async def view():
        return await sync_to_async(parallel)(int, str)

    assert asyncio.run(view()) == (0, "")


def test_the_same_queryset_twice_is_refused():
    """Two threads would evaluate one object at once."""
    users = User.objects.all()
    with pytest.raises(NotAllowed, match=r"queryset of User is there twice.*queryset.all\(\)"):
        parallel(users, users)


def test_lazy_results_are_refused():
    """A function that returns a coroutine or a generator has done nothing: that is an error, not a result."""
    with pytest.raises(ExceptionGroup) as caught:
        parallel(lambda: coroutine_function())  # noqa: PLW0108
    assert "coroutine_function, which is never awaited there" in str(caught.value.exceptions[0])
    with pytest.raises(ExceptionGroup) as caught:
        parallel(lambda: generator_function())  # noqa: PLW0108
    assert "Return a list" in str(caught.value.exceptions[0])


@pytest.mark.parametrize("option", [{"max_workers": 0}, {"max_workers": True}, {"timeout": -1}, {"timeout": "3"}])
def test_options_are_checked(option):
    """The message names the option, its value and the rule."""
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=rf"parallel\({name}={value!r}\): must be a"):
        parallel(int, **option)


# --- transactions -------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_is_refused_once(database):
    """Nothing starts; the message names the alias and the ways out. With ``outside_transaction`` it runs."""
    begun = []
    with transaction.atomic(using=database):
        with pytest.raises(InsideTransaction, match=rf"parallel\(\) inside atomic\(\) on database '{database}'"):
            parallel(lambda: begun.append(1))
        assert begun == []
        User.objects.using(database).count()
        assert parallel(lambda: connections[database].in_atomic_block, outside_transaction=True) == (False,)


class InATestCase(TestCase):
    """A test of a project, as Django's ``TestCase`` runs it."""

    def test_it_runs_in_order_on_the_tests_own_connection(self):
        """What the test has written is seen, and what a call writes is seen by the next, and rolled back at the end."""
        User.objects.create(username="ann")
        order, here = itertools.count(), threading.get_ident()

        def create():
            User.objects.create(username=f"user-{next(order)}")
            return threading.get_ident(), connection.in_atomic_block

        users = User.objects.order_by("pk")
        found = parallel(create, users, create)
        assert found[0] == found[2] == (here, True)
        assert [user.username for user in users] == ["ann", "user-0"]

    def test_errors_stop_the_next(self):
        """The rules are the same: a group, and what comes later does not begin."""
        begun = []
        with pytest.raises(ExceptionGroup):
            parallel(fail, lambda: begun.append(1))
        assert begun == []

    def test_an_error_of_the_database_breaks_the_tests_transaction_as_any_codes_does(self):
        """The how-to says so: the next query is refused by Django, unless the call has an ``atomic()`` of its own."""

        def twice():
            User.objects.create(username="ann")
            User.objects.create(username="ann")

        def twice_in_atomic():
            with transaction.atomic():
                twice()

        error, count = parallel(twice_in_atomic, User.objects.count, return_exceptions=True)
        assert (type(error), count) == (IntegrityError, 0)
        error, refused = parallel(twice, User.objects.count, return_exceptions=True)
        assert (type(error), type(refused)) == (IntegrityError, transaction.TransactionManagementError)

    def test_a_timeout_is_looked_at_after_each_call(self):
        """A call that took longer is told as it would be; calls that are fast one by one are not late in sum."""
        times = [0.0]

        def take(seconds):
            times.append(times[-1] + seconds)

        with mock.patch.object(gathering, "monotonic", side_effect=lambda: times[-1]):
            with pytest.raises(TimeoutError, match="In a TestCase"):
                parallel(functools.partial(take, 0.2), int, timeout=0.1)
            assert parallel(*[functools.partial(take, 0.4)] * 4, timeout=1) == (None,) * 4


def test_a_cancelled_call_of_somebody_else_is_an_error(pool):
    """``CancelledError`` that no stopping of ours caused is told like any other error."""

    def cancelled():
        raise CancelledError

    with pytest.raises(ExceptionGroup) as caught:
        parallel(cancelled)
    assert isinstance(caught.value.exceptions[0], CancelledError)


@pytest.mark.django_db(transaction=True)
def test_no_query_for_permissions_is_lost(pool):
    """A slice and an annotation are evaluated as they are."""
    some = Permission.objects.annotate(same=F("pk"))[:3]
    assert len(parallel(some)[0]) == 3


@pytest.mark.django_db(transaction=True)
def test_an_interruption_that_came_too_early_is_repeated(database, pool, monkeypatch):
    """A query that begins just as its call is stopped is missed by the first interruption, and hit by the next."""
    begun, stops = threading.Event(), []
    stop = Future.stop

    def missed_at_first(self):
        stops.append(1)
        if len(stops) > 1:
            stop(self)

    monkeypatch.setattr(Future, "stop", missed_at_first)

    def fail_later():
        assert begun.wait(20)
        fail()

    with pytest.raises(ExceptionGroup) as caught:
        parallel(functools.partial(sleep_in, database, begun), fail_later)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert len(stops) >= 2


def test_an_error_before_the_timeout_is_what_is_told(pool, time_by):
    """What came first decides: the time then only ends the waiting for what cannot be stopped."""
    both, go, scopes = threading.Barrier(2), threading.Event(), []
    time_by(lambda: scopes and scopes[0].is_stopping)

    def fail_first():
        scopes.append(current_member().scope)
        both.wait(20)
        fail()

    def stubborn():
        both.wait(20)
        go.wait(60)

    with pytest.raises(ExceptionGroup) as caught:
        parallel(stubborn, fail_first, timeout=0.5)
    go.set()
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
