"""``Future.stop()``: the query of a call that runs is interrupted, at once and alone; never the next call's."""

import pytest

from tests.concurrent.test_executor_connections import SETUP

LONG = """
import time
from concurrent.futures import CancelledError
from django.db import DatabaseError

LONG = "SELECT pg_sleep(60)" if IS_POSTGRESQL else (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
)
ENDS = (DatabaseError, CancelledError)  # its query was interrupted, or was about to begin
started = threading.Event()

interrupted = set()

def run_long():
    interrupted.add(session())
    started.set()
    return ask(LONG)

def count_running():
    running = "SELECT count(*) FROM pg_stat_activity WHERE query = %s AND state = 'active'"
    return ask(f"{running} AND datname = current_database()", LONG)

def is_stopped(future):
    # A query that is only about to begin when stop() comes is missed: whoever waits asks again.
    future.stop()
    return future.done()

def stop(future):
    assert started.wait(20)
    started.clear()
    if IS_POSTGRESQL:
        eventually(lambda: count_running(), "the query runs")
    began = time.monotonic()
    eventually(lambda: is_stopped(future), "it ends")
    assert time.monotonic() - began < 20
"""


@pytest.fixture(params=["plain", "pool"])
def run(request, bare_project):
    """Run a script in a project, with Django's psycopg pool and without it."""
    if request.param == "pool":
        if bare_project.vendor != "postgresql":
            pytest.skip("only PostgreSQL has Django's connection pool")
        bare_project.database = {**bare_project.database, "OPTIONS": {"pool": {"min_size": 0, "max_size": 4}}}
    end = '\nif connection.settings_dict["OPTIONS"].get("pool"):\n    connection.close_pool()\n'
    return lambda code: bare_project.python(SETUP + LONG + code + end)


def test_stop_interrupts_the_query_of_the_call_and_its_thread_goes_on(run):
    """A query of a minute ends at once, as Django's DatabaseError; the next call in that thread is undisturbed.

    Nobody needs to ask for that error: who stopped the call knows. Nothing is left on the server.
    """
    run("""
executor = ThreadPoolExecutor(1)
for _ in range(3):
    future = executor.submit(run_long)
    stop(future)
    assert isinstance(future.exception(), DatabaseError if IS_POSTGRESQL else ENDS), future.exception()
    assert future.was_stopped
    # The session is given up: a request to cancel it that is still on its way hits nobody.
    assert not IS_POSTGRESQL or executor.submit(session).result() not in interrupted
assert not IS_POSTGRESQL or count_running() == 0
executor.shutdown()
""")


def test_stop_cancels_what_has_not_begun_and_leaves_alone_what_has_ended(run):
    """The same word for all three."""
    run("""
executor = ThreadPoolExecutor(1)
running, pending = executor.submit(run_long), executor.submit(ask)
pending.stop()
assert pending.cancelled() and not pending.was_stopped
stop(running)
ended = executor.submit(ask)
assert ended.result() == 1
ended.stop()
assert ended.result() == 1 and not ended.was_stopped
executor.shutdown()
""")


def test_a_stopped_call_begins_no_other_query(run):
    """Stopped between two queries, its next one raises CancelledError, on an open connection as on a new one."""
    run("""
executor, go = ThreadPoolExecutor(1), threading.Event()

def ask_twice(first):
    if first:
        ask()
    started.set()
    assert go.wait(20)
    return ask()

for first in (True, False):
    future = executor.submit(ask_twice, first)
    assert started.wait(20)
    started.clear()
    future.stop()
    go.set()
    assert isinstance(future.exception(), CancelledError), future.exception()
    go.clear()
    assert executor.submit(ask).result() == 1
executor.shutdown()
""")


def test_stop_never_hits_another_call_however_late_it_comes(run):
    """Hundreds of short calls, each stopped at a random moment of its life, its neighbours never: none of them suffers.

    On PostgreSQL a request to cancel that arrives late would end whatever query that session runs by then.
    """
    run("""
import random
bystanders, stopped = [], []
with ThreadPoolExecutor(3) as executor:
    for number in range(400):
        future = executor.submit(ask, "SELECT pg_sleep(0.002)::text" if IS_POSTGRESQL else "SELECT 1")
        bystanders.append(executor.submit(ask))
        deadline = time.perf_counter() + random.random() * 0.006
        while time.perf_counter() < deadline:
            pass
        future.stop()
        stopped.append(future)
assert [future.exception() for future in bystanders] == [None] * 400
interrupted = [future for future in stopped if not future.cancelled() and future.exception() is not None]
assert all(future.was_stopped for future in interrupted)
""")


def test_a_cursor_that_a_stopped_call_leaves_open_hurts_nobody(run):
    """SQLite interrupts every query for as long as one cursor is open; the next call gets another connection."""
    run("""
executor, go = ThreadPoolExecutor(1), threading.Event()

def leave_open():
    cursor = connection.cursor()
    cursor.execute(ROWS)
    cursor.fetchone()
    started.set()
    assert go.wait(20)
    return cursor

ROWS = "SELECT generate_series(1, 9)" if IS_POSTGRESQL else (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
)
future = executor.submit(leave_open)
assert started.wait(20)
future.stop()
go.set()
left = future.result(timeout=20)
assert executor.submit(ask).result(timeout=20) == 1
executor.shutdown()
""")


def test_a_database_in_memory_survives_the_end_of_a_stopped_call(run):
    """Its one connection is never given up: what is in it would be lost."""
    run("""
from django.db import connections
connections.settings["memory"] = {**connections.settings["default"], "ENGINE": "django.db.backends.sqlite3"}
connections.settings["memory"].update(NAME=":memory:", OPTIONS={})
executor, go = ThreadPoolExecutor(1), threading.Event()

def execute(sql):
    with connections["memory"].cursor() as cursor:
        return cursor.execute(sql).fetchall()

def keep():
    execute("CREATE TABLE kept (x)")
    started.set()
    assert go.wait(20)

future = executor.submit(keep)
assert started.wait(20)
future.stop()
go.set()
future.result(timeout=20)
assert executor.submit(execute, "SELECT count(*) FROM kept").result(timeout=20) == [(0,)]
executor.shutdown()
""")


def test_a_call_that_waits_for_a_connection_is_stopped_as_well(bare_project):
    """It waits for the budget, not for the database: that wait ends with CancelledError."""
    bare_project.meanwhile = {"CONCURRENT": {"connections": 1, "connection_timeout": 3600}}
    bare_project.python(
        SETUP
        + LONG
        + """
from django_meanwhile.concurrent.threads import budget
executor = ThreadPoolExecutor(2)
holding = executor.submit(run_long)
assert started.wait(20)
waiting = executor.submit(ask)
eventually(lambda: budget.is_wanted("default"), "the second call waits")
waiting.stop()
assert isinstance(waiting.exception(timeout=20), CancelledError), waiting.exception()
stop(holding)
assert executor.submit(ask).result() == 1
"""
    )


def test_stop_reaches_the_call_that_a_waiting_call_runs_in_between(bare_project):
    """A call runs a nested one in its own thread: stopping either one interrupts the query, and only that."""
    bare_project.python(
        SETUP
        + LONG
        + """
executor = ThreadPoolExecutor(1)
nested = []

def outer():
    nested.append(executor.submit(run_long))
    assert nested[-1].run_here()
    return "outer went on", ask()

future = executor.submit(outer)
eventually(lambda: nested, "the nested call exists")
stop(nested[-1])
assert future.result(timeout=20) == ("outer went on", 1)

future = executor.submit(outer)
eventually(lambda: len(nested) == 2, "the nested call exists")
stop(future)
assert isinstance(nested[-1].exception(), ENDS)
assert isinstance(future.exception(), CancelledError)
assert executor.submit(ask).result() == 1
"""
    )
