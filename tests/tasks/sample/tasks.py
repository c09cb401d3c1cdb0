"""Plain tasks of every kind. The bodies are run by Django's immediate backend only."""

from django_meanwhile import TaskContext, task


@task
def add(x: int, y: int = 1) -> int:
    """A plain function."""
    return x + y


@task
async def fetch(url: str, *, retries: int = 0) -> str:
    """A coroutine function."""
    return f"{url}?{retries}"


@task(takes_context=True)
def with_context(context: TaskContext, n: int) -> int:
    """A function that talks to its worker."""
    context.progress(n, 10, "half")
    context.raise_if_stopped()
    return context.attempt
