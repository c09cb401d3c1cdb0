"""Which backend of ``TASKS`` a test is about, and a plain refusal if it keeps no jobs in a database.

Called by everything in this package that looks at jobs.
"""

from __future__ import annotations

import asyncio

from django.core.exceptions import SynchronousOnlyOperation

from ..compat import DEFAULT_TASK_BACKEND_ALIAS, task_backends
from ..tasks.backend import DatabaseBackend
from .errors import UnusableForTests


def database_backend(alias: str | None, what: str) -> DatabaseBackend:
    """Return the backend ``alias``; ``UnusableForTests`` if ``what`` cannot work with it."""
    alias = alias or DEFAULT_TASK_BACKEND_ALIAS
    backend = task_backends[alias]
    if isinstance(backend, DatabaseBackend):
        return backend
    path = f"{type(backend).__module__}.{type(backend).__qualname__}"
    raise UnusableForTests(
        f'{what}: TASKS["{alias}"] is {path}, which keeps no jobs in the database. Let the tests use '
        '"django_meanwhile.backends.DatabaseBackend", as production does: nothing runs by itself under a test '
        "runner. (capture_enqueued() works with every backend.)"
    )


def database_backends() -> list[DatabaseBackend]:
    """Return all of our backends in ``TASKS``."""
    return [backend for alias in task_backends if isinstance(backend := task_backends[alias], DatabaseBackend)]


def refuse_event_loop(what: str, instead: str) -> None:
    """Raise ``SynchronousOnlyOperation`` in async code: the database would refuse later, and darkly."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SynchronousOnlyOperation(f"{what} waits for the database. In async code write: {instead}")
