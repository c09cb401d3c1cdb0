"""Named locks in a database: what every vendor's way of holding one promises.

Called by ``concurrent.lock``, which lets the threads and coroutines of a process stand in
one line first: a grip is what the first in the line needs.

=================  ===================================================================
locks_postgresql   an advisory lock, held by a transaction of a connection of its own
locks_sqlite       a row with a lease and a fence
=================  ===================================================================

A grip has a connection of its own, outside Django's pool and outside ``connections``: no
request, job or test closes it.
"""

from __future__ import annotations

import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from ..core.holder import Holder
from ..core.text import storable

_GRIPS = {
    "postgresql": "django_meanwhile.store.locks_postgresql.AdvisoryGrip",
    "sqlite": "django_meanwhile.store.locks_sqlite.RowGrip",
}


FENCES = "meanwhile_lock_fence"
"""The sequence of PostgreSQL that migration 0002 makes: fences of all names."""


class Lost(Exception):
    """The lock was not ours any more. Says how that is known."""


class Grip(ABC):
    """A lock of a database, taken, held and given back by one of us at a time; then taken again, or closed.

    ``interrupt`` and ``loss`` may be called from any thread, the others by whoever owns the grip.
    """

    #: Grows with each holder of this name. Set by ``take``.
    fence: int = 0
    #: Seconds that the lock stays ours unless it is renewed; 0: as long as the connection lives.
    lease: float = 0.0

    def __init__(self, alias: str, name: str) -> None:
        self.alias = alias
        self.name = name
        self.interrupted = threading.Event()
        #: What the connection costs this process; closed after it.
        self.place = ExitStack()

    @abstractmethod
    def take(self, seconds: float | None, thread: str) -> bool:
        """Wait until it is ours, for so many seconds; 0: try once; None: for ever. Return whether it is.

        ``thread`` is the name of the holder's. Returns False soon after ``interrupt``. After an error the
        connection is closed and nothing is held.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """End a ``take`` that runs, and wait for that end. After that it can only be released and closed."""

    @abstractmethod
    def loss(self) -> str | None:
        """Say how it is known that the lock is ours no more; None if it is, as far as can be told without waiting."""

    @abstractmethod
    def release(self, *, patient: bool) -> None:
        """Give it back. Raises ``Lost`` if it was ours no more. ``patient``: wait for others who write, if need be."""

    @abstractmethod
    def holder(self) -> Holder | None:
        """Ask who holds it, anywhere. None: nobody."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection, which frees what is held by it. Never raises, may be repeated."""

    def forget(self) -> None:  # noqa: B027 - most have nothing to let go of
        """In a child of a fork: let go of what belongs to the parent, without a word to the server."""


def make_grip(alias: str, name: str) -> Grip:
    """Make the grip on ``name`` in the database ``alias``. It connects when it is first used.

    Raises ``ImproperlyConfigured`` for a vendor on which there are no locks.
    """
    vendor = connections[alias].vendor
    if vendor not in _GRIPS:
        raise ImproperlyConfigured(
            f"Lock({name!r}): the database {alias!r} is of the vendor {vendor!r}; there are locks on "
            f"{' and '.join(sorted(_GRIPS))}. Name an alias of one of these: Lock({name!r}, using=...)."
        )
    grip: Grip = import_string(_GRIPS[vendor])(alias, name)
    return grip


def is_of_this_process(alias: str) -> bool:
    """Whether nobody else can see the database: it is in this process's memory."""
    connection: Any = connections[alias]
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())


def private_connection(alias: str, options: Mapping[str, object]) -> Any:
    """Make a connection to ``alias`` that Django does not know of, with ``options`` and without a pool.

    Any thread may use it, one at a time. It connects when it is first used.
    """
    known = connections[alias]
    ours = dict(connections.settings[alias])
    theirs = {key: value for key, value in ours.get("OPTIONS", {}).items() if key != "pool"}
    ours |= {"OPTIONS": {**theirs, **options}, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": False, "AUTOCOMMIT": True}
    connection = type(known)(ours, alias)
    connection.inc_thread_sharing()
    return connection


def host_name() -> str:
    """Return the name that this host has in a holder's description."""
    return storable(socket.gethostname())[:255]


def myself(thread: str) -> Holder:
    """Describe a thread of this process."""
    return Holder(host=host_name(), pid=os.getpid(), thread=storable(thread)[:255])
