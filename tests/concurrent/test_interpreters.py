"""``parallel_map(executor="interpreter")``: subinterpreters, each with Django set up and a GIL of its own."""

import subprocess
import sys

import pytest

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
    raise AssertionError("psycopg can be imported in a subinterpreter by now: tell it in the docs")
"""
ASK = """
def ask(_):
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0]
"""
IMPORT = """
import sys
import _interpreters as interpreters
interpreter = interpreters.create()
failure = interpreters.exec(
    interpreter, f"import sys; sys.path[:] = {sys.path!r}; import django_meanwhile.concurrent.maps.callee"
)
interpreters.destroy(interpreter)
sys.exit(failure and failure.formatted)
"""


def _run(project, code, calls):
    (project.path / "calls.py").write_text(calls)
    project.python(f"import sys\nsys.path.insert(0, {str(project.path)!r})\n{code}")


@pytest.mark.skipif(sys.version_info < (3, 14), reason="parallel_map() has subinterpreters from Python 3.14 on")
def test_calls_run_in_other_interpreters_under_django(bare_project):
    """Results in order, errors as in the caller's own."""
    if bare_project.vendor != "sqlite":
        pytest.skip("psycopg cannot be imported in a subinterpreter: below")
    _run(bare_project, CODE, CALLS)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="parallel_map() has subinterpreters from Python 3.14 on")
def test_they_query_where_the_driver_can_be_imported(bare_project):
    """SQLite's can; psycopg cannot, so that Django is not set up, and the error says what to write."""
    _run(bare_project, QUERY if bare_project.vendor == "sqlite" else REFUSED, ASK)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="_interpreters is there from Python 3.13 on")
def test_what_they_import_of_ours_can_be_imported_there():
    """Modules of the standard library that refuse a subinterpreter are imported by nothing that they need."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
