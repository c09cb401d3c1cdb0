"""Sends ``task_finished`` to the project's receivers, from a thread of its own.

After the commit, by the process whose write was accepted, for terminal states
only. A receiver may be slow, query the database or raise: nothing waits for it
but the next receiver, and no outcome changes.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

from .. import logs
from ..compat import TaskResultStatus, task_finished
from ..connections import close_thread_connections, tidy_thread_connections
from ..core.text import summary
from .part import Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tasks.attempts import TaskError
    from ..tasks.result import TaskResult

logger = logs.get_logger("worker")


class Failure(Exception):
    """What ended a job, as text: for receivers that log the exception in force, as the dialect's own does."""

    @classmethod
    def of(cls, error: TaskError) -> Failure:
        """Make it of the last of a result's ``errors``. Its lines cannot pass for records."""
        why = summary(error.exception_class_path, error.traceback)
        return cls(f"{logs.escape(why)}\n{logs.indented(error.traceback)}")


class Herald(Part):
    """See the module."""

    name = "herald"

    def __init__(self) -> None:
        super().__init__()
        self._results: queue.SimpleQueue[Callable[[], TaskResult[Any]] | None] = queue.SimpleQueue()

    def announce(self, make_result: Callable[[], TaskResult[Any]]) -> None:
        """Send ``task_finished`` with the result that ``make_result`` returns, soon."""
        self._results.put(make_result)

    def wake(self) -> None:
        """See ``Part``. What was announced before is sent first."""
        self._results.put(None)

    def run(self) -> None:
        """Send until stopped, and whatever is left then."""
        while not (self.is_stopping and self._results.empty()):
            make_result = self._results.get()
            if make_result is None:
                continue
            try:
                send(make_result())
                tidy_thread_connections()
            except Exception:
                # The database is away, the job was pruned, its task is unknown here: the next one may be fine.
                logger.exception("task_finished could not be sent for a job")
                close_thread_connections()


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
