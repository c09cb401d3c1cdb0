"""One worker per host and project: a file lock that the worker's whole tree inherits.

Taken by a server's keeper, handed to the worker it starts, and held by nobody else: the lock is free when the last
process of that worker is gone, and not before. So its next owner may declare the rows that the file names dead at
once, without waiting for their leases.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

from django.db import connections

_WHERE = ("ENGINE", "HOST", "PORT", "USER")

REMEMBERED = 8
"""Supervisors that the file names: the newest may have died before it could bury those before it."""


class NoWorker(Exception):
    """There can be no embedded worker here; the message says why and what to do."""


def lock_path(backend: str, database: str) -> Path:
    """Return the lock file of this project's ``backend`` on this host, for this user.

    A project is a settings module in a place of its own, with its database: two checkouts, and two projects in one
    database, have a worker each.
    """
    if database not in connections.settings:
        raise NoWorker(
            f'DATABASES has no {database!r}, which TASKS["{backend}"]["OPTIONS"]["DATABASE"] names. Write an alias of '
            "DATABASES there, and restart the server."
        )
    module = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    where = connections.settings[database]
    name = where.get("NAME")
    if connections[database].vendor == "sqlite":
        name = Path(str(name)).resolve()
    parts = [module, _place(module), backend, name, *(where.get(key) for key in _WHERE)]
    parts += [
        where.get("OPTIONS", {}).get(key) for key in ("service", "options")
    ]  # PostgreSQL: which one, which schema
    digest = hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:16]
    return _directory() / f"{digest}.lock"


def try_lock(path: Path) -> int | None:
    """Take the lock; return its descriptor, or None while somebody else has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_file_at(path, descriptor):
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


@dataclass(frozen=True, kw_only=True)
class Note:
    """What the file says. ``supervisors`` are those that had the lock, oldest first: the next owner buries their rows.

    ``stopped_at`` is monotonic: when the last one was told to stop by somebody who was not its server.
    """

    supervisors: tuple[UUID, ...] = ()
    stopped_at: float | None = None


def read_note(descriptor: int) -> Note:
    """Return what the file says; a damaged one says nothing."""
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
        stopped_at = found["stopped_at"]
        return Note(
            supervisors=tuple(UUID(text) for text in found["supervisors"]),
            stopped_at=None if stopped_at is None else float(stopped_at),
        )
    except (ValueError, TypeError, AttributeError, KeyError):
        return Note()


def write_note(descriptor: int, note: Note) -> None:
    """Write what the next owner must know."""
    supervisors = [str(supervisor) for supervisor in note.supervisors[-REMEMBERED:]]
    text = json.dumps({"supervisors": supervisors, "stopped_at": note.stopped_at}).encode()
    os.pwrite(descriptor, text, 0)
    os.ftruncate(descriptor, len(text))


def _place(module: str) -> str:
    """Return where the settings module lies."""
    spec = find_spec(module) if module else None
    return str(spec.origin) if spec else ""


def _directory() -> Path:
    """Return a directory that only this user can write to; in a shared one anybody could keep our lock."""
    directory = Path(tempfile.gettempdir()) / f"django-meanwhile-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise NoWorker(
            f"{directory} is not a directory that only this user (id {os.getuid()}) can write to, so the lock of the "
            "embedded worker cannot be trusted there. Remove it, or set TMPDIR to a directory of the server's own."
        )
    return directory


def _is_file_at(path: Path, descriptor: int) -> bool:
    """Whether the locked file is still the one that others will open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
