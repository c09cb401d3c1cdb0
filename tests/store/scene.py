"""A store, and what tests do with it: make jobs and workers, end runs, look at rows, act in parallel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connections, transaction
from django.db.models import F

from django_meanwhile.connections import close_thread_connections, use_service_connection
from django_meanwhile.core.identifiers import uuid7
from django_meanwhile.core.job import ClaimedJob, NewJob, Run, WorkerRow
from django_meanwhile.core.outcome import Charged, Decision, End, Outcome, decide
from django_meanwhile.core.states import Executor, JobState
from django_meanwhile.fields import DatabaseNow
from django_meanwhile.models import Attempt, Job, Worker
from django_meanwhile.store import Store, get_store

LONG = 20.0
"""Seconds after which a test gives up on something that should happen soon."""

# For what only one vendor has to see to.
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("database", ["default"], indirect=True)


class Scene:
    """One database and its store."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.store = self.at(0)
        self.give_up_waiting()

    def give_up_waiting(self) -> None:
        """Let no statement of the calling thread wait for a lock for ever: a broken guard should fail, not hang."""
        if self.store.vendor == "postgresql":
            with connections[self.alias].cursor() as cursor:
                cursor.execute(f"SET lock_timeout = '{LONG / 2}s'")

    def at(self, offset: float) -> Store:
        """Return a store whose clock is ``offset`` seconds ahead."""
        return type(get_store(self.alias))(self.alias, offset=offset)

    # --- making ---------------------------------------------------------------------------

    def new(self, **changes: Any) -> NewJob:
        """Make a job, not yet enqueued."""
        job = {
            "id": uuid7(),
            "task": "tests.tasks.add",
            "backend": "default",
            "queue": "default",
            "executor": Executor.THREAD,
            "arguments": "[1, 2]",
        }
        return NewJob(**{**job, **changes})

    def enqueue(self, count: int = 1, **changes: Any) -> list[UUID]:
        """Enqueue jobs that are alike; return their ids, which are in order."""
        jobs = [self.new(**changes) for _ in range(count)]
        self.store.enqueue(jobs)
        return [job.id for job in jobs]

    def worker(self, lease: float = 30.0, **changes: Any) -> UUID:
        """Register a worker row."""
        row = {
            "id": uuid4(),
            "parent_id": uuid4(),
            "kind": "child",
            "host": "host",
            "pid": 1,
            "queues": (),
            "executors": (Executor.THREAD,),
            "slots": 8,
        }
        worker = WorkerRow(**{**row, **changes})
        self.store.register(worker, lease)
        return worker.id

    def claim(self, worker: UUID, limit: int = 100, queues: Sequence[str] = (), **options: Any) -> list[ClaimedJob]:
        """Claim for the thread executor unless told otherwise."""
        executor = options.pop("executor", Executor.THREAD)
        return self.store.claim(worker, executor, queues, limit, **options)

    def running(self, count: int = 1, worker: UUID | None = None, **changes: Any) -> list[ClaimedJob]:
        """Enqueue to a queue of their own and claim."""
        queue = f"queue {uuid4()}"
        made = self.enqueue(count, queue=queue, **changes)
        claimed = self.claim(worker or self.worker(), count, [queue])
        assert ids(claimed) == made
        return claimed

    def one(self, worker: UUID | None = None, **changes: Any) -> ClaimedJob:
        """Enqueue and claim one job."""
        return self.running(1, worker, **changes)[0]

    def end(self, job: ClaimedJob, end: End, **outcome: Any) -> JobState | None:
        """Finish one run; return the state that was written, or None if the run had lost the job."""
        return self.store.finish([decision(job, end, **outcome)]).get(job.run)

    def in_state(self, state: JobState) -> UUID:
        """Make a job of that state, by legal transitions."""
        if state is JobState.SCHEDULED:
            return self.enqueue(delay=3600)[0]
        if state is JobState.READY:
            return self.enqueue()[0]
        job = self.one()
        if state is not JobState.RUNNING:
            self.store.finish([Decision(run=job.run, state=state, result="1")])
        return job.id

    # --- forcing --------------------------------------------------------------------------

    def lapse(self, *workers: UUID, by: float = 1.0) -> None:
        """Let leases have run out that many seconds ago."""
        Worker.objects.using(self.alias).filter(id__in=workers).update(lease_until=DatabaseNow(-by))

    def set(self, job_id: UUID, **columns: Any) -> None:
        """Write columns past the store."""
        assert Job.objects.using(self.alias).filter(id=job_id).update(**columns)

    # --- looking --------------------------------------------------------------------------

    def row(self, job_id: UUID) -> Job:
        """Read a job."""
        return Job.objects.using(self.alias).get(id=job_id)

    def state(self, job_id: UUID) -> JobState:
        """Read a job's state."""
        return JobState(self.row(job_id).state)

    def states(self) -> dict[UUID, JobState]:
        """Read all jobs' states."""
        return {id_: JobState(state) for id_, state in Job.objects.using(self.alias).values_list("id", "state")}

    def attempts(self, job_id: UUID) -> list[Attempt]:
        """Read a job's attempt rows, oldest first."""
        return list(Attempt.objects.using(self.alias).filter(job_id=job_id).order_by(F("epoch")))

    def worker_row(self, worker: UUID) -> Worker:
        """Read a worker."""
        return Worker.objects.using(self.alias).get(id=worker)

    # --- acting in parallel ---------------------------------------------------------------

    @contextmanager
    def actors(self, count: int) -> Iterator[list[Actor]]:
        """Start threads with connections like a worker's; at the end all they did is rolled back or done."""
        actors = [Actor(self) for _ in range(count)]
        try:
            yield actors
        finally:
            for actor in actors:
                actor.close()

    def is_waiting(self, actor: Actor) -> bool:
        """Say whether the actor's connection waits for a lock right now. PostgreSQL can tell."""
        with connections[self.alias].cursor() as cursor:
            cursor.execute("SELECT cardinality(pg_blocking_pids(%s))", [actor.pid])
            return bool(cursor.fetchone()[0])


class Actor:
    """A thread with a connection of its own, which does what it is told, one thing after another."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._executor = ThreadPoolExecutor(1)
        self._open: list[Any] = []
        self.pid = self.do(self._connect)

    def start(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        """Let it begin something."""
        return self._executor.submit(function, *arguments, **options)

    def do(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Let it do something, and wait for it."""
        return self.start(function, *arguments, **options).result(LONG)

    def start_and_wait_for_lock(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        """Let it begin something that must wait for somebody else's lock; return once it does."""
        future = self.start(function, *arguments, **options)
        deadline = time.monotonic() + LONG
        while not self._scene.is_waiting(self):
            assert not future.done(), f"it did not wait, and returned {future.result()!r}"
            assert time.monotonic() < deadline, "it neither waits nor ends"
            time.sleep(0.002)
        return future

    def begin(self) -> None:
        """Open a transaction, in which everything happens until ``commit`` or ``roll_back``."""
        self.do(self._begin)

    def commit(self) -> None:
        """Commit it."""
        self.do(self._end, None)

    def roll_back(self) -> None:
        """Roll it back."""
        self.do(self._end, RuntimeError)

    def close(self) -> None:
        """Roll back what is open, disconnect, end."""
        if self._open:
            self.roll_back()
        self.do(close_thread_connections)
        self._executor.shutdown()

    def _connect(self) -> int | None:
        alias = self._scene.alias
        use_service_connection(alias, self._scene.store.connection_options())
        connections[alias].ensure_connection()
        self._scene.give_up_waiting()
        info = getattr(connections[alias].connection, "info", None)
        return info.backend_pid if info else None

    def _begin(self) -> None:
        atomic = transaction.atomic(using=self._scene.alias)
        atomic.__enter__()
        self._open.append(atomic)

    def _end(self, error: type[BaseException] | None) -> None:
        self._open.pop().__exit__(error, error and error(), None)


def decision(job: ClaimedJob, end: End, **outcome: Any) -> Decision:
    """Decide on the end of a run."""
    return decide(Charged.of(job), Outcome(end=end, **outcome))


def succeeded(jobs: Iterable[ClaimedJob], result: str = "1") -> list[Decision]:
    """Decide that all of them succeeded."""
    return [decision(job, End.SUCCEEDED, result=result) for job in jobs]


def runs(jobs: Iterable[ClaimedJob]) -> list[Run]:
    """Name the runs."""
    return [job.run for job in jobs]


def ids(jobs: Iterable[ClaimedJob]) -> list[UUID]:
    """Name the jobs."""
    return [job.id for job in jobs]
