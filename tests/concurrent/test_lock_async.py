"""A named lock among coroutines: the loop is never stopped, and whoever is cancelled holds nothing."""

import asyncio
import threading

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections, transaction

from django_meanwhile.concurrent import InsideTransaction, Lock, LockTimeout, WouldDeadlock
from django_meanwhile.concurrent.locks import errand as lock_errand
from django_meanwhile.concurrent.locks import hold as lock_hold
from django_meanwhile.concurrent.locks import line as lock_line
from django_meanwhile.concurrent.locks.keeper import keeper
from tests.playground import eventually

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 20


@pytest.fixture(autouse=True)
def _nothing_left():
    yield
    eventually(lambda: not lock_line._lines, what="nobody stands in a line")
    eventually(lambda: not keeper.is_alive, what="the keeper has ended")
    eventually(
        lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("meanwhile-Lock")],
        what="no thread of a coroutine is left",
    )


def run(main):
    """Run a coroutine to its end, and close the connections of the loop's sync code."""

    async def closing():
        try:
            await asyncio.wait_for(main, PATIENCE)
        finally:
            await sync_to_async(connections.close_all)()

    asyncio.run(closing())


async def soon(condition):
    """Wait for another thread's doing."""
    await asyncio.to_thread(eventually, condition)


def test_one_task_at_a_time(database):
    """Twenty tasks pass one by one, in the order in which they came, each with a larger fence."""
    inside, fences, order = [], [], []

    async def job(number):
        async with Lock("printer", using=database) as lock:
            inside.append(number)
            await asyncio.sleep(0)
            assert inside == [number]
            fences.append(lock.fence)
            order.append(number)
            inside.clear()

    async def main():
        await asyncio.gather(*(job(number) for number in range(20)))

    run(main())
    assert fences == sorted(set(fences))
    assert sorted(order) == list(range(20))


def test_the_loop_goes_on_while_one_waits(database):
    """Whether a thread of this process or another one has the lock: a coroutine that waits stops nobody."""
    taken, let_go = threading.Event(), threading.Event()

    def elsewhere():
        grip = lock_hold.make_grip(database, "printer")
        assert grip.take(None, "elsewhere")
        taken.set()
        assert let_go.wait(PATIENCE)
        grip.release(patient=True)
        grip.close()
        connections.close_all()

    thread = threading.Thread(target=elsewhere)

    async def main():
        await asyncio.to_thread(taken.wait)
        lock = Lock("printer", using=database)
        waiting = asyncio.create_task(lock.aacquire())
        await soon(lambda: lock_line.holder((database, "printer")) is not None)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
        let_go.set()
        assert await waiting is True
        assert lock.held
        await lock.arelease()

    thread.start()
    run(main())
    thread.join(PATIENCE)


def test_a_timeout_in_a_coroutine(database):
    """LockTimeout from the block, False from aacquire(), whoever holds it."""

    async def main():
        async with Lock("printer", using=database):

            async def other():
                with pytest.raises(LockTimeout, match=r"Lock\('printer'\) was not free within 0.05 s"):
                    async with Lock("printer", 0.05, using=database):
                        pytest.fail("there are two holders")
                assert await Lock("printer", using=database).aacquire(timeout=0) is False
                assert await Lock("printer", using=database).aacquire(False) is False
                assert (await Lock("printer", using=database).aholder()) is not None

            await asyncio.create_task(other())
        assert (await Lock("printer", using=database).aholder()) is None

    run(main())


def test_a_task_that_takes_it_twice_is_told(database):
    """The same task would wait for itself; another task of the same loop waits its turn."""

    async def main():
        lock = Lock("printer", using=database)
        async with lock:
            with pytest.raises(WouldDeadlock, match="task"):
                await Lock("printer", using=database).aacquire()
            other = asyncio.create_task(Lock("printer", using=database).aacquire(timeout=0))
            assert await other is False

    run(main())


def test_a_loop_inside_a_block_is_told(database):
    """The loop runs in the frames of the thread that holds the lock: it would wait for that for ever."""

    async def inner():
        with pytest.raises(WouldDeadlock, match="thread"):
            await Lock("printer", using=database).aacquire()
        return threading.get_ident()

    with Lock("printer", using=database):
        loop = asyncio.new_event_loop()
        try:
            assert loop.run_until_complete(inner()) == threading.get_ident()
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()


def test_cancelled_in_the_line(database):
    """A task that is cancelled while another task holds the lock leaves the line; the next one gets its turn."""

    async def main():
        got = []

        async def third():
            async with Lock("printer", using=database):
                got.append(3)

        async with Lock("printer", using=database):
            second = asyncio.create_task(Lock("printer", using=database).aacquire())
            await soon(lambda: len(lock_line._lines[database, "printer"].turns) == 2)
            last = asyncio.create_task(third())
            await soon(lambda: len(lock_line._lines[database, "printer"].turns) == 3)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
        await last
        assert got == [3]

    run(main())


def test_cancelled_while_the_database_lets_it_wait(database):
    """The wait in the database ends too, and soon: nothing stays open, nothing is held."""
    grip = lock_hold.make_grip(database, "printer")
    assert grip.take(None, "elsewhere")
    earlier = set(lock_hold._grips)  # of other tests, as long as the collector has not come by

    async def main():
        waiting = asyncio.create_task(Lock("printer", using=database).aacquire())
        await soon(lambda: set(lock_hold._grips) - earlier)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await soon(lambda: not lock_line._lines)

    try:
        run(main())
        assert grip.loss() is None
    finally:
        grip.release(patient=True)
        grip.close()
    with Lock("printer", 0, using=database):
        pass


def test_cancelled_just_as_it_comes(database, monkeypatch):
    """A lock that is on its way to a task that is cancelled in that moment is given back."""
    taken, let_go = threading.Event(), threading.Event()
    real = lock_hold.Bid.run

    def run_and_wait(self, seconds, *, ask):
        result = real(self, seconds, ask=ask)
        taken.set()
        assert let_go.wait(PATIENCE)
        return result

    async def main():
        monkeypatch.setattr(lock_hold.Bid, "run", run_and_wait)
        waiting = asyncio.create_task(Lock("printer", using=database).aacquire())
        await asyncio.to_thread(taken.wait)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        let_go.set()
        monkeypatch.undo()
        async with Lock("printer", PATIENCE, using=database) as lock:
            assert lock.held

    run(main())


def test_cancelled_when_the_database_has_just_given_it(database, monkeypatch):
    """The wait in the database is over, nobody has been told, and the task is cancelled: it is given back at once."""
    taken, let_go = threading.Event(), threading.Event()
    grips = []
    grip_class = type(lock_hold.make_grip(database, "printer"))
    real = grip_class.take

    def take_and_wait(self, seconds, thread):
        result = real(self, seconds, thread)
        grips.append(self)
        taken.set()
        assert let_go.wait(PATIENCE)
        return result

    async def main():
        monkeypatch.setattr(grip_class, "take", take_and_wait)
        waiting = asyncio.create_task(Lock("printer", using=database).aacquire())
        await asyncio.to_thread(taken.wait)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await soon(grips[0].interrupted.is_set)
        let_go.set()
        monkeypatch.undo()
        async with Lock("printer", PATIENCE, using=database) as lock:
            assert lock.held

    run(main())


def test_cancelled_when_it_has_come(database, monkeypatch):
    """The result is there, the task not yet awake, and it is cancelled: given back as well."""
    real = lock_errand._tell

    async def main():
        task = None

        def tell_and_cancel(future, error):
            real(future, error)
            task.cancel()

        monkeypatch.setattr(lock_errand, "_tell", tell_and_cancel)
        task = asyncio.create_task(Lock("printer", using=database).aacquire())
        with pytest.raises(asyncio.CancelledError):
            await task
        monkeypatch.undo()
        async with Lock("printer", PATIENCE, using=database) as lock:
            assert lock.held

    run(main())


def test_a_loop_that_is_gone(database, monkeypatch):
    """Its coroutine will never hear of the lock, which is given back, and passed on if it waited in the line."""
    taken, let_go = threading.Event(), threading.Event()
    real = lock_hold.Bid.run

    def run_and_wait(self, seconds, *, ask):
        result = real(self, seconds, ask=ask)
        taken.set()
        assert let_go.wait(PATIENCE)
        return result

    monkeypatch.setattr(lock_hold.Bid, "run", run_and_wait)
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(Lock("printer", using=database).aacquire()) for _ in range(2)]
    loop.run_until_complete(asyncio.to_thread(taken.wait))
    eventually(lambda: len(lock_line._lines[database, "printer"].turns) == 2)
    loop.run_until_complete(sync_to_async(connections.close_all)())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    monkeypatch.undo()
    let_go.set()
    with Lock("printer", PATIENCE, using=database):
        pass
    for task in tasks:
        task._log_destroy_pending = False
        task.get_coro().close()


def test_cancelled_while_it_is_given_back(database, monkeypatch):
    """The lock is free all the same."""
    begun, let_go = threading.Event(), threading.Event()
    real = lock_hold.Hold.end

    def end_late(self, *, patient=True):
        begun.set()
        assert let_go.wait(PATIENCE)
        return real(self, patient=patient)

    async def main():
        lock = Lock("printer", using=database)
        await lock.aacquire()
        monkeypatch.setattr(lock_hold.Hold, "end", end_late)
        giving = asyncio.create_task(lock.arelease())
        await asyncio.to_thread(begun.wait)
        giving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await giving
        let_go.set()
        monkeypatch.undo()
        async with Lock("printer", PATIENCE, using=database):
            pass

    run(main())


def test_a_transaction_of_sync_code_around_is_refused(database):
    """A coroutine that sync code runs inside its atomic() is inside, too."""

    async def inner():
        await Lock("printer", using=database).aacquire()

    with transaction.atomic(using=database), pytest.raises(InsideTransaction, match="printer"):
        async_to_sync(inner)()


def test_threads_and_tasks_stand_in_one_line(database):
    """A thread holds it, a task waits, and the other way round."""

    async def main():
        lock = Lock("printer", using=database)
        async with lock:
            answer = await asyncio.to_thread(_try, database)
            assert answer is False
        assert await asyncio.to_thread(_try, database) is True

    run(main())


def _try(database):
    lock = Lock("printer", using=database)
    try:
        if not lock.acquire(timeout=0.05):
            return False
        lock.release()
        return True
    finally:
        connections.close_all()


def test_an_error_of_the_database_reaches_the_coroutine(database, monkeypatch):
    """And the next one in the line is not stuck."""

    def fail(*_args):
        raise ZeroDivisionError

    async def main():
        with monkeypatch.context() as patched:
            patched.setattr(lock_hold, "make_grip", fail)
            with pytest.raises(ZeroDivisionError):
                await Lock("printer", using=database).aacquire()
        async with Lock("printer", 0, using=database):
            pass

    run(main())


def test_held_by_a_task_released_by_a_thread(database):
    """A lock that was taken in a coroutine may be given back by sync code in a thread."""

    async def main():
        lock = Lock("printer", using=database)
        assert await lock.aacquire()
        await sync_to_async(lock.release)()
        assert not lock.held
        async with Lock("printer", 0, using=database):
            pass

    run(main())


@pytest.mark.parametrize("is_over", [False, True])
def test_closed_on_a_loop_that_goes_on(is_over):
    """A coroutine that is closed, as where its task is thrown away, leaves nothing held: what came for it is undone."""
    go, undone = threading.Event(), threading.Event()

    def function():
        assert go.wait(PATIENCE)
        return 1

    async def main():
        errand = lock_errand.Errand(function, undo=lambda _: undone.set())
        coroutine = errand.run("closed")
        coroutine.send(None)
        if is_over:
            go.set()
            eventually(lambda: errand._is_over)
        coroutine.close()
        go.set()
        assert await asyncio.to_thread(undone.wait, PATIENCE)

    run(main())
