"""What a result says of every state, and that it is Django's ``TaskResult`` all the while."""

import pickle
from dataclasses import fields

import pytest
from django.utils import timezone

from django_meanwhile.compat import TaskResult as DjangoTaskResult
from django_meanwhile.compat import TaskResultDoesNotExist, TaskResultMismatch, TaskResultStatus
from django_meanwhile.core.codec import encode_result
from django_meanwhile.core.errors import Cancelled, Crashed, Interrupted, Quarantined, UnknownTask
from django_meanwhile.core.outcome import End, Outcome
from django_meanwhile.core.states import AttemptKind, Executor, JobState
from django_meanwhile.models import Job
from django_meanwhile.tasks.attempts import TaskError
from django_meanwhile.tasks.progress import Progress
from django_meanwhile.tasks.result import TaskResult, from_claim

from .lifecycle import FakeWorker
from .sample.tasks import add, anything, fails, fetch, report

VALUE_ERROR = {"exception": "builtins.ValueError", "detail": "Traceback ...\nValueError: as it should"}


@pytest.fixture
def task(database):
    """A task on the database under test."""
    return add.using(backend=database)


@pytest.fixture
def worker(database):
    """A worker of that database."""
    return FakeWorker(database)


def test_the_dialect():
    """Our result is Django's, with more fields and none of its attributes missing."""
    assert issubclass(TaskResult, DjangoTaskResult)
    assert {f.name for f in fields(DjangoTaskResult)} < {f.name for f in fields(TaskResult)}


# --- every state ----------------------------------------------------------------------------


def test_a_waiting_job(task):
    """READY: nothing has happened yet, and ``return_value`` says so."""
    result = task.get_result(task.enqueue(1).id)
    assert (result.status, result.state, result.is_finished) == (TaskResultStatus.READY, JobState.READY, False)
    with pytest.raises(ValueError, match=r"Task has not finished yet: job .* of tests.tasks.sample.tasks.add is READY"):
        _ = result.return_value


def test_a_running_job(task, worker):
    """RUNNING: its worker is the one of the current attempt."""
    result = task.enqueue(1)
    worker.claim()
    result.refresh()
    assert (result.status, result.state) == (TaskResultStatus.RUNNING, JobState.RUNNING)
    assert result.worker_ids == [str(worker.id)]
    assert result.attempts == 1
    assert result.started_at is not None
    assert result.started_at == result.last_attempted_at
    assert result.finished_at is None
    with pytest.raises(ValueError, match=r"Task has not finished yet: .* is RUNNING"):
        _ = result.return_value


def test_a_successful_job(task, worker):
    """SUCCESSFUL: the value comes back with its type, and the last worker counts."""
    result = task.enqueue(1)
    day = timezone.now()
    worker.run(End.SUCCEEDED, result=encode_result({"at": day}, task="t"))
    result.refresh()
    assert (result.status, result.state, result.is_finished) == (
        TaskResultStatus.SUCCESSFUL,
        JobState.SUCCESSFUL,
        True,
    )
    assert result.return_value == {"at": day}
    assert (result.worker_ids, result.attempts, result.errors) == ([str(worker.id)], 1, [])
    assert result.finished_at >= result.started_at >= result.enqueued_at


def test_a_job_that_returned_none(task, worker):
    """None is a value like others."""
    result = task.enqueue(1)
    worker.run(End.SUCCEEDED, result=encode_result(None, task="t"))
    result.refresh()
    assert result.return_value is None


def test_a_failed_job(task, worker):
    """FAILED: the error has Django's path and traceback, and tells which run it was."""
    result = task.enqueue(1)
    worker.run(End.FAILED, **VALUE_ERROR)
    result.refresh()
    assert (result.status, result.state) == (TaskResultStatus.FAILED, JobState.FAILED)
    [error] = result.errors
    assert error.exception_class is ValueError
    assert error.traceback.endswith("ValueError: as it should")
    assert (error.kind, error.epoch, error.worker_id) == (AttemptKind.FAILED, 1, str(worker.id))
    assert error.started_at <= error.ended_at
    assert (result.attempts, result.worker_ids) == (1, [str(worker.id)])
    said = r"Task failed: job .* is FAILED: builtins.ValueError \(ValueError: as it should\)\."
    with pytest.raises(ValueError, match=rf"{said} .*: manage.py meanwhile show {result.id}$"):
        _ = result.return_value


def test_a_job_between_two_attempts(task, worker):
    """A failed attempt that is followed by another shows its error while the job waits."""
    result = task.enqueue(1)
    worker.run(End.FAILED, retry_in=3600.0, **VALUE_ERROR)
    result.refresh()
    assert (result.status, result.state, result.attempts) == (TaskResultStatus.READY, JobState.SCHEDULED, 1)
    assert len(result.errors) == 1


def test_attempts_are_the_number_of_workers(task, database):
    """Django's ``attempts == len(worker_ids)`` holds over failures of several workers, and the success counts."""
    result = task.enqueue(1)
    workers = [FakeWorker(database) for _ in range(4)]
    for worker in workers[:3]:
        worker.run(End.FAILED, retry_in=0.0, **VALUE_ERROR)
    result.refresh()
    assert result.worker_ids == [str(w.id) for w in workers[:3]]
    workers[3].run(End.SUCCEEDED, result="4")
    result.refresh()
    assert result.worker_ids == [str(w.id) for w in workers]
    assert result.attempts == 4 == Job.objects.using(database).get(pk=result.id).attempts
    assert [error.epoch for error in result.errors] == [1, 2, 3]


def test_interruptions_and_crashes_are_no_attempts(task, worker, database):
    """A deploy or a death is charged to no attempt; a crash is an error, an interruption only in the log."""
    result = task.enqueue(1)
    worker.run(End.INTERRUPTED)
    worker.run(End.CRASHED, detail="exit code -9")
    worker.run(End.FAILED, retry_in=0.0, **VALUE_ERROR)
    worker.run(End.SUCCEEDED, result="1")
    result.refresh()
    job = Job.objects.using(database).get(pk=result.id)
    assert (job.attempts, job.crashes, job.interruptions) == (2, 1, 1)
    assert result.attempts == 2
    assert [a.kind for a in result.attempt_log] == ["interrupted", "crash", "failed"]
    assert [e.exception_class for e in result.errors] == [Crashed, ValueError]
    assert result.errors[0].traceback == "exit code -9"


def test_a_job_that_must_not_be_repeated(database):
    """With on_crash="fail", the run that was taken away is the error, so a FAILED result is never silent."""
    result = report.using(backend=database).enqueue({})
    worker = FakeWorker(database)
    job = worker.claim(Executor.PROCESS)
    worker.finish(job, End.INTERRUPTED, detail="the host was shut down")
    result.refresh()
    assert (result.state, result.status) == (JobState.FAILED, TaskResultStatus.FAILED)
    assert [e.exception_class for e in result.errors] == [Interrupted]


def test_a_job_cancelled_while_it_waited(task):
    """CANCELLED is FAILED to Django, with an error that names it though no run does."""
    result = task.enqueue(1)
    result.cancel()
    result.refresh()
    assert (result.status, result.state, result.attempts) == (TaskResultStatus.FAILED, JobState.CANCELLED, 0)
    assert [e.exception_class for e in result.errors] == [Cancelled]
    with pytest.raises(ValueError, match=r"is CANCELLED: django_meanwhile.core.errors.Cancelled"):
        _ = result.return_value


def test_a_job_cancelled_while_it_ran(task, worker):
    """A run that was stopped by a cancel names it once."""
    result = task.enqueue(1)
    worker.run(End.CANCELLED, detail="Traceback ... Cancelled")
    result.refresh()
    assert [(e.exception_class, e.traceback) for e in result.errors] == [(Cancelled, "Traceback ... Cancelled")]
    assert result.attempts == 1


def test_a_job_cancelled_while_its_worker_died(task, worker):
    """A cancel that is honoured by the release of a run is named as well."""
    result = task.enqueue(1)
    job = worker.claim()
    result.cancel()
    worker.finish(job, End.INTERRUPTED)
    result.refresh()
    assert result.state is JobState.CANCELLED
    assert result.errors[-1].exception_class is Cancelled


def test_a_quarantined_job(task, worker):
    """QUARANTINED is FAILED to Django; every crash is an error, and the last one names the ending."""
    result = task.enqueue(1)
    for _ in range(3):
        worker.run(End.CRASHED, detail="exit code -9")
    result.refresh()
    assert (result.status, result.state) == (TaskResultStatus.FAILED, JobState.QUARANTINED)
    assert [e.exception_class for e in result.errors] == [Crashed, Crashed, Crashed, Quarantined]
    assert "result.retry()" in result.errors[-1].traceback


def test_a_retried_job_counts_anew(task, worker):
    """After an operator's retry the attempts count from one; what was seen before stays readable."""
    result = task.enqueue(1)
    worker.run(End.FAILED, **VALUE_ERROR)
    result.retry()
    result.refresh()
    assert (result.state, result.attempts, len(result.errors)) == (JobState.READY, 0, 1)
    worker.run(End.FAILED, exception="builtins.KeyError", detail="again")
    result.refresh()
    assert (result.attempts, result.worker_ids) == (1, [str(worker.id)])
    assert [e.exception_class for e in result.errors] == [ValueError, KeyError]


# --- progress -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "progress", "percent"),
    [
        (None, None, None),
        ("", None, None),
        ('{"n": 3, "total": 4, "message": "m"}', Progress(current=3, total=4, message="m"), 75.0),
        ('{"n": 3, "total": null, "message": ""}', Progress(current=3), None),
        ('{"n": 0.5, "total": 0}', Progress(current=0.5, total=0), None),
        ('{"n": 9, "total": 4}', Progress(current=9, total=4), 100.0),
        ('{"n": -1, "total": 4}', Progress(current=-1, total=4), 0.0),
    ],
)
def test_progress(text, progress, percent):
    """A row's progress is read as a value; percent is between 0 and 100, or unknown."""
    assert Progress.read(text) == progress
    if progress is not None:
        assert progress.percent == percent


def test_progress_of_a_result(task, worker):
    """The last progress stays with the result."""
    result = task.enqueue(1)
    worker.run(End.SUCCEEDED, result="1", progress='{"n": 5, "total": 10, "message": "half"}')
    result.refresh()
    assert (result.progress.current, result.progress.percent, result.progress.message) == (5, 50.0, "half")


# --- the worker's results -------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(end=End.SUCCEEDED, result='{"$decimal":"1.5"}', progress='{"n": 1, "total": 2}'),
        Outcome(end=End.FAILED, **VALUE_ERROR),
        Outcome(end=End.CANCELLED, exception="django_meanwhile.core.errors.Cancelled", detail="stopped"),
        Outcome(end=End.FAILED, retry_in=5.0, **VALUE_ERROR),
        Outcome(end=End.INTERRUPTED, exception="django_meanwhile.core.errors.Interrupted", detail="deploy"),
    ],
    ids=lambda outcome: outcome.end.name,
)
def test_what_a_worker_says_is_what_is_stored(task, worker, outcome):
    """The result that ``task_finished`` carries, made without a query, equals the one that is read later."""
    enqueued = task.enqueue(1, y=2)
    job = worker.claim()
    running = from_claim(job, task.with_overrides({}), args=[1], kwargs={"y": 2})
    enqueued.refresh()
    assert running == enqueued
    state = worker.finish(job, outcome.end, **{f.name: getattr(outcome, f.name) for f in fields(outcome)[1:]})
    said, stored = running.with_outcome(outcome, state), task.get_result(enqueued.id)
    exact = {f.name for f in fields(TaskResult)} - {"finished_at", "errors", "attempt_log", "task"}
    for name in exact:
        assert getattr(said, name) == getattr(stored, name), name
    for ours, theirs in zip(said.attempt_log, stored.attempt_log, strict=True):
        assert [getattr(ours, f.name) for f in fields(TaskError) if f.name != "ended_at"] == [
            getattr(theirs, f.name) for f in fields(TaskError) if f.name != "ended_at"
        ]
    assert [e.exception_class for e in said.errors] == [e.exception_class for e in stored.errors]
    assert (said.finished_at is None) == (stored.finished_at is None)


def test_a_claims_attempts_are_right_without_a_query(task, database, django_assert_num_queries):
    """A later attempt knows its number though earlier workers are not read."""
    task.enqueue(1)
    worker = FakeWorker(database)
    for _ in range(2):
        worker.run(End.FAILED, retry_in=0.0, **VALUE_ERROR)
    job = worker.claim()
    result = from_claim(job, add, args=[1], kwargs={})
    assert result.attempts == 3
    assert result.worker_ids == ["", "", str(worker.id)]
    assert result.backend == result.task.backend == database


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["", "nonsense", "0" * 32, "00000000-0000-7000-8000-000000000000", 5, None])
@pytest.mark.django_db
def test_an_id_that_is_no_jobs(wrong):
    """An unknown or a malformed id does not exist, in Django's words."""
    with pytest.raises(TaskResultDoesNotExist):
        add.get_result(wrong)


def test_a_result_of_another_task(task):
    """An id of another task is a mismatch, in Django's words."""
    other = fails.using(backend=task.backend).enqueue()
    with pytest.raises(TaskResultMismatch):
        task.get_result(other.id)


def test_a_result_whose_task_is_gone(task, database):
    """A job whose task no code registers any more cannot be made a result; the error says what to write."""
    result = task.enqueue(1)
    Job.objects.using(database).update(task="tests.project.gone")
    with pytest.raises(UnknownTask, match=r"@task\(aliases=\('tests.project.gone',\)\)"):
        result.refresh()


def test_a_result_whose_overrides_the_code_cannot_honour(database):
    """A job can be read, though today's code could not run it as it was asked for."""
    result = fetch.using(backend=database).enqueue("u")
    Job.objects.using(database).update(overrides='{"executor": "thread", "priority": 3}')
    result.refresh()
    assert result.state is JobState.READY


def test_refresh_is_in_place(task, worker):
    """``refresh()`` changes the result it is called on, as in Django; its id and arguments stay."""
    result = task.enqueue(1)
    before = result
    worker.run(End.SUCCEEDED, result="2")
    result.refresh()
    assert result is before
    assert (result.status, result.args, result.return_value) == (TaskResultStatus.SUCCESSFUL, [1], 2)
    assert result == task.get_result(result.id)


def test_the_results_task_carries_the_overrides(database):
    """The task of a result that is read is today's code with this job's overrides."""
    task = add.using(backend=database, priority=4, timeout=2)
    result = task.enqueue(1)
    assert task.get_result(result.id).task == task


def test_results_can_be_pickled(task, worker):
    """A result survives pickling."""
    result = task.enqueue(1)
    worker.run(End.FAILED, **VALUE_ERROR)
    result.refresh()
    assert pickle.loads(pickle.dumps(result)) == result


def test_few_queries(task, worker, database, django_assert_num_queries):
    """A job that ran well, or not yet, is one query; one with failed runs is two."""
    result = task.enqueue(1)
    with django_assert_num_queries(1, using=database):
        result.refresh()
    worker.run(End.SUCCEEDED, result="1")
    with django_assert_num_queries(1, using=database):
        result.refresh()
    other = anything.using(backend=database).enqueue()
    worker.run(End.FAILED, **VALUE_ERROR)
    with django_assert_num_queries(2, using=database):
        other.refresh()
