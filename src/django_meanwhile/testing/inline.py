"""A worker of one slot that is the calling thread, on the calling thread's connection.

::

    claim ─▶ CallingThread: prepare ▶ call ▶ outcome ─▶ InlineWorker (ledger): decide ─▶ Completer ─▶ store.finish

What a child process does with threads, pipes and a slot table, in one thread, with the same parts: the
executor's base, the pipeline, ``decide``, the completer, the store. Made by ``jobs`` for one call of ``run_jobs``.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import os
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from asgiref.sync import async_to_sync
from django.db import transaction

from .. import conf
from ..core.errors import TaskTimeout
from ..core.job import WorkerRow
from ..core.outcome import Charged, End, Outcome, decide
from ..core.states import Executor as Kind
from ..core.states import JobState
from ..executors.base import Executor
from ..models import Job
from ..run.pipeline import Call, acall, call, conclude, failed
from ..tasks.finished import send
from ..worker.completer import Completer, Ending
from ..worker.policy import load_result
from ..worker.upkeep import ORPHANED
from . import failures
from .clock import ahead
from .enclosure import Enclosure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from ..core.job import ClaimedJob, Run
    from ..core.outcome import Decision
    from ..run.handle import RunHandle
    from ..store import Store
    from ..tasks.result import TaskResult

LEASE = 3600.0
"""Seconds. It is renewed before each claim; nobody beats for this worker."""


class InlineWorker:
    """See the module. The ledger of its executor. One thread only."""

    def __init__(self, store: Store) -> None:
        self.clock = conf.real_clock()
        self._store = store
        self._completer = Completer(_Savepoints(store))  # type: ignore[arg-type] # all of a store that it uses
        self._slot = CallingThread(self)
        self.id: UUID | None = None
        #: Of the newest run: its outcome, what was written (None: refused), and the exception, if one was raised.
        self.outcome: Outcome | None = None
        self.written: JobState | None = None
        self.exception: BaseException | None = None

    # --- life ---------------------------------------------------------------------------

    def live(self) -> UUID:
        """Make sure of a living row with a lease, and return its id. A worker that was declared dead gets a new one."""
        if self.id is None or self.id not in self._store.renew([self.id], LEASE):
            self.id = uuid4()
            row = WorkerRow(
                id=self.id,
                parent_id=self.id,
                kind="test",
                host=socket.gethostname(),
                pid=os.getpid(),
                queues=(),
                executors=tuple(Kind),
                slots=1,
            )
            self._store.register(row, LEASE)
        return self.id

    def close(self) -> None:
        """Give back what was claimed and not run, and leave no row behind."""
        if self.id is not None:
            given_back = Outcome(end=End.NOT_BEGUN, begun=False)
            if held := self._store.held(self.id):
                self._store.finish([decide(charged, given_back) for charged in held])
            self._store.unregister([self.id])
            self.id = None

    # --- jobs ---------------------------------------------------------------------------

    def claim(self, kind: Kind, queue: str, limit: int, *, suspects: bool) -> list[ClaimedJob]:
        """See ``Store.claim``."""
        return self._store.claim(self.live(), kind, [queue], limit, suspects=suspects)

    def give_back(self, jobs: Sequence[ClaimedJob]) -> None:
        """Release claimed jobs, uncharged."""
        for job in jobs:
            self.ended(job, Outcome(end=End.NOT_BEGUN, begun=False), None)

    def run(self, job: ClaimedJob) -> None:
        """Run a claimed job to its end, and write that."""
        self.outcome = self.written = self.exception = None
        self._slot.run(job)

    def see(self, error: BaseException) -> None:
        """Keep the exception of a failed attempt: it becomes the cause of ``JobFailed``."""
        self.exception = error

    def lose_lease(self) -> None:
        """Let the lease run out and somebody else sweep, as if this worker had been cut off for so long."""
        assert self.id is not None  # noqa: S101 - a job is running
        with ahead([self._store], LEASE + 1):
            self._store.kill([self.id])
            orphans = self._store.orphans()
            written = self._store.finish([decide(orphan, ORPHANED) for orphan in orphans])
        for orphan in orphans:
            self._tell(orphan.run, written.get(orphan.run), Outcome(end=End.NOT_BEGUN), None)
        self._store.unregister([self.id])

    # --- the ledger ---------------------------------------------------------------------

    def begun(self, handle: RunHandle) -> None:
        """See ``Ledger``."""

    def ended(self, job: ClaimedJob, outcome: Outcome, bound: Call | None) -> None:
        """See ``Ledger``."""
        self.outcome = outcome
        charged = Charged.of(job)
        self._completer.add(
            Ending(
                task=job.task,
                charged=charged,
                decision=decide(charged, outcome),
                on_written=partial(self._written, job.run, outcome, bound),
            )
        )
        self._completer.flush()

    def _written(self, run: Run, outcome: Outcome, bound: Call | None, state: JobState | None) -> None:
        self.written = state
        self._tell(run, state, outcome, bound)

    def _tell(self, run: Run, state: JobState | None, outcome: Outcome, bound: Call | None) -> None:
        """Send ``task_finished`` for a terminal state, as a worker's herald does."""
        if state is None or not state.is_terminal:
            return
        result: TaskResult[Any]
        if bound is None:
            result = load_result(_backend_of(self._store.alias, run), run.job_id)
        else:
            result = bound.result.with_outcome(outcome, state)
        send(result)


def _backend_of(alias: str, run: Run) -> str:
    return Job.objects.using(alias).only("backend").get(id=run.job_id).backend


class CallingThread(Executor):
    """One slot, the thread that calls ``run``: it serves every kind of executor."""

    ledger: InlineWorker

    def __init__(self, worker: InlineWorker) -> None:
        super().__init__(Kind.THREAD, 1, worker)

    def start(self) -> None:
        """See ``Executor``. There is nothing to start."""

    def _replace_slot(self) -> None:
        """Nothing can replace the calling thread."""

    def run(self, job: ClaimedJob) -> None:
        """Run one job from its arrival to its handing over."""
        self.submit(job)
        taken = self._take()
        bound = None if taken is None else self._begin(taken)
        if bound is None:
            return
        started = self.ledger.clock.monotonic()
        bound = replace(bound, witness=self.ledger.see)
        # A context of its own, as in a worker: what a body sets in it ends with it.
        outcome = contextvars.Context().run(self._enclosed, bound)
        self._end(bound, outcome, self.ledger.clock.monotonic() - started)

    def _enclosed(self, bound: Call) -> Outcome:
        """Run the body inside the test's transaction, with whatever failure is injected."""
        injection = failures.injection_for(bound)
        enclosure = Enclosure()
        try:
            outcome = _call(bound) if injection is None else failures.perform(injection, bound, _call)
        finally:
            error = enclosure.close()
        if error is not None and outcome.end is End.SUCCEEDED:
            outcome = failed(bound, error)
        if injection is not None and injection.failure.loses_lease:
            self.ledger.lose_lease()
        return outcome


def _call(bound: Call) -> Outcome:
    with _alarm(bound.handle):
        if inspect.iscoroutinefunction(bound.function):
            return async_to_sync(_stoppable)(bound)
        return call(bound)


@contextmanager
def _alarm(handle: RunHandle) -> Iterator[None]:
    """Tell the body when its time is up, as far as one thread can: a flag, and a cancel for a coroutine."""
    if handle.deadline is None:
        yield
        return
    left = handle.deadline - conf.real_clock().monotonic()
    alarm = threading.Timer(max(0.0, left), handle.stop, [TaskTimeout])
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()
        alarm.join()


async def _stoppable(bound: Call) -> Outcome:
    """Run a coroutine so that it can be cancelled. Called with the loop of an async test, or one of its own."""
    loop = asyncio.get_running_loop()
    body = asyncio.ensure_future(acall(bound))
    bound.handle.interrupt_with(functools.partial(loop.call_soon_threadsafe, body.cancel))
    try:
        return await body
    except asyncio.CancelledError as error:  # a body that cancels its own task
        return conclude(bound, error=error)


class _Savepoints:
    """A store whose ``finish`` cannot break the test's transaction when the database refuses a row."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def finish(self, decisions: Sequence[Decision]) -> dict[Run, JobState]:
        """See ``Store``."""
        with transaction.atomic(using=self._store.alias):
            return self._store.finish(decisions)

    def recorded(self, runs: Sequence[Run]) -> dict[Run, JobState]:
        """See ``Store``."""
        return self._store.recorded(runs)
