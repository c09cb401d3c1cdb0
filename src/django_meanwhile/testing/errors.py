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
    def of(cls, result: TaskResult[Any], results: Sequence[TaskResult[Any]], cause: BaseException | None) -> JobFailed:
        """Make the error; the traceback stands in its text unless a cause will show it."""
        task: Any = result.task
        error = result.errors[-1] if result.errors else None
        traceback = error.traceback if error else ""
        why = (
            _one_line(cause) if cause is not None else error.exception_class_path if error else "no error is on record"
        )
        call = f"{task.registered_name}{describe_call(result.args, result.kwargs)}"
        lines = [
            f"{call} is {result.state.name}: {why}",
            f"  job {result.id}, attempt {result.attempts} of {task.max_attempts}",
        ]
        if cause is None and traceback:
            lines += ["", traceback.rstrip(), ""]
        lines.append("  To look at the result instead, write run_jobs(raise_failures=False).")
        return cls("\n".join(lines), result=result, results=results, traceback=traceback)


class TooManyRuns(MeanwhileError):
    """``run_jobs()`` has run its ``limit`` of jobs, and there are still more."""


class UnusableForTests(MeanwhileError):
    """The project's settings, or the kind of test, do not allow what was asked for."""


MAX_SHOWN = 300
"""Characters of arguments, or of an exception, that a message shows."""


def describe_call(args: Any, kwargs: Any) -> str:
    """Write arguments as a call would."""
    parts = [repr(value) for value in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
    return f"({_short(', '.join(parts))})"


def _one_line(error: BaseException) -> str:
    try:
        return _short(" ".join(f"{type(error).__name__}: {error}".split()))
    except Exception:  # noqa: BLE001 - an exception of the user's whose text cannot be had
        return type(error).__name__


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
