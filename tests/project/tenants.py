"""A context hook as a project with tenants would write it, and a task that says which tenant it found."""

import contextlib
from contextvars import ContextVar

from django_meanwhile import task

current = ContextVar("current", default=None)


class Tenant:
    def capture(self):
        return current.get()

    @contextlib.contextmanager
    def restore(self, value):
        token = current.set(value)
        try:
            yield
        finally:
            current.reset(token)


@task
def tenant():
    return current.get()


@task
async def atenant():
    return current.get()


@task(executor="process")
def process_tenant():
    return current.get()
