"""A lock's connection counts in the process's share, and never waits for a place in it."""

import threading
from contextlib import ExitStack

import pytest
from django.db import connections

from django_meanwhile import conf
from django_meanwhile.concurrent import Lock, ThreadPoolExecutor
from django_meanwhile.concurrent.threads import budget

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_lock_counts(database):
    """While it is held it is among the holders of connections; afterwards it is not."""
    with Lock("printer", using=database):
        assert [each for each in budget.holders(database) if "Lock('printer')" in each]
    assert not budget.holders(database)


def test_a_lock_does_not_wait_for_a_place(database):
    """With every place taken it is taken all the same; the next call of a pool waits for two places less."""
    share = conf.get_settings().concurrent.connections
    with ExitStack() as stack:
        for number in range(share):
            stack.enter_context(budget.hold(database, f"place {number}"))
        with Lock("printer", 0, using=database):
            assert len(budget.holders(database)) == share + 1
    assert not budget.holders(database)


def test_a_full_pool_passes_a_lock(database):
    """As many threads as there are connections, each with a connection of its own, take one lock in turn."""
    share = conf.get_settings().concurrent.connections
    together = threading.Barrier(share)

    def job(number):
        with connections[database].cursor() as cursor:
            cursor.execute("SELECT 1")
        together.wait(20)
        with Lock("printer", 20, using=database):
            return number

    with ThreadPoolExecutor(max_workers=share) as pool:
        assert sorted(pool.map(job, range(share))) == list(range(share))
