"""The context of a body that no worker runs: under Django's immediate backend, or ``call()``.

Made by ``Task.call`` and ``Task.acall``, so that code with ``context.progress(…)``
runs in test settings too. Nothing is stored and nobody can stop such a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from ..compat import TaskContext as DjangoTaskContext
from ..compat import TaskResultStatus
from ..core.identifiers import uuid7
from ..core.states import JobState
from .result import TaskResult

if TYPE_CHECKING:
    from .task import Task


@dataclass(frozen=True, kw_only=True)
class InertContext(DjangoTaskContext):  # type: ignore[misc,type-arg] # not generic at run time
    """Same methods as the context of a worker (``run.context``); they do nothing."""

    metadata: Mapping[str, Any]

    @property
    def job_id(self) -> str:
        """The id of the result."""
        return str(self.task_result.id)

    def progress(self, n: float, total: float | None = None, message: str = "") -> None:
        """Go nowhere: there is no row to write to."""

    def raise_if_stopped(self) -> None:
        """Never raise: there is nobody who could ask."""


def inert_for(task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> InertContext:
    """Make the context of a call by hand: a first attempt at a job that is in no database."""
    now = timezone.now()
    result: TaskResult[Any] = TaskResult(
        task=task,
        id=str(uuid7()),
        status=TaskResultStatus.RUNNING,
        state=JobState.RUNNING,
        enqueued_at=now,
        started_at=now,
        finished_at=None,
        last_attempted_at=now,
        args=list(args),
        kwargs=dict(kwargs),
        backend=task.backend,
        errors=[],
        worker_ids=[""],
    )
    return InertContext(task_result=result, metadata=task.metadata)
