"""Tasks whose bodies a test gives: ``BODIES[key]`` is what runs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django_meanwhile import Retry, task
from django_meanwhile.compat import task_backends

BODIES: dict[str, Callable[..., Any]] = {}


@task
def add(a, b=0):
    return a + b


@task
async def add_async(a, b=0):
    return a + b


@task(executor="process")
def add_in_process(a, b=0):
    return a + b


@task(queue_name="mail", priority=5)
def send_mail(to, subject="hello"):
    return to


@task
def do(key, *args):
    return BODIES[key](*args)


@task
async def ado(key, *args):
    return await BODIES[key](*args)


@task(max_attempts=3, backoff=lambda _error, _result: 3600.0)
def retried(key="", *args):
    return BODIES[key](*args) if key else "done"


@task(max_attempts=3, backoff=lambda _error, _result: 3600.0)
async def retried_async(key="", *args):
    return await BODIES[key](*args) if key else "done"


@task(on_crash="fail")
def charge(key=""):
    return BODIES[key]() if key else "charged"


@task(timeout=5, max_attempts=2, backoff=lambda _error, _result: 0.0)
def in_time(key=""):
    return BODIES[key]() if key else "done"


@task(timeout=0.05, takes_context=True)
def listens(context, key):
    return BODIES[key](context)


@task(timeout=0.05)
async def alistens(key):
    return await BODIES[key]()


@task(max_attempts=2)
def asks_again(hours):
    raise Retry(after=timedelta(hours=hours))


def for_backend(task, database):
    """Return the task on the backend of the database under test."""
    assert database in task_backends
    return task.using(backend=database)
