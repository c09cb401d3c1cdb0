"""What a body with ``takes_context=True`` receives as its first argument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..compat import TaskContext as DjangoTaskContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .handle import RunHandle


@dataclass(frozen=True, kw_only=True)
class TaskContext(DjangoTaskContext):  # type: ignore[misc,type-arg] # not generic at run time
    """Django's context (``task_result``, ``attempt``), and a line to the worker."""

    handle: RunHandle

    @property
    def job_id(self) -> str:
        """The id of the job, as in ``result.id``."""
        return str(self.handle.job.id)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The task's ``metadata``, with what ``using()`` gave for this job."""
        return self.handle.task.metadata

    def progress(self, n: float, total: float | None = None, message: str = "") -> None:
        """Report that ``n`` of ``total`` is done. Cheap: call it in every iteration.

        Only the newest value is kept; it is written at most once a second, and with
        the outcome. Raises as ``raise_if_stopped`` does, and ``EncodingError`` for
        anything but finite numbers.
        """
        self.handle.set_progress(n, total, message)
        self.handle.raise_if_stopped()

    def raise_if_stopped(self) -> None:
        """Raise ``Cancelled``, ``TaskTimeout``, ``Interrupted`` or ``LeaseLost``, if due.

        Clean up in a ``finally`` and let it pass: the worker records what it means.
        """
        self.handle.raise_if_stopped()
