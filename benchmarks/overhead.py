"""What the hand-over itself costs: calls that do nothing, by ``parallel``, the standard library and bare threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from django.db import connection

from benchmarks.figures import alternate
from benchmarks.sides import Sides
from django_meanwhile.concurrent import parallel

NUMBERS = (8, 100)
THREADS = 8
BATCHES = 30
"""How often the calls are made for one number: a single batch is over too soon to be timed."""


def nothing() -> None:
    """Do nothing."""


def of_empty_calls(rounds: int, number: int) -> Sides:
    """Microseconds for ``number`` empty calls and their results."""
    calls = [nothing] * number
    ways: dict[str, Callable[[], object]] = {}
    with ThreadPoolExecutor(THREADS) as executor:
        ways["ThreadPoolExecutor, kept"] = lambda: [
            future.result() for future in [executor.submit(call) for call in calls]
        ]
        ways["threading.Thread for each"] = lambda: _bare_threads(calls)
        ways["parallel"] = lambda: parallel(*calls)
        found = alternate(rounds, [_timed(way) for way in ways.values()], lambda: None)
    return Sides(
        measure=f"{number} calls that do nothing",
        database=connection.vendor,
        unit="microseconds",
        ways=dict(zip(ways, found, strict=True)),
        base={"threading.Thread for each": "ThreadPoolExecutor, kept", "parallel": "ThreadPoolExecutor, kept"},
        notes={},
    )


def _timed(way: Callable[[], object]) -> Callable[[], float]:
    def took() -> float:
        begun = time.perf_counter()
        for _ in range(BATCHES):
            way()
        return (time.perf_counter() - begun) / BATCHES * 1_000_000

    return took


def _bare_threads(calls: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
