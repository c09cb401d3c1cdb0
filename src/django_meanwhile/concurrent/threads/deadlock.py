"""Who waits for whom: a wait of a pool's thread that could never end is refused, not begun.

Called by ``future`` and ``pool`` for waits without a timeout in threads of ours.

A call that is awaited can end if it has ended already; if a thread runs it that does not wait;
or if it is in a queue, and its pool has a thread that does not wait, or room for one more. The
threads that are blocked for good are the largest set of waiting threads of which none awaits
what can end. That is computed anew when a thread is about to wait, as only then can the set
become larger; so the thread that would close the circle learns of it, and nobody else.

Waits with a timeout end by themselves and block nobody for good. Waits for anything else, as
``concurrent.futures.wait()``, ``as_completed()``, and the wait for all calls of a ``parallel()``
or ``TaskGroup``, are not seen.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from ...core.errors import WouldDeadlock

if TYPE_CHECKING:
    from .thread import Thread


class Awaited(Protocol):
    """What a thread waits for: a call's end, or room in a queue."""

    def can_come(self, blocked: AbstractSet[Thread]) -> bool:
        """Whether it can come although these threads never go on. May take a pool's lock, or a future's."""

    def describe_wait(self) -> str:
        """Say what is awaited, and why it would not come."""


_lock = threading.Lock()  # taken before the lock of a pool or future, never after
_waiting: dict[Thread, Awaited] = {}  # guarded by _lock


@contextmanager
def waiting(thread: Thread, awaited: Awaited) -> Iterator[None]:
    """Note that the calling ``thread`` waits in the block. Raises ``WouldDeadlock`` if that would be for ever."""
    with _lock:
        _waiting[thread] = awaited
        is_blocked = thread in _blocked()
        if is_blocked:
            del _waiting[thread]
    if is_blocked:
        raise WouldDeadlock(
            f"{thread.describe()} would wait for ever for {awaited.describe_wait()}. Do not wait in a call for other "
            "calls of its pool: return their futures, or use parallel() or a TaskGroup, which run nested calls in the "
            "thread that waits; or give the pool more max_workers than calls that wait."
        )
    try:
        yield
    finally:
        with _lock:
            _waiting.pop(thread, None)


def _blocked() -> AbstractSet[Thread]:
    """Return the threads that can never go on. Called under the lock."""
    blocked = set(_waiting)
    while going_on := {thread for thread in blocked if _waiting[thread].can_come(blocked)}:
        blocked -= going_on
    return blocked


# --- fork -----------------------------------------------------------------------------------


def before_fork() -> None:
    """Take the lock, so that the child gets consistent data. Called by ``lifetime``."""
    _lock.acquire()


def after_fork_in_parent() -> None:
    """Go on."""
    _lock.release()


def after_fork_in_child() -> None:
    """Forget the waits of threads that the child does not have."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _waiting.clear()
