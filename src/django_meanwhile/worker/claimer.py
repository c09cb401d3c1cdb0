"""Claims jobs for the free slots of one child.

Run by the child's courier thread. It claims for an executor when somebody woke
it, when the last claim found more than it could take, or when the poll is due;
an idle child costs one cheap statement a second.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from ..compat import DEFAULT_TASK_BACKEND_ALIAS, task_backends
from ..core.states import Executor as Kind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ..core.clock import Clock
    from ..core.job import ClaimedJob
    from ..executors.base import Executor
    from ..store.contract import Store

SHORT_RUN = 0.02
"""Seconds: jobs that usually take less are claimed ahead of their slot."""

AHEAD_SECONDS = 0.06
"""How much work per slot is claimed ahead, where jobs are short: the slots go on while the courier is away."""

MAX_AHEAD = 64
"""How many jobs are claimed ahead at most: what a dead child held must be run again."""

LOOKS_AFTER_WAKE = 2
WAKE_WINDOW = 0.05
"""A wake-up stands for a whole window of enqueues: look again after it, twice."""


class Claimer:
    """One per child. Touched by the courier alone, except ``wake``, which only sets a flag."""

    def __init__(
        self,
        store: Store,
        worker_id: UUID,
        executors: Sequence[Executor],
        queues: Sequence[str],
        *,
        poll: float,
        clock: Clock,
        suspects: bool = False,
        backend: str = DEFAULT_TASK_BACKEND_ALIAS,
    ) -> None:
        self._store = store
        self._backend = backend
        self._worker_id = worker_id
        self._executors = executors
        self._queues = queues
        self._poll = poll
        self._clock = clock
        self._suspects = suspects
        #: Suspects run alone in a main thread, whatever their executor.
        self._kinds = tuple(Kind) if suspects else ()
        self._woken = True
        self._looks = 0
        self._next_look = 0.0
        #: Executors whose last claim came back full: more is waiting.
        self._hungry: set[Executor] = set(executors)
        self._budget: int | None = None

    def limit_to(self, budget: int | None) -> None:
        """Claim at most this many jobs from here on (``max_tasks``); None: no limit."""
        self._budget = budget

    @property
    def is_spent(self) -> bool:
        """Whether the budget is used up."""
        return self._budget == 0

    def wake(self) -> None:
        """Say that there is new work. From any thread."""
        self._woken = True

    def due_in(self, room: int) -> float:
        """Seconds until ``claim`` wants to be called, by itself."""
        if room <= 0 or self._budget == 0:
            return self._poll
        if self._woken or any(self._wanted(executor) > 0 for executor in self._hungry):
            return 0.0
        return max(0.0, self._next_look - self._clock.monotonic())

    def claim(self, room: int) -> int:
        """Claim for every executor that may get something; returns the number of jobs.

        ``room`` is how many runs may begin before older outcomes are written.
        """
        now = self._clock.monotonic()
        look = self._woken or now >= self._next_look
        if look:
            self._schedule_next_look(now)
        total = 0
        for executor in self._executors:
            if not (look or executor in self._hungry):
                continue
            limit = min(self._wanted(executor), room - total)
            if self._budget is not None:
                limit = min(limit, self._budget)
            if limit <= 0:
                self._hungry.add(executor)  # look again as soon as a slot is free
                continue
            total += self._claim_for(executor, limit)
        if self._suspects and not total:
            self._budget = 0  # somebody else runs it: this child was started for nothing
        return total

    def _claim_for(self, executor: Executor, limit: int) -> int:
        jobs: list[ClaimedJob] = []
        for kind in self._kinds or (executor.kind,):
            jobs += self._store.claim(self._worker_id, kind, self._queues, limit - len(jobs), suspects=self._suspects)
        if len(jobs) < limit:
            self._hungry.discard(executor)
        else:
            self._hungry.add(executor)
        for job in jobs:
            # Today's TASKS may have another name for the backend: the worker's own serves the same database.
            is_known = job.backend in task_backends.settings
            executor.submit(job if is_known else replace(job, backend=self._backend))
        if self._budget is not None:
            self._budget -= len(jobs)  # last: whoever sees that it is spent sees the jobs too
        return len(jobs)

    def _schedule_next_look(self, now: float) -> None:
        if self._woken:
            self._woken = False
            self._looks = LOOKS_AFTER_WAKE
        if self._looks:
            self._looks -= 1
            self._next_look = now + WAKE_WINDOW
        else:
            # Spread the polls of many workers that were started together.
            self._next_look = now + self._poll * random.uniform(0.9, 1.0)

    def _wanted(self, executor: Executor) -> int:
        """How many jobs to ask for. While half of what was claimed ahead is left: none, so that claims stay large."""
        usual, load = executor.usual_seconds, executor.load
        if usual >= SHORT_RUN:
            return executor.slots - load
        ahead = min(MAX_AHEAD, int(executor.slots * AHEAD_SECONDS / max(usual, 1e-6)))
        return executor.slots + ahead - load if load < executor.slots + ahead / 2 else 0
