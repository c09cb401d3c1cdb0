"""What a supervisor must know of the tasks, for runs that it ended itself."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from django.db import Error

from ..compat import task_backends
from ..core.errors import TaskTimeout
from ..core.retry import retry_delay
from ..models import Job
from ..tasks.registry import resolve

if TYPE_CHECKING:
    from uuid import UUID

    from ..core.job import Run
    from ..core.outcome import Outcome
    from ..tasks.result import TaskResult


def load_result(backend: str, job_id: UUID) -> TaskResult[Any]:
    """Return the result as a project's receivers expect it."""
    return cast("TaskResult[Any]", task_backends[backend].get_result(str(job_id)))


def retry_of_overdue(alias: str, backend: str, run: Run, outcome: Outcome) -> Outcome:
    """Return the failed ``outcome`` of a run with the delay that its task's policy grants."""
    job = Job.objects.using(alias).filter(id=run.job_id, epoch=run.epoch).first()
    if job is None:
        return outcome
    try:
        task = resolve(job.task).with_overrides(json.loads(job.overrides))
        result = load_result(backend, job.id)
    except Error:
        raise  # the database is away: the caller tries again
    except Exception as error:  # noqa: BLE001 - no task, no backend or no arguments here: that is the end of the job
        return replace(outcome, detail=f"{outcome.detail}\nNot retried: {type(error).__name__}: {error}")
    verdict = retry_delay(
        attempts=job.attempts,
        max_attempts=task.max_attempts,
        backoff=task.backoff,
        retry_on=task.retry_on,
        dont_retry=task.dont_retry,
        exception=TaskTimeout(f"{job.task} {job.id} ran longer than its timeout"),
        result=result,
    )
    detail = f"{outcome.detail}\n{verdict.note}" if verdict.note else outcome.detail
    return replace(outcome, retry_in=verdict.delay, detail=detail)
