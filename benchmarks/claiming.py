"""The measure of the store: claim 100, finish 100, until nothing is left. No worker, no bodies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from django.db import connections

from benchmarks.figures import RATE, Figures, alternate
from benchmarks.place import ALIAS, Place
from django_meanwhile.connections import use_service_connection
from django_meanwhile.core.job import WorkerRow
from django_meanwhile.core.outcome import Charged, End, Outcome, decide
from django_meanwhile.core.states import Executor

BATCH = 100


def claim_and_finish(place: Place, rounds: int, jobs: int) -> Figures:
    """A claim with SKIP LOCKED and one UPDATE by hand, against ``claim`` and ``finish`` of the store."""
    worker = WorkerRow(
        id=uuid4(), parent_id=uuid4(), kind="shared", host="bench", pid=1, queues=(), executors=(), slots=BATCH
    )
    success = Outcome(end=End.SUCCEEDED, result="null")

    def raw() -> float:
        begun = time.perf_counter()
        while claimed := place.raw.claim(worker.id, "thread", BATCH):
            place.raw.finish(claimed, "null")
        return jobs / (time.perf_counter() - begun)

    def ours() -> float:
        begun = time.perf_counter()
        while claimed := place.store.claim(worker.id, Executor.THREAD, (), BATCH):
            place.store.finish([decide(Charged.of(job), success) for job in claimed])
        return jobs / (time.perf_counter() - begun)

    def refill() -> None:
        place.clear()
        place.raw.insert_many(place.raw.rows(jobs))

    refill()  # reads a row of ours, so it comes before the worker's connection
    with _service_connection(place):
        place.store.register(worker, lease=3600)
        by_hand, by_us = alternate(rounds, [raw, ours], refill)
        place.store.unregister([worker.id])
    return Figures(
        database=place.vendor, measure=f"store: claim {BATCH}, finish {BATCH}", unit=RATE, raw=by_hand, ours=by_us
    )


@contextmanager
def _service_connection(place: Place) -> Iterator[None]:
    """Give this thread the connection that a worker's courier has, and take it away again.

    On SQLite it leaves syncing to checkpoints, whatever the project does: so shall the bare driver here.
    """
    use_service_connection(ALIAS, place.store.connection_options())
    synchronous = place.raw.execute("PRAGMA synchronous")[0][0] if place.vendor == "sqlite" else None
    try:
        if synchronous is not None:
            place.raw.execute("PRAGMA synchronous = NORMAL")
        yield
    finally:
        if synchronous is not None:
            place.raw.execute(f"PRAGMA synchronous = {synchronous}")
        connections[ALIAS].close()
        del connections[ALIAS]
