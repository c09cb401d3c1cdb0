"""The event loop: coroutines are stopped by asyncio's own means, and none of them can end the loop for the others."""

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async
from django.utils import translation

from django_meanwhile.core.errors import Cancelled, Interrupted, LeaseLost, TaskTimeout
from django_meanwhile.core.outcome import End
from django_meanwhile.core.states import Executor as Kind
from tests.executors.conftest import WITHIN


@pytest.fixture
def served(make):
    """A loop with two slots."""
    return make(Kind.ASYNCIO, 2)


class Asleep:
    """A coroutine that waits for ever, and says when it has begun."""

    def __init__(self, *, swallows=0):
        self.entered = threading.Event()
        self.swallowed = threading.Semaphore(0)
        self.let_go = threading.Event()
        self._swallows = swallows

    async def __call__(self):
        self.entered.set()
        while True:
            try:
                await asyncio.sleep(0.001 if self._swallows else WITHIN)
            except asyncio.CancelledError:
                if self._swallows <= 0:
                    raise
                self._swallows -= 1
                self.swallowed.release()
                if not self._swallows:
                    self._swallows = -1
            if self.let_go.is_set():
                return "in the end"

    def wait_entered(self):
        assert self.entered.wait(WITHIN)


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        (Cancelled, End.CANCELLED),
        (Interrupted, End.INTERRUPTED),
        (LeaseLost, End.INTERRUPTED),
        (TaskTimeout, End.FAILED),
    ],
)
def test_a_stopped_coroutine_is_cancelled_at_once(served, reason, end):
    """A coroutine that waits is woken by its cancellation, and its outcome names the reason."""
    asleep = Asleep()
    job = served.submit(asleep, overrides={"timeout": 5})
    asleep.wait_entered()
    assert served.executor.handles()[0].stop(reason)
    assert served.ledger.outcome_of(job).end is end


def test_a_job_whose_cancel_came_before_its_first_step_never_runs(served):
    """The body is not entered, and the job ends as CANCELLED all the same."""
    job = served.submit(lambda: pytest.fail("the body was called"), cancel_requested=True)
    assert served.ledger.outcome_of(job).end is End.CANCELLED


def test_a_coroutine_that_swallows_its_cancellation_goes_on_and_reports(served):
    """It cannot be made to stop. Written off, its slot is replaced; when it returns, its outcome is handed over."""
    asleep = Asleep(swallows=1)
    job = served.submit(asleep)
    asleep.wait_entered()
    (handle,) = served.executor.handles()
    handle.stop(Cancelled)
    assert asleep.swallowed.acquire(timeout=WITHIN)
    assert served.executor.write_off(handle)
    assert served.run(lambda: 1).end is End.SUCCEEDED
    asleep.let_go.set()
    assert served.ledger.outcome_of(job).result == '"in the end"'


def test_a_coroutine_that_cancels_itself_still_ends(served):
    """Its task is cancelled whatever it returned; the job fails instead of hanging for ever."""

    async def body():
        asyncio.current_task().cancel()
        return 5

    outcome = served.run(body)
    assert (outcome.end, outcome.exception) == (End.FAILED, "asyncio.exceptions.CancelledError")
    assert served.run(lambda: 1).end is End.SUCCEEDED


def test_a_coroutine_that_cancels_every_task_still_ends(served):
    """Its own slot among them; neighbours that are cancelled without a reason fail."""
    asleep = Asleep()
    neighbour = served.submit(asleep)
    asleep.wait_entered()

    async def body():
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(0)

    assert served.run(body).end is End.FAILED
    assert served.ledger.outcome_of(neighbour).end is End.FAILED
    assert served.run(lambda: 1).end is End.SUCCEEDED


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_in_a_task_of_the_bodys_own_ends_nobody_else(served, error):
    """Asyncio lets such errors through to the loop's thread: it goes on, and so do the other bodies."""
    asleep = Asleep()
    neighbour = served.submit(asleep)
    asleep.wait_entered()

    async def leave():
        raise error

    async def body():
        await asyncio.create_task(leave())

    outcome = served.run(body)
    assert (outcome.end, outcome.exception) == (End.FAILED, f"builtins.{type(error).__name__}")
    assert served.run(lambda: 1).end is End.SUCCEEDED
    served.executor.handles()[0].stop(Cancelled)
    assert served.ledger.outcome_of(neighbour).end is End.CANCELLED


def test_a_body_cannot_stop_the_loop(served):
    """``loop.stop()`` in a body does not end the worker's loop."""

    async def body():
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return 5

    assert served.run(body).result == "5"
    assert served.run(lambda: 1).end is End.SUCCEEDED


def test_tasks_that_a_body_left_behind_end_with_the_loop(served):
    """They are cancelled, not destroyed: their ``finally`` runs before the thread ends."""
    cleaned = threading.Event()

    async def linger():
        try:
            await asyncio.sleep(WITHIN)
        finally:
            cleaned.set()

    lingering = []

    async def body():
        lingering.append(asyncio.create_task(linger()))
        await asyncio.sleep(0)

    assert served.run(body).end is End.SUCCEEDED
    served.end()
    assert cleaned.is_set()


def test_coroutines_side_by_side_have_languages_of_their_own(served):
    """Two bodies that interleave on one thread each see what their own enqueuer had active."""
    met = asyncio.Event()
    seen = {}

    async def first():
        seen["before"] = translation.get_language()
        await met.wait()
        seen["after"] = translation.get_language()

    async def second():
        translation.activate("fr")
        met.set()
        seen["second"] = translation.get_language()

    jobs = [served.submit(first, context={"language": "de"}), served.submit(second, context={"language": "ja"})]
    for job in jobs:
        assert served.ledger.outcome_of(job).end is End.SUCCEEDED
    assert seen == {"before": "de", "after": "de", "second": "fr"}


def test_bodies_share_one_thread_for_synchronous_work(served):
    """``sync_to_async`` of all bodies runs in one thread: the ORM's connections are one set, as documented."""

    async def body():
        return await sync_to_async(threading.get_ident)()

    assert served.run(body).result == served.run(body).result


def test_a_stop_that_comes_after_the_end_does_no_harm(served):
    """The interrupter of a finished coroutine is gone: a late stop reaches nobody."""
    handles = []
    begun = served.ledger.begun
    served.ledger.begun = lambda handle: (handles.append(handle), begun(handle))
    assert served.run(lambda: 1).end is End.SUCCEEDED
    assert not handles[0].stop(Cancelled)
    assert served.run(lambda: 2).end is End.SUCCEEDED
