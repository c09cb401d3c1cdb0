"""What the tools of this package raise, apart from ``AssertionError``.

::

    MeanwhileError
    ├── JobFailed            a job that run_jobs() ran came to a bad end
    ├── TooManyRuns          run_jobs() did not come to an end
    └── UnusableForTests     settings or database do not allow what was asked for
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.errors import MeanwhileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..tasks.result import TaskResult


class JobFailed(MeanwhileError):
    """A job that ``run_jobs()`` ran ended FAILED or QUARANTINED.

    ``result`` is the job, ``traceback`` the text that was stored; the cause is the exception
    itself, if one was raised in this process. ``results`` are all jobs that ran, this one last.
    """

    # One positional argument, the message: Django's parallel runner pickles what a test raised.
    def __init__(
        self,
        message: str,
        *,
        result: TaskResult[Any] | None = None,
        results: Sequence[TaskResult[Any]] = (),
        traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.result = result
        self.results = list(results)
        self.traceback = traceback

    @classmethod
    def of(cls, result: TaskResult[Any], results: Sequence[TaskResult[Any]], *, has_cause: bool) -> JobFailed:
        """Make the error; the traceback stands in its text unless a cause will show it."""
        task: Any = result.task
        error = result.errors[-1] if result.errors else None
        name = error.exception_class_path if error else "no error was recorded"
        traceback = error.traceback if error else ""
        call = describe_call(result.args, result.kwargs)
        lines = [
            f"job {result.id} of {task.registered_name} is {result.state.name}: {name}",
            f"  in attempt {result.attempts} of {task.max_attempts}, enqueued with {call}",
        ]
        if not has_cause and traceback:
            lines += ["", traceback.rstrip(), ""]
        lines.append("  To look at the result instead, write run_jobs(raise_failures=False).")
        return cls("\n".join(lines), result=result, results=results, traceback=traceback)


class TooManyRuns(MeanwhileError):
    """``run_jobs()`` has run its ``limit`` of jobs, and there are still more."""


class UnusableForTests(MeanwhileError):
    """The project's settings, or the kind of test, do not allow what was asked for."""


def describe_call(args: Any, kwargs: Any) -> str:
    """Write arguments as a call would."""
    parts = [repr(value) for value in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
    return f"({', '.join(parts)})"
