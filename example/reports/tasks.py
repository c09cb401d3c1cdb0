"""The work. Each is an ordinary function; `@task` makes it something that can be enqueued."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from django_meanwhile import Retry, TaskContext, task

from . import climate, paper, weather

Brief = dict[str, Any]


@task(executor="process", timeout=300, takes_context=True)
def write_report(context: TaskContext, place: str, resamples: int) -> Brief:
    """Computes in pure Python: that wants a process of its own."""
    days = weather.days_of(place)
    found = climate.study(place, days, resamples, context.progress)
    # Named after the job: if that has to run twice, it is the same file.
    size = paper.write(context.job_id, found)
    return found.in_brief() | {"bytes": size, "process": os.getpid()}


@task
def find_twins(wet: float) -> list[weather.Pair]:
    """While SQLite works, other threads run: a thread is all it needs."""
    return weather.twins(wet, 12)


@task(max_attempts=3, takes_context=True)
def fetch_forecast(context: TaskContext) -> str:
    """Fails twice, as the best services do."""
    if context.attempt < 3:
        raise Retry("the forecast service is busy", after=1)
    return f"tomorrow: sunny spells (attempt {context.attempt})"


@task(executor="process", timeout=2)
def count_to_infinity() -> None:
    """Never returns."""
    n = 0
    while True:
        n += 1


@task(executor="process", takes_context=True)
def watch_the_sky(context: TaskContext, minutes: int) -> int:
    """Takes minutes, unless somebody cancels it."""
    seconds = minutes * 60
    for second in range(seconds):
        context.progress(second, seconds, "looking up")
        time.sleep(1)
    return seconds


@task(executor="process", takes_context=True)
def touch_the_lightning(context: TaskContext) -> None:
    """Kills its process, as a crashing C library would."""
    context.progress(1, 1, "reaching out")
    os._exit(13)


@task
async def ask_stations(count: int, seconds: float) -> Brief:
    """Waits for all of them at once, on the worker's event loop."""

    async def ask(station: int) -> int:
        await asyncio.sleep(seconds)  # where a real one would await an HTTP client
        return station % 30

    begun = time.monotonic()
    degrees = await asyncio.gather(*(ask(station) for station in range(count)))
    return {"stations": count, "mean": sum(degrees) / count, "seconds": time.monotonic() - begun}
