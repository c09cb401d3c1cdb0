"""Claimed jobs for tests, as the store would return them, and a clock that stands still until it is moved."""

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from django_meanwhile.core.codec import encode_arguments
from django_meanwhile.core.identifiers import uuid7
from django_meanwhile.core.job import ClaimedJob
from django_meanwhile.core.states import Executor
from django_meanwhile.tasks.task import Task

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class ManualClock:
    """Monotonic time that moves when it is told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def claimed(
    task="tests.run.sample.add", *args, kwargs=None, overrides=None, context=None, waited=0.0, **changes
) -> ClaimedJob:
    """Return a job of ``task`` (a task or a stored name), claimed ``waited`` seconds after it was enqueued."""
    known = isinstance(task, Task)
    name = task.registered_name if known else task
    values = {
        "id": uuid7(),
        "epoch": 1,
        "worker_id": uuid4(),
        "task": name,
        "backend": "default",
        "queue": task.queue_name if known else "default",
        "executor": Executor(task.executor) if known else Executor.THREAD,
        "rank": 0,
        "attempts": 1,
        "crashes": 0,
        "interruptions": 0,
        "deaths": 0,
        "retry_on_crash": True,
        "suspect": False,
        "cancel_requested": False,
        "arguments": encode_arguments(args, kwargs or {}, task=name),
        "overrides": json.dumps(overrides or {}),
        "context": json.dumps(context or {}),
        "enqueued_at": NOON,
        "started_at": NOON + timedelta(seconds=waited),
        "attempted_at": NOON + timedelta(seconds=waited),
    }
    return ClaimedJob(**(values | changes))
