"""Measures of the enqueuer's side: one job at a time, and many at once. Connections are warm, nobody works."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.figures import RATE, Figures, alternate
from benchmarks.place import Place
from tests.project.tasks import nothing

BULK = 1000


def one_at_a_time(place: Place, rounds: int, jobs: int) -> Figures:
    """Each job in a transaction of its own (autocommit): an INSERT by hand against ``task.enqueue()``."""

    def raw() -> float:
        rows = place.raw.rows(jobs)
        begun = time.perf_counter()
        for row in rows:
            place.raw.insert(row)
        return jobs / (time.perf_counter() - begun)

    def ours() -> float:
        begun = time.perf_counter()
        for _ in range(jobs):
            nothing.enqueue()
        return jobs / (time.perf_counter() - begun)

    return _figures(place, "enqueue, one at a time", rounds, raw, ours)


def in_bulk(place: Place, rounds: int, jobs: int) -> Figures:
    """``BULK`` jobs in one transaction, several times: executemany or unnest against ``enqueue_many``."""
    times = max(1, jobs // BULK)

    def raw() -> float:
        batches = [place.raw.rows(BULK) for _ in range(times)]
        begun = time.perf_counter()
        for batch in batches:
            place.raw.insert_many(batch)
        return times * BULK / (time.perf_counter() - begun)

    def ours() -> float:
        begun = time.perf_counter()
        for _ in range(times):
            nothing.enqueue_many([()] * BULK)
        return times * BULK / (time.perf_counter() - begun)

    return _figures(place, f"enqueue, {BULK:,} at once", rounds, raw, ours)


def _figures(place: Place, measure: str, rounds: int, raw: Callable[[], float], ours: Callable[[], float]) -> Figures:
    by_hand, by_us = alternate(rounds, [raw, ours], place.clear)
    place.clear()
    return Figures(database=place.vendor, measure=measure, unit=RATE, raw=by_hand, ours=by_us)
