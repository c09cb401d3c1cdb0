"""From a call to a row: bind, encode, refuse, insert, and wake a worker after the commit.

Called by ``backend``. The insert is one statement on the caller's own connection, so
it commits or rolls back with the caller's data; nothing is read before it, and
whatever else there is to do waits for the commit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError

from ..compat import InvalidTask, TaskResultStatus, task_enqueued
from ..core.codec import decode_arguments, encode_arguments
from ..core.identifiers import uuid7
from ..core.job import Enqueued, NewJob
from ..core.states import Executor, JobState
from ..fields import for_users, naive_utc
from ..store import get_store, wake
from ..surroundings import capture
from .refusals import annotate
from .registry import is_discovered, may_import, registry
from .result import TaskResult
from .signature import bind
from .task import Task
from .transactions import after_commit, refuse_mismatch
from .unworked import watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..compat import BaseTask
    from .backend import DatabaseBackend

Arguments = tuple[Sequence[Any], "Mapping[str, Any]"]


def enqueue(backend: DatabaseBackend, given: BaseTask[..., Any], calls: Sequence[Arguments]) -> list[TaskResult[Any]]:
    """Insert one job for each call, all or none, and return their results in order.

    Raises ``TypeError`` for arguments that the function would not take,
    ``EncodingError``, ``TransactionMismatch``, ``ContextError`` and ``InvalidTask``; then
    nothing was written.
    """
    task = registry.adopt(given)
    refuse_unfindable(task)
    alias = backend.database
    if not task.outside_transaction:
        refuse_mismatch(task.registered_name, backend.alias, alias)
    context = capture(task.registered_name)
    jobs = [_new_job(task, backend.alias, context, args, kwargs) for args, kwargs in calls]
    if not jobs:
        return []
    stored = _insert(alias, jobs, task)
    _follow_up(alias, task, stored)
    results = [_result(given, job, row, backend.alias) for job, row in zip(jobs, stored, strict=True)]
    for result in results:
        task_enqueued.send_robust(sender=type(backend), task_result=result)
    return results


def refuse_unfindable(task: Task[..., Any]) -> None:
    """Raise ``InvalidTask`` for a function that a worker could not find by its name."""
    module = task.func.__module__
    if not may_import(module):
        raise InvalidTask(
            f"{task.module_path}: a worker could not find it: module {module!r} belongs to no installed "
            "app. Move the function to the tasks.py of an app in INSTALLED_APPS, or add "
            f'MEANWHILE = {{"TASK_MODULES": ["{module}"]}} to your settings.'
        )
    if task.registered_name != task.module_path and not is_discovered(module):
        raise InvalidTask(
            f"{task.module_path}: a worker could not find it by its name {task.registered_name!r}, "
            f"because none imports module {module!r} by itself. Move the function to the tasks.py of "
            f'its app, or add MEANWHILE = {{"TASK_MODULES": ["{module}"]}} to your settings.'
        )
    if not registry.learn(task):
        raise InvalidTask(
            f"{task.module_path}: a worker could not find it by its name {task.registered_name!r}: its module "
            "holds no such task. Bind the task to a name of the module, as the decorator does."
        )


# --- one call, one row ----------------------------------------------------------------------


def _new_job(
    task: Task[..., Any], backend: str, context: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> NewJob:
    shape = bind(task, args, kwargs)
    return NewJob(
        id=uuid7(),
        task=task.registered_name,
        backend=backend,
        queue=task.queue_name,
        executor=Executor(task.executor),
        rank=-task.priority,
        due_at=_due_at(task),
        delay=task.due_in,
        retry_on_crash=task.on_crash == "retry",
        arguments=encode_arguments(args, kwargs, task=task.registered_name, names=shape.positional),
        overrides=json.dumps(dict(task.overrides)) if task.overrides else "{}",
        context=context,
    )


def _due_at(task: Task[..., Any]) -> datetime | None:
    if task.run_after is None or task.due_in is not None:
        return None
    return naive_utc(task.run_after).replace(tzinfo=UTC)


# --- writing --------------------------------------------------------------------------------


def _insert(alias: str, jobs: list[NewJob], task: Task[..., Any]) -> list[Enqueued]:
    try:
        return get_store(alias).enqueue(jobs)
    except DatabaseError as error:
        annotate(error, alias)
        raise
    except SynchronousOnlyOperation as error:
        raise SynchronousOnlyOperation(
            f"{task.registered_name}: enqueue() waits for the database. "
            f"In async code write: await {task.name}.aenqueue(...)"
        ) from error


def _follow_up(alias: str, task: Task[..., Any], stored: Sequence[Enqueued]) -> None:
    """Arrange what happens once the rows are there for others to see."""
    queue, executor = task.queue_name, task.executor
    if any(row.state is JobState.READY for row in stored):
        after_commit(alias, wake.announce, alias, [queue])
    if watch.is_due(alias, queue, executor):
        after_commit(alias, watch.look, alias, [(queue, executor)])


def _result(task: BaseTask[..., Any], job: NewJob, row: Enqueued, backend: str) -> TaskResult[Any]:
    # What the worker will get, not what the caller passed: that may change under our hands.
    args, kwargs = decode_arguments(job.arguments)
    return TaskResult(
        task=task,
        id=str(job.id),
        status=TaskResultStatus.READY,
        state=row.state,
        enqueued_at=for_users(row.enqueued_at),
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=args,
        kwargs=kwargs,
        backend=backend,
        errors=[],
        worker_ids=[],
    )
