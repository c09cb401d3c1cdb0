"""What became of a job: Django's ``TaskResult``, with the state, progress and attempts of ours.

Made by ``backend`` from rows, by ``enqueue`` for a new job, and by ``run`` for a
job that a worker has claimed. Arguments and return value are the decoded ones: Django's
own class would refuse or change them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from .. import conf
from ..compat import TASK_REFRESH_ATTRS, TaskResultStatus, task_backends
from ..compat import TaskResult as DjangoTaskResult
from ..core.codec import decode_arguments, decode_result
from ..core.job import ClaimedJob
from ..core.outcome import End, Outcome
from ..core.states import AttemptKind, JobState
from ..fields import for_users
from .attempts import TaskError, errors_of, workers_of
from .progress import Progress
from .refusals import refuse_result_attribute
from .transactions import is_inside, is_inside_a_test
from .waiting import pauses

if TYPE_CHECKING:
    from typing import Self

    from ..models import Job
    from .backend import DatabaseBackend
    from .task import Task

T = TypeVar("T")

_STATUS = {
    JobState.SCHEDULED: TaskResultStatus.READY,
    JobState.READY: TaskResultStatus.READY,
    JobState.RUNNING: TaskResultStatus.RUNNING,
    JobState.SUCCESSFUL: TaskResultStatus.SUCCESSFUL,
}
_LONGEST_LINE = 300
REFRESHED = TASK_REFRESH_ATTRS | {"state", "epoch", "progress", "attempt_log"}

if TYPE_CHECKING:

    class _Base(DjangoTaskResult[..., T], Generic[T]):
        pass

else:

    class _Base(DjangoTaskResult, Generic[T]):
        pass


@dataclass(frozen=True, kw_only=True)
class TaskResult(_Base[T]):  # type: ignore[misc] # the stubs forget that it is frozen
    """A job as it was when it was last read; ``refresh()`` reads it again.

    ``status`` is Django's projection of ``state``: what was cancelled or
    quarantined is FAILED, and the last of ``errors`` names it. ``errors`` has one
    entry for each failed attempt and each crash, ``attempt_log`` also the runs that
    a deploy or a lost host took away.
    """

    errors: list[TaskError]  # type: ignore[assignment]
    state: JobState
    epoch: int = 0
    progress: Progress | None = None
    attempt_log: list[TaskError] = field(default_factory=list)
    _return_value: Any = None

    def __post_init__(self) -> None:
        """Leave the arguments alone: Django would make them plain JSON."""

    # --- reading ------------------------------------------------------------------------

    @property
    def return_value(self) -> T:
        """What the function returned. Raises ``ValueError`` unless it succeeded."""
        if self.state is JobState.SUCCESSFUL:
            value: T = self._return_value
            return value
        if self.is_finished:
            raise ValueError(f"Task failed: {self._label} is {self.state.name}{self._reason()}.{self._where_to_read()}")
        raise ValueError(
            f"Task has not finished yet: {self._label} is {self.state.name}. "
            "Wait for it with result.wait(timeout=...), or ask result.is_finished after result.refresh()."
        )

    def _reason(self) -> str:
        """Say which exception it was, with the line that Python ends a traceback with."""
        if not self.errors:
            return ""
        error = self.errors[-1]
        lines = error.traceback.strip().splitlines() if error.kind is AttemptKind.FAILED else []
        return f": {error.exception_class_path}" + (f" ({lines[-1][:_LONGEST_LINE]})" if lines else "")

    def _where_to_read(self) -> str:
        return f" The whole traceback: manage.py meanwhile show {self.id}" if self.errors else ""

    def refresh(self) -> None:
        """Read the job again, in place, as Django's results do."""
        self._take(self._backend.get_result(self.id))

    async def arefresh(self) -> None:
        """See ``refresh``."""
        self._take(await self._backend.aget_result(self.id))

    def _take(self, newer: TaskResult[Any]) -> None:
        for name in REFRESHED:
            # Django's contract: a frozen result whose refresh() changes it.
            object.__setattr__(self, name, getattr(newer, name))

    # --- waiting ------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until the job has ended, refresh, and return this result.

        Raises ``ResultTimeout``, and ``TransactionManagementError`` inside a
        transaction on the job's database, which would never see the end; inside that
        of a ``TestCase`` only if the job has not ended yet.
        """
        self._refuse_transaction()
        if not self._backend.has_ended(self.id):
            self._refuse_test()
            for pause in pauses(timeout, conf.real_clock(), self._label):
                time.sleep(pause)
                if self._backend.has_ended(self.id):
                    break
        self.refresh()
        return self

    async def await_end(self, timeout: float | None = None) -> Self:  # noqa: ASYNC109 - as wait()
        """See ``wait``."""
        # Asked on the thread where the queries will run: connections belong to threads.
        await sync_to_async(self._refuse_transaction, thread_sensitive=True)()
        if not await self._backend.ahas_ended(self.id):
            await sync_to_async(self._refuse_test, thread_sensitive=True)()
            for pause in pauses(timeout, conf.real_clock(), self._label):
                await asyncio.sleep(pause)
                if await self._backend.ahas_ended(self.id):
                    break
        await self.arefresh()
        return self

    async def aresult(self, timeout: float | None = None) -> T:  # noqa: ASYNC109 - as wait()
        """Wait until the job has ended and return its ``return_value``, or raise as that does."""
        return (await self.await_end(timeout)).return_value

    def _refuse_transaction(self) -> None:
        alias = self._backend.database
        if is_inside(connections[alias]):
            raise TransactionManagementError(
                f"{self._label}: waiting for it inside atomic() on database {alias!r} would never end: "
                "this transaction cannot see what a worker commits, and may hold what it waits for. "
                "Wait after the block."
            )

    def _refuse_test(self) -> None:
        if is_inside_a_test(connections[self._backend.database]):
            raise TransactionManagementError(
                f"{self._label} has not ended, and waiting for it inside a TestCase would never end: no worker runs "
                "in a test, and none could see what the test's transaction has written. Run it first with "
                "django_meanwhile.testing.run_jobs() (in async code: await arun_jobs()), or wait beside "
                "running_worker() in a TransactionTestCase."
            )

    # --- acting -------------------------------------------------------------------------

    def cancel(self) -> JobState:
        """Cancel the job; return CANCELLED, or RUNNING if its body has been asked to stop.

        Raises ``NotCancellable`` if it has already ended.
        """
        return self._backend.cancel(self.id)

    async def acancel(self) -> JobState:
        """See ``cancel``."""
        return await self._backend.acancel(self.id)

    def retry(self) -> None:
        """Run the job again, with fresh counters. Raises ``NotCancellable`` unless it has ended."""
        self._backend.retry(self.id)

    async def aretry(self) -> None:
        """See ``retry``."""
        await self._backend.aretry(self.id)

    if not TYPE_CHECKING:  # type checkers refuse it by themselves
        __getattr__ = refuse_result_attribute

    @property
    def _backend(self) -> DatabaseBackend:
        backend: DatabaseBackend = task_backends[self.backend]  # type: ignore[assignment]
        return backend

    @property
    def _label(self) -> str:
        return f"job {self.id} of {getattr(self.task, 'registered_name', self.task.module_path)}"

    # --- for the worker -----------------------------------------------------------------

    def with_outcome(self, outcome: Outcome, state: JobState) -> TaskResult[T]:
        """Return what this running job became, without reading it: for ``task_finished``.

        ``state`` is what the store has written. ``finished_at`` is this host's time,
        the row has the database's.
        """
        now = timezone.now()
        log = self.attempt_log
        if outcome.end is not End.SUCCEEDED and outcome.begun:
            attempt = TaskError.from_outcome(
                outcome,
                epoch=self.epoch,
                worker_id=self.worker_ids[-1] if self.worker_ids else "",
                started_at=self.last_attempted_at,
                ended_at=now,
            )
            log = [*log, attempt]
        is_attempt = outcome.end in {End.SUCCEEDED, End.FAILED, End.CANCELLED}
        value = None if outcome.result is None else decode_result(outcome.result)
        return replace(
            self,
            state=state,
            status=status_of(state),
            finished_at=now if state.is_terminal else None,
            progress=Progress.read(outcome.progress) or self.progress,
            attempt_log=log,
            errors=errors_of(state, self.epoch, log, now),
            worker_ids=self.worker_ids if is_attempt else self.worker_ids[:-1],
            _return_value=value if state is JobState.SUCCESSFUL else None,
        )


def status_of(state: JobState) -> TaskResultStatus:
    """Project our states onto Django's four."""
    return _STATUS.get(state, TaskResultStatus.FAILED)


def from_row(job: Job, attempts: Iterable[TaskError], task: Task[..., Any]) -> TaskResult[Any]:
    """Make the result of a stored job; ``attempts`` are its runs without success, in order."""
    state = JobState(job.state)
    log = list(attempts)
    args, kwargs = decode_arguments(job.arguments)
    current = job.worker_id or job.last_worker_id
    return TaskResult(
        task=task,
        id=str(job.pk),
        status=status_of(state),
        state=state,
        epoch=job.epoch,
        enqueued_at=job.enqueued_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        last_attempted_at=job.attempted_at,
        args=args,
        kwargs=kwargs,
        backend=job.backend,
        errors=errors_of(state, job.epoch, log, job.finished_at),
        attempt_log=log,
        worker_ids=workers_of(state, job.attempts, log, str(current) if current else None),
        progress=Progress.read(job.progress),
        _return_value=decode_result(job.result) if state is JobState.SUCCESSFUL and job.result else None,
    )


def from_claim(
    job: ClaimedJob,
    task: Task[..., Any],
    *,
    args: list[Any],
    kwargs: dict[str, Any],
    status: TaskResultStatus = TaskResultStatus.RUNNING,
    attempt_log: Iterable[TaskError] = (),
) -> TaskResult[Any]:
    """Make the result of a job that was just claimed, without a query.

    Earlier attempts are not read for a run: unless ``attempt_log`` brings them, the
    places of their workers hold an empty text, so that ``attempts`` is right.
    """
    log = list(attempt_log)
    return TaskResult(
        task=task if task.backend == job.backend else task.with_overrides(task.overrides, backend=job.backend),
        id=str(job.id),
        status=status,
        state=JobState.RUNNING,
        epoch=job.epoch,
        enqueued_at=for_users(job.enqueued_at),
        started_at=for_users(job.started_at),
        finished_at=None,
        last_attempted_at=for_users(job.attempted_at),
        args=args,
        kwargs=kwargs,
        backend=job.backend,
        errors=errors_of(JobState.RUNNING, job.epoch, log, None),
        attempt_log=log,
        worker_ids=workers_of(JobState.RUNNING, job.attempts, log, str(job.worker_id)),
    )
