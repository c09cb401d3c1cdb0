"""Forty calls that compute in pure Python: one after the other, in threads, and by ``parallel_map`` in processes.

What two cores could do at best is half of what one needs. The children of ``parallel_map`` and those of the standard
library's executor are there before the clock starts: a server has them, too, after the first request.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from django.db import connection

from benchmarks.figures import alternate
from benchmarks.sides import Sides
from django_meanwhile.concurrent import parallel_map

CALLS = 40
SECONDS = 0.05
SAMPLE = 100_000
ROUNDS = 5
"""At most: a round takes as long as all of the others together."""


def add_up(limit: int) -> int:
    """Hold the GIL for a while."""
    return sum(number * number for number in range(limit))


def of_forty_calls(rounds: int) -> Sides:
    """Milliseconds for all of them."""
    items = [_limit()] * CALLS
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ways: dict[str, Callable[[], object]] = {}
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as executor:
        ways["one after the other"] = lambda: [add_up(item) for item in items]
        ways["parallel_map, in threads"] = lambda: list(parallel_map(add_up, items))
        ways["ProcessPoolExecutor, kept"] = lambda: list(executor.map(add_up, items))
        ways["parallel_map"] = lambda: list(parallel_map(add_up, items, executor="process"))
        found = alternate(min(rounds, ROUNDS), [_timed(way) for way in ways.values()], lambda: None)
    ideal = tuple(milliseconds / cores for milliseconds in found[0])
    return Sides(
        measure=f"{CALLS} calls that compute for {SECONDS * 1000:.0f} ms, {cores} cores",
        database=connection.vendor,
        unit="ms",
        ways={f"ideal: one after the other / {cores}": ideal, **dict(zip(ways, found, strict=True))},
        base=dict.fromkeys(ways, f"ideal: one after the other / {cores}"),
        notes={},
    )


def _limit() -> int:
    """Return how far to count for ``SECONDS`` on this machine; the quickest of five tells."""
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        add_up(SAMPLE)
        took.append(time.perf_counter() - begun)
    return round(SAMPLE * SECONDS / min(took))


def _timed(way: Callable[[], object]) -> Callable[[], float]:
    def took() -> float:
        begun = time.perf_counter()
        way()
        return (time.perf_counter() - begun) * 1000

    return took
