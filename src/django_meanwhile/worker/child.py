"""A child: the process that claims, runs and finishes jobs.

::

    courier ─claim▶ executors ─begun, ended▶ Child (ledger) ─▶ completer ─▶ courier ─▶ store
    sentinel: pulse, orders, deadlines, fence        herald: task_finished

It writes its own row, but the supervisor beats for it; it heeds no signal but its
supervisor's pipe, and it ends with its supervisor.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from .. import conf, logs
from ..core.errors import LeaseLost
from ..core.job import WorkerRow
from ..core.outcome import Charged, Outcome, decide
from ..executors.loop import LoopExecutor
from ..executors.main import MainThreadExecutor
from ..executors.thread import ThreadExecutor
from ..store import get_store
from . import chronicle
from .channel import Receiver
from .claimer import Claimer
from .completer import Completer, Ending
from .courier import Courier
from .herald import Herald
from .plan import ChildPlan, WorkerPlan
from .policy import load_result
from .sentinel import Sentinel
from .slots import Flag, SlotTable, capacity_for

if TYPE_CHECKING:
    from ..core.job import ClaimedJob
    from ..core.states import JobState
    from ..executors.base import Executor
    from ..run.handle import RunHandle
    from ..run.pipeline import Call
    from .boot import Specification

logger = logs.get_logger("worker")

FAREWELL = 5.0
"""Seconds that receivers of the last signals get when a child ends."""


class Child:
    """See the module. The ledger of its executors."""

    def __init__(self, *, plan: WorkerPlan, child: ChildPlan, row: WorkerRow, table: SlotTable, pipe: int) -> None:
        self.clock = conf.real_clock()
        self._plan = plan
        self._row = row
        self._table = table
        self._main = MainThreadExecutor(self) if child.kind != "shared" else None
        self._executors = self._make_executors(child)
        store = get_store(plan.database)
        self._completer = Completer(store)
        claimer = Claimer(
            store,
            row.id,
            self._executors,
            plan.queues,
            poll=plan.poll,
            clock=self.clock,
            suspects=child.kind == "solo",
            backend=plan.backend,
        )
        claimer.limit_to(1 if child.kind == "solo" else plan.max_tasks)
        self._courier = Courier(
            store=store,
            row=row,
            lease=plan.lease,
            claimer=claimer,
            completer=self._completer,
            executors=self._executors,
            ledger=self,
            table=table,
            clock=self.clock,
            on_registered=self._registered,
            on_failure=partial(os._exit, 1),
        )
        self._herald = Herald()
        self._sentinel = Sentinel(
            receiver=Receiver(pipe),
            table=table,
            clock=self.clock,
            executors=self._executors,
            courier=self._courier,
            claimer=claimer,
            margin=plan.margin,
            stop_grace=plan.stop_grace,
            grace=plan.grace,
        )

    @classmethod
    def build(cls, specification: Specification) -> Child:
        """Make a child of what the supervisor sent."""
        plan = WorkerPlan(**specification["plan"])
        child = ChildPlan(**specification["child"])
        row = WorkerRow(
            id=UUID(specification["worker_id"]),
            parent_id=UUID(specification["parent_id"]),
            kind=child.kind,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=tuple(plan.queues),
            executors=child.executors,
            slots=child.slots,
        )
        table = SlotTable(specification["table"], capacity_for(child.slots))
        return cls(plan=plan, child=child, row=row, table=table, pipe=specification["pipe"])

    def _make_executors(self, child: ChildPlan) -> list[Executor]:
        if self._main is not None:
            return [self._main]
        made: list[Executor] = []
        if child.threads:
            made.append(ThreadExecutor(child.threads, self))
        if child.coroutines:
            made.append(LoopExecutor(child.coroutines, self))
        return made

    # --- life ---------------------------------------------------------------------------

    def serve(self) -> None:
        """Work until drained, then end in good order. Called by the main thread."""
        for executor in self._executors:
            executor.start()
        self._herald.start()
        self._sentinel.start()
        self._courier.start()
        waiter = threading.Thread(target=self._wait_until_done, name="meanwhile-end", daemon=True)
        waiter.start()
        if self._main is not None:
            signal.signal(signal.SIGTERM, self._main.on_signal)
            self._main.serve()
        waiter.join()
        self._courier.stop()
        self._courier.join()
        self._herald.stop()
        self._herald.join(FAREWELL)
        logger.info("child %s ends: nothing left to do", self._row.id)

    def _wait_until_done(self) -> None:
        """Stop the executors once the courier claims no more and nothing is left."""
        self._courier.done.wait()
        for executor in self._executors:
            executor.stop()

    def _registered(self, sent: float) -> None:
        """Arm the fence with the lease that the registration gave, then ask to be beaten for."""
        self._table.fence = sent + self._plan.lease - self._plan.margin
        self._table.raise_flag(Flag.READY)

    # --- the ledger ---------------------------------------------------------------------

    def begun(self, handle: RunHandle) -> None:
        """See ``Ledger``. A claim whose answer came after the fence must not begin."""
        now = self.clock.monotonic()
        if now >= self._table.fence:
            handle.stop(LeaseLost)
        handle.begun_at = now
        self._table.begin(handle.job.run, now, handle.deadline)

    def ended(self, job: ClaimedJob, outcome: Outcome, bound: Call | None) -> None:
        """See ``Ledger``."""
        charged = Charged.of(job)
        seconds = 0.0
        if bound is not None:
            self._table.end(job.run)
            seconds = self.clock.monotonic() - bound.handle.begun_at
        decision = decide(charged, outcome)
        if decision.detail != outcome.detail:  # receivers see what the row will say
            outcome = replace(outcome, detail=decision.detail)
        self._completer.add(
            Ending(
                task=job.task,
                charged=charged,
                decision=decision,
                on_written=partial(self._written, job, outcome, bound, seconds),
            )
        )
        self._courier.poke()

    def _written(
        self, job: ClaimedJob, outcome: Outcome, bound: Call | None, seconds: float, state: JobState | None
    ) -> None:
        """Free the table's entry; tell the log, and the project's receivers of a terminal state."""
        self._table.clear(job.run)
        if state is None:
            return
        chronicle.tell(job, outcome, state, bound.handle if bound else None, seconds)
        if not state.is_terminal:
            return
        if bound is None:  # given back, and cancelled by that
            self._herald.announce(partial(load_result, self._plan.backend, job.id))
        else:
            self._herald.announce(partial(bound.result.with_outcome, outcome, state))
