"""Tasks whose bodies a test gives: ``BODIES[key]`` is what runs. For tests inside pytest's own process only."""

from collections.abc import Callable
from typing import Any

from django_meanwhile import task

BODIES: dict[str, Callable[..., Any]] = {}


def _policy(error, result):
    return BODIES["policy"](error, result)


@task
def add(a, b):
    return a + b


@task
def do(key, *args, **kwargs):
    return BODIES[key](*args, **kwargs)


@task(takes_context=True, metadata={"colour": "green"})
def do_with_context(context, key, *args):
    return BODIES[key](context, *args)


@task(max_attempts=3, backoff=_policy)
def do_again(key):
    return BODIES[key]()


@task(timeout=5)
def do_in_time(key):
    return BODIES[key]()


@task
async def ado(key, *args):
    return await BODIES[key](*args)


@task(takes_context=True, timeout=5)
async def ado_with_context(context, key):
    return await BODIES[key](context)


@task(executor="process")
def do_in_process(key, *args):
    return BODIES[key](*args)


@task(executor="process", takes_context=True)
def do_in_process_with_context(context, key):
    return BODIES[key](context)
