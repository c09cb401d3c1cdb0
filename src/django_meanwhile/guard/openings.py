"""Who has opened which connection, and where; and which cursors of a connection live.

Listens to Django's ``connection_created``, which every backend sends in the thread that connects, and wraps
``BaseDatabaseWrapper._prepare_cursor``, which every new cursor passes through. Used by ``threads`` and ``streams``.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from .findings import Stack, stack, target

_CURSORS = "_meanwhile_cursors"  # an attribute of connections that were opened under the guard: which one, and cursors
_prepare_cursor = BaseDatabaseWrapper._prepare_cursor  # type: ignore[attr-defined]  # noqa: SLF001 - no public seam


@dataclass(frozen=True, slots=True)
class Opening:
    """One connection that the thread has opened."""

    connection: BaseDatabaseWrapper
    stack: Stack
    #: What the thread was started to call: in the stack it is not there if it is a method of Django's.
    target: str


class Ledger:
    """What a thread has done so far. Refers to nothing that refers to it: it must die with its thread, at once."""

    def __init__(self) -> None:
        #: The last connection to each database; closed ones too, which the next one replaces.
        self.opened: dict[str, Opening] = {}
        #: It answers requests for a WSGI server: ``CONN_MAX_AGE`` is made for it.
        self.serves = False


class _Guard:
    number = 0
    """Counts how often it was switched off: what was seen before that is not all that there is."""


class _Mine(threading.local):
    def __init__(self) -> None:
        self.ledger = Ledger()


_mine = _Mine()


def my_ledger() -> Ledger:
    """Return the calling thread's."""
    return _mine.ledger


def start() -> None:
    """Watch what is opened from now on."""
    connection_created.connect(_opened, dispatch_uid="django_meanwhile.guard.openings")
    BaseDatabaseWrapper._prepare_cursor = _prepare_watched_cursor  # type: ignore[attr-defined]  # noqa: SLF001 - as above


def stop() -> None:
    """Leave Django as it was. Idempotent."""
    _Guard.number += 1
    connection_created.disconnect(dispatch_uid="django_meanwhile.guard.openings")
    BaseDatabaseWrapper._prepare_cursor = _prepare_cursor  # type: ignore[attr-defined]  # noqa: SLF001 - as above


def is_open(connection: BaseDatabaseWrapper) -> bool:
    """Whether this connection holds something that others lack: a socket, a place in a pool, a file."""
    if connection.connection is None or connection.closed_in_transaction:
        return False
    in_memory = getattr(connection, "is_in_memory_db", None)
    return not (in_memory is not None and in_memory())


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether Django has a transaction open on it. Asks nobody."""
    return connection.in_atomic_block or connection.autocommit != connection.settings_dict["AUTOCOMMIT"]


def is_being_read(connection: BaseDatabaseWrapper) -> bool:
    """Whether somebody holds a cursor on it that is not closed, or that may not be: a begun ``iterator()``, say."""
    cursors = _cursors_of(connection)
    return cursors is None or any(not getattr(cursor, "closed", False) for cursor in list(cursors))


def _cursors_of(connection: BaseDatabaseWrapper) -> WeakSet[Any] | None:
    """Return those that live; None: not all of them have been seen."""
    number, cursors = getattr(connection, _CURSORS, (None, None))
    return cursors if number == _Guard.number else None


def _opened(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if connection.allow_thread_sharing:  # it outlives its thread on purpose, and is not the thread's own
        return
    setattr(connection, _CURSORS, (_Guard.number, WeakSet()))
    _mine.ledger.opened[connection.alias] = Opening(connection, stack(), target())


def _prepare_watched_cursor(connection: BaseDatabaseWrapper, cursor: Any) -> Any:
    cursors = _cursors_of(connection)
    if cursors is not None:
        try:
            cursors.add(cursor)
        except TypeError:  # a driver whose cursors cannot be referred to weakly: nothing can be said about this one
            delattr(connection, _CURSORS)
    return _prepare_cursor(connection, cursor)
