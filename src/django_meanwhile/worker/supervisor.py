"""The supervisor: spawns children, watches them, ends them, and sees to their jobs.

::

    main thread   spawn · reap · deadlines · pulse · fence · drain
    beat          renews every child's lease
    upkeep        settles dead children's jobs, sweeps, promotes, prunes, relays cancels
    listener      wake-ups
    herald        task_finished for outcomes that are written here

It runs no job. It writes outcomes only for children that are certainly dead, and
for orphans of others. It is the last enforcer of deadlines, because a child whose
body holds the GIL cannot enforce its own.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from django.db import Error

from .. import conf, logs
from ..connections import close_thread_connections, prepare_process
from ..store import get_store
from ..tasks.registry import autodiscover
from ..ties import describe_status
from .beat import Beat
from .herald import Herald
from .listener import Listener
from .offspring import Offspring
from .plan import MAX_SOLOS, ChildPlan
from .slots import Flag
from .upkeep import CANCELS_EVERY, Estate, Upkeep
from .verdict import Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import FrameType
    from uuid import UUID

    from .plan import WorkerPlan

logger = logs.get_logger("worker")

TICK = 0.1
"""Seconds between two looks at the children; their exits are noticed at once."""

OVERDUE_BY = 1.0
"""Seconds past a deadline after which a child that cannot help itself is killed."""

RESPAWN_FIRST, RESPAWN_LAST = 0.1, 30.0
HEALTHY_AFTER = 10.0
"""A child that lived this long did not die of its start: the respawn delay is forgotten."""

REVIVE_EVERY = 1.0
PART_WITHIN = 2.0
"""Seconds that all threads together get to end; they are daemons."""

SETTLE_WITHIN = 5.0
"""Seconds that a stopping supervisor waits for the database; a sweeper does the rest."""


def run(
    plan: WorkerPlan,
    *,
    log_level: int = logging.INFO,
    identity: UUID | None = None,
    predecessors: Collection[UUID] = (),
    inherit: tuple[int, ...] = (),
    until: Callable[[], bool] = bool,  # which says no
    told: Callable[[], object] = bool,  # which does nothing
) -> int:
    """Run a worker until it is told to stop; return its exit status.

    Call it from the main thread of a process of its own, with Django set up. The
    first SIGTERM or SIGINT drains: claim no more, finish what runs within
    ``plan.end_grace`` seconds, give back the rest uncharged. The second does it now.

    ``predecessors`` are supervisors that are certainly gone with all their children: their
    jobs are rescued at once. ``inherit`` are descriptors that every child holds. Once
    ``until`` says yes, the worker drains as after one signal. ``told`` is called once, when a
    signal has come, before or after ``until`` said yes.
    """
    if "DJANGO_SETTINGS_MODULE" not in os.environ:
        sys.exit(
            "meanwhile worker: DJANGO_SETTINGS_MODULE is not set. Children are processes of their "
            "own and import the settings by that name; settings.configure() cannot reach them."
        )
    prepare_process()
    autodiscover()
    _prepare_store(plan, predecessors)
    return Supervisor(plan, log_level=log_level, identity=identity, inherit=inherit, until=until, told=told).run()


def _prepare_store(plan: WorkerPlan, predecessors: Collection[UUID]) -> None:
    """Set the database up for a worker; one that is away now is waited for later."""
    from ..models import Worker  # noqa: PLC0415 - the apps are ready by the time a worker runs

    try:
        store = get_store(plan.database)
        store.prepare()
        if predecessors:
            rows = Worker.objects.using(plan.database).filter(parent_id__in=predecessors, dead_at__isnull=True)
            store.bury(list(rows.values_list("id", flat=True)))
    except Error as error:
        logger.warning("database %r: %s: %s", plan.database, type(error).__name__, error)
    finally:
        close_thread_connections()


class Supervisor:
    """See the module. Everything below runs in the main thread, except where a part calls in."""

    def __init__(
        self,
        plan: WorkerPlan,
        *,
        log_level: int,
        identity: UUID | None = None,
        inherit: tuple[int, ...] = (),
        until: Callable[[], bool] = bool,
        told: Callable[[], object] = bool,
    ) -> None:
        settings = conf.get_settings()
        self._plan = plan
        self._log_level = log_level
        self._clock = conf.real_clock()
        self._id = identity or uuid4()
        self._inherit = inherit
        self._until = until
        self._told = told
        self._store = get_store(plan.database)
        self._children: tuple[Offspring, ...] = ()  # replaced whole: other threads iterate over it
        self._stop_requests = 0  # signals
        self._said_told = False
        self._is_draining = False
        self._kill_at: float | None = None
        self._said_ready = False
        self._revive_at = 0.0
        self._respawn_at = 0.0
        self._respawn_delay = RESPAWN_FIRST
        self._herald = Herald()
        self._beat = Beat(plan, self._store, self._clock, self._all)
        self._upkeep = Upkeep(
            plan,
            retention=settings.retention,
            store=self._store,
            clock=self._clock,
            beat=self._beat,
            herald=self._herald,
            children=self._all,
        )
        self._listener = Listener(plan, self._upkeep, self._all)
        self._parts = (self._herald, self._beat, self._upkeep, self._listener)

    def _all(self) -> tuple[Offspring, ...]:
        return self._children

    # --- life ---------------------------------------------------------------------------

    def run(self) -> int:
        """See ``run`` above."""
        with self._signals() as wakeup:
            logger.info(
                "worker %s starts: backend %s, queues %s, %d threads, %d coroutines, %d processes",
                self._id, self._plan.backend, ",".join(self._plan.queues) or "all",
                self._plan.threads, self._plan.coroutines, self._plan.processes,
            )  # fmt: skip
            for part in self._parts:
                part.start()
            try:
                while not self._is_over():
                    self._tick()
                    readable, _, _ = select.select([wakeup], [], [], TICK)
                    if readable:
                        os.read(wakeup, 4096)
                self._say_told()
            finally:
                self._shut_down()
        logger.info("worker %s ends", self._id)
        return 0

    def _tick(self) -> None:
        self._reap()
        self._watch()
        self._revive_parts()
        self._say_told()
        self._is_draining = self._is_draining or bool(self._stop_requests) or self._until()
        if self._is_draining:
            self._drain()
        else:
            self._spawn_missing()
            self._say_ready()
            if self._plan.drain and self._upkeep.queue_is_empty:
                logger.info("nothing is due: draining")
                self._is_draining = True

    def _say_told(self) -> None:
        if self._stop_requests and not self._said_told:
            self._said_told = True
            self._told()

    def _is_over(self) -> bool:
        return self._is_draining and not self._children

    def _shut_down(self) -> None:
        """Leave no process and, if the database allows, no job behind."""
        for child in self._children:
            child.kill(Cause.GRACE)
        for child in self._children:
            child.process.wait()
        self._reap()
        end = self._clock.monotonic() + SETTLE_WITHIN
        while self._upkeep.unsettled and self._upkeep.is_alive and self._clock.monotonic() < end:
            self._upkeep.wake()
            self._upkeep.join(TICK)
        if self._upkeep.unsettled:
            logger.error("the database is away: the last jobs are left to another worker's sweep")
        for part in reversed(self._parts):
            part.stop()
        end = self._clock.monotonic() + PART_WITHIN
        for part in self._parts:
            part.join(max(0.0, end - self._clock.monotonic()))

    @contextmanager
    def _signals(self) -> Iterator[int]:
        """Count SIGTERM and SIGINT; yield a descriptor that becomes readable on any signal."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        handlers = {signum: signal.signal(signum, self._on_stop_signal) for signum in (signal.SIGTERM, signal.SIGINT)}
        if hasattr(signal, "SIGCHLD"):
            handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        old = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(old)
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
            os.close(reader)
            os.close(writer)

    def _on_stop_signal(self, _signum: int, _frame: FrameType | None) -> None:
        self._stop_requests += 1

    # --- children -----------------------------------------------------------------------

    def _spawn_missing(self) -> None:
        now = self._clock.monotonic()
        if now < self._respawn_at:
            return
        staying = [c.plan for c in self._children if c.leave_by is None]
        for wanted in self._plan.children:
            if wanted in staying:
                staying.remove(wanted)
            else:
                self._spawn(wanted)
        solos = [child for child in self._children if child.plan.kind == "solo"]
        idle = [child for child in solos if not child.table.entries()]
        for _ in range(min(self._upkeep.suspects - len(idle), MAX_SOLOS - len(solos))):
            self._spawn(ChildPlan(kind="solo"))

    def _spawn(self, wanted: ChildPlan) -> None:
        child = Offspring.spawn(
            wanted, self._plan, self._id, self._clock, log_level=self._log_level, inherit=self._inherit
        )
        self._children = (*self._children, child)

    def _reap(self) -> None:
        """Take note of dead children; hand their jobs to the upkeep."""
        gone = [child for child in self._children if child.has_exited()]
        if not gone:
            return
        self._children = tuple(child for child in self._children if child not in gone)
        now = self._clock.monotonic()
        for child in gone:
            had_started = child.is_ready
            death = child.bury()
            is_usual = death.cause is Cause.DRAINED or (death.cause is Cause.GRACE and not death.entries)
            log = logger.info if is_usual else logger.warning
            log(
                "child %s (%s, pid %d) is gone: %s; exit status %s; %d jobs in its hands",
                child.worker_id, child.plan.kind, child.process.pid, death.cause.value,
                describe_status(death.status or 0), len(death.entries),
            )  # fmt: skip
            if death.cause is Cause.HUNG and not had_started:
                logger.error("child %s hung while it started: %s", child.worker_id, death.stacks or "no stacks")
            self._upkeep.settle(Estate(worker_id=child.worker_id, death=death))
            if death.cause is Cause.ITSELF and now - child.born < HEALTHY_AFTER:
                self._respawn_at = now + self._respawn_delay
                self._respawn_delay = min(RESPAWN_LAST, 2 * self._respawn_delay)
            else:
                self._respawn_delay = RESPAWN_FIRST

    def _watch(self) -> None:
        now = self._clock.monotonic()
        for child in self._children:
            if child.lost or now > child.table.fence + self._plan.margin / 2:
                child.kill(Cause.FENCED)
            elif child.is_hung():
                logger.error("child %s gives no sign of life; it is killed", child.worker_id)
                child.kill(Cause.HUNG, dump=True)
            elif child.leave_by is None and Flag.RECYCLING in child.table.flags:
                child.leave(now + self._plan.grace)
            elif child.leave_by is not None:
                self._see_off(child, now)
            self._enforce(child, now)

    def _see_off(self, child: Offspring, now: float) -> None:
        """Keep a leaving child to its time: ask, interrupt, kill."""
        if child.leave_by is None:
            return
        if not child.knows_that_it_leaves:
            child.leave(child.leave_by)
        if now < child.leave_by:
            going_on = [entry for entry in child.table.entries() if not entry.ended]
            patience = self._plan.stop_grace + OVERDUE_BY
            if going_on and all(now > entry.deadline + patience for entry in going_on):
                child.kill(Cause.OVERDUE)  # nothing is left but bodies that do not stop
            return
        if not child.interrupted:
            child.interrupted = True
            child.send({"op": "interrupt"})
        elif now >= child.leave_by + self._plan.stop_grace:
            child.kill(Cause.GRACE)

    def _enforce(self, child: Offspring, now: float) -> None:
        """Kill a child whose job is past its deadline, or deaf to a cancel, and beyond its help.

        A child of threads helps itself (it writes the slot off) as long as it has a
        pulse. A child with one slot can only be killed.
        """
        single = child.plan.kind != "shared"
        breathless = now - child.table.pulse > OVERDUE_BY
        if not (single or breathless) or child.process.poll() is not None:
            return
        going_on = [entry for entry in child.table.entries() if not entry.ended]
        patience = max(self._plan.stop_grace, OVERDUE_BY)
        deaf_after = self._plan.stop_grace + CANCELS_EVERY  # it may have begun between two orders
        for entry in going_on:
            if now > entry.deadline + patience:
                child.overdue.add(entry.run)
            elif single and now > max(child.told.get(entry.run, now), entry.begun) + deaf_after:
                child.cancelled.add(entry.run)
        if child.overdue:
            child.kill(Cause.OVERDUE, dump=True)
        elif child.cancelled:
            child.kill(Cause.CANCELLED, dump=True)

    def _revive_parts(self) -> None:
        """Start a thread of ours again that a bug has ended: without its beat every lease would run out."""
        now = self._clock.monotonic()
        if now < self._revive_at:
            return
        self._revive_at = now + REVIVE_EVERY
        for part in self._parts:
            if not part.is_alive:
                logger.error("the %s has ended; it is started again", part.name)
                part.start()

    def _say_ready(self) -> None:
        """Say once that every child has registered: from here on jobs are picked up at once."""
        if not self._said_ready and all(child.is_ready for child in self._children):
            self._said_ready = True
            logger.info("worker %s is ready", self._id)

    # --- the end ------------------------------------------------------------------------

    def _drain(self) -> None:
        """Let every child go: within the grace period, or now on a second signal."""
        now = self._clock.monotonic()
        if self._kill_at is None:
            self._kill_at = now + self._plan.end_grace
            logger.info("draining: %g s for the jobs that run", self._plan.end_grace)
        for child in self._children:
            if child.leave_by is None or child.leave_by > self._kill_at:
                child.leave(self._kill_at)
            if self._stop_requests > 1:
                child.kill(Cause.GRACE)
