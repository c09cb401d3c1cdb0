"""``run_jobs``: runs what is queued, here and now, through the worker's own parts.

Called by tests. Inside ``TestCase`` it works on the test's connection and sees what the test has written. It claims one
job after the other, best first, as long as any is due, those that jobs enqueue included. It starts no process
and no worker thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from ..core.errors import UnknownTask
from ..core.outcome import End
from ..core.states import Executor, JobState
from ..fields import naive_utc
from ..models import Job
from ..store import get_store
from ..worker.policy import load_result
from .backends import database_backend, refuse_event_loop
from .errors import JobFailed, TooManyRuns
from .inline import InlineWorker
from .naming import names_of_all

if TYPE_CHECKING:
    from ..core.job import ClaimedJob
    from ..tasks.result import TaskResult
    from .naming import AnyTask

LIMIT = 1000
_BAD = (JobState.FAILED, JobState.QUARANTINED)
_ROUNDING = 0.002
"""Seconds that a jump goes beyond the due time: SQLite's clock knows milliseconds."""


def run_jobs(
    *,
    tasks: Iterable[AnyTask] | AnyTask | None = None,
    queues: Iterable[str] | str | None = None,
    travel: bool | timedelta = False,
    raise_failures: bool = True,
    limit: int = LIMIT,
    backend: str | None = None,
) -> list[TaskResult[Any]]:
    """Run every due job to its end; return the jobs that ran, in the order of their first run, as they are then.

    ``tasks`` and ``queues`` leave all others where they are. ``travel=True`` jumps to the due time of what is
    scheduled (retries, ``run_after``) until nothing is left; a ``timedelta`` jumps no further than that.

    Raises ``JobFailed`` for the first job that ends FAILED or QUARANTINED, unless ``raise_failures=False``;
    ``TooManyRuns`` after ``limit`` runs; ``UnknownTask`` for a job whose task this code does not have.
    """
    __tracebackhide__ = True
    refuse_event_loop("run_jobs()", "await arun_jobs(...)")
    session = _Session(
        backend=database_backend(backend, "run_jobs()").database,
        names=None if tasks is None else names_of_all(tasks),
        queues=[queues] if isinstance(queues, str) else None if queues is None else list(queues),
        horizon=travel.total_seconds() if isinstance(travel, timedelta) else float("inf") if travel else 0.0,
        raise_failures=raise_failures,
        limit=limit,
    )
    try:
        session.run()
        return session.results()
    finally:
        session.close()


async def arun_jobs(
    *,
    tasks: Iterable[AnyTask] | AnyTask | None = None,
    queues: Iterable[str] | str | None = None,
    travel: bool | timedelta = False,
    raise_failures: bool = True,
    limit: int = LIMIT,
    backend: str | None = None,
) -> list[TaskResult[Any]]:
    """See ``run_jobs``. An ``async def`` body runs on the test's own event loop."""
    __tracebackhide__ = True
    return await sync_to_async(run_jobs, thread_sensitive=True)(
        tasks=tasks, queues=queues, travel=travel, raise_failures=raise_failures, limit=limit, backend=backend
    )


class _Session:
    """One call of ``run_jobs``."""

    def __init__(
        self,
        *,
        backend: str,
        names: frozenset[str] | None,
        queues: Sequence[str] | None,
        horizon: float,
        raise_failures: bool,
        limit: int,
    ) -> None:
        self._store = get_store(backend)
        self._worker = InlineWorker(self._store)
        self._names = names
        self._queues = queues
        self._horizon = horizon
        self._raise_failures = raise_failures
        self._limit = limit
        self._travelled = 0.0
        #: Job id -> backend, of every job that ran, in the order of the first runs.
        self._ran: dict[Any, str] = {}

    def run(self) -> None:
        """Run until nothing is due, and nothing can be made due."""
        __tracebackhide__ = True
        runs = 0
        while True:
            self._store.promote()
            job = self._next(JobState.READY)
            if job is None:
                if not self._jump():
                    return
                continue
            if runs == self._limit:
                raise TooManyRuns(
                    f"run_jobs(limit={self._limit}): after {runs} runs there is still a job of {job.task} to run. "
                    "Do jobs enqueue one another without end? If so many are meant, give a higher limit."
                )
            runs += 1
            claimed = self._claim(job)
            if claimed is not None:
                self._run(claimed)

    def close(self) -> None:
        """Leave neither a worker's row nor a moved clock behind."""
        self._worker.close()
        self._store.offset -= self._travelled

    def results(self) -> list[TaskResult[Any]]:
        """Read every job that ran."""
        return [load_result(backend, job_id) for job_id, backend in self._ran.items() if self._exists(job_id)]

    # --- choosing -----------------------------------------------------------------------

    def _jobs(self, state: JobState) -> Any:
        jobs = Job.objects.using(self._store.alias).filter(state=state)
        if self._queues is not None:
            jobs = jobs.filter(queue__in=self._queues)
        if self._names is not None:
            jobs = jobs.filter(task__in=self._names)
        return jobs

    def _exists(self, job_id: Any) -> bool:
        return Job.objects.using(self._store.alias).filter(pk=job_id).exists()

    def _next(self, state: JobState) -> Job | None:
        order = ("due_at", "id") if state is JobState.SCHEDULED else ("rank", "id")
        job: Job | None = self._jobs(state).order_by(*order).first()
        return job

    def _jump(self) -> bool:
        """Move the clock to the next due time, as far as the caller allows. Returns whether that made one due."""
        job = self._next(JobState.SCHEDULED)
        if job is None or job.due_at is None:
            return False
        wait = max(0.0, (naive_utc(job.due_at).replace(tzinfo=UTC) - self._store.now()).total_seconds()) + _ROUNDING
        if self._travelled + wait > self._horizon + _ROUNDING:
            return False
        self._travelled += wait
        self._store.offset += wait
        return True

    def _claim(self, wanted: Job) -> ClaimedJob | None:
        """Claim that job. A claim takes the head of a queue: what stands before it is given back, uncharged."""
        kind = Executor(wanted.executor)
        line = Job.objects.using(self._store.alias).filter(
            state=JobState.READY, queue=wanted.queue, executor=wanted.executor, suspect=wanted.suspect
        )
        number = 1
        if self._names is not None:  # two queries: an OR of them fails on SQLite 3.53 (management.narrowing)
            number += line.filter(rank__lt=wanted.rank).count()
            number += line.filter(rank=wanted.rank, id__lt=wanted.id).count()
        claimed = self._worker.claim(kind, wanted.queue, number, suspects=wanted.suspect)
        self._worker.give_back([job for job in claimed if job.id != wanted.id])
        return next((job for job in claimed if job.id == wanted.id), None)

    # --- running ------------------------------------------------------------------------

    def _run(self, job: ClaimedJob) -> None:
        __tracebackhide__ = True
        self._worker.run(job)
        outcome, error = self._worker.outcome, self._worker.exception
        if outcome is not None and outcome.end is End.NOT_BEGUN:
            if outcome.retry_in is not None:
                raise UnknownTask(
                    f"job {job.id} is of the task {job.task!r}, which this code does not have, or whose module does "
                    "not import. A worker would give it back and look again later."
                )
            return  # re-routed: it comes again
        self._ran.setdefault(job.id, job.backend)
        if isinstance(error, KeyboardInterrupt):
            raise error  # recorded as a failed attempt, as in a worker; but here it is the developer's Ctrl-C
        if self._worker.written in _BAD and self._raise_failures:
            results = [result for result in self.results() if result.id != str(job.id)]
            failed = load_result(job.backend, job.id)
            raise JobFailed.of(failed, [*results, failed], error) from error
