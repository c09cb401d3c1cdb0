"""Locks that a finalizer may come upon in the very thread that holds them.

The garbage collector runs finalizers wherever it likes, also in a thread that is changing what a lock guards. A
finalizer may stop calls, or drop an executor: what it comes to looks here first, and if its own thread has the lock, it
leaves things as they are. Called by ``pool``, ``thread`` and ``budget``.
"""

from __future__ import annotations

import threading


def is_held_here(lock: threading.RLock) -> bool:
    """Whether the calling thread holds ``lock``. ``threading.Condition`` asks in the same way."""
    return bool(lock._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001
