"""A project with psycopg2: what needs no psycopg 3 works.

Django takes psycopg 3 wherever it can be imported, and these tests are run where it is. In the project's processes it
cannot: a module of that name stands before it, which fails.
"""

import os

import pytest

from tests.playground import eventually

pytest.importorskip("psycopg2", reason="psycopg2 is not installed (it is in the dependency group test)")

CALLS = """
import asyncio, threading
from django.contrib.auth.models import User
from django.db import connection
from django.db.backends.postgresql.psycopg_any import is_psycopg3
from django_meanwhile.concurrent import *
from tests.concurrent.inside import ask, eventually
from django_meanwhile.concurrent.together import async_gathering, gathering
gathering.STOP_WITHIN = async_gathering.STOP_WITHIN = 20  # what is interrupted ends, if not soon, on a busy machine

assert not is_psycopg3
asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
asleep += " AND query LIKE 'SELECT pg_sleep%%' AND state = 'active'"

def sleep():
    ask("SELECT pg_sleep(60)::text")

def in_the_background(*calls, **options):
    async def gather():
        return await aparallel(*calls, **options)
    return asyncio.run(gather())

for together in (parallel, in_the_background):
    assert together(*[ask] * 8) == (1,) * 8
    assert together(ask, User.objects.count, snapshot=True) == (1, 0)
    for options in ({}, {"snapshot": True}):
        try:
            together(*[sleep] * 4, timeout=0.3, **options)
        except TimeoutError as error:
            assert "Still running" not in str(error), error
        else:
            raise AssertionError("no timeout")
        eventually(lambda: ask(asleep) == 0, "all are interrupted")
"""

LOCKS = """
def refused():
    try:
        with Lock("printer", 0.1):
            raise AssertionError("both have it")
    except LockTimeout as error:
        return error

async def take():
    async with Lock("printer", 20) as lock:
        lock.raise_if_lost()
        return await asyncio.to_thread(refused)

with Lock("printer", 20) as lock:
    lock.raise_if_lost()
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(refused).result(20)
assert asyncio.run(take())
"""

LEAKS = """
raws = []
def leak():
    ask()
    raws.append(connection.connection)
thread = threading.Thread(target=leak)
thread.start()
thread.join()
assert raws[0].closed
"""

ENQUEUES = """
from tests.project.tasks import add, nothing_async, nothing_process
for task in (add, nothing_async, nothing_process):
    task.enqueue(1, 2) if task is add else task.enqueue()
"""


@pytest.fixture(params=["postgresql"])
def _vendor_of_project(request):
    return request.param


@pytest.fixture
def without_psycopg3(project):
    """The environment of processes that can import psycopg2 alone."""
    directory = project.path / "first"
    directory.mkdir()
    (directory / "psycopg.py").write_text('raise ImportError("there is psycopg2 only")\n')
    return {"PYTHONPATH": os.pathsep.join([str(directory), project.env["PYTHONPATH"]])}


def test_calls_locks_and_the_guard(project, without_psycopg3):
    """Results, interruption by timeouts, snapshots, sync and async locks, and a thread's connection that is closed."""
    project.meanwhile = {"GUARD": "repair"}
    running = project.start_python(CALLS + LOCKS + LEAKS, **without_psycopg3)
    assert running.wait() == 0, running.log
    assert "(leak)' ended with an open connection" in running.log


def test_the_queue(project, without_psycopg3):
    """A worker finds jobs of each executor by its poll, runs them, and ends when it is told."""
    worker = project.start("meanwhile", "worker", **without_psycopg3)
    assert project.start_python(ENQUEUES, **without_psycopg3).wait() == 0
    ended = "SELECT count(*) FROM meanwhile_job WHERE state = 4"
    eventually(lambda: project.sql(ended) == [(3,)], what="all have succeeded")
    listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND datname = %s"
    assert project.sql(listening, (project.database["NAME"],)) == [(0,)]
    assert worker.stop() == 0, worker.log
