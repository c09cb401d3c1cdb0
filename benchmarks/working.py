"""Measures of a real worker: how many jobs a second from end to end, and how soon it begins a single one."""

from __future__ import annotations

import random
import time
from typing import Any

from benchmarks.figures import LATENCY, RATE, Figures
from benchmarks.place import Place
from tests.playground import eventually
from tests.project.tasks import nothing, nothing_async, nothing_process, pause

SLOTS: dict[str, tuple[Any, dict[str, int]]] = {
    "thread": (nothing, {"threads": 4}),
    "asyncio": (nothing_async, {"coroutines": 100}),
    "process": (nothing_process, {"processes": 2}),
}
WARM_UP = 200
SETTLE = 0.3
"""Seconds after which a worker without work is idle."""


def end_to_end(place: Place, rounds: int, jobs: int, executor: str) -> Figures:
    """Jobs that do nothing, all there at once, for a worker that is warm: from the first start to the last finish."""
    task, slots = SLOTS[executor]
    rates = []
    place.clear()
    with place.worker(**slots):
        task.enqueue_many([()] * WARM_UP)
        place.wait_until_done()
        for _ in range(rounds):
            place.clear()
            time.sleep(SETTLE)
            task.enqueue_many([()] * jobs)
            place.wait_until_done()
            rates.append(place.rate())
    place.clear()
    described = ", ".join(f"{number} {name}" for name, number in slots.items())
    return Figures(
        database=place.vendor, measure=f"run {jobs:,} jobs, {described}", unit=RATE, raw=(), ours=tuple(rates)
    )


def pickup(place: Place, times: int) -> Figures:
    """From the call of ``enqueue`` to the first line of the body, in a thread of an idle worker.

    CLOCK_MONOTONIC is one clock for all processes of a host.
    """
    truth = place.path / "truth.log"
    latencies = []
    place.clear()
    with place.worker(threads=4):
        for number in range(-3, times):
            time.sleep(SETTLE + random.random() * 0.2)  # in no step with the poll
            begun = time.monotonic()
            pause.enqueue(number)
            text = f"begin {number} "
            eventually(lambda text=text: truth.exists() and text in truth.read_text(), what="the body began")
            line = next(line for line in truth.read_text().splitlines() if line.startswith(text))
            if number >= 0:  # the first ones warm it up
                latencies.append((float(line.split()[3]) - begun) * 1000)
        place.wait_until_done()
    truth.unlink()
    place.clear()
    return Figures(
        database=place.vendor, measure="pickup, from enqueue() to body", unit=LATENCY, raw=(), ours=tuple(latencies)
    )
