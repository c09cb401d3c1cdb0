"""Sends ``task_finished`` to the project's receivers, from a thread of its own.

After the commit, by the process whose write was accepted, for terminal states
only. A receiver may be slow, query the database or raise: nothing waits for it
but the next receiver, and no outcome changes.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

from .. import logs
from ..connections import close_thread_connections, tidy_thread_connections
from ..tasks.finished import send
from .part import Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tasks.result import TaskResult

logger = logs.get_logger("worker")


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
