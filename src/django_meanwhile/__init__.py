"""The concurrency layer for Django: the response goes out; meanwhile, the work goes on.

The public names, each imported when it is first used: importing this package imports
no Django, so that it can stand in ``INSTALLED_APPS`` and in a module of tasks alike.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.errors import (
        Cancelled,
        ContextError,
        Crashed,
        DecodingError,
        EncodingError,
        Interrupted,
        InvalidOption,
        LeaseLost,
        MeanwhileError,
        NotCancellable,
        Quarantined,
        ResultTimeout,
        Retry,
        TaskTimeout,
        TransactionMismatch,
        UnknownTask,
    )
    from .core.retry import ExponentialBackoff
    from .core.states import JobState
    from .run.context import TaskContext
    from .tasks.decorator import task
    from .tasks.result import TaskResult
    from .tasks.task import Task

__version__ = "0.1.0"

__all__ = [
    "Cancelled",
    "ContextError",
    "Crashed",
    "DecodingError",
    "EncodingError",
    "ExponentialBackoff",
    "Interrupted",
    "InvalidOption",
    "JobState",
    "LeaseLost",
    "MeanwhileError",
    "NotCancellable",
    "Quarantined",
    "ResultTimeout",
    "Retry",
    "Task",
    "TaskContext",
    "TaskResult",
    "TaskTimeout",
    "TransactionMismatch",
    "UnknownTask",
    "task",
]

_HOMES = {
    "ExponentialBackoff": "core.retry",
    "JobState": "core.states",
    "Task": "tasks.task",
    "TaskContext": "run.context",
    "TaskResult": "tasks.result",
    "task": "tasks.decorator",
}
"""Where a public name lives; all others are errors."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        if not name.startswith("_") and name in import_module(".concurrent", __name__).__all__:
            # Not an AttributeError, which "from ... import" swallows together with its text.
            raise ImportError(f"{name} is not in {__name__}. Write: from {__name__}.concurrent import {name}")
        msg = f"module {__name__!r} has no attribute {name!r}"
        if name == "DatabaseBackend":
            msg += f'. Write in TASKS: "BACKEND": "{__name__}.backends.DatabaseBackend"'
        raise AttributeError(msg)
    value = getattr(import_module(f".{_HOMES.get(name, 'core.errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(__all__) | set(globals()))
