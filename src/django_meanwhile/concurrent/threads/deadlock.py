"""Who waits for whom: of waits that could never end one is refused, and the others go on.

Called by ``future``, ``pool`` and ``together.scope`` for waits without a timeout in threads of ours.

A call that is awaited can end if it has ended already; if a thread runs it that does not wait;
or if it is in a queue, and its pool has a thread that does not wait, or room for one more. A
scope (``parallel()``, ``TaskGroup``) can end if all its calls can; a thread that waits for a scope of
its own pool's calls runs those that are queued. The threads that are blocked for good are the
largest set of waiting threads of which none awaits what can come. That is computed anew when a
thread is about to wait, as only then can the set become larger.

So it is the thread that would close the circle that learns of it, and nobody else. But if it waits for
a scope, one of whose calls runs and waits in turn, that call's wait is refused: Python code
cannot be stopped, but an error ends it, and it is the same one whoever comes last.

Waits with a timeout end by themselves and block nobody for good. Waits for anything else, as
``concurrent.futures.wait()``, ``as_completed()``, ``parallel_map()`` and an event loop in the
thread, are not seen; nor is a wait in a thread that is none of ours, for which nobody waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from ...core.errors import WouldDeadlock

if TYPE_CHECKING:
    from .thread import Thread


class Awaited(Protocol):
    """What a thread waits for: a call's end, those of a scope, or room in a queue."""

    def can_come(self, blocked: AbstractSet[Thread]) -> bool:
        """Whether it can come although these threads never go on. May take a pool's lock, or a future's."""

    def describe_wait(self) -> str:
        """Say what is awaited, and why it would not come."""

    def runner(self) -> Thread | None:
        """Return the blocked thread without which this wait cannot end, and which is to learn of it in its place."""


class Wait:
    """One wait of a thread. ``wake`` is called once it has been refused, in any thread."""

    __slots__ = ("awaited", "error", "wake")

    def __init__(self, awaited: Awaited, wake: Callable[[], object]) -> None:
        self.awaited, self.wake = awaited, wake
        self.error: WouldDeadlock | None = None

    def is_refused(self) -> bool:
        """Whether to wait no longer."""
        return self.error is not None


_lock = threading.Lock()  # taken before the lock of a pool or future, never after
_waiting: dict[Thread, Wait] = {}  # guarded by _lock


@contextmanager
def waiting(thread: Thread, awaited: Awaited, *, wake: Callable[[], object]) -> Iterator[Wait]:
    """Note that the calling ``thread`` waits in the block. Raises ``WouldDeadlock`` at its end if that was refused.

    It may be from the beginning: the block looks at ``is_refused()`` before it waits, unless ``wake`` acts for good.
    """
    wait = Wait(awaited, wake)
    with _lock:
        _waiting[thread] = wait
        refused = _refuse_for(thread)
    for other, its_wait in refused:
        its_wait.error = _error(other, its_wait.awaited)
        its_wait.wake()
    try:
        yield wait
    finally:
        with _lock:
            _waiting.pop(thread, None)
    error, wait.error = wait.error, None
    if error is not None:
        try:
            raise error
        finally:
            del error  # or it would hold itself, through this frame


def _error(thread: Thread, awaited: Awaited) -> WouldDeadlock:
    return WouldDeadlock(
        f"{thread.describe()} would wait for ever for {awaited.describe_wait()}. Do not wait in a call for other calls "
        "of its pool, and not in what it waits for: return their futures, or use parallel() or a TaskGroup, which run "
        "nested calls in the thread that waits; or give the pool more max_workers than calls that wait."
    )


def _refuse_for(thread: Thread) -> list[tuple[Thread, Wait]]:
    """Take away waits until ``thread`` can go on, or does not wait. Called under the lock."""
    refused = []
    while thread in _blocked():
        other = _to_refuse(thread)
        refused.append((other, _waiting.pop(other)))
    return refused


def _to_refuse(thread: Thread) -> Thread:
    """Return the blocked thread that is to learn of it, of those that ``thread`` waits for. Called under the lock.

    A row of scopes and their calls that have begun ends, for a call begins after its scope; unless a task calls the
    ``__exit__()`` of its own group.
    """
    for _ in range(len(_waiting)):
        runner = _waiting[thread].awaited.runner()
        if runner is None:
            break
        thread = runner
    return thread


def _blocked() -> AbstractSet[Thread]:
    """Return the threads that can never go on. Called under the lock."""
    blocked = set(_waiting)
    while going_on := {thread for thread in blocked if _waiting[thread].awaited.can_come(blocked)}:
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
