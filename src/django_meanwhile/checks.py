"""System checks: what ``manage.py check`` says about django_meanwhile. Registered by the app's ``ready()``.

======================  ==============================================================================================
``meanwhile.E001``      a mistake in the setting ``MEANWHILE`` (found by ``conf``)
``meanwhile.E002``      a backend's database is of a vendor that has no store
``meanwhile.E003``      SQLite is older than 3.35
``meanwhile.W001``      installed, but no backend in ``TASKS`` is ours
``meanwhile.W002``      SQLite begins transactions deferred: enqueue() can fail with "database is locked"
``meanwhile.W003``      the database is in SQLite's memory: no worker can see it
``meanwhile.W004``      ``--deploy`` only: nobody works a queue that has due jobs, or no worker lives at all
======================  ==============================================================================================

What concerns one backend alone (its OPTIONS, two that share a queue) is said by ``DatabaseBackend.check()``, which
Django calls by itself: E020 to E025. The command ``meanwhile check`` alone says E030 to E032 and W030, which take a
database to know. No check here asks one, but for W004, and that one keeps silent where the database does not answer.

Every process imports this module, and most never run a check: what a check needs is imported where it runs.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections
from django.utils.connection import ConnectionDoesNotExist

from .conf import read_settings

TAG = "meanwhile"

OLDEST_SQLITE = (3, 35)
"""The first with ``RETURNING``."""


@register(TAG)
def check_settings(**_kwargs: Any) -> list[CheckMessage]:
    """E001."""
    _, problems = read_settings()
    return [Error(problem.message, hint=problem.hint, id=problem.id) for problem in problems]


@register(TAG)
def check_installed(**_kwargs: Any) -> list[CheckMessage]:
    """W001."""
    from .management.backends import TASKS_LINE, our_backends

    if our_backends():
        return []
    return [
        checks.Warning(
            '"django_meanwhile" is in INSTALLED_APPS, but no backend in TASKS uses it: '
            "nothing is run in the background.",
            hint=f"Write: {TASKS_LINE}",
            id="meanwhile.W001",
        )
    ]


@register(TAG)
def check_databases(**_kwargs: Any) -> list[CheckMessage]:
    """E002, E003, W002, W003: each database that holds our jobs, by its settings."""
    from .management.backends import our_backends
    from .store import get_store

    messages: list[CheckMessage] = []
    for alias in sorted({served.database for served in our_backends()}):
        try:
            connection = connections[alias]
        except (ConnectionDoesNotExist, ImproperlyConfigured):  # DatabaseBackend.check() says so, or Django
            continue
        try:
            get_store(alias)
        except ImproperlyConfigured as error:
            hint = 'Write "OPTIONS": {"DATABASE": "..."} with such an alias in TASKS.'
            messages.append(Error(str(error), hint=hint, id="meanwhile.E002"))
        else:
            messages += _check_sqlite(alias, connection) if connection.vendor == "sqlite" else ()
    return messages


@register(TAG, deploy=True)
def check_workers(**_kwargs: Any) -> list[CheckMessage]:
    """W004."""
    from .management.backends import our_backends

    messages: list[CheckMessage] = []
    for alias in sorted({served.database for served in our_backends()}):
        try:
            messages += _nobody_works(alias)
        except (ConnectionDoesNotExist, ImproperlyConfigured, DatabaseError):
            continue  # no database where the check runs, as in the build of an image
    return messages


def _check_sqlite(alias: str, connection: Any) -> Iterator[CheckMessage]:
    version: tuple[int, ...] = connection.Database.sqlite_version_info
    if version < OLDEST_SQLITE:
        yield Error(
            f"SQLite is {'.'.join(map(str, version))}: the database {alias!r} of django_meanwhile needs 3.35 or "
            f"newer, for RETURNING.",
            hint="Use a Python built with a newer SQLite, or PostgreSQL.",
            id="meanwhile.E003",
        )
    settings = connection.settings_dict
    if str(settings["OPTIONS"].get("transaction_mode")).upper() not in {"IMMEDIATE", "EXCLUSIVE"}:
        yield checks.Warning(
            f"The SQLite database {alias!r} begins its transactions deferred: enqueue() in a transaction that has "
            f"read before fails at once "
            'with "database is locked" whenever a worker is writing.',
            hint=f'Write: DATABASES["{alias}"]["OPTIONS"] = {{"transaction_mode": "IMMEDIATE"}}',
            id="meanwhile.W002",
        )
    name = str(settings["NAME"])
    is_memory = name == ":memory:" or "mode=memory" in name
    if is_memory and "memorydb_" not in name:  # that one is the test runner's
        yield checks.Warning(
            f"The database {alias!r} is in SQLite's memory: a worker is another process, and cannot see its jobs.",
            hint=f'Write: DATABASES["{alias}"]["NAME"] = BASE_DIR / "db.sqlite3"',
            id="meanwhile.W003",
        )


def _nobody_works(alias: str) -> Iterator[CheckMessage]:
    from .management.diagnosis import unserved_queues
    from .management.snapshot import take
    from .store import get_store

    settings = connections[alias].settings_dict
    if connections[alias].vendor == "sqlite" and not Path(settings["NAME"]).exists():
        return  # to connect would create it
    snapshot = take(get_store(alias), (), overdue_after=60)
    findings = list(unserved_queues(snapshot.depths, snapshot.workers, snapshot.overdue))
    for finding in findings:
        yield checks.Warning(finding.message, hint=finding.advice, id="meanwhile.W004")
    if not findings and not any(worker.living for worker in snapshot.workers):
        yield checks.Warning(
            f"No worker lives in the database {alias!r}: what is enqueued will wait.",
            hint="Run beside the web server, under whatever keeps processes alive: manage.py meanwhile worker",
            id="meanwhile.W004",
        )
