"""Tasks of every kind. Their bodies are run by Django's immediate backend, or not at all."""

import datetime as dt

from django_meanwhile import ExponentialBackoff, Retry, TaskContext, task


@task
def add(x: int, y: int = 1) -> int:
    """A plain function."""
    return x + y


@task
async def fetch(url: str, *, depth: int = 0) -> str:
    """A coroutine function."""
    return f"{url}?{depth}"


@task(takes_context=True)
def with_context(context: TaskContext, n: int) -> list[object]:
    """A function that talks to its worker."""
    context.progress(n, 10, "half")
    context.raise_if_stopped()
    return [context.attempt, context.job_id, context.metadata]


@task
def anything(*args: object, **kwargs: object) -> int:
    """A function that takes whatever there is."""
    return len(args) + len(kwargs)


@task
def fails() -> None:
    """A function that fails."""
    raise ValueError("as it should")


@task(max_attempts=3)
def asks_again() -> None:
    """A function that wants to be run again."""
    raise Retry(after=1)


@task(
    executor="process",
    timeout=120,
    max_attempts=5,
    backoff=ExponentialBackoff(first=1),
    retry_on=(OSError,),
    dont_retry=[FileNotFoundError],
    on_crash="fail",
    metadata={"team": "reports"},
    priority=7,
    queue_name="reports",
    name="sample.report",
    aliases=("sample.old_report",),
)
def report(data: dict[str, object], *, day: dt.date | None = None) -> str:
    """A function with every option."""
    return f"{data} {day}"


def _hidden(n: int) -> int:
    return n


shown = task(_hidden)  # the name in the module is not the function's


class Holder:
    """Tasks may stand in classes."""

    @staticmethod
    @task
    def inner() -> int:
        """A static method."""
        return 1
