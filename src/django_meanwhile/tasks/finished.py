"""Sends ``task_finished``, as the dialect's receivers expect it.

Called by whoever wrote the end of a job: the worker's herald, a cancel of what had not begun, ``run_jobs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import logs
from ..compat import TaskResultStatus, task_finished
from ..core.text import summary

if TYPE_CHECKING:
    from .attempts import TaskError
    from .result import TaskResult


class Failure(Exception):
    """What ended a job, as text: for receivers that log the exception in force, as the dialect's own does."""

    @classmethod
    def of(cls, error: TaskError) -> Failure:
        """Make it of the last of a result's ``errors``. Its lines cannot pass for records."""
        why = summary(error.exception_class_path, error.traceback)
        return cls(f"{logs.escape(why)}\n{logs.indented(error.traceback)}")


def send(result: TaskResult[Any]) -> None:
    """Send ``task_finished``. For a failure with its error in force, where the dialect's backends have it, too.

    The body's exception is gone by now. Without one, a receiver that logs
    ``sys.exc_info()`` has nothing, or ``NoneType: None``, in place of a traceback.
    """
    sender = type(result.task.get_backend())
    if result.status != TaskResultStatus.FAILED or not result.errors:
        task_finished.send_robust(sender=sender, task_result=result)
        return
    try:
        raise Failure.of(result.errors[-1])
    except Failure as failure:
        failure.__traceback__ = None  # our own frame says nothing, and trackers would group all failures by it
        task_finished.send_robust(sender=sender, task_result=result)
