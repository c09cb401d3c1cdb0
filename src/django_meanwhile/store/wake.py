"""Wake-ups: somebody enqueued or cancelled, so a waiting worker need not wait for its poll.

::

    enqueue ─ on_commit ─▶ announce(alias, queues) ─▶ NOTIFY meanwhile, 'queue' ─▶ PostgreSQLListener ┐
    any commit to the file ─────────────────────────▶ PRAGMA data_version ───────▶ SQLiteListener ────┴▶ wait()

``announce`` is called after the commit, in the thread that enqueued. A listener is a
long-lived part of one supervisor thread, made by :func:`make_listener`.

An accelerator, never a condition: a lost wake-up costs one poll. Nothing here runs inside a
user's transaction (a NOTIFY there would serialise all commits of the database), reads
a job or raises because the database is gone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Any, Protocol

from django.db import DatabaseError, InterfaceError, connections
from django.utils.module_loading import import_string

from ..conf import real_clock
from ..logs import get_logger
from . import get_store

logger = get_logger("store")

WINDOW = 0.05
"""Seconds. One announcement of a queue stands for all enqueues of that long: a woken worker looks again after it."""

ANYTHING = "*"
"""What a listener reports when it knows only that something was written, or that it may have missed something."""

CANCEL = "*cancel"
"""Announced by a cancel: the workers look which of their jobs it was. Not the name of a queue."""

_LISTENERS = {
    "postgresql": "django_meanwhile.store.postgresql_listener.PostgreSQLListener",
    "sqlite": "django_meanwhile.store.sqlite_listener.SQLiteListener",
}

_clock = real_clock()
_lock = threading.Lock()
_announced: dict[tuple[str, str], float] = {}  # guarded by _lock: when (alias, queue) was last announced


def announce(alias: str, queues: Iterable[str]) -> None:
    """Wake workers that wait for ``queues``. Call it after the commit, outside any transaction.

    Leading edge: the first announcement of a queue goes out at once, others within
    ``WINDOW`` are dropped. A failure is logged and forgotten; the poll makes up for it.
    """
    store = get_store(alias)
    if not store.supports_notify:
        return
    due = _take({(alias, queue) for queue in queues})
    if not due:
        return
    try:
        store.notify(queue for _, queue in due)
    except (DatabaseError, InterfaceError) as error:
        with _lock:
            for key in due:
                _announced.pop(key, None)
        logger.warning("database %r: workers could not be woken, their poll will find the work: %s", alias, error)


def _take(keys: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those not announced within the window, and mark them as announced."""
    now = _clock.monotonic()
    with _lock:
        due = [key for key in sorted(keys) if now - _announced.get(key, -WINDOW) >= WINDOW]
        _announced.update(dict.fromkeys(due, now))
    return due


class Listener(Protocol):
    """Waits for announcements. ``wait`` belongs to one thread, ``close`` may come from any."""

    def wait(self, timeout: float) -> set[str]:
        """Return the queues announced since the last call, at the latest after ``timeout`` seconds.

        ``ANYTHING`` stands for any of them, ``CANCEL`` for a cancel. Empty after the timeout, while the
        database is gone, and at once after ``close``.
        """
        ...

    def close(self) -> None:
        """End a running ``wait`` within 0.2 s, and free everything. Idempotent."""
        ...


class WaitingListener:
    """Hears nothing: for databases, drivers and poolers that cannot wake anybody. The poll does it all."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def wait(self, timeout: float) -> set[str]:
        """See ``Listener``."""
        self._closed.wait(timeout)
        return set()

    def close(self) -> None:
        """See ``Listener``."""
        self._closed.set()


def make_listener(alias: str) -> Listener:
    """Make the best listener for the database ``alias``. It connects by itself, later, and again when cut off."""
    connection: Any = connections[alias]
    deaf = (connection.vendor == "postgresql" and (not get_store(alias).supports_notify or _is_pooled(connection))) or (
        connection.vendor == "sqlite" and connection.is_in_memory_db()
    )
    if deaf or connection.vendor not in _LISTENERS:
        return WaitingListener()
    listener: Listener = import_string(_LISTENERS[connection.vendor])(alias)
    return listener


def _is_pooled(connection: Any) -> bool:
    """Say whether a pooler gives a server's connection to somebody else after each transaction.

    Nobody can see that from here; but the project has told Django, which could not use server-side cursors either.
    LISTEN would stay behind on the server's connection: never heard here, it would pile up notifications in whatever
    clients use that connection next, web processes among them.
    """
    return bool(connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"))


if hasattr(os, "register_at_fork"):
    # A fork while another thread holds the lock would leave the child's lock taken for ever.
    def _new_lock() -> None:
        global _lock  # noqa: PLW0603 - the module's one lock
        _lock = threading.Lock()

    os.register_at_fork(after_in_child=_new_lock)
