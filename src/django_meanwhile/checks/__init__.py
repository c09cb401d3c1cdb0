"""System checks: what ``manage.py check`` says about django_meanwhile. Registered by the app's ``ready()``.

======================  ==============================================================================================
``meanwhile.E001``      a mistake in the setting ``MEANWHILE`` (found by ``conf``)
``meanwhile.E002``      a backend's database is of a vendor that has no store
``meanwhile.E003``      SQLite is older than 3.35
``meanwhile.E004``      an entry of ``TASKS`` from which no backend can be made
``meanwhile.E005``      a module of tasks that cannot be imported: no worker starts
``meanwhile.E006``      a hook of ``MEANWHILE["CONTEXT"]`` that is none
``meanwhile.E007``      ``MEANWHILE["WORKER"]["queues"]`` has a name that no backend has: no worker starts
``meanwhile.E008``      a database router keeps our tables out of the database that a backend uses
``meanwhile.W001``      installed, but no backend in ``TASKS`` is ours
``meanwhile.W002``      SQLite begins transactions deferred: enqueue() can fail with "database is locked"
``meanwhile.W003``      the database is in SQLite's memory: no worker can see it
``meanwhile.W004``      ``--deploy`` only: nobody works a queue that has due jobs, or no worker lives at all
``meanwhile.W005``      the SQLite file is named by a relative path: a worker started elsewhere has another one
``meanwhile.W006``      the SQLite file is on a network share
``meanwhile.W007``      tasks in a module that belongs to no installed app: no worker would find them
``meanwhile.W008``      tasks that the worker of these settings would not run, and the web server brings no other
``meanwhile.W009``      every request is in a transaction, and the jobs are in another database: enqueue() refuses
``meanwhile.W010``      a setting whose name is nearly ``MEANWHILE``
``meanwhile.W011``      the project's logging drops the warnings of our loggers
``meanwhile.W012``      ``--database`` only: all processes together may open more connections than the server allows
``meanwhile.W013``      Django's pool is smaller than the threads that ask it
``meanwhile.W014``      ASGI, and ``CONN_MAX_AGE`` keeps connections of threads that end with their request
======================  ==============================================================================================

What concerns one backend alone (its OPTIONS, two that share a queue) is said by ``DatabaseBackend.check()``, which
Django calls by itself: E020 to E025, W020. The command ``meanwhile check`` alone says E030 to E032 and W030, which
take a database to know. No check here asks one, but for W004 and W012, and those keep silent where the database does
not answer.

Every process imports this module, and most never run a check: what a check needs is imported where it runs, from the
module of its topic.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, register

TAG = "meanwhile"


@register(TAG)
def check_settings(**_kwargs: Any) -> list[CheckMessage]:
    """E001, E006, W010, W011."""
    from . import project

    return list(project.check())


@register(TAG)
def check_backends(**_kwargs: Any) -> list[CheckMessage]:
    """E004, W001."""
    from . import backends

    return list(backends.check())


@register(TAG)
def check_databases(**_kwargs: Any) -> list[CheckMessage]:
    """E002, E003, E008, W002, W003, W005, W006, W009: each database that holds our jobs, by its settings."""
    from . import databases

    return list(databases.check())


@register(TAG)
def check_tasks(**_kwargs: Any) -> list[CheckMessage]:
    """E005, E007, W007, W008."""
    from . import tasks

    return list(tasks.check())


@register(TAG, deploy=True)
def check_workers(**_kwargs: Any) -> list[CheckMessage]:
    """W004."""
    from . import workers

    return list(workers.check())


@register(TAG)
def check_connections(**_kwargs: Any) -> list[CheckMessage]:
    """W013, W014."""
    from . import connections

    return list(connections.check())


@register(Tags.database)  # ours alone would run it without --database too, wherever our tag is asked for
def check_budget(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """W012: each database that ``--database`` names."""
    from . import connections

    return list(connections.check_budget(databases or ()))
