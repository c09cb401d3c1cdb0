"""Counts the connections that nobody can close any more: those of threads that have ended. Called by `pages`.

A connection belongs to the thread that opened it. When that ends, the connection stays open until Python's garbage
collector comes across it, and nobody knows when that is. One that came from a pool never returns to it.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

from django.db.backends.signals import connection_created

_opened_by: WeakKeyDictionary[Any, threading.Thread] = WeakKeyDictionary()
_lock = threading.Lock()


def watch() -> None:
    """Remember from now on which thread opens a connection."""
    connection_created.connect(_remember, dispatch_uid="inside.left")


def _remember(connection: Any, **_: Any) -> None:
    with _lock:
        _opened_by[connection] = threading.current_thread()


def count() -> int:
    """Say how many are open although their thread is gone."""
    with _lock:
        opened = list(_opened_by.items())
    return sum(connection.connection is not None and not thread.is_alive() for connection, thread in opened)
