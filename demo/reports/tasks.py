"""The work. Each function is an ordinary function; the decorator makes it a task."""

import asyncio
import time

from django_meanwhile import Retry, TaskContext, task


@task(executor="process", takes_context=True)
def generate_report(context: TaskContext, customer: str, rounds: int) -> dict[str, object]:
    """CPU-bound, pure Python: in a thread it would slow down everything around it."""
    total = 0
    for n in range(rounds):
        total += sum(i * i % 7 for i in range(20_000))
        context.progress(n + 1, rounds, f"page {n + 1}")
    return {"customer": customer, "pages": rounds, "checksum": total}


@task(max_attempts=3, takes_context=True)
def fetch_rates(context: TaskContext) -> str:
    """Fails twice, as the best services do."""
    if context.attempt < 3:
        raise Retry("the rates service is busy", after=0.2)
    return f"rates, at attempt {context.attempt}"


@task
async def ask_many_services(count: int) -> int:
    """I/O-bound: all of them at once, on the worker's event loop."""
    await asyncio.gather(*(asyncio.sleep(0.2) for _ in range(count)))
    return count


@task(executor="process", timeout=1)
def never_ends() -> None:
    """Stopped by its timeout, whatever it does."""
    while True:
        sum(range(1000))


@task(executor="process")
def long_report(seconds: float) -> str:
    """Runs until it is done, or somebody cancels it, or its process is killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))
    return "done"
