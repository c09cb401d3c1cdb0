"""What somebody must do for the whole queue, done by every supervisor a little.

::

    settle    jobs of our own dead children: released, failed or quarantined
    cancels   tell the bodies whose cancel was requested
    promote   SCHEDULED ▶ READY, once due
    sweep     kill expired workers, rescue the jobs of dead and missing ones
    prune     delete old history, in small batches

All of it is idempotent and fenced, so any number of supervisors may do it at
once. A thread and a connection of its own; when the database is away, it tries
again and forgets nothing.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from django.db import Error

from .. import logs
from ..connections import reset_service_connection, use_service_connection
from ..core.outcome import Decision, End, Outcome, decide
from ..core.states import JobState
from .judge import Judge
from .part import Part
from .policy import load_result, retry_of_overdue
from .verdict import Death, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from ..conf import Retention
    from ..core.clock import Clock
    from ..core.job import Run
    from ..core.outcome import Charged
    from ..store.contract import Store
    from .beat import Beat
    from .herald import Herald
    from .offspring import Offspring
    from .plan import WorkerPlan

logger = logs.get_logger("worker")

TICK = 0.25
CANCELS_EVERY = 0.5
PROMOTE_EVERY = 0.5
EMPTY_EVERY = 0.5
PRUNE_EVERY = 60.0
PRUNE_BATCHES = 20
"""Batches of one round of pruning and state: history shrinks without a long lock."""

DEAD_WORKERS_KEPT = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """A dead child whose jobs are to be settled."""

    worker_id: UUID
    death: Death


class Upkeep(Part):
    """See the module. ``_lock`` guards ``_estates``."""

    name = "upkeep"

    def __init__(
        self,
        plan: WorkerPlan,
        *,
        retention: Retention,
        store: Store,
        clock: Clock,
        beat: Beat,
        herald: Herald,
        children: Callable[[], Iterable[Offspring]],
    ) -> None:
        super().__init__()
        self._plan = plan
        self._retention = retention
        self._store = store
        self._clock = clock
        self._herald = herald
        self._children = children
        self._judge = Judge(beat, lease=plan.lease, one_writer=store.one_writer)
        self._lock = threading.Lock()
        self._estates: deque[Estate] = deque()
        self._poked = threading.Event()
        #: READY suspects that no child runs yet, as of the last sweep.
        self.suspects = 0
        #: Whether nothing was due when last looked at; for ``--drain``.
        self.queue_is_empty = False
        self._duties = (
            Duty(self._relay_cancels, CANCELS_EVERY),
            Duty(self._promote, PROMOTE_EVERY),
            Duty(self._sweep, plan.sweep),
            Duty(self._prune, PRUNE_EVERY),
            *([Duty(self._look_if_empty, EMPTY_EVERY)] if plan.drain else []),
        )

    # --- from other threads -------------------------------------------------------------

    def settle(self, estate: Estate) -> None:
        """Release or end the jobs of a child that is certainly dead, as soon as possible."""
        with self._lock:
            self._estates.append(estate)
        self._poked.set()

    @property
    def unsettled(self) -> int:
        """How many dead children still have jobs in their name."""
        with self._lock:
            return len(self._estates)

    def look_for_cancels(self) -> None:
        """Say that a cancel was requested somewhere."""
        self._duties[0].due = 0.0
        self._poked.set()

    def wake(self) -> None:
        """See ``Part``."""
        self._poked.set()

    # --- the thread ---------------------------------------------------------------------

    def run(self) -> None:
        """Do what is due until stopped."""
        use_service_connection(self._store.alias, self._store.connection_options())
        failing = False
        while not self.is_stopping:
            try:
                self.round()
                failing = False
            except Error as error:
                log = logger.debug if failing else logger.warning
                log("upkeep: %s: %s; trying again", type(error).__name__, error)
                failing = True
                reset_service_connection(self._store.alias)
            self._poked.wait(TICK)
            self._poked.clear()

    def round(self) -> None:
        """Settle, then run each duty whose time has come."""
        self._settle()
        now = self._clock.monotonic()
        for duty in self._duties:
            if now >= duty.due:
                duty.work()
                duty.due = self._clock.monotonic() + duty.every

    def _settle(self) -> None:
        while True:
            with self._lock:
                if not self._estates:
                    return
                estate = self._estates[0]
            self._settle_one(estate)
            with self._lock:
                self._estates.popleft()

    def _settle_one(self, estate: Estate) -> None:
        self._store.bury([estate.worker_id])
        while held := self._store.held(estate.worker_id):
            self._finish(held, [self._verdict(estate.death, charged) for charged in held], "settled")
        self._store.unregister([estate.worker_id])
        self._poke_children()

    def _verdict(self, death: Death, charged: Charged) -> Decision:
        outcome = judge(death, charged.run)
        if outcome.end is End.FAILED:
            outcome = retry_of_overdue(self._store.alias, self._plan.backend, charged.run, outcome)
        return decide(charged, outcome)

    def _relay_cancels(self) -> None:
        children = {child.worker_id: child for child in self._children()}
        if not children:
            return
        requested: dict[UUID, set[Run]] = {worker_id: set() for worker_id in children}
        for worker_id, run in self._store.cancel_requests(children):
            requested[worker_id].add(run)
        for worker_id, runs in requested.items():
            # Every time, while it stands: the body may not have begun when it was first said.
            children[worker_id].cancel(runs)

    def _promote(self) -> None:
        if self._store.promote():
            self._poke_children()

    def _sweep(self) -> None:
        condemned = self._judge.condemned(self._store.leases())
        killed = self._store.kill(condemned) if condemned else set()
        for worker_id in killed:
            logger.warning("worker %s is dead: its lease ran out", worker_id)
        while orphans := self._store.orphans():
            decisions = [decide(orphan, ORPHANED) for orphan in orphans]
            if not self._finish(orphans, decisions, "rescued"):
                break  # another sweeper was faster
        self.suspects = self._store.suspects(self._plan.queues, 10)

    def _look_if_empty(self) -> None:
        queues, executors = self._plan.queues, self._plan.executors
        self.queue_is_empty = not any(
            (depth.ready and depth.executor in executors) or depth.running or depth.suspects
            for depth in self._store.depths(limit=1)
            if not queues or depth.queue in queues
        )

    def _prune(self) -> None:
        for state in (
            JobState.SUCCESSFUL, JobState.FAILED, JobState.CANCELLED, JobState.QUARANTINED,
        ):  # fmt: skip
            age = getattr(self._retention, state.name.lower())
            if age is None:
                continue
            for _ in range(PRUNE_BATCHES):
                if self.is_stopping or not self._store.prune(state, age):
                    break
        self._store.prune_workers(DEAD_WORKERS_KEPT)

    # --- shared -------------------------------------------------------------------------

    def _finish(self, jobs: list[Charged], decisions: list[Decision], verb: str) -> dict[Run, JobState]:
        """Write a decision for each job that nobody runs any more; tell of the endings."""
        written = self._store.finish(decisions)
        for job in jobs:
            state = written.get(job.run)
            if state is None:
                continue
            log = logs.for_job(logger, job.run.job_id, job.task)
            level = logging.WARNING if state.is_terminal else logging.INFO
            log.log(level, "%s after run %d: %s", verb, job.run.epoch, state.name)
            if state.is_terminal:
                self._herald.announce(partial(load_result, self._plan.backend, job.run.job_id))
        return written

    def _poke_children(self) -> None:
        for child in self._children():
            child.send({"op": "wake"})


@dataclass(slots=True)
class Duty:
    """Something to do every so many seconds; ``due`` is monotonic."""

    work: Callable[[], None]
    every: float
    due: float = 0.0


ORPHANED = Outcome(
    end=End.SHARED_DEATH,
    detail="The worker that ran this job stopped renewing its lease: its host, or all of "
    "its processes, died or were cut off.",
)
"""A worker is gone with all that it ran. Alone in its child or not, a job was not alone in that."""
