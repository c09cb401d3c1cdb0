"""A timeout that the supervisor enforced: retried as the task says, and an end where nobody can say."""

from uuid import uuid4

import pytest
from django.db import OperationalError
from django.utils import timezone

from django_meanwhile.core.codec import encode_arguments
from django_meanwhile.core.errors import TaskTimeout
from django_meanwhile.core.identifiers import uuid7
from django_meanwhile.core.job import Run
from django_meanwhile.core.outcome import End, Outcome
from django_meanwhile.core.states import JobState
from django_meanwhile.core.text import class_path
from django_meanwhile.models import Job
from django_meanwhile.worker import policy
from django_meanwhile.worker.policy import retry_of_overdue
from tests.run import sample

pytestmark = pytest.mark.django_db
OVERDUE = Outcome(end=End.FAILED, exception=class_path(TaskTimeout), detail="killed")


@pytest.fixture
def running(database):
    """Insert a RUNNING job; return its run."""

    def insert(task=sample.do_again.registered_name, **changes):
        now = timezone.now()
        values = {
            "id": uuid7(),
            "task": task,
            "backend": database,
            "queue": "default",
            "executor": "thread",
            "state": JobState.RUNNING,
            "epoch": 1,
            "attempts": 1,
            "worker_id": uuid4(),
            "enqueued_at": now,
            "started_at": now,
            "attempted_at": now,
            "arguments": encode_arguments(["x"], {}, task=task),
        } | changes
        job = Job.objects.using(database).create(**values)
        return Run(job.pk, job.epoch)

    yield insert
    sample.BODIES.clear()


def test_the_tasks_policy_grants_the_delay(database, running):
    """It is asked with a TaskTimeout and the job's result, as if the body had raised it."""
    asked = []

    def backoff(error, result):
        asked.append((type(error), result.attempts))
        return 7

    sample.BODIES["policy"] = backoff
    outcome = retry_of_overdue(database, database, running(attempts=2), OVERDUE)
    assert (outcome.end, outcome.retry_in) == (End.FAILED, 7)
    assert asked == [(TaskTimeout, 2)]


def test_the_last_attempt_is_the_last(database, running):
    """No attempts left: no delay, and the policy is not asked."""
    sample.BODIES["policy"] = lambda error, result: pytest.fail("asked")
    assert retry_of_overdue(database, database, running(attempts=3), OVERDUE).retry_in is None
    assert retry_of_overdue(database, database, running(sample.do.registered_name), OVERDUE).retry_in is None


def test_overrides_of_the_caller_count(database, running):
    """``using(max_attempts=1)`` switches the retry off."""
    sample.BODIES["policy"] = lambda error, result: 7
    assert retry_of_overdue(database, database, running(overrides='{"max_attempts": 1}'), OVERDUE).retry_in is None


def test_a_policy_without_an_answer_is_noted(database, running):
    """As in a child: the attempt ends the job, and its detail says why."""
    sample.BODIES["policy"] = lambda error, result: "soon"
    outcome = retry_of_overdue(database, database, running(), OVERDUE)
    assert outcome.retry_in is None
    assert outcome.detail.startswith("killed\n")
    assert "backoff" in outcome.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "gone.tasks.vanished"},
        {"overrides": '{"timeout": -1}'},
        {"overrides": "{"},
        {"arguments": "{"},
    ],
)
def test_a_job_that_nobody_can_read_ends(database, running, changes):
    """Unknown task, impossible overrides, damaged arguments: no retry, and the reason noted.

    The upkeep goes on: it serves everybody else.
    """
    sample.BODIES["policy"] = lambda error, result: 7
    outcome = retry_of_overdue(database, database, running(**changes), OVERDUE)
    assert (outcome.end, outcome.retry_in) == (End.FAILED, None)
    assert "Not retried" in outcome.detail


def test_a_backend_of_another_name_changes_no_policy(database, running):
    """A job of a backend that TASKS does not name any more is retried as its task says."""
    sample.BODIES["policy"] = lambda error, result: 7
    assert retry_of_overdue(database, database, running(backend="renamed"), OVERDUE).retry_in == 7


def test_a_job_that_runs_again_is_none_of_ours(database, running):
    """Another epoch: the outcome stays as it is, and the fence will refuse it."""
    run = running(epoch=2)
    assert retry_of_overdue(database, database, Run(run.job_id, 1), OVERDUE) == OVERDUE
    assert retry_of_overdue(database, database, Run(uuid7(), 1), OVERDUE) == OVERDUE


def test_an_absent_database_is_no_reason_to_end_a_job(database, running, monkeypatch):
    """The error passes: the upkeep tries again until there is an answer."""
    run = running()

    def away(backend, job_id):
        raise OperationalError("gone")

    monkeypatch.setattr(policy, "load_result", away)
    with pytest.raises(OperationalError):
        retry_of_overdue(database, database, run, OVERDUE)
