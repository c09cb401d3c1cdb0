"""What travels between the floors: plain values, no behaviour.

``NewJob`` goes into the store, ``ClaimedJob`` comes out of a claim, ``Orphan`` is
a running job whose worker is gone. Times are aware UTC datetimes, durations are
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from .states import Executor, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """One row to insert. ``delay`` counts from the database's now, ``due_at`` is absolute."""

    id: UUID
    task: str
    backend: str
    queue: str
    executor: Executor
    rank: int = 0
    due_at: datetime | None = None
    delay: float | None = None
    retry_on_crash: bool = True
    arguments: str
    overrides: str = "{}"
    context: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """What the database made of a ``NewJob``: a due time in the past is READY."""

    id: UUID
    state: JobState
    enqueued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedJob:
    """A job in state RUNNING, at the epoch that its claim raised.

    ``attempts`` counts this run; ``arguments``, ``overrides`` and ``context`` are
    the stored texts.
    """

    id: UUID
    epoch: int
    worker_id: UUID
    task: str
    backend: str
    queue: str
    executor: Executor
    rank: int
    attempts: int
    crashes: int
    interruptions: int
    deaths: int
    retry_on_crash: bool
    suspect: bool
    cancel_requested: bool
    arguments: str
    overrides: str
    context: str
    enqueued_at: datetime
    started_at: datetime
    attempted_at: datetime

    @property
    def run(self) -> Run:
        """Name this run of the job: the fence of every write."""
        return Run(self.id, self.epoch)


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """One run of one job. ``(id, epoch)`` fences every write."""

    job_id: UUID
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """One living child, as the store knows it."""

    id: UUID
    parent_id: UUID
    kind: str
    host: str
    pid: int
    queues: tuple[str, ...]
    executors: tuple[Executor, ...]
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A living worker row at one moment: who, until when, and whether that is past."""

    worker_id: UUID
    lease_until: datetime
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of a run, encoded, to be written under its fence."""

    run: Run
    progress: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """A queue at one moment, per executor. Counts stop at the limit that was asked for."""

    queue: str
    executor: Executor
    ready: int
    scheduled: int
    running: int
    suspects: int
    oldest_ready_seconds: float | None = field(default=None)
