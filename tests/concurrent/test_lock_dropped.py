"""A named lock that is held by an object which nobody has any more: it is given back, and that is told."""

import asyncio
import gc
import re
import threading

import pytest
from django.test import TestCase

from django_meanwhile.concurrent import Lock
from django_meanwhile.concurrent.locks import line as lock_line
from django_meanwhile.concurrent.locks.keeper import keeper
from tests.concurrent.conftest import PATIENCE
from tests.playground import eventually

TOLD = re.escape("Lock('printer') was dropped while it was held, and is given back now. Use `with`, or keep the object")


def free(database):
    """Take it and give it back, with patience; the thread that gives back what was dropped has ended then."""
    with Lock("printer", PATIENCE, using=database):
        pass
    eventually(lambda: not any("Lock('printer')" in thread.name for thread in threading.enumerate()))
    assert not lock_line._lines
    eventually(lambda: not keeper.is_alive, what="nobody renews it any more")


def in_time(thread):
    """Run a thread that may hang."""
    thread.start()
    thread.join(PATIENCE)


@pytest.mark.django_db(transaction=True)
def test_a_lock_that_is_dropped_is_given_back(database):
    """A ResourceWarning names it, and the same thread may wait for it: that is no deadlock."""
    with pytest.warns(ResourceWarning, match=TOLD):
        assert Lock("printer", using=database).acquire()
    free(database)


@pytest.mark.django_db(transaction=True)
def test_a_lock_of_a_coroutine_too(database):
    """Dropped in the thread of the loop, which does not wait for the database."""

    async def main():
        assert await Lock("printer", using=database).aacquire()
        async with Lock("printer", PATIENCE, using=database):
            pass

    with pytest.warns(ResourceWarning, match=TOLD):
        asyncio.run(main())
    free(database)


@pytest.mark.django_db(transaction=True)
def test_a_warning_that_is_an_error_keeps_nothing_held(database, monkeypatch):
    """As under `-W error`: Python says that it was raised in a finalizer, and the lock is free all the same."""
    seen = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: seen.append(str(unraisable.exc_value)))
    assert Lock("printer", using=database).acquire()
    assert len(seen) == 1
    assert re.match(TOLD, seen[0])
    free(database)


@pytest.mark.filterwarnings("ignore:.*psycopg.Connection:ResourceWarning")  # it is found by the collector, too
@pytest.mark.django_db(transaction=True)
def test_it_is_collected_in_the_middle_of_anything(database):
    """The collector runs in a thread that has every lock of ours: it does not hang, and asks no database there."""
    lock = Lock("printer", using=database)
    assert lock.acquire()
    lock.itself = lock
    del lock
    ended = []

    def collect():
        with lock_line._guard, keeper._changed:
            gc.collect()
            ended.append(bool(lock_line._lines))

    thread = threading.Thread(target=collect, daemon=True)
    with pytest.warns(ResourceWarning, match=TOLD):
        in_time(thread)
    assert ended == [True]
    free(database)


@pytest.mark.django_db(transaction=True)
def test_what_cannot_be_given_back_is_logged(database, monkeypatch, caplog):
    """An ERROR with the traceback; the next one in the line gets its turn."""

    def fail(*_args, **_options):
        raise ZeroDivisionError

    lock = Lock("printer", using=database)
    assert lock.acquire()
    with monkeypatch.context() as patched:
        patched.setattr(type(lock._hold._grip), "release", fail)
        with pytest.warns(ResourceWarning, match=TOLD):
            del lock
        eventually(lambda: not lock_line._lines)
    record = eventually(lambda: next(iter(caplog.records), None))
    assert record.levelname == "ERROR"
    assert record.getMessage() == "lock 'printer' was dropped while it was held, and could not be given back"
    assert record.exc_info[0] is ZeroDivisionError


class TestInATestCase(TestCase):
    """The lock of the process alone."""

    def test_a_lock_in_a_test(self):
        """It is given back as well."""
        with pytest.warns(ResourceWarning, match=TOLD):
            assert Lock("printer").acquire()
        free("default")


HELD_TO_THE_END = """
import os
from django_meanwhile.concurrent import Lock

lock = Lock("printer")
assert lock.acquire()
if child := os.fork():
    print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    lock.raise_if_lost()
else:
    del lock
    os._exit(0)
"""


def test_the_end_of_the_process_is_silent(project):
    """It takes its locks along; a child of a fork has none that it could drop."""
    done = project.python(
        "import warnings\n"
        "warnings.simplefilter('always', ResourceWarning); warnings.simplefilter('ignore', DeprecationWarning)\n"
        + HELD_TO_THE_END
    )
    assert done.stdout.split() == ["child", "0"]
    assert "printer" not in done.stderr
    assert "Traceback" not in done.stderr
