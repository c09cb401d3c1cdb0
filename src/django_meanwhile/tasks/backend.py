"""``DatabaseBackend``: what ``TASKS`` names, and the face of the queue for the project's code.

Django makes one instance per thread, at import of the first task, before the apps are
ready: so it keeps no state, and imports models only when it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.apps import apps
from django.core.checks import CheckMessage
from django.db import router

from ..compat import BaseTaskBackend, InvalidTask, TaskResultDoesNotExist, task_backends
from ..core.errors import InvalidOption, NotCancellable
from ..core.states import JobState
from ..store import get_store, wake
from .attempts import TaskError
from .backend_checks import check_backend
from .enqueue import Arguments, enqueue
from .finished import send
from .refusals import explained, refuse_uninstalled
from .registry import resolve
from .result import from_row
from .task import Task
from .transactions import after_commit

if TYPE_CHECKING:
    from ..compat import BaseTask
    from ..models import Job
    from ..store import Store
    from .result import TaskResult


class DatabaseBackend(BaseTaskBackend):
    """Keeps jobs in a database of the project.

    ``OPTIONS["DATABASE"]`` names it; without that the router is asked where ``Job``
    is written. ``QUEUES: []`` accepts every queue name.
    """

    task_class = Task
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    @property
    def database(self) -> str:
        """The alias of the database that holds the jobs."""
        alias = self.options.get("DATABASE")
        if alias is None:
            from ..models import Job  # noqa: PLC0415 - models are not ready when tasks are imported

            alias = router.db_for_write(Job)
        return str(alias)

    @property
    def store(self) -> Store:
        """The store on that database."""
        return get_store(self.database)

    def validate_task(self, task: BaseTask[..., Any]) -> None:
        """Raise Django's ``InvalidTask`` for a task that this backend does not take.

        Without the app there is none that it takes. Before the apps are ready nothing is said of that: a task that is
        imported by then brings Django's check of backends with it, which says E020.
        """
        if apps.ready:
            refuse_uninstalled(self.alias)
        try:
            super().validate_task(task)
        except InvalidTask as error:
            raise explained(task, self, error) from None

    # --- enqueue ------------------------------------------------------------------------

    def enqueue(  # type: ignore[override]
        self, task: BaseTask[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> TaskResult[Any]:
        """Insert one job, in the caller's transaction. See ``Task.enqueue``."""
        return self.enqueue_many(task, [(args, kwargs)])[0]

    def enqueue_many(self, task: BaseTask[..., Any], calls: Sequence[Arguments]) -> list[TaskResult[Any]]:
        """Insert many jobs of one task, all or none. Each call is (args, kwargs)."""
        refuse_uninstalled(self.alias)
        self.validate_task(task)
        return enqueue(self, task, calls)

    # --- results ------------------------------------------------------------------------

    def get_result(self, result_id: str) -> TaskResult[Any]:
        """Read a job. Raises ``TaskResultDoesNotExist``, ``UnknownTask``, ``DecodingError``."""
        job = self._job(result_id)
        if job.backend not in task_backends.settings:  # by another name, but here it is
            job.backend = self.alias
        task = resolve(job.task)
        try:
            task = task.with_overrides(json.loads(job.overrides), backend=job.backend)
        except InvalidOption:  # today's code cannot honour them; the job can still be read
            task = task.with_overrides({}, backend=job.backend)
        return from_row(job, self._attempts(job), task)

    async def aget_result(self, result_id: str) -> TaskResult[Any]:
        """See ``get_result``."""
        return await sync_to_async(self.get_result, thread_sensitive=True)(result_id)

    def has_ended(self, result_id: str) -> bool:
        """Whether the job is in a terminal state: one small query."""
        return self._state(result_id).is_terminal

    async def ahas_ended(self, result_id: str) -> bool:
        """See ``has_ended``."""
        return await sync_to_async(self.has_ended, thread_sensitive=True)(result_id)

    # --- acting on jobs -----------------------------------------------------------------

    def cancel(self, result_id: str) -> JobState:
        """Cancel a job: CANCELLED if it was waiting, RUNNING if its body has been asked to stop.

        Raises ``NotCancellable`` if it has ended, ``TaskResultDoesNotExist``.
        """
        job_id = _job_id(result_id)
        alias = self.database
        state = self.store.cancel([job_id]).get(job_id)
        if state is None:
            ended = self._state(result_id).name
            raise NotCancellable(f"job {result_id} has already ended ({ended}): nothing is left to cancel.")
        if state is JobState.CANCELLED:
            after_commit(alias, self._announce_end, result_id)
        else:
            after_commit(alias, wake.announce, alias, [wake.CANCEL])
        return state

    async def acancel(self, result_id: str) -> JobState:
        """See ``cancel``."""
        return await sync_to_async(self.cancel, thread_sensitive=True)(result_id)

    def retry(self, result_id: str) -> None:
        """Bring a job that has ended back to READY, with fresh counters.

        Raises ``NotCancellable`` if it has not ended, ``TaskResultDoesNotExist``.
        """
        job_id = _job_id(result_id)
        if job_id not in self.store.retry([job_id]):
            state = self._state(result_id).name
            raise NotCancellable(
                f"job {result_id} is {state}: only a job that has ended can be retried. "
                "Wait for its end, or cancel it first."
            )
        alias = self.database
        after_commit(alias, wake.announce, alias, [self._job(result_id, "queue").queue])

    async def aretry(self, result_id: str) -> None:
        """See ``retry``."""
        await sync_to_async(self.retry, thread_sensitive=True)(result_id)

    def _announce_end(self, result_id: str) -> None:
        """Send ``task_finished`` for a job that never ran: nobody else will."""
        send(self.get_result(result_id))

    # --- reading rows -------------------------------------------------------------------

    def _job(self, result_id: str, *fields: str) -> Job:
        from ..models import Job  # noqa: PLC0415 - as above

        jobs = Job.objects.using(self.database)
        try:
            return (jobs.only(*fields) if fields else jobs).get(pk=_job_id(result_id))
        except Job.DoesNotExist:
            raise TaskResultDoesNotExist(
                f"No job {result_id} in database {self.database!r} (backend {self.alias!r}). Either the "
                "transaction that enqueued it was rolled back, or has not committed yet; or the job ended long ago and "
                'was deleted, as MEANWHILE["RETENTION"] says.'
            ) from None

    def _state(self, result_id: str) -> JobState:
        return JobState(self._job(result_id, "state").state)

    def _attempts(self, job: Job) -> list[TaskError]:
        """Read the runs without success; a job that has run once, or never, has none to read."""
        from ..models import Attempt  # noqa: PLC0415 - as above

        ran_well = job.state in {JobState.RUNNING, JobState.SUCCESSFUL}
        if job.epoch <= ran_well:
            return []
        rows = Attempt.objects.using(self.database).filter(job_id=job.pk).order_by("epoch")
        return [TaskError.from_row(row) for row in rows]

    # --- checks -------------------------------------------------------------------------

    def check(self, **_: Any) -> list[CheckMessage]:
        """Return what is wrong with this backend's entry in ``TASKS``."""
        return list(check_backend(self))


def _job_id(result_id: str) -> UUID:
    try:
        return UUID(str(result_id))
    except ValueError:
        raise TaskResultDoesNotExist(f"{result_id!r} is no id of a job: pass result.id, a UUID.") from None
