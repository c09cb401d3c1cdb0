"""Concurrency inside a request: threads, coroutines and processes that leak nothing and lose nothing.

Not durable: for work that must survive the process, use ``@task``. The public names, each
imported when it is first used.

::

    context ─▶ what surrounds a call: context variables, language, time zone, URLs, hooks
    budget ──▶ how many connections the threads of this process may hold
    executor ─▶ threads: the context restored, connections clean, nothing lost
      ├─ calls · group · mapping            several calls, and one place where they end
      └─ background                         coroutines that outlive their request
    lock ────▶ one holder across threads, processes and hosts
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..core.errors import (
        ConcurrencyError,
        ConnectionTimeout,
        InsideTransaction,
        LockLost,
        LockTimeout,
        NoLastingLoop,
        NotAllowed,
        ProcessFailed,
        QueueFull,
        SnapshotUnavailable,
        WouldDeadlock,
    )
    from .coroutines.background import background_task_failed, create_task
    from .locks.lock import Lock
    from .maps.mapping import aparallel_map, parallel_map
    from .threads.executor import ThreadPoolExecutor, default_executor
    from .together.calls import aparallel, parallel
    from .together.group import TaskGroup

__all__ = [
    "ConcurrencyError",
    "ConnectionTimeout",
    "InsideTransaction",
    "Lock",
    "LockLost",
    "LockTimeout",
    "NoLastingLoop",
    "NotAllowed",
    "ProcessFailed",
    "QueueFull",
    "SnapshotUnavailable",
    "TaskGroup",
    "ThreadPoolExecutor",
    "WouldDeadlock",
    "aparallel",
    "aparallel_map",
    "background_task_failed",
    "create_task",
    "default_executor",
    "parallel",
    "parallel_map",
]

_HOMES = {
    "Lock": "locks.lock",
    "TaskGroup": "together.group",
    "ThreadPoolExecutor": "threads.executor",
    "aparallel": "together.calls",
    "aparallel_map": "maps.mapping",
    "background_task_failed": "coroutines.background",
    "create_task": "coroutines.background",
    "default_executor": "threads.executor",
    "parallel": "together.calls",
    "parallel_map": "maps.mapping",
}
"""Where a public name lives; all others are errors."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f".{_HOMES[name]}" if name in _HOMES else "..core.errors"
    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(__all__) | set(globals()))
