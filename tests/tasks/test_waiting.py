"""Waiting for a job's end: how often it looks, when it gives up, where it refuses."""

import itertools
import threading

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction
from django.db.transaction import TransactionManagementError

from django_meanwhile.core.errors import ResultTimeout
from django_meanwhile.core.outcome import End
from django_meanwhile.core.states import JobState
from django_meanwhile.tasks.waiting import FIRST_PAUSE, LONGEST_PAUSE, pauses

from .lifecycle import FakeWorker
from .sample.tasks import add


class Clock:
    """A clock that moves when told."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        """Return the time."""
        return self.now


def slept(timeout, looks=1000):
    """Return the pauses that a patient caller makes until the error."""
    clock, made = Clock(), []
    generator = pauses(timeout, clock, "the job")

    def patiently():
        for pause in itertools.islice(generator, looks):
            made.append(pause)
            clock.now += pause

    with pytest.raises(
        ResultTimeout, match=r"the job did not end within .* s; it may still do so\..* serves it: manage"
    ):
        patiently()
    return made


def test_pauses_grow_and_end_at_the_deadline():
    """Pauses start short, grow to a second, and add up to the timeout exactly; a last look follows."""
    made = slept(10)
    assert made[0] == FIRST_PAUSE
    assert max(made) == LONGEST_PAUSE
    assert made[:-1] == sorted(made[:-1])
    assert sum(made) == pytest.approx(10)
    assert len(made) < 25


def test_a_timeout_of_zero_looks_once():
    """With timeout=0 nobody sleeps."""
    assert slept(0) == []
    assert slept(-1) == []


def test_without_a_timeout_it_never_ends():
    """Without a timeout the pauses go on for ever, a second each."""
    made = list(itertools.islice(pauses(None, Clock(), "the job"), 500))
    assert made[-1] == LONGEST_PAUSE
    assert min(made) == FIRST_PAUSE


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_end_is_seen(database, asynchronous):
    """``wait`` and ``aresult`` return once another connection has recorded the end."""
    result = add.using(backend=database).enqueue(1)
    worker = FakeWorker(database)
    job = worker.claim()
    started = threading.Event()

    def end():
        started.wait()
        try:
            worker.finish(job, End.SUCCEEDED, result="42")
        finally:
            connections[database].close()

    thread = threading.Thread(target=end)
    thread.start()
    started.set()
    if asynchronous:
        assert async_to_sync(result.aresult)(timeout=30) == 42
    else:
        assert result.wait(timeout=30) is result
    thread.join()
    assert (result.state, result.return_value) == (JobState.SUCCESSFUL, 42)


@pytest.mark.django_db(transaction=True)
def test_the_end_of_a_failure_is_an_end(database):
    """``wait`` returns for every ending; ``aresult`` raises as ``return_value`` does."""
    result = add.using(backend=database).enqueue(1)
    result.cancel()
    assert result.wait().state is JobState.CANCELLED
    with pytest.raises(ValueError, match="Task failed"):
        async_to_sync(result.aresult)()


@pytest.mark.django_db(transaction=True)
def test_time_runs_out(database):
    """A job that does not end in time is a ``ResultTimeout``, which is a ``TimeoutError``, and names the job."""
    result = add.using(backend=database).enqueue(1)
    with pytest.raises(
        TimeoutError, match=rf"job {result.id} of tests.tasks.sample.tasks.add did not end within 0.1 s"
    ):
        result.wait(timeout=0.1)
    with pytest.raises(ResultTimeout):
        async_to_sync(result.aresult)(timeout=0)


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_would_wait_for_ever(database):
    """Inside ``atomic()`` on the job's database, waiting is refused with the reason and the way out."""
    task = add.using(backend=database)
    with transaction.atomic(using=database):
        result = task.enqueue(1)
        with pytest.raises(TransactionManagementError, match=r"inside atomic\(\).*Wait after the block"):
            result.wait(timeout=1)
        with pytest.raises(TransactionManagementError):
            async_to_sync(result.aresult)(timeout=1)


def test_in_a_test_case_it_may_wait(database):
    """The blocks of ``TestCase`` do not count: there a test helper has run the job on this connection."""
    result = add.using(backend=database).enqueue(1)
    FakeWorker(database).run(End.SUCCEEDED, result="3")
    assert result.wait(timeout=5).return_value == 3


@pytest.mark.parametrize("asynchronous", [False, True])
def test_in_a_test_case_what_has_not_ended_never_will(database, asynchronous):
    """No worker runs there: waiting is refused at once, with the helpers that run the job."""
    result = add.using(backend=database).enqueue(1)
    wait = async_to_sync(result.await_end) if asynchronous else result.wait
    with pytest.raises(
        TransactionManagementError, match=rf"job {result.id} .*testing\.run_jobs\(\).*running_worker\(\)"
    ):
        wait(timeout=10)
    FakeWorker(database).run(End.SUCCEEDED, result="3")
    assert wait().return_value == 3


def test_what_has_ended_needs_no_time(database):
    """The first look comes before the first pause: ``timeout=0`` asks whether the job has ended."""
    result = add.using(backend=database).enqueue(1)
    FakeWorker(database).run(End.SUCCEEDED, result="3")
    assert result.wait(timeout=0).return_value == 3
    assert async_to_sync(result.aresult)(timeout=0) == 3
