"""What all SQL stores do alike: the statements of ``statements``, and rows turned into values.

The base of the vendors' stores. It never names a vendor: what differs is a gap of a
template or an abstract method.
"""

# ruff: noqa: D102 - what a verb promises is said once, in ``contract``

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from django.db import connections, transaction

from ..core.job import Depth, Enqueued, Lease, NewJob, Run, WorkerRow
from ..core.outcome import Charged, Decision
from ..core.states import Executor, JobState
from ..fields import parse_utc
from .contract import Store
from .rows import Row, batches, charged_of, run_of, sized_batches, uuid_of, written
from .statements import Statements

_WINDOW = 10
"""``depths`` looks at this many times ``limit`` rows where a state has no index by queue."""


class SharedStore(Store):
    """See the module."""

    sql: ClassVar[Statements]

    #: Is one batch of ``_finish`` one statement, and so its own transaction?
    finish_is_one_statement: ClassVar[bool] = False

    # --- what vendors fill in -----------------------------------------------------------

    def _ids(self, ids: Iterable[UUID]) -> Any:
        """Make the parameter ``ids``."""
        raise NotImplementedError

    def _id(self, value: UUID) -> Any:
        """Make a parameter of one id."""
        raise NotImplementedError

    def _texts(self, values: Iterable[str]) -> Any:
        """Make the parameter ``queues``."""
        raise NotImplementedError

    def _enqueue(self, jobs: Sequence[NewJob]) -> list[Row]:
        """Insert one batch; return id, state and enqueued_at of each, in any order."""
        raise NotImplementedError

    def _finish(self, decisions: Sequence[Decision]) -> dict[Run, JobState]:
        """Write one batch of decisions, ordered by run, no run twice, inside a transaction."""
        raise NotImplementedError

    def _transaction(self) -> AbstractContextManager[Any]:
        """Begin a transaction that writes. Inside a caller's it is a part of that one."""
        return transaction.atomic(using=self.alias)

    # --- running statements -------------------------------------------------------------

    def _rows(self, statement: str, **parameters: Any) -> list[Row]:
        with connections[self.alias].cursor() as cursor:
            cursor.execute(statement, {"offset": self.offset, **parameters})
            return cursor.fetchall() if cursor.description else []

    def _by_ids(self, statement: str, ids: Collection[UUID], **parameters: Any) -> Iterator[Row]:
        """Run a statement for the ids, in batches, in their order (the order of locks)."""
        for batch in batches(sorted(set(ids))):
            yield from self._rows(statement, ids=self._ids(batch), **parameters)

    def _idle(self, question: str, **parameters: Any) -> bool:
        """Ask whether there is nothing to write, where writing nothing takes the one write lock all the same."""
        return self.one_writer and not self._rows(question, **parameters)[0][0]

    # --- for everybody ------------------------------------------------------------------

    def now(self) -> datetime:
        return parse_utc(self._rows(self.sql.now)[0][0])

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        batches = list(sized_batches((len(job.arguments) + len(job.context), job) for job in jobs))
        # Several are stored all or none, also where the caller has no transaction.
        with nullcontext() if len(batches) <= 1 else self._transaction():
            inserted = {uuid_of(row[0]): row for batch in batches for row in self._enqueue(batch)}
        return [
            Enqueued(id=job.id, state=JobState(inserted[job.id][1]), enqueued_at=parse_utc(inserted[job.id][2]))
            for job in jobs
        ]

    def cancel(self, job_ids: Collection[UUID]) -> dict[UUID, JobState]:
        return {uuid_of(row[0]): JobState(row[1]) for row in self._by_ids(self.sql.cancel, job_ids)}

    def retry(self, job_ids: Collection[UUID]) -> set[UUID]:
        return {uuid_of(row[0]) for row in self._by_ids(self.sql.retry, job_ids)}

    # --- workers ------------------------------------------------------------------------

    def register(self, worker: WorkerRow, lease: float) -> None:
        self._rows(
            self.sql.register,
            id=self._id(worker.id),
            parent_id=self._id(worker.parent_id),
            kind=worker.kind,
            host=worker.host,
            pid=worker.pid,
            queues=",".join(worker.queues),
            executors=",".join(executor.value for executor in worker.executors),
            slots=worker.slots,
            seconds=lease,
        )

    def renew(self, worker_ids: Collection[UUID], lease: float) -> set[UUID]:
        return {uuid_of(row[0]) for row in self._by_ids(self.sql.renew, worker_ids, seconds=lease)}

    def leases(self) -> list[Lease]:
        return [
            Lease(worker_id=uuid_of(row[0]), lease_until=parse_utc(row[1]), expired=bool(row[2]))
            for row in self._rows(self.sql.leases)
        ]

    def kill(self, worker_ids: Collection[UUID]) -> set[UUID]:
        return {uuid_of(row[0]) for row in self._by_ids(self.sql.kill, worker_ids)}

    def bury(self, worker_ids: Collection[UUID]) -> None:
        list(self._by_ids(self.sql.bury, worker_ids))

    def unregister(self, worker_ids: Collection[UUID]) -> None:
        list(self._by_ids(self.sql.unregister, worker_ids))

    # --- jobs, by workers ---------------------------------------------------------------

    def finish(self, decisions: Sequence[Decision]) -> dict[Run, JobState]:
        # One decision per run (the first): a run sent twice would note its attempt twice.
        by_run = {decision.run: decision for decision in reversed(decisions)}
        # The order of the runs is the order of the locks, over all batches.
        ordered = list(sized_batches((_size(by_run[run]), by_run[run]) for run in sorted(by_run)))
        alone = len(ordered) <= int(self.finish_is_one_statement)
        accepted: dict[Run, JobState] = {}
        with nullcontext() if alone else self._transaction():
            for batch in ordered:
                accepted |= self._finish(batch)
        return accepted

    def recorded(self, runs: Collection[Run]) -> dict[Run, JobState]:
        asked = set(runs)
        rows = self._by_ids(self.sql.recorded, {run.job_id for run in asked})
        return {run: state for run, state in written(rows).items() if run in asked}

    def cancel_requests(self, worker_ids: Collection[UUID]) -> list[tuple[UUID, Run]]:
        rows = self._by_ids(self.sql.cancel_requests, worker_ids)
        return [(uuid_of(row[2]), run_of(row)) for row in rows]

    def held(self, worker_id: UUID) -> list[Charged]:
        return [charged_of(row) for row in self._by_ids(self.sql.held, [worker_id])]

    # --- upkeep -------------------------------------------------------------------------

    def orphans(self, limit: int = 500) -> list[Charged]:
        return [charged_of(row) for row in self._rows(self.sql.orphans, limit=limit)]

    def promote(self, limit: int = 500) -> dict[str, int]:
        if self._idle(self.sql.any_due):
            return {}
        return dict(Counter(row[0] for row in self._rows(self.sql.promote, limit=limit)))

    def suspects(self, queues: Sequence[str], limit: int) -> int:
        rows = self._rows(self.sql.suspects, queues=self._texts(queues), every=int(not queues), limit=limit)
        return int(rows[0][0])

    def prune(self, state: JobState, age: float, limit: int = 500) -> int:
        if not state.is_terminal:
            raise ValueError(f"prune({state!r}): only jobs in a terminal state are history.")
        if self._idle(self.sql.any_prunable.format(state=int(state)), seconds=age):
            return 0
        prunable = self.sql.prunable.format(state=int(state))
        with self._transaction():
            # The rows are locked from here on: an operator's retry waits, then finds nothing.
            ids = [uuid_of(row[0]) for row in self._rows(prunable, seconds=age, limit=limit)]
            list(self._by_ids(self.sql.prune_attempts, ids))
            return len(list(self._by_ids(self.sql.prune_jobs, ids)))

    def prune_workers(self, age: float) -> int:
        if self._idle(self.sql.any_old_worker, seconds=age):
            return 0
        return len(self._rows(self.sql.prune_workers, seconds=age))

    # --- reading ------------------------------------------------------------------------

    def depths(self, limit: int = 1000) -> list[Depth]:
        counts: Counter[tuple[str, str, str]] = Counter()
        oldest: dict[tuple[str, str], float] = {}
        window = limit * _WINDOW
        for kind, statement in (
            ("ready", self.sql.ready_depths),
            ("suspects", self.sql.suspect_depths),
            ("running", self.sql.running_depths),
            ("scheduled", self.sql.scheduled_depths),
        ):
            for queue, executor, count, *times in self._rows(statement, limit=limit, window=window):
                counts[queue, executor, kind] += count
                if times:
                    since, now = map(parse_utc, times)
                    age = max(0.0, (now - since).total_seconds())
                    oldest[queue, executor] = max(age, oldest.get((queue, executor), 0.0))
        return [
            Depth(
                queue=queue,
                executor=Executor(executor),
                ready=min(limit, counts[queue, executor, "ready"]),
                scheduled=min(limit, counts[queue, executor, "scheduled"]),
                running=min(limit, counts[queue, executor, "running"]),
                suspects=min(limit, counts[queue, executor, "suspects"]),
                oldest_ready_seconds=oldest.get((queue, executor)),
            )
            for queue, executor in sorted({key[:2] for key in counts})
        ]

    def workers(self) -> list[WorkerRow]:
        return [
            WorkerRow(
                id=uuid_of(row[0]),
                parent_id=uuid_of(row[1]),
                kind=row[2],
                host=row[3],
                pid=row[4],
                queues=_split(row[5]),
                executors=tuple(Executor(name) for name in _split(row[6])),
                slots=row[7],
            )
            for row in self._rows(self.sql.workers)
        ]

    # --- set-up -------------------------------------------------------------------------

    def prepare(self) -> None:
        """Nothing, unless a vendor says otherwise."""

    def notify(self, queues: Iterable[str]) -> None:
        """Nothing, unless the vendor can (``supports_notify``)."""


def _size(decision: Decision) -> int:
    return len(decision.result or "") + len(decision.progress or "") + len(decision.detail)


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
