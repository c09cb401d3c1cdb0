"""The child's watch: pulse, orders, deadlines, fence. Does no I/O but reading its pipe.

It must go on while the database hangs and while bodies misbehave, so it asks
nobody for anything. What it cannot do while a body holds the GIL, the supervisor
does from outside.
"""

from __future__ import annotations

import logging
import os
import select
from typing import TYPE_CHECKING

from .. import logs
from ..core import errors
from ..core.errors import Cancelled, Interrupted, JobStopped, LeaseLost, TaskTimeout
from ..core.states import Executor as Kind
from ..core.text import class_path
from .part import Part
from .slots import Flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.clock import Clock
    from ..core.job import Run
    from ..executors.base import Executor
    from ..run.handle import RunHandle
    from .channel import Receiver
    from .claimer import Claimer
    from .courier import Courier
    from .slots import SlotTable

logger = logs.get_logger("worker")

PULSE = 0.2
"""Seconds between two signs of life; also how late a deadline may be noticed."""

EXIT_FENCED = 75
EXIT_ORPHANED = 76
"""Exit statuses: the lease ran out; the supervisor is gone. (sysexits has no better.)"""


class Sentinel(Part):
    """See the module. Ends the process where nothing else may go on."""

    name = "sentinel"

    def __init__(
        self,
        *,
        receiver: Receiver,
        table: SlotTable,
        clock: Clock,
        executors: Sequence[Executor],
        courier: Courier,
        claimer: Claimer,
        margin: float,
        stop_grace: float,
        grace: float,
    ) -> None:
        super().__init__()
        self._receiver = receiver
        self._table = table
        self._clock = clock
        self._executors = executors
        self._courier = courier
        self._claimer = claimer
        self._margin = margin
        self._stop_grace = stop_grace
        self._grace = grace
        self._told: dict[Run, float] = {}  # when a run was first seen told to stop
        self._fenced = False

    def run(self) -> None:
        """Look around every ``PULSE`` seconds, sooner for orders and deadlines."""
        while not self.is_stopping:
            now = self._clock.monotonic()
            self._table.pulse = now
            self._check_fence(now)
            self._check_runs(now)
            self._check_budget()
            readable, _, _ = select.select([self._receiver.fd], [], [], self._pause(now))
            if readable:
                self._obey()

    def on_failure(self) -> None:
        """A child that nobody watches must not go on."""
        os._exit(1)

    # --- orders -------------------------------------------------------------------------

    def _obey(self) -> None:
        messages = self._receiver.receive()
        if messages is None:
            # PDEATHSIG does this on Linux; here is every other system.
            os._exit(EXIT_ORPHANED)
        for message in messages:
            match message["op"]:
                case "wake":
                    self._claimer.wake()
                    self._courier.poke()
                case "stop":
                    reason: type[JobStopped] = getattr(errors, message["reason"])
                    self._stop_run(message["job"], message["epoch"], reason)
                case "drain":
                    self._courier.stop_claiming()
                case "interrupt":
                    self._courier.stop_claiming()
                    for handle in self._handles():
                        handle.stop(Interrupted)

    def _stop_run(self, job: str, epoch: int, reason: type[JobStopped]) -> None:
        for handle in self._handles():
            if str(handle.job.id) == job and handle.job.epoch == epoch:
                handle.stop(reason)

    def _handles(self) -> list[RunHandle]:
        return [handle for executor in self._executors for handle in executor.handles()]

    # --- the lease ----------------------------------------------------------------------

    def _check_fence(self, now: float) -> None:
        """Stop before the lease ends: afterwards another worker may run these jobs."""
        if now < self._table.fence:
            return
        if not self._fenced:
            self._fenced = True
            logger.error("the lease could not be renewed in time; this child stops, its jobs run elsewhere")
            self._courier.stop_claiming()
            for handle in self._handles():
                handle.stop(LeaseLost)
        if now >= self._table.fence + self._margin / 2:
            os._exit(EXIT_FENCED)

    # --- deadlines ----------------------------------------------------------------------

    def _pause(self, now: float) -> float:
        deadlines = [h.deadline for h in self._handles() if h.deadline is not None]
        ahead = [deadline - now for deadline in deadlines if deadline > now]
        return min([PULSE, self._margin / 4, *ahead])

    def _check_runs(self, now: float) -> None:
        live = set()
        for executor in self._executors:
            for handle in executor.handles():
                live.add(handle.job.run)
                if handle.deadline is not None and now >= handle.deadline:
                    handle.stop(TaskTimeout)
                if handle.stop_reason is not None:
                    self._check_stopped(executor, handle, now)
        self._told = {run: at for run, at in self._told.items() if run in live}

    def _check_stopped(self, executor: Executor, handle: RunHandle, now: float) -> None:
        """Write off a slot whose body was told to stop and does not.

        A thread cannot be made to heed a cancel, so only its timeout counts.
        """
        reason = handle.stop_reason
        told = self._told.setdefault(handle.job.run, now)
        due = reason is TaskTimeout or (reason is Cancelled and executor.kind is Kind.ASYNCIO)
        if reason is Cancelled and handle.deadline is not None and now >= handle.deadline and not due:
            due, told = True, max(told, handle.deadline)
        deaf = now - told >= self._stop_grace
        executor.insist(handle)
        if reason is None or not (deaf and due) or executor.kind is Kind.PROCESS:
            return
        if executor.write_off(handle):
            logs.for_job(logger, handle.job.id, handle.job.task).warning(
                "does not stop (%s); its slot is written off and replaced", class_path(reason).rpartition(".")[2]
            )
            self._courier.poke()
        too_many = len(executor.written_off()) > executor.slots
        too_long = now - told >= max(self._grace, self._stop_grace)
        if too_many or too_long:
            stuck = ", ".join(f"{each.job.task} {each.job.id}" for each in executor.written_off())
            self._recycle(f"bodies that do not stop hold its slots: {stuck}", loud=True)

    def _check_budget(self) -> None:
        # Not before the last ones have begun: what waits would be given back.
        if self._claimer.is_spent and not any(executor.waiting for executor in self._executors):
            self._recycle("it has run all the jobs that it was started for")

    def _recycle(self, why: str, *, loud: bool = False) -> None:
        if Flag.RECYCLING not in self._table.flags:
            level = logging.WARNING if loud else logging.INFO
            logger.log(level, "this child ends as soon as its other jobs have ended: %s", why)
            self._courier.stop_claiming()
            self._table.raise_flag(Flag.RECYCLING)
