"""``parallel_map(executor="interpreter")``: subinterpreters, each with Django set up and a GIL of its own."""

import ctypes.util
import subprocess
import sys

import pytest
from django.test.utils import _TestState

from django_meanwhile.concurrent.maps import callee
from django_meanwhile.embedded import serving

CODE = """
from django_meanwhile.concurrent import parallel_map
import calls

assert list(parallel_map(calls.square, range(20), executor="interpreter")) == [n * n for n in range(20)]
assert 0 not in set(parallel_map(calls.where, range(8), executor="interpreter")), "none runs in the main interpreter"
assert list(parallel_map(calls.language, range(3), executor="interpreter")) == ["en-us"] * 3
try:
    list(parallel_map(calls.fail, range(3), executor="interpreter"))
except ValueError as error:
    assert str(error) == "no 1"
else:
    raise AssertionError("the error is raised here")
"""
CALLS = """
def square(n):
    return n * n

def where(_):
    from concurrent import interpreters
    return interpreters.get_current().id

def language(_):
    from django.utils.translation import get_language
    return get_language()

def fail(n):
    if n == 1:
        raise ValueError(f"no {n}")
"""
QUERY = """
from django_meanwhile.concurrent import parallel_map
import calls

assert list(parallel_map(calls.ask, range(4), executor="interpreter")) == [1] * 4
"""
REFUSED = """
from django_meanwhile.concurrent import NotAllowed, parallel_map
import calls

try:
    list(parallel_map(calls.ask, range(4), executor="interpreter"))
except NotAllowed as error:
    assert 'Use executor="process"' in str(error) and "psycopg" in str(error)
else:
    raise AssertionError("psycopg's C can be imported in a subinterpreter by now: tell it in the docs")
"""
ASK = """
def ask(_):
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0]
"""
INSIDE = """
import asyncio
import threading
from functools import partial

from asgiref.sync import sync_to_async

from django_meanwhile.concurrent import Lock, aparallel, aparallel_map, default_executor, parallel, parallel_map
from tests.project.models import Mark

def double(n):
    return 2 * n

def here(_):
    from concurrent import interpreters
    return interpreters.get_current().id

def alike(iterator):
    return set(iterator) == {here(0)}

def maps(_):
    async def amap(executor):
        return {place async for place in aparallel_map(here, range(3), executor=executor)}
    nested = [alike(parallel_map(here, range(3), executor=name)) for name in ("process", "interpreter")]
    return [*nested, asyncio.run(amap("interpreter")) == {here(0)}, list(parallel_map(double, range(3)))]

def write(n):
    return Mark.objects.create(text=str(n)).text

def timed(n):
    calls = partial(double, n), partial(double, n + 1)
    return default_executor().submit(parallel, *calls, timeout=60).result()

def locked(n):
    async def alocked():
        async with Lock(f"async {n}", timeout=60) as lock:
            return lock.fence > 0
    with Lock("sync", timeout=60) as lock:
        return [lock.fence > 0, asyncio.run(alocked())]

def late(_):
    end = threading.Event()
    async def waits():
        await sync_to_async(end.wait)()
    async def main():
        faults = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        try:
            await aparallel(waits, waits, timeout=0.5)
        except TimeoutError:
            return faults
        finally:
            end.set()
    return asyncio.run(main())
"""
USE = """
from django_meanwhile.concurrent import parallel_map
import calls

def mapped(name):
    return list(parallel_map(getattr(calls, name), range(4), executor="interpreter"))

"""
ENDS = """
from django_meanwhile.concurrent import NotAllowed, parallel_map
import os

os.environ["MEANWHILE_TEST_IMPORT"] = "ends"
for _ in range(2):
    try:
        list(parallel_map(abs, range(4), executor="interpreter"))
    except NotAllowed as error:
        assert 'Use executor="process"' in str(error) and "no settings today" in str(error), error
    else:
        raise AssertionError("Django is set up there, without its settings")
"""
BREAKS = """
import logging
from concurrent.futures import BrokenExecutor
from django_meanwhile.concurrent import parallel_map
from django_meanwhile.concurrent.maps import callee
import calls

logging.disable()
callee.set_up_interpreter, right = calls.broken, callee.set_up_interpreter
try:
    list(parallel_map(abs, range(4), executor="interpreter"))
except BrokenExecutor:
    callee.set_up_interpreter = right
assert list(parallel_map(abs, range(4), executor="interpreter")) == list(range(4))
"""
SERVED = """
import os
from django_meanwhile.concurrent import parallel_map
import calls

os.environ["MEANWHILE_TEST_SETTINGS"] = '{"EMBEDDED": true}'  # for them, not for this one
assert list(parallel_map(calls.keepers, range(4), executor="interpreter")) == [(True, True, 0)] * 4
"""
KEEPERS = """
from django_meanwhile import embedded
from django_meanwhile.conf import get_settings
from django_meanwhile.embedded import serving

def keepers(_):
    return get_settings().embedded, serving.is_runserver(), len(embedded._keepers)
"""
INTERPRETER = """
import sys
import _interpreters as interpreters
interpreter = interpreters.create()
code = f"import sys; sys.path[:] = {sys.path!r}"
failure = interpreters.exec(interpreter, code) or interpreters.exec(interpreter, sys.argv[1])
interpreters.destroy(interpreter)
sys.exit(failure and failure.formatted)
"""
A_THREAD = """
from django_meanwhile.concurrent.threads.daemons import daemon
ran = []
thread = daemon(ran.append, 1, name="some")
thread.start()
thread.join()
assert (ran, thread.daemon) == ([1], False)
"""


needs_interpreters = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="parallel_map() has subinterpreters from Python 3.14 on"
)


def _run(project, code, calls, *arguments):
    (project.path / "calls.py").write_text(calls)
    setup = f"import django, sys\ndjango.setup()\nsys.path.insert(0, {str(project.path)!r})\n"
    project._run([sys.executable, "-c", setup + code, *arguments], check=True, within=120)


def _needs_a_driver(project):
    if project.vendor == "postgresql" and ctypes.util.find_library("pq") is None:
        pytest.skip("of psycopg only the implementation in Python can be imported there, and there is no libpq for it")


@needs_interpreters
def test_calls_run_in_other_interpreters_under_django(bare_project):
    """Results in order, errors as in the caller's own."""
    _needs_a_driver(bare_project)
    _run(bare_project, CODE, CALLS)


@needs_interpreters
def test_they_query_where_the_driver_can_be_imported(bare_project, monkeypatch):
    """SQLite's can; psycopg's C cannot, so that Django is not set up, and the error says what to write."""
    monkeypatch.setenv("PSYCOPG_IMPL", "binary")  # not the one in Python, where there is a libpq
    _run(bare_project, QUERY if bare_project.vendor == "sqlite" else REFUSED, ASK)


@needs_interpreters
def test_psycopg_in_python_can_be_imported(bare_project):
    """Where there is a libpq, psycopg takes the implementation in Python: queries run there on PostgreSQL, too."""
    if bare_project.vendor == "sqlite":
        pytest.skip("about PostgreSQL's driver")
    _needs_a_driver(bare_project)
    _run(bare_project, QUERY, ASK)


@needs_interpreters
@pytest.mark.parametrize(
    "check",
    [
        'assert mapped("maps") == [[True, True, True, [0, 2, 4]]] * 4',
        'assert mapped("write") == list("0123")',
        'assert mapped("timed") == [(0, 2), (2, 4), (4, 6), (6, 8)]',
        'assert mapped("locked") == [[True, True]] * 4',
        'assert mapped("late") == [[]] * 4',
    ],
    ids=["maps", "models", "a timeout", "locks", "a timeout of coroutines"],
)
def test_what_this_package_offers_works_there(project, check):
    """Though they have no daemon threads. A map in one runs there, one call after another, or in threads of its own."""
    _needs_a_driver(project)
    _run(project, USE + check, INSIDE)


@needs_interpreters
@pytest.mark.parametrize("error", ["ImportError", "SystemExit"])
def test_settings_that_cannot_be_imported_there_are_told_to_each_call(bare_project, error):
    """The first one and the next; ``sys.exit()`` in the settings is an obstacle like any other."""
    (bare_project.path / "ends.py").write_text(f"raise {error}('no settings today')")
    _run(bare_project, ENDS, "")


@needs_interpreters
def test_interpreters_that_could_not_start_are_tried_again(bare_project):
    """A pool that broke is not kept: the next call has a new one."""
    _needs_a_driver(bare_project)
    _run(bare_project, BREAKS, "def broken(*_):\n    raise OSError('no room')")


@needs_interpreters
def test_they_bring_no_worker_along(bare_project):
    """Under ``runserver`` their command line is the server's; the worker is the server's own all the same."""
    _needs_a_driver(bare_project)
    _run(bare_project, SERVED, KEEPERS, "runserver", "--noreload")


def test_what_runs_a_maps_calls_never_serves(monkeypatch):
    """A process or interpreter of a map is no server, whatever its command line says. On every Python."""
    monkeypatch.delattr(_TestState, "saved_data")
    monkeypatch.setattr(serving, "_OF_A_WORKER", ())
    assert not serving.never_serves()
    monkeypatch.setattr(callee, "is_callee", True)
    assert serving.never_serves()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="_interpreters is there from Python 3.13 on")
@pytest.mark.parametrize(
    "code", ["import django_meanwhile.concurrent.maps.callee", A_THREAD], ids=["imports", "threads"]
)
def test_what_is_ours_works_in_an_interpreter_that_refuses_some_things(code):
    """Daemon threads, and modules of the standard library that cannot be imported there: nothing of ours needs them."""
    command = [sys.executable, "-c", INTERPRETER, code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
