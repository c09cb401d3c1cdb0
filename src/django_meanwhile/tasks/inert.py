"""The context of a body that no worker runs: under Django's immediate backend, or ``call()``.

Made by ``Task.call`` and ``Task.acall``, so that code with ``context.progress(…)``
runs in test settings too. Nothing is stored and nobody can stop such a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..compat import TaskContext as DjangoTaskContext


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
