"""Connections of the executor's threads, in processes of their own: none leaks, all are clean, and kept warm."""

import pytest

SETUP = "from tests.concurrent.inside import *\nfrom tests.concurrent.inside import threads, IS_POSTGRESQL\n"
SETUP += "from django.db import connection, transaction\nimport gc, logging, threading, concurrent.futures\n"


@pytest.fixture(params=["plain", "pool"])
def place(request, bare_project):
    """A project, with Django's psycopg pool and without it."""
    if request.param == "pool":
        if bare_project.vendor != "postgresql":
            pytest.skip("only PostgreSQL has Django's connection pool")
        bare_project.database = {**bare_project.database, "OPTIONS": {"pool": {"min_size": 0, "max_size": 4}}}
    return bare_project


@pytest.fixture
def on_postgresql(bare_project):
    """A project on PostgreSQL."""
    if bare_project.vendor != "postgresql":
        pytest.skip("about sessions of a server")
    return bare_project


def run(project, code, **options):
    """Run the script in the project; what it prints comes back."""
    return project.python(SETUP + code, **options).stdout


LEAKS = """
before = len(descriptors()), threading.active_count()

def fail():
    ask()
    raise ZeroDivisionError

def leave_open():
    transaction.atomic().__enter__()
    ask()

def close_by_hand():
    ask()
    connection.close()

def initialize():
    ask()

logging.getLogger("django_meanwhile").setLevel("CRITICAL")
for size in (1, 4, 8):
    with ThreadPoolExecutor(size, initializer=initialize) as executor:
        futures = [executor.submit((ask, fail, leave_open, close_by_hand)[n % 4]) for n in range(200)]
        concurrent.futures.wait(futures)
    assert [future.exception() is None for future in futures] == [n % 4 != 1 for n in range(200)]
    futures = []
forgotten = ThreadPoolExecutor(4)
concurrent.futures.wait([forgotten.submit(ask) for _ in range(50)])
del forgotten
broken = ThreadPoolExecutor(4, initializer=fail)
futures = []
for _ in range(4):
    try:
        futures.append(broken.submit(ask))
    except concurrent.futures.BrokenExecutor:
        break
concurrent.futures.wait(futures)
gc.collect()
eventually(lambda: not threads(), "all threads end")
if connection.settings_dict["OPTIONS"].get("pool"):
    def is_whole():  # it replaces what was thrown away, in threads of its own
        stats = connection.pool.get_stats()
        return stats["pool_available"] == stats["pool_size"]
    eventually(is_whole, "no slot is lost")
    connection.close_pool()
eventually(lambda: connections_open() == 0, "nothing is open on the server")
eventually(lambda: (len(descriptors()), threading.active_count()) == before, "as before")
"""


def test_hundreds_of_calls_leave_no_connection_thread_or_descriptor(place):
    """Exceptions, transactions left open, initializers, closing by hand, forgotten and broken executors: nothing leaks.

    Counted where it counts: sessions on the server, slots of the pool, threads and descriptors of the process.
    """
    run(place, LEAKS)


def test_a_connection_stays_warm_for_the_next_call_and_ends_with_its_idle_thread(bare_project):
    """One thread, one session, whatever CONN_MAX_AGE of zero says; after ``idle`` seconds both are gone."""
    code = """
executor = ThreadPoolExecutor(1, idle=3600)
assert len({executor.submit(session).result() for _ in range(20)}) == 1
executor._pool.idle = 0.05  # as if it had been made so: from its next wait on
executor.submit(ask).result()
eventually(lambda: not threads(), "the thread ends")
eventually(lambda: connections_open() == 0, "its connection is closed")
executor.submit(session).result()
"""
    run(bare_project, code)


def test_a_connection_that_has_reached_conn_max_age_is_replaced(bare_project):
    """As at the beginning of a request: the next call has another one."""
    bare_project.database = {**bare_project.database, "CONN_MAX_AGE": 3600}
    code = """
import time
made = []
connection_created.connect(lambda connection, **_: made.append(connection), weak=False)
executor = ThreadPoolExecutor(1)

def grow_old():
    ask()
    connection.close_at = time.monotonic()

executor.submit(ask).result()
executor.submit(grow_old).result()
assert len(made) == 1
executor.submit(ask).result()
assert len(made) == 2
executor.shutdown()
"""
    run(bare_project, "from django.db.backends.signals import connection_created\n" + code)


def test_with_a_pool_the_slot_is_back_when_the_result_is_there(on_postgresql):
    """Whoever gets a result can rely on it: a pool of one slot serves any number of threads, and the caller's own."""
    on_postgresql.database = {
        **on_postgresql.database,
        "OPTIONS": {"pool": {"min_size": 1, "max_size": 1, "timeout": 10}},
    }
    code = """
executor = ThreadPoolExecutor(8)
for _ in range(50):
    executor.submit(ask).result()
    assert connection.pool.get_stats()["pool_available"] == 1
assert sum(future.result() for future in [executor.submit(ask) for _ in range(80)]) == 80
executor.shutdown()
connection.close_pool()
"""
    run(on_postgresql, code)


@pytest.mark.parametrize("way", ["atomic", "autocommit", "sql"])
def test_a_transaction_that_a_call_left_open_is_rolled_back_and_told_with_its_function(place, way):
    """By Django's means or by plain SQL: the thread's next call finds a clean connection, nothing is committed."""
    code = f"""
class Records(logging.Handler):
    def emit(self, record):
        seen.append(record.getMessage())
seen = []
logging.getLogger("django_meanwhile.concurrent").addHandler(Records())

def leave_open():
    if {way!r} == "atomic":
        transaction.atomic().__enter__()
    elif {way!r} == "autocommit":
        connection.set_autocommit(False)
    else:
        connection.cursor().execute("BEGIN")
    ask("INSERT INTO things VALUES (1) RETURNING 1")

with ThreadPoolExecutor(1) as executor:
    executor.submit(lambda: connection.cursor().execute("CREATE TABLE things (id integer)")).result()
    executor.submit(leave_open).result()
    assert executor.submit(lambda: (connection.in_atomic_block, connection.get_autocommit())).result() == (False, True)
    assert executor.submit(ask, "SELECT count(*) FROM things").result() == 0
assert seen == ["__main__.leave_open left a transaction open on database 'default'; it was rolled back"], seen
"""
    run(place, code)


def test_a_call_never_finds_a_connection_that_died_in_between(on_postgresql):
    """A server that restarted, or a firewall: the connection is checked when the next call first uses it."""
    code = """
executor = ThreadPoolExecutor(1)
for _ in range(5):
    pid = executor.submit(session).result()
    ask("SELECT pg_terminate_backend(%s)", pid)
    eventually(lambda: ask("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", pid) == 0, "killed")
    assert executor.submit(session).result() != pid
"""
    run(on_postgresql, code)


def test_the_log_of_queries_ends_with_the_call(bare_project):
    """Under DEBUG Django keeps each query: of a call, not of a thread's whole life."""
    code = """
from django.conf import settings
settings.DEBUG = True
executor = ThreadPoolExecutor(1)

def count():
    ask()
    return len(connection.queries)

assert [executor.submit(count).result() for _ in range(3)] == [1, 1, 1]
"""
    run(bare_project, code)


def test_the_process_holds_no_more_than_its_share_whatever_the_number_of_threads(place):
    """Two executors, twenty threads, a share of three: never a fourth session, and every call gets its turn."""
    place.meanwhile = {"CONCURRENT": {"connections": 3}}
    code = """
from django_meanwhile.concurrent.threads import budget
most = []
is_pooled = "pool" in connection.settings_dict["OPTIONS"]

def sockets():
    return {name for name in descriptors() if name.startswith("socket:")}

def work():
    ask()
    most.append(len(budget.holders("default")))

with ThreadPoolExecutor(10) as one, ThreadPoolExecutor(10) as two:
    futures = [executor.submit(work) for _ in range(100) for executor in (one, two)]
    while not all(future.done() for future in futures):
        # A server takes its time to end a session, so this side is looked at: what is open now and a moment later, was
        # open at the same time.
        assert is_pooled or not IS_POSTGRESQL or len(sockets() & sockets()) <= 3
    assert [future.exception() for future in futures] == [None] * 200
assert max(most) <= 3, max(most)
assert budget.holders("default") == []
"""
    run(place, code)


def test_a_warm_connection_of_an_idle_thread_is_given_to_who_waits(bare_project):
    """A share of one: the second executor does not wait for the first one's thread to have been idle for an hour."""
    bare_project.meanwhile = {"CONCURRENT": {"connections": 1, "idle": 3600, "connection_timeout": 60}}
    code = """
import time
one, two = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
began = time.monotonic()
for _ in range(20):
    one.submit(ask).result()
    two.submit(ask).result()
assert time.monotonic() - began < 30
"""
    run(bare_project, code)


def test_a_call_that_gets_no_connection_in_time_learns_who_has_them(bare_project):
    """ConnectionTimeout in place of "too many clients": thread and function of the holder. The next call is fine."""
    bare_project.meanwhile = {"CONCURRENT": {"connections": 1, "connection_timeout": 0.2}}
    code = """
from django_meanwhile.concurrent import ConnectionTimeout
held, done = threading.Event(), threading.Event()

def idle(count):
    return len(executor._pool._idle) == count

def hold():
    ask()
    held.set()
    assert done.wait(20)

executor = ThreadPoolExecutor(2)
holder = executor.submit(hold)
assert held.wait(20)
error = executor.submit(ask).exception()
assert isinstance(error, ConnectionTimeout), error
assert "thread 'ThreadPoolExecutor-0_0' (__main__.hold)" in str(error), error
assert "thread 'ThreadPoolExecutor-0_1' (tests.concurrent.inside.ask): no connection" in str(error), error
eventually(lambda: idle(1), "the thread that got none waits for calls")
done.set()
holder.result()
eventually(lambda: idle(2), "the holder's does so, too: it is the first to be asked")
assert executor.submit(ask).result() == 1
"""
    run(bare_project, code)


def test_a_database_in_memory_survives_the_threads_that_used_it(bare_project):
    """SQLite in shared memory, as in a test run: threads see it, and take nothing with them when they end."""
    if bare_project.vendor != "sqlite":
        pytest.skip("about SQLite in memory")
    bare_project.database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "file:memory?mode=memory&cache=shared",
        "OPTIONS": {"uri": True},
    }
    code = """
connection.cursor().execute("CREATE TABLE things (id integer)")
connection.cursor().execute("INSERT INTO things VALUES (1)")
with ThreadPoolExecutor(3) as executor:
    for _ in range(10):
        assert executor.submit(ask, "SELECT count(*) FROM things").result() == 1
assert ask("SELECT count(*) FROM things") == 1
"""
    run(bare_project, code)


def test_a_connection_that_somebody_shares_with_the_thread_is_left_alone(bare_project):
    """An initializer may give its own connection to the threads, as a live server test does: it is not closed."""
    code = """
connection.ensure_connection()
connection.inc_thread_sharing()
mine = connection._connections["default"]

def share():
    from django.db import connections
    connections["default"] = mine

with ThreadPoolExecutor(1, initializer=share) as executor:
    assert [executor.submit(session).result() for _ in range(3)] == [session()] * 3
assert mine.connection is not None
ask()
"""
    run(bare_project, code)


def test_a_database_whose_backend_cannot_be_imported_harms_no_call(bare_project):
    """Whatever its import raises: calls that do not use that database run, and end."""
    (bare_project.path / "broken_backend").mkdir()
    (bare_project.path / "broken_backend" / "__init__.py").touch()
    (bare_project.path / "broken_backend" / "base.py").write_text('raise OSError("no such library")\n')
    run(
        bare_project,
        f"""
import sys
from django.db import connections
sys.path.insert(0, {str(bare_project.path)!r})
connections.settings["other"] = {{**connections.settings["default"], "ENGINE": "broken_backend"}}
executor = ThreadPoolExecutor(1)
assert executor.submit(ask).result(timeout=20) == 1
executor.shutdown()
""",
    )
