"""The newest jobs of a filter, each with what its last run ended with. Reads only; used by ``list``.

What it costs, with ten million finished jobs on record:

- *Ended jobs*: each state is read backwards along ``meanwhile_prune`` (state, finished_at), as many rows as are shown,
  and up to ``MORE_LIMIT`` further entries if there are more.
- *With a queue or a task*: no index has these columns, so rows of the state are passed over until enough fit. For a
  rare task that may be all rows of the state. ``since`` bounds it: older rows are not read.
- *Live jobs*: history is not read, for their indexes are partial. None is by age, so all jobs of the state are looked
  through for the newest: a backlog of a million costs a million entries. ``since`` does not help there.
- *Last runs*: one query for all, by the unique index of (job, epoch); the ends of the stored texts, not the whole.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Left, Right

from ..core.states import JobState
from ..fields import naive_utc
from ..models import Attempt, Job
from ..store import Store
from .narrowing import by_index
from .reasons import HEAD, TAIL, message
from .selection import Filter, narrowed

MORE_LIMIT = 1000
"""Where the count of those that are not shown stops."""

_COLUMNS = (
    "id", "task", "backend", "queue", "executor", "state", "suspect", "attempts", "crashes", "interruptions", "deaths",
    "enqueued_at", "due_at", "attempted_at", "finished_at", "cancel_requested_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LastError:
    """What the last run ended with: the dotted path of a class, and the first line of its message."""

    exception: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob:
    """A job's columns (``row``), and what its last run ended with, if that did not succeed and is over."""

    id: UUID
    state: JobState
    row: dict[str, Any]
    error: LastError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Jobs, the newest first. ``more`` are left out: ``MORE_LIMIT`` means that or more."""

    chosen: Filter
    jobs: tuple[ListedJob, ...]
    more: int


def newest(store: Store, chosen: Filter, until: dt.datetime, limit: int) -> Listing:
    """Return the filter's ``limit`` newest jobs by its ``age``, as of ``until``."""
    queries = [narrowed(jobs, chosen, until) for jobs in by_index(Job.objects.using(store.alias), chosen.states)]
    rows: dict[UUID, dict[str, Any]] = {}  # by id: a job may change its state between two of the queries
    for query in queries:  # one index each, merged here: a database would read and sort them all
        rows |= {row["id"]: row for row in query.order_by(f"-{chosen.age}").values(*_COLUMNS)[: limit + 1]}
    found = sorted(rows.values(), key=lambda row: (naive_utc(row[chosen.age]), row["id"]), reverse=True)
    more = 0
    if len(found) > limit:
        total = sum(query.order_by().values("pk")[: limit + MORE_LIMIT].count() for query in queries)
        more = max(1, min(MORE_LIMIT, total - limit))
    shown = found[:limit]
    errors = _last_errors(store, [row["id"] for row in shown])
    jobs = (
        ListedJob(id=row["id"], state=JobState(row["state"]), row=row, error=errors.get(row["id"])) for row in shown
    )
    return Listing(chosen=chosen, jobs=tuple(jobs), more=more)


def seconds_since(moment: dt.datetime, now: dt.datetime) -> float:
    """Return the seconds from ``moment``, as the models give it, to ``now``; negative if it is yet to come."""
    return (naive_utc(now) - naive_utc(moment)).total_seconds()


def ended(states: Iterable[JobState]) -> tuple[JobState, ...]:
    """Return those of the states that are ends."""
    return tuple(state for state in sorted(states) if state.is_terminal)


def live(states: Iterable[JobState]) -> tuple[JobState, ...]:
    """Return those of the states that are none."""
    return tuple(state for state in sorted(states) if not state.is_terminal)


def _last_errors(store: Store, ids: Collection[UUID]) -> dict[UUID, LastError]:
    """Return the errors of the runs that are each job's last; a run that goes on or succeeded has written none."""
    if not ids:
        return {}
    last = Attempt.objects.using(store.alias).filter(job_id__in=ids, epoch=F("job__epoch")).order_by()
    rows = last.values_list("job_id", "exception", Left("detail", HEAD), Right("detail", TAIL))
    return {
        job_id: LastError(exception=exception, message=message(exception, head, tail))
        for job_id, exception, head, tail in rows
    }
