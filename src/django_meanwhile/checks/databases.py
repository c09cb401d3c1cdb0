"""Each database that holds our jobs, by its settings alone. Called by ``checks``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.utils.connection import ConnectionDoesNotExist

from ..management.backends import Served, our_backends
from ..models import Job
from ..store import get_store

OLDEST_SQLITE = (3, 35)
"""The first with ``RETURNING``."""

NETWORK = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
)
"""File systems on which SQLite's locks, or the memory that its WAL shares, do not hold."""

MOUNTS = Path("/proc/self/mountinfo")


def check() -> Iterator[CheckMessage]:
    """Yield E002, E003, E008, W002, W003, W005, W006, W009."""
    ours = our_backends()
    for alias in sorted({served.database for served in ours}):
        try:
            connection = connections[alias]
        except (ConnectionDoesNotExist, ImproperlyConfigured):  # DatabaseBackend.check() says so, or Django
            continue
        try:
            get_store(alias)
        except ImproperlyConfigured as error:
            hint = 'Write "OPTIONS": {"DATABASE": "..."} with such an alias in TASKS.'
            yield Error(str(error), hint=hint, id="meanwhile.E002")
            continue
        if connection.vendor == "sqlite":
            yield from _check_sqlite(alias, connection)
        yield from _check_router(alias)
    for served in ours:
        yield from _check_requests(served)


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
    yield from _check_mode(alias, settings["OPTIONS"].get("transaction_mode"))
    yield from _check_file(alias, str(settings["NAME"]))


def _check_mode(alias: str, mode: object) -> Iterator[CheckMessage]:
    given = str(mode).upper()
    if mode is not None and given in {"IMMEDIATE", "EXCLUSIVE"}:
        return
    line = f'Write: DATABASES["{alias}"]["OPTIONS"] = {{"transaction_mode": "IMMEDIATE"}}'
    if mode is None or given == "DEFERRED":
        message = (
            f"The SQLite database {alias!r} begins its transactions deferred: enqueue() in a transaction that has read "
            'before fails at once with "database is locked" whenever a worker is writing.'
        )
    else:
        message = (
            f'DATABASES["{alias}"]["OPTIONS"] has "transaction_mode": {mode!r}, which SQLite does not know: Django '
            "refuses to connect."
        )
        near = difflib.get_close_matches(given, ["IMMEDIATE", "EXCLUSIVE", "DEFERRED"], n=1)
        line = f'Did you mean "{near[0]}"? {line}' if near else line
    yield checks.Warning(message, hint=line, id="meanwhile.W002")


def _check_file(alias: str, name: str) -> Iterator[CheckMessage]:
    line = f'DATABASES["{alias}"]["NAME"] = BASE_DIR / "db.sqlite3"'
    if name == ":memory:" or "mode=memory" in name:
        if "memorydb_" not in name:  # that one is the test runner's
            yield checks.Warning(
                f"The database {alias!r} is in SQLite's memory: a worker is another process, and cannot see its jobs.",
                hint=f"Write: {line}",
                id="meanwhile.W003",
            )
        return
    if name.startswith("file:"):
        return
    if not Path(name).is_absolute():
        yield checks.Warning(
            f"The SQLite database {alias!r} is {name!r}, relative to the directory that a process is started in: a "
            "worker started elsewhere works on another file.",
            hint=f"Write: {line}",
            id="meanwhile.W005",
        )
    kind = filesystem(Path(name))
    if kind in NETWORK:
        yield checks.Warning(
            f"The SQLite database {alias!r} is on a file system of type {kind}, a network share, where locks and WAL "
            "do not hold: it will be damaged when several processes write.",
            hint=f"Move the file to a local disk: {line}. For several hosts use PostgreSQL.",
            id="meanwhile.W006",
        )


def filesystem(path: Path) -> str | None:
    """Return the type of the file system that ``path`` is on, as Linux names it; None where nobody says."""
    try:
        place = str(path.resolve())
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found: tuple[int, str | None] = (-1, None)
    for line in lines:
        before, _, after = line.partition(" - ")
        mounted = _unescaped(before.split()[4])
        inside = place == mounted or place.startswith(mounted.rstrip("/") + "/")
        if inside and len(mounted) >= found[0]:  # of two on one place, the later hides the earlier
            found = len(mounted), after.split()[0]
    return found[1]


def _unescaped(text: str) -> str:
    return re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), text)


def _check_router(alias: str) -> Iterator[CheckMessage]:
    if not router.allow_migrate_model(alias, Job):
        yield Error(
            f"A router in DATABASE_ROUTERS keeps the tables of django_meanwhile out of the database {alias!r}, which a "
            "backend in TASKS uses: no migrate will make them there.",
            hint=f'Let its allow_migrate() return True for {alias!r} and the app label "meanwhile".',
            id="meanwhile.E008",
        )


def _check_requests(served: Served) -> Iterator[CheckMessage]:
    for alias in connections:
        if alias == served.database or not connections[alias].settings_dict.get("ATOMIC_REQUESTS"):
            continue
        if served.database in connections and connections[served.database].settings_dict.get("ATOMIC_REQUESTS"):
            continue
        yield checks.Warning(
            f'DATABASES["{alias}"] has ATOMIC_REQUESTS, and the jobs of TASKS["{served.backend}"] are in the database '
            f"{served.database!r}: enqueue() in a view would commit apart from the request's data, and raises "
            "TransactionMismatch.",
            hint=f'Keep the jobs with the data: TASKS["{served.backend}"]["OPTIONS"] = {{"DATABASE": "{alias}"}}. Or '
            "write .using(outside_transaction=True) where a job may go its own way.",
            id="meanwhile.W009",
        )
