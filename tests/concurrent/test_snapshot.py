"""``parallel(..., snapshot=True)``: one state of the data for all calls, and nothing left open behind it."""

import asyncio
import functools
import threading
from collections import Counter
from concurrent import futures

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import DatabaseError, connections, transaction
from django.test import TestCase

from django_meanwhile.concurrent import ConnectionTimeout, NotAllowed, SnapshotUnavailable, aparallel, parallel
from django_meanwhile.concurrent.threads import executor as threads_executor
from django_meanwhile.concurrent.threads import lending
from django_meanwhile.concurrent.together import snapshot
from tests.concurrent.test_parallel import fail, sleep_in
from tests.playground import eventually

ALIAS = "postgresql"

on_postgresql = pytest.mark.django_db(transaction=True, databases=["default", ALIAS])


@pytest.fixture
def pool(monkeypatch, settings):
    """Replace the process's pools by ones of these settings."""

    def replace(**concurrent):
        monkeypatch.setattr(threads_executor, "_default", None)
        monkeypatch.setattr(lending, "_lenders", None)
        settings.MEANWHILE = {"CONCURRENT": concurrent}

    replace()
    return replace


@pytest.fixture(params=["parallel", "aparallel"])
def run(request, pool, postgresql_server):
    """Call ``parallel``, or ``aparallel`` on a loop; check afterwards that no transaction is left open."""

    def call(*calls, **options):
        if request.param == "parallel":
            return parallel(*calls, **options)

        async def main():
            return await aparallel(*calls, **options)

        return async_to_sync(main)()

    yield call
    name = connections[ALIAS].settings_dict["NAME"]
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state LIKE 'idle in transaction%%'"
    eventually(lambda: postgresql_server.execute(query, (name,))[0][0] == 0, what="no transaction is left open")


def count():
    return User.objects.using(ALIAS).count()


class Between:
    """Two counts, between whose transactions another connection commits a row."""

    def __init__(self, server):
        self.server, self.turn = server, threading.Event()

    def before(self):
        found = count()
        name = connections[ALIAS].settings_dict["NAME"]
        insert = (
            "INSERT INTO auth_user (username, password, is_superuser, first_name, last_name, email, is_staff,"
            " is_active, date_joined) VALUES (%s, '', false, '', '', '', false, true, now())"
        )
        self.server.execute(insert, (f"user-{id(self)}",), dbname=name)
        self.turn.set()
        return found

    def after(self):
        assert self.turn.wait(20)
        return count()


@on_postgresql
@pytest.mark.parametrize("in_one_thread", [False, True])
def test_all_calls_see_one_state(run, pool, postgresql_server, in_one_thread):
    """A row that is committed between two calls is seen by neither, nor by a queryset; side by side or in a row."""
    pool(max_workers=1 if in_one_thread else 4, connections=4)
    between = Between(postgresql_server)
    users = User.objects.using(ALIAS).all()
    found = run(between.before, between.after, users, snapshot=ALIAS)
    assert found == (0, 0, users)
    assert len(users) == 0
    assert count() == 1


@on_postgresql
def test_without_a_snapshot_they_do_not(run, postgresql_server):
    """The proof's counterpart: each call sees what is committed when its query begins."""
    between = Between(postgresql_server)
    assert run(between.before, between.after) == (0, 1)


@on_postgresql
def test_writes_are_refused_by_the_database(run):
    """The transaction is read-only: the error is the database's own, in the group."""
    with pytest.raises(ExceptionGroup) as caught:
        run(lambda: User.objects.using(ALIAS).create(username="ann"), count, snapshot=ALIAS)
    assert isinstance(caught.value.exceptions[0], DatabaseError)
    assert "read-only transaction" in str(caught.value.exceptions[0])
    assert count() == 0


@on_postgresql
def test_an_error_leaves_nothing_open(run):
    """Neither the exporting transaction nor an importing one: what ``run`` looks for at its end."""
    with pytest.raises(ExceptionGroup):
        run(count, fail, snapshot=ALIAS)
    User.objects.using(ALIAS).create(username="the caller's own connection is no longer read-only")


@on_postgresql
def test_a_timeout_leaves_nothing_open(run):
    """The query that it interrupts was in a transaction of the snapshot: that is over as well."""
    with pytest.raises(TimeoutError):
        run(functools.partial(sleep_in, ALIAS), count, snapshot=ALIAS, timeout=0.3)
    User.objects.using(ALIAS).create(username="ann")


@on_postgresql
def test_a_cancelled_task_leaves_nothing_open(run, pool):
    """Cancelled while a query runs: when the task has ended, so have all transactions."""
    begun = threading.Event()

    async def main():
        task = asyncio.create_task(aparallel(functools.partial(sleep_in, ALIAS, begun), count, snapshot=ALIAS))
        assert await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async_to_sync(main)()
    User.objects.using(ALIAS).create(username="ann")


@on_postgresql
def test_inside_a_transaction_the_snapshot_is_that_transactions(run, postgresql_server):
    """With ``outside_transaction``: the calls agree on what others had committed, and see none of its own."""
    between = Between(postgresql_server)
    with transaction.atomic(using=ALIAS):
        User.objects.using(ALIAS).create(username="mine")
        assert run(between.before, between.after, snapshot=ALIAS, outside_transaction=True) == (0, 0)
        User.objects.using(ALIAS).create(username="still writable")
        with transaction.atomic(using=ALIAS), pytest.raises(SnapshotUnavailable, match="savepoint"):
            run(count, snapshot=ALIAS, outside_transaction=True)
    assert count() == 3


@on_postgresql
def test_nested_in_a_thread_of_a_pool_of_one(pool, postgresql_server):
    """The waiting thread's own connection exports, so the nested calls run in threads beside it."""
    pool(max_workers=1, connections=4)
    between = Between(postgresql_server)
    assert parallel(lambda: parallel(between.before, between.after, snapshot=ALIAS)) == ((0, 0),)


@on_postgresql
def test_many_at_once_do_not_take_each_others_connections(pool, postgresql_server):
    """Six at once within a budget of two: half of it is kept for their calls, so none waits for another for ever."""
    pool(max_workers=2, connections=2, connection_timeout=60)

    async def main():
        return await asyncio.gather(*[aparallel(count, count, snapshot=ALIAS) for _ in range(6)])

    assert async_to_sync(main)() == [(0, 0)] * 6


@on_postgresql
def test_a_budget_of_one_connection_is_too_small(pool, postgresql_server):
    """Where a connection of ours holds the snapshot none is left for the calls: told at once, with what to write."""
    pool(max_workers=1, connections=1)
    with pytest.raises(SnapshotUnavailable, match="Write 2 or more"):
        asyncio.run(aparallel(count, snapshot=ALIAS))
    with pytest.raises(ExceptionGroup) as caught:
        parallel(lambda: parallel(count, snapshot=ALIAS))
    assert isinstance(caught.value.exceptions[0], SnapshotUnavailable)
    assert parallel(count, count, snapshot=ALIAS) == (0, 0), "a request's own connection is not counted"


@on_postgresql
def test_coroutines_wait_for_each_other_no_longer_than_without(pool, postgresql_server):
    """While ``aparallel`` holds a snapshot, other coroutines of the request may write: it is not their connection."""

    async def main():
        going, go = threading.Event(), threading.Event()

        def hold():
            going.set()
            assert go.wait(20)
            return count()

        async def write():
            assert await asyncio.to_thread(going.wait, 20)
            await User.objects.using(ALIAS).acreate(username="ann")
            go.set()

        (found,), _ = await asyncio.gather(aparallel(hold, snapshot=ALIAS), write())
        return found

    assert async_to_sync(main)() == 0
    assert count() == 1


def test_elsewhere_it_is_unavailable(pool):
    """SQLite has no snapshot to share: the message names it and says what to do. So it is for an unknown alias."""
    for call in (parallel, lambda *a, **o: asyncio.run(aparallel(*a, **o))):
        with pytest.raises(
            SnapshotUnavailable, match=r"snapshot=True: database 'default' is SQLite, .* one transaction"
        ):
            call(int, snapshot=True)
    with pytest.raises(SnapshotUnavailable, match=r"snapshot='nowhere': there is no database .* known: default"):
        parallel(int, snapshot="nowhere")


def test_what_cannot_be_brought_into_it_is_refused(pool, postgresql_server, recwarn):
    """Awaitables, and querysets on another database: before anything starts."""

    async def coroutine():
        """Never awaited."""

    for wrong in (coroutine, coroutine()):
        with pytest.raises(NotAllowed, match=r"argument 2, .*coroutine.* cannot be brought into the snapshot"):
            asyncio.run(aparallel(int, wrong, snapshot=ALIAS))
    with pytest.raises(NotAllowed, match="queryset of User on database 'default', but"):
        parallel(User.objects.all(), snapshot=ALIAS)
    assert not recwarn.list


class InATestCase(TestCase):
    """A test of a project, as Django's ``TestCase`` runs it."""

    databases = ("default", ALIAS)

    @pytest.mark.usefixtures("postgresql_server")
    def test_it_sees_what_the_test_has_written(self):
        """All runs in the test's one transaction, which is one state anyway."""
        User.objects.using(ALIAS).create(username="ann")
        users = User.objects.using(ALIAS).all()
        assert parallel(count, users, snapshot=ALIAS)[0] == 1
        assert len(users) == 1

    @pytest.mark.usefixtures("postgresql_server")
    async def test_async(self):
        """The same on an event loop."""
        await User.objects.using(ALIAS).acreate(username="ann")
        assert await aparallel(count, User.objects.using(ALIAS).count, snapshot=ALIAS) == (1, 1)


@on_postgresql
def test_threads_of_the_pool_keep_half_of_the_connections_for_calls(pool, postgresql_server, monkeypatch):
    """Of six sync calls within a budget of two, which hold a snapshot each in a thread of ours, one at once has it."""
    pool(max_workers=3, connections=2, connection_timeout=60)
    seen, export = [], snapshot._exported

    def exported(connection):
        seen.append(snapshot._holding[ALIAS])
        return export(connection)

    monkeypatch.setattr(snapshot, "_exported", exported)
    assert parallel(*[lambda: parallel(count, count, snapshot=ALIAS)] * 6) == ((0, 0),) * 6
    assert seen == [1] * 6


@on_postgresql
def test_a_snapshot_that_is_never_released_ends_with_its_pool(pool, postgresql_server, executor):
    """As at the exit of a process whose event loop was left standing: nobody is waited for for ever."""
    threads, exported = executor(1), futures.Future()
    holding = threads.submit(snapshot._hold, ALIAS, exported, threading.Event())
    exported.result(20)
    threads.shutdown(wait=False)
    assert holding.result(20) is None


def test_places_are_counted_for_each_database(pool):
    """As the budget is: who holds a snapshot of one database takes no place from the other's."""
    pool(connections=2, connection_timeout=0.01)
    free = threading.Event()
    with snapshot._place("one", free), snapshot._place("two", free):
        for alias in ("one", "two"):
            with pytest.raises(ConnectionTimeout, match=f"{alias}.*: 1 others hold one"), snapshot._place(alias, free):
                pass
    with snapshot._place("one", free):
        assert +snapshot._holding == Counter(one=1)


def test_a_place_goes_to_whoever_waits_for_that_database(pool):
    """Not to another one, who has waited longer."""
    pool(connections=2, connection_timeout=60)
    free, has = threading.Event(), {alias: threading.Event() for alias in ("one", "two")}

    def take(alias):
        with snapshot._place(alias, free):
            has[alias].set()

    with snapshot._place("one", free):
        with snapshot._place("two", free):
            takers = [threading.Thread(target=take, args=[alias]) for alias in has]
            for number, taker in enumerate(takers, start=1):
                taker.start()
                eventually(lambda number=number: len(snapshot._room._waiters) == number, what="it waits")
        assert has["two"].wait(20)
        assert not has["one"].is_set()
    for taker in takers:
        taker.join(20)
    assert has["one"].is_set()


def test_a_thread_takes_a_place_for_each_database_once(pool, executor):
    """A snapshot within one of the same database shares its place; one of another database takes one of its own."""
    pool(connections=2, connection_timeout=0.01)

    def hold():
        with snapshot._place_for_here("one"), snapshot._place_for_here("two"), snapshot._place_for_here("one"):
            inside = +snapshot._holding
        return inside, +snapshot._holding

    assert executor(1).submit(hold).result(20) == (Counter(one=1, two=1), Counter())
