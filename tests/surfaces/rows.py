"""Rows in any state, written directly: what the surfaces show must not depend on how a row came to be."""

from __future__ import annotations

import datetime as dt
import json
import uuid

from django.utils import timezone

from django_meanwhile.core.identifiers import uuid7
from django_meanwhile.core.states import TERMINAL, AttemptKind, JobState
from django_meanwhile.models import Attempt, Job, Worker

TASK = "tests.project.tasks.nothing"


HOUR_AND_A_HALF = 5400.0
"""Seconds that are written "1 h 30 min" for a whole minute from then on: a slow machine changes no text."""


def ago(seconds: float) -> dt.datetime:
    """Return the moment ``seconds`` ago."""
    return timezone.now() - dt.timedelta(seconds=seconds)


class Rows:
    """Makes rows in one database."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def job(self, state: JobState = JobState.READY, **columns) -> Job:
        """Insert a job whose row has the shape of its state."""
        values = {
            "id": uuid7(),
            "task": TASK,
            "backend": "default",
            "queue": "default",
            "executor": "thread",
            "state": int(state),
            "enqueued_at": ago(60),
            "arguments": json.dumps({"args": [], "kwargs": {}}),
        }
        if state is JobState.SCHEDULED:
            values["due_at"] = ago(-600)
        if state is JobState.RUNNING:
            values |= {
                "worker_id": uuid.uuid4(),
                "started_at": ago(20),
                "attempted_at": ago(20),
                "attempts": 1,
                "epoch": 1,
            }
        if state in TERMINAL:
            values |= {
                "started_at": ago(50),
                "attempted_at": ago(50),
                "finished_at": ago(40),
                "attempts": 1,
                "epoch": 1,
            }
        return Job.objects.using(self.alias).create(**(values | columns))

    def worker(self, *, lease: float = 30, **columns) -> Worker:
        """Insert the row of a child whose lease has ``lease`` seconds left."""
        values = {
            "id": uuid.uuid4(),
            "parent_id": uuid.uuid4(),
            "kind": "shared",
            "host": "web1",
            "pid": 4711,
            "queues": "",
            "executors": "thread,asyncio",
            "slots": 108,
            "started_at": ago(3600),
            "lease_until": ago(-lease),
        }
        return Worker.objects.using(self.alias).create(**(values | columns))

    def attempt(self, job: Job, epoch: int = 1, **columns) -> Attempt:
        """Insert a run of ``job`` that did not succeed."""
        began = ago(50)
        values = {
            "job_id": job.pk,
            "epoch": epoch,
            "worker_id": uuid.uuid4(),
            "kind": AttemptKind.FAILED,
            "started_at": began,
            "ended_at": began + dt.timedelta(seconds=5),
            "exception": "builtins.ValueError",
            "detail": 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: no luck\n',
        }
        return Attempt.objects.using(self.alias).create(**(values | columns))

    def state_of(self, job: Job) -> JobState:
        """Return the state that the row has now."""
        return JobState(Job.objects.using(self.alias).values_list("state", flat=True).get(pk=job.pk))

    def count(self, **filters) -> int:
        """Count jobs."""
        return Job.objects.using(self.alias).filter(**filters).count()
