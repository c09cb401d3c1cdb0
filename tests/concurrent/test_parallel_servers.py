"""Calls at once where connections are not plain ones: behind pgbouncer, from Django's pool, kept and cut in between."""

import os

import pytest
from django.conf import settings

from tests.docs.pages import page
from tests.docs.pooler import Pooler, find

SETUP = """
import asyncio, threading, time
from asgiref.sync import sync_to_async
from django.db import connection, connections
from django_meanwhile.concurrent import *
from django_meanwhile.concurrent.threads import budget
from tests.concurrent.inside import ask, connections_open, eventually

async def gather(*calls, **options):
    return await aparallel(*calls, **options)

def in_the_background(*calls, **options):
    return asyncio.run(gather(*calls, **options))

async def ask_from_a_coroutine():
    return await sync_to_async(ask)()

def sleep():
    ask("SELECT pg_sleep(60)::text")

def is_quiet():
    return not budget.holders("default")
"""
PATIENT = """
from django_meanwhile.concurrent.together import async_gathering, gathering
gathering.STOP_WITHIN = async_gathering.STOP_WITHIN = 20  # what is interrupted ends, if not soon, on a busy machine
"""


@pytest.fixture(params=["postgresql"])
def _vendor_of_project(request):
    return request.param


@pytest.fixture
def behind_pgbouncer(bare_project):
    """A project whose way to its database is the documentation's pgbouncer, with so many connections of the server."""
    if find() is None:
        if os.environ.get("MEANWHILE_TEST_REQUIRE_SERVERS") == "1":
            pytest.fail("MEANWHILE_TEST_REQUIRE_SERVERS=1, and there is no pgbouncer on this machine")
        pytest.skip("there is no pgbouncer on this machine: apt-get install pgbouncer")
    ini = next(b.text for b in page("how-to/pgbouncer").blocks() if b.text.startswith("# /etc/pgbouncer"))
    pooler = Pooler(ini, settings.POSTGRESQL, bare_project.database["NAME"])

    def make(pool_size):
        pooler.ini["databases"]["mysite"] = f"pool_size={pool_size}"
        pooler.start()
        bare_project.database = pooler.settings_dict("mysite") | {"DISABLE_SERVER_SIDE_CURSORS": True}
        return bare_project

    yield make
    pooler.close()


@pytest.mark.parametrize("pool_size", [20, 2])
def test_behind_pgbouncer_calls_run_and_are_interrupted(behind_pgbouncer, pool_size):
    """Results, timeouts and errors as without it, with fewer connections of the server than calls as well; nothing is
    left running on the server.
    """
    behind_pgbouncer(pool_size).python(
        SETUP
        + PATIENT
        + """
for together in (parallel, in_the_background):
    assert together(*[ask] * 8) == (1,) * 8
    try:
        together(*[sleep] * 4, timeout=0.3)
    except TimeoutError as error:
        assert "Still running" not in str(error), error
    else:
        raise AssertionError("no timeout")
assert in_the_background(*[ask_from_a_coroutine] * 8) == (1,) * 8
try:
    with TaskGroup() as group:
        group.create_task(sleep)
        group.create_task(lambda: 1 / 0)
except* ZeroDivisionError:
    pass
with ThreadPoolExecutor(4) as executor:
    assert sum(executor.map(lambda _: ask(), range(20))) == 20
asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%' AND state = 'active'"
asleep += " AND datname = current_database()"
assert ask(asleep) == 0
"""
    )


def test_behind_pgbouncer_a_snapshot_is_one_state(behind_pgbouncer):
    """The exporting transaction and the importing ones share the server, whichever of its connections they get; and a
    timeout ends them all.
    """
    behind_pgbouncer(5).python(
        SETUP
        + """
with connection.cursor() as cursor:
    cursor.execute("CREATE TABLE things (id integer)")
turn = threading.Event()

def before():
    found = ask("SELECT count(*) FROM things")
    def insert():
        ask("INSERT INTO things VALUES (1) RETURNING 1")
        connection.close()
    thread = threading.Thread(target=insert)
    thread.start()
    thread.join()
    turn.set()
    return found

def after():
    assert turn.wait(20)
    return ask("SELECT count(*) FROM things")

for number, together in enumerate((parallel, in_the_background)):
    turn.clear()
    assert together(before, after, snapshot=True) == (number, number)
    try:
        together(sleep, ask, snapshot=True, timeout=0.3)
    except TimeoutError:
        pass
    else:
        raise AssertionError("no timeout")
open_ones = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'"
open_ones += " AND datname = current_database()"
eventually(lambda: ask(open_ones) == 0, "pgbouncer has ended what its clients have left")
assert ask("INSERT INTO things VALUES (3) RETURNING 1") == 1
"""
    )


def test_behind_pgbouncer_what_waits_there_is_named_when_time_is_up(behind_pgbouncer):
    """A snapshot has the only connection of the server, and its call waits for another one: pgbouncer does not let it
    be interrupted. The timeout comes all the same, and names it; then the connection is free again.
    """
    behind_pgbouncer(1).python(
        SETUP
        + """
import logging
logging.getLogger("django_meanwhile").setLevel("ERROR")
try:
    parallel(ask, snapshot=True, timeout=2)  # by then it waits
except TimeoutError as error:
    assert "Still running" in str(error) and "inside.ask" in str(error), error
else:
    raise AssertionError("no timeout")
assert parallel(ask) == (1,)
"""
    )


POOL = {"pool": {"min_size": 1, "max_size": 3}}


@pytest.fixture
def pooled(bare_project):
    """A project with three connections of Django's pool, for calls of which more are made at once."""
    bare_project.database = {**bare_project.database, "OPTIONS": POOL}
    bare_project.meanwhile = {"CONCURRENT": {"max_workers": 8, "connections": 8}}
    return bare_project


def test_calls_wait_for_a_smaller_pool_and_leave_it_whole(pooled):
    """Eight threads and coroutines for three connections, one of which the caller has: each gets its turn, and when
    the results are there, so are the connections.
    """
    pooled.python(
        SETUP
        + """
def is_whole(taken=0):
    stats = connection.pool.get_stats()
    return stats["pool_size"] - stats["pool_available"] == taken and not stats.get("requests_waiting")

def work():
    return ask("SELECT count(*) FROM pg_sleep(0.01)")

assert parallel(*[work] * 24) == (1,) * 24
assert is_whole()
ask()
for together in (parallel, in_the_background):
    assert together(*[work] * 24) == (1,) * 24
    assert is_whole(taken=1)
assert in_the_background(*[ask_from_a_coroutine] * 24) == (1,) * 24
assert is_whole(taken=1)
with TaskGroup() as group:
    tasks = [group.create_task(work) for _ in range(24)]
assert sum(task.result() for task in tasks) == 24
for together in (parallel, in_the_background):
    assert together(*[work] * 24, snapshot=True) == (1,) * 24
    assert is_whole(taken=1)
connection.close()
assert parallel(*[work] * 8, snapshot=True) == (1,) * 8
assert is_whole(taken=1), "the caller's own connection exported"
connection.close()
assert is_whole() and is_quiet()
connection.close_pool()
eventually(lambda: connections_open() == 0, "nothing is open on the server")
"""
    )


def test_a_timeout_gives_the_pool_back_what_it_interrupts(pooled):
    """Those that were interrupted, and those that still waited for one of the pool's: it is whole again."""
    pooled.python(
        SETUP
        + PATIENT
        + """
import logging
logging.getLogger("psycopg.pool").setLevel("ERROR")  # it tells of each that comes back closed
for together in (parallel, in_the_background):
    for options in ({}, {"snapshot": True}):
        try:
            together(*[sleep] * 8, timeout=0.3, **options)
        except TimeoutError as error:
            assert "Still running" not in str(error), error
        else:
            raise AssertionError("no timeout")
connection.close()

def is_whole():  # what was thrown away it replaces in a thread of its own
    stats = connection.pool.get_stats()
    return stats["pool_available"] == stats["pool_size"]

eventually(is_whole, "no place is lost")
assert is_quiet()
assert parallel(*[ask] * 8) == (1,) * 8
connection.close_pool()
eventually(lambda: connections_open() == 0, "nothing is open on the server")
"""
    )


def test_a_pool_that_callers_have_emptied_says_so_after_its_own_timeout(pooled):
    """Its one connection is the caller's, who waits: the pool's error, in the group, and the next call is fine. What
    waits there is not interrupted, but named when the caller's time is up.
    """
    pooled.database["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 1, "timeout": 3}}
    pooled.python(
        SETUP
        + """
import logging
from django.db import OperationalError
ask()
try:
    parallel(ask)
except* OperationalError as group:
    assert "PoolTimeout" in repr(group.exceptions[0].__cause__), group
else:
    raise AssertionError("there was one")
logging.getLogger("django_meanwhile").setLevel("CRITICAL")
try:
    parallel(ask, timeout=1)  # by then it waits, and is not told by the pool
except TimeoutError as error:
    assert "Still running" in str(error), error
else:
    raise AssertionError("there was one")
connection.close()
assert parallel(ask, ask) == (1, 1)
eventually(is_quiet, "what was named has ended")
connection.close_pool()
"""
    )


@pytest.mark.parametrize("health_checks", [False, True])
@pytest.mark.parametrize("age", [0, 60, None])
def test_a_connection_that_is_cut_between_two_calls_fails_none(bare_project, age, health_checks):
    """Whatever CONN_MAX_AGE and CONN_HEALTH_CHECKS say, of threads, coroutines and snapshots: the next call has another
    one. Before that they are kept, and used again.
    """
    bare_project.database = {**bare_project.database, "CONN_MAX_AGE": age, "CONN_HEALTH_CHECKS": health_checks}
    bare_project.python(
        SETUP
        + """
from tests.concurrent.inside import session
others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

def cut():
    ask(f"SELECT count(pg_terminate_backend(pid)) {others}")
    eventually(lambda: ask(f"SELECT count(*) {others}") == 0, "all are gone")

async def session_from_a_coroutine():
    return await sync_to_async(session)()

def are_idle():
    pool = default_executor()._pool
    return len(pool._idle) == len(pool._threads)

for _ in range(2):
    eventually(are_idle, "whose connection is used next is no luck")
    first = parallel(session)
    eventually(are_idle, "it is used again")
    assert parallel(session) == first
    assert set(first) <= set(ask("SELECT array_agg(pid) FROM pg_stat_activity WHERE datname = current_database()"))
    cut()
    assert not set(parallel(*[session] * 8)) & set(first)
    cut()
    assert parallel(*[ask] * 4, snapshot=True) == (1,) * 4
    first = in_the_background(session, session_from_a_coroutine)
    cut()
    assert not set(in_the_background(*[session] * 4, *[session_from_a_coroutine] * 4)) & set(first)
    cut()
    assert in_the_background(*[ask] * 4, snapshot=True) == (1,) * 4
    cut()
    with TaskGroup() as group:
        tasks = [group.create_task(ask) for _ in range(4)]
    assert [task.result() for task in tasks] == [1] * 4
    cut()
"""
    )
