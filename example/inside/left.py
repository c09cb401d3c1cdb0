"""Counts the connections that nobody can close any more: those of threads that have ended. Called by `pages`.

A connection belongs to the thread that opened it. When that ends, the connection stays open until Python's garbage
collector comes across it, and nobody knows when that is. One that came from a pool never returns to it.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

from django.db.backends.signals import connection_created

_lock = threading.Lock()
_opened: WeakKeyDictionary[Any, tuple[int, threading.Thread]] = WeakKeyDictionary()  # guarded by _lock
_number = 0  # of the last one; guarded by _lock


def watch() -> None:
    """Remember from now on which thread opens a connection."""
    connection_created.connect(_remember, dispatch_uid="inside.left")


def _remember(connection: Any, **_: Any) -> None:
    global _number  # noqa: PLW0603 - one count for the process
    with _lock:
        _number += 1
        _opened[connection] = (_number, threading.current_thread())


def now() -> int:
    """Return the number of the last connection that was opened, for `count`."""
    with _lock:
        return _number


def count(since: int = 0) -> int:
    """Say how many of those that were opened since are open although their thread is gone."""
    with _lock:
        opened = list(_opened.items())
    return sum(
        number > since and connection.connection is not None and not thread.is_alive()
        for connection, (number, thread) in opened
    )
