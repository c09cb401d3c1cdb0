"""Transactions of the caller: refused inside atomic(), run at once inside a TestCase; and what a coroutine may do."""

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import IntegrityError, connections, transaction
from django.test import RequestFactory, TestCase, TransactionTestCase
from django.test.utils import override_settings

from django_meanwhile.concurrent import InsideTransaction, ThreadPoolExecutor, default_executor
from django_meanwhile.concurrent.transactions import refuse_inside_transaction, runs_inline
from tests.concurrent.conftest import PATIENCE


def names():
    """Return what this connection sees."""
    return sorted(Group.objects.values_list("name", flat=True))


class Inline(TestCase):
    """What users' own test cases see."""

    def test_a_call_runs_at_once_on_the_test_s_own_connection_and_in_order(self):
        """It sees the test's data, the test sees its; it has ended when submit returns; no thread is made."""
        order = []

        def call(name):
            Group.objects.create(name=name)
            order.append((name, names(), threading.get_ident()))
            return name

        Group.objects.create(name="a test's")
        with ThreadPoolExecutor(4) as executor:
            futures = [executor.submit(call, name) for name in ("b", "c")]
            assert all(future.done() for future in futures)
            assert list(executor.map(call, ["d"])) == ["d"]
            assert not executor._threads
        here = threading.get_ident()
        assert order == [
            ("b", ["a test's", "b"], here),
            ("c", ["a test's", "b", "c"], here),
            ("d", ["a test's", "b", "c", "d"], here),
        ]

    def test_an_exception_is_the_future_s_and_the_test_goes_on(self):
        """It is raised by result(), not by submit(), as with threads."""

        def collide():
            with transaction.atomic():
                Group.objects.create(name="twice")
                Group.objects.create(name="twice")

        future = default_executor().submit(collide)
        with pytest.raises(IntegrityError):
            future.result()
        assert names() == []

    def test_a_call_that_submits_runs_that_at_once_as_well(self):
        """Nested calls, however deep, in a pool of one."""
        executor = ThreadPoolExecutor(1, max_queued=0)

        def nested(depth):
            return 1 + executor.submit(nested, depth - 1).result() if depth else 0

        assert nested(5) == 5

    def test_the_transaction_of_the_code_under_test_is_still_refused(self):
        """TestCase's own wrapper does not count, the code's atomic() does: what fails in production fails here."""
        with transaction.atomic(), pytest.raises(InsideTransaction):
            default_executor().submit(names)
        assert default_executor(outside_transaction=True).submit(names).result() == []

    async def test_from_a_coroutine_by_sync_to_async(self):
        """An async test's ORM runs in one thread; there the calls run at once, too."""

        def submit():
            Group.objects.create(name="x")
            return default_executor().submit(names).result()

        assert await sync_to_async(submit)() == ["x"]


class Real(TransactionTestCase):
    """No transaction around the test: the real thing."""

    def test_a_transaction_test_case_gets_threads(self):
        """On connections of their own, which are closed when the result is there: the database can be dropped."""
        with transaction.atomic():
            Group.objects.create(name="committed")
        executor = ThreadPoolExecutor(1)

        def call():
            return names(), threading.get_ident(), connections["default"]

        seen, thread, connection = executor.submit(call).result(timeout=PATIENCE)
        assert seen == ["committed"]
        assert thread != threading.get_ident()
        assert connection.connection is None
        executor.shutdown()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("alias", ["default", "other"])
def test_inside_atomic_a_submit_is_refused_with_both_ways_out(executor, alias):
    """On any database: a thread would not see what was written. The error names the alias, and what to do."""
    pool = executor(1)
    with transaction.atomic(using=alias), pytest.raises(InsideTransaction) as raised:
        pool.submit(int)
    for words in (f"submit() inside atomic() on database {alias!r}", "Move the call out"):
        assert words in str(raised.value)
    for way in ("default_executor(outside_transaction=True)", "ThreadPoolExecutor(..., outside_transaction=True)"):
        assert way in str(raised.value), "submit() itself would hand that on to the function"
    assert not pool._threads
    with transaction.atomic(using=alias):
        assert executor(1, outside_transaction=True).submit(int).result(timeout=PATIENCE) == 0


@pytest.mark.django_db(transaction=True)
def test_a_view_under_atomic_requests_is_told_of_the_decorator(executor):
    """ATOMIC_REQUESTS is a setting far away: the error names it and non_atomic_requests."""
    from django.core.handlers.base import BaseHandler

    pool = executor(1)

    def view(request):
        with pytest.raises(InsideTransaction) as raised:
            pool.submit(int)
        seen.append(str(raised.value))

    seen = []
    connections["default"].settings_dict["ATOMIC_REQUESTS"] = True
    try:
        BaseHandler().make_view_atomic(view)(RequestFactory().get("/"))
    finally:
        connections["default"].settings_dict["ATOMIC_REQUESTS"] = False
    assert "(ATOMIC_REQUESTS is set)" in seen[0]
    assert "@transaction.non_atomic_requests" in seen[0]


@pytest.mark.django_db(transaction=True)
def test_a_call_is_never_run_inside_the_transaction_of_the_thread_that_waits(executor, gate):
    """run_here() declines inside atomic(): the call was to be outside of it, as its caller has said."""
    pool = executor(1, outside_transaction=True)
    go = gate()
    pool.submit(go)
    go.wait_until_begun()
    future = pool.submit(int)
    with transaction.atomic():
        assert not future.run_here()
    assert future.run_here()


@pytest.mark.django_db(transaction=True)
def test_refuse_inside_transaction_is_for_others_too():
    """What begins the message is the caller's word; outside_transaction lets everything pass."""
    refuse_inside_transaction("parallel()", outside_transaction=False)
    assert not runs_inline()
    with transaction.atomic():
        refuse_inside_transaction("parallel()", outside_transaction=True)
        assert not runs_inline()
        with pytest.raises(InsideTransaction, match=r"^parallel\(\) inside atomic\(\) on database 'default'"):
            refuse_inside_transaction("parallel()", outside_transaction=False)


@override_settings(MEANWHILE={})
def test_an_event_loop_may_use_the_executor_as_its_own(executor):
    """loop.run_in_executor() and asyncio.wrap_future() work; the loop goes on meanwhile."""
    pool = executor(4)
    barrier = threading.Barrier(3)

    async def gather():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(pool, barrier.wait, PATIENCE) for _ in range(2)),
            asyncio.wrap_future(pool.submit(barrier.wait, PATIENCE)),
        )

    assert sorted(asyncio.run(gather())) == [0, 1, 2]
