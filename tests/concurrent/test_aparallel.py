"""``aparallel()``: coroutines, functions and queries at once on an event loop that is never blocked."""

import asyncio
import contextvars
import functools
import threading

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.contrib.auth.models import Group, User
from django.db import connection, connections, transaction
from django.test import TestCase
from django.utils import translation

from django_meanwhile.concurrent import InsideTransaction, NotAllowed, aparallel
from django_meanwhile.concurrent.threads import executor, lending
from django_meanwhile.concurrent.together import async_gathering
from tests.concurrent.test_parallel import fail, generator_function, sleep_in
from tests.playground import eventually

ON_A_DATABASE = pytest.mark.django_db(transaction=True)


@pytest.fixture
def pool(monkeypatch, settings):
    """Replace the process's pools by ones of these settings."""

    def replace(**concurrent):
        monkeypatch.setattr(executor, "_default", None)
        monkeypatch.setattr(lending, "_lenders", None)
        settings.MEANWHILE = {"CONCURRENT": concurrent}

    replace()
    return replace


async def one():
    return 1


async def afail():
    fail()


async def for_ever():
    await asyncio.Event().wait()


async def asleep_in(alias, begun=None):
    """Run a query that only an interruption ends, as an ORM call of a coroutine."""
    await sync_to_async(sleep_in)(alias, begun)


# --- results ------------------------------------------------------------------------------------


@ON_A_DATABASE
def test_it_takes_all_four_kinds_in_order(database, pool):
    """A coroutine function, a coroutine, a function and a queryset, each in its place; a queryset is itself."""
    User.objects.using(database).create(username="ann")
    users = User.objects.using(database).all()

    async def main():
        return await aparallel(one, one(), lambda: 2, users, User.objects.using(database).acount())

    found = asyncio.run(main())
    assert found[:3] == (1, 1, 2)
    assert found[3] is users
    assert found[4] == 1
    assert [user.username for user in users] == ["ann"]


def test_nothing_is_empty():
    """No calls, no results."""
    assert asyncio.run(aparallel()) == ()


def meet(barrier):
    barrier.wait(20)
    return threading.get_ident()


@pytest.mark.parametrize("surrounding", ["asyncio.run", "ThreadSensitiveContext", "async_to_sync"])
def test_orm_calls_of_coroutines_run_at_the_same_time(surrounding, pool):
    """Three coroutines whose thread-sensitive calls wait for each other all end, wherever asgiref would put them.

    Today's ``asyncio.gather()`` runs them one after another, and would wait here for ever.
    """
    barrier = threading.Barrier(3)

    async def coroutine():
        first = await sync_to_async(meet)(barrier)
        return first, await sync_to_async(threading.get_ident)()

    async def main():
        if surrounding == "ThreadSensitiveContext":
            async with ThreadSensitiveContext():
                return await aparallel(coroutine, coroutine(), coroutine)
        return await aparallel(coroutine, coroutine(), coroutine)

    found = async_to_sync(main)() if surrounding == "async_to_sync" else asyncio.run(main())
    assert all(first == second for first, second in found), "all calls of one coroutine run in one thread"
    assert len({first for first, _ in found}) == 3


def test_functions_run_at_the_same_time(pool):
    """Four functions that wait for each other all end, off the loop's thread."""
    barrier = threading.Barrier(4)
    threads = asyncio.run(aparallel(*[functools.partial(meet, barrier)] * 4))
    assert len(set(threads)) == 4
    assert threading.get_ident() not in threads


def test_tasks_that_a_coroutine_creates_share_its_thread(pool):
    """What a coroutine gathers itself is a part of it."""

    async def coroutine():
        return await asyncio.gather(*[sync_to_async(threading.get_ident)() for _ in range(3)])

    first, second = asyncio.run(aparallel(coroutine, coroutine))
    assert len(set(first)) == len(set(second)) == 1


def test_context_variables_and_language_are_the_callers(pool):
    """A coroutine, a function and a coroutine's sync call see them; what they set, the caller does not see."""
    variable = contextvars.ContextVar("variable", default="none")

    def look():
        return variable.get(), translation.get_language()

    async def coroutine():
        variable.set("changed")
        return look(), await sync_to_async(look)()

    async def main():
        variable.set("set")
        with translation.override("de"):
            found = await aparallel(coroutine, look)
        return found, variable.get()

    found, after = asyncio.run(main())
    assert found == ((("changed", "de"), ("changed", "de")), ("set", "de"))
    assert after == "set"


def test_the_loop_is_never_blocked(pool):
    """While the queue of the pool is full, and while calls run, other coroutines go on: they even end the waiting."""
    pool(max_workers=1, max_queued=0)
    go, ticks = threading.Event(), []

    async def tick():
        for _ in range(5):
            await asyncio.sleep(0.02)
            ticks.append(1)
        go.set()

    async def main():
        occupied = executor.default_executor().submit(go.wait, 20)
        _, found = await asyncio.gather(tick(), aparallel(int, int, int))
        return found, occupied.result()

    assert asyncio.run(main()) == ((0, 0, 0), True)
    assert len(ticks) == 5


def test_at_most_max_workers_at_once(pool):
    """Coroutines count as well."""
    alive, most = [], []

    async def coroutine():
        alive.append(1)
        most.append(len(alive))
        await asyncio.sleep(0)
        alive.pop()

    asyncio.run(aparallel(*[coroutine] * 6, max_workers=2))
    assert max(most) == 2


def test_nested(pool):
    """Coroutines in coroutines, and functions in those, on a pool of one thread."""
    pool(max_workers=1)

    async def nest(depth):
        if depth == 0:
            return (await aparallel(lambda: 1))[0]
        return sum(await aparallel(functools.partial(nest, depth - 1), nest(depth - 1)))

    assert asyncio.run(nest(4)) == 16


@pytest.mark.django_db(transaction=True, databases=["default", "postgresql"])
def test_nested_within_a_budget_of_one_connection(postgresql_server, pool):
    """A coroutine that waits gives its idle connection to those it waits for, instead of holding up all."""
    pool(max_workers=2, connections=1, connection_timeout=30)
    alias = "postgresql"

    async def outer():
        before = await User.objects.using(alias).acount()
        (inner,) = await aparallel(User.objects.using(alias).count)
        return before, inner, await User.objects.using(alias).acount()

    assert asyncio.run(aparallel(outer, outer)) == ((0, 0, 0),) * 2


@pytest.mark.django_db(transaction=True, databases=["default", "postgresql"])
def test_no_connection_is_left(postgresql_server, pool):
    """After ten rounds of coroutines, functions and querysets the server has none but the test's own connection."""
    alias = "postgresql"
    name = connections[alias].settings_dict["NAME"]

    async def main():
        for _ in range(10):
            users = User.objects.using(alias)
            await aparallel(users.acount(), users.aexists(), users.all(), functools.partial(list, users.all()))

    asyncio.run(main())
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> %s"
    own = connections[alias].connection.info.backend_pid if connections[alias].connection else 0
    eventually(lambda: postgresql_server.execute(query, (name, own))[0][0] == 0, what="their connections are closed")


# --- errors -------------------------------------------------------------------------------------


def test_the_first_error_cancels_coroutines(pool):
    """It is raised in a group, alone; the coroutine that would wait for ever was cancelled and has cleaned up."""
    seen = []

    async def careful():
        try:
            await for_ever()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            seen.append("cleaned up")
            raise

    async def main():
        with pytest.raises(ExceptionGroup, match=r"aparallel\(\): 1 of 2 calls failed, first \S*fail: ") as caught:
            await aparallel(careful, fail)
        return caught.value.exceptions

    assert [type(error) for error in asyncio.run(main())] == [ValueError]
    assert seen == ["cleaned up"]


@ON_A_DATABASE
@pytest.mark.parametrize("form", ["coroutine", "function"])
def test_the_first_error_interrupts_queries(database, pool, form):
    """Of a function, and of a coroutine's ORM call."""
    begun = threading.Event()

    async def fail_later():
        assert await asyncio.to_thread(begun.wait, 20)
        fail()

    async def main():
        call = asleep_in(database, begun) if form == "coroutine" else functools.partial(sleep_in, database, begun)
        with pytest.raises(ExceptionGroup) as caught:
            await aparallel(call, fail_later)
        return caught.value.exceptions

    assert [type(error) for error in asyncio.run(main())] == [ValueError]


def test_return_exceptions_stops_nothing(pool):
    """Errors stand among the results, in order."""
    found = asyncio.run(aparallel(afail, one, fail, return_exceptions=True))
    assert [type(value) for value in found] == [ValueError, int, ValueError]


@ON_A_DATABASE
def test_a_timeout_stops_all_kinds(database, pool, monkeypatch):
    """Queries are interrupted, coroutines cancelled; the message names what had not ended, and nothing is left."""
    monkeypatch.setattr(async_gathering, "STOP_WITHIN", 20)  # on a busy machine

    async def main():
        with pytest.raises(
            TimeoutError, match=r"aparallel\(\): not done within 0\.3 s: .*for_ever, .*sleep_in"
        ) as caught:
            await aparallel(for_ever, functools.partial(sleep_in, database), one, timeout=0.3)
        return str(caught.value)

    assert "Still running" not in asyncio.run(main())


@ON_A_DATABASE
def test_cancelling_the_awaiting_task_stops_all_and_awaits_it(database, pool):
    """When the cancelled task has ended, so have the query, the coroutine and what it had to clean up."""
    begun, ended = [threading.Event(), threading.Event()], []

    def sleep():
        try:
            sleep_in(database, begun[0])
        finally:
            ended.append("function")

    async def coroutine():
        try:
            await asleep_in(database, begun[1])
        finally:
            ended.append(await sync_to_async(lambda: "coroutine")())

    async def main():
        task = asyncio.create_task(aparallel(sleep, coroutine))
        for each in begun:
            assert await asyncio.to_thread(each.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return sorted(ended)

    assert asyncio.run(main()) == ["coroutine", "function"]


# --- refusals -----------------------------------------------------------------------------------


def test_what_is_refused(recwarn):
    """Results, generators and models as in ``parallel()``; a coroutine twice; and no coroutine is left unawaited."""
    for wrong, words in (
        (42, "argument 2 is 42 (int)"),
        (generator_function, "is a generator function"),
        (User, "Pass a queryset"),
        ([one()], "is a list. Pass its members: aparallel(*calls)."),
        (lambda x: x, "needs arguments (x), and aparallel() calls it without any"),
        (functools.partial(asleep_in), "needs arguments (alias)"),
    ):
        with pytest.raises(NotAllowed) as caught:
            asyncio.run(aparallel(one(), wrong))
        assert words in str(caught.value)
    coroutine = one()
    with pytest.raises(NotAllowed, match="is there twice"):
        asyncio.run(aparallel(coroutine, coroutine))
    assert not recwarn.list


# --- transactions -------------------------------------------------------------------------------


@ON_A_DATABASE
def test_inside_a_transaction_of_the_caller_it_is_refused(database, recwarn):
    """``atomic()`` around ``async_to_sync()`` is in another thread than the loop, and is seen."""

    async def main(**options):
        return await aparallel(one(), int, **options)

    with transaction.atomic(using=database):
        with pytest.raises(InsideTransaction, match=rf"aparallel\(\) inside atomic\(\) on database '{database}'"):
            async_to_sync(main)()
        assert async_to_sync(main)(outside_transaction=True) == (1, 0)
    assert not recwarn.list


class InATestCase(TestCase):
    """A test of a project, as Django's ``TestCase`` runs it, async."""

    async def test_everything_is_in_order_on_the_tests_own_connection(self):
        """What the test wrote is seen by functions, querysets and coroutines; all run in its thread, in order."""
        await User.objects.acreate(username="ann")
        order = []

        def create():
            order.append("function")
            Group.objects.create(name="staff")
            return threading.get_ident(), connection.in_atomic_block

        async def coroutine():
            order.append("coroutine")
            return await Group.objects.acount()

        users = User.objects.all()
        found = await aparallel(create, coroutine, users, coroutine(), int)
        assert order == ["function", "coroutine", "coroutine"]
        assert found[0] == (await sync_to_async(threading.get_ident)(), True)
        assert found[1] == found[3] == 1
        assert [user.username for user in users] == ["ann"]
