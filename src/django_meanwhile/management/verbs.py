"""Cancel and retry many jobs at once, with everything that follows: wake-ups, and ``task_finished`` for what was
cancelled.

Called by the subcommands ``cancel`` and ``retry`` and by the admin's actions. What may be changed is decided by the
guards of the store's statements; what follows waits for the commit, and changes nothing if it fails.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured

from .. import logs
from ..compat import task_finished
from ..core.errors import MeanwhileError
from ..core.states import JobState
from ..models import Attempt, Job
from ..store import Store, wake
from ..tasks.attempts import TaskError
from ..tasks.finished import send
from ..tasks.registry import resolve
from ..tasks.result import from_row
from ..tasks.transactions import after_commit

logger = logs.get_logger("jobs")


def cancel(store: Store, job_ids: Collection[UUID]) -> dict[UUID, JobState]:
    """Cancel; return the new state (CANCELLED, or RUNNING: asked to stop) of every job that had not ended."""
    states = store.cancel(job_ids)
    ended = [job_id for job_id, state in states.items() if state.is_terminal]
    if ended:
        after_commit(store.alias, _announce_ends, store.alias, ended)
    if len(ended) < len(states):
        after_commit(store.alias, wake.announce, store.alias, [wake.CANCEL])
    return states


def retry(store: Store, job_ids: Collection[UUID]) -> set[UUID]:
    """Bring jobs that have ended back to READY; return those that had."""
    retried = store.retry(job_ids)
    if retried:
        queues = set(Job.objects.using(store.alias).filter(pk__in=retried).values_list("queue", flat=True))
        after_commit(store.alias, wake.announce, store.alias, queues)
    return retried


def _announce_ends(database: str, job_ids: Collection[UUID]) -> None:
    """Send ``task_finished`` for jobs that ended without a worker: nobody else will.

    A result needs its task: of a job whose task or backend this code does not have, only the log tells.
    """
    if not task_finished.has_listeners():
        return
    attempts: dict[UUID, list[TaskError]] = {}
    for row in Attempt.objects.using(database).filter(job_id__in=job_ids).order_by("epoch"):
        attempts.setdefault(row.job_id, []).append(TaskError.from_row(row))
    for job in Job.objects.using(database).filter(pk__in=job_ids):
        try:
            task = resolve(job.task).with_overrides(json.loads(job.overrides), backend=job.backend)
            task.get_backend()
            result = from_row(job, attempts.get(job.pk, []), task)
        except (MeanwhileError, ImproperlyConfigured, ValueError) as error:
            logs.for_job(logger, job.pk, job.task).info(
                "cancelled; task_finished is not sent, for there is no result: %s", error
            )
            continue
        send(result)
