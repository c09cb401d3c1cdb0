"""Processes of their own under the guard: a pool, forks, the end of the interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.playground import Playground, Project
from tests.servers import Server

GUARDS = ["off", "warn", "repair"]

_LEAK = """
import threading
from django.db import connection
def ask():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()
def leak(number):
    for _ in range(number):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
"""


@pytest.fixture
def postgresql(playground: Playground, postgresql_server: Server, tmp_path: Path) -> Iterator[Project]:
    """A project on PostgreSQL: Django has a pool for no other."""
    with playground.project("postgresql", tmp_path, migrated=False) as project:
        yield project


def _told(text: str) -> list[str]:
    return [line for line in text.splitlines() if "django_meanwhile.guard" in line]


_LOG = """
import logging
logging.basicConfig(format="%(name)s %(message)s")
"""


@pytest.mark.parametrize("guard", GUARDS)
def test_a_pool_gets_back_the_slots_of_threads(postgresql, guard):
    """Four threads that leak at max_size=4: without repair the fifth query is a PoolTimeout; with it, it works."""
    postgresql.database["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 4, "timeout": 3}}
    postgresql.meanwhile = {"GUARD": guard}
    ran = postgresql.python(
        _LOG + _LEAK + "import gc; gc.disable(); leak(4)\n"
        "try:\n    print(ask())\nexcept Exception as error: print(type(error.__cause__ or error).__name__)\n"
        "connection.close(); connection.close_pool()"
    )
    assert ran.stdout.strip() == ("(1,)" if guard == "repair" else "PoolTimeout")
    assert len(_told(ran.stderr)) == (guard != "off")


def test_a_pool_gets_back_no_transaction(postgresql):
    """A thread that ends inside a transaction: it is rolled back before the pool sees it, which complains otherwise."""
    postgresql.database["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 1, "timeout": 5}}
    postgresql.meanwhile = {"GUARD": "repair"}
    ran = postgresql.python(
        _LOG + _LEAK + "from django.db import transaction\n"
        "thread = threading.Thread(target=lambda: (transaction.atomic().__enter__(), ask()))\n"
        "thread.start(); thread.join(); print(ask())\nconnection.close(); connection.close_pool()"
    )
    assert ran.stdout.strip() == "(1,)"
    assert len(_told(ran.stderr)) == 1
    assert "rolling back returned connection" not in ran.stderr


@pytest.mark.parametrize("guard", GUARDS)
def test_a_child_of_a_fork_has_connections_of_its_own(bare_project, guard):
    """Parent and child ask for their session: without repair it is the same one, and the child's close() ends the
    parent's; with it each has its own, and the parent's works on. It is told once, with the line that forked.
    """
    bare_project.meanwhile = {"GUARD": guard}
    ran = bare_project.python(_LOG + _FORK.replace("POOLED", "False"))
    first, in_child, last = ran.stdout.split()
    if bare_project.vendor == "postgresql":
        assert (in_child != first) == (guard == "repair")
        assert last == (first if guard == "repair" else "OperationalError")
    else:
        assert (in_child == "inherited") == (guard != "repair")
    told = _told(ran.stderr)
    assert len(told) == (guard != "off")
    if told:
        assert "a fork while connections are open to 'default': " in told[0]
        assert ("has forgotten them" in told[0]) == (guard == "repair")
        assert "in forks_here" in ran.stderr


_FORK = """
import os, sys
from django.db import connection
def who(raw=None):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()" if connection.vendor == "postgresql" else "SELECT 1")
        (pid,) = cursor.fetchone()
    if connection.vendor == "postgresql":
        return pid
    return "inherited" if connection.connection is raw else "own"
def forks_here():
    raw = connection.connection
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writer, str(who(raw)).encode())
        if POOLED: connection.close_pool()
        else: connection.close()
        os._exit(0)
    os.close(writer)
    print(os.read(reader, 100).decode())
    os.waitpid(pid, 0)
print(who())
if POOLED: connection.close()
forks_here()
try:
    print(who())
except Exception as error:
    print(type(error).__name__)
connection.close()
if POOLED: connection.close_pool()
"""


def test_a_pool_is_not_shared_with_a_child(postgresql):
    """A fork while a pool holds idle connections: the child makes a pool of its own, the parent's works on."""
    postgresql.database["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 1, "timeout": 5}}
    postgresql.meanwhile = {"GUARD": "repair"}
    ran = postgresql.python(_LOG + _FORK.replace("POOLED", "True"))
    first, in_child, last = ran.stdout.split()
    assert first == last != in_child
    assert len(_told(ran.stderr)) == 1


def test_multiprocessings_fork_is_a_fork(bare_project):
    """A process started by "fork" inside a transaction: the child has a connection and transactions of its own, and
    the parent's transaction commits.
    """
    bare_project.database.pop("OPTIONS", None)  # SQLite: two transactions that begin IMMEDIATE exclude each other
    bare_project.meanwhile = {"GUARD": "repair"}
    ran = bare_project.python(
        _LOG + "import multiprocessing\nfrom django.db import connection, transaction\n"
        "def child(queue, raw):\n"
        "    before = connection.in_atomic_block\n"
        "    with transaction.atomic(), connection.cursor() as cursor:\n"
        "        cursor.execute('SELECT 1')\n"
        "        queue.put((connection.connection is raw, before, connection.in_atomic_block))\n"
        "    connection.close()\n"
        "context = multiprocessing.get_context('fork')\n"
        "queue = context.SimpleQueue()\n"
        "with transaction.atomic(), connection.cursor() as cursor:\n"
        "    cursor.execute('CREATE TABLE kept (id integer)')\n"
        "    process = context.Process(target=child, args=(queue, connection.connection)); process.start()\n"
        "    process.join()\n"
        "print(process.exitcode, queue.get())\n"
        "connection.close()\n"
    )
    assert ran.stdout.split(None, 1) == ["0", "(False, False, True)\n"]
    assert bare_project.sql("SELECT count(*) FROM kept") == [(0,)]
    assert len(_told(ran.stderr)) == 1


@pytest.mark.parametrize(
    "forks",
    [
        "subprocess.run([sys.executable, '-c', ''], preexec_fn=os.getpid)",
        "subprocess.run([sys.executable, '-c', ''])",
        "multiprocessing.get_context('spawn').Process(target=print).start()",
        "connection.close(); os.waitpid(os.fork() or os._exit(0), 0)",
    ],
    ids=["preexec", "subprocess", "spawn", "closed"],
)
def test_what_is_no_fork_of_connections_is_not_told(bare_project, forks):
    """Another program, a spawned process, a fork after the connection was closed."""
    bare_project.meanwhile = {"GUARD": "repair"}
    code = (
        f"import multiprocessing, os, subprocess, sys\nfrom django.db import connection\nconnection.connect()\n{forks}"
    )
    ran = bare_project.python(f"{_LOG}{code}\nconnection.close()\n")
    assert _told(ran.stderr) == []


_ENDS = {
    "daemon": "threading.Thread(target=lambda: (ask(), asked.set(), threading.Event().wait()), daemon=True).start()",
    "executor": "pool = ThreadPoolExecutor(2); pool.submit(lambda: (ask(), asked.set()))",
    "late": "threading.Thread(target=lambda: (ask(), asked.set(), threading.main_thread().join())).start()",
}


@pytest.mark.parametrize("ends", _ENDS)
def test_the_end_of_the_process_is_quiet(bare_project, ends):
    """Threads that live when the main thread ends take their connections along: nothing is told, nothing hangs."""
    bare_project.meanwhile = {"GUARD": "repair"}
    ran = bare_project.python(
        f"{_LOG}{_LEAK}import warnings; warnings.simplefilter('ignore', ResourceWarning)\n"
        "from concurrent.futures import ThreadPoolExecutor\nasked = threading.Event()\n"
        f"{_ENDS[ends]}\nasked.wait()",
        within=20,
    )
    assert (ran.stdout, ran.stderr) == ("", "")


def test_a_finding_is_told_before_the_process_ends(bare_project):
    """A script whose last act is a thread that leaks: the warning is printed all the same."""
    bare_project.meanwhile = {"GUARD": "repair"}
    assert len(_told(bare_project.python(f"{_LOG}{_LEAK}leak(1)").stderr)) == 1


def test_it_is_off_unless_the_settings_say_otherwise(bare_project):
    """Without the key and without DEBUG nothing of it is even imported."""
    ran = bare_project.python("import sys; print([name for name in sys.modules if 'guard.' in name])")
    assert ran.stdout.strip() == "[]"
