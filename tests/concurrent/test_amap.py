"""``aparallel_map()``: the same rules on an event loop, which never waits for an iterable or a call."""

import asyncio
import contextlib
import threading

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import transaction
from django.test import TestCase

from django_meanwhile.concurrent import InsideTransaction, NotAllowed, aparallel_map
from django_meanwhile.concurrent.threads import executor

PATIENCE = 20


@pytest.fixture(autouse=True)
def _pool(monkeypatch, settings):
    """Give the process a pool of four threads."""
    monkeypatch.setattr(executor, "_default", None)
    settings.MEANWHILE = {"CONCURRENT": {"max_workers": 4}}


def double(n):
    """Run in a thread."""
    return n * 2


async def adouble(n):
    """Run on the loop."""
    await asyncio.sleep(0)
    return n * 2


async def stream(items):
    """Give them asynchronously."""
    for item in items:
        await asyncio.sleep(0)
        yield item


async def into(got, results):
    """Add results to a list as they come."""
    async for result in results:
        got.append(result)


async def collect(*args, **kwargs):
    """Return all results."""
    return [result async for result in aparallel_map(*args, **kwargs)]


@pytest.mark.parametrize("chunk_size", [1, 4])
@pytest.mark.parametrize("source", [list, iter, stream], ids=["list", "iterator", "async"])
@pytest.mark.parametrize("function", [double, adouble])
def test_results_come_in_the_order_of_the_items(function, source, chunk_size) -> None:
    """Functions and coroutine functions, over lists, iterators and async iterables: what map() gives."""
    found = asyncio.run(collect(function, source(range(10)), chunk_size=chunk_size))
    assert found == [n * 2 for n in range(10)]


def test_coroutines_run_side_by_side_and_no_more_than_max_workers() -> None:
    """Three at a time, and three at once."""
    running, most = 0, 0

    async def count(n):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return n

    assert sorted(asyncio.run(collect(count, range(12), max_workers=3, ordered=False))) == list(range(12))
    assert most == 3


def test_a_slow_consumer_stops_the_pulling() -> None:
    """Of an endless iterable no more is pulled than the window holds."""
    pulled = 0

    async def endless():
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    async def main():
        async with contextlib.aclosing(aparallel_map(adouble, endless(), max_workers=2)) as results:
            for taken in range(1, 30):
                assert await anext(results) == taken * 2
                await asyncio.sleep(0.001)
                assert pulled <= taken + 5

    asyncio.run(main())


def test_a_result_is_given_while_the_next_item_is_waited_for() -> None:
    """A stream whose next item comes only after the answer to the last one is answered: no deadlock."""

    async def main():
        answered = asyncio.Queue()

        async def questions():
            yield 0
            for _ in range(5):
                yield await answered.get() + 1

        found = []
        async for result in aparallel_map(double, questions()):
            found.append(result)
            answered.put_nowait(result)
        return found

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == [0, 2, 6, 14, 30, 62]


def test_an_iterable_that_blocks_does_not_block_the_loop() -> None:
    """A plain generator waits for something that only the loop can do: it is pulled elsewhere."""

    async def main():
        opened = threading.Event()

        def blocking():
            assert opened.wait(PATIENCE)
            yield 1

        asyncio.get_running_loop().call_later(0.05, opened.set)
        return await collect(double, blocking())

    assert asyncio.run(main()) == [2]


@pytest.mark.parametrize("function_is_async", [True, False])
def test_an_error_is_raised_in_its_place_and_stops_the_rest(function_is_async) -> None:
    """The results before it are given; then its own error; coroutines that still run are cancelled, and gone."""
    cancelled = []

    def fail(n):
        if n == 2:
            raise KeyError(n)
        return n

    async def afail(n):
        if n > 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(n)
                raise
        await asyncio.sleep(0)
        return fail(n)

    async def main():
        got = []
        with pytest.raises(KeyError, match="2"):
            await into(got, aparallel_map(afail if function_is_async else fail, range(4), max_workers=4))
        assert got == [0, 1]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert cancelled == ([3] if function_is_async else [])


def test_an_error_of_the_iterable_comes_after_the_results_before_it() -> None:
    """As in the sync form, in chunks as well."""

    async def broken():
        for n in range(3):
            yield n
        raise LookupError("no more")

    async def main(chunk_size):
        got = []
        with pytest.raises(LookupError, match="no more"):
            await into(got, aparallel_map(double, broken(), chunk_size=chunk_size))
        return got

    assert [asyncio.run(main(chunk_size)) for chunk_size in (1, 2)] == [[0, 2, 4]] * 2


@pytest.mark.parametrize("end", ["break", "cancel", "timeout"])
def test_an_end_leaves_no_task_behind(end) -> None:
    """By aclose(), by a cancel of the consumer, by the timeout: all coroutines are cancelled before it is over."""
    running = set()

    async def linger(n):
        running.add(n)
        try:
            await asyncio.sleep(0 if n == 0 else 60)
        finally:
            running.discard(n)

    async def consume(timeout):  # noqa: ASYNC109 - it is the map's
        async with contextlib.aclosing(aparallel_map(linger, range(9), max_workers=3, timeout=timeout)) as results:
            async for _ in results:
                if end == "break":
                    break

    async def main():
        task = asyncio.ensure_future(consume(0.2 if end == "timeout" else None))
        if end == "cancel":
            while not {1, 2} <= running:  # noqa: ASYNC110 - they say so by being in there
                await asyncio.sleep(0.001)
            task.cancel()
        error = {"cancel": asyncio.CancelledError, "timeout": TimeoutError}.get(end)
        with pytest.raises(error) if error else contextlib.nullcontext():
            await task
        assert not running
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@pytest.mark.django_db(transaction=True)
def test_coroutines_query_side_by_side(database) -> None:
    """The ORM calls of coroutines run in threads of their own: as many queries at once as coroutines."""
    barrier = threading.Barrier(3)

    def meet(n):
        barrier.wait(PATIENCE)
        return User.objects.using(database).count() + n

    async def query(n):
        return await sync_to_async(meet)(n)

    assert asyncio.run(collect(query, range(3), max_workers=3)) == [0, 1, 2]


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_is_refused() -> None:
    """atomic() in the sync code around it counts."""
    from asgiref.sync import async_to_sync

    with transaction.atomic(), pytest.raises(InsideTransaction):
        async_to_sync(collect)(double, [1])


def test_what_cannot_be_is_refused_at_the_call() -> None:
    """A coroutine function in a process, what is not iterable: at once, not at the first result."""
    with pytest.raises(NotAllowed, match="runs on this event loop"):
        aparallel_map(adouble, [1], executor="process")
    with pytest.raises(NotAllowed, match="neither an iterable"):
        aparallel_map(double, 3)
    with pytest.raises(NotAllowed, match="lambda"):
        aparallel_map(lambda n: n, [1], executor="process")


class InATestCase(TestCase):
    """On the test's own connection."""

    async def test_calls_see_the_tests_data(self) -> None:
        """Functions, coroutine functions and processes: in order, in the thread that has the connection."""
        await User.objects.acreate(username="ann")

        def count(n):
            return User.objects.count() + n

        async def acount(n):
            return await User.objects.acount() + n

        assert await collect(count, range(3)) == [1, 2, 3]
        assert await collect(acount, stream(range(3))) == [1, 2, 3]
        assert await collect(abs, [-1], executor="process") == [1]
        with pytest.raises(NotAllowed, match="Pass its pk"):
            await collect(str, [await User.objects.afirst()], executor="process")
