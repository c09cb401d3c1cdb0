"""``arun_jobs``: the same from async tests, bodies on the test's own loop and connection."""

import asyncio

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections
from django.test import TestCase

from django_meanwhile import JobState
from django_meanwhile.models import Job, Worker
from django_meanwhile.testing import (
    JobFailed,
    aassert_enqueued,
    aassert_not_enqueued,
    arun_jobs,
    capture_enqueued,
    fail_task,
)
from tests.project.models import Mark
from tests.testing import sample

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("task", [sample.add, sample.add_async, sample.add_in_process], ids=lambda task: task.name)
def test_a_job_of_every_executor_runs(database, on, task):
    """Sync and async bodies run from an async test, and leave no worker behind."""

    async def test():
        queued = await on(task).aenqueue(2, 3)
        [result] = await arun_jobs(backend=database)
        assert (result.id, result.return_value) == (queued.id, 5)

    async_to_sync(test)()
    assert not Worker.objects.using(database).exists()


def test_coroutines_run_on_the_loop_of_the_test(database, bodies, on):
    """An async body meets the loop-bound objects of the test (a client, an event), and the rows that the test wrote."""

    async def test():
        event = asyncio.Event()

        async def body():
            event.set()
            assert asyncio.get_running_loop() is loop
            return await Mark.objects.using(database).acount()

        loop = asyncio.get_running_loop()
        bodies["x"] = body
        await Mark.objects.using(database).acreate(text="by the test")
        await on(sample.ado).aenqueue("x")
        [result] = await arun_jobs(backend=database)
        assert result.return_value == 1
        await asyncio.wait_for(event.wait(), 5)

    async_to_sync(test)()


def test_failures_and_travel_are_the_same(database, on):
    """Injected failures, retries by time travel and JobFailed work from async code."""

    async def test():
        await on(sample.retried_async).aenqueue()
        with fail_task(sample.retried_async, times=2):
            [result] = await arun_jobs(backend=database, travel=True)
        assert (result.state, result.attempts) == (JobState.SUCCESSFUL, 3)
        await on(sample.add_async).aenqueue(1)
        with fail_task(sample.add_async, KeyError("x")), pytest.raises(JobFailed) as caught:
            await arun_jobs(backend=database)
        assert isinstance(caught.value.__cause__, KeyError)

    async_to_sync(test)()


def test_assertions_have_async_twins(database, on):
    """The twins look at the same rows and fail in the same way."""

    async def test():
        with capture_enqueued() as captured:
            await on(sample.add).aenqueue(1)
        await aassert_enqueued(sample.add, [1], backend=database)
        await captured.aassert_enqueued(sample.add, [1], count=1)
        await captured.aassert_not_enqueued(sample.do)
        await aassert_not_enqueued(sample.do, backend=database)
        with pytest.raises(AssertionError, match="No job is queued"):
            await aassert_enqueued(sample.do, backend=database)

    async_to_sync(test)()


@pytest.mark.django_db(transaction=True)
def test_a_bare_event_loop_works_with_real_transactions(database, on):
    """Under ``asyncio.run`` the async ORM has a thread of its own; what it enqueues there is run there."""

    async def test():
        await on(sample.add_async).aenqueue(4)
        await aassert_enqueued(sample.add_async, [4], backend=database)
        [result] = await arun_jobs(backend=database)
        await sync_to_async(connections.close_all)()
        return result.return_value

    assert asyncio.run(test()) == 4


class TestInDjangosTestCase(TestCase):
    """An async method of Django's own ``TestCase``, on its database."""

    async def test_an_async_method_runs_jobs(self):
        """What the test enqueued in its transaction runs there."""
        await sample.add.aenqueue(1)
        [result] = await arun_jobs()
        assert result.return_value == 1

    def test_nothing_is_left_of_the_other_test(self):
        """Jobs go with the test's transaction."""
        assert not Job.objects.exists()
