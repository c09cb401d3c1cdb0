"""A named lock among processes, with what happens to processes: killed, stopped, forked, cut off, behind a pooler."""

import itertools
import json
import os
import re
import signal
import threading

import pytest
from django.conf import settings
from django.db import connections

from django_meanwhile.concurrent import Lock, LockLost
from django_meanwhile.concurrent.locks import hold as lock_hold
from tests.docs.pages import page
from tests.docs.pooler import Pooler, find
from tests.playground import eventually

PATIENCE = 20
LEASE = 2.0

RUSH = """
import random, threading, time
from django_meanwhile.concurrent import Lock

lines = []

def work():
    done = 0
    while done < ROUNDS:
        lock = Lock("printer")
        if not lock.acquire(timeout=random.choice([0, 0.01, 60])):
            continue
        entered = time.monotonic_ns()
        time.sleep(random.random() / 500)
        lock.raise_if_lost()
        left = time.monotonic_ns()
        lines.append(f"history {lock.fence} {entered} {left}")
        lock.release()
        done += 1

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("\\n".join(lines))
"""

HOLD = """
import os, time
from django_meanwhile.concurrent import Lock, LockLost

lock = Lock("printer", timeout=60)
try:
    with lock:
        print(f"held {lock.fence}", flush=True)
        while not os.path.exists("let-go"):
            time.sleep(0.01)
        try:
            lock.raise_if_lost()
        except LockLost:
            print("lost inside", flush=True)
        else:
            print("not lost", flush=True)
    print("given back", flush=True)
except LockLost as error:
    print(f"lost: {error}", flush=True)
"""

on_postgresql = pytest.mark.parametrize("_vendor_of_project", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("_vendor_of_project", ["sqlite"], indirect=True)


def _fence(running):
    return int(re.findall(r"^held (\d+)$", running.wait_for("held ", PATIENCE), re.MULTILINE)[0])


def _let_go(project):
    (project.path / "let-go").touch()


def _history(texts):
    """Return (fence, entered, left) of all, in the order of the fences."""
    found = [tuple(map(int, line.split()[1:])) for text in texts for line in text.splitlines() if "history" in line]
    return sorted(found)


def test_nobody_overlaps(project):
    """Three processes of three threads take and give back one lock 198 times, some only trying: each holder left
    before the next one entered, and the order of the fences is the order of time.
    """
    code = RUSH.replace("ROUNDS", "22")
    running = [project.start_python(code) for _ in range(3)]
    assert [each.wait(120) for each in running] == [0, 0, 0], [each.log for each in running]
    history = _history(each.log for each in running)
    assert len({fence for fence, _, _ in history}) == 3 * 3 * 22
    for (_, _, left), (_, entered, _) in itertools.pairwise(history):
        assert left <= entered


def test_a_killed_holder_frees_it(project):
    """SIGKILL: whoever waits gets it, at once on PostgreSQL, after the lease on SQLite, with a larger fence."""
    project.meanwhile = {"LEASE": LEASE}
    holder = project.start_python(HOLD)
    first = _fence(holder)
    waiter = project.start_python(HOLD)
    holder.kill()
    second = _fence(waiter)
    assert second > first
    _let_go(project)
    waiter.wait_for("given back")
    assert "not lost" in waiter.log


def test_a_holder_that_waits_long_keeps_it(project):
    """Three leases later the lock is still its holder's: on SQLite it is renewed."""
    project.meanwhile = {"LEASE": LEASE}
    holder = project.start_python(HOLD)
    _fence(holder)
    other = project.python(
        f"from django_meanwhile.concurrent import Lock\nprint(Lock('printer').acquire(timeout=3 * {LEASE}))",
    )
    assert other.stdout.strip() == "False"
    _let_go(project)
    holder.wait_for("given back")


@on_sqlite
def test_a_stopped_holder_learns_that_it_lost(project):
    """SIGSTOP for longer than the lease: another one has the lock by then, and LockLost tells the first one so."""
    project.meanwhile = {"LEASE": 1.0}
    holder = project.start_python(HOLD)
    first = _fence(holder)
    holder.send(signal.SIGSTOP)
    try:
        taken = project.python(
            "from django_meanwhile.concurrent import Lock\nwith Lock('printer', timeout=30) as lock: print(lock.fence)",
        )
        assert int(taken.stdout) > first
        _let_go(project)
    finally:
        holder.send(signal.SIGCONT)
    holder.wait_for("lost: ")
    assert "lost inside" in holder.log
    assert "its lease ran out" in holder.log
    assert "\ngiven back" not in holder.log


@on_postgresql
def test_a_stopped_holder_keeps_it(project):
    """On PostgreSQL a process that is only stopped still has its connection, and with it the lock."""
    holder = project.start_python(HOLD)
    _fence(holder)
    holder.send(signal.SIGSTOP)
    try:
        other = project.python(
            "from django_meanwhile.concurrent import Lock, LockTimeout\n"
            "try:\n    Lock('printer', timeout=1).__enter__()\nexcept LockTimeout as error:\n    print(error)",
        )
        assert f"process {holder.pid}" in other.stdout
        _let_go(project)
    finally:
        holder.send(signal.SIGCONT)
    holder.wait_for("given back")


@pytest.mark.alone  # whoever holds it has a third of a lease to renew it, once the writer has ended
@on_sqlite
def test_a_long_writer_costs_nobody_the_lock(project):
    """While somebody writes for two leases nobody can renew; afterwards the lock is still its holder's."""
    project.meanwhile = {"LEASE": 1.0}
    holder = project.start_python(HOLD)
    _fence(holder)
    waiter = project.start_python(HOLD.replace('"printer", timeout=60', '"printer", timeout=5'))
    writer = project.connect()
    try:
        writer.execute("BEGIN IMMEDIATE")
        threading.Event().wait(2.5)
        writer.execute("COMMIT")
    finally:
        writer.close()
    waiter.wait_for("LockTimeout")
    _let_go(project)
    holder.wait_for("given back")
    assert "not lost" in holder.log


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_a_restart_of_the_server(playground, private_postgresql, tmp_path, mode):
    """The holder learns that it lost the lock, the waiter gets the database's error, and then all works again."""
    with playground.project("postgresql", tmp_path, migrated=False) as project:
        project.database = private_postgresql.settings_dict(private_postgresql.create_database())
        project.migrate()
        holder = project.start_python(HOLD)
        first = _fence(holder)
        waiter = project.start_python(HOLD)
        eventually(lambda: project.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        private_postgresql.restart(mode)
        assert waiter.wait() != 0
        assert "OperationalError" in waiter.log
        _let_go(project)
        holder.wait_for("lost: ")
        assert "lost inside" in holder.log
        after = project.start_python(HOLD)
        assert _fence(after) > first
        after.wait_for("given back")


FORK = """
import os, time
from django_meanwhile.concurrent import Lock, LockLost

lock = Lock("printer")
try:
    with lock:
        if child := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            lock.raise_if_lost()
            other = os.fork()
            if not other:
                import gc
                gc.collect()
                os._exit(0)
            os.waitpid(other, 0)
            lock.raise_if_lost()
        else:
            assert not lock.held
            try:
                lock.raise_if_lost()
            except LockLost:
                pass
            else:
                os._exit(1)
            assert Lock("printer").acquire(timeout=0) is False, "the parent has it"
            with Lock("another"):
                pass
except LockLost as error:
    assert not child
    assert "has forked this one" in str(error), error
    os._exit(7)
print("given back", lock.held)
"""


def test_a_fork(project):
    """The child holds nothing, says so, takes others, and leaves the parent's lock alone, at its end too."""
    project.meanwhile = {"LEASE": LEASE}
    done = project.python("import warnings\nwarnings.simplefilter('ignore', DeprecationWarning)\n" + FORK)
    assert done.stdout.split("\n") == ["7", "given back False", ""]


@on_postgresql
def test_a_child_does_not_keep_a_dead_parents_lock(project):
    """The child of a fork lives on; the server frees the lock of its killed parent all the same."""
    forks = HOLD.replace(
        '        print(f"held {lock.fence}", flush=True)\n',
        "        child = os.fork()\n"
        "        if not child:\n"
        "            time.sleep(60)\n"
        '        print(f"held {lock.fence}", flush=True)\n',
    )
    holder = project.start_python(forks)
    first = _fence(holder)
    holder.kill()
    assert len(project.processes()) == 1, "the child lives"
    _let_go(project)
    assert _fence(project.start_python(HOLD)) > first


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
class TestOnPostgreSQL:
    """What only PostgreSQL has."""

    def _session(self, database, what):
        """Ask about the one session of a lock; one that was cut off ends a moment after its client has noticed."""
        query = (
            f"SELECT {what} FROM pg_stat_activity "
            "WHERE application_name LIKE 'meanwhile lock %' AND datname = current_database()"
        )

        def of_one():
            with connections[database].cursor() as cursor:
                cursor.execute(query)
                found = cursor.fetchall()
            return found[0] if len(found) == 1 else None

        return eventually(of_one, what="there is one")

    def _cut(self, database):
        (pid,) = self._session(database, "pid")
        with connections[database].cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
            assert cursor.fetchone() == (True,)

    def test_a_cut_connection_is_noticed(self, database):
        """raise_if_lost() tells soon, the end of the block tells in any case, and the lock can be taken again."""
        lock = Lock("printer", using=database)

        def is_lost():
            try:
                lock.raise_if_lost()
            except LockLost:
                return True
            return False

        with pytest.raises(LockLost, match=r"Lock\('printer'\) was lost"), lock:  # noqa: PT012
            assert not is_lost()
            self._cut(database)
            eventually(is_lost)
        assert not lock.held
        with pytest.raises(LockLost), Lock("printer", 5, using=database):
            self._cut(database)

    def test_a_failing_block_keeps_its_error(self, database, caplog):
        """Its error goes on, with a note of the loss, which is logged as well."""
        with pytest.raises(ZeroDivisionError) as raised, Lock("printer", using=database):  # noqa: PT012
            self._cut(database)
            1 / 0  # noqa: B018
        assert "was lost while it was held" in "".join(raised.value.__notes__)
        assert [record.levelname for record in caplog.records] == ["ERROR"]

    def test_a_held_lock_is_no_burden(self, database):
        """Its transaction has neither a snapshot nor an id, whichever of 70 numbers of the sequence it got."""
        for _ in range(70):
            with Lock("printer", using=database):
                found = self._session(database, "backend_xid, backend_xmin, state")
                assert found == (None, None, "idle in transaction")

    def test_the_servers_timeouts_do_not_end_it(self, database):
        """With all of the server's timeouts at a tenth of a second, a lock is held and waited for, for longer."""
        names = ["idle_in_transaction_session_timeout", "statement_timeout", "lock_timeout", "transaction_timeout"]
        version = connections[database].pg_version
        names = names if version >= 170000 else names[:-1]
        role = connections[database].settings_dict["USER"]
        with connections[database].cursor() as cursor:
            name = connections[database].settings_dict["NAME"]
            for each in names:
                cursor.execute(f'ALTER ROLE "{role}" IN DATABASE "{name}" SET {each} = 100')
            try:
                lock = Lock("printer", using=database)
                with lock:
                    waiting = threading.Thread(target=self._take_and_give, args=(database,))
                    other = lock_hold.make_grip(database, "printer")
                    assert other.take(0.5, "another process") is False
                    other.close()
                    lock.raise_if_lost()
                waiting.start()
                waiting.join(PATIENCE)
            finally:
                cursor.execute(f'ALTER ROLE "{role}" IN DATABASE "{name}" RESET ALL')

    def _take_and_give(self, database):
        with Lock("printer", using=database):
            pass
        connections.close_all()


@pytest.mark.slow
@on_postgresql
def test_behind_a_pooler(project):
    """Through pgbouncer in transaction mode, with fewer server connections than clients: nobody overlaps, a killed
    holder frees the lock, and no server connection stays behind.
    """
    if find() is None:
        if os.environ.get("MEANWHILE_TEST_REQUIRE_SERVERS") == "1":
            pytest.fail("MEANWHILE_TEST_REQUIRE_SERVERS=1, and there is no pgbouncer on this machine")
        pytest.skip("there is no pgbouncer on this machine: apt-get install pgbouncer")
    ini = next(b.text for b in page("how-to/pgbouncer").blocks() if b.text.startswith("# /etc/pgbouncer"))
    pooler = Pooler(ini, settings.POSTGRESQL, project.database["NAME"])
    try:
        pooler.start()
        name = next(name for name in pooler.ini["databases"])
        through = json.dumps(pooler.settings_dict(name) | {"DISABLE_SERVER_SIDE_CURSORS": True})
        code = RUSH.replace("ROUNDS", "8")
        running = [project.start_python(code, MEANWHILE_TEST_DB=through) for _ in range(2)]
        assert [each.wait(120) for each in running] == [0, 0], [each.log for each in running]
        history = _history(each.log for each in running)
        assert len(history) == 48
        assert all(one[2] <= other[1] for one, other in itertools.pairwise(history))
        holder = project.start_python(HOLD, MEANWHILE_TEST_DB=through)
        first = _fence(holder)
        holder.kill()
        _let_go(project)
        assert _fence(project.start_python(HOLD, MEANWHILE_TEST_DB=through)) > first
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        eventually(lambda: project.sql(held) == [(0,)], what="nothing is held any more")
    finally:
        pooler.close()


def test_a_missing_migration_is_named(project):
    """Without 0002, `meanwhile check` says what to run; the migration can be taken back, and made again."""
    project.manage("migrate", "meanwhile", "0001", "--verbosity", "0")
    done = project.manage("meanwhile", "check", check=False)
    assert done.returncode != 0
    assert "0002_lock" in done.stdout + done.stderr
    project.manage("migrate", "meanwhile", "--verbosity", "0")
    project.python("from django_meanwhile.concurrent import Lock\nwith Lock('printer'): pass")


@on_postgresql
def test_djangos_pool_is_left_alone(project):
    """Four locks at once with a pool of two connections: theirs are outside of it."""
    project.database["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 2, "timeout": 20}}
    project.python(
        "from contextlib import ExitStack\n"
        "from django.db import connection\n"
        "from django_meanwhile.concurrent import Lock\n"
        "from django_meanwhile.models import Job\n"
        "with ExitStack() as stack:\n"
        "    for number in range(4):\n"
        "        stack.enter_context(Lock(f'printer {number}', 5))\n"
        "    assert Job.objects.count() == 0\n"
        "connection.close()\n"
        "connection.close_pool()\n"
    )
