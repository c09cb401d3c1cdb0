"""For the tests of projects that enqueue: what was enqueued, and what becomes of it.

::

    assert_enqueued, capture_enqueued     is it queued, with these arguments?          enqueued
    run_jobs, arun_jobs                   run what is queued, here, on this connection  jobs
    travel                                later, without waiting                        travel
    fail_task, crash_task, ...            what goes wrong in production                 failures
    run_background_tasks                  wait for coroutines of create_task()          background
    running_worker                        a real worker, on the test's database         worker
    conformance                           what a backend must do, as tests for yours

They work in ``TestCase``, ``TransactionTestCase`` and pytest (``plugin`` has the fixtures). Each name is imported when
it is first used, so that this package can be imported before Django has settings. Nothing in here is for production.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .background import run_background_tasks
    from .clock import travel
    from .enqueued import (
        aassert_enqueued,
        aassert_not_enqueued,
        assert_enqueued,
        assert_not_enqueued,
        capture_enqueued,
    )
    from .errors import JobFailed, TooManyRuns, UnusableForTests
    from .failures import crash_task, fail_task, interrupt_task, lose_lease, time_out_task
    from .jobs import arun_jobs, run_jobs
    from .worker import RunningWorker, running_worker

_HOMES = {
    "JobFailed": "errors",
    "RunningWorker": "worker",
    "TooManyRuns": "errors",
    "UnusableForTests": "errors",
    "aassert_enqueued": "enqueued",
    "aassert_not_enqueued": "enqueued",
    "arun_jobs": "jobs",
    "assert_enqueued": "enqueued",
    "assert_not_enqueued": "enqueued",
    "capture_enqueued": "enqueued",
    "crash_task": "failures",
    "fail_task": "failures",
    "interrupt_task": "failures",
    "lose_lease": "failures",
    "run_background_tasks": "background",
    "run_jobs": "jobs",
    "running_worker": "worker",
    "time_out_task": "failures",
    "travel": "clock",
}

__all__ = [
    "JobFailed",
    "RunningWorker",
    "TooManyRuns",
    "UnusableForTests",
    "aassert_enqueued",
    "aassert_not_enqueued",
    "arun_jobs",
    "assert_enqueued",
    "assert_not_enqueued",
    "capture_enqueued",
    "crash_task",
    "fail_task",
    "interrupt_task",
    "lose_lease",
    "run_background_tasks",
    "run_jobs",
    "running_worker",
    "time_out_task",
    "travel",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(__all__) | set(globals()))
