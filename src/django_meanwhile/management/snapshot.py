"""What the queues of one database look like at one moment. Reads only; ``diagnosis`` judges it.

Used by ``status``, and by ``check --deploy``. Every query is bounded: by ``LIMIT``, and by a partial index: of
live jobs, so that ten million finished jobs cost nothing, or of the last day's failures. Counts that reach the limit
mean "or more".
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from ..core.job import Depth
from ..core.states import Executor, JobState
from ..fields import naive_utc
from ..models import Job, Worker
from ..store import Store
from .backends import Served
from .narrowing import claimable, in_states

LIMIT = 1000
DAY = 86_400.0

SOLO = "solo"
"""The kind of a child that runs one suspect and ends: it serves no queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob:
    """A job in state RUNNING, and for how long."""

    id: UUID
    epoch: int
    task: str
    queue: str
    worker_id: UUID
    seconds: float
    cancel_requested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A worker row. ``queues`` empty means every queue. ``lease_left`` is negative once it has run out."""

    id: UUID
    parent_id: UUID
    kind: str
    host: str
    pid: int
    queues: tuple[str, ...]
    executors: tuple[str, ...]
    slots: int
    lease_left: float
    dead: bool

    @property
    def living(self) -> bool:
        """Whether it may run jobs."""
        return not self.dead and self.lease_left > 0

    def serves(self, queue: str, executor: str) -> bool:
        """Whether it takes jobs of this queue and executor."""
        return (
            self.living
            and self.kind != SOLO
            and executor in self.executors
            and (not self.queues or queue in self.queues)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """See the module. Durations are seconds, on the database's clock.

    ``workers`` are all rows that are not dead, and the dead ones that RUNNING jobs still point at. ``overdue`` counts
    SCHEDULED jobs that nobody promoted, ``waiting_tasks`` the jobs per task name among those that wait longest,
    ``quarantined`` and ``failed`` those that ended so within the last day.
    """

    database: str
    vendor: str
    backends: tuple[Served, ...]
    now: dt.datetime
    depths: tuple[Depth, ...]
    workers: tuple[WorkerView, ...]
    running: tuple[RunningJob, ...]
    overdue: dict[tuple[str, Executor], int] = field(default_factory=dict)
    waiting_tasks: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0
    failed: int = 0

    def running_on(self, worker_id: UUID) -> list[RunningJob]:
        """Return what one worker runs, longest first."""
        return sorted((job for job in self.running if job.worker_id == worker_id), key=lambda job: -job.seconds)


def take(store: Store, backends: Iterable[Served], *, overdue_after: float) -> Snapshot:
    """Look at ``store``'s database. ``overdue_after``: seconds after which a due job should have been promoted."""
    now = store.now()
    running = _running(store.alias, now)
    workers = _workers(store.alias, now, {job.worker_id for job in running})
    return Snapshot(
        database=store.alias,
        vendor=store.vendor,
        backends=tuple(backends),
        now=now,
        depths=tuple(store.depths(LIMIT)),
        workers=workers,
        running=_confirmed(store.alias, running, workers),
        overdue=_overdue(store.alias, now - dt.timedelta(seconds=overdue_after)),
        waiting_tasks=_waiting_tasks(store.alias),
        quarantined=_ended_today(store.alias, JobState.QUARANTINED, now),
        failed=_ended_today(store.alias, JobState.FAILED, now),
    )


def _in_state(database: str, state: JobState) -> QuerySet[Job]:
    return in_states(Job.objects.using(database), [state])


def _running(database: str, now: dt.datetime) -> tuple[RunningJob, ...]:
    columns = ("id", "epoch", "task", "queue", "worker_id", "attempted_at", "cancel_requested_at")
    rows = _in_state(database, JobState.RUNNING).values(*columns)[:LIMIT]
    return tuple(
        RunningJob(
            id=row["id"],
            epoch=row["epoch"],
            task=row["task"],
            queue=row["queue"],
            worker_id=row["worker_id"],
            seconds=_since(row["attempted_at"], now),
            cancel_requested=row["cancel_requested_at"] is not None,
        )
        for row in rows
    )


def _workers(database: str, now: dt.datetime, holders: set[UUID]) -> tuple[WorkerView, ...]:
    rows = Worker.objects.using(database)
    found = {row.pk: row for row in rows.filter(dead_at__isnull=True)[:LIMIT]}
    missing = [holder for holder in holders if holder not in found]
    found |= {row.pk: row for row in rows.filter(pk__in=missing)} if missing else {}
    views = [_view(row, now) for row in found.values()]
    return tuple(sorted(views, key=lambda view: (view.host, str(view.parent_id), view.kind, view.pid)))


def _confirmed(database: str, running: Iterable[RunningJob], workers: Iterable[WorkerView]) -> tuple[RunningJob, ...]:
    """Look again at jobs of workers that do not live: they may have ended between the two reads."""
    living = {worker.id for worker in workers if worker.living}
    doubtful = [job.id for job in running if job.worker_id not in living]
    again = (
        dict(_in_state(database, JobState.RUNNING).filter(pk__in=doubtful).values_list("id", "epoch"))
        if doubtful
        else {}
    )
    return tuple(job for job in running if job.worker_id in living or again.get(job.id) == job.epoch)


def _view(row: Any, now: dt.datetime) -> WorkerView:
    return WorkerView(
        id=row.pk,
        parent_id=row.parent_id,
        kind=row.kind,
        host=row.host,
        pid=row.pid,
        queues=tuple(name for name in row.queues.split(",") if name),
        executors=tuple(name for name in row.executors.split(",") if name),
        slots=row.slots,
        lease_left=-_since(row.lease_until, now),
        dead=row.dead_at is not None,
    )


def _overdue(database: str, before: dt.datetime) -> dict[tuple[str, Executor], int]:
    late = _in_state(database, JobState.SCHEDULED).filter(due_at__lt=before).order_by("due_at")
    rows = late.values_list("queue", "executor")[:LIMIT]
    return dict(Counter((queue, Executor(executor)) for queue, executor in rows))


def _waiting_tasks(database: str) -> dict[str, int]:
    """Count task names among the jobs that wait longest: a sample, for a DISTINCT over millions would be no look."""
    ready = claimable(Job.objects.using(database)).values_list("task", flat=True)[:LIMIT]
    scheduled = _in_state(database, JobState.SCHEDULED).order_by("due_at").values_list("task", flat=True)[:LIMIT]
    return dict(Counter([*ready, *scheduled]))


def _ended_today(database: str, state: JobState, now: dt.datetime) -> int:
    since = now - dt.timedelta(seconds=DAY)
    found = _in_state(database, state).filter(finished_at__gt=since)
    return len(found.values_list("pk", flat=True)[:LIMIT])


def _since(moment: dt.datetime | None, now: dt.datetime) -> float:
    """Return the seconds from ``moment``, as the models give it, to ``now``."""
    return 0.0 if moment is None else (naive_utc(now) - naive_utc(moment)).total_seconds()
