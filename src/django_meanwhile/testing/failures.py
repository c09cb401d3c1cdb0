"""Failure injection: what goes wrong in production, at a chosen run of a chosen task.

Each function is a block. Inside it the chosen runs fail, in ``run_jobs()``, through the real retry policy, the real
decision and the real store, so that what the test sees afterwards is what production would. A block in which no run
was reached fails: a test that injects nothing proves nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..core.errors import Interrupted, JobStopped, LeaseLost, TaskTimeout
from ..core.job import Run
from ..core.outcome import Outcome
from ..run.pipeline import Call
from ..worker.slots import Entry
from ..worker.verdict import Cause, Death, judge
from .errors import UnusableForTests
from .naming import names_of

if TYPE_CHECKING:
    from ..run.handle import RunHandle
    from .naming import AnyTask

SIGKILLED = -9


class Failure:
    """What goes wrong. ``strike`` is called in place of the body, or behind it; ``outcome`` has the last word."""

    def check(self, bound: Call) -> None:
        """Raise ``UnusableForTests`` if this cannot happen to such a job."""

    def strike(self, handle: RunHandle) -> None:
        """Raise into the body, or do nothing."""

    def outcome(self, bound: Call, outcome: Outcome) -> Outcome:  # noqa: ARG002 - for those that need it
        """Return what the worker learns, given what the pipeline says."""
        return outcome

    #: Does the run lose its lease before its outcome is written?
    loses_lease = False


@dataclass(frozen=True)
class Raised(Failure):
    """The body raises."""

    exception: BaseException | type[BaseException]

    def strike(self, handle: RunHandle) -> None:  # noqa: ARG002 - as the base
        """See the base."""
        error = self.exception
        raise error if isinstance(error, type) else error.with_traceback(None)


@dataclass(frozen=True)
class Stopped(Failure):
    """The worker tells the body to stop."""

    reason: type[JobStopped]
    loses_lease: bool = False

    def check(self, bound: Call) -> None:
        """See the base."""
        task = bound.handle.task
        if self.reason is TaskTimeout and task.timeout is None:
            raise UnusableForTests(
                f"time_out_task(): {task.registered_name} has no timeout, so it cannot overrun one. "
                "Write @task(timeout=...), or .using(timeout=...) where it is enqueued."
            )

    def strike(self, handle: RunHandle) -> None:
        """See the base."""
        handle.stop(self.reason)
        handle.raise_if_stopped()


@dataclass(frozen=True)
class LostLease(Failure):
    """The worker is cut off: its lease runs out, its jobs are taken over, what it writes is refused."""

    loses_lease = True

    def strike(self, handle: RunHandle) -> None:
        """Let the body go on: it cannot know yet."""


class _ProcessGone(BaseException):
    """Ends the body where its process would have died. Never leaves this module's ``perform``."""


@dataclass(frozen=True)
class Crashed(Failure):
    """The process that runs the body dies, as by SIGKILL or the kernel's out-of-memory killer."""

    alone: bool

    def strike(self, handle: RunHandle) -> None:  # noqa: ARG002 - as the base
        """See the base."""
        raise _ProcessGone

    def outcome(self, bound: Call, outcome: Outcome) -> Outcome:  # noqa: ARG002 - whatever it was, it is lost
        """Return what a supervisor would conclude from the death of its child."""
        handle = bound.handle
        runs = [handle.job.run] if self.alone else [handle.job.run, Run(UUID(int=0), 0)]
        entries = tuple(
            Entry(run=run, ended=False, begun=0.0, deadline=handle.deadline or float("inf")) for run in runs
        )
        return judge(Death(cause=Cause.ITSELF, status=SIGKILLED, at=0.0, entries=entries), handle.job.run)


@dataclass(eq=False)
class Injection:
    """A failure and the runs that it strikes. What the blocks of this module yield."""

    what: str
    names: frozenset[str]
    failure: Failure
    run: int
    times: int
    after_body: bool
    #: How many runs were struck so far.
    strikes: int = 0

    def hits(self, bound: Call) -> bool:
        """Whether this run is one of the chosen."""
        job = bound.handle.job
        number = job.attempts + job.crashes + job.interruptions  # every begun run is counted in one of them
        return job.task in self.names and self.run <= number < self.run + self.times


_active: list[Injection] = []


def injection_for(bound: Call) -> Injection | None:
    """Return the innermost block that strikes this run."""
    return next((injection for injection in reversed(_active) if injection.hits(bound)), None)


def perform(injection: Injection, bound: Call, call: Callable[[Call], Outcome]) -> Outcome:
    """Run ``bound`` with the failure in it, by ``call``."""
    injection.failure.check(bound)
    injection.strikes += 1
    witness = bound.witness

    def look(error: BaseException) -> None:
        if witness is not None and not isinstance(error, _ProcessGone):
            witness(error)

    rigged = Rigged.of(replace(bound, witness=look), injection)
    return injection.failure.outcome(bound, call(rigged))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rigged(Call):
    """A call whose body is struck."""

    injection: Injection

    @classmethod
    def of(cls, bound: Call, injection: Injection) -> Rigged:
        """Rig a call."""
        return cls(
            handle=bound.handle,
            args=bound.args,
            kwargs=bound.kwargs,
            result=bound.result,
            witness=bound.witness,
            injection=injection,
        )

    @property
    def function(self) -> Callable[..., Any]:
        """The body, struck before or behind; of the same colour as the original."""
        body = self.handle.task.func
        failure, handle, runs = self.injection.failure, self.handle, self.injection.after_body

        async def struck_async(*args: Any, **kwargs: Any) -> Any:
            value = await body(*args, **kwargs) if runs else None
            failure.strike(handle)
            return value

        def struck(*args: Any, **kwargs: Any) -> Any:
            value = body(*args, **kwargs) if runs else None
            failure.strike(handle)
            return value

        return struck_async if inspect.iscoroutinefunction(body) else struck


# --- what users write -----------------------------------------------------------------------


@contextmanager
def _injecting(
    what: str, task: AnyTask, failure: Failure, *, run: int, times: int, after_body: bool
) -> Iterator[Injection]:
    for name, value in (("run", run), ("times", times)):
        if value < 1:
            raise ValueError(f"{what}({name}={value!r}): must be 1 or more.")
    injection = Injection(what, names_of(task), failure, run, times, after_body)
    _active.append(injection)
    try:
        yield injection
    finally:
        _active.remove(injection)
    if not injection.strikes:
        raise AssertionError(
            f"{what}({min(injection.names)}, run={run}, times={times}): no run was struck. Inside the block, call "
            "run_jobs() with such a job in the queue; a retry that waits for its time needs run_jobs(travel=True)."
        )


def fail_task(
    task: AnyTask,
    exception: BaseException | type[BaseException] = RuntimeError("injected by fail_task()"),  # noqa: B008 - never mutated
    *,
    run: int = 1,
    times: int = 1,
    after_body: bool = False,
) -> AbstractContextManager[Injection]:
    """Let ``times`` runs of each job of ``task`` raise ``exception``, from its ``run``-th on.

    With ``after_body`` the body runs first: its effects are there, its return value is not.
    """
    return _injecting("fail_task", task, Raised(exception), run=run, times=times, after_body=after_body)


def crash_task(
    task: AnyTask, *, run: int = 1, times: int = 1, after_body: bool = False, alone: bool = True
) -> AbstractContextManager[Injection]:
    """Let the process that runs the job die. ``alone=False``: other jobs ran in it as well.

    ``on_crash`` decides what follows; three deaths alone quarantine the job.
    """
    return _injecting("crash_task", task, Crashed(alone), run=run, times=times, after_body=after_body)


def interrupt_task(
    task: AnyTask, *, run: int = 1, times: int = 1, after_body: bool = False
) -> AbstractContextManager[Injection]:
    """Let the worker take the run away, as a deploy does. Nothing is charged; ``on_crash`` decides what follows."""
    return _injecting("interrupt_task", task, Stopped(Interrupted), run=run, times=times, after_body=after_body)


def time_out_task(
    task: AnyTask, *, run: int = 1, times: int = 1, after_body: bool = False
) -> AbstractContextManager[Injection]:
    """Let the run overrun the task's timeout, without waiting for it. A failed attempt: ``TaskTimeout``."""
    return _injecting("time_out_task", task, Stopped(TaskTimeout), run=run, times=times, after_body=after_body)


def lose_lease(
    task: AnyTask, *, run: int = 1, times: int = 1, after_body: bool = True
) -> AbstractContextManager[Injection]:
    """Let the worker lose its lease during the run: another takes the job over, and this outcome is refused.

    The body runs to its end, since it cannot know; with ``after_body=False`` it hears of it at once.
    """
    failure = LostLease() if after_body else Stopped(LeaseLost, loses_lease=True)
    return _injecting("lose_lease", task, failure, run=run, times=times, after_body=after_body)
