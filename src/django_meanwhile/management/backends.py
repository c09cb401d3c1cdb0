"""Which backends of ``TASKS`` are ours, on which database, and whether that database is ready.

Called by every subcommand and by ``checks``; asks a database only where the name says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import DatabaseError, connections
from django.utils.connection import ConnectionDoesNotExist

from ..compat import DEFAULT_TASK_BACKEND_ALIAS, task_backends
from ..conf import Settings, get_settings
from ..logs import escape
from ..models import Attempt, Job, Worker
from ..store import Store, get_store
from ..tasks.backend import DatabaseBackend
from .wording import did_you_mean, one_of

BACKEND_PATH = "django_meanwhile.backends.DatabaseBackend"
TASKS_LINE = f'TASKS = {{"default": {{"BACKEND": "{BACKEND_PATH}"}}}}'

_APP = "meanwhile"

TAG = "meanwhile"
"""The tag of our system checks."""

UNREACHABLE = 2
"""Exit status where the database cannot be asked, for want of a server, of tables or of an alias."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A backend of ours. ``queues`` empty: it takes every queue name."""

    backend: str
    database: str
    queues: tuple[str, ...]


def our_backends() -> list[Served]:
    """Return the backends that are ours, as far as they can be made."""
    found = []
    for alias in task_backends:
        try:
            found.append(_served(alias))
        except (ImproperlyConfigured, CommandError, KeyError, TypeError):  # the checks tell
            continue
    return found


def choose_backend(alias: str | None) -> Served:
    """Return the backend named, or without a name the default one, or the only one of ours.

    Raises ``CommandError`` for an unknown alias, or one that is not ours.
    """
    if alias is None:
        ours = our_backends()
        default = [served for served in ours if served.backend == DEFAULT_TASK_BACKEND_ALIAS]
        if default or len(ours) == 1:
            return (default or ours)[0]
        if ours:
            names = one_of(served.backend for served in ours)
            raise CommandError(
                f"TASKS has {len(ours)} backends of django_meanwhile, none of them called default: {names}. "
                "Name one with --backend."
            )
        raise CommandError(f"TASKS has no backend of django_meanwhile. Write in your settings:\n  {TASKS_LINE}")
    if alias not in set(task_backends):
        raise CommandError(
            f"--backend {escape(alias)}: TASKS has no backend of that name. "
            f"{did_you_mean(escape(alias), task_backends)}"
        )
    try:
        return _served(alias)
    except ImproperlyConfigured as error:
        raise CommandError(f'--backend {alias}: TASKS["{alias}"] cannot be used: {error}') from error


def problems(backends: Iterable[Served], *, deploy: bool = False) -> list[checks.CheckMessage]:
    """Run our system checks and those of these backends, which Django runs among the checks of all apps."""
    found = checks.run_checks(tags=[TAG], include_deployment_checks=deploy)
    for served in backends:
        found += task_backends[served.backend].check()
    return [message for message in found if not message.is_silenced()]


def settings_in_force() -> Settings:
    """Return the settings; ``CommandError`` with every problem and its mend if they are wrong."""
    try:
        return get_settings()
    except ImproperlyConfigured as error:
        raise CommandError(f"The settings are wrong:\n{error}") from error


def by_database(alias: str | None) -> dict[str, list[Served]]:
    """Group our backends by their database; with ``alias``, only the database of that one."""
    only = choose_backend(alias).database if alias is not None else None
    grouped: dict[str, list[Served]] = {}
    for served in our_backends() or [choose_backend(None)]:
        if only in (None, served.database):
            grouped.setdefault(served.database, []).append(served)
    return grouped


def store_on(database: str) -> Store:
    """Return the store on ``database``; ``CommandError`` for an alias or a vendor that cannot be."""
    try:
        return get_store(database)
    except ConnectionDoesNotExist:
        raise CommandError(
            f"DATABASES has no {database!r}, which a backend in TASKS names as its DATABASE. "
            f"{did_you_mean(database, connections)}",
            returncode=UNREACHABLE,
        ) from None
    except ImproperlyConfigured as error:
        raise CommandError(str(error), returncode=UNREACHABLE) from error


@contextmanager
def reachable(database: str) -> Iterator[None]:
    """Turn a database that does not answer, or has no tables of ours, into a ``CommandError`` with status 2."""
    try:
        yield
    except DatabaseError as error:
        reason = escape(str(error).strip())
        if _has_tables(database) is False:
            raise CommandError(no_tables(database), returncode=UNREACHABLE) from error
        raise CommandError(
            f"Database {database!r} did not answer: {reason}\nLook at DATABASES[{database!r}] in your settings, "
            f"and whether the server runs.",
            returncode=UNREACHABLE,
        ) from error


def no_tables(database: str) -> str:
    """Say that the tables are missing, and what to do."""
    return f"Database {database!r} lacks the tables of django_meanwhile. Run: {migrate_line(database)}"


def migrate_line(database: str) -> str:
    """Return the command that creates or updates our tables."""
    return "manage.py migrate meanwhile" + ("" if database == "default" else f" --database {database}")


def missing_migrations(database: str) -> list[str]:
    """Ask ``database`` which migrations of ours it lacks. Without migrations (tests), only the tables count."""
    from django.db.migrations.executor import MigrationExecutor  # noqa: PLC0415 - slow, and seldom needed

    executor = MigrationExecutor(connections[database])
    targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] == _APP]
    if not targets:
        return [] if _has_tables(database) else ["the tables"]
    return [migration.name for migration, _backwards in executor.migration_plan(targets) if migration.app_label == _APP]


def _served(alias: str) -> Served:
    backend = task_backends[alias]
    if not isinstance(backend, DatabaseBackend):
        cls = f"{type(backend).__module__}.{type(backend).__qualname__}"
        ours = one_of(name for name in task_backends if isinstance(task_backends[name], DatabaseBackend))
        raise CommandError(
            f'--backend {alias}: TASKS["{alias}"] is a {cls}, which has no jobs in a database. '
            f"Backends of django_meanwhile: {ours}. "
            f'To make this one: "BACKEND": "{BACKEND_PATH}".'
        )
    if not isinstance(backend.options, Mapping):
        raise CommandError(f'TASKS["{alias}"]["OPTIONS"] is {backend.options!r}: it must be a dictionary.')
    return Served(backend=alias, database=backend.database, queues=tuple(sorted(map(str, backend.queues))))


def _has_tables(database: str) -> bool | None:
    """Say whether our tables are there; None if the database does not answer."""
    try:
        tables = set(connections[database].introspection.table_names())
    except DatabaseError:
        return None
    return {model._meta.db_table for model in (Job, Worker, Attempt)} <= tables  # noqa: SLF001 - documented
