"""One job to one outcome, as named steps: resolve, bind, call, conclude.

``prepare`` turns a claimed job into a :class:`RunHandle` with everything the call
needs, or says at once why there is nothing to call. ``call`` / ``acall`` run the
body in its surroundings. Both end in ``conclude``, which is the only place that
turns a value or an exception into an :class:`Outcome`. Called by executors; it
never touches the queue's tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import logs
from ..compat import TaskResultStatus, backend_class, task_started
from ..core.clock import Clock
from ..core.codec import decode_arguments, encode_result
from ..core.errors import (
    Cancelled,
    DecodingError,
    EncodingError,
    Interrupted,
    InvalidOption,
    JobStopped,
    LeaseLost,
    TaskTimeout,
    UnknownTask,
)
from ..core.outcome import End, Outcome
from ..core.retry import retry_delay
from ..core.text import class_path, clip, describe
from ..surroundings import decode_names, restored, restored_hooks
from ..tasks.registry import resolve
from ..tasks.result import from_claim
from .context import TaskContext
from .handle import RunHandle

if TYPE_CHECKING:
    from ..core.job import ClaimedJob
    from ..tasks.task import Task

logger = logs.get_logger("jobs")

UNKNOWN_TASK_FIRST = 2.0
UNKNOWN_TASK_LAST = 600.0
"""Seconds until a job whose task this code does not know is looked at again.

The first look is soon: most likely the code is just being reloaded, or deployed.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A bound call: everything that the body needs, and the handle of its run."""

    handle: RunHandle
    args: list[Any]
    kwargs: dict[str, Any]
    result: Any
    #: Shown the exception of a failed attempt. For ``testing``: a worker keeps no traceback, and so no locals, alive.
    witness: Callable[[BaseException], object] | None = None

    @property
    def function(self) -> Callable[..., Any]:
        """The user's function."""
        return self.handle.task.func

    @property
    def arguments(self) -> list[Any]:
        """Positional arguments, the context first where the task takes it."""
        if not self.handle.task.takes_context:
            return self.args
        context = TaskContext(task_result=self.result, handle=self.handle)
        return [context, *self.args]


def prepare(job: ClaimedJob, clock: Clock) -> Call | Outcome:
    """Resolve the task and bind the stored arguments to it.

    An unknown name and a route that today's code has changed give the job back
    uncharged; arguments that cannot be read back are a failed attempt.
    """
    try:
        overrides = decode_names(job.overrides, "overrides")
        task = resolve(job.task).with_overrides(overrides)
    except UnknownTask as error:
        return _unknown(job, error)
    except (DecodingError, InvalidOption) as error:
        return Outcome(end=End.FAILED, exception=class_path(error), detail=str(error), begun=False)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a tasks module of the user's that does not import
        return _unknown(job, error)
    moved = _moved(job, task, overrides)
    if moved is not None:
        return moved
    try:
        args, kwargs = decode_arguments(job.arguments)
    except DecodingError as error:
        return Outcome(end=End.FAILED, exception=class_path(error), detail=str(error), begun=False)
    deadline = None if task.timeout is None else clock.monotonic() + task.timeout
    handle = RunHandle(job, task, deadline)
    if job.cancel_requested:
        handle.stop(Cancelled)
    result = from_claim(job, task, args=args, kwargs=kwargs, status=TaskResultStatus.RUNNING)
    return Call(handle=handle, args=args, kwargs=kwargs, result=result)


def call(bound: Call, gate: Gate | None = None) -> Outcome:
    """Run a ``def`` body to its outcome, in the calling thread.

    ``gate`` is open exactly while the body runs: only then may a signal handler
    raise into this thread.
    """
    handle = bound.handle
    gate = gate or Gate()
    try:
        with restored(handle.job.context) as hooks:
            try:
                with restored_hooks(hooks, handle.label):
                    _announce(bound)
                    try:
                        try:
                            handle.raise_if_stopped()
                            gate.open(handle)
                            value = bound.function(*bound.arguments, **bound.kwargs)
                        finally:
                            gate.close()
                    finally:
                        gate.close()  # a signal may have come just before it was closed
                        handle.end()
            except BaseException as error:  # noqa: BLE001 - SystemExit and MemoryError are failed attempts
                handle.end()
                return conclude(bound, error=error)
            return conclude(bound, value=value)
    except BaseException as error:  # noqa: BLE001 - see _around
        gate.close()
        return _around(bound, error)


async def acall(bound: Call) -> Outcome:
    """Run an ``async def`` body to its outcome, in the calling asyncio task."""
    handle = bound.handle
    try:
        with restored(handle.job.context) as hooks:
            try:
                with restored_hooks(hooks, handle.label):
                    _announce(bound)
                    try:
                        handle.raise_if_stopped()
                        value = await bound.function(*bound.arguments, **bound.kwargs)
                    finally:
                        handle.end()
            except BaseException as error:  # noqa: BLE001 - as above
                handle.end()
                return conclude(bound, error=error)
            return conclude(bound, value=value)
    except BaseException as error:  # noqa: BLE001 - see _around
        return _around(bound, error)


def _around(bound: Call, error: BaseException) -> Outcome:
    """Fail the attempt for what went wrong around the body, so that the slot that runs it lives on.

    A time zone that this host does not know, a receiver that exits, no memory left.
    """
    bound.handle.end()
    try:
        return failed(bound, error)
    except BaseException:  # noqa: BLE001 - still no memory
        return Outcome(end=End.FAILED, exception=class_path(error))


class Gate:
    """Whether a body runs in this thread right now. Used by signal handlers of the same thread."""

    def __init__(self) -> None:
        self.handle: RunHandle | None = None

    def open(self, handle: RunHandle) -> None:
        """Let signals through to the body of ``handle``."""
        self.handle = handle
        handle.raise_if_stopped()

    def close(self) -> None:
        """Keep signals away: what runs from here on is ours."""
        self.handle = None


def conclude(bound: Call, *, value: Any = None, error: BaseException | None = None) -> Outcome:
    """Turn what the body did into an outcome."""
    handle = bound.handle
    reason = handle.stop_reason
    if error is None and reason is TaskTimeout:
        error = TaskTimeout(f"{handle.describe(TaskTimeout)}; it returned in the end, but too late to count")
    if error is None:
        return _succeeded(bound, value)
    if isinstance(error, asyncio.CancelledError) and reason is not None:
        stopped = reason(handle.describe(reason))
        stopped.__cause__ = error
        error = stopped
    if isinstance(error, Cancelled) and reason is Cancelled:
        return _stopped(handle, End.CANCELLED, error)
    if isinstance(error, Interrupted | LeaseLost) and reason in (Interrupted, LeaseLost):
        return _stopped(handle, End.INTERRUPTED, error)
    return failed(bound, error)


def failed(bound: Call, error: BaseException) -> Outcome:
    """Make a failed attempt of ``error`` and ask the retry policy what follows."""
    handle = bound.handle
    task = handle.task
    _show(bound, error)
    verdict = retry_delay(
        attempts=handle.job.attempts,
        max_attempts=task.max_attempts,
        backoff=task.backoff,
        retry_on=task.retry_on,
        dont_retry=task.dont_retry,
        exception=error,
        result=bound.result,
    )
    detail = describe(error, skip=0 if isinstance(error, JobStopped) else 1)
    return Outcome(
        end=End.FAILED,
        progress=handle.progress,
        exception=class_path(error),
        detail=clip(f"{detail}\n{verdict.note}" if verdict.note else detail),
        retry_in=verdict.delay,
    )


def _show(bound: Call, error: BaseException) -> None:
    if bound.witness is not None:
        bound.witness(error)


def _succeeded(bound: Call, value: Any) -> Outcome:
    """Encode the return value. A body that ran to its end is not repeated because of it."""
    handle = bound.handle
    try:
        result = encode_result(value, task=handle.job.task)
    except Exception as error:  # noqa: BLE001 - EncodingError, or no memory for a huge one
        _show(bound, error)
        why = str(error) if isinstance(error, EncodingError) else describe(error)
        return Outcome(
            end=End.FAILED,
            progress=handle.progress,
            exception=class_path(error),
            detail=f"{why}\nThe body ran to its end; its return value could not be stored.",
        )
    return Outcome(end=End.SUCCEEDED, result=result, progress=handle.progress)


def _stopped(handle: RunHandle, end: End, error: BaseException) -> Outcome:
    return Outcome(end=end, progress=handle.progress, exception=class_path(error), detail=describe(error))


def _unknown(job: ClaimedJob, error: BaseException) -> Outcome:
    """Give back a job of a task that this code does not have, for twice as long each time.

    Its age is the counter: the delay grows with it, and nothing is charged.
    """
    age = (job.attempted_at - job.enqueued_at).total_seconds()
    delay = min(max(age, UNKNOWN_TASK_FIRST), UNKNOWN_TASK_LAST)
    logs.for_job(logger, job.id, job.task).warning("%s; looked at again in %.0f s", str(error).rstrip("."), delay)
    return Outcome(end=End.NOT_BEGUN, retry_in=delay, begun=False)


def _moved(job: ClaimedJob, task: Task[..., Any], overrides: dict[str, Any]) -> Outcome | None:
    """Re-route a job that today's code sends elsewhere, unless its caller chose the route."""
    executor = None if "executor" in overrides or task.executor == job.executor else task.executor
    queue = None if "queue_name" in overrides or task.queue_name == job.queue else task.queue_name
    if executor is None and queue is None:
        return None
    logs.for_job(logger, job.id, job.task).info(
        "re-routed from queue %r, executor %r to queue %r, executor %r: the task's code has changed",
        job.queue, job.executor, queue or job.queue, executor or job.executor,
    )  # fmt: skip
    return Outcome(end=End.NOT_BEGUN, executor=executor, queue=queue, begun=False)


def _announce(bound: Call) -> None:
    """Send ``task_started``. A receiver that raises is logged by Django and changes nothing."""
    if task_started.has_listeners(None):
        sender = backend_class(bound.result.task.backend)
        task_started.send_robust(sender=sender, task_result=bound.result)
