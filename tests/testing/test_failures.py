"""Failure injection: what a project's test sees is what production would have done."""

import pytest

from django_meanwhile import JobState, LeaseLost, TaskTimeout
from django_meanwhile.compat import task_finished, task_started
from django_meanwhile.core.outcome import MAX_CRASHES
from django_meanwhile.core.states import AttemptKind
from django_meanwhile.models import Job
from django_meanwhile.testing import (
    JobFailed,
    UnusableForTests,
    crash_task,
    fail_task,
    interrupt_task,
    lose_lease,
    time_out_task,
)
from tests.testing import sample

pytestmark = pytest.mark.django_db


@pytest.fixture
def endings():
    """The states that ``task_finished`` told."""
    told = []

    def receive(task_result, **_):
        told.append(task_result.state)

    task_finished.connect(receive)
    yield told
    task_finished.disconnect(receive)


@pytest.fixture
def counted(bodies):
    """Count the runs of the body "x"."""
    runs = []
    bodies["x"] = lambda *_: runs.append(1) or "done"
    return runs


@pytest.mark.parametrize("task", [sample.retried, sample.retried_async], ids=["def", "async"])
def test_a_failure_is_retried_by_the_tasks_policy(on, run, task):
    """The exception is an attempt like any other: counted, stored with its traceback, retried by the policy."""
    on(task).enqueue()
    with fail_task(task, ConnectionError("down"), times=2) as injected:
        [result] = run()
        assert result.state is JobState.SCHEDULED
        [result] = run(travel=True)
    assert injected.strikes == 2
    assert (result.state, result.attempts) == (JobState.SUCCESSFUL, 3)
    assert [error.exception_class for error in result.errors] == [ConnectionError, ConnectionError]
    assert "down" in result.errors[0].traceback


def test_a_chosen_run_fails(on, run):
    """``run=2`` strikes the second run of each job, and no other."""
    jobs = [on(sample.retried).enqueue() for _ in range(2)]
    with fail_task(sample.retried, KeyError, run=1), fail_task(sample.retried, ValueError, run=2) as second:
        results = run(travel=True)
    assert second.strikes == 2
    assert {result.id for result in results} == {job.id for job in jobs}
    for result in results:
        assert [error.exception_class for error in result.errors] == [KeyError, ValueError]


def test_other_tasks_are_left_alone(on, run):
    """Only the named task is struck; after the block nothing is."""
    on(sample.add).enqueue(1)
    on(sample.retried).enqueue()
    with fail_task("tests.testing.sample.retried", times=3), pytest.raises(JobFailed, match=r"sample\.retried"):
        run(travel=True)
    on(sample.retried).enqueue()
    assert [result.state for result in run()] == [JobState.SUCCESSFUL]


def test_a_body_may_have_had_its_effects(counted, on, run):
    """With ``after_body`` the body has run when the failure strikes: that is how idempotence is tested."""
    on(sample.retried).enqueue("x")
    with fail_task(sample.retried, after_body=True):
        [result] = run(travel=True)
    assert (len(counted), result.attempts, result.state) == (2, 2, JobState.SUCCESSFUL)


def test_a_block_that_struck_nothing_fails():
    """A test that injects nothing proves nothing; the block says so, unless another error is on its way."""
    with (
        pytest.raises(AssertionError, match=r"fail_task\(tests.*add, run=1, times=1\): no run was struck"),
        fail_task(sample.add),
    ):
        pass
    with pytest.raises(ZeroDivisionError), fail_task(sample.add):
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="run=0"), fail_task(sample.add, run=0):
        pass


# --- crashes ----------------------------------------------------------------------------------


def test_a_crash_costs_no_attempt_and_runs_again(endings, on, run):
    """The job runs again, uncharged, with the death on record."""
    on(sample.add).enqueue(1)
    started = []

    def receive(task_result, **_):
        started.append(task_result.id)

    task_started.connect(receive)
    with crash_task(sample.add):
        [result] = run()
    task_started.disconnect(receive)
    assert (result.state, result.attempts, len(started)) == (JobState.SUCCESSFUL, 1, 2)
    [death] = result.attempt_log
    assert death.kind is AttemptKind.CRASH
    assert "SIGKILL" in death.traceback
    assert endings == [JobState.SUCCESSFUL]


def test_crashes_in_a_row_quarantine(endings, on, run):
    """The third death alone is the last: QUARANTINED, which fails the test like any bad end."""
    on(sample.add).enqueue(1)
    with crash_task(sample.add, times=9) as injected, pytest.raises(JobFailed, match="QUARANTINED") as caught:
        run()
    assert injected.strikes == MAX_CRASHES
    assert caught.value.__cause__ is None
    assert endings == [JobState.QUARANTINED]


def test_deaths_in_company_make_a_suspect_that_runs_alone(database, on, run):
    """After two shared deaths a job is a suspect; run_jobs runs suspects as well."""
    on(sample.add).enqueue(1)
    with crash_task(sample.add, times=2, alone=False):
        [result] = run()
    assert result.state is JobState.SUCCESSFUL
    job = Job.objects.using(database).get()
    assert (job.deaths, job.crashes, job.interruptions) == (2, 0, 2)


@pytest.mark.parametrize("inject", [crash_task, interrupt_task], ids=["crash", "interrupt"])
def test_on_crash_fail_is_honoured(counted, on, run, inject):
    """A card is not charged twice: with ``on_crash="fail"`` the run that was taken away ends the job."""
    on(sample.charge).enqueue("x")
    with inject(sample.charge, after_body=True):
        [result] = run(raise_failures=False)
    assert (result.state, len(counted)) == (JobState.FAILED, 1)


def test_a_crash_strikes_coroutines_too(on, run):
    """An async body's process dies like any other."""
    on(sample.add_async).enqueue(1)
    with crash_task(sample.add_async, after_body=True):
        [result] = run()
    assert [death.kind for death in result.attempt_log] == [AttemptKind.CRASH]


# --- interruptions, timeouts, leases ----------------------------------------------------------


def test_an_interruption_is_charged_nothing(database, counted, on, run):
    """A deploy takes the run away; the job runs again and still has all its attempts."""
    on(sample.retried).enqueue("x")
    with interrupt_task(sample.retried, times=5):
        [result] = run()
    assert (result.state, result.attempts, result.errors, len(counted)) == (JobState.SUCCESSFUL, 1, [], 1)
    assert Job.objects.using(database).get().interruptions == 5


def test_a_timeout_is_a_failed_attempt(on, run):
    """TaskTimeout, retried by the task's policy, without waiting for it."""
    on(sample.in_time).enqueue()
    with time_out_task(sample.in_time):
        [result] = run(travel=True)
    assert (result.state, result.attempts) == (JobState.SUCCESSFUL, 2)
    assert result.errors[0].exception_class is TaskTimeout
    assert "longer than its timeout of 5 s" in result.errors[0].traceback


def test_a_task_without_timeout_cannot_time_out(database, on, run):
    """It is refused with the line to write, and the job is given back."""
    on(sample.add).enqueue(1)
    with pytest.raises(UnusableForTests, match=r"sample\.add has no timeout"), time_out_task(sample.add):
        run()
    job = Job.objects.using(database).get()
    assert (job.state, job.attempts) == (JobState.READY, 0)


@pytest.mark.parametrize("after_body", [True, False])
def test_who_lost_the_lease_records_nothing(counted, endings, on, run, after_body):
    """The outcome of a cut-off worker is refused; the job is rescued and run by another worker, once on record."""
    on(sample.do).enqueue("x")
    with lose_lease(sample.do, after_body=after_body):
        [result] = run()
    assert (result.state, result.attempts, len(counted)) == (JobState.SUCCESSFUL, 1, 1 + after_body)
    [lost] = result.attempt_log
    assert lost.kind is AttemptKind.INTERRUPTED
    assert lost.worker_id not in result.worker_ids
    assert endings == [JobState.SUCCESSFUL]


def test_a_lost_lease_ends_a_job_that_must_not_run_twice(endings, on, run):
    """With ``on_crash="fail"`` the sweep ends the job, and its end is told."""
    on(sample.charge).enqueue()
    with lose_lease(sample.charge):
        [result] = run(raise_failures=False)
    assert result.state is JobState.FAILED
    assert endings == [JobState.FAILED]


def test_losing_a_lease_is_heard_by_the_body(bodies, on, run):
    """With ``after_body=False`` the body's next look at its context raises LeaseLost; it is no failure of its own."""
    on(sample.add).enqueue(1)
    with lose_lease(sample.add, after_body=False):
        [result] = run()
    assert result.errors == []
    assert LeaseLost.__name__ not in [error.exception_class_path for error in result.attempt_log]
